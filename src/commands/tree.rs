//! `tree`: all images of a repository, what each is built from, and everything that is wrong with them. `repository` finds the
//! problems; this file formats them and sets the exit code.

use tracing::{info, warn};

use super::command_context::to_json;
use super::{Answer, CommandContext};
use crate::config::settings::{DOT, LIMITS, PLACE, SCHEME, SettingGroup};
use crate::config::{TreeConfig, TreeForm};
use crate::job::CommandError;
use crate::repository::Tree;

const HELP: &str = "\
Shows every image, of the kind.yml where there is one: its kind, context hash, files and size, and which images it is made of.
All problems are listed at once, and the exit code is 10 if there are any; hints do not count.";

pub(super) const SETTINGS: &[SettingGroup] = &[PLACE, LIMITS, &[&SCHEME, &DOT]];

/// Show the images, who is built from whom, and what is wrong
#[derive(Debug, PartialEq, Eq, clap::Args)]
#[command(long_about = HELP)]
pub struct Args {}

impl Args {
    pub(super) fn run(self, context: &CommandContext) -> Result<Answer, CommandError> {
        let Self {} = self;
        let config = TreeConfig::read(context.settings, &context.environment)?;
        let survey = Tree::open(&config.place)?.lint(config.scheme);
        let answer = match config.form {
            TreeForm::Drawing => survey.to_string(),
            TreeForm::Json => format!("{}\n", to_json(&survey)?),
            TreeForm::Dot => survey.dot(),
        };
        if config.form == TreeForm::Dot {
            // The other forms contain them.
            survey.problems.iter().for_each(|problem| warn!("problem: {}", problem.message));
            survey.hints.iter().for_each(|hint| info!("hint: {}", hint.message));
        }
        let Some(first) = survey.problems.first() else { return Ok(Answer::of(answer)) };
        (context.print)(&answer)?;
        let (what, count) = (survey.images_dir.clone(), survey.problems.len());
        Err(CommandError::Problems { what, count, first: first.message.clone() })
    }
}
