//! The configuration of `run`: reads flags, environment and file into typed values. The environment is read only here, through a
//! look-up function that `cli` passes in; no network, no clock.

mod access;
mod build;
mod builder;
mod cache;
mod container;
mod context;
mod decide;
mod declared;
mod destination;
mod docker;
mod doctor;
mod dry_run;
mod engine;
mod history;
mod image;
mod init;
mod load;
mod logins;
mod lookup;
mod place;
pub mod plan;
mod podman;
mod problems;
mod push;
pub mod replay;
mod reproducible;
pub mod rerun;
mod retry;
mod reuse;
mod setting_layers;
pub mod settings;
mod task_deployment;
mod tree;
mod why;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use access::Credentials;

use crate::config::plan::{ArtifactPlan, ContextPlan, ContextSource, DryRunNames, Plan};
use crate::context::checkout::Checkout;
use crate::context::trees::ContextTrees;
use crate::dockerfile::PARENT_ARG;
use crate::engine::CacheFrom;
use crate::engine::EngineConfig;
use crate::net::NameError;
use crate::net::retry::RetryConfig;
use crate::taskcluster::{ArtifactName, Deployment, Project, PushDate, TaskId};
pub use build::{BuildConfig, Tags};
pub use container::{ContainerConfig, ContainerImage, ContainerSource, TaskSource};
pub use context::of_task as task_context;
pub use decide::DecideConfig;
pub use declared::DeclaredImage;
pub use destination::{DeclaredBy, Destination, Output, Owner};
pub use doctor::{DoctorConfig, Routes, job_of_image};
pub use dry_run::{DryRun, DryRunImage, DryRunParent, ParentFrom};
pub use history::HistoryConfig;
pub use image::{NamedImage, context_file, is_path, out, outside};
pub use init::InitConfig;
pub use load::{ImageSource, LoadConfig, LoadFrom, WantedImage};
pub use lookup::LookupConfig;
pub use place::ImagesDir;
pub use push::{PushConfig, Pushing};
pub use reuse::Reuse;
pub use setting_layers::{ConfigError, SettingLayers, SettingValue, ValueSource};
pub use tree::{TreeConfig, TreeForm};
pub use why::WhyConfig;

/// One invocation of `run`.
#[derive(Debug)]
pub struct Config {
    /// The job.
    pub plan: Plan,
    /// The deployment; a dry run with a local context can do without.
    pub deployment: Option<Deployment>,
    /// Where to look for an engine.
    pub engine: EngineConfig,
    /// The directory for unfinished files. generic-worker names one on a disk; a system's own is often in memory.
    pub work_dir: PathBuf,
    /// The destination of the image.
    pub destination: Destination,
    /// The task whose definition names the destination; none if it is configured otherwise.
    pub declared_by: Option<DeclaredBy>,
    /// The name that the image of the last good step keeps when a step fails.
    pub keep: Option<String>,
    /// Where the build may take steps from.
    pub cache_from: CacheFrom,
    /// The project whose images every project may use.
    pub central: Project,
    /// Which images of the index make a build unnecessary.
    pub reuse: Reuse,
    /// Refuse build arguments that look secret.
    pub deny_secret_args: bool,
    /// Seconds that the task may take.
    pub max_run_time: Option<u64>,
    /// How long and how often to try.
    pub retry: RetryConfig,
    /// When the program began.
    pub started: Timestamp,
    /// Whether no parent is given, neither by a task nor by an image's tree.
    pub assumes_parent: bool,
    /// Values that a dry run assumed, for the log.
    pub assumed: Vec<String>,
}

impl Config {
    /// The directory of unfinished files. If the image is written to a directory, it is on the same disk.
    #[must_use]
    pub fn unfinished(&self) -> &Path {
        self.destination.directory().unwrap_or(&self.work_dir)
    }
}

/// The environment of this run, passed in by `cli`.
pub struct ProcessEnvironment<'a> {
    /// Looks up an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// The current time.
    pub now: Timestamp,
    /// The current directory.
    pub directory: PathBuf,
    /// The system's directory for temporary files.
    pub temporary: PathBuf,
}

/// The task's expiry in a dry run, which has none: taskgraph's own default.
const DRY_RUN_EXPIRY: jiff::SignedDuration = jiff::SignedDuration::from_hours(28 * 24);

