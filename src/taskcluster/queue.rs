//! The queue, as far as a job needs it: a task's expiry, and artifacts' creation, end and whereabouts.

use jiff::Timestamp;
use serde::Deserialize;

use super::object::{Object, ObjectUpload};
use super::{CallError, CallErrorKind, answer, body, call};
use crate::net::HttpUrl;
use crate::taskcluster::{
    Access, ArtifactName, ArtifactPayload, CreateArtifact, Deployment, TaskId, TaskRun, to_milliseconds,
};

/// The queue of one deployment.
pub struct Queue {
    pub(super) client: taskcluster::Queue,
    pub(super) deployment: Deployment,
}

/// The answer to `createArtifact`.
#[derive(Debug, Deserialize)]
#[serde(tag = "storageType", rename_all = "lowercase")]
pub enum Created {
    /// One PUT to a signed URL.
    #[serde(rename_all = "camelCase")]
    S3 {
        /// Valid for 45 minutes; a secret.
        put_url: HttpUrl,
    },
    /// An upload through the object service.
    Object(ObjectUpload),
    /// A pointer to a URL, complete with its creation.
    Reference {},
}

#[derive(Deserialize)]
struct Location {
    url: HttpUrl,
}

/// A run's artifacts. Those of a run of an image task fit on one page.
#[derive(Deserialize)]
struct ArtifactList {
    artifacts: Vec<ListedArtifact>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedArtifact {
    name: String,
    storage_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TaskFacts {
    expires: Option<Timestamp>,
    deadline: Timestamp,
    task_queue_id: Option<String>,
}

/// The properties that a run inherits from its task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskLimits {
    /// When the task, and with it all that it publishes, expires.
    pub expires: Timestamp,
    /// Until when the tasks that depend on it may begin: they share its deadline (`decision::waiting`).
    pub deadline: Timestamp,
    /// `PROVISIONER/WORKER_TYPE`, the pool that runs it.
    pub worker_pool: Option<String>,
}

const TASK: &str = "queue.task";

impl Queue {
    pub(super) fn new(client: taskcluster::Queue, deployment: Deployment) -> Self {
        Self { client, deployment }
    }

    /// A task's definition.
    pub async fn task(&self, task: &TaskId) -> Result<serde_json::Value, CallError> {
        call(self.deployment.retry, TASK, &format!("task {task}"), || self.client.task(task.as_str())).await
    }

    /// The properties that a task passes to its runs.
    pub async fn limits(&self, task: &TaskId) -> Result<TaskLimits, CallError> {
        let facts: TaskFacts = answer(TASK, &format!("task {task}"), self.task(task).await?)?;
        // The queue fills `expires` in when a task has none; the deadline is a safe stand-in.
        let expires = facts.expires.unwrap_or(facts.deadline);
        Ok(TaskLimits { expires, deadline: facts.deadline, worker_pool: facts.task_queue_id })
    }

    /// Creates an artifact. For s3 a repeated call with the same expiry is allowed, and returns a fresh URL.
    pub async fn create_artifact(&self, task: &TaskRun, create: &CreateArtifact) -> Result<Created, CallError> {
        self.create(task, &create.name, &body(&create.payload)).await
    }

    /// Creates an artifact that sends its readers on to `url`.
    pub async fn create_reference(
        &self,
        task: &TaskRun,
        name: &ArtifactName,
        like: &ArtifactPayload,
        url: &str,
    ) -> Result<(), CallError> {
        let payload = serde_json::json!({
            "storageType": "reference",
            "expires": to_milliseconds(like.expires),
            "contentType": like.content_type,
            "url": url,
        });
        self.create(task, name, &payload).await.map(drop)
    }

    async fn create(
        &self,
        task: &TaskRun,
        name: &ArtifactName,
        payload: &serde_json::Value,
    ) -> Result<Created, CallError> {
        const CALL: &str = "queue.createArtifact";
        let target = describe(task, name);
        let run = task.run_id.to_string();
        let json = call(self.deployment.retry, CALL, &target, || {
            self.client.createArtifact(task.task_id.as_str(), &run, name.as_str(), payload)
        })
        .await?;
        answer(CALL, &target, json)
    }

    /// Declares an artifact of the object service complete.
    pub async fn finish_artifact(&self, task: &TaskRun, name: &ArtifactName, upload_id: &str) -> Result<(), CallError> {
        let run = task.run_id.to_string();
        let payload = serde_json::json!({ "uploadId": upload_id });
        call(self.deployment.retry, "queue.finishArtifact", &describe(task, name), || {
            self.client.finishArtifact(task.task_id.as_str(), &run, name.as_str(), &payload)
        })
        .await
    }

    /// The storage type of an artifact of a run, finished or not; none where it was never created.
    pub async fn storage_type(&self, task: &TaskRun, name: &ArtifactName) -> Result<Option<String>, CallError> {
        const CALL: &str = "queue.listArtifacts";
        let (target, run) = (task.to_string(), task.run_id.to_string());
        let list = || self.client.listArtifacts(task.task_id.as_str(), &run, None, None);
        let list: ArtifactList = answer(CALL, &target, call(self.deployment.retry, CALL, &target, list).await?)?;
        let found = list.artifacts.into_iter().find(|artifact| artifact.name == name.as_str());
        Ok(found.map(|artifact| artifact.storage_type))
    }

    /// Where an artifact of a run can be downloaded. The queue answers also for an artifact that was never uploaded.
    pub async fn artifact_url(&self, task: &TaskRun, name: &ArtifactName) -> Result<HttpUrl, CallError> {
        const CALL: &str = "queue.getArtifact";
        let target = describe(task, name);
        let run = task.run_id.to_string();
        let json = call(self.deployment.retry, CALL, &target, || {
            self.client.getArtifact(task.task_id.as_str(), &run, name.as_str())
        })
        .await?;
        Ok(answer::<Location>(CALL, &target, json)?.url)
    }

    /// Whether everybody can download an artifact of a run: clients download the target of a reference without credentials.
    pub async fn is_readable_by_all(&self, task: &TaskRun, name: &ArtifactName) -> Result<bool, CallError> {
        let anonymous = Deployment { access: Access::Anonymous, ..self.deployment.clone() };
        let anybody = super::Services::new(&anonymous)?;
        match anybody.queue.artifact_url(task, name).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind == CallErrorKind::Refused => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Where an artifact of a task's latest run can be downloaded.
    pub async fn latest_artifact_url(&self, task: &TaskId, name: &ArtifactName) -> Result<HttpUrl, CallError> {
        const CALL: &str = "queue.getLatestArtifact";
        let target = format!("{name} of task {task}");
        let json =
            call(self.deployment.retry, CALL, &target, || self.client.getLatestArtifact(task.as_str(), name.as_str()))
                .await?;
        Ok(answer::<Location>(CALL, &target, json)?.url)
    }

    /// The permanent address of an artifact: the queue's own, which redirects to the storage.
    #[must_use]
    pub fn artifact_address(&self, task: &TaskRun, name: &ArtifactName) -> String {
        let root = self.deployment.root_url.reveal().as_str().trim_end_matches('/');
        format!("{root}/api/queue/v1/task/{}/runs/{}/artifacts/{name}", task.task_id, task.run_id)
    }

    /// The object service with the credentials of one upload.
    pub fn object_service(&self, upload: &ObjectUpload) -> Result<Object, CallError> {
        Object::new(&self.deployment, upload)
    }
}

fn describe(task: &TaskRun, name: &ArtifactName) -> String {
    format!("{name} of {task}")
}
