//! Tasks, their runs, and how these change: scheduled, resolved, run again, out of time; and what waits for them.
//! Who makes, claims and asks about tasks is next door.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::index;
use super::world::{World, json_time, parse_time};

/// The queue's sanity check.
pub(super) const MOST_RUNS: usize = 50;

/// The queue looks after unresolved tasks so long past their deadline.
const DEADLINE_DELAY: Duration = Duration::from_mins(1);

/// Why runs end as exceptions, and why the queue then makes another run by itself, if it does.
const EXCEPTIONS: [(&str, Option<&str>); 9] = [
    ("worker-shutdown", Some("retry")),
    ("claim-expired", Some("retry")),
    // An exit code of onExitStatus.retry.
    ("intermittent-task", Some("task-retry")),
    ("internal-error", None),
    ("malformed-payload", None),
    ("resource-unavailable", None),
    ("superseded", None),
    ("canceled", None),
    ("deadline-exceeded", None),
];

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Waits for a worker.
    Pending,
    /// A worker has claimed it.
    Running,
    /// Its command succeeded.
    Completed,
    /// Its command failed.
    Failed,
    /// The queue or the worker ended it.
    Exception,
}

/// A task, as the queue's database has it.
pub(super) struct Task {
    pub(super) definition: Value,
    pub(super) runs: Vec<Run>,
    pub(super) deadline: Timestamp,
    pub(super) retries_left: u64,
    /// The dependencies that are not satisfied yet.
    pub(super) waits_for: BTreeSet<String>,
}

/// A run of a task.
pub(super) struct Run {
    pub(super) state: RunState,
    reason_created: &'static str,
    reason_resolved: Option<&'static str>,
    /// Group and id of the worker, once claimed.
    pub(super) worker: Option<(&'static str, &'static str)>,
    pub(super) scheduled: Timestamp,
    started: Option<Timestamp>,
    taken_until: Option<Timestamp>,
    pub(super) resolved: Option<Timestamp>,
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
    /// A task with a complete definition, and no run yet.
    pub(super) fn new(definition: Value) -> Self {
        let deadline = definition["deadline"].as_str().and_then(parse_time).unwrap_or(Timestamp::MAX);
        let retries_left = definition["retries"].as_u64().unwrap_or_default();
        Self { definition, runs: Vec::new(), deadline, retries_left, waits_for: BTreeSet::new() }
    }

    pub(super) fn expires(&self) -> Timestamp {
        self.definition["expires"].as_str().and_then(parse_time).unwrap_or(Timestamp::MAX)
    }

    /// A property of the definition that is text.
    pub(super) fn text(&self, name: &str) -> &str {
        self.definition[name].as_str().unwrap_or_default()
    }

    /// The last run's state; none is `unscheduled`.
    pub(super) fn state(&self) -> Option<RunState> {
        self.runs.last().map(|run| run.state)
    }

    /// Whether the last run can still end.
    pub(super) fn is_active(&self) -> bool {
        matches!(self.state(), Some(RunState::Pending | RunState::Running))
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
            "retriesLeft": self.retries_left,
            "state": self.state().map_or("unscheduled", RunState::name),
            "runs": self.runs.iter().enumerate().map(|(run_id, run)| run.status(run_id)).collect::<Vec<_>>(),
        })
    }

    /// Whether a task that depends on this one may stop waiting for it.
    pub(super) fn satisfies(&self, dependent: &Self) -> bool {
        match self.state() {
            Some(RunState::Completed) => true,
            Some(RunState::Failed | RunState::Exception) => dependent.text("requires") == "all-resolved",
            _ => false,
        }
    }

    fn add_run(&mut self, reason_created: &'static str, now: Timestamp) {
        self.runs.push(Run {
            state: RunState::Pending,
            reason_created,
            reason_resolved: None,
            worker: None,
            scheduled: now,
            started: None,
            taken_until: None,
            resolved: None,
        });
    }
}

impl Run {
    /// Gives the run to a worker, or to the same for longer.
    pub(super) fn claim(&mut self, worker: (&'static str, &'static str), now: Timestamp, until: Timestamp) {
        self.state = RunState::Running;
        self.worker = Some(worker);
        self.started = self.started.or(Some(now));
        self.taken_until = Some(until);
    }

