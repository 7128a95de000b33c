//! What each subcommand takes from the flags, the environment and the place that the program runs in, and how its answer
//! looks on stdout. What the subcommand does is in `commands`.

use std::io::{self, IsTerminal, Write as _};
use std::num::NonZeroU64;
use std::path::Path;
use std::time::Duration;

use super::arguments::{self, ImageArgument, Invocation, Verb};
use crate::commands::rerun::Next;
use crate::commands::run::Outcome;
use crate::commands::stop::Shutdown;
use crate::commands::{self, Failed, image_names};
use crate::config::rerun::Rerun;
use crate::config::{
    BuildConfig, Config, ConfigError, DecideConfig, DryRun, ImageSource, LoadConfig, LookupConfig, NamedImage,
    ProcessEnvironment, PushConfig, SettingLayers, TreeConfig, settings,
};
use crate::report::Report;
use crate::taskcluster::TaskId;
use crate::{config, engine};

/// Threads of a stopped job that still wait for bytes are left to the exit after this time.
const THREADS_MAY_TAKE: Duration = Duration::from_secs(2);

/// Runs a verb; gives what goes to stdout.
pub(super) fn execute(invocation: &Invocation, sources: &SettingLayers, report: &Report) -> Result<String, Failed> {
    let json = sources.switch(&settings::JSON)?;
    match &invocation.verb {
        Verb::Run(image) => run(image, sources, json, report),
        Verb::Replay(task) => replay(task, sources, json, report),
        Verb::Rerun(task) => rerun(task, sources, json),
        Verb::Hash(image) => hash(image, sources, json),
        Verb::Context(image) => context(image, sources, json),
        Verb::Lookup(names) => lookup(names, sources, json),
        Verb::Decide(decision) => decide(decision, sources, json),
        Verb::Build(names) => build(names, sources, json, report),
        Verb::Push(name) => push(name, sources, json),
        Verb::Tree => tree(sources),
        Verb::Load(source) => load(source, sources, json, report),
        Verb::Check { file, other: None } => check(file, json),
        Verb::Check { file, other: Some(other) } => compare(file, other, json),
        Verb::Keep(keeping) => {
            in_runtime(async { Ok(engine::supervise(keeping.clone()).await?) })?;
            Ok(String::new())
        }
        Verb::Completions(shell) => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut arguments::command(), "image-worker", &mut script);
            Ok(String::from_utf8_lossy(&script).into_owned())
        }
        Verb::Man => {
            let mut page = Vec::new();
            let written = clap_mangen::Man::new(arguments::command()).render(&mut page);
            written.map_err(|source| Failed::Write { path: "the manual page".into(), source })?;
            Ok(String::from_utf8_lossy(&page).into_owned())
        }
    }
}

/// The moment and the place that the program runs in.
fn surroundings() -> ProcessEnvironment<'static> {
    ProcessEnvironment {
        environment: &|name| std::env::var_os(name),
        now: jiff::Timestamp::now(),
        directory: std::env::current_dir().unwrap_or_default(),
        temporary: std::env::temp_dir(),
    }
}

/// Does work that waits for the network or an engine.
fn in_runtime<T>(work: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failed::Bug(format!("no runtime: {error}")))?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_timeout(THREADS_MAY_TAKE);
    outcome
}

fn run(image: &ImageArgument, sources: &SettingLayers, json: bool, report: &Report) -> Result<String, Failed> {
    let around = surroundings();
    let image = DryRun::read(sources, &around, image.image.as_deref(), &image.args)?;
    let outcome = in_runtime(async {
        let stop = Shutdown::listen(sources.parse::<NonZeroU64>(&settings::MAX_RUN_TIME)?.map(NonZeroU64::get))?;
        match image {
            Some(image) => commands::dry_run::dry_run(image, sources, &around, &stop, report).await,
            None => commands::run::run(Config::read(sources, &around)?, &stop, report).await,
        }
    })?;
    tell(&outcome, json)
}

fn replay(task: &TaskId, sources: &SettingLayers, json: bool, report: &Report) -> Result<String, Failed> {
    let outcome = in_runtime(async {
        let stop = Shutdown::listen(sources.parse::<NonZeroU64>(&settings::MAX_RUN_TIME)?.map(NonZeroU64::get))?;
        commands::replay::replay(task, sources, &surroundings(), &stop, report).await
    })?;
    tell(&outcome, json)
}

