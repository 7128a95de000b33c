//! What is typed to say which image `load` loads: its name, a task, a route, or a file. What becomes of it is for `config` and
//! the verb.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Arg, ArgGroup, ArgMatches, Command, value_parser};

use super::values::pasted_task_id;
use crate::config::ImageSource;
use crate::net::NameError;
use crate::taskcluster::{Namespace, TaskId};

pub(super) const HELP: &str = "\
Loads a task image into the engine: finds it, downloads it, verifies it, streams it into the engine, and names it.
What is verified: the file's sha256, where the index has it; and always each layer, by the image's own configuration. The name
is --tag; else NAME:latest; else, without a NAME, the archive's only name, or one that is made up. It is the answer.";

/// Adds the arguments, of which exactly one is needed.
pub(super) fn arguments(command: Command) -> Command {
    let heading = "Which image, one of";
    let name = Arg::new("name").value_name("NAME|PATH").value_parser(NonEmptyStringValueParser::new());
    let task = Arg::new("of-task").long("task-id").value_name("ID").value_parser(pasted_task_id);
    let route = Arg::new("route").long("index").value_name("ROUTE").value_parser(namespace);
    let file = Arg::new("archive").long("file").value_name("FILE").value_parser(value_parser!(PathBuf));
    let help = [
        name.help("The image of this checkout, or the path of its directory: found by its hash"),
        task.help("The image of this task, or of its URL"),
        route.help("The image that the index has under this route, like index.docker.images.v1.PROJECT.NAME.latest"),
        file.help("An image archive: .tar, .tar.gz or .tar.zst"),
    ];
    let which = ArgGroup::new("which").args(["name", "of-task", "route", "archive"]).required(true);
    command.args(help.map(|arg| arg.help_heading(heading))).group(which)
}

/// A namespace of the index, also as the route that leads to it.
fn namespace(typed: &str) -> Result<Namespace, NameError> {
    typed.strip_prefix("index.").unwrap_or(typed).parse()
}

/// Which image it is; none, if nothing was said.
pub(super) fn source(matches: &ArgMatches) -> Option<ImageSource> {
    let name = matches.get_one::<String>("name").cloned().map(ImageSource::Named);
    let task = || matches.get_one::<TaskId>("of-task").cloned().map(ImageSource::Task);
    let route = || matches.get_one::<Namespace>("route").cloned().map(ImageSource::Route);
    let file = || matches.get_one::<PathBuf>("archive").cloned().map(ImageSource::File);
    name.or_else(task).or_else(route).or_else(file)
}
