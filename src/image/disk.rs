//! Disk space: checks that there is enough before a write, and releases space that is no longer needed. Other processes can
//! still fill the disk afterwards; then the write itself fails.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use tracing::debug;

use crate::report::{Bytes, Hint};

/// There is not enough disk space.
#[derive(Debug, thiserror::Error)]
#[error(
        "{what} needs {}, but {} has only {} free{}",
        Bytes(*.needed),
        path.display(),
        Bytes(*.free),
        Hint("make room, or give it more disk")
    )]
pub struct InsufficientSpace {
    what: &'static str,
    path: PathBuf,
    needed: u64,
    free: u64,
}

/// Checks that `needed` bytes fit at `path`. If the file system does not report its free space, it assumes enough.
pub fn ensure_space(what: &'static str, path: &Path, needed: u64) -> Result<(), InsufficientSpace> {
    let Some(free) = free_space(path) else { return Ok(()) };
    debug!("{what} needs {}, {} has {} free", Bytes(needed), path.display(), Bytes(free));
    if free < needed {
        return Err(InsufficientSpace { what, path: path.to_owned(), needed, free });
    }
    Ok(())
}

/// The free bytes of the file system at `path`, if it reports them: those that unprivileged users can use, as the rest is reserved.
#[must_use]
pub fn free_space(path: &Path) -> Option<u64> {
    let system = rustix::fs::statvfs(path).ok()?;
    Some(system.f_bavail.saturating_mul(system.f_frsize))
}

/// Releases the disk space of a range of a file, which reads as zeros afterwards. Returns whether this worked: not every file
/// system supports holes.
#[cfg(target_os = "linux")]
#[must_use]
pub fn punch_hole(file: &File, range: Range<u64>) -> bool {
    let hole = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(file, hole, range.start, range.end.saturating_sub(range.start)).is_ok()
}

/// Releases nothing: holes are made in another way on each system, and only save room while an archive is copied.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn punch_hole(_file: &File, _range: Range<u64>) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn too_much_is_told_with_the_place_and_both_numbers() {
        let directory = tempfile::tempdir().unwrap();
        ensure_space("a byte", directory.path(), 1).unwrap();
        let error = ensure_space("the image", directory.path(), 1 << 62).unwrap_err().to_string();
        assert!(error.starts_with("the image needs 4.00 EiB, but "), "{error}");
        assert!(error.contains(&directory.path().display().to_string()), "{error}");
        ensure_space("anything", Path::new("/nonexistent"), 1 << 62).unwrap();
    }

    #[test]
    fn what_is_given_back_takes_no_room() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![1; 1 << 20]).unwrap();
        let blocks = || file.metadata().unwrap().blocks();
        let before = blocks();
        if punch_hole(&file, 0..1 << 19) {
            assert!(blocks() < before, "{before} blocks, and still {}", blocks());
        }
        assert_eq!(file.metadata().unwrap().len(), 1 << 20);
    }
}
