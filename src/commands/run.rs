//! `run`, the image task's job; with `--dry-run` on a developer's machine, for an image of a checkout. `job` has the job itself.

use std::num::NonZeroU64;

use clap::builder::NonEmptyStringValueParser;

use super::arguments::BuildArgs;
use super::{Answer, CommandContext};
use crate::config::settings::{self, ACCESS, IMAGES_DIR, JOB_SETTINGS, KIND, MACHINE, PARENT, RETRIES, SettingGroup};
use crate::config::{Config, DryRun};
use crate::job::CommandError;
use crate::job::dry_run::dry_run;
use crate::job::image_task::{self, Outcome};
use crate::job::shutdown::Shutdown;

const HELP: &str = "\
The main job, inside a task: download the context, verify its hash, build the image, upload the archive, index it.
In a task everything comes from the environment; on a laptop, try
    image-worker run --dry-run NAME
which takes arguments, parent and hash from the image tree, publishes nothing, and writes to --output.";

pub(super) const SETTINGS: &[SettingGroup] = &[JOB_SETTINGS, ACCESS, RETRIES, MACHINE, &[&IMAGES_DIR, &KIND, &PARENT]];

/// The main job, inside a task
#[derive(Debug, PartialEq, Eq, clap::Args)]
#[command(long_about = HELP)]
pub struct Args {
    /// With --dry-run, the image: its name, or the path of its directory
    #[arg(value_name = "NAME|PATH", value_parser = NonEmptyStringValueParser::new())]
    image: Option<String>,
    #[command(flatten)]
    build_args: BuildArgs,
}

impl Args {
    pub(super) fn run(self, context: &CommandContext) -> Result<Answer, CommandError> {
        let CommandContext { settings, environment, report, .. } = context;
        let image = DryRun::read(settings, environment, self.image.as_deref(), &self.build_args.args)?;
        let outcome = if let Some(image) = image {
            context.block_on(async { dry_run(image, settings, environment, &shutdown(context)?, report).await })?
        } else {
            // First, because it names all that is wrong; the time limit alone would be one of several.
            let config = Config::read(settings, environment)?;
            context.block_on(async { image_task::run(config, &shutdown(context)?, report).await })?
        };
        answer(&outcome, context)
    }
}

/// Signals, and the time limit of the task.
pub(super) fn shutdown(context: &CommandContext) -> Result<Shutdown, CommandError> {
    Shutdown::listen(context.settings.parse::<NonZeroU64>(&settings::MAX_RUN_TIME)?.map(NonZeroU64::get))
}

/// The answer of a job.
pub(super) fn answer(outcome: &Outcome, context: &CommandContext) -> Result<Answer, CommandError> {
    tracing::info!("{}", outcome.story);
    Ok(context.answer(outcome, &outcome.identity.tag)?.of_something_published())
}
