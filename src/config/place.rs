//! Where the images of a repository are, for the verbs that work on all of them.

use std::path::{Path, PathBuf};

use super::{ConfigError, Sources, checkout, settings};
use crate::context::checkout::Checkout;

/// A repository and its images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagesPlace {
    /// The repository.
    pub checkout: Checkout,
    /// The images root, where it is not at one of its usual places.
    pub images_dir: Option<PathBuf>,
    /// taskgraph's list of images.
    pub kind: Option<PathBuf>,
}

impl ImagesPlace {
    /// Reads it; without a root it is the checkout that `directory` is in.
    pub fn read(sources: &Sources, directory: &Path) -> Result<Self, ConfigError> {
        Ok(Self {
            checkout: checkout(sources, directory)?,
            images_dir: sources.parse(&settings::IMAGES_DIR)?,
            kind: sources.parse(&settings::KIND)?,
        })
    }
}
