//! Dockerfiles through the program on every builder: the same file system and the same configuration come out, or the
//! difference is in a table with its reason. docs/conformance.md is written from what happens here.

pub(crate) mod builder;
mod case;
mod differences;
mod document;
mod identical;
mod image;

use std::collections::BTreeSet;

use crate::faults::each;
use crate::harness::Builder;

use builder::{BUILDERS, name};
use case::Case;
use differences::{DIFFERENCES, Deviation};
use image::Listing;

/// A part of the names of the cases that are wanted, while one works on them; the document is left alone then.
const ONLY: &str = "CONFORMANCE_ONLY";

#[test]
fn builders_agree_or_the_difference_is_listed() {
    if !builder::engines() {
        return;
    }
    let only = std::env::var(ONLY).ok();
    let mut cases = Case::all();
    cases.retain(|case| only.as_ref().is_none_or(|part| case.name.contains(part)));
    let jobs: Vec<_> = BUILDERS.into_iter().flat_map(|builder| cases.iter().map(move |case| (case, builder))).collect();
    let title = |(case, builder): &(&Case, Builder)| format!("{} with {}", case.name, name(*builder));
    let built = each(&jobs, title, |(case, builder)| builder::build(case, *builder));
    let of = |case: &Case, builder: Builder| {
        let at = jobs.iter().position(|(other, by)| other.name == case.name && *by == builder);
        &built[at.expect("every builder builds every case")]
    };

    let mut wrong = Vec::new();
    let mut found = Vec::new();
    for case in &cases {
        let classic = of(case, Builder::Docker);
        wrong.extend(unmet(case, classic));
        for builder in [Builder::BuildKit, Builder::Podman] {
            let other = of(case, builder);
            for difference in different(case, builder, classic, other) {
                match DIFFERENCES.iter().position(|known| known.is_about(&difference)) {
                    Some(known) => found.push((known, difference)),
                    None => wrong.push(difference.to_string()),
                }
            }
        }
    }
    if only.is_none() {
        let still: BTreeSet<_> = found.iter().map(|(known, _)| *known).collect();
        let gone = DIFFERENCES.iter().enumerate().filter(|(known, _)| !still.contains(known));
        wrong.extend(gone.map(|(_, known)| format!("not found any more: {}", known.what)));
    }
    assert!(
        wrong.is_empty(),
        "differences that integration/conformance/differences.rs does not list, or that are gone:\n{}",
        wrong.join("\n")
    );
    if only.is_none() {
        document::check(&cases, &found);
    }
}

/// What a case expects that did not come out with the classic builder.
fn unmet(case: &Case, classic: &Listing) -> Vec<String> {
    let lines: Vec<_> = classic.iter().map(|(subject, value)| format!("{subject} {value}")).collect();
    let is = |expected: &String| match expected.strip_prefix("no ") {
        Some(subject) => !classic.contains_key(subject),
        // A file's content need not be given.
        None => lines.iter().any(|line| line == expected || line.starts_with(&format!("{expected} "))),
    };
    let mut unmet: Vec<_> = case.expected.iter().filter(|expected| !is(expected)).cloned().collect();
    if classic["Exit code"] != case.exit_code.to_string() {
        unmet.push(format!("its end: {}", classic["Exit code"]));
    }
    unmet.iter().map(|expected| format!("{} with {}, not met: {expected}", case.name, name(Builder::Docker))).collect()
}

/// In what two images differ; only in their ends, where one of them is none.
fn different(case: &Case, builder: Builder, classic: &Listing, other: &Listing) -> Vec<Deviation> {
    let end = "Exit code".to_owned();
    let subjects: BTreeSet<_> = match (classic[&end].as_str(), other[&end].as_str()) {
        ("0", "0") => classic.keys().chain(other.keys()).collect(),
        _ => BTreeSet::from([&end]),
    };
    let found = subjects.into_iter().map(|subject| Deviation {
        case: case.name.clone(),
        builder,
        subject: subject.clone(),
        classic: classic.get(subject).cloned(),
        other: other.get(subject).cloned(),
    });
    found.filter(|found| found.classic != found.other).collect()
}
