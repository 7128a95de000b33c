//! image-worker builds Docker images inside Taskcluster tasks.
//!
//! The map of the house; imports go down only (docs/architecture.md):
//!
//! - [`names`], [`secrets`], [`retry`], [`stream`]: words and pipes, below everything.
//! - [`report`], [`build_log`]: the story on stderr: log lines, progress, the error line; a build's output.
//! - [`plan`], [`config`], [`task`]: what is to be done, as values; read from an environment, written into a task.
//! - [`context`], [`image_archive`]: what goes into a build and what comes out, as bytes.
//! - [`taskcluster`], [`transfer`], [`fetch`], [`engine`], [`publish`]: the outside world.
//! - [`commands`]: each verb's story; [`cli`]: the command line.
//!
//! [`main`] is the door: the only place that touches the real environment, clock, stdout and exit code.

pub mod build_log;
pub mod cli;
pub mod commands;
pub mod config;
pub mod context;
pub mod disk;
pub mod engine;
pub mod fetch;
pub mod image_archive;
pub mod names;
pub mod plan;
pub mod publish;
pub mod report;
pub mod retry;
pub mod scratch;
pub mod secrets;
pub mod stream;
pub mod task;
pub mod taskcluster;
pub mod transfer;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use cli::{ImageDirectory, Invocation, Verb};
use commands::stop::Stop;
use commands::{CONFIGURATION, Failed};
use config::{Config, ConfigError, Sources, Surroundings, settings};
use names::HashScheme;
use report::{LogFormat, Report};

/// Threads of a stopped job that still wait for bytes are left to the exit after this time.
const THREADS_MAY_TAKE: Duration = Duration::from_secs(2);

/// Parses, runs, reports, and gives the exit code.
#[must_use]
pub fn main() -> ExitCode {
    // A panic is a bug, and a failure like others: one error line, and the exit code that says so.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
        let what = panic.payload_as_str().unwrap_or("a panic").to_owned() + &place;
        eprintln!("{}", report::error_line(&Failed::Bug(what).line()));
        hook(panic);
    }));
    std::panic::catch_unwind(run_verb).unwrap_or_else(|_| ExitCode::from(Failed::Bug(String::new()).exit_code()))
}

fn run_verb() -> ExitCode {
    let invocation = match cli::parse(std::env::args_os()) {
        Ok(invocation) => invocation,
        Err(error) => return usage(&error),
    };
    let environment = |name: &str| std::env::var_os(name);
    let color = environment("NO_COLOR").is_none_or(|value| value.is_empty());
    // Errors in the settings of the report itself are told by a plain one.
    let plain = || Report::install(LogFormat::Text, false, color);
    let sources = match Sources::new(invocation.flags.clone(), &environment) {
        Ok(sources) => sources,
        Err(error) => return failed(&plain(), &error.into()),
    };
    let report = match log_settings(&sources) {
        Ok((format, verbose)) => Report::install(format, verbose, color),
        Err(error) => return failed(&plain(), &error.into()),
    };
    match execute(&invocation, &sources, &report) {
        Ok(answer) => match io::stdout().write_all(answer.as_bytes()).and_then(|()| io::stdout().flush()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(source) => failed(&report, &Failed::Write { path: "stdout".into(), source }),
        },
        Err(error) => failed(&report, &error),
    }
}

fn failed(report: &Report, error: &Failed) -> ExitCode {
    error.tell(report);
    ExitCode::from(error.exit_code())
}

