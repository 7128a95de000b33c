//! docs/benchmarks.md, which is made of what was measured and of nothing else: the machine, a section for each group of rows,
//! and under it the note about its misses, from notes.md. What is measured is the groups' own.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::GROUPS;
use super::measure::run;
use super::place::Engine;
use super::table::Section;
use crate::harness::Builder;

const NOTES: &str = include_str!("notes.md");

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/benchmarks.md")
}

/// The text of one group.
pub(super) fn section(key: &str, title: &str, measured: &Section) -> String {
    let mut text = format!("## {title}\n\n`scripts/bench {key}`, {}. {}\n", moment(), measured.words);
    for table in &measured.tables {
        let _ = write!(text, "\n{}", table.markdown());
    }
    if let Some(note) = note(key) {
        let _ = write!(text, "\n{note}\n");
    }
    text
}

/// The note about a group's figures.
fn note(key: &str) -> Option<&'static str> {
    let (_, rest) = NOTES.split_once(&format!("\n## {key}\n"))?;
    let note = rest.split("\n## ").next().unwrap_or(rest).trim();
    (!note.is_empty()).then_some(note)
}

/// Writes the document: sections that were measured now, the others as they were.
pub(super) fn write(measured: &[(&str, String)]) {
    let before = std::fs::read_to_string(file()).unwrap_or_default();
    let mut text = head();
    for group in GROUPS {
        let now = measured.iter().find(|(key, _)| *key == group.key).map(|(_, text)| text.clone());
        if let Some(section) = now.or_else(|| earlier(&before, group.title)) {
            let _ = write!(text, "\n{}\n", section.trim_end());
        }
    }
    std::fs::write(file(), text).unwrap();
}

/// A section as it was.
fn earlier(before: &str, title: &str) -> Option<String> {
    let start = format!("## {title}\n");
    let (_, rest) = before.split_once(&format!("\n{start}"))?;
    Some(format!("{start}{}", rest.split("\n## ").next().unwrap_or(rest)))
}

/// When, and of what.
fn moment() -> String {
    let commit =
        run("git rev-parse --short=10 HEAD; [[ -z $(git status --porcelain -- src Cargo.lock) ]] || echo changed", &[]);
    let commit = commit.split_whitespace().collect::<Vec<_>>().join(", ");
    format!("{} at {commit}", jiff::Timestamp::now().strftime("%Y-%m-%d"))
}

fn head() -> String {
    let keys: Vec<_> = GROUPS.iter().map(|group| format!("`{}`", group.key)).collect();
    format!(
        "# Benchmarks\n\n\
         Written by `scripts/bench`; do not edit. Ratios of pairs that were measured in turns in one run, `sync` before each: the \
         median of the rounds' ratios, the least and the most. Seconds are medians, and say less. The targets are the project's; \
         what is missed is explained under its table. Services are the tests' stand-in for Taskcluster and its storage, on \
         loopback.\n\n\
         `scripts/bench` measures everything and writes this page, in about half an hour; it needs Docker, Podman and \
         some 12 GB of disk, and a machine that does nothing else. `scripts/bench ROW…` measures some groups ({}) and only prints \
         them; with `--write` it also replaces their sections here.\n\n{}",
        keys.join(", "),
        machine()
    )
}

/// The machine, by its own data.
fn machine() -> String {
    let first = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or(line, |(_, value)| value).trim().to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let sha = if first("/proc/cpuinfo", "flags").contains("sha_ni") { "with" } else { "without" };
    let kib: u64 = first("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or_default();
    let version = |builder: Builder| {
        let version: serde_json::Value = serde_json::from_str(&Engine::of(builder).get("/version")).unwrap_or_default();
        version["Version"].as_str().unwrap_or("?").to_owned()
    };
    let tools = run("skopeo --version; zstd --version | grep -o 'v[0-9.]*'; openssl version | cut -d ' ' -f 2", &[]);
    let tools: Vec<_> = tools.lines().collect();
    format!(
        "| the machine | |\n| --- | --- |\n| processor | {cores} cores, {}, {sha} SHA instructions |\n| memory | {} GiB |\n\
         | system | Linux {}, Debian {} |\n| engines | Docker {}, Podman {} |\n| tools | {}, zstd {}, OpenSSL {} |\n",
        first("/proc/cpuinfo", "model name"),
        kib.div_ceil(1 << 20),
        first("/proc/sys/kernel/osrelease", ""),
        first("/etc/debian_version", ""),
        version(Builder::Docker),
        version(Builder::Podman),
        tools.first().unwrap_or(&"?"),
        tools.get(1).unwrap_or(&"?"),
        tools.get(2).unwrap_or(&"?"),
    )
}

#[test]
fn a_section_is_found_again() {
    let text = "# Benchmarks\n\nwords\n\n## One\n\n1\n\n## Two\n\n2\n";
    assert_eq!(earlier(text, "One").as_deref(), Some("## One\n\n1\n"));
    assert_eq!(earlier(text, "Two").as_deref(), Some("## Two\n\n2\n"));
    assert_eq!(earlier(text, "Three"), None);
}

#[test]
fn every_note_belongs_to_a_group() {
    let keys = NOTES.lines().filter_map(|line| line.strip_prefix("## "));
    for key in keys {
        assert!(GROUPS.iter().any(|group| group.key == key), "notes.md: no group has the key {key}");
        assert!(note(key).is_some(), "notes.md: nothing is under {key}");
    }
}
