//! The job of an existing task, read from its definition. Settings of the task come from there, settings of this machine from
//! here. `taskcluster` fetches the definition, the subcommands run the job.

use std::collections::BTreeMap;

use serde_json::Value;

use super::access::Credentials;
use super::destination::PublishBy;
use super::settings::{self, Setting};
use super::{ConfigError, DeclaredImage, SettingLayers, SettingValue, ValueSource, access};
use crate::config::plan::DryRunNames;
use crate::net::HttpUrl;
use crate::taskcluster::{Deployment, Namespace, TaskId, TaskRun};

/// The settings that a task decides. All others concern the machine that runs the job.
pub const OF_THE_TASK: &[&Setting] = &[
    &settings::IMAGE_NAME,
    &settings::PROJECT,
    &settings::TASK_ID,
    &settings::RUN_ID,
    &settings::PUSHDATE,
    &settings::REBUILD_TASK,
    &settings::NEEDED_UNTIL,
    &settings::CONTEXT_TASK_ID,
    &settings::CONTEXT_PATH,
    &settings::CONTEXT_URL,
    &settings::HASH,
    &settings::HASH_SCHEME,
    &settings::CONTEXT_MAX_BYTES,
    &settings::CONTEXT_MAX_ENTRIES,
    &settings::DOCKER_BUILD_ARGS,
    &settings::DOCKER_BUILD_NETWORK,
    &settings::BUILDER,
    &settings::SECRET,
    &settings::REPRODUCIBLE,
    &settings::SOURCE_DATE_EPOCH,
    &settings::CACHE_FROM,
    &settings::TARGET_ARCH,
    &settings::PARENT_TASK_ID,
    &settings::ARTIFACT_NAME,
    &settings::ARTIFACT_EXPIRES,
    &settings::ARTIFACT_STORAGE,
    &settings::ZSTD_LEVEL,
    &settings::EXPORT,
    &settings::INDEX,
    &settings::INDEX_HASH,
];

/// The job of an existing task.
#[derive(Clone, Debug)]
pub struct Job {
    /// The task.
    pub task: TaskId,
    /// The tree that the task comes from, according to its definition.
    pub source: Option<HttpUrl>,
    /// Where the index enters the completed task by a hash: those of its own routes that contain one.
    pub hash_routes: Vec<Namespace>,
    values: BTreeMap<&'static str, String>,
}

impl Job {
    /// Reads a task's definition as the queue returns it: an image task of ours or of taskgraph's, for any worker.
    pub fn read(task: &TaskId, definition: &Value) -> Result<Self, ConfigError> {
        let payload = &definition["payload"];
        let mut values = BTreeMap::new();
        for setting in OF_THE_TASK {
            match &payload["env"][setting.variable] {
                Value::Null => {}
                Value::String(text) if text.is_empty() => {}
                Value::String(text) => drop(values.insert(setting.name, text.clone())),
                other => {
                    let why = format!(
                        "its payload.env.{} is {} and not a text: are its references resolved? Its job cannot be known",
                        setting.variable,
                        shape(other)
                    );
                    return Err(ConfigError::Definition { task: task.clone(), why });
                }
            }
        }
        if let Some(image) = DeclaredImage::find(&payload["artifacts"], None) {
            values.entry(settings::ARTIFACT_NAME.name).or_insert_with(|| image.name.to_string());
        }
        // A worker sets them, a definition cannot.
        values.insert(settings::TASK_ID.name, task.to_string());
        values.remove(settings::RUN_ID.name);
        let source = definition["metadata"]["source"].as_str().and_then(|source| source.parse().ok());
        let routes = definition["routes"].as_array().into_iter().flatten();
        let namespaces = routes.filter_map(|route| route.as_str()?.strip_prefix("index."));
        let by_hash = namespaces.filter(|namespace| namespace.rsplit('.').nth(1) == Some("hash"));
        let hash_routes = by_hash.filter_map(|namespace| namespace.parse().ok()).collect();
        Ok(Self { task: task.clone(), source, hash_routes, values })
    }

