//! `why NAME`, `why TASK TASK`: what changed an image's hash. `job::why` compares.

use clap::builder::NonEmptyStringValueParser;

use super::arguments::BuildArgs;
use super::{Answer, CommandContext};
use crate::config::settings::{ACCESS, CENTRAL, INDEX, LIMITS, PLACE, PROJECT, RETRIES, SettingGroup};
use crate::config::{ConfigError, NamedImage, WhyConfig};
use crate::context::HashScheme;
use crate::job::CommandError;
use crate::job::why::{self, Compared};
use crate::taskcluster::{TaskRef, TaskRefError};

const HELP: &str = "\
Says what changed the hash of an image, and with it why a push builds it: files of the context that
were added, removed or changed, with a diff of small texts; permissions; build arguments; the parent
image; the architecture. Compared are the newest build in the index, or that of --task-id, with the
checkout; or two builds, by their tasks, the earlier one first.
    image-worker why builder --project mozilla-central
    image-worker why TASK_ID TASK_ID";

pub(super) const SETTINGS: &[SettingGroup] = &[PLACE, LIMITS, &[&PROJECT, &CENTRAL, &INDEX], ACCESS, RETRIES];

/// Say what changed the hash of an image since a build: files, arguments, parent
#[derive(Debug, PartialEq, Eq, clap::Args)]
#[command(long_about = HELP)]
pub struct Args {
    /// An image of the checkout, or the path of its directory; or two tasks, or their URLs
    #[arg(value_name = "NAME|TASK_ID", value_parser = NonEmptyStringValueParser::new(), required = true, num_args = 1..=2)]
    what: Vec<String>,
    /// The build that the checkout is compared with, by its task or the task's URL; without it, the newest in the index
    #[arg(id = "of-task", long = "task-id", value_name = "ID")]
    task: Option<TaskRef>,
    #[command(flatten)]
    arguments: BuildArgs,
}

impl Args {
    pub(super) fn run(self, context: &CommandContext) -> Result<Answer, CommandError> {
        let compared = self.compared(context)?;
        let tasks = match &compared {
            Compared::Checkout(_, task) => [task.as_ref(), None],
            Compared::Builds(one, other) => [Some(one), Some(other)],
        };
        let mut settings = context.settings.clone();
        for task in tasks.into_iter().flatten() {
            settings = settings.of_deployment(task)?;
        }
        let config = WhyConfig::read(&settings, &context.environment)?;
        let explanation =
            context.until_stopped(async |stop| why::why(&config, compared, &settings, context.report, stop).await)?;
        context.answer(&explanation, &explanation.to_string())
    }

    fn compared(self, context: &CommandContext) -> Result<Compared, CommandError> {
        if let [one, other] = self.what.as_slice() {
            if self.task.is_some() {
                let what = "--task-id names the build that the checkout is compared with".to_owned();
                return Err(ConfigError::Argument { what, hint: "leave it out, or name one image" }.into());
            }
            return Ok(Compared::Builds(task(one)?, task(other)?));
        }
        let typed = self.what.into_iter().next().unwrap_or_default();
        if typed.parse::<TaskRef>().is_ok() {
            let what = format!("{typed} is a task, and there is nothing to compare it with");
            return Err(ConfigError::Argument { what, hint: "name a second task, or an image and --task-id" }.into());
        }
        let args = &self.arguments.args;
        // The scheme is that of the build.
        let scheme = HashScheme::default();
        let named = NamedImage::read(context.settings, &context.environment, &typed, args, scheme)?;
        Ok(Compared::Checkout(Box::new(named), self.task))
    }
}

fn task(text: &str) -> Result<TaskRef, ConfigError> {
    text.parse().map_err(|error: TaskRefError| {
        let what = match error {
            // It quotes the text.
            TaskRefError::Name(error) => error.to_string(),
            error => format!("{text:?}: {error}"),
        };
        ConfigError::Argument { what, hint: "name two tasks, or one image" }
    })
}
