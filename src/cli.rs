//! The command line: made from the table of settings, so that every flag, its variable and its help are said once.
//! It only reads what was typed; what it means is for `config` and the verbs.

mod load;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use clap_complete::Shell;

use crate::config::ImageSource;
use crate::config::settings::{self, Setting};
use crate::names::{ImageName, NameError, TaskId};

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
    Run,
    /// The job of an existing task.
    Replay(TaskId),
    /// A sheriff's rerun.
    Rerun(TaskId),
    /// Print a context hash.
    Hash(ImageDirectory),
    /// Write a context.
    Context(ImageDirectory),
    /// Say which tasks have these images.
    Lookup(Vec<ImageName>),
    /// Decide about a task graph's images.
    Decide(Decision),
    /// Load an image into the engine.
    Load(ImageSource),
    /// Say whether every consumer can load an image archive.
    Check(PathBuf),
    /// Print a completion script.
    Completions(Shell),
    /// Print the manual page.
    Man,
}

/// An image directory and its preprocessing arguments.
#[derive(Debug, PartialEq, Eq)]
pub struct ImageDirectory {
    /// The directory.
    pub path: PathBuf,
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

const EXIT_CODES: &str = "\
Exit codes:
  0    published, or there already
  1    a bug in image-worker
  2    wrong usage or configuration
  10   the context is not what was promised, or is gone
  20   the image did not build
  30   the world failed: network, engine, disk; another try can help
  31   refused: a missing scope, or published already with other content
  129, 130, 143  stopped by SIGHUP, SIGINT, SIGTERM, after cleaning up";

const RUN_HELP: &str = "\
The main job, inside a task: download the context, verify its hash, build the image, upload the archive, index it.
In a task everything comes from the environment; on a laptop, try
    image-worker run --dry-run --context taskcluster/docker/NAME --image-name NAME --project try";

const DECIDE_HELP: &str = "\
The decision step. Reads a task graph, JSON or YAML, whose tasks name images, anywhere in their definitions:
    '{{#task_id_for_image}}NAME{{/task_id_for_image}}'  the task that has the task image NAME
    '{{#docker_image}}NAME{{/docker_image}}'            the registry image NAME: REGISTRY/NAME:VERSION
Each task image is looked up by its hash. Where it is missing, the graph gets one task that builds it, its context is
written to --contexts, and the tasks that need it wait for that task. Two forms of graphs are understood: that of 2015,
{\"tasks\": [{\"taskId\", \"task\", \"requires\"}]}, and taskgraph's task-graph.json, of labels or of task ids.";

const CHECK_HELP: &str = "\
Says whether every consumer can load an image archive, .tar, .tar.gz or .tar.zst: manifest and configuration agree, every
layer is the one that the configuration names, and plain; one name, the same in `repositories`; no member that is unsafe,
or that readers differ about. Prints all problems, each with who breaks on it. The exit code is 10 if there is one.";

const LOOKUP_HELP: &str = "\
Says which tasks have these images already: in the central project or, with --project, in that one.
An entry of the index counts only if its artifact is there, whole and unexpired.
Prints `NAME TASK_ID`, or `NAME -`, a line each.";

const REPLAY_HELP: &str = "\
Fetches a task's definition (from a public deployment without credentials) and does its job here: the same context,
arguments and parent. A dry run, unless --publish. Flags win over the definition; the engine, the output and
credentials are this machine's. When the context has expired, give --context DIR; see also --shell.
    TASKCLUSTER_ROOT_URL=https://tc.example.com image-worker replay TASK_ID --shell";

const RERUN_HELP: &str = "\
Tells how an image task stands and whether a rerun can work: runs, deadline, context, retries, the image in the index.
If so, asks (or not, with --yes), has the queue make another run, and follows it. If not, says what to do instead: a
retrigger, a new decision task, nothing. Looking needs no credentials at a public deployment; the rerun needs a scope
queue:rerun-task:SCHEDULER/GROUP/TASK. With --json, stdout has a line about the prospect and one about the run.";

const RERUN_EXIT_CODES: &str = "\
Exit codes:
  0    the run completed, or there is nothing to do, or the answer was no
  2    wrong usage or configuration, of the task's definition too; nobody there to ask
  10   a new decision task is needed
  20   the run failed; its log says why
  30   the run ended in an exception, or the world failed: another try can help
  31   the queue refuses a rerun, or it is not the time for it: a retrigger, waiting, a missing scope
  129, 130, 143  stopped by SIGHUP, SIGINT, SIGTERM; the run goes on";

/// The command line's definition; completions and the manual page come from it too.
#[must_use]
pub fn command() -> Command {
    let shell = Arg::new("shell").value_name("SHELL").value_parser(value_parser!(Shell)).required(true);
    Command::new("image-worker")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Builds Docker images inside Taskcluster tasks")
        .after_help(EXIT_CODES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args(settings::EVERYWHERE.iter().map(|setting| flag(setting).global(true)))
        .subcommand(verb("run", "The main job, inside a task").long_about(RUN_HELP))
        .subcommand(
            verb("replay", "The job of an existing task, from its definition; a dry run unless --publish")
                .long_about(REPLAY_HELP)
                .arg(task_id()),
        )
        .subcommand(
            verb("rerun", "A sheriff's rerun: says whether it can work, asks the queue for it, follows it")
                .long_about(RERUN_HELP)
                .after_help(after_help("rerun", RERUN_EXIT_CODES))
                .arg(task_id()),
        )
        .subcommand(verb("hash", "Print the context hash of an image directory").args(image_directory()))
        .subcommand(
            verb("context", "Write the context of an image directory as a .tar.gz, print its hash")
                .args(image_directory()),
        )
        .subcommand(
            verb("lookup", "Say which tasks have these images already, in the central project or in the own one")
                .long_about(LOOKUP_HELP)
                .arg(image_names()),
        )
        .subcommand(
            verb("decide", "Fill in a task graph's images: look them up, add tasks for the missing ones")
                .long_about(DECIDE_HELP)
                .args(decision_arguments()),
        )
        .subcommand(load::arguments(
            verb("load", "Load a task image into the engine, verified on its way").long_about(load::HELP),
        ))
        .subcommand(
            verb("check", "Say whether every consumer can load an image archive").long_about(CHECK_HELP).arg(archive()),
        )
        .subcommand(Command::new("completions").about("Print a completion script").arg(shell))
        .subcommand(Command::new("man").about("Print the manual page"))
}

/// What a verb takes, by the table of settings.
fn taken(verb: &str) -> impl Iterator<Item = &'static Setting> {
    settings::VERBS.iter().filter(move |(of, _)| *of == verb).flat_map(|(_, taken)| taken.iter().copied())
}

/// A verb with its settings' flags.
fn verb(name: &'static str, about: &'static str) -> Command {
    let flags = taken(name).filter(|setting| !setting.secret).map(flag);
    Command::new(name).about(about).after_help(after_help(name, EXIT_CODES)).args(flags)
}

/// What stands below a verb's flags.
fn after_help(verb: &str, exit_codes: &str) -> String {
    let secrets = taken(verb).filter(|setting| setting.secret);
    let secrets: Vec<_> = secrets.map(|setting| format!("  {}  {}\n", setting.variable, setting.help)).collect();
    if secrets.is_empty() {
        return exit_codes.to_owned();
    }
    format!("Secrets, which have variables only:\n{}\n{exit_codes}", secrets.concat())
}

fn image_directory() -> [Arg; 2] {
    let path = Arg::new("path").value_name("PATH").value_parser(value_parser!(PathBuf)).required(true);
    let arg = Arg::new("arg").long("arg").value_name("K=V").action(ArgAction::Append).value_parser(key_value);
    [
        path.help("The image directory"),
        arg.help_heading("The context").help(format!(
            "Value of an `# %ARG` line; can be repeated, wins over [env: {}]",
            settings::DOCKER_BUILD_ARGS.variable
        )),
    ]
}

fn decision_arguments() -> [Arg; 2] {
    let graph = Arg::new("graph").value_name("GRAPH").value_parser(value_parser!(PathBuf)).required(true);
    let value = Arg::new("value").long("value").value_name("NAME=VALUE").action(ArgAction::Append);
    let help = "Value of one of the template's placeholders; can be repeated, wins over --values";
    [
        graph.help("The task graph's file, or - for stdin"),
        value.value_parser(key_value).help(help).help_heading("The decision"),
    ]
}

fn archive() -> Arg {
    Arg::new("file").value_name("FILE").value_parser(value_parser!(PathBuf)).required(true).help("The image archive")
}

fn image_names() -> Arg {
    let names = Arg::new("names").value_name("NAME").action(ArgAction::Append).value_parser(image_name).required(true);
    names.num_args(1..).help("The image, or the path of its directory")
}

/// A name, also where a shell completed it to a path.
fn image_name(typed: &str) -> Result<ImageName, NameError> {
    let path = typed.trim_end_matches('/');
    path.rsplit('/').next().unwrap_or(path).parse()
}

fn task_id() -> Arg {
    Arg::new("task").value_name("TASK_ID").value_parser(pasted_task_id).required(true).help("The task, or its URL")
}

/// A task id, also in the URL of a task's page or log, which is what people have at hand.
fn pasted_task_id(text: &str) -> Result<TaskId, NameError> {
    let after = text.split_once("/tasks/").map_or(text, |(_, after)| after);
    after.split(['/', '?', '#']).next().unwrap_or(after).parse()
}

fn task(matches: &ArgMatches) -> Result<TaskId, clap::Error> {
    let missing = || command().error(clap::error::ErrorKind::MissingRequiredArgument, "which task?");
    matches.get_one("task").cloned().ok_or_else(missing)
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} has no `=`: expected K=V"))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn flag(setting: &'static Setting) -> Arg {
    let mut help = format!("{} [env: {}]", setting.help, setting.variable);
    if let Some(default) = setting.default {
        help = format!("{help} [default: {default}]");
    }
    let arg = Arg::new(setting.name).long(setting.name).help(help).help_heading(setting.group);
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
        "run" => Verb::Run,
        "replay" => Verb::Replay(task(sub)?),
        "rerun" => Verb::Rerun(task(sub)?),
        "hash" => Verb::Hash(directory(sub)),
        "context" => Verb::Context(directory(sub)),
        "lookup" => Verb::Lookup(sub.get_many("names").into_iter().flatten().cloned().collect()),
        "decide" => Verb::Decide(Decision {
            graph: sub.get_one("graph").cloned().unwrap_or_default(),
            values: sub.get_many("value").into_iter().flatten().cloned().collect(),
        }),
        "load" => {
            let missing = || command().error(clap::error::ErrorKind::MissingRequiredArgument, "which image?");
            Verb::Load(load::source(sub).ok_or_else(missing)?)
        }
        "check" => Verb::Check(sub.get_one("file").cloned().unwrap_or_default()),
        "completions" => Verb::Completions(sub.get_one("shell").copied().unwrap_or(Shell::Bash)),
        _ => Verb::Man,
    };
    Ok(Invocation { verb, flags })
}

