//! `completions SHELL`: a completion script. It makes the shell ask this program what can stand next; `cli::completion` answers.

use std::io;

use clap_complete::Shell;
use clap_complete::env as completers;

use super::{Answer, CommandContext};
use crate::config::settings::SettingGroup;
use crate::job::CommandError;

/// The variable by which the scripts ask, with the name of the shell.
pub const VARIABLE: &str = "IMAGE_WORKER_COMPLETE";

const PROGRAM: &str = "image-worker";

const HELP: &str = "\
Prints a script that completes subcommands, flags, their values, the images of the checkout, and files:
    source <(image-worker completions bash)
It calls the image-worker that is on PATH, for which it need not be made again when that is a newer one.";

pub(super) const SETTINGS: &[SettingGroup] = &[];

/// Print a completion script
#[derive(Debug, PartialEq, Eq, clap::Args)]
#[command(long_about = HELP)]
pub struct Args {
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Args {
    pub(super) fn run(self, _: &CommandContext) -> Result<Answer, CommandError> {
        let script = self.script().map_err(|error| CommandError::Bug(format!("no completion script: {error}")))?;
        Ok(Answer::of(String::from_utf8_lossy(&script).into_owned()))
    }

    fn script(&self) -> io::Result<Vec<u8>> {
        let shells = completers::Shells::builtins();
        let shell = shells.completer(&self.shell.to_string()).ok_or(io::ErrorKind::NotFound)?;
        let mut script = Vec::new();
        shell.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, &mut script)?;
        Ok(script)
    }
}
