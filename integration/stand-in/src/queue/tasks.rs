//! How a test has tasks and moves them: specifications in which everything has a default, claims with their
//! credentials, reruns. There are no workers, so a run is claimed when the test claims it. What the queue makes of
//! tasks is for `create_task` and `runs`.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Map, Value, json};
use taskcluster::Credentials;

use crate::api::ApiError;
use crate::credentials::temporary;
use crate::deployment::Deployment;
use crate::queue::create_task::{SCHEMA, complete, join_group};
use crate::queue::runs::{add_rerun, resolve, schedule};
use crate::queue::task::{RunState, Task};
use crate::schema::set_defaults;
use crate::wire::{json_time, slugid};

/// How long task credentials live before the worker reclaims the task.
const CLAIM: Duration = Duration::from_mins(20);

const WORKER: (&str, &str) = ("stand-in", "worker-1");

/// A task to make: a definition in which everything has a default.
#[derive(Clone, Debug, Default)]
pub struct TaskSpec {
    definition: Map<String, Value>,
    task_id: Option<String>,
}

/// A claimed run.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The task.
    pub task_id: String,
    /// Which of its runs.
    pub run_id: u32,
    /// Those of the task, for the next 20 minutes.
    pub credentials: Credentials,
}

impl TaskSpec {
    /// A task with these scopes, of the default project, that expires in a week.
    pub fn scopes<S: Into<String>>(scopes: impl IntoIterator<Item = S>) -> Self {
        let scopes: Vec<String> = scopes.into_iter().map(Into::into).collect();
        Self::default().property("scopes", json!(scopes))
    }

    /// Sets a property of the definition: `routes`, `payload`, `extra`, `projectId`, `expires`, `deadline`… The
    /// last two are times, or `+` and the seconds from the stand-in's now.
    pub fn property(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.definition.insert(name.to_owned(), value.into());
        self
    }

    /// Expires so long from the stand-in's now.
    pub fn expires_in(self, time: Duration) -> Self {
        // Resolved when the task is made: only then is there a clock.
        self.property("expires", format!("+{}", time.as_secs()))
    }

    /// Has this id instead of a new one.
    pub fn task_id(mut self, id: &str) -> Self {
        self.task_id = Some(id.to_owned());
        self
    }

    /// The spec from the definition-like JSON that the admin endpoint takes: `taskId` beside what `property` sets.
    pub(crate) fn from_json(mut definition: Map<String, Value>) -> Self {
        let task_id = definition.remove("taskId").and_then(|id| id.as_str().map(str::to_owned));
        Self { definition, task_id }
    }
}

/// Makes a task with one pending run, whatever it depends on, and whatever else the queue would refuse. Answers its id.
pub(crate) fn create(deployment: &mut Deployment, spec: TaskSpec) -> Result<String, ApiError> {
    let now = deployment.now();
    let task_id = spec.task_id.unwrap_or_else(slugid);
    let in_days = |days: i64| json_time(now + SignedDuration::from_hours(24 * days));
    let mut body = json!({
        "schedulerId": "stand-in",
        "created": json_time(now),
        "deadline": in_days(1),
        "expires": in_days(7),
        "payload": {},
        "metadata": {
            "name": "a task",
            "description": "made by a test",
            "owner": "nobody@example.com",
            "source": "https://example.com/",
        },
    });
    for (name, value) in spec.definition {
        let relative = value.as_str().filter(|_| name == "expires" || name == "deadline");
        let seconds = relative.and_then(|text| text.strip_prefix('+')).and_then(|text| text.parse().ok());
        body[name] = seconds.map_or(value, |seconds| json_time(now + SignedDuration::from_secs(seconds)).into());
    }
    if ["provisionerId", "workerType", "taskQueueId"].iter().all(|name| body.get(name).is_none()) {
        body["taskQueueId"] = "stand-in/images".into();
    }
    set_defaults(SCHEMA, &mut body);
    let task = Task::new(complete(&task_id, &body)?);
    // A test may put a task into any group.
    let _ = join_group(deployment, &task);
    deployment.tasks.insert(task_id.clone(), task);
    schedule(deployment, &task_id);
    Ok(task_id)
}

/// Claims the last run, if it is pending, and gives its credentials; of a running one, fresh credentials as a
/// reclaim does. The error is the reason why there is nothing to claim.
pub(crate) fn claim(deployment: &mut Deployment, task_id: &str) -> Result<Claim, String> {
    let now = deployment.now();
    let taken_until = now + CLAIM;
    let task = deployment.tasks.get_mut(task_id).ok_or_else(|| format!("no task {task_id}"))?;
    if task.deadline < now {
        let deadline = json_time(task.deadline);
        return Err(format!("Task `{task_id}` can't be claimed past its deadline of {deadline}."));
    }
    let last = task.runs.len().checked_sub(1);
    let run_id = last.ok_or_else(|| format!("task {task_id} waits for {:?}", task.waits_for))?;
    let run = &mut task.runs[run_id];
    if !matches!(run.state, RunState::Pending | RunState::Running) {
        return Err(format!("the last run of task {task_id} is resolved: rerun the task"));
    }
    run.claim(WORKER, now, taken_until);
    let (group, worker) = WORKER;
    let client_id = format!("task-client/{task_id}/{run_id}/on/{group}/{worker}/until/{}", taken_until.as_second());
    let mut scopes: Vec<String> = ["reclaim-task", "resolve-task", "create-artifact"]
        .map(|what| format!("queue:{what}:{task_id}/{run_id}"))
        .to_vec();
    scopes.extend(task_scopes(&deployment.tasks[task_id]));
    Ok(Claim {
        task_id: task_id.to_owned(),
        run_id: u32::try_from(run_id).expect("few runs"),
        credentials: temporary(deployment, &client_id, taken_until, &scopes),
    })
}

/// Adds a pending run, after resolving one that still runs as failed.
pub(crate) fn rerun(deployment: &mut Deployment, task_id: &str) -> Result<(), String> {
    let now = deployment.now();
    let task = deployment.tasks.get(task_id).ok_or_else(|| format!("no task {task_id}"))?;
    if task.is_active() {
        let run_id = u32::try_from(task.runs.len() - 1).expect("few runs");
        resolve(deployment, task_id, run_id, RunState::Failed);
    }
    if let Some(task) = deployment.tasks.get_mut(task_id) {
        add_rerun(task, now);
    }
    Ok(())
}

/// The tasks whose last run is pending, in the order in which those runs were scheduled.
pub(crate) fn pending(deployment: &Deployment) -> Vec<String> {
    let pending = deployment.tasks.iter().filter(|(_, task)| task.state() == Some(RunState::Pending));
    let mut pending: Vec<_> = pending.map(|(id, task)| (task.runs.last().map(|run| run.scheduled), id)).collect();
    pending.sort_unstable();
    pending.into_iter().map(|(_, id)| id.clone()).collect()
}

/// The task's own scopes.
pub(crate) fn task_scopes(task: &Task) -> Vec<String> {
    let scopes = task.definition["scopes"].as_array().map_or(&[][..], Vec::as_slice);
    scopes.iter().filter_map(|scope| scope.as_str().map(str::to_owned)).collect()
}
