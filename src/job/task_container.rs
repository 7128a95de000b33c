//! What a task of docker-worker runs in: the image, the environment and the command of its payload, for a container on this
//! machine.

use std::collections::BTreeMap;

use serde_json::Value;
use tracing::info;

use super::CommandError;
use super::shutdown::Shutdown;
use crate::config::{ConfigError, ContainerConfig, LoadFrom, TaskSource, WantedImage};
use crate::net::HttpUrl;
use crate::taskcluster::{ArtifactName, Deployment, Namespace, Services, TaskId, TaskRef};

/// Variables with directories that a worker provides. run-task refuses to start where one of them is missing.
const WORKERS_DIRECTORIES: [&str; 2] = ["TASKCLUSTER_CACHES", "TASKCLUSTER_VOLUMES"];

/// What a task runs in.
#[derive(Debug, PartialEq, Eq)]
pub struct TaskContainer {
    /// Its image; none where its worker has none.
    pub image: Option<PayloadImage>,
    /// Its environment, with what a worker adds.
    pub env: BTreeMap<String, String>,
    /// Its command; none where the image has it.
    pub command: Option<Vec<String>>,
}

/// The image of a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayloadImage {
    /// A registry's.
    Registry(String),
    /// An artifact.
    Artifact(ImageTask, ArtifactName),
}

/// The task that has an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageTask {
    /// By its id.
    Id(TaskId),
    /// The one that the index has here.
    Indexed(Namespace),
}

impl TaskContainer {
    /// Fetches the definition of a task.
    pub async fn fetch(source: &TaskSource, stop: &Shutdown) -> Result<Self, CommandError> {
        let (task, deployment) = (&source.task.task_id, &source.deployment);
        let services = Services::new(deployment)?;
        let definition = stop.run_stage("fetching the task's definition", services.queue.definition(task)).await?;
        let definition = definition
            .ok_or_else(|| CommandError::NoTask { task: task.clone(), deployment: deployment.root_url.clone() })?;
        Ok(Self::read(&source.task, &definition, &deployment.root_url)?)
    }

    fn read(task: &TaskRef, definition: &Value, root_url: &HttpUrl) -> Result<Self, ConfigError> {
        let payload = &definition["payload"];
        let wrong = |why: &str| ConfigError::Definition { task: task.task_id.clone(), why: why.to_owned() };
        let image = match &payload["image"] {
            Value::Null => None,
            image => Some(PayloadImage::read(image).ok_or_else(|| {
                wrong("its payload.image is none that docker-worker knows: a name, or an object with `type`")
            })?),
        };
        let command = match &payload["command"] {
            Value::Null => None,
            Value::Array(words) => {
                let words = words.iter().map(|word| word.as_str().map(str::to_owned)).collect::<Option<_>>();
                Some(words.ok_or_else(|| wrong("its payload.command is not that of a container: a list of words"))?)
            }
            _ => return Err(wrong("its payload.command is not that of a container: a list of words")),
        };
        // As a worker sets them.
        let group = definition["taskGroupId"].as_str().unwrap_or(task.task_id.as_str());
        let root_url = root_url.reveal().as_str().trim_end_matches('/');
        let run = task.run.unwrap_or_default().to_string();
        let of_worker = [
            ("TASK_ID", task.task_id.as_str()),
            ("RUN_ID", &run),
            ("TASK_GROUP_ID", group),
            ("TASKCLUSTER_ROOT_URL", root_url),
        ];
        let mut env: BTreeMap<_, _> = of_worker.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        for (name, value) in payload["env"].as_object().into_iter().flatten() {
            let value = value.as_str();
            let value = value
                .ok_or_else(|| wrong(&format!("its payload.env.{name} is no text: are its references resolved?")))?;
            env.insert(name.clone(), value.to_owned());
        }
        Ok(Self { image, env, command })
    }

    /// Removes from the environment the worker's directories that no volume provides.
    pub fn without_missing_directories(&mut self, volumes: &[String]) {
        let is_there = |path: &&str| volumes.iter().any(|volume| volume.split(':').nth(1) == Some(path));
        for variable in WORKERS_DIRECTORIES {
            let Some(listed) = self.env.remove(variable) else { continue };
            let there: Vec<_> = listed.split(';').filter(is_there).collect();
            if !there.is_empty() {
                self.env.insert(variable.to_owned(), there.join(";"));
            } else if !listed.is_empty() {
                info!("{variable} is left out: no --volume is at {listed}");
            }
        }
    }
}

