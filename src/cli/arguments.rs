//! The command line: made from the table of settings, so that every flag, its variable and its help are said once.
//! It only reads what was typed; what it means is for `config` and the verbs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use clap_complete::Shell;

use super::values::{key_value, pasted_task_id};
use super::{help, keep, load};
use crate::config::ImageSource;
use crate::config::settings::{self, Setting};
use crate::engine::Supervisor;
use crate::taskcluster::TaskId;

/// What was typed.
#[derive(Debug)]
pub struct Invocation {
    /// The verb.
    pub verb: Verb,
    /// The flags that are settings, by name.
    pub flags: BTreeMap<&'static str, String>,
}

/// The verbs, with what is not a setting.
#[derive(Debug, PartialEq, Eq)]
pub enum Verb {
    /// The main job.
    Run(ImageArgument),
    /// The job of an existing task.
    Replay(TaskId),
    /// A sheriff's rerun.
    Rerun(TaskId),
    /// Print a context hash.
    Hash(ImageArgument),
    /// Write a context.
    Context(ImageArgument),
    /// Say which tasks have these images.
    Lookup(Vec<String>),
    /// Decide about a task graph's images.
    Decide(Decision),
    /// Build images on this machine.
    Build(Vec<String>),
    /// Push an image to its registry.
    Push(String),
    /// Show the images and what is wrong with them.
    Tree,
    /// Load an image into the engine.
    Load(ImageSource),
    /// Say who can load an image archive.
    Check {
        /// The archive.
        file: PathBuf,
        /// `--compare OTHER`
        other: Option<PathBuf>,
    },
    /// Keep a managed engine; for the program itself.
    Keep(Supervisor),
    /// Print a completion script.
    Completions(Shell),
    /// Print the manual page.
    Man,
}

/// An image, and arguments that win over its own.
#[derive(Debug, PartialEq, Eq)]
pub struct ImageArgument {
    /// Its name, or the path of its directory, as typed.
    pub image: Option<String>,
    /// `--arg K=V`
    pub args: Vec<(String, String)>,
}

/// A task graph and values of the template's placeholders.
#[derive(Debug, PartialEq, Eq)]
pub struct Decision {
    /// The graph's file; `-` is stdin.
    pub graph: PathBuf,
    /// `--value NAME=VALUE`
    pub values: Vec<(String, String)>,
}

