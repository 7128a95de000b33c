//! The files of the tree, as the rules read them: all but what git ignores. It reads the disk and not git, because a
//! release's archive is a tree too.

use std::path::{Path, PathBuf};

/// The repository's root.
pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// All files, sorted, by their paths from the root.
pub(super) fn files() -> Vec<String> {
    // Every line of .gitignore is `/NAME`, which is all that this understands.
    let ignored: Vec<_> = text(".gitignore").unwrap().lines().map(str::to_owned).collect();
    assert!(
        ignored.iter().all(|line| line.starts_with('/')),
        ".gitignore has a line that is not /NAME: fix this reader"
    );
    let mut files = Vec::new();
    let mut directories = vec![String::new()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(root().join(&directory)).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{directory}{}", entry.file_name().to_string_lossy());
            if path == ".git" || ignored.contains(&format!("/{path}")) || path.ends_with("__pycache__") {
                continue;
            }
            if entry.file_type().unwrap().is_dir() { directories.push(format!("{path}/")) } else { files.push(path) }
        }
    }
    files.sort();
    files
}

/// A file's text; none where it is no text.
pub(super) fn text(path: &str) -> Option<String> {
    String::from_utf8(std::fs::read(root().join(path)).ok()?).ok()
}

/// Whether a file's name ends in `.` and `extension`.
pub(super) fn is(extension: &str, path: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == extension)
}
