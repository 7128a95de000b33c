//! The configuration of `lookup`: which tree, which projects, which deployment. The command line selects the images.

use jiff::Timestamp;

use super::access::{self, Credentials};
use super::{ConfigError, ImagesDir, ProcessEnvironment, SettingLayers, settings};
use crate::context::HashScheme;
use crate::taskcluster::{ArtifactName, Deployment, IndexPrefix, Project};

/// One invocation of `lookup`.
#[derive(Clone, Debug)]
pub struct LookupConfig {
    /// Where the images are.
    pub place: ImagesDir,
    /// How contexts are hashed.
    pub scheme: HashScheme,
    /// The project whose images every project may use.
    pub central: Project,
    /// The project that the user works for.
    pub project: Option<Project>,
    /// Prefix of the routes.
    pub index: IndexPrefix,
    /// The artifact that an image is.
    pub artifact: ArtifactName,
    /// The deployment.
    pub deployment: Deployment,
    /// The current time.
    pub now: Timestamp,
}

impl LookupConfig {
    /// Reads the configuration of `lookup`.
    pub fn read(sources: &SettingLayers, around: &ProcessEnvironment) -> Result<Self, ConfigError> {
        let place = ImagesDir::read(sources, &around.directory)?;
        Self::of(sources, around, place, sources.parse_or_default(&settings::SCHEME)?)
    }

    /// How images of this tree are looked up.
    pub fn of(
        sources: &SettingLayers,
        around: &ProcessEnvironment,
        place: ImagesDir,
        scheme: HashScheme,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            place,
            scheme,
            central: sources.parse_or_default(&settings::CENTRAL)?,
            project: sources.parse(&settings::PROJECT)?,
            index: sources.parse_or_default(&settings::INDEX)?,
            artifact: sources.parse_or_default(&settings::ARTIFACT_NAME)?,
            deployment: access::required(sources, Credentials::Optional)?,
            now: around.now,
        })
    }
}