/// Help and version are answers; anything else gets the error line besides clap's own words.
fn usage(error: &clap::Error) -> ExitCode {
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        let what = format!("{CONFIGURATION}: wrong usage: no verb is given; see image-worker --help");
        eprintln!("{}", report::error_line(&what));
    } else if error.use_stderr() {
        let words = error.to_string();
        // What is wrong stands before the first empty line, in one line or several.
        let (what, more) = words.split_once("\n\n").unwrap_or((&words, ""));
        let what = what.trim_start_matches("error: ");
        let what = format!("{CONFIGURATION}: wrong usage: {what}; see image-worker --help");
        eprintln!("{}", report::error_line(&what));
        // Set in, so that Treeherder does not take clap's lines for errors of their own.
        more.lines().filter(|line| !line.is_empty()).for_each(|line| eprintln!("  {}", line.trim_start()));
    } else {
        // A closed pipe is no reason to fail here.
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn log_settings(sources: &Sources) -> Result<(LogFormat, bool), ConfigError> {
    Ok((sources.parse_or_default(&settings::LOG_FORMAT)?, sources.switch(&settings::VERBOSE)?))
}

/// Runs a verb; gives what goes to stdout.
fn execute(invocation: &Invocation, sources: &Sources, report: &Report) -> Result<String, Failed> {
    let json = sources.switch(&settings::JSON)?;
    match &invocation.verb {
        Verb::Run => {
            let around = Surroundings {
                environment: &|name| std::env::var_os(name),
                now: jiff::Timestamp::now(),
                directory: std::env::current_dir().unwrap_or_default(),
                temporary: std::env::temp_dir(),
            };
            let config = Config::read(sources, &around)?;
            run(config, json, report)
        }
        Verb::Hash(image) => {
            let (root, args) = directory_settings(image, sources)?;
            let scheme: HashScheme = sources.parse_or_default(&settings::SCHEME)?;
            let hash = commands::hash::hash(&root, &absolute(&image.path), scheme, &args)?;
            if let Some(out) = sources.parse::<PathBuf>(&settings::OUT)? {
                std::fs::write(&out, format!("{hash}\n")).map_err(|source| Failed::Write { path: out, source })?;
            }
            Ok(answer(json, &serde_json::json!({ "hash": hash, "scheme": scheme }), &hash.to_string()))
        }
        Verb::Context(image) => {
            let (root, args) = directory_settings(image, sources)?;
            let out: PathBuf = sources.require(&settings::OUT, "the context needs a place")?;
            let scheme: HashScheme = sources.parse_or_default(&settings::SCHEME)?;
            let hash = commands::context::context(&root, &absolute(&image.path), scheme, &args, &out)?;
            Ok(answer(json, &serde_json::json!({ "hash": hash, "file": out }), &hash.to_string()))
        }
        Verb::Completions(shell) => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut cli::command(), "image-worker", &mut script);
            Ok(String::from_utf8_lossy(&script).into_owned())
        }
        Verb::Man => {
            let mut page = Vec::new();
            let written = clap_mangen::Man::new(cli::command()).render(&mut page);
            written.map_err(|source| Failed::Write { path: "the manual page".into(), source })?;
            Ok(String::from_utf8_lossy(&page).into_owned())
        }
    }
}

fn run(config: Config, json: bool, report: &Report) -> Result<String, Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failed::Bug(format!("no runtime: {error}")))?;
    let outcome = runtime.block_on(async {
        let stop = Stop::listen(config.max_run_time)?;
        commands::run::run(config, &stop, report).await
    });
    runtime.shutdown_timeout(THREADS_MAY_TAKE);
    let outcome = outcome?;
    tracing::info!("{}", outcome.story);
    let value = serde_json::to_value(&outcome).map_err(|error| Failed::Bug(error.to_string()))?;
    Ok(answer(json, &value, &outcome.identity.tag))
}

fn answer(json: bool, value: &serde_json::Value, text: &str) -> String {
    if json { format!("{value}\n") } else { format!("{text}\n") }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The repository's root and the preprocessing arguments of an image directory.
fn directory_settings(
    image: &ImageDirectory,
    sources: &Sources,
) -> Result<(PathBuf, BTreeMap<String, String>), ConfigError> {
    let mut args = config::dockerfile_args(sources)?;
    args.extend(image.args.iter().cloned());
    Ok((config::repository_root(sources, &image.path)?, args))
}
