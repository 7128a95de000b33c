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
    pub fn read(settings: &SettingLayers, environment: &ProcessEnvironment) -> Result<Self, ConfigError> {
        let place = ImagesDir::read(settings, &environment.directory)?;
        Self::of(settings, environment, place, settings.parse_or_default(&settings::SCHEME)?)
    }

    /// How images of this tree are looked up.
    pub fn of(
        settings: &SettingLayers,
        environment: &ProcessEnvironment,
        place: ImagesDir,
        scheme: HashScheme,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            place,
            scheme,
            central: settings.parse_or_default(&settings::CENTRAL)?,
            project: settings.parse(&settings::PROJECT)?,
            index: settings.parse_or_default(&settings::INDEX)?,
            artifact: settings.parse_or_default(&settings::ARTIFACT_NAME)?,
            deployment: access::required(settings, Credentials::Optional)?,
            now: environment.now,
        })
    }
}
