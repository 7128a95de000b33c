//! The configuration of `load`: which image, under which name, into which engine; and of whoever else takes an image of a task.
//! The command line selects the image.

use std::path::PathBuf;

use jiff::Timestamp;

use super::access::{self, Credentials};
use super::{ConfigError, LookupConfig, ProcessEnvironment, SettingLayers, retry, settings};
use crate::engine::EngineConfig;
use crate::net::registry::ImageReference;
use crate::net::retry::RetryConfig;
use crate::taskcluster::{ArtifactName, Deployment, Namespace, TaskRef};

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageSource {
    /// An image of the checkout, by its hash: its name, or the path of its directory, as typed.
    Named(String),
    /// A task that has it.
    Task(TaskRef),
    /// A namespace of the index.
    Route(Namespace),
    /// An archive on this machine.
    File(PathBuf),
}

/// The same, with the settings that finding it needs.
#[derive(Debug)]
pub enum LoadFrom {
    /// An image of the checkout, as typed.
    Named(String, Box<LookupConfig>),
    /// A task of a deployment.
    Task(TaskRef, Deployment),
    /// A namespace of the index of a deployment.
    Route(Namespace, Deployment),
    /// An archive on this machine.
    File(PathBuf),
}

/// An image, and what finding it needs.
#[derive(Debug)]
pub struct WantedImage {
    /// Where it comes from.
    pub from: LoadFrom,
    /// Its artifact, unless the index entry names it.
    pub artifact: ArtifactName,
    /// How long and how often to try.
    pub retry: RetryConfig,
    /// The current directory, which a path starts from.
    pub directory: PathBuf,
}

/// One invocation of `load`.
#[derive(Debug)]
pub struct LoadConfig {
    /// The image.
    pub image: WantedImage,
    /// The name that it gets.
    pub tag: Option<ImageReference>,
    /// Whether a name that comes only from the archive may be taken from another image.
    pub replace: bool,
    /// Where to look for an engine.
    pub engine: EngineConfig,
    /// The current time.
    pub now: Timestamp,
}

impl WantedImage {
    /// Reads what finding an image needs.
    pub fn read(
        settings: &SettingLayers,
        environment: &ProcessEnvironment,
        source: &ImageSource,
    ) -> Result<Self, ConfigError> {
        let from = match source {
            ImageSource::Named(typed) => {
                LoadFrom::Named(typed.clone(), Box::new(LookupConfig::read(settings, environment)?))
            }
            ImageSource::Task(task) => {
                LoadFrom::Task(task.clone(), access::required(&settings.of_deployment(task)?, Credentials::Optional)?)
            }
            ImageSource::Route(namespace) => {
                LoadFrom::Route(namespace.clone(), access::required(settings, Credentials::Optional)?)
            }
            ImageSource::File(path) => LoadFrom::File(environment.directory.join(path)),
        };
        let artifact = settings.parse_or_default(&settings::ARTIFACT_NAME)?;
        Ok(Self { from, artifact, retry: retry::read(settings)?, directory: environment.directory.clone() })
    }
}

/// The name as docker takes it: without a tag it is `latest`.
pub(super) fn tag(settings: &SettingLayers) -> Result<Option<ImageReference>, ConfigError> {
    let Some(given) = settings.get(&settings::TAG)? else { return Ok(None) };
    let last = given.text.rsplit('/').next().unwrap_or_default();
    let whole = if last.contains(':') { given.text.clone() } else { format!("{}:latest", given.text) };
    whole.parse().map(Some).map_err(|error: crate::net::NameError| given.wrong(error.to_string()))
}
