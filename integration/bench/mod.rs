//! The benchmark: groups of rows, each measured on real engines with the stand-in on loopback. `scripts/bench` runs them in
//! full size and lets them write docs/benchmarks.md; every test run does each in a small size, and asserts no time.

mod cache;
mod contexts;
mod data;
mod decide;
mod document;
mod job;
mod loading;
mod measure;
mod partial;
mod place;
mod scale;
mod table;
mod tail;
mod taskgraph;

use std::panic::catch_unwind;

use crate::conformance::builder::engines;
use crate::harness::{installed, is_on};
use scale::{FULL, SMALL, Scale};
use table::Section;

/// Rows that are measured together.
struct Group {
    /// What scripts/bench calls it.
    key: &'static str,
    title: &'static str,
    measure: fn(&Scale) -> Section,
}

/// In the document's order.
const GROUPS: [Group; 13] = [
    Group { key: "job", title: "Whole jobs beside the floor", measure: job::whole },
    Group { key: "tail", title: "The tail: from the built image to its archive", measure: tail::plain },
    Group { key: "containerd", title: "The tail with the containerd image store", measure: tail::containerd },
    Group { key: "podman-5", title: "The tail with Podman 5", measure: tail::podman_5 },
    Group { key: "cache", title: "The layer cache", measure: cache::section },
    Group { key: "packed", title: "A compressed archive beside image_builder's tail", measure: tail::packed },
    Group { key: "2015", title: "Beside the shell job of 2015", measure: job::shell },
    Group { key: "contexts", title: "Contexts: hash, pack, take in", measure: contexts::section },
    Group { key: "taskgraph", title: "Beside taskgraph", measure: taskgraph::section },
    Group { key: "load", title: "`load` beside `docker load`", measure: loading::section },
    Group { key: "partial", title: "`load` of a new version", measure: partial::section },
    Group { key: "decide", title: "`decide` as the graph grows", measure: decide::section },
    Group { key: "start", title: "The start, and the binary", measure: decide::start },
];

/// The arguments of scripts/bench: keys of groups, or nothing for all; and `--write`.
const ARGUMENTS: &str = "IMAGE_WORKER_BENCH";

#[test]
#[ignore = "scripts/bench runs it: half an hour, on a machine that does nothing else"]
fn full() {
    let debug = cfg!(debug_assertions);
    assert!(!debug, "figures are those of the release build: run scripts/bench");
    let arguments = std::env::var(ARGUMENTS).unwrap_or_default();
    let (flags, keys): (Vec<_>, Vec<_>) = arguments.split_whitespace().partition(|word| word.starts_with('-'));
    let known = |key: &&str| GROUPS.iter().any(|group| group.key == *key);
    let known_keys = GROUPS.map(|group| group.key).join(" ");
    assert!(
        keys.iter().all(known) && flags.iter().all(|flag| *flag == "--write"),
        "there are --write and {known_keys}"
    );
    assert!(engines(), "both engines are needed");

    let (mut measured, mut failed) = (Vec::new(), Vec::new());
    for group in GROUPS.iter().filter(|group| keys.is_empty() || keys.contains(&group.key)) {
        eprintln!("bench: == {}", group.title);
        // What was measured before is not lost with a group that fails; why it fails is printed.
        let measuring = catch_unwind(|| {
            let section = (group.measure)(&FULL);
            section.tables.iter().for_each(table::Table::assert_sane);
            section
        });
        let Ok(section) = measuring else {
            failed.push(group.key);
            continue;
        };
        let text = document::section(group.key, group.title, &section);
        println!("{text}");
        measured.push((group.key, text));
    }
    if keys.is_empty() || flags.contains(&"--write") {
        document::write(&measured);
    }
    assert!(
        failed.is_empty(),
        "these failed, and are as they were in the document: scripts/bench --write {}",
        failed.join(" ")
    );
}

/// Measures a group in its small size: every row is there, and no number is impossible.
fn smoke(key: &str, programs: &[&str]) {
    if !engines() || !programs.iter().all(|program| installed(program)) {
        return;
    }
    let group = GROUPS.iter().find(|group| group.key == key).expect("a group");
    let section = (group.measure)(&SMALL);
    assert!(!section.tables.is_empty());
    section.tables.iter().for_each(table::Table::assert_sane);
    let text = document::section(group.key, group.title, &section);
    eprintln!("{text}");
}

#[test]
fn job_in_small() {
    smoke("job", &["curl", "time"]);
}

#[test]
fn tail_in_small() {
    smoke("tail", &["curl", "time"]);
}

#[test]
fn containerd_in_small() {
    if is_on("docker-28-containerd") {
        smoke("containerd", &["curl", "time"]);
    }
}

#[test]
fn podman_5_in_small() {
    if is_on("podman-5") {
        smoke("podman-5", &["curl", "time"]);
    }
}

#[test]
fn partial_in_small() {
    if is_on("docker-28-containerd") {
        smoke("partial", &["curl", "time"]);
    }
}

#[test]
fn cache_in_small() {
    smoke("cache", &["curl", "time"]);
}

#[test]
fn packed_in_small() {
    smoke("packed", &["curl", "time", "skopeo", "zstd"]);
}

#[test]
fn shell_2015_in_small() {
    smoke("2015", &["curl", "time"]);
}

#[test]
fn contexts_in_small() {
    smoke("contexts", &["time", "openssl"]);
}

#[test]
#[ignore = "scripts/taskgraph-images runs it: the real taskgraph is needed"]
fn taskgraph_in_small() {
    smoke("taskgraph", &["curl", "time", "zstd"]);
}

#[test]
fn load_in_small() {
    smoke("load", &["curl", "time"]);
}

#[test]
fn decide_in_small() {
    smoke("decide", &["time", "jq", "python3"]);
}

#[test]
fn start_in_small() {
    smoke("start", &[]);
}
