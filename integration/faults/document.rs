//! The tables of docs/reliability.md, which are what these tests found.

use crate::harness::document;

/// Writes, or compares, a section; of a part of the cases, only prints it.
pub(super) fn section(name: &str, cases: usize, lines: &[String]) {
    if std::env::var_os("MATRIX_ONLY").is_some() {
        eprintln!("{}", lines.join("\n"));
        return;
    }
    document::section("reliability.md", name, &format!("{cases} cases.\n\n{}", lines.join("\n")));
}
