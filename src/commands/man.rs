//! `man`: the manual page.

use super::{Answer, CommandContext};
use crate::config::settings::SettingGroup;
use crate::job::CommandError;

pub(super) const SETTINGS: &[SettingGroup] = &[];

/// Print the manual page
#[derive(Debug, PartialEq, Eq, clap::Args)]
pub struct Args {}

impl Args {
    pub(super) fn run(self, context: &CommandContext) -> Result<Answer, CommandError> {
        let Self {} = self;
        let mut page = Vec::new();
        let written = clap_mangen::Man::new((context.command_line)()).render(&mut page);
        written.map_err(|source| CommandError::Write { path: "the manual page".into(), source })?;
        Ok(Answer::of(String::from_utf8_lossy(&page).into_owned()))
    }
}
