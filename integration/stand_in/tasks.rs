//! Tasks and their runs: how a test makes, claims, resolves and reruns them, and the queue's calls about them.
//! Their artifacts are elsewhere; there are no workers, so a run is claimed when the test says so.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use taskcluster::Credentials;

use super::api::{Answer, ApiError, Ask};
use super::credentials::temporary;
use super::http::Reply;
use super::index;
use super::world::{World, json_time, parse_time, slugid};

/// How long task credentials live before the worker reclaims the task.
const CLAIM: Duration = Duration::from_mins(20);

const WORKER: (&str, &str) = ("stand-in", "worker-1");

/// A task to make: a definition in which everything has a default.
#[derive(Clone, Debug, Default)]
pub(crate) struct TaskSpec {
    definition: Map<String, Value>,
    task_id: Option<String>,
    unclaimed: bool,
}

/// A claimed run.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) task_id: String,
    pub(crate) run_id: u32,
    pub(crate) credentials: Credentials,
}

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunState {
    Pending,
    Running,
    Completed,
    Failed,
    Exception,
}

pub(super) struct Task {
    pub(super) definition: Value,
    pub(super) runs: Vec<Run>,
}

pub(super) struct Run {
    pub(super) state: RunState,
    reason_created: &'static str,
    reason_resolved: Option<&'static str>,
    /// Group and id of the worker, once claimed.
    pub(super) worker: Option<(&'static str, &'static str)>,
    scheduled: Timestamp,
    started: Option<Timestamp>,
    taken_until: Option<Timestamp>,
    pub(super) resolved: Option<Timestamp>,
}

impl TaskSpec {
    /// A task with these scopes, of the default project, that expires in a week.
    pub(crate) fn scopes<S: Into<String>>(scopes: impl IntoIterator<Item = S>) -> Self {
        let scopes: Vec<String> = scopes.into_iter().map(Into::into).collect();
        Self::default().property("scopes", json!(scopes))
    }

    /// Sets a property of the definition: `routes`, `payload`, `extra`, `projectId`, `expires`, `deadline`… The
    /// last two are times, or `+` and the seconds from the stand-in's now.
    pub(crate) fn property(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.definition.insert(name.to_owned(), value.into());
        self
    }

    /// Expires so long from the stand-in's now.
    pub(crate) fn expires_in(self, time: Duration) -> Self {
        // Resolved when the task is made: only then is there a clock.
        self.property("expires", format!("+{}", time.as_secs()))
    }

    /// Has this id instead of a new one.
    pub(crate) fn task_id(mut self, id: &str) -> Self {
        self.task_id = Some(id.to_owned());
        self
    }

    /// Leaves the first run pending: `claim` claims it.
    pub(crate) fn unclaimed(mut self) -> Self {
        self.unclaimed = true;
        self
    }

    /// The spec from the definition-like JSON that the admin endpoint takes: `taskId` and `unclaimed` beside
    /// what `property` sets.
    pub(super) fn from_json(mut definition: Map<String, Value>) -> Self {
        let task_id = definition.remove("taskId").and_then(|id| id.as_str().map(str::to_owned));
        let unclaimed = definition.remove("unclaimed") == Some(Value::Bool(true));
        Self { definition, task_id, unclaimed }
    }

    pub(super) fn is_unclaimed(&self) -> bool {
        self.unclaimed
    }
}

impl RunState {
    fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Exception => "exception",
        }
    }
}

impl Task {
    pub(super) fn expires(&self) -> Timestamp {
        self.time("expires")
    }

    /// Whether the last run is.
    pub(super) fn is_resolved(&self) -> bool {
        self.runs.last().is_none_or(|run| run.resolved.is_some())
    }

    pub(super) fn project_id(&self) -> &str {
        self.definition["projectId"].as_str().unwrap_or("none")
    }

    fn time(&self, name: &str) -> Timestamp {
        self.definition[name].as_str().and_then(parse_time).unwrap_or(Timestamp::MAX)
    }

