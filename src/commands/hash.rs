//! `hash PATH`: the context hash of an image directory, as the decision task computes it.

use std::collections::BTreeMap;
use std::path::Path;

use super::Failed;
use crate::context::checkout::Checkout;
use crate::context::collect::Context;
use crate::names::{ContextHash, HashScheme};

/// Computes the hash of the image directory `path` in the repository.
pub fn hash(
    checkout: &Checkout,
    path: &Path,
    scheme: HashScheme,
    args: &BTreeMap<String, String>,
) -> Result<ContextHash, Failed> {
    Ok(Context::collect(checkout, path, args, scheme)?.hash()?)
}
