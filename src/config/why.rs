//! The configuration of `why`: the deployment that has the builds, and where the newest one is looked for. The command line says
//! what is compared.

use std::path::PathBuf;

use super::access::{self, Credentials};
use super::{ConfigError, ProcessEnvironment, SettingLayers, settings};
use crate::taskcluster::{Deployment, IndexPrefix, Project};

/// One invocation of `why`.
#[derive(Clone, Debug)]
pub struct WhyConfig {
    /// The own project, if one is configured: its newest build comes first.
    pub project: Option<Project>,
    /// The project whose images every project may use.
    pub central: Project,
    /// Prefix of the routes.
    pub index: IndexPrefix,
    /// The deployment.
    pub deployment: Deployment,
    /// Where contexts are kept while they are compared.
    pub temporary: PathBuf,
    /// The current time.
    pub now: jiff::Timestamp,
}

impl WhyConfig {
    /// Reads the configuration of `why`.
    pub fn read(settings: &SettingLayers, environment: &ProcessEnvironment) -> Result<Self, ConfigError> {
        Ok(Self {
            project: settings.parse(&settings::PROJECT)?,
            central: settings.parse_or_default(&settings::CENTRAL)?,
            index: settings.parse_or_default(&settings::INDEX)?,
            deployment: access::required(settings, Credentials::Optional)?,
            temporary: environment.temporary.clone(),
            now: environment.now,
        })
    }
}