    /// The status structure.
    pub(super) fn status(&self, task_id: &str) -> Value {
        let definition = |name: &str| self.definition[name].clone();
        json!({
            "taskId": task_id,
            "provisionerId": definition("provisionerId"),
            "workerType": definition("workerType"),
            "taskQueueId": definition("taskQueueId"),
            "schedulerId": definition("schedulerId"),
            "projectId": definition("projectId"),
            "taskGroupId": definition("taskGroupId"),
            "priority": definition("priority"),
            "deadline": definition("deadline"),
            "expires": definition("expires"),
            "retriesLeft": definition("retries"),
            "state": self.runs.last().map_or("unscheduled", |run| run.state.name()),
            "runs": self.runs.iter().enumerate().map(|(run_id, run)| run.status(run_id)).collect::<Vec<_>>(),
        })
    }
}

impl Run {
    fn pending(reason_created: &'static str, now: Timestamp) -> Self {
        Self {
            state: RunState::Pending,
            reason_created,
            reason_resolved: None,
            worker: None,
            scheduled: now,
            started: None,
            taken_until: None,
            resolved: None,
        }
    }

    fn status(&self, run_id: usize) -> Value {
        let mut status = json!({
            "runId": run_id,
            "state": self.state.name(),
            "reasonCreated": self.reason_created,
            "scheduled": json_time(self.scheduled),
        });
        let times = [("started", self.started), ("takenUntil", self.taken_until), ("resolved", self.resolved)];
        for (name, time) in times {
            if let Some(time) = time {
                status[name] = json_time(time).into();
            }
        }
        if let Some((group, id)) = self.worker {
            status["workerGroup"] = group.into();
            status["workerId"] = id.into();
        }
        if let Some(reason) = self.reason_resolved {
            status["reasonResolved"] = reason.into();
        }
        status
    }
}

/// Makes a task with one pending run. Answers its id.
pub(super) fn create(world: &mut World, spec: TaskSpec) -> String {
    let now = world.now();
    let task_id = spec.task_id.unwrap_or_else(slugid);
    let in_days = |days: i64| json_time(now + SignedDuration::from_hours(24 * days));
    let mut definition = json!({
        "provisionerId": "stand-in",
        "workerType": "images",
        "taskQueueId": "stand-in/images",
        "schedulerId": "stand-in",
        "projectId": "none",
        "taskGroupId": task_id,
        "dependencies": [],
        "requires": "all-completed",
        "routes": [],
        "priority": "lowest",
        "retries": 5,
        "created": json_time(now),
        "deadline": in_days(1),
        "expires": in_days(7),
        "scopes": [],
        "payload": {},
        "metadata": {
            "name": "a task",
            "description": "made by a test",
            "owner": "nobody@example.com",
            "source": "https://example.com/",
        },
        "tags": {},
        "extra": {},
    });
    for (name, value) in spec.definition {
        let relative = value.as_str().filter(|_| name == "expires" || name == "deadline");
        let seconds = relative.and_then(|text| text.strip_prefix('+')).and_then(|text| text.parse().ok());
        definition[name] = seconds.map_or(value, |seconds| json_time(now + SignedDuration::from_secs(seconds)).into());
    }
    world.tasks.insert(task_id.clone(), Task { definition, runs: vec![Run::pending("scheduled", now)] });
    if !spec.unclaimed {
        claim(world, &task_id);
    }
    task_id
}

/// Claims the last run, if it is pending, and gives its credentials; of a running one, fresh credentials as a
/// reclaim does.
pub(super) fn claim(world: &mut World, task_id: &str) -> Claim {
    let now = world.now();
    let taken_until = now + CLAIM;
    let task = world.tasks.get_mut(task_id).expect("a task of this stand-in");
    let run_id = u32::try_from(task.runs.len() - 1).expect("few runs");
    let run = task.runs.last_mut().expect("a run");
    assert!(matches!(run.state, RunState::Pending | RunState::Running), "the last run is resolved: rerun the task");
    run.state = RunState::Running;
    run.worker = Some(WORKER);
    run.started = run.started.or(Some(now));
    run.taken_until = Some(taken_until);
    let (group, worker) = WORKER;
    let client_id = format!("task-client/{task_id}/{run_id}/on/{group}/{worker}/until/{}", taken_until.as_second());
    let mut scopes: Vec<String> = ["reclaim-task", "resolve-task", "create-artifact"]
        .map(|what| format!("queue:{what}:{task_id}/{run_id}"))
        .to_vec();
    scopes.extend(task_scopes(&world.tasks[task_id]));
    Claim { task_id: task_id.to_owned(), run_id, credentials: temporary(world, &client_id, taken_until, &scopes) }
}

