//! `context PATH -o FILE`: writes the context of an image directory as the deterministic `.tar.gz` that a decision
//! task uploads, and that `run` accepts.

use std::collections::BTreeMap;
use std::io::BufWriter;
use std::path::Path;

use tempfile::NamedTempFile;

use super::Failed;
use crate::context::collect::Context;
use crate::names::{ContextHash, HashScheme};

/// Writes the context of the image directory `path` in the repository `root` to `out`, which appears when it is
/// complete. Gives its hash.
pub fn context(
    root: &Path,
    path: &Path,
    scheme: HashScheme,
    args: &BTreeMap<String, String>,
    out: &Path,
) -> Result<ContextHash, Failed> {
    let context = Context::collect(root, path, args, scheme)?;
    let unwritable = |source| Failed::Write { path: out.to_owned(), source };
    let folder = match out.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    // A shared artifact is for everybody to read; a temporary file would be for its owner only.
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    let file = tempfile::Builder::new().permissions(readable).tempfile_in(folder).map_err(unwritable)?;
    let hash = context.write_tar_gz(BufWriter::new(&file))?;
    NamedTempFile::persist(file, out).map_err(|error| unwritable(error.error))?;
    Ok(hash)
}
