//! The subcommands: each file has the arguments and the implementation of one. To add one, write its file, and add it to the two
//! lists below: `mod` (rustfmt does not see files that only a macro names) and `subcommands!`. Help, completions and manual pages follow.

mod arguments;
mod build;
mod check;
mod command_context;
mod completions;
mod container_arguments;
mod context;
mod decide;
mod doctor;
mod hash;
mod history;
mod init;
mod inspect;
mod keep_engine;
mod load;
mod lookup;
mod man;
mod push;
mod replay;
mod rerun;
mod run;
mod shell;
mod tree;
mod why;

pub use command_context::{Answer, CommandContext};
pub use completions::VARIABLE as COMPLETE_VARIABLE;

use crate::config::settings::SettingGroup;
use crate::job::CommandError;

macro_rules! subcommands {
    ($($(#[$attribute:meta])* $name:ident in $module:ident;)*) => {
        /// A parsed subcommand with its own arguments, without the settings.
        #[allow(missing_docs, reason = "what `--help` says of each stands at its arguments")]
        #[derive(Debug, PartialEq, Eq, clap::Subcommand)]
        pub enum Subcommand {
            $($(#[$attribute])* $name($module::Args),)*
        }

        impl Subcommand {
            /// Each subcommand's name, and the settings that it takes.
            pub fn settings() -> impl Iterator<Item = (String, &'static [SettingGroup])> {
                [$((stringify!($module).replace('_', "-"), $module::SETTINGS)),*].into_iter()
            }

            /// Runs it.
            pub fn run(self, context: &CommandContext) -> Result<Answer, CommandError> {
                match self {
                    $(Self::$name(args) => args.run(context),)*
                }
            }
        }
    };
}

subcommands! {
    Run in run;
    Replay in replay;
    Rerun in rerun;
    Hash in hash;
    Context in context;
    Lookup in lookup;
    Decide in decide;
    Init in init;
    Build in build;
    Push in push;
    Tree in tree;
    Doctor in doctor;
    Load in load;
    Shell in shell;
    Check in check;
    Inspect in inspect;
    History in history;
    Why in why;
    Completions in completions;
    Man in man;
    #[command(name = crate::engine::SUPERVISOR, hide = true)] KeepEngine in keep_engine;
}
