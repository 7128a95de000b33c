//! `context PATH -o FILE`: writes the context of an image directory as the deterministic `.tar.gz` that a decision
//! task uploads, and that `run` accepts.

use std::collections::BTreeMap;
use std::io::BufWriter;
use std::path::Path;

use super::Failed;
use crate::context::checkout::Checkout;
use crate::context::collect::Context;
use crate::names::{ContextHash, HashScheme};
use crate::scratch::Draft;

/// Writes the context of the image directory `path` in the repository to `out`, which appears when it is
/// complete. Gives its hash.
pub fn context(
    checkout: &Checkout,
    path: &Path,
    scheme: HashScheme,
    args: &BTreeMap<String, String>,
    out: &Path,
) -> Result<ContextHash, Failed> {
    let context = Context::collect(checkout, path, args, scheme)?;
    let unwritable = |source| Failed::Write { path: out.to_owned(), source };
    let draft = Draft::of(out).map_err(unwritable)?;
    let hash = context.write_tar_gz(BufWriter::new(draft.file()))?;
    draft.finish().map_err(unwritable)?;
    Ok(hash)
}
