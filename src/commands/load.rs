//! `load`: loads a task image into the engine, and with `--run` runs a container of it. `job::container` has both.

pub(super) use super::container_arguments::SETTINGS;
use super::container_arguments::{CONTAINER, ContainerArgs, LoadArgs};
use super::{Answer, CommandContext};
use crate::config::ConfigError;
use crate::job::CommandError;
use crate::job::container::{ContainerCommand, PreparedContainer};

const HELP: &str = "\
Loads a task image into the engine: finds it, downloads it, verifies it, streams it into the engine, and names it.

What is verified: the file's sha256, where the index has it; and always each layer, by the image's own configuration.
The image gets the name of --tag; else NAME:latest; else, without a NAME, the archive's only name, or one that is
made up. The answer is that name.

With --run a container of it follows, with this terminal, and is removed at its end; the exit code is that of its command:
    image-worker load NAME --run -- make check
--task takes a task's environment and command, and its image where none is given.";

/// Load a task image into the engine, verified on its way; --run runs it
#[derive(Debug, PartialEq, Eq, clap::Args)]
#[command(long_about = HELP)]
#[group(skip)]
pub struct Args {
    #[command(flatten)]
    image: LoadArgs,
    /// Run a container of the image: its own command, the task's, or COMMAND
    #[arg(long, help_heading = CONTAINER)]
    run: bool,
    #[command(flatten)]
    container: ContainerArgs,
    /// With --run, the command in place of the image's or the task's
    #[arg(value_name = "COMMAND", last = true, requires = "run", help_heading = CONTAINER)]
    command: Vec<String>,
}

impl Args {
    pub(super) fn run(self, context: &CommandContext) -> Result<Answer, CommandError> {
        let Self { image, run, container, command } = self;
        if !run && container.is_given() {
            let why = "--volume, --env and --user are for a container: add --run";
            return Err(ConfigError::Combination(why.to_owned()).into());
        }
        if run && context.json {
            let why = "--json and --run: the output is the container's; leave one of them out";
            return Err(ConfigError::Combination(why.to_owned()).into());
        }
        let config = image.config(&container, context)?;
        context.until_stopped(async |stop| {
            let prepared = PreparedContainer::prepare(config, stop, context.report).await?;
            if !run {
                return context.answer(&prepared.image, prepared.image.name());
            }
            let command = if command.is_empty() { ContainerCommand::Own } else { ContainerCommand::Given(command) };
            container.run(prepared, command, context, stop).await
        })
    }
}
