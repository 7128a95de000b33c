//! How tasks and their runs change: scheduled, resolved, run again, out of time; and what waits for them. Who creates and
//! claims them is for `create_task` and `tasks`.

use std::time::Duration;

use jiff::Timestamp;

use crate::deployment::Deployment;
use crate::index;
use crate::queue::task::{RunState, Task};

/// The queue's sanity check.
pub(crate) const MOST_RUNS: usize = 50;

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

/// Makes the first run of a task that waits for nothing; a task that has runs, or is past its deadline, stays as
/// it is.
pub(crate) fn schedule(deployment: &mut Deployment, task_id: &str) {
    let now = deployment.now();
    let task = deployment.tasks.get_mut(task_id).filter(|task| task.runs.is_empty() && task.deadline >= now);
    if let Some(task) = task {
        task.add_run("scheduled", now);
    }
}

/// Adds a pending run, and gives the task its retries back, as far as the limit of runs allows.
pub(crate) fn add_rerun(task: &mut Task, now: Timestamp) {
    task.add_run("rerun", now);
    let remaining = (MOST_RUNS as u64).saturating_sub(task.runs.len() as u64);
    task.retries_left = task.definition["retries"].as_u64().unwrap_or_default().min(remaining);
}

/// The reason for an exception, if there is one of that name.
pub(crate) fn exception(reason: &str) -> Option<&'static str> {
    EXCEPTIONS.iter().map(|(known, _)| *known).find(|known| *known == reason)
}

/// Resolves a run, whatever state it is in, for the usual reason.
pub(crate) fn resolve(deployment: &mut Deployment, task_id: &str, run_id: u32, state: RunState) {
    let reason = match state {
        RunState::Completed => "completed",
        RunState::Failed => "failed",
        RunState::Exception => "internal-error",
        RunState::Pending | RunState::Running => panic!("a run cannot be resolved to {state:?}"),
    };
    end(deployment, task_id, run_id, state, reason);
}

/// Resolves the last run as an exception. After some of the reasons the queue makes another run, if a retry is left.
pub(crate) fn resolve_exception(deployment: &mut Deployment, task_id: &str, run_id: u32, reason: &'static str) {
    let now = deployment.now();
    let task = deployment.tasks.get_mut(task_id).expect("a task of this stand-in");
    let retry = EXCEPTIONS.iter().find(|(known, _)| *known == reason).and_then(|(_, retry)| *retry);
    let last = run_id as usize + 1 == task.runs.len();
    if let Some(retry) = retry.filter(|_| last && task.retries_left > 0) {
        task.runs[run_id as usize].resolve(RunState::Exception, reason, now);
        task.retries_left -= 1;
        // No message is sent: for those who wait, the task is not resolved.
        task.add_run(retry, now);
    } else {
        end(deployment, task_id, run_id, RunState::Exception, reason);
    }
}

/// Cancels a task: its last run, or one that is made for it, is an exception. One that is resolved stays as it is.
pub(crate) fn cancel(deployment: &mut Deployment, task_id: &str) {
    let now = deployment.now();
    let Some(task) = deployment.tasks.get_mut(task_id) else { return };
    if task.runs.is_empty() {
        task.add_run("exception", now);
    }
    if task.is_active() {
        let run_id = u32::try_from(task.runs.len() - 1).expect("few runs");
        end(deployment, task_id, run_id, RunState::Exception, "canceled");
    }
}

/// Resolves a run for good. A completed task's `index.` routes are then in the index, as the index's own handler
/// puts them there (observed: a quarter of a second later; here: at once), and those who waited are scheduled.
fn end(deployment: &mut Deployment, task_id: &str, run_id: u32, state: RunState, reason: &'static str) {
    let now = deployment.now();
    let task = deployment.tasks.get_mut(task_id).expect("a task of this stand-in");
    let run = task.runs.get_mut(run_id as usize).expect("a run of this task");
    run.resolve(state, reason, now);
    if state == RunState::Completed {
        let definition = task.definition.clone();
        index::insert_routes(deployment, task_id, &definition);
    }
    release(deployment, task_id);
}

/// Updates the tasks that wait for a resolved task.
fn release(deployment: &mut Deployment, task_id: &str) {
    for dependent_id in deployment.dependents.get(task_id).cloned().unwrap_or_default() {
        let (Some(task), Some(dependent)) = (deployment.tasks.get(task_id), deployment.tasks.get(&dependent_id)) else {
            continue;
        };
        if task.satisfies(dependent) {
            let waits_for = &mut deployment.tasks.get_mut(&dependent_id).expect("just found").waits_for;
            waits_for.remove(task_id);
            if waits_for.is_empty() {
                schedule(deployment, &dependent_id);
            }
        }
    }
}

/// Resolves what is unresolved past its deadline. Expired claims are not resolved: workers reclaim in time here.
pub(crate) fn settle(deployment: &mut Deployment) {
    let now = deployment.now();
    let late = |task: &Task| (task.runs.is_empty() || task.is_active()) && task.deadline + DEADLINE_DELAY < now;
    let late: Vec<String> =
        deployment.tasks.iter().filter(|(_, task)| late(task)).map(|(task_id, _)| task_id.clone()).collect();
    for task_id in late {
        let task = deployment.tasks.get_mut(&task_id).expect("just found");
        if task.runs.is_empty() {
            task.add_run("exception", now);
        }
        let run_id = u32::try_from(task.runs.len() - 1).expect("few runs");
        end(deployment, &task_id, run_id, RunState::Exception, "deadline-exceeded");
    }
}