    fn resolve(&mut self, state: RunState, reason: &'static str, now: Timestamp) {
        self.state = state;
        self.reason_resolved = Some(reason);
        self.resolved = Some(now);
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

/// Makes the first run of a task that waits for nothing; a task that has runs, or is past its deadline, stays as
/// it is.
pub(super) fn schedule(world: &mut World, task_id: &str) {
    let now = world.now();
    let task = world.tasks.get_mut(task_id).filter(|task| task.runs.is_empty() && task.deadline >= now);
    if let Some(task) = task {
        task.add_run("scheduled", now);
    }
}

/// Adds a pending run, and gives the task its retries back, as far as the limit of runs allows.
pub(super) fn add_rerun(task: &mut Task, now: Timestamp) {
    task.add_run("rerun", now);
    let room = (MOST_RUNS as u64).saturating_sub(task.runs.len() as u64);
    task.retries_left = task.definition["retries"].as_u64().unwrap_or_default().min(room);
}

/// The reason for an exception, if there is one of that name.
pub(super) fn exception(reason: &str) -> Option<&'static str> {
    EXCEPTIONS.iter().map(|(known, _)| *known).find(|known| *known == reason)
}

/// Resolves a run, whatever state it is in, for the usual reason.
pub(super) fn resolve(world: &mut World, task_id: &str, run_id: u32, state: RunState) {
    let reason = match state {
        RunState::Completed => "completed",
        RunState::Failed => "failed",
        RunState::Exception => "internal-error",
        RunState::Pending | RunState::Running => panic!("a run cannot be resolved to {state:?}"),
    };
    end(world, task_id, run_id, state, reason);
}

/// Resolves the last run as an exception. After some of the reasons the queue makes another run, if a retry is left.
pub(super) fn resolve_exception(world: &mut World, task_id: &str, run_id: u32, reason: &'static str) {
    let now = world.now();
    let task = world.tasks.get_mut(task_id).expect("a task of this stand-in");
    let retry = EXCEPTIONS.iter().find(|(known, _)| *known == reason).and_then(|(_, retry)| *retry);
    let last = run_id as usize + 1 == task.runs.len();
    if let Some(retry) = retry.filter(|_| last && task.retries_left > 0) {
        task.runs[run_id as usize].resolve(RunState::Exception, reason, now);
        task.retries_left -= 1;
        // Nobody hears of it: for those who wait, the task is not resolved.
        task.add_run(retry, now);
    } else {
        end(world, task_id, run_id, RunState::Exception, reason);
    }
}

/// Cancels a task: its last run, or one that is made for it, is an exception. One that is resolved stays as it is.
pub(super) fn cancel(world: &mut World, task_id: &str) {
    let now = world.now();
    let Some(task) = world.tasks.get_mut(task_id) else { return };
    if task.runs.is_empty() {
        task.add_run("exception", now);
    }
    if task.is_active() {
        let run_id = u32::try_from(task.runs.len() - 1).expect("few runs");
        end(world, task_id, run_id, RunState::Exception, "canceled");
    }
}

/// Resolves a run for good. A completed task's `index.` routes are then in the index, as the index's own handler
/// puts them there (observed: a quarter of a second later; here: at once), and those who waited are scheduled.
fn end(world: &mut World, task_id: &str, run_id: u32, state: RunState, reason: &'static str) {
    let now = world.now();
    let task = world.tasks.get_mut(task_id).expect("a task of this stand-in");
    let run = task.runs.get_mut(run_id as usize).expect("a run of this task");
    run.resolve(state, reason, now);
    if state == RunState::Completed {
        let definition = task.definition.clone();
        index::insert_routes(world, task_id, &definition);
    }
    release(world, task_id);
}

/// Tells those who wait for a task that it is resolved.
fn release(world: &mut World, task_id: &str) {
    for dependent_id in world.dependents.get(task_id).cloned().unwrap_or_default() {
        let (Some(task), Some(dependent)) = (world.tasks.get(task_id), world.tasks.get(&dependent_id)) else {
            continue;
        };
        if task.satisfies(dependent) {
            let waits_for = &mut world.tasks.get_mut(&dependent_id).expect("just found").waits_for;
            waits_for.remove(task_id);
            if waits_for.is_empty() {
                schedule(world, &dependent_id);
            }
        }
    }
}

/// Resolves what is unresolved past its deadline. Expired claims are not resolved: workers reclaim in time here.
pub(super) fn settle(world: &mut World) {
    let now = world.now();
    let late = |task: &Task| (task.runs.is_empty() || task.is_active()) && task.deadline + DEADLINE_DELAY < now;
    let late: Vec<String> =
        world.tasks.iter().filter(|(_, task)| late(task)).map(|(task_id, _)| task_id.clone()).collect();
    for task_id in late {
        let task = world.tasks.get_mut(&task_id).expect("just found");
        if task.runs.is_empty() {
            task.add_run("exception", now);
        }
        let run_id = u32::try_from(task.runs.len() - 1).expect("few runs");
        end(world, &task_id, run_id, RunState::Exception, "deadline-exceeded");
    }
}
