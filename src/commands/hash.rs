//! `hash NAME|PATH`: the context hash of an image, as the decision task computes it.

use std::path::Path;

use super::{Failed, named_image};
use crate::config::{NamedImage, outside, settings};
use crate::context::ContextHash;

/// Computes the hash of an image's context, and writes it to `out` too, where that is given.
pub fn hash(image: &NamedImage, out: Option<&Path>) -> Result<ContextHash, Failed> {
    let found = named_image::find(image, None)?;
    if let Some(out) = out {
        outside(out, &settings::OUT, &found.context_trees())?;
    }
    let context = found.context()?;
    context.warn_of_untracked();
    let hash = context.hash()?;
    if let Some(out) = out {
        std::fs::write(out, format!("{hash}\n")).map_err(|source| Failed::Write { path: out.to_owned(), source })?;
    }
    Ok(hash)
}