/// The task's own scopes.
pub(super) fn task_scopes(task: &Task) -> Vec<String> {
    let scopes = task.definition["scopes"].as_array().map_or(&[][..], Vec::as_slice);
    scopes.iter().filter_map(|scope| scope.as_str().map(str::to_owned)).collect()
}

/// Resolves a run. A completed task's `index.` routes are then in the index, as the index's own handler puts
/// them there (observed: a quarter of a second later; here: at once).
pub(super) fn resolve(world: &mut World, task_id: &str, run_id: u32, state: RunState) {
    let now = world.now();
    let task = world.tasks.get_mut(task_id).expect("a task of this stand-in");
    let run = task.runs.get_mut(run_id as usize).expect("a run of this task");
    run.state = state;
    run.resolved = Some(now);
    run.reason_resolved = Some(match state {
        RunState::Completed => "completed",
        RunState::Failed => "failed",
        RunState::Exception => "internal-error",
        RunState::Pending | RunState::Running => panic!("a run cannot be resolved to {state:?}"),
    });
    if state == RunState::Completed {
        let definition = task.definition.clone();
        index::insert_routes(world, task_id, &definition);
    }
}

/// Adds a pending run, after resolving one that still runs as failed.
pub(super) fn rerun(world: &mut World, task_id: &str) {
    let now = world.now();
    let task = world.tasks.get_mut(task_id).expect("a task of this stand-in");
    for run in task.runs.iter_mut().filter(|run| run.resolved.is_none()) {
        run.state = RunState::Failed;
        run.reason_resolved = Some("failed");
        run.resolved = Some(now);
    }
    task.runs.push(Run::pending("rerun", now));
}

#[expect(clippy::unnecessary_wraps, reason = "a handler like the others")]
pub(super) fn ping(_: &mut World, _: &Ask) -> Answer {
    Ok(Reply::json(200, &json!({"alive": true, "uptime": 1})))
}

pub(super) fn task(world: &mut World, ask: &Ask) -> Answer {
    Ok(Reply::json(200, &find(world, ask)?.definition))
}

pub(super) fn status(world: &mut World, ask: &Ask) -> Answer {
    let status = find(world, ask)?.status(ask.param("taskId"));
    Ok(Reply::json(200, &json!({"status": status})))
}

/// A sheriff's rerun. The new run stays pending: no worker claims it here.
pub(super) fn rerun_task(world: &mut World, ask: &Ask) -> Answer {
    let task_id = ask.param("taskId");
    let task = find(world, ask)?;
    let text = |name: &str| task.definition[name].as_str().unwrap_or_default();
    ask.authorize_any(&[
        format!("queue:rerun-task:{}/{}/{task_id}", text("schedulerId"), text("taskGroupId")),
        format!("queue:rerun-task-in-project:{}", text("projectId")),
    ])?;
    if task.time("deadline") < world.now() {
        return Err(ApiError::conflict(format!("Task `{task_id}` can't be rescheduled past its deadline")));
    }
    if task.is_resolved() {
        rerun(world, task_id);
    }
    status(world, ask)
}

fn find<'w>(world: &'w World, ask: &Ask) -> Result<&'w Task, ApiError> {
    let task_id = ask.param("taskId");
    let missing = || ApiError::not_found(format!("`{task_id}` does not correspond to a task that exists."));
    world.tasks.get(task_id).ok_or_else(missing)
}
