//! The fault matrix: every call of the job × faults, kill points, a full disk. Whatever happens, the index
//! never points at an image that is not there or is another; docs/reliability.md is written from what happens here.

mod disk;
mod dockerd;
mod document;
mod endless;
mod engine;
mod forged;
mod kill;
mod leftovers;
pub(crate) mod log_lines;
mod places;
mod play;
mod registry;
mod table;
mod whose;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::engine;
use places::Case;
use play::Played;

/// Cases that run at the same time. Most of a case is waiting: for the engine, and between attempts.
const AT_ONCE: usize = 6;

/// Does `work` for each of `items`, several at a time. Every failure is reported, not just the first.
pub(crate) fn each<T: Sync, R: Send>(
    items: &[T],
    name: impl Fn(&T) -> String + Sync,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|threads| {
        for _ in 0..AT_ONCE.min(items.len()) {
            threads.spawn(|| {
                while let Some((number, item)) = {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    items.get(number).map(|item| (number, item))
                } {
                    let result = catch_unwind(AssertUnwindSafe(|| work(item))).map_err(|_| name(item));
                    done.lock().unwrap().push((number, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(number, _)| *number);
    let (good, bad): (Vec<_>, Vec<_>) = done.into_iter().map(|(_, result)| result).partition(Result::is_ok);
    let bad: Vec<_> = bad.into_iter().filter_map(Result::err).collect();
    assert!(bad.is_empty(), "{} of {} cases failed:\n  {}", bad.len(), items.len(), bad.join("\n  "));
    good.into_iter().filter_map(Result::ok).collect()
}

/// Whether a case is wanted: `MATRIX_ONLY` in the environment is a part of the names of those that are.
fn wanted(name: &str) -> bool {
    std::env::var("MATRIX_ONLY").map_or(true, |part| name.contains(&part))
}

#[test]
fn every_call_with_every_fault() {
    if !engine() {
        return;
    }
    let cases: Vec<Case> = table::cases().into_iter().filter(|case| wanted(&case.name())).collect();
    let played = each(&cases, Case::name, play::play);
    let mut lines = vec![Played::HEADING.to_owned()];
    lines.extend(cases.iter().zip(&played).map(|(case, played)| played.row(case)));
    document::section("calls", cases.len(), &lines);
}

#[test]
fn killed_at_every_stage_and_started_again() {
    if !engine() {
        return;
    }
    let kills: Vec<_> = kill::kills().into_iter().filter(|kill| wanted(&kill.name())).collect();
    let mut lines = vec![kill::HEADING.to_owned()];
    lines.extend(each(&kills, kill::Kill::name, kill::play));
    document::section("kills", kills.len(), &lines);
}
