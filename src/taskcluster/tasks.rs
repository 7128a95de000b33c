//! Tasks in the queue: their definitions, the state of their runs, the status of their artifacts, and reruns. The subcommands
//! decide what follows from it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::queue::Queue;
use super::{CallError, CallErrorKind, answer, call};
use crate::taskcluster::{ArtifactName, TaskId, TaskRun};

/// The status of a task.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The state of its last run, or `unscheduled`.
    pub state: State,
    /// When it must be resolved.
    pub deadline: Timestamp,
    /// Runs that the queue still makes by itself.
    pub retries_left: u32,
    /// Its runs.
    pub runs: Vec<Run>,
}

/// A run of a task.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Counted from 0.
    pub run_id: u32,
    /// Its state.
    pub state: State,
    /// What made the queue make it: `scheduled`, `retry`, `task-retry`, `rerun`.
    pub reason_created: String,
    /// What ended it, `failed` or `worker-shutdown` for example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason_resolved: Option<String>,
    /// The worker that does it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<String>,
    /// When a worker began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Timestamp>,
}

impl Run {
    /// Its state, and the reason of its end if the state does not have it.
    #[must_use]
    pub fn outcome(&self) -> String {
        let state = self.state.to_string();
        match self.reason_resolved.as_deref().filter(|reason| *reason != state) {
            Some(reason) => format!("{state}, {reason}"),
            None => state,
        }
    }

    /// Whether it is running or pending.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        matches!(self.state, State::Unscheduled | State::Pending | State::Running)
    }
}

/// The states of tasks and runs.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The task waits for others.
    Unscheduled,
    /// It waits for a worker.
    Pending,
    /// A worker is at it.
    Running,
    /// It completed.
    Completed,
    /// It did not.
    Failed,
    /// Something else ended it.
    Exception,
}

impl State {
    /// Whether tasks that depend on a task of this state never begin. Until its deadline, or a rerun, nothing changes that.
    #[must_use]
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::Exception)
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unscheduled => "unscheduled",
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Exception => "exception",
        })
    }
}

#[derive(Deserialize)]
struct StatusAnswer {
    status: Status,
}

#[derive(Deserialize)]
struct ArtifactInfo {
    expires: Timestamp,
}

impl Queue {
    /// A task's definition; none if the queue does not have the task, or not any more.
    pub async fn definition(&self, task: &TaskId) -> Result<Option<Value>, CallError> {
        let target = format!("task {task}");
        unless_gone(call(self.deployment.retry, "queue.task", &target, || self.client.task(task.as_str())).await)
    }

    /// The status of a task.
    pub async fn status(&self, task: &TaskId) -> Result<Status, CallError> {
        const CALL: &str = "queue.status";
        let target = format!("task {task}");
        let json = call(self.deployment.retry, CALL, &target, || self.client.status(task.as_str())).await?;
        Ok(answer::<StatusAnswer>(CALL, &target, json)?.status)
    }

    /// The status of a task; none if the queue does not have the task, or not any more.
    pub async fn known_status(&self, task: &TaskId) -> Result<Option<Status>, CallError> {
        unless_gone(self.status(task).await)
    }

    /// Requests another run of a resolved task. For a pending or running one, the queue just returns its status.
    pub async fn rerun(&self, task: &TaskId) -> Result<Status, CallError> {
        const CALL: &str = "queue.rerunTask";
        let target = format!("task {task}");
        let json = call(self.deployment.retry, CALL, &target, || self.client.rerunTask(task.as_str())).await?;
        Ok(answer::<StatusAnswer>(CALL, &target, json)?.status)
    }

    /// When an artifact of a run expires, or expired. None where there is no such artifact.
    pub async fn artifact_expires(&self, task: &TaskRun, name: &ArtifactName) -> Result<Option<Timestamp>, CallError> {
        const CALL: &str = "queue.artifactInfo";
        let target = format!("{name} of {task}");
        let run = task.run_id.to_string();
        let json = call(self.deployment.retry, CALL, &target, || {
            self.client.artifactInfo(task.task_id.as_str(), &run, name.as_str())
        })
        .await;
        unless_gone(json)?.map(|json| answer(CALL, &target, json).map(|info: ArtifactInfo| info.expires)).transpose()
    }

    /// The expiry of an artifact of a task's latest run: the queue keeps it for some time after that. None if there is no such
    /// artifact.
    pub async fn latest_artifact_expires(
        &self,
        task: &TaskId,
        name: &ArtifactName,
    ) -> Result<Option<Timestamp>, CallError> {
        const CALL: &str = "queue.latestArtifactInfo";
        let target = format!("{name} of task {task}");
        let json =
            call(self.deployment.retry, CALL, &target, || self.client.latestArtifactInfo(task.as_str(), name.as_str()))
                .await;
        unless_gone(json)?.map(|json| answer(CALL, &target, json).map(|info: ArtifactInfo| info.expires)).transpose()
    }
}

fn unless_gone<T>(answer: Result<T, CallError>) -> Result<Option<T>, CallError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.kind == CallErrorKind::Gone => Ok(None),
        Err(error) => Err(error),
    }
}
