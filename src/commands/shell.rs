//! `shell`: a shell in a container of a task image, or in that of a task. `job::container` has it.

pub(super) use super::container_arguments::SETTINGS;
use super::container_arguments::{ContainerArgs, LoadArgs};
use super::{Answer, CommandContext};
use crate::config::ConfigError;
use crate::config::settings::JSON;
use crate::job::CommandError;
use crate::job::container::{ContainerCommand, PreparedContainer};

const HELP: &str = "\
Opens a shell in a container of an image, which it loads first, as `load` does: bash where the image has it, else the shell of
its RUN steps. The container is removed when the shell ends, and the exit code is the shell's.
    image-worker shell --task TASK_ID --volume .:/checkout
is the image and the environment of that task, with this checkout in it; the task's command is printed, and not run.
--local opens an image that the engine has already.";

/// Open a shell in a task image, or in what a task runs in
#[derive(Debug, PartialEq, Eq, clap::Args)]
#[command(long_about = HELP)]
#[group(skip)]
pub struct Args {
    #[command(flatten)]
    image: LoadArgs,
    #[command(flatten)]
    container: ContainerArgs,
}

impl Args {
    pub(super) fn run(self, context: &CommandContext) -> Result<Answer, CommandError> {
        let Self { image, container } = self;
        if context.json {
            let why = format!("--{}: a shell has no answer; leave it out", JSON.name);
            return Err(ConfigError::Combination(why).into());
        }
        let config = image.config(&container, context)?;
        context.until_stopped(async |stop| {
            let prepared = PreparedContainer::prepare(config, stop, context.report).await?;
            container.run(prepared, ContainerCommand::Shell, context, stop).await
        })
    }
}
