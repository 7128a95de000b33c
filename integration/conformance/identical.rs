//! The same bytes on another day: the cases whose steps leave times in an image, built with `--reproducible`.
//! `scripts/identical` runs this here and in a machine with another clock, and compares the archives.

use std::path::PathBuf;

use super::builder::{self, BUILDERS, name};
use super::case::{Case, MTIME};
use crate::faults::each;
use crate::harness::Builder;

/// Steps that write, delete, link, and give away files; files that come with times of their own; many layers.
const CASES: [&str; 25] = [
    "add-tar",
    "add-tar-special",
    "arg-in-run",
    "copy-chown-names",
    "copy-from-keeps",
    "copy-over-symlink",
    "copy-places",
    "layers-many",
    "run-deletes",
    "run-deletes-all",
    "run-forms",
    "run-hard-links",
    "run-modes",
    "run-names",
    "run-nothing",
    "run-renames",
    "run-replaces",
    "run-shell",
    "run-sparse",
    "run-special",
    "run-user",
    "text-continued",
    "volume-changes",
    "workdir-symlink",
    "workdir-user",
];

#[test]
#[ignore = "scripts/identical runs it, twice"]
fn reproducible_archives() {
    let directory = PathBuf::from(std::env::var_os("IDENTICAL_OUT").expect("run scripts/identical"));
    assert!(builder::engines(), "run scripts/engine and scripts/engine podman");
    let chosen = || Case::all().into_iter().filter(|case| CASES.contains(&case.name.as_str())).collect();
    let cases: Vec<Case> = chosen();
    assert_eq!(cases.len(), CASES.len(), "a case has another name");
    // As contexts are that a decision task packs: BuildKit gives the same contents the times that it has had first.
    let mut of_one_time: Vec<Case> = chosen();
    for case in &mut of_one_time {
        case.set_time(MTIME);
    }
    // One builder's, where machines share the work.
    let only = std::env::var("IDENTICAL_ONLY").ok();
    let builders =
        BUILDERS.into_iter().filter(|builder| only.as_ref().is_none_or(|only| name(*builder).contains(only.as_str())));
    let of = |builder| if builder == Builder::Podman { &cases } else { &of_one_time };
    let jobs: Vec<_> = builders.flat_map(|builder| of(builder).iter().map(move |case| (case, builder))).collect();
    // A machine without networks of its own has this one.
    let more = [("IMAGE_WORKER_REPRODUCIBLE", "1"), ("DOCKER_BUILD_NETWORK", "none")];
    let title = |(case, builder): &(&Case, _)| format!("{} with {}", case.name, name(*builder));
    each(&jobs, title, |(case, builder)| {
        let (finished, archive) = builder::run(case, *builder, &more);
        let archive = archive.unwrap_or_else(|| panic!("{}", finished.stderr));
        std::fs::write(directory.join(format!("{} {}.tar", name(*builder), case.name)), archive).unwrap();
    });
    // For the other machine, which has no compiler.
    std::fs::write(directory.join("program"), std::env::current_exe().unwrap().to_str().unwrap()).unwrap();
}
