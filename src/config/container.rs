//! The configuration of a container in the foreground: which image, and which task's environment. The command line selects both.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::access::{self, Credentials};
use super::{ConfigError, ImageSource, LoadConfig, ProcessEnvironment, SettingLayers, WantedImage, settings};
use crate::engine::EngineConfig;
use crate::net::retry::RetryConfig;
use crate::taskcluster::{Deployment, TaskRef};

/// The image of a container.
#[derive(Debug)]
pub enum ContainerImage {
    /// One that is found and loaded.
    Wanted(Box<WantedImage>),
    /// One that the engine has, by its name or its id.
    Local(String),
    /// The one that the task runs in.
    OfTask,
}

/// What selects an image on the command line.
#[derive(Clone, Debug)]
pub enum ContainerSource {
    /// An image that is loaded.
    Load(ImageSource),
    /// An image that the engine has.
    Local(String),
}

/// A task whose container this is.
#[derive(Clone, Debug)]
pub struct TaskSource {
    /// The task.
    pub task: TaskRef,
    /// The deployment that has it.
    pub deployment: Deployment,
}

/// One container.
#[derive(Debug)]
pub struct ContainerConfig {
    /// Its image.
    pub image: ContainerImage,
    /// The task whose environment and command it gets.
    pub task: Option<TaskSource>,
    /// Where to look for an engine.
    pub engine: EngineConfig,
    /// How long and how often to try.
    pub retry: RetryConfig,
    /// The name that a loaded image gets, and when that may be taken from another image.
    naming: Naming,
    /// The current directory.
    directory: PathBuf,
}

/// How a loaded image is named.
#[derive(Clone, Debug)]
struct Naming {
    tag: Option<crate::net::registry::ImageReference>,
    replace: bool,
    now: Timestamp,
}

impl ContainerConfig {
    /// Reads it.
    pub fn read(
        settings: &SettingLayers,
        environment: &ProcessEnvironment,
        image: Option<&ContainerSource>,
        task: Option<&TaskRef>,
    ) -> Result<Self, ConfigError> {
        let image = match image {
            Some(ContainerSource::Load(source)) => {
                ContainerImage::Wanted(Box::new(WantedImage::read(settings, environment, source)?))
            }
            Some(ContainerSource::Local(name)) => ContainerImage::Local(name.clone()),
            None => ContainerImage::OfTask,
        };
        let task = task.map(|task| {
            let deployment = access::required(&settings.of_deployment(task)?, Credentials::Optional)?;
            Ok::<_, ConfigError>(TaskSource { task: task.clone(), deployment })
        });
        let naming = Naming {
            tag: super::load::tag(settings)?,
            replace: settings.switch(&settings::REPLACE)?,
            now: environment.now,
        };
        Ok(Self {
            image,
            task: task.transpose()?,
            engine: EngineConfig::read_lasting(settings, environment)?,
            retry: super::retry::read(settings)?,
            naming,
            directory: environment.directory.clone(),
        })
    }

    /// The configuration that loads an image for it.
    #[must_use]
    pub fn load(&self, image: WantedImage) -> LoadConfig {
        let Naming { tag, replace, now } = self.naming.clone();
        LoadConfig { image, tag, replace, engine: self.engine.clone(), now }
    }

    /// The current directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}
