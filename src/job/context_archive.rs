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
    let unwritable = |source| CommandError::Write { path: out.to_owned(), source };
    let draft = AtomicFile::of(out).map_err(unwritable)?;
    let hash = context.write_tar_gz(BufWriter::new(draft.file()))?;
    draft.finish().map_err(unwritable)?;
    Ok(hash)
}

/// Writes the context of an image directory into an unnamed file in `directory`.
pub(super) fn spool(
    checkout: &Checkout,
    directory: &Path,
    args: &BTreeMap<String, String>,
    scheme: HashScheme,
    work_dir: &Path,
) -> Result<Fetched, CommandError> {
    let context = Context::collect(checkout, directory, args, scheme)?;
    context.warn_of_untracked();
    let bytes = context.size();
    ensure_space("the context", work_dir, bytes)?;
    let unwritable = |source| CommandError::Write { path: work_dir.to_owned(), source };
    let file = NamedTempFile::new_in(work_dir).map_err(unwritable)?;
    let hash = context.write_tar(BufWriter::with_capacity(WRITE_BUFFER, &file))?;
    Ok(Fetched { file, hash, scheme: scheme.into(), bytes })
}
