//! An image that a local build has made, or found: what `build` answers.

use std::fmt;

use serde::Serialize;

use crate::context::{ContextHash, ImageName};
use crate::net::ImageId;
use crate::repository::local::LocalImage;

/// An image that the engine has now.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Built {
    /// Its name.
    pub name: ImageName,
    /// Its tag in the engine.
    pub tag: String,
    /// The hash of its context.
    pub context_hash: ContextHash,
    /// The hash in the `.hash.` route of the same image in CI; none if only the task graph knows it.
    pub hash: Option<ContextHash>,
    /// Its id.
    pub image_id: ImageId,
    /// Whether it was built now, or there already.
    pub built: bool,
    /// The digest that it has in its registry, where it was pushed.
    pub digest: Option<String>,
}

impl fmt::Display for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.tag, self.context_hash)
    }
}

impl Built {
    /// The image of this id; `built` says whether it was built now.
    pub(super) fn of(it: &LocalImage, image_id: ImageId, built: bool) -> Self {
        let (name, tag) = (it.image.name.clone(), it.tag.clone());
        let hash = Some(it.hash).filter(|_| it.is_hash_known);
        Self { name, tag, context_hash: it.context, hash, image_id, built, digest: None }
    }
}
