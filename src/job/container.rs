//! A container on this machine for people: of an image of a task, with a task's environment and command. `load_image` brings
//! the image, `task_container` reads the task, `foreground` runs the container.

use std::collections::BTreeMap;

use serde::Serialize;
use tracing::info;

use super::CommandError;
use super::load_image::{InEngine, Loaded, load};
use super::shutdown::Shutdown;
use super::task_container::{PayloadImage, TaskContainer};
use crate::config::{ConfigError, ContainerConfig, ContainerImage, TaskSource};
use crate::engine::{ContainerSpec, Engine, LocalImage};
use crate::net::ImageId;
use crate::report::{Report, command_line};

/// What a person changes about a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerChanges {
    /// Directories and volumes.
    pub volumes: Vec<String>,
    /// Environment variables, which replace those of the task and of the image.
    pub env: BTreeMap<String, String>,
    /// The user.
    pub user: Option<String>,
}

/// What a container runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerCommand {
    /// The task's command, or else the image's own.
    Own,
    /// This command.
    Given(Vec<String>),
    /// A shell, whatever the image's entry point is.
    Shell,
}

/// An image that the engine has for a container, and the task whose container it will be.
pub struct PreparedContainer {
    /// The engine.
    pub engine: Engine,
    /// The image.
    pub image: PreparedImage,
    /// The task.
    pub task: Option<TaskContainer>,
}

/// An image that the engine has.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum PreparedImage {
    /// It was loaded.
    Loaded(Box<Loaded>),
    /// It was there, or came from a registry.
    #[serde(rename_all = "camelCase")]
    There {
        /// Its name.
        tag: String,
        /// Its id.
        image_id: ImageId,
    },
}

impl PreparedImage {
    /// Its name in the engine.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Loaded(loaded) => loaded.tag.as_str(),
            Self::There { tag, .. } => tag,
        }
    }
}

impl PreparedContainer {
    /// Brings the image into the engine, and fetches the task.
    pub async fn prepare(mut config: ContainerConfig, stop: &Shutdown, report: &Report) -> Result<Self, CommandError> {
        let task = match &config.task {
            Some(source) => Some(TaskContainer::fetch(source, stop).await?),
            None => None,
        };
        let wanted = match std::mem::replace(&mut config.image, ContainerImage::OfTask) {
            ContainerImage::Wanted(wanted) => *wanted,
            ContainerImage::Local(name) => {
                let engine = stop.run_stage("looking for an engine", Engine::connect(&config.engine)).await?;
                let there = stop.run_stage("looking at the image", engine.present(&name)).await?;
                let image = there
                    .map(|image| there_as(name.clone(), &image))
                    .ok_or_else(|| CommandError::not_in_engine(&name))?;
                return Ok(Self { engine, image, task });
            }
            ContainerImage::OfTask => match (task.as_ref().and_then(|task| task.image.clone()), &config.task) {
                (Some(PayloadImage::Artifact(of, artifact)), Some(source)) => {
                    of.wanted(artifact, source.deployment.clone(), &config)
                }
                (Some(PayloadImage::Registry(name)), _) => {
                    let engine = stop.run_stage("looking for an engine", Engine::connect(&config.engine)).await?;
                    let image = stop.run_stage("pulling the image", of_registry(&engine, name)).await?;
                    return Ok(Self { engine, image, task });
                }
                (_, source) => return Err(no_task_image(source.as_ref())),
            },
        };
        let InEngine { loaded, engine } = load(config.load(wanted), stop, report).await?;
        info!("{loaded}");
        Ok(Self { engine, image: PreparedImage::Loaded(Box::new(loaded)), task })
    }

    /// The container, with the changes.
    pub async fn spec(
        &mut self,
        command: ContainerCommand,
        changes: ContainerChanges,
        tty: bool,
    ) -> Result<ContainerSpec, CommandError> {
        let ContainerChanges { volumes, env: given, user } = changes;
        let mut env = BTreeMap::new();
        let mut of_task = None;
        if let Some(task) = &mut self.task {
            task.without_missing_directories(&volumes);
            env.extend(task.env.clone());
            of_task = task.command.clone();
        }
        env.extend(given);
        let image = self.image.name().to_owned();
        let (entrypoint, command) = match command {
            ContainerCommand::Own => (None, of_task),
            ContainerCommand::Given(command) => (None, Some(command)),
            ContainerCommand::Shell => {
                if let Some(command) = of_task {
                    info!("the task's command: {}", command_line(&command));
                }
                (Some(self.engine.shell_command(&image).await?), None)
            }
        };
        let env = env.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        Ok(ContainerSpec { image, entrypoint, command, env, volumes, user, tty })
    }
}

/// A registry's image, pulled where the engine does not have it.
async fn of_registry(engine: &Engine, name: String) -> Result<PreparedImage, CommandError> {
    if engine.present(&name).await?.is_none() {
        info!("pulling {name}");
        engine.pull_image(&name).await?;
    }
    let there = engine.present(&name).await?;
    there.map(|image| there_as(name.clone(), &image)).ok_or_else(|| CommandError::not_in_engine(&name))
}

fn there_as(tag: String, image: &LocalImage) -> PreparedImage {
    PreparedImage::There { tag, image_id: image.id }
}

fn no_task_image(task: Option<&TaskSource>) -> CommandError {
    match task {
        Some(source) => {
            let why = "it runs in no image (its payload has none): name one, beside --task".to_owned();
            ConfigError::Definition { task: source.task.task_id.clone(), why }.into()
        }
        None => ConfigError::Combination("no image is named: name one, or a task with --task".to_owned()).into(),
    }
}