impl PayloadImage {
    /// The forms of docker-worker's schema.
    fn read(image: &Value) -> Option<Self> {
        if let Some(name) = image.as_str() {
            return Some(Self::Registry(name.to_owned()));
        }
        let text = |key: &str| image[key].as_str();
        match text("type")? {
            "docker-image" => Some(Self::Registry(text("name")?.to_owned())),
            "task-image" => {
                let task = ImageTask::Id(text("taskId")?.parse().ok()?);
                Some(Self::Artifact(task, text("path")?.parse().ok()?))
            }
            "indexed-image" => {
                let task = ImageTask::Indexed(text("namespace")?.parse().ok()?);
                Some(Self::Artifact(task, text("path")?.parse().ok()?))
            }
            _ => None,
        }
    }
}

impl ImageTask {
    /// How the image is found.
    #[must_use]
    pub fn wanted(self, artifact: ArtifactName, deployment: Deployment, config: &ContainerConfig) -> WantedImage {
        let from = match self {
            Self::Id(task_id) => LoadFrom::Task(TaskRef { root_url: None, task_id, run: None }, deployment),
            Self::Indexed(namespace) => LoadFrom::Route(namespace, deployment),
        };
        WantedImage { from, artifact, retry: config.retry, directory: config.directory().to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TASK: &str = "fN1SbArXTPSVFNUvaOlinQ";

    fn read(payload: &Value) -> Result<TaskContainer, String> {
        let definition = json!({ "taskGroupId": "group", "payload": payload });
        let root_url = "https://tc.example.com/".parse().unwrap();
        TaskContainer::read(&TASK.parse().unwrap(), &definition, &root_url).map_err(|error| error.to_string())
    }

    #[test]
    fn an_image_has_the_forms_of_docker_worker() {
        let of = |image: Value| read(&json!({ "image": image })).map(|it| it.image);
        let registry = Ok(Some(PayloadImage::Registry("debian:12".to_owned())));
        assert_eq!(of(json!("debian:12")), registry);
        assert_eq!(of(json!({ "type": "docker-image", "name": "debian:12" })), registry);
        let path = "public/image.tar.zst";
        let task = PayloadImage::Artifact(ImageTask::Id(TASK.parse().unwrap()), path.parse().unwrap());
        assert_eq!(of(json!({ "type": "task-image", "taskId": TASK, "path": path })), Ok(Some(task)));
        let indexed = PayloadImage::Artifact(ImageTask::Indexed("a.b".parse().unwrap()), path.parse().unwrap());
        assert_eq!(of(json!({ "type": "indexed-image", "namespace": "a.b", "path": path })), Ok(Some(indexed)));
        assert_eq!(read(&json!({})).unwrap().image, None);
        assert!(of(json!({ "type": "new" })).unwrap_err().contains("payload.image is none that docker-worker knows"));
    }

    #[test]
    fn the_environment_is_the_workers_and_the_tasks() {
        let payload = json!({ "env": { "A": "1", "RUN_ID": "7" }, "command": ["sh", "-c", "x"] });
        let read_of = read(&payload).unwrap();
        let env: Vec<_> = read_of.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let task = format!("TASK_ID={TASK}");
        assert_eq!(
            env,
            ["A=1", "RUN_ID=7", "TASKCLUSTER_ROOT_URL=https://tc.example.com", "TASK_GROUP_ID=group", &task]
        );
        assert_eq!(read_of.command.unwrap(), ["sh", "-c", "x"]);
        let error = read(&json!({ "env": { "A": { "task-reference": "<x>" } } })).unwrap_err();
        assert!(error.contains("payload.env.A is no text"), "{error}");
        // generic-worker's: a list of commands.
        assert!(read(&json!({ "command": [["sh", "-c", "x"]] })).unwrap_err().contains("not that of a container"));
    }

    #[test]
    fn a_workers_directories_are_announced_only_where_a_volume_is() {
        let left = |volumes: &[&str]| {
            let mut task = read(&json!({ "env": { "TASKCLUSTER_CACHES": "/cache/a;/cache/b" } })).unwrap();
            task.without_missing_directories(&volumes.iter().map(ToString::to_string).collect::<Vec<_>>());
            task.env.get("TASKCLUSTER_CACHES").cloned()
        };
        assert_eq!(left(&["/x:/cache/b:ro", "/y:/other"]), Some("/cache/b".to_owned()));
        assert_eq!(left(&[]), None);
    }
}
