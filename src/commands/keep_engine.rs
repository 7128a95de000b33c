//! How the program starts itself as the supervisor of a managed engine. Help hides this subcommand; `engine` implements it.

use std::ffi::OsString;
use std::path::PathBuf;

use super::{Answer, CommandContext};
use crate::config::settings::SettingGroup;
use crate::engine::{Supervisor, supervise};
use crate::job::CommandError;

pub(super) const SETTINGS: &[SettingGroup] = &[];

/// Keep a managed engine (the program starts this itself)
#[derive(Debug, PartialEq, Eq, clap::Args)]
#[group(skip)]
pub struct Args {
    #[arg(long, value_name = "DIR", conflicts_with = "tied_to", required_unless_present = "tied_to")]
    folder: Option<PathBuf>,
    #[arg(long, value_name = "PID")]
    tied_to: Option<u32>,
    #[arg(long)]
    apart: bool,
    #[arg(last = true)]
    command: Vec<OsString>,
}

impl Args {
    pub(super) fn run(self, context: &CommandContext) -> Result<Answer, CommandError> {
        let Self { apart, command, .. } = self;
        let keeping = match (self.folder, self.tied_to) {
            (Some(folder), _) => Supervisor::Service { folder, in_pid_namespace: apart, command },
            (None, Some(parent)) => Supervisor::TiedTo { parent, in_pid_namespace: apart, command },
            (None, None) => return Err(CommandError::Bug("there is nothing to keep".to_owned())),
        };
        context.block_on(async { Ok(supervise(keeping).await?) })?;
        Ok(Answer::of(String::new()))
    }
}