impl Config {
    /// Reads the configuration of `run`. The error names all settings that are missing or wrong.
    pub fn read(settings: &SettingLayers, environment: &ProcessEnvironment) -> Result<Self, ConfigError> {
        problems::all(settings, |settings| Self::read_for(settings, environment, None))
    }

    /// Reads the configuration of a dry run of an image directory.
    pub fn read_dry_run(
        settings: &SettingLayers,
        environment: &ProcessEnvironment,
        image: &DryRunImage,
    ) -> Result<Self, ConfigError> {
        problems::all(settings, |settings| Self::read_for(settings, environment, Some(image)))
    }

    fn read_for(
        settings: &SettingLayers,
        environment: &ProcessEnvironment,
        image: Option<&DryRunImage>,
    ) -> Result<Self, ConfigError> {
        let dry = settings.switch(&settings::DRY_RUN)?;
        let mut assumed = Vec::new();
        let args = build_args(settings, image)?;
        let says_parent = args.contains_key(PARENT_ARG);
        let parent = parent(settings, &args)?.or_else(|| image.and_then(DryRunImage::parent_task));
        let context = context::read(settings, environment, image)?;
        let destination = Destination::read(settings, dry)?;
        if let Some(directory) = destination.directory() {
            image::outside(directory, &settings::OUTPUT, &context_trees(&context, image))?;
        }
        let publishes = destination == Destination::Task;
        let reads = parent.is_some() || matches!(context.source, ContextSource::Artifact { .. });
        let mut build = builder::read(settings, environment, args)?;
        build.target_arch = settings.parse(&settings::TARGET_ARCH)?.or(image.and_then(|image| image.arch));
        let needs_deployment = publishes || reads || build.secrets.of_taskcluster().is_some();
        let artifact = artifact(settings, environment, &destination, &mut assumed)?;
        let index_hash = settings.parse(&settings::INDEX_HASH)?;
        let is_hash_known = index_hash.is_some() || image.is_none_or(|image| image.is_hash_known);
        if !is_hash_known && matches!(destination, Destination::DryRun(_)) {
            assumed.push(
                "only the task graph knows the image's packages, or its parent's, which its hash depends on: publish.json has no hash route"
                    .to_owned(),
            );
        }
        let plan = Plan {
            image: match image.and_then(|image| image.name.clone()) {
                Some(name) => settings.parse(&settings::IMAGE_NAME)?.unwrap_or(name),
                None => settings.require(&settings::IMAGE_NAME, "the image has no name")?,
            },
            project: project(settings, image.is_some(), &mut assumed)?,
            task: destination.task(settings, &mut assumed)?,
            pushdate: match destination {
                // Nothing needs it.
                Destination::Payload(_) => pushdate(settings, environment, true, &mut Vec::new())?,
                Destination::Task | Destination::DryRun(_) => pushdate(settings, environment, dry, &mut assumed)?,
            },
            context,
            build,
            parent,
            artifact,
            index: settings.parse_or_default(&settings::INDEX)?,
            index_hash: index_hash.or(image.and_then(|image| image.index_hash)),
            dry_run: dry.then(|| DryRunNames { id: dry_run::unique(environment.now), is_hash_known }),
            reproducible: reproducible::read(settings, environment)?,
        };
        let cache_from = cache::read(settings, &plan, &mut assumed)?;
        let keep = replay::kept(settings, plan.task.as_ref(), plan.dry_run.as_ref())?;
        let engine = EngineConfig::read(settings, environment)?;
        if keep.is_some() && engine.is_managed() {
            return Err(ConfigError::Argument {
                what: "--shell needs an engine that stays: a managed one is gone with its job".to_owned(),
                hint: "name another with --engine",
            });
        }
        Ok(Self {
            declared_by: destination.declared_by(settings, dry)?,
            assumes_parent: dry && !(settings.is_replay() || image.is_some() || says_parent || plan.parent.is_some()),
            plan,
            deployment: deployment(settings, needs_deployment, publishes)?,
            engine,
            work_dir: settings.parse(&settings::WORK_DIR)?.unwrap_or_else(|| environment.temporary.clone()),
            destination,
            keep,
            cache_from,
            central: settings.parse_or_default(&settings::CENTRAL)?,
            reuse: Reuse::read(settings)?,
            deny_secret_args: settings.switch(&settings::DENY_SECRET_ARGS)?,
            max_run_time: settings.parse::<NonZeroU64>(&settings::MAX_RUN_TIME)?.map(NonZeroU64::get),
            retry: retry::read(settings)?,
            started: environment.now,
            assumed,
        })
    }
}