/// The command line's definition; completions and the manual page come from it too.
#[must_use]
pub fn command() -> Command {
    let shell = Arg::new("shell").value_name("SHELL").value_parser(value_parser!(Shell)).required(true);
    Command::new("image-worker")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Builds Docker images inside Taskcluster tasks")
        .after_help(help::EXIT_CODES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args(settings::EVERYWHERE.iter().map(|setting| flag(setting).global(true)))
        .subcommand(
            verb("run", "The main job, inside a task")
                .long_about(help::RUN_HELP)
                .args(image_argument("With --dry-run, the image: its name, or the path of its directory", false)),
        )
        .subcommand(
            verb("replay", "The job of an existing task, from its definition; a dry run unless --publish")
                .long_about(help::REPLAY_HELP)
                .arg(task_id()),
        )
        .subcommand(
            verb("rerun", "A sheriff's rerun: says whether it can work, asks the queue for it, follows it")
                .long_about(help::RERUN_HELP)
                .after_help(after_help("rerun", help::RERUN_EXIT_CODES))
                .arg(task_id()),
        )
        .subcommand(verb("hash", "Print the context hash of an image").args(image_argument(IMAGE, true)))
        .subcommand(
            verb("context", "Write the context of an image as a .tar.gz and print its hash, or list its files")
                .args(image_argument(IMAGE, true)),
        )
        .subcommand(
            verb("lookup", "Say which tasks have these images already, in the central project or in the own one")
                .long_about(help::LOOKUP_HELP)
                .arg(image_names()),
        )
        .subcommand(
            verb("decide", "Fill in a task graph's images: look them up, add tasks for the missing ones")
                .long_about(help::DECIDE_HELP)
                .args(decision_arguments()),
        )
        .subcommand(verb("build", "Build images on this machine").long_about(help::BUILD_HELP).arg(image_names()))
        .subcommand(
            verb("push", "Push an image to its registry").long_about(help::PUSH_HELP).arg(image_names().num_args(1)),
        )
        .subcommand(
            verb("tree", "Show the images, who is built from whom, and what is wrong").long_about(help::TREE_HELP),
        )
        .subcommand(load::arguments(
            verb("load", "Load a task image into the engine, verified on its way").long_about(load::HELP),
        ))
        .subcommand(
            verb("check", "Say who can load an image archive, and what is wrong with it")
                .long_about(help::CHECK_HELP)
                .args(archives()),
        )
        .subcommand(Command::new("completions").about("Print a completion script").arg(shell))
        .subcommand(Command::new("man").about("Print the manual page"))
        .subcommand(keep::arguments())
}

/// A verb with its settings' flags.
fn verb(name: &'static str, about: &'static str) -> Command {
    let flags = settings::of(name).filter(|setting| !setting.secret).map(flag);
    Command::new(name).about(about).after_help(after_help(name, help::EXIT_CODES)).args(flags)
}

/// What stands below a verb's flags.
fn after_help(verb: &str, exit_codes: &str) -> String {
    let secrets = settings::of(verb).filter(|setting| setting.secret);
    let secrets: Vec<_> = secrets.map(|setting| format!("  {}  {}\n", setting.variable, setting.help)).collect();
    if secrets.is_empty() {
        return exit_codes.to_owned();
    }
    format!("Secrets, which have variables only:\n{}\n{exit_codes}", secrets.concat())
}

/// What the help says of an image that must be named.
const IMAGE: &str = "The image: its name, or the path of its directory";

fn image_argument(help: &'static str, required: bool) -> [Arg; 2] {
    let image = Arg::new("image").value_name("NAME|PATH").value_parser(NonEmptyStringValueParser::new());
    let arg = Arg::new("arg").long("arg").value_name("K=V").action(ArgAction::Append).value_parser(key_value);
    [
        image.required(required).help(help),
        arg.help_heading("The context").help(format!(
            "A build argument of the image, which fills in `# %ARG` lines; can be repeated, wins over those of kind.yml and [env: {}]",
            settings::DOCKER_BUILD_ARGS.variable
        )),
    ]
}

fn decision_arguments() -> [Arg; 2] {
    let graph = Arg::new("graph").value_name("GRAPH").value_parser(value_parser!(PathBuf)).required(true);
    let value = Arg::new("value").long("value").value_name("NAME=VALUE").action(ArgAction::Append);
    let help = "Value of one of the template's placeholders, or with ARCH:NAME=VALUE for images of one architecture; can be repeated, wins over --values";
    [
        graph.help("The task graph's file, or - for stdin"),
        value.value_parser(key_value).help(help).help_heading("The decision"),
    ]
}

fn archives() -> [Arg; 2] {
    let path = |name, value| Arg::new(name).value_name(value).value_parser(value_parser!(PathBuf));
    [
        path("file", "FILE").required(true).help("The image archive"),
        path("compare", "OTHER").long("compare").help("Say instead what differs between the images of both archives"),
    ]
}

fn image_names() -> Arg {
    let names = Arg::new("names").value_name("NAME|PATH").action(ArgAction::Append).required(true);
    let names = names.value_parser(NonEmptyStringValueParser::new());
    names.num_args(1..).help("The image, or the path of its directory")
}

fn task_id() -> Arg {
    Arg::new("task").value_name("TASK_ID").value_parser(pasted_task_id).required(true).help("The task, or its URL")
}

fn task(matches: &ArgMatches) -> Result<TaskId, clap::Error> {
    let missing = || command().error(clap::error::ErrorKind::MissingRequiredArgument, "which task?");
    matches.get_one("task").cloned().ok_or_else(missing)
}

fn flag(setting: &'static Setting) -> Arg {
    let mut help = format!("{} [env: {}]", setting.help, setting.variable);
    if let Some(default) = setting.default {
        help = format!("{help} [default: {default}]");
    }
    let arg = Arg::new(setting.name).long(setting.name).help(help).help_heading(setting.group);
    let arg = if setting.repeatable { arg.action(ArgAction::Append) } else { arg };
    let arg = match setting.name {
        "verbose" => arg.short('v'),
        "out" => arg.short('o'),
        _ => arg,
    };
    if setting.is_switch() {
        arg.action(ArgAction::SetTrue)
    } else {
        // A flag's empty value is a mistake, unlike an empty variable.
        arg.value_name(setting.value_name).value_parser(NonEmptyStringValueParser::new())
    }
}

/// Reads a command line; the error is clap's own, which knows whether it is help, a version or a mistake.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, clap::Error> {
    let matches = command().try_get_matches_from(arguments)?;
    let mut flags = BTreeMap::new();
    let Some((name, sub)) = matches.subcommand() else {
        return Err(command().error(clap::error::ErrorKind::MissingSubcommand, "which verb?"));
    };
    for setting in settings::ALL {
        if let Some(value) = given(sub, setting) {
            flags.insert(setting.name, value);
        }
    }
    let verb = match name {
        "run" => Verb::Run(image(sub)),
        "replay" => Verb::Replay(task(sub)?),
        "rerun" => Verb::Rerun(task(sub)?),
        "hash" => Verb::Hash(image(sub)),
        "context" => Verb::Context(image(sub)),
        "lookup" => Verb::Lookup(names(sub)),
        "build" => Verb::Build(names(sub)),
        "push" => match names(sub).pop() {
            Some(name) => Verb::Push(name),
            None => return Err(command().error(clap::error::ErrorKind::MissingRequiredArgument, "which image?")),
        },
        "decide" => Verb::Decide(Decision {
            graph: sub.get_one("graph").cloned().unwrap_or_default(),
            values: sub.get_many("value").into_iter().flatten().cloned().collect(),
        }),
        "tree" => Verb::Tree,
        "load" => {
            let missing = || command().error(clap::error::ErrorKind::MissingRequiredArgument, "which image?");
            Verb::Load(load::source(sub).ok_or_else(missing)?)
        }
        keep::VERB => {
            let missing = || command().error(clap::error::ErrorKind::MissingRequiredArgument, "keep what?");
            Verb::Keep(keep::keeping(sub).ok_or_else(missing)?)
        }
        "check" => Verb::Check {
            file: sub.get_one("file").cloned().unwrap_or_default(),
            other: sub.get_one("compare").cloned(),
        },
        "completions" => Verb::Completions(sub.get_one("shell").copied().unwrap_or(Shell::Bash)),
        _ => Verb::Man,
    };
    Ok(Invocation { verb, flags })
}