    /// Overrides a setting of the definition.
    pub fn set(&mut self, setting: &'static Setting, value: impl Into<String>) {
        self.values.insert(setting.name, value.into());
    }

    /// Removes a setting of the definition.
    pub fn unset(&mut self, setting: &'static Setting) {
        self.values.remove(setting.name);
    }

    /// A setting's value in the definition.
    #[must_use]
    pub fn get(&self, setting: &'static Setting) -> Option<SettingValue> {
        let text = self.values.get(setting.name)?.clone();
        Some(SettingValue { text, origin: ValueSource::Task(self.task.clone(), setting.variable) })
    }

    /// Whether the definition, and not this machine, decides a setting.
    #[must_use]
    pub fn overrides(&self, setting: &Setting) -> bool {
        OF_THE_TASK.contains(&setting)
    }

    /// Refuses a task that builds no image. Settings given as flags may be missing in the definition.
    pub fn is_of_an_image(&self, settings: &SettingLayers) -> Result<(), ConfigError> {
        let mut missing = Vec::new();
        for setting in [&settings::IMAGE_NAME, &settings::HASH] {
            if settings.get(setting)?.is_none() {
                missing.push(setting.variable);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let missing = missing.join(" and no ");
        let why = format!("it is no image task: its payload.env has no {missing}; is it the right task id?");
        Err(ConfigError::Definition { task: self.task.clone(), why })
    }
}

/// Describes a value that should be a text, without quoting it: it can contain secrets.
fn shape(value: &Value) -> String {
    match value {
        Value::Object(map) => format!("an object of {}", map.keys().cloned().collect::<Vec<_>>().join(", ")),
        Value::Array(_) => "a list".to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => "a number or a switch".to_owned(),
    }
}

/// The subcommand `replay`, all but the job itself.
#[derive(Debug)]
pub struct Replay {
    /// The deployment that has the task.
    pub deployment: Deployment,
    /// Whether to publish.
    pub publish: bool,
}

impl Replay {
    /// Reads the settings that `replay` needs before it has the task.
    pub fn read(settings: &SettingLayers) -> Result<Self, ConfigError> {
        // With `payload` a worker would publish the files: here there is none.
        let publish = settings.parse(&settings::PUBLISH)? == Some(PublishBy::Api);
        if publish && settings.switch(&settings::DRY_RUN)? {
            let what = "--publish and --dry-run exclude each other".to_owned();
            return Err(ConfigError::Argument { what, hint: "leave one of them out" });
        }
        let credentials = if publish { Credentials::Required } else { Credentials::Optional };
        Ok(Self { deployment: access::required(settings, credentials)?, publish })
    }
}

/// The name of the last good step's image when a step fails, if it is to be kept.
pub(super) fn kept(
    settings: &SettingLayers,
    task: Option<&TaskRun>,
    dry_run: Option<&DryRunNames>,
) -> Result<Option<String>, ConfigError> {
    if !settings.switch(&settings::SHELL)? {
        return Ok(None);
    }
    if dry_run.is_none() && !settings.is_replay() {
        let why = "--shell is for --dry-run and for `replay`: nobody opens a shell in a task";
        return Err(ConfigError::Combination(why.to_owned()));
    }
    // A tag may not begin with the dash that a task id may begin with.
    let task = task.filter(|_| settings.is_replay()).map(|task| task.task_id.as_str().trim_start_matches('-'));
    let own = task.or(dry_run.map(|dry_run| dry_run.id.as_str())).unwrap_or("no-task");
    Ok(Some(format!("image-worker-replay:{own}")))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use serde_json::json;

    use super::*;

    const TASK: &str = "fN1SbArXTPSVFNUvaOlinQ";

    fn job(payload: &Value) -> Result<Job, ConfigError> {
        Job::read(
            &TASK.parse().unwrap(),
            &json!({ "payload": payload, "metadata": { "source": "https://hg.example.com/" } }),
        )
    }

    #[test]
    fn flags_beat_the_definition_which_beats_this_machine_in_what_a_task_decides() {
        let here = |name: &str| {
            ["PROJECT", "HASH", "INDEX", "TASK_ID", "DOCKER_HOST"].contains(&name).then(|| OsString::from("here"))
        };
        let env =
            json!({ "PROJECT": "try", "IMAGE_NAME": "builder", "INDEX": "", "TASK_ID": "x", "DOCKER_HOST": "there" });
        let job = job(&json!({ "env": env })).unwrap();
        let settings = SettingLayers::new([("image-name", "other".to_owned())].into(), &here).unwrap().of(&job);
        let text = |setting| settings.get(setting).unwrap().map(|given| given.text);
        assert_eq!(text(&settings::IMAGE_NAME).unwrap(), "other");
        assert_eq!(text(&settings::PROJECT).unwrap(), "try");
        assert_eq!(text(&settings::DOCKER_HOST).unwrap(), "here");
        assert_eq!(text(&settings::TASK_ID).unwrap(), TASK);
        assert_eq!((text(&settings::HASH), text(&settings::INDEX)), (None, None));
        let origin = settings.get(&settings::PROJECT).unwrap().unwrap().origin.to_string();
        assert_eq!(origin, format!("PROJECT of task {TASK}"));
        let error = job.is_of_an_image(&settings).unwrap_err().to_string();
        assert!(error.starts_with(&format!("task {TASK}: ")) && error.contains("has no HASH;"), "{error}");
    }

    #[test]
    fn the_image_is_found_among_both_workers_artifacts() {
        let zst = json!("public/image.tar.zst");
        let list = json!([{ "name": "public/logs" }, { "name": zst }]);
        for artifacts in [list, json!({ "public/logs": {}, "public/image.tar.zst": {} })] {
            let job = job(&json!({ "artifacts": artifacts })).unwrap();
            assert_eq!(json!(job.get(&settings::ARTIFACT_NAME).unwrap().text), zst);
        }
        let explicit =
            job(&json!({ "env": { "ARTIFACT_NAME": "public/x.tar" }, "artifacts": { "public/image.tar": {} } }));
        assert_eq!(explicit.unwrap().get(&settings::ARTIFACT_NAME).unwrap().text, "public/x.tar");
    }

    #[test]
    fn what_is_unresolved_is_refused() {
        let error = job(&json!({ "env": { "CONTEXT_TASK_ID": { "task-reference": "<decision>" } } })).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("payload.env.CONTEXT_TASK_ID is an object of task-reference"), "{error}");
        let error = job(&json!({ "env": { "DOCKER_BUILD_ARGS": { "TOKEN": "secret" } } })).unwrap_err().to_string();
        assert!(error.contains("DOCKER_BUILD_ARGS is an object of TOKEN") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn a_shell_is_for_people() {
        let flags = || [("shell", "1".to_owned())].into();
        let settings = SettingLayers::new(flags(), &|_| None).unwrap();
        let dry_run = DryRunNames { id: "dry-run-x".to_owned(), is_hash_known: true };
        let task = TaskRun { task_id: "-N1SbArXTPSVFNUvaOlinQ".parse().unwrap(), run_id: 0 };
        let of = |settings: &SettingLayers, task| kept(settings, task, Some(&dry_run)).unwrap().unwrap();
        // Several dry runs can have the same task id.
        for task in [None, Some(&task)] {
            assert_eq!(of(&settings, task), "image-worker-replay:dry-run-x");
            assert!(kept(&settings, task, None).unwrap_err().to_string().starts_with("--shell is for --dry-run"));
        }
        let replay = settings.of(&job(&json!({})).unwrap());
        assert_eq!(of(&replay, Some(&task)), "image-worker-replay:N1SbArXTPSVFNUvaOlinQ");
    }
}
