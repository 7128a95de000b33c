//! `man [SUBCOMMAND]`: the manual page of the program, or that of a subcommand.

use clap::builder::PossibleValuesParser;

use super::{Answer, CommandContext, Subcommand};
use crate::config::settings::SettingGroup;
use crate::engine::SUPERVISOR;
use crate::job::CommandError;
use crate::report::VERSION;

pub(super) const SETTINGS: &[SettingGroup] = &[];

const HELP: &str = "\
Prints the manual page of the program, or that of a subcommand, as `man` reads it:
    image-worker man build | man -l -";

/// Print the manual page of the program, or that of a subcommand
#[derive(Debug, PartialEq, Eq, clap::Args)]
#[command(long_about = HELP)]
pub struct Args {
    /// The subcommand; without one, the page of the program, which lists them
    #[arg(value_name = "SUBCOMMAND", value_parser = subcommands())]
    subcommand: Option<String>,
}

fn subcommands() -> PossibleValuesParser {
    PossibleValuesParser::new(Subcommand::settings().map(|(name, _)| name).filter(|name| name != SUPERVISOR))
}

impl Args {
    pub(super) fn run(self, context: &CommandContext) -> Result<Answer, CommandError> {
        let mut program = (context.command_line)();
        // It gives the subcommands their whole names.
        program.build();
        let subcommand = self.subcommand.and_then(|name| program.find_subcommand(name).cloned());
        // A text that -h leaves out would be missing here, too.
        let page = subcommand.unwrap_or(program).mut_args(|argument| argument.hide_short_help(false));
        let (version, commit) = VERSION.split_once(" (").unwrap_or((VERSION, ""));
        // Without a date the footer has no place for the version.
        let date = commit.trim_end_matches(')').split(' ').next_back().unwrap_or_default();
        let page = clap_mangen::Man::new(page).date(date).source(format!("image-worker {version}"));
        let mut text = Vec::new();
        let written = page.render(&mut text);
        written.map_err(|source| CommandError::Write { path: "the manual page".into(), source })?;
        Ok(Answer::of(String::from_utf8_lossy(&text).into_owned()))
    }
}
