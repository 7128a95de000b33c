//! Completion: what can stand next on a command line that somebody types. The scripts of `completions` ask for it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Arg, Command, ValueHint};
use clap_complete::CompletionCandidate;
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter, PathCompleter, ValueCompleter as _};
use clap_complete::env::Shells;

use super::arguments;
use crate::commands::COMPLETE_VARIABLE;
use crate::config::plan::ExportChoice;
use crate::config::{ImagesDir, ParentFrom, SettingLayers, settings};
use crate::context::ContextScheme;
use crate::engine::{BuilderChoice, CacheFrom, EngineChoice, TargetArch};
use crate::report::LogFormat;
use crate::repository::Tree;

/// Answers a shell that asks; none where no shell does.
pub(super) fn answer(words: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let shell = std::env::var_os(COMPLETE_VARIABLE).filter(|shell| !shell.is_empty())?;
    let shells = Shells::builtins();
    let completer = shells.completer(shell.to_str()?)?;
    // The scripts put it there: a variable in a task's environment alone is no shell that asks.
    let mut words = words.skip(1);
    words.next().filter(|word| word == "--")?;
    let words: Vec<_> = words.collect();
    let mut command = with_candidates(arguments::command());
    let directory = std::env::current_dir().ok();
    let mut candidates = Vec::new();
    let done = completer.write_complete(&mut command, words, directory.as_deref(), &mut candidates);
    // Nobody reads an error here: the shell completes nothing then.
    let printed = done.and_then(|()| std::io::stdout().write_all(&candidates));
    Some(if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The command line with what its values can be.
fn with_candidates(command: Command) -> Command {
    // A name of `init` is a new one.
    let is_new = command.get_name() == "init";
    let command = command.mut_args(|arg| candidates(arg, is_new));
    command.mut_subcommands(with_candidates)
}

fn candidates(arg: Arg, is_new: bool) -> Arg {
    if let Some(words) = words(arg.get_id().as_str()) {
        return arg.value_parser(PossibleValuesParser::new(words));
    }
    let value_name = arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string).unwrap_or_default();
    let parts: Vec<_> = value_name.split('|').collect();
    let is_image = parts.contains(&"NAME") && (arg.is_positional() || parts.len() > 1) && !is_new;
    match arg.get_id().as_str() {
        "image-name" => arg.add(ArgValueCandidates::new(images)),
        "project" | "central" => arg.add(ArgValueCandidates::new(projects)),
        _ if is_image && parts.contains(&"FILE") => {
            arg.add(ArgValueCompleter::new(|typed: &OsStr| image(typed, &PathCompleter::any())))
        }
        _ if is_image => arg.add(ArgValueCompleter::new(|typed: &OsStr| image(typed, &PathCompleter::dir()))),
        _ if parts.contains(&"FILE") => arg.value_hint(ValueHint::FilePath),
        _ if parts.contains(&"DIR") => arg.value_hint(ValueHint::DirPath),
        _ => arg,
    }
}

/// The words that a setting takes, if it takes only these.
fn words(setting: &str) -> Option<&'static [&'static str]> {
    Some(match setting {
        "engine" => EngineChoice::WORDS,
        "builder" => BuilderChoice::WORDS,
        "hash-scheme" => ContextScheme::WORDS,
        "cache-from" => CacheFrom::WORDS,
        "log-format" => LogFormat::WORDS,
        "target-arch" => TargetArch::WORDS,
        "export" => ExportChoice::WORDS,
        "parent" => ParentFrom::WORDS,
        _ => return None,
    })
}

/// The images whose names begin like this, and paths.
fn image(typed: &OsStr, paths: &PathCompleter) -> Vec<CompletionCandidate> {
    let text = typed.to_string_lossy();
    let named = images().into_iter().filter(|it| it.get_value().to_string_lossy().starts_with(&*text));
    let mut all: Vec<_> = named.collect();
    // Without a `/` nearly all that is meant is a name; paths would be in its way.
    if all.is_empty() || text.contains('/') {
        all.extend(paths.complete(typed));
    }
    all
}

/// The images of the checkout; none where there is no checkout, or no list of them that can be read.
fn images() -> Vec<CompletionCandidate> {
    let environment = |name: &str| std::env::var_os(name);
    let find = || {
        let settings = SettingLayers::new(BTreeMap::new(), &environment).ok()?;
        let place = ImagesDir::find(&settings, &std::env::current_dir().ok()?).ok()??;
        Tree::open(&place).ok()
    };
    find().iter().flat_map(Tree::names).map(|name| CompletionCandidate::new(name.as_str())).collect()
}

/// The configured projects.
fn projects() -> Vec<CompletionCandidate> {
    let environment = |name: &str| std::env::var_os(name);
    let Ok(settings) = SettingLayers::new(BTreeMap::new(), &environment) else { return Vec::new() };
    let of = |setting: &'static settings::Setting| {
        let given = settings.get(setting).ok().flatten().map(|given| given.text);
        given.or(setting.default.map(str::to_owned))
    };
    let mut projects: Vec<_> = [of(&settings::PROJECT), of(&settings::CENTRAL)].into_iter().flatten().collect();
    projects.dedup();
    projects.into_iter().map(CompletionCandidate::new).collect()
}
