//! `hash PATH`: the context hash of an image directory, as the decision task computes it.

use std::collections::BTreeMap;
use std::path::Path;

use super::Failed;
use crate::context::collect::Context;
use crate::names::{ContextHash, HashScheme};

/// Computes the hash of the image directory `path` in the repository `root`.
pub fn hash(
    root: &Path,
    path: &Path,
    scheme: HashScheme,
    args: &BTreeMap<String, String>,
) -> Result<ContextHash, Failed> {
    Ok(Context::collect(root, path, args, scheme)?.hash()?)
}
