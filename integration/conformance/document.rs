//! docs/conformance.md: its tables are what the test found. With `IMAGE_WORKER_WRITE_DOCS=1` they are written, else
//! compared; the words around them are written by hand.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use super::builder::name;
use super::case::Case;
use super::differences::{DIFFERENCES, Deviation};
use crate::harness::Builder;

/// Writes, or compares, the two tables.
pub(super) fn check(cases: &[Case], found: &[(usize, Deviation)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/conformance.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let written = section(&section(&text, "differences", &differences(found)), "cases", &contexts(cases, found));
    if std::env::var_os("IMAGE_WORKER_WRITE_DOCS").is_some() {
        std::fs::write(&path, written).unwrap();
        return;
    }
    let lacks = |one: &str, other: &str| {
        let known: BTreeSet<_> = other.lines().collect();
        one.lines().filter(|line| !known.contains(line)).collect::<Vec<_>>().join("\n")
    };
    assert!(
        text == written,
        "docs/conformance.md differs from what happens; if this is as it should be, run the test with \
         IMAGE_WORKER_WRITE_DOCS=1.\nIt has:\n{}\nbut:\n{}",
        lacks(&text, &written),
        lacks(&written, &text)
    );
}

/// The text with something else between `<!-- NAME -->` and `<!-- end -->`.
fn section(text: &str, name: &str, content: &str) -> String {
    let begin = format!("<!-- {name} -->\n");
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("docs/conformance.md has no {begin}"));
    let (_, after) = rest.split_once("<!-- end -->").expect("an end");
    format!("{before}{begin}\n{content}\n<!-- end -->{after}")
}

fn differences(found: &[(usize, Deviation)]) -> String {
    let mut text = String::new();
    for (number, known) in DIFFERENCES.iter().enumerate() {
        let those: Vec<_> = found.iter().filter(|(of, _)| *of == number).map(|(_, found)| found).collect();
        let mut builders: Vec<_> = those.iter().map(|found| name(found.builder)).collect();
        builders.dedup();
        builders.sort_unstable();
        builders.dedup();
        let _ = writeln!(text, "**{}: {}** {}\n", builders.join(", "), known.what, known.why);
        if known.everywhere {
            let names = |those: BTreeSet<&str>| those.into_iter().map(code).collect::<Vec<_>>().join(", ");
            let subjects = names(those.iter().map(|found| found.subject.as_str()).collect());
            let cases: BTreeSet<_> = those.iter().map(|found| found.case.as_str()).collect();
            let _ = writeln!(text, "{subjects} in {} cases: {}\n", cases.len(), names(cases));
            continue;
        }
        let _ = writeln!(text, "| case | builder | what | there | Docker classic |\n| --- | --- | --- | --- | --- |");
        for Deviation { case, builder, subject, classic, other } in those {
            let value = |value: &Option<String>| value.as_deref().map_or_else(|| "–".to_owned(), code);
            let (there, here) = (value(other), value(classic));
            let _ = writeln!(text, "| {} | {} | {} | {there} | {here} |", code(case), name(*builder), code(subject));
        }
        text.push('\n');
    }
    text
}

fn contexts(cases: &[Case], found: &[(usize, Deviation)]) -> String {
    let mut text = format!("{} cases.\n\n| case | what it is about | comes out |\n| --- | --- | --- |\n", cases.len());
    for case in cases {
        let differs = |builder: Builder| {
            let those = found.iter().filter(|(of, found)| !DIFFERENCES[*of].everywhere && found.case == case.name);
            those.filter(|(_, found)| found.builder == builder).count() > 0
        };
        let others: Vec<_> = [Builder::BuildKit, Builder::Podman].into_iter().filter(|it| differs(*it)).collect();
        let fails = format!("fails, exit code {}", case.exit_code);
        let mut end = if case.fails { fails } else { "the same".to_owned() };
        if !others.is_empty() {
            let others: Vec<_> = others.into_iter().map(name).collect();
            let _ = write!(end, "; listed: {}", others.join(", "));
        }
        let _ = writeln!(text, "| {} | {} | {end} |", code(&case.name), case.about.replace('|', "\\|"));
    }
    text
}

/// As code in a table.
fn code(text: &str) -> String {
    let fence = if text.contains('`') { "``" } else { "`" };
    format!("{fence}{}{fence}", text.replace('|', "\\|"))
}