fn rerun(task: &TaskId, sources: &SettingLayers, json: bool) -> Result<String, Failed> {
    let config = Rerun::read(sources)?;
    // Nothing is under way that a signal could hurt.
    let prospect = in_runtime(commands::rerun::look(task, &config, sources, &surroundings()))?;
    prospect.tell();
    if json {
        super::process::say(&format!("{}\n", prospect.to_json()))?;
    }
    let next = prospect.next(&config)?;
    let go = match next {
        Next::Ask => config.yes || confirmed("Rerun?")?,
        Next::Follow => true,
        Next::Done => false,
    };
    let run = if go {
        Some(in_runtime(async {
            let stop = Shutdown::listen(None)?;
            commands::rerun::rerun(&prospect, next, &config, &stop).await
        })?)
    } else {
        prospect.last_run().cloned()
    };
    Ok(match run {
        Some(run) => answer(json, &serde_json::json!(run), &format!("{task} {} {}", run.run_id, run.state)),
        None => String::new(),
    })
}

/// Asks somebody at the terminal.
fn confirmed(question: &str) -> Result<bool, Failed> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        let why = "this is not a terminal, so nobody can be asked; pass --yes";
        return Err(ConfigError::Missing { setting: &settings::YES, why }.into());
    }
    // A question that nobody can read is answered with no.
    let _ = write!(io::stderr(), "{question} [y/N] ");
    let mut line = String::new();
    let read = io::stdin().read_line(&mut line);
    read.map_err(|source| Failed::Bug(format!("the terminal's answer cannot be read: {source}")))?;
    Ok(matches!(line.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// The answer of a job.
fn tell(outcome: &Outcome, json: bool) -> Result<String, Failed> {
    tracing::info!("{}", outcome.story);
    let value = serde_json::to_value(outcome).map_err(|error| Failed::Bug(error.to_string()))?;
    Ok(answer(json, &value, &outcome.identity.tag))
}

fn hash(image: &ImageArgument, sources: &SettingLayers, json: bool) -> Result<String, Failed> {
    let image = named_image(image, sources)?;
    let out = config::out(sources)?;
    let hash = commands::hash::hash(&image, out.as_deref())?;
    Ok(answer(json, &serde_json::json!({ "hash": hash, "scheme": image.scheme }), &hash.to_string()))
}

fn context(image: &ImageArgument, sources: &SettingLayers, json: bool) -> Result<String, Failed> {
    let image = named_image(image, sources)?;
    let Some(out) = config::context_file(sources)? else {
        let files = commands::context::list(&image)?;
        let lines: Vec<_> = files.iter().map(ToString::to_string).collect();
        return Ok(answer(json, &serde_json::json!({ "files": files }), &lines.join("\n")));
    };
    let hash = commands::context::context(&image, &out)?;
    Ok(answer(json, &serde_json::json!({ "hash": hash, "file": out }), &hash.to_string()))
}

/// The image that `hash` and `context` are about.
fn named_image(image: &ImageArgument, sources: &SettingLayers) -> Result<NamedImage, ConfigError> {
    let scheme = sources.parse_or_default(&settings::SCHEME)?;
    NamedImage::read(sources, &surroundings(), image.image.as_deref().unwrap_or_default(), &image.args, scheme)
}

fn lookup(typed: &[String], sources: &SettingLayers, json: bool) -> Result<String, Failed> {
    let around = surroundings();
    let config = LookupConfig::read(sources, &around)?;
    let names = &image_names(typed, &config.place, &around.directory)?;
    let answers = in_runtime(async {
        let stop = Shutdown::listen(None)?;
        commands::lookup::lookup(config, names, &stop).await
    })?;
    let value = serde_json::to_value(&answers).map_err(|error| Failed::Bug(error.to_string()))?;
    let lines: Vec<_> = answers.iter().map(ToString::to_string).collect();
    Ok(answer(json, &value, &lines.join("\n")))
}

fn build(typed: &[String], sources: &SettingLayers, json: bool, report: &Report) -> Result<String, Failed> {
    let config = BuildConfig::read(sources, &surroundings())?;
    let names = &image_names(typed, &config.place, &config.directory)?;
    let images = in_runtime(async {
        let stop = Shutdown::listen(None)?;
        commands::build::build(config, names, &stop, report).await
    })?;
    let value = serde_json::to_value(&images).map_err(|error| Failed::Bug(error.to_string()))?;
    let asked_for = names.iter().filter_map(|name| images.iter().find(|image| image.name == *name));
    let lines: Vec<_> = asked_for.map(ToString::to_string).collect();
    Ok(answer(json, &value, &lines.join("\n")))
}

fn push(typed: &str, sources: &SettingLayers, json: bool) -> Result<String, Failed> {
    let around = surroundings();
    let config = PushConfig::read(sources, &around)?;
    let names = image_names(&[typed.to_owned()], &config.place, &around.directory)?;
    let [name] = names.as_slice() else { return Err(Failed::Bug(format!("{typed} is not one image"))) };
    let pushed = in_runtime(async {
        let stop = Shutdown::listen(None)?;
        commands::push::push(config, name, &stop).await
    })?;
    let value = serde_json::to_value(&pushed).map_err(|error| Failed::Bug(error.to_string()))?;
    Ok(answer(json, &value, &pushed.digest))
}

fn decide(decision: &arguments::Decision, sources: &SettingLayers, json: bool) -> Result<String, Failed> {
    let config = DecideConfig::read(sources, &decision.values, &surroundings())?;
    let unreadable = |source| Failed::Read { path: decision.graph.clone(), source };
    let (name, text) = if decision.graph.as_os_str() == "-" {
        ("stdin".to_owned(), std::io::read_to_string(std::io::stdin()).map_err(unreadable)?)
    } else {
        let text = std::fs::read_to_string(&decision.graph).map_err(unreadable)?;
        (decision.graph.display().to_string(), text)
    };
    let decided = in_runtime(async {
        let stop = Shutdown::listen(None)?;
        commands::decide::decide(config, name, text, &stop).await
    })?;
    let bug = |error: serde_json::Error| Failed::Bug(error.to_string());
    match &decided.graph {
        _ if json => Ok(format!("{}\n", serde_json::to_string(&decided).map_err(bug)?)),
        Some(graph) => Ok(format!("{}\n", serde_json::to_string_pretty(graph).map_err(bug)?)),
        None => {
            let lines: Vec<_> = decided.images.iter().map(|image| format!("{} {}\n", image.name, image.task)).collect();
            Ok(lines.concat())
        }
    }
}

fn tree(sources: &SettingLayers) -> Result<String, Failed> {
    let shown = commands::tree::tree(&TreeConfig::read(sources, &surroundings())?)?;
    match shown.problems {
        None => Ok(shown.answer),
        Some(problems) => {
            super::process::say(&shown.answer)?;
            Err(problems)
        }
    }
}

fn load(source: &ImageSource, sources: &SettingLayers, json: bool, report: &Report) -> Result<String, Failed> {
    let config = LoadConfig::read(sources, &surroundings(), source)?;
    let loaded = in_runtime(async {
        let stop = Shutdown::listen(None)?;
        commands::load::load(config, &stop, report).await
    })?;
    tracing::info!("{loaded}");
    let value = serde_json::to_value(&loaded).map_err(|error| Failed::Bug(error.to_string()))?;
    Ok(answer(json, &value, loaded.tag.as_str()))
}

fn check(file: &Path, json: bool) -> Result<String, Failed> {
    let verdict = commands::check::check(file)?;
    let value = serde_json::to_value(&verdict.checked).map_err(|error| Failed::Bug(error.to_string()))?;
    let answer = answer(json, &value, &verdict.to_string());
    match verdict.fault() {
        None => Ok(answer),
        Some(what) => {
            super::process::say(&answer)?;
            Err(Failed::Findings(what))
        }
    }
}

fn compare(file: &Path, other: &Path, json: bool) -> Result<String, Failed> {
    let comparison = commands::check::compare(file, other, &surroundings().temporary)?;
    let value = serde_json::to_value(&comparison).map_err(|error| Failed::Bug(error.to_string()))?;
    let answer = answer(json, &value, &comparison.to_string());
    if comparison.identical {
        return Ok(answer);
    }
    super::process::say(&answer)?;
    let (file, other) = (file.display(), other.display());
    Err(Failed::Findings(format!("{file} and {other} are not the same image: {}", comparison.summary())))
}

fn answer(json: bool, value: &serde_json::Value, text: &str) -> String {
    if json { format!("{value}\n") } else { format!("{text}\n") }
}