fn given(matches: &ArgMatches, setting: &Setting) -> Option<String> {
    if setting.is_switch() {
        let on = matches.try_get_one::<bool>(setting.name).ok().flatten();
        on.filter(|on| **on).map(|_| "1".to_owned())
    } else if setting.repeatable {
        let values = matches.try_get_many::<String>(setting.name).ok().flatten()?;
        Some(values.cloned().collect::<Vec<_>>().join("\n"))
    } else {
        matches.try_get_one::<String>(setting.name).ok().flatten().cloned()
    }
}

fn names(matches: &ArgMatches) -> Vec<String> {
    matches.get_many("names").into_iter().flatten().cloned().collect()
}

fn image(matches: &ArgMatches) -> ImageArgument {
    ImageArgument {
        image: matches.get_one("image").cloned(),
        args: matches.get_many("arg").into_iter().flatten().cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &str) -> Result<Invocation, clap::Error> {
        parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn flags_that_are_settings_are_found_wherever_they_stand() {
        let typed = typed("image-worker --json run --dry-run --image-name builder -v").unwrap();
        assert_eq!(typed.verb, Verb::Run(ImageArgument { image: None, args: Vec::new() }));
        let expected = [("dry-run", "1"), ("image-name", "builder"), ("json", "1"), ("verbose", "1")];
        assert_eq!(typed.flags, expected.map(|(key, value)| (key, value.to_owned())).into());
    }

    #[test]
    fn a_task_is_named_by_its_id_or_by_what_a_browser_shows() {
        let id = "fN1SbArXTPSVFNUvaOlinQ";
        let pages = ["", "/", "/runs/0/logs/live/public/logs/live.log#L12", "?x"];
        for place in pages.map(|rest| format!("https://tc.example.com/tasks/{id}{rest}")).iter().chain([&id.to_owned()])
        {
            assert_eq!(typed(&format!("image-worker rerun {place}")).unwrap().verb, Verb::Rerun(id.parse().unwrap()));
        }
        for wrong in ["nonsense", "https://tc.example.com/tasks/groups/fN1SbArXTPSVFNUvaOlinQ"] {
            assert!(typed(&format!("image-worker replay {wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn arguments_of_an_image_keep_their_order() {
        let typed = typed("image-worker hash a/b --arg X=1 --arg Y=a=b --scheme contents").unwrap();
        let args = [("X", "1"), ("Y", "a=b")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(typed.verb, Verb::Hash(ImageArgument { image: Some("a/b".to_owned()), args: args.into() }));
        assert_eq!(typed.flags["scheme"], "contents");
    }

    #[test]
    fn an_image_can_be_named_by_its_directory() {
        let verb = |line: &str| typed(line).map(|typed| typed.verb);
        // Which image a path leads to, the tree knows.
        let builder = Verb::Lookup(["builder", "testing/docker/lint/"].map(str::to_owned).into());
        assert_eq!(verb("image-worker lookup builder testing/docker/lint/").unwrap(), builder);
        assert_eq!(verb("image-worker lookup").unwrap_err().exit_code(), 2);
    }

    #[test]
    fn secrets_have_no_flag() {
        assert!(typed("image-worker run --access-token x").is_err());
        let help = typed("image-worker run --help").unwrap_err().to_string();
        assert!(settings::RUN.iter().all(|setting| help.contains(setting.variable)), "each variable is shown: {help}");
        let help = typed("image-worker lookup --help").unwrap_err().to_string();
        assert!(settings::of("lookup").all(|setting| help.contains(setting.variable)), "as well: {help}");
        let help = typed("image-worker rerun --help").unwrap_err().to_string();
        assert!(settings::of("rerun").all(|setting| help.contains(setting.variable)), "as well: {help}");
        assert!(typed("image-worker run --nonsense").is_err());
        assert!(typed("image-worker hash a --arg X").is_err());
    }
}