fn given(matches: &ArgMatches, setting: &Setting) -> Option<String> {
    if setting.is_switch() {
        let on = matches.try_get_one::<bool>(setting.name).ok().flatten();
        on.filter(|on| **on).map(|_| "1".to_owned())
    } else {
        matches.try_get_one::<String>(setting.name).ok().flatten().cloned()
    }
}

fn directory(matches: &ArgMatches) -> ImageDirectory {
    ImageDirectory {
        path: matches.get_one("path").cloned().unwrap_or_default(),
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
        assert_eq!(typed.verb, Verb::Run);
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
    fn arguments_of_an_image_directory_keep_their_order() {
        let typed = typed("image-worker hash a/b --arg X=1 --arg Y=a=b --scheme contents").unwrap();
        let args = [("X", "1"), ("Y", "a=b")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(typed.verb, Verb::Hash(ImageDirectory { path: "a/b".into(), args: args.into() }));
        assert_eq!(typed.flags["scheme"], "contents");
    }

    #[test]
    fn an_image_can_be_named_by_its_directory() {
        let names = |line: &str| typed(line).map(|typed| typed.verb);
        let builder = Verb::Lookup(["builder", "lint"].map(|name| name.parse().unwrap()).into());
        assert_eq!(names("image-worker lookup builder lint").unwrap(), builder);
        assert_eq!(names("image-worker lookup testing/docker/builder/ ./lint//").unwrap(), builder);
        for nameless in ["image-worker lookup", "image-worker lookup /", "image-worker lookup Builder"] {
            assert_eq!(names(nameless).unwrap_err().exit_code(), 2, "{nameless}");
        }
    }

    #[test]
    fn secrets_have_no_flag() {
        assert!(typed("image-worker run --access-token x").is_err());
        let help = typed("image-worker run --help").unwrap_err().to_string();
        assert!(settings::RUN.iter().all(|setting| help.contains(setting.variable)), "each variable is shown: {help}");
        let help = typed("image-worker lookup --help").unwrap_err().to_string();
        assert!(settings::LOOKUP_VERB.iter().all(|setting| help.contains(setting.variable)), "as well: {help}");
        let help = typed("image-worker rerun --help").unwrap_err().to_string();
        assert!(settings::RERUN.iter().all(|setting| help.contains(setting.variable)), "as well: {help}");
        assert!(typed("image-worker run --nonsense").is_err());
        assert!(typed("image-worker hash a --arg X").is_err());
    }
}
