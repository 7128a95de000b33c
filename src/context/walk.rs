//! Lists the files below a directory like Python's `os.walk`: it does not enter links to directories, and every
//! other entry is a file. The module `collect` checks the files.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

/// A file that was found.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WalkedFile {
    /// Its path relative to the directory, as bytes: names need not be UTF-8.
    pub(super) name: Vec<u8>,
    /// Its path.
    pub(super) source: PathBuf,
}

/// A directory that cannot be read, and why. `os.walk` silently omits it, which would give a hash of other files than the
/// build needs.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) path: PathBuf,
    pub(super) error: io::Error,
}

/// The files below `top`, in no particular order, without those in directories named `skip`.
pub(super) fn files_below(top: &Path, skip: Option<&OsStr>) -> Result<Vec<WalkedFile>, Unreadable> {
    let mut found = Vec::new();
    let mut pending = vec![(Vec::new(), top.to_owned())];
    while let Some((prefix, directory)) = pending.pop() {
        let in_directory = |error| Unreadable { path: directory.clone(), error };
        for entry in fs::read_dir(&directory).map_err(in_directory)? {
            let entry = entry.map_err(in_directory)?;
            let (file_name, source) = (entry.file_name(), entry.path());
            let name = [prefix.as_slice(), file_name.as_bytes()].concat();
            let kind = entry.file_type().map_err(|error| Unreadable { path: source.clone(), error })?;
            if kind.is_dir() {
                if skip != Some(file_name.as_os_str()) {
                    pending.push(([name.as_slice(), b"/"].concat(), source));
                }
            } else if !(kind.is_symlink() && source.is_dir()) {
                found.push(WalkedFile { name, source });
            }
        }
    }
    Ok(found)
}

/// An absolute path without `.` and `..`, computed from the text: `os.path.normpath`.
pub(super) fn normalise(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_entry_that_is_no_directory_is_a_file() {
        let top = tempfile::tempdir().unwrap();
        let at = |name: &[u8]| top.path().join(OsStr::from_bytes(name));
        fs::create_dir_all(at(b"a/b")).unwrap();
        fs::create_dir(at(b"a/skipped")).unwrap();
        for name in [&b"f"[..], b"a/b/\xff", b"a/skipped/x", b"a/f"] {
            fs::write(at(name), "").unwrap();
        }
        symlink("a", at(b"to-directory")).unwrap();
        symlink("f", at(b"to-file")).unwrap();
        symlink("nowhere", at(b"dangling")).unwrap();
        symlink("f", at(b"a/b/skipped")).unwrap();

        let names = |skip: Option<&OsStr>| {
            let mut names: Vec<_> = files_below(top.path(), skip).unwrap().into_iter().map(|f| f.name).collect();
            names.sort();
            names
        };
        let with: [&[u8]; 6] = [b"a/b/skipped", b"a/b/\xff", b"a/f", b"dangling", b"f", b"to-file"];
        assert_eq!(names(Some(OsStr::new("skipped"))), with);
        assert_eq!(names(None).len(), 7);
        let Unreadable { path, error } = files_below(&at(b"none"), None).unwrap_err();
        assert_eq!((path, error.kind()), (at(b"none"), io::ErrorKind::NotFound));
    }
}
