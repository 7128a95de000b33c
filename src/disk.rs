//! Room on disks: whether what is about to be written fits, asked before it is written. Nobody is kept from filling the
//! disk afterwards; then the write itself fails.

use std::path::{Path, PathBuf};

use tracing::debug;

use crate::report::Bytes;

/// There is not enough room.
#[derive(Debug, thiserror::Error)]
#[error("{what} needs {}, but {} has only {} free; make room, or give it more disk", Bytes(*.needed), path.display(), Bytes(*.free))]
pub struct NoRoom {
    what: &'static str,
    path: PathBuf,
    needed: u64,
    free: u64,
}

/// Whether `needed` bytes fit at `path`. A file system that does not tell is taken to have room.
pub fn room_for(what: &'static str, path: &Path, needed: u64) -> Result<(), NoRoom> {
    let Ok(system) = rustix::fs::statvfs(path) else { return Ok(()) };
    // What users without privileges may take: the rest is reserved.
    let free = system.f_bavail.saturating_mul(system.f_frsize);
    debug!("{what} needs {}, {} has {} free", Bytes(needed), path.display(), Bytes(free));
    if free < needed {
        return Err(NoRoom { what, path: path.to_owned(), needed, free });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_much_is_told_with_the_place_and_both_numbers() {
        let folder = tempfile::tempdir().unwrap();
        room_for("a byte", folder.path(), 1).unwrap();
        let error = room_for("the image", folder.path(), 1 << 62).unwrap_err().to_string();
        assert!(error.starts_with("the image needs 4.00 EiB, but "), "{error}");
        assert!(error.contains(&folder.path().display().to_string()), "{error}");
        room_for("anything", Path::new("/nonexistent"), 1 << 62).unwrap();
    }
}
