//! `doctor [NAME]`: what is missing or wrong here, before a build finds it out. `job::doctor` does the checks.

use clap::builder::NonEmptyStringValueParser;

use super::{Answer, CommandContext};
use crate::config::DoctorConfig;
use crate::config::settings::{ACCESS, IMAGES_DIR, JOB_SETTINGS, KIND, MACHINE, RETRIES, SettingGroup};
use crate::job::CommandError;
use crate::job::doctor::examine;

const HELP: &str = "\
Checks what a build needs: the engine, disk space, the deployment with its clock, credentials, scopes and index, the checkout
with its kind.yml, taskgraph and images. A line for each: ok, note (does not apply here), warning, or problem with the way out.
All checks run at once, none takes longer than 45 s, and nothing changes or is left anywhere.
    image-worker doctor builder       what `run --dry-run builder` would meet
    image-worker doctor --task        in a task: the environment of `run`, with all that is missing, and the plan";

const EXIT_CODES: &str = "\
Exit codes:
  0    no problem; notes and warnings do not count
  else the one that `run` would end with: that of the first problem (see `run --help`)";

pub(super) const SETTINGS: &[SettingGroup] = &[JOB_SETTINGS, ACCESS, RETRIES, MACHINE, &[&IMAGES_DIR, &KIND]];

/// Check what a build needs here: engine, disk, deployment, scopes, checkout
#[derive(Debug, PartialEq, Eq, clap::Args)]
#[command(long_about = HELP, after_help = EXIT_CODES)]
pub struct Args {
    /// The image, or the path of its directory: its problems, and the scopes of its task
    #[arg(value_name = "NAME|PATH", value_parser = NonEmptyStringValueParser::new(), conflicts_with = "environment")]
    image: Option<String>,
    /// Check the environment of `run` in a task instead of a checkout
    #[arg(id = "environment", long = "task")]
    task: bool,
}

impl Args {
    pub(super) fn run(self, context: &CommandContext) -> Result<Answer, CommandError> {
        let (settings, environment) = (context.settings, &context.environment);
        let config = DoctorConfig::read(settings, environment, self.task);
        let examination = context.until_stopped(async |stop| {
            let examining =
                async { Ok::<_, CommandError>(examine(config, self.image.as_deref(), settings, environment).await) };
            stop.run_stage("looking for problems", examining).await
        })?;
        let answer = context.answer(&examination, &examination.text(context.columns))?;
        match examination.into_error() {
            None => Ok(answer),
            Some(error) => {
                (context.print)(&answer.text)?;
                Err(error)
            }
        }
    }
}