/// The repository that contains `path`: the given root, or the nearest directory above with `.git` or `.hg`.
fn repository_root(settings: &SettingLayers, path: &Path) -> Result<Option<PathBuf>, ConfigError> {
    if let Some(root) = settings.parse::<PathBuf>(&settings::ROOT)? {
        return Ok(Some(root));
    }
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let is_root = |directory: &&Path| directory.join(".git").exists() || directory.join(".hg").exists();
    Ok(absolute.ancestors().find(is_root).map(Path::to_owned))
}

/// The same, for subcommands that look for images in it.
fn required_root(settings: &SettingLayers, path: &Path) -> Result<PathBuf, ConfigError> {
    repository_root(settings, path)?.ok_or_else(|| ConfigError::Argument {
        what: "the current directory is in no checkout".to_owned(),
        hint: "change to one, or give --root DIR (IMAGE_WORKER_ROOT)",
    })
}

/// The deployment of a job, which may do without one where it asks none.
fn deployment(settings: &SettingLayers, is_needed: bool, publishes: bool) -> Result<Option<Deployment>, ConfigError> {
    let credentials = if publishes { Credentials::Required } else { Credentials::Optional };
    if is_needed { access::required(settings, credentials).map(Some) } else { access::optional(settings, credentials) }
}

/// The project of the routes. A dry run of an image directory inserts none: any project does.
fn project(settings: &SettingLayers, is_local: bool, assumed: &mut Vec<String>) -> Result<Project, ConfigError> {
    match settings.parse(&settings::PROJECT)? {
        None if is_local => {
            let central = settings.parse_or_default(&settings::CENTRAL)?;
            assumed.push(format!("PROJECT is not set: publish.json has the routes of {central}"));
            Ok(central)
        }
        given => given.ok_or(ConfigError::Missing { setting: &settings::PROJECT, why: "the routes name the project" }),
    }
}

/// The repository that `path` is in, and where its taskgraph can be.
fn checkout(settings: &SettingLayers, path: &Path) -> Result<Checkout, ConfigError> {
    checkout_at(settings, repository_root(settings, path)?)
}

fn checkout_at(settings: &SettingLayers, root: Option<PathBuf>) -> Result<Checkout, ConfigError> {
    Ok(Checkout::new(root, settings.parse(&settings::RUN_TASK)?, settings.search_path()))
}

/// What the context is made from here, and in a dry run what those of the images below it are.
fn context_trees(context: &ContextPlan, image: Option<&DryRunImage>) -> Vec<ContextTrees> {
    match (image, &context.source) {
        (Some(image), _) => image.context_trees.clone(),
        (None, ContextSource::Directory { checkout, directory, args }) => {
            let scheme = context.scheme.of_directory().unwrap_or_default();
            vec![ContextTrees::of(checkout, directory, args, scheme)]
        }
        (None, _) => Vec::new(),
    }
}

/// The parent. Its name in the engine cannot be configured.
fn parent(settings: &SettingLayers, args: &BTreeMap<String, String>) -> Result<Option<TaskId>, ConfigError> {
    let Some(parent) = settings.parse(&settings::PARENT_TASK_ID)? else { return Ok(None) };
    match settings.get(&settings::DOCKER_BUILD_ARGS)? {
        Some(given) if args.contains_key(PARENT_ARG) => Err(given.wrong(format!(
            "has {PARENT_ARG}, which the image of PARENT_TASK_ID is given to the build as: leave one of them out"
        ))),
        _ => Ok(Some(parent)),
    }
}

/// `DOCKER_BUILD_ARGS`, which also fill in a `Dockerfile`'s `# %ARG` lines.
pub fn dockerfile_args(settings: &SettingLayers) -> Result<BTreeMap<String, String>, ConfigError> {
    match settings.get(&settings::DOCKER_BUILD_ARGS)? {
        // The position only: the error's own text contains the values, and some of them are private.
        Some(given) => serde_json::from_str(&given.text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            given.wrong(format!("is not a JSON object of strings; look at line {line}, column {column}"))
        }),
        None => Ok(BTreeMap::new()),
    }
}

