//! A task and its runs, and the status that the queue reports of them. How they change is for `runs`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::wire::{json_time, parse_time};

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
pub(crate) struct Task {
    pub(crate) definition: Value,
    pub(crate) runs: Vec<Run>,
    pub(crate) deadline: Timestamp,
    pub(crate) retries_left: u64,
    /// The dependencies that are not satisfied yet.
    pub(crate) waits_for: BTreeSet<String>,
}

/// A run of a task.
pub(crate) struct Run {
    pub(crate) state: RunState,
    reason_created: &'static str,
    reason_resolved: Option<&'static str>,
    /// Group and id of the worker, once claimed.
    pub(crate) worker: Option<(&'static str, &'static str)>,
    pub(crate) scheduled: Timestamp,
    started: Option<Timestamp>,
    taken_until: Option<Timestamp>,
    pub(crate) resolved: Option<Timestamp>,
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
    pub(crate) fn new(definition: Value) -> Self {
        let deadline = definition["deadline"].as_str().and_then(parse_time).unwrap_or(Timestamp::MAX);
        let retries_left = definition["retries"].as_u64().unwrap_or_default();
        Self { definition, runs: Vec::new(), deadline, retries_left, waits_for: BTreeSet::new() }
    }

    pub(crate) fn expires(&self) -> Timestamp {
        self.definition["expires"].as_str().and_then(parse_time).unwrap_or(Timestamp::MAX)
    }

    /// A property of the definition that is text.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.definition[name].as_str().unwrap_or_default()
    }

    /// The last run's state; none is `unscheduled`.
    pub(crate) fn state(&self) -> Option<RunState> {
        self.runs.last().map(|run| run.state)
    }

    /// Whether the last run can still end.
    pub(crate) fn is_active(&self) -> bool {
        matches!(self.state(), Some(RunState::Pending | RunState::Running))
    }

    /// The status structure.
    pub(crate) fn status(&self, task_id: &str) -> Value {
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
    pub(crate) fn satisfies(&self, dependent: &Self) -> bool {
        match self.state() {
            Some(RunState::Completed) => true,
            Some(RunState::Failed | RunState::Exception) => dependent.text("requires") == "all-resolved",
            _ => false,
        }
    }

    pub(crate) fn add_run(&mut self, reason_created: &'static str, now: Timestamp) {
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
    pub(crate) fn claim(&mut self, worker: (&'static str, &'static str), now: Timestamp, until: Timestamp) {
        self.state = RunState::Running;
        self.worker = Some(worker);
        self.started = self.started.or(Some(now));
        self.taken_until = Some(until);
    }

    pub(crate) fn resolve(&mut self, state: RunState, reason: &'static str, now: Timestamp) {
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
