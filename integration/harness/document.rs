//! Pages of docs/ that say what tests found: with `IMAGE_WORKER_WRITE_DOCS=1` their sections are written, else compared. The
//! words around them are written by hand.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Several tests write one file.
static FILE: Mutex<()> = Mutex::new(());

/// Whether the pages are to be written.
pub(crate) fn is_written() -> bool {
    std::env::var_os("IMAGE_WORKER_WRITE_DOCS").is_some()
}

/// Writes, or compares, the section between `<!-- NAME -->` and `<!-- end -->` of a page of docs/.
pub(crate) fn section(page: &str, name: &str, found: &str) {
    let _file = FILE.lock().unwrap_or_else(PoisonError::into_inner);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let text = std::fs::read_to_string(&path).unwrap();
    let begin = format!("<!-- {name} -->\n");
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("docs/{page} has no {begin}"));
    let (committed, after) = rest.split_once("<!-- end -->").expect("an end");
    let found = format!("\n{found}\n\n");
    if is_written() {
        std::fs::write(&path, format!("{before}{begin}{found}<!-- end -->{after}")).unwrap();
        return;
    }
    let old_lines: Vec<_> = committed.lines().collect();
    let new: Vec<_> = found.lines().filter(|line| !old_lines.contains(line)).collect();
    let old: Vec<_> = old_lines.iter().filter(|line| !found.lines().any(|found| found == **line)).copied().collect();
    assert!(
        committed == found,
        "docs/{page} differs from what happens; if this is as it should be, run the test with \
         IMAGE_WORKER_WRITE_DOCS=1.\nIt has:\n{}\nbut:\n{}",
        old.join("\n"),
        new.join("\n")
    );
}
