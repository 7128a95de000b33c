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
        let is_bash = self.shell == Shell::Bash;
        // In bash's script the subcommands of a program with a hyphen in its name are never found (clap #6421): the script is made
        // for another name, and completes this one.
        let name = if is_bash { "image_worker" } else { "image-worker" };
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut (context.command_line)(), name, &mut script);
        let script = String::from_utf8_lossy(&script).into_owned();
        let script =
            if is_bash { script.replace("-o default image_worker\n", "-o default image-worker\n") } else { script };
        Ok(Answer::of(script))
    }
}
