//! A context in a file: as the `.tar.gz` that a decision task uploads and that `run` accepts, or in the form for an engine.

use std::collections::BTreeMap;
use std::io::BufWriter;
use std::path::Path;

use tempfile::NamedTempFile;

use super::CommandError;
use super::fetch::Fetched;
use super::work_dir::AtomicFile;
use crate::context::checkout::Checkout;
use crate::context::collect::Context;
use crate::context::{ContextHash, HashScheme};
use crate::image::disk::ensure_space;

/// Written to disk at this size, so that system calls do not count.
const WRITE_BUFFER: usize = 256 * 1024;

/// Writes a context to `out` atomically. Returns its hash.
pub(crate) fn write(context: &Context, out: &Path) -> Result<ContextHash, CommandError> {
    write_to(context, out, AtomicFile::of(out))
}

/// The same, where the file has been started.
pub(crate) fn write_to(
    context: &Context,
    out: &Path,
    draft: std::io::Result<AtomicFile>,
) -> Result<ContextHash, CommandError> {
    let unwritable = |source| CommandError::Write { path: out.to_owned(), source };
    let draft = draft.map_err(unwritable)?;
    let hash = context.write_tar_gz(BufWriter::new(draft.file()))?;
    draft.finish().map_err(unwritable)?;
    Ok(hash)
}

/// An empty file for [`spool`]. It is made before `spool`'s thread begins: where a run is stopped the thread goes on for a while, and
/// must make nothing in a directory that is being removed.
pub(super) fn file_in(work_dir: &Path) -> Result<NamedTempFile, CommandError> {
    NamedTempFile::new_in(work_dir).map_err(|source| CommandError::Write { path: work_dir.to_owned(), source })
}

/// Writes the context of an image directory into `file`.
pub(super) fn spool(
    checkout: &Checkout,
    directory: &Path,
    args: &BTreeMap<String, String>,
    scheme: HashScheme,
    file: NamedTempFile,
) -> Result<Fetched, CommandError> {
    let context = Context::collect(checkout, directory, args, scheme)?;
    context.warn_of_untracked();
    let bytes = context.size();
    ensure_space("the context", file.path().parent().unwrap_or(Path::new(".")), bytes)?;
    let hash = context.write_tar(BufWriter::with_capacity(WRITE_BUFFER, &file))?;
    Ok(Fetched { file, hash, scheme: scheme.into(), bytes })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_thread_that_goes_on_makes_nothing_in_a_removed_directory() {
        let root = tempfile::tempdir().unwrap();
        let (image, work_dir) = (root.path().join("image"), root.path().join("work"));
        fs::create_dir(&image).unwrap();
        fs::create_dir(&work_dir).unwrap();
        fs::write(image.join("Dockerfile"), "FROM scratch\n").unwrap();
        let file = file_in(&work_dir).unwrap();
        fs::remove_dir_all(&work_dir).unwrap();
        let checkout = Checkout::default();
        let fetched = spool(&checkout, &image, &BTreeMap::new(), HashScheme::Tar, file).unwrap();
        assert!(fetched.bytes > 0 && !work_dir.exists());
    }
}
