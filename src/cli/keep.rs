//! The verb by which the program starts itself as the keeper of a managed engine. It is nobody else's: help does not show
//! it, and what it does is in `engine`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::engine::Supervisor;

/// Its name.
pub(super) use crate::engine::SUPERVISOR as VERB;

pub(super) fn arguments() -> Command {
    let folder = Arg::new("folder").long("folder").value_name("DIR").value_parser(value_parser!(PathBuf));
    let parent = Arg::new("tied-to").long("tied-to").value_name("PID").value_parser(value_parser!(u32));
    let apart = Arg::new("apart").long("apart").action(ArgAction::SetTrue);
    let command = Arg::new("command").value_parser(value_parser!(OsString)).action(ArgAction::Append).last(true);
    Command::new(VERB).about("Keep a managed engine (the program starts this itself)").hide(true).args([
        folder.conflicts_with("tied-to"),
        parent,
        apart,
        command.num_args(0..),
    ])
}

/// None where nothing is said to keep.
pub(super) fn keeping(matches: &ArgMatches) -> Option<Supervisor> {
    let command = matches.get_many("command").into_iter().flatten().cloned().collect();
    let apart = matches.get_flag("apart");
    match (matches.get_one::<PathBuf>("folder").cloned(), matches.get_one::<u32>("tied-to").copied()) {
        (Some(folder), _) => Some(Supervisor::Service { folder, in_pid_namespace: apart, command }),
        (None, Some(parent)) => Some(Supervisor::TiedTo { parent, in_pid_namespace: apart, command }),
        (None, None) => None,
    }
}
