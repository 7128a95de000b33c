//! `completions SHELL`: a completion script.

use clap_complete::Shell;

use super::{Answer, CommandContext};
use crate::config::settings::SettingGroup;
use crate::job::CommandError;

pub(super) const SETTINGS: &[SettingGroup] = &[];

/// Print a completion script
#[derive(Debug, PartialEq, Eq, clap::Args)]
pub struct Args {
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Args {
    #[allow(clippy::unnecessary_wraps, reason = "as the others")]
    pub(super) fn run(self, context: &CommandContext) -> Result<Answer, CommandError> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut (context.command_line)(), "image-worker", &mut script);
        Ok(Answer::of(String::from_utf8_lossy(&script).into_owned()))
    }
}
