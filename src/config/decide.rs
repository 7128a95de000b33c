//! The configuration of `decide`, read from flags, environment and file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;

use super::access::Credentials;
use super::{
    ConfigError, Destination, ImagesDir, ProcessEnvironment, SettingLayers, SettingValue, access, artifact, pushdate,
};
use super::{problems, settings};
use crate::config::plan::ArtifactPlan;
use crate::net::NameError;
use crate::taskcluster::{Deployment, IndexPrefix, Project, PushDate, TaskId, TimeSpan};

/// One invocation of `decide`.
#[derive(Debug)]
pub struct DecideConfig {
    /// Where the images are.
    pub place: ImagesDir,
    /// The project whose images every project may use.
    pub central: Project,
    /// The project that new images are indexed for.
    pub project: Project,
    /// Prefix of the routes.
    pub index: IndexPrefix,
    /// The deployment; none with `--offline`.
    pub deployment: Option<Deployment>,
    /// The decision task, which has the contexts.
    pub decision_task: TaskId,
    /// The push.
    pub pushdate: PushDate,
    /// The artifacts of new images.
    pub artifact: ArtifactPlan,
    /// The template of image tasks; the built-in one if absent.
    pub template: Option<PathBuf>,
    /// Values for the template's placeholders.
    pub given: BTreeMap<String, String>,
    /// Images that expire within this time get a task for later pushes.
    pub renew_within: Option<TimeSpan>,
    /// Images that get a task although the index has them, as typed: names, or paths of their directories.
    pub rebuild: Vec<String>,
    /// Where contexts are written.
    pub contexts: PathBuf,
    /// Where the graph is written; absent, it is the answer.
    pub out: Option<PathBuf>,
    /// The current time.
    pub now: Timestamp,
    /// Assumed values, for the log.
    pub assumed: Vec<String>,
}

/// Stands for a missing project in an offline graph.
const NO_PROJECT: &str = "UNKNOWN-project";

impl DecideConfig {
    /// Reads the configuration of `decide`; `values` are those of the command line, which win over the setting's. The error names
    /// all settings that are missing or wrong.
    pub fn read(
        settings: &SettingLayers,
        values: &[(String, String)],
        environment: &ProcessEnvironment,
    ) -> Result<Self, ConfigError> {
        problems::all(settings, |settings| Self::read_once(settings, values, environment))
    }

    fn read_once(
        settings: &SettingLayers,
        values: &[(String, String)],
        environment: &ProcessEnvironment,
    ) -> Result<Self, ConfigError> {
        let offline = settings.switch(&settings::OFFLINE)?;
        let mut assumed = Vec::new();
        let mut given: BTreeMap<_, _> = match settings.get(&settings::VALUES)? {
            Some(given) => object(&given)?,
            None => BTreeMap::new(),
        };
        given.extend(values.iter().cloned());
        Ok(Self {
            place: ImagesDir::read(settings, &environment.directory)?,
            central: settings.parse_or_default(&settings::CENTRAL)?,
            index: settings.parse_or_default(&settings::INDEX)?,
            project: project(settings, offline, &mut assumed)?,
            deployment: if offline { None } else { Some(access::required(settings, Credentials::Optional)?) },
            decision_task: decision_task(settings, offline, &mut assumed)?,
            pushdate: pushdate(settings, environment, offline, &mut assumed)?,
            artifact: artifact(settings, environment, &Destination::Task, &mut assumed)?,
            template: settings.parse(&settings::TASK_TEMPLATE)?,
            given,
            renew_within: settings.parse(&settings::RENEW_WITHIN)?,
            rebuild: settings.get(&settings::REBUILD)?.map(|given| list(&given.text)).unwrap_or_default(),
            contexts: settings.parse_or_default(&settings::CONTEXTS)?,
            out: super::out(settings)?,
            now: environment.now,
            assumed,
        })
    }
}

/// A list of several flags, or with colons.
fn list(text: &str) -> Vec<String> {
    text.split(['\n', ':']).filter(|it| !it.is_empty()).map(str::to_owned).collect()
}

fn object(given: &SettingValue) -> Result<BTreeMap<String, String>, ConfigError> {
    serde_json::from_str(&given.text).map_err(|error| given.wrong(format!("is not a JSON object of strings: {error}")))
}

fn project(settings: &SettingLayers, offline: bool, assumed: &mut Vec<String>) -> Result<Project, ConfigError> {
    if offline && settings.get(&settings::PROJECT)?.is_none() {
        assumed.push(format!("--project is not set: the graph names {NO_PROJECT}"));
        return NO_PROJECT.parse().map_err(|error: NameError| ConfigError::Combination(error.to_string()));
    }
    settings.require(&settings::PROJECT, "new images are indexed for the project")
}

fn decision_task(settings: &SettingLayers, offline: bool, assumed: &mut Vec<String>) -> Result<TaskId, ConfigError> {
    let task = match settings.parse(&settings::DECISION_TASK)? {
        None => settings.parse(&settings::TASK_ID)?,
        given => given,
    };
    match task {
        Some(task) => Ok(task),
        None if offline => {
            let task = TaskId::unknown();
            assumed.push(format!(
                "--decision-task is not set: the graph names {task}, which is no task: do not submit it"
            ));
            Ok(task)
        }
        None => {
            let why =
                "image tasks take their contexts from the decision task, which TASK_ID names too; --offline needs none";
            Err(ConfigError::Missing { setting: &settings::DECISION_TASK, why })
        }
    }
}
