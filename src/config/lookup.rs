//! What one invocation of `lookup` is to do: which tree, which projects, which deployment. Which images are asked for
//! is the command line's word.

use std::path::PathBuf;

use jiff::Timestamp;

use super::access::{self, Deployment};
use super::{ConfigError, Sources, Surroundings, patience, repository_root, settings};
use crate::names::{ArtifactName, HashScheme, IndexPrefix, Project};
use crate::retry::Patience;

/// One invocation of `lookup`.
#[derive(Debug)]
pub struct LookupConfig {
    /// The repository's root.
    pub root: PathBuf,
    /// The images root, where it is not at one of its usual places.
    pub images_dir: Option<PathBuf>,
    /// taskgraph's list of images.
    pub kind: Option<PathBuf>,
    /// How contexts are hashed.
    pub scheme: HashScheme,
    /// The project whose images everybody may use.
    pub central: Project,
    /// The own project.
    pub project: Option<Project>,
    /// Prefix of the routes.
    pub index: IndexPrefix,
    /// The artifact that an image is.
    pub artifact: ArtifactName,
    /// The deployment.
    pub deployment: Deployment,
    /// How long and how often to try.
    pub patience: Patience,
    /// The current time.
    pub now: Timestamp,
}

impl LookupConfig {
    /// Reads the configuration of `lookup`.
    pub fn read(sources: &Sources, around: &Surroundings) -> Result<Self, ConfigError> {
        Ok(Self {
            root: repository_root(sources, &around.directory)?,
            images_dir: sources.parse(&settings::IMAGES_DIR)?,
            kind: sources.parse(&settings::KIND)?,
            scheme: sources.parse_or_default(&settings::SCHEME)?,
            central: sources.parse_or_default(&settings::CENTRAL)?,
            project: sources.parse(&settings::PROJECT)?,
            index: sources.parse_or_default(&settings::INDEX)?,
            artifact: sources.parse_or_default(&settings::ARTIFACT_NAME)?,
            deployment: access::deployment_to_read(sources)?,
            patience: patience::read(sources)?,
            now: around.now,
        })
    }
}