fn build_args(settings: &SettingLayers, image: Option<&DryRunImage>) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut args = image.map_or_else(|| dockerfile_args(settings), |image| Ok(image.build_args()))?;
    // image_builder passes it too, so that Dockerfiles can fetch artifacts while they build.
    if let Some(root_url) = settings.get(&settings::ROOT_URL)? {
        args.entry(settings::ROOT_URL.variable.to_owned()).or_insert(root_url.text);
    }
    Ok(args)
}

fn pushdate(
    settings: &SettingLayers,
    environment: &ProcessEnvironment,
    dry: bool,
    assumed: &mut Vec<String>,
) -> Result<PushDate, ConfigError> {
    match settings.parse(&settings::PUSHDATE)? {
        Some(pushdate) => Ok(pushdate),
        None if dry => {
            let now = environment.now.as_second().to_string();
            let now: PushDate = now.parse().map_err(|error: NameError| ConfigError::Combination(error.to_string()))?;
            assumed.push(format!("PUSHDATE is not set: it is taken for now, {now}"));
            Ok(now)
        }
        None => Err(ConfigError::Missing { setting: &settings::PUSHDATE, why: "it ranks the image in the index" }),
    }
}

/// A time in RFC 3339.
fn time(given: &SettingValue) -> Result<Timestamp, ConfigError> {
    let wrong = |_| given.wrong(format!("{:?} is not a time: expected one like 2027-01-31T12:00:00Z", given.text));
    given.text.parse().map_err(wrong)
}

fn artifact(
    settings: &SettingLayers,
    environment: &ProcessEnvironment,
    destination: &Destination,
    assumed: &mut Vec<String>,
) -> Result<ArtifactPlan, ConfigError> {
    let name: ArtifactName = match settings.get(&settings::ARTIFACT_NAME)? {
        None => destination.artifact_name(settings)?,
        Some(given) => {
            let name: ArtifactName = given.parse()?;
            if !(name.is_tar() || name.is_zstd()) {
                return Err(given.wrong(format!("{name} ends neither in .tar nor in .tar.zst")));
            }
            name
        }
    };
    let level: i32 = settings.parse_or_default(&settings::ZSTD_LEVEL)?;
    if !(1..=19).contains(&level) {
        let given = settings.get(&settings::ZSTD_LEVEL)?;
        let why = format!("{level} is not a zstd level: expected 1 to 19");
        return Err(given.map_or(ConfigError::Combination(why.clone()), |given| given.wrong(why)));
    }
    let mut expires = settings.get(&settings::ARTIFACT_EXPIRES)?.map(|given| time(&given)).transpose()?;
    if let Some(past) = expires.filter(|expires| *expires <= environment.now) {
        let why = format!("{past} is past: the artifact would be gone before anybody reads it");
        let given = settings.get(&settings::ARTIFACT_EXPIRES)?;
        return Err(given.map_or(ConfigError::Combination(why.clone()), |given| given.wrong(why)));
    }
    if matches!(destination, Destination::DryRun(_)) && expires.is_none() {
        let assumption = environment.now + DRY_RUN_EXPIRY;
        assumed.push(format!(
            "ARTIFACT_EXPIRES is not set: publish.json takes {assumption:.0}, a task would take its own"
        ));
        expires = Some(assumption);
    }
    let zstd_level = name.is_zstd().then_some(level);
    // Whole milliseconds, as all of Taskcluster writes times; repeated calls must send the same.
    let expires = expires.and_then(|time| Timestamp::from_millisecond(time.as_millisecond()).ok());
    let storage = settings.parse_or_default(&settings::ARTIFACT_STORAGE)?;
    Ok(ArtifactPlan { name, expires, storage, zstd_level, export: settings.parse_or_default(&settings::EXPORT)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_build_arguments_are_not_printed() {
        for text in [r#""{\"TOKEN\":\"secret\"}""#, r#"{"TOKEN":["secret"]}"#, r#"{"TOKEN":"secret"#] {
            let environment = |name: &str| (name == "DOCKER_BUILD_ARGS").then(|| OsString::from(text));
            let settings = SettingLayers::new(BTreeMap::new(), &environment).unwrap();
            let error = dockerfile_args(&settings).unwrap_err().to_string();
            assert!(error.starts_with("DOCKER_BUILD_ARGS: ") && !error.contains("secret"), "{error}");
        }
    }
}
