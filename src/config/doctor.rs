//! The configuration of `doctor`: what each check needs, read apart from the others, so that a mistake in one does not hide what is
//! wrong with another. `job::doctor` does the checks.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::access::Credentials;
use super::replay::Job;
use super::{Config, ConfigError, ImagesDir, ProcessEnvironment, SettingLayers, access, settings};
use crate::context::{ContextHash, HashScheme, ImageName};
use crate::engine::{BuilderChoice, EngineConfig};
use crate::net::retry::RetryConfig;
use crate::taskcluster::{Deployment, IndexPrefix, Project, TaskId};

/// How long a service may take. Real calls take well under a second, and nobody waits for a second attempt to learn that the first
/// one failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// One invocation of `doctor`.
#[derive(Debug)]
pub struct DoctorConfig {
    /// With `--task`, the job that `run` would do with this environment.
    pub job: Option<Result<Config, ConfigError>>,
    /// Where to look for an engine.
    pub engine: Result<EngineConfig, ConfigError>,
    /// The wanted builder.
    pub builder: Result<BuilderChoice, ConfigError>,
    /// The deployment, if one is configured; it is called once, and not waited for.
    pub deployment: Result<Option<Deployment>, ConfigError>,
    /// The routes of images.
    pub routes: Result<Routes, ConfigError>,
    /// The images of the checkout, outside of a task.
    pub place: Result<Option<ImagesDir>, ConfigError>,
    /// How contexts are hashed.
    pub scheme: HashScheme,
    /// The directory for unfinished files.
    pub work_dir: Result<PathBuf, ConfigError>,
    /// The current directory.
    pub directory: PathBuf,
    /// When the program began.
    pub now: Timestamp,
}

/// Where images are in the index.
#[derive(Clone, Debug)]
pub struct Routes {
    /// The prefix of all routes.
    pub index: IndexPrefix,
    /// The project that the user works for, or else the central one.
    pub project: Project,
}

impl DoctorConfig {
    /// Reads what can be read. `is_task` is whether to look at the environment of `run`.
    #[must_use]
    pub fn read(settings: &SettingLayers, environment: &ProcessEnvironment, is_task: bool) -> Self {
        // What publishing needs is an error of the job.
        let deployment = access::optional(settings, Credentials::Optional);
        let deployment = deployment.map(|it| it.map(|it| Deployment { retry: once(it.retry), ..it }));
        let work_dir = settings.parse(&settings::WORK_DIR);
        let place = if is_task { Ok(None) } else { ImagesDir::find(settings, &environment.directory) };
        // A wrong scheme is an error of the job.
        let scheme = settings.parse_or_default(&settings::HASH_SCHEME).unwrap_or_default();
        Self {
            job: is_task.then(|| Config::read(settings, environment)),
            engine: EngineConfig::read(settings, environment),
            builder: settings.parse_or_default(&settings::BUILDER),
            deployment,
            routes: Routes::read(settings),
            place,
            scheme,
            work_dir: work_dir.map(|given| given.unwrap_or_else(|| environment.temporary.clone())),
            directory: environment.directory.clone(),
            now: environment.now,
        }
    }
}

impl Routes {
    fn read(settings: &SettingLayers) -> Result<Self, ConfigError> {
        let project = match settings.parse(&settings::PROJECT)? {
            Some(project) => project,
            None => settings.parse_or_default(&settings::CENTRAL)?,
        };
        Ok(Self { index: settings.parse_or_default(&settings::INDEX)?, project })
    }
}

/// A single attempt.
fn once(retry: RetryConfig) -> RetryConfig {
    let shorter = |time: Duration| time.min(CALL_TIMEOUT);
    RetryConfig { attempts: Some(1), call_timeout: shorter(retry.call_timeout), silence: shorter(retry.silence) }
}

/// The job that a task of this image would do, as far as its scopes depend on it. Nothing runs it: there is no such task.
pub fn job_of_image(
    settings: &SettingLayers,
    environment: &ProcessEnvironment,
    routes: &Routes,
    image: &ImageName,
    hash: ContextHash,
) -> Result<Config, ConfigError> {
    let task = &TaskId::derived(&["doctor"]);
    let env = json!({
        "IMAGE_NAME": image,
        "PROJECT": routes.project,
        "INDEX": routes.index,
        "HASH": hash,
        "PUSHDATE": environment.now.as_second().to_string(),
        "CONTEXT_TASK_ID": task,
        "CONTEXT_PATH": format!("public/docker-contexts/{image}.tar.gz"),
    });
    let mut job = Job::read(task, &json!({ "payload": { "env": env } }))?;
    job.set(&settings::RUN_ID, "0");
    Config::read(&settings.of(&job), environment)
}
