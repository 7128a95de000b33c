//! The queue's calls about tasks that are there: definition, status, group, and a sheriff's rerun. Making tasks is
//! `create_task`'s.

use serde_json::{Value, json};

use super::api::{Answer, ApiError, Ask};
use super::http::Reply;
use super::page::Page;
use super::runs::{MOST_RUNS, Task, add_rerun, cancel};
use super::scopes::Expression;
use super::world::{World, json_time};

#[expect(clippy::unnecessary_wraps, reason = "a handler like the others")]
pub(super) fn ping(_: &mut World, _: &Ask) -> Answer {
    Ok(Reply::json(200, &json!({"alive": true, "uptime": 1})))
}

pub(super) fn task(world: &mut World, ask: &Ask) -> Answer {
    Ok(Reply::json(200, &find(world, ask, "has already been submitted")?.definition))
}

pub(super) fn status(world: &mut World, ask: &Ask) -> Answer {
    let status = find(world, ask, "exists")?.status(ask.param("taskId"));
    Ok(Reply::json(200, &json!({"status": status})))
}

/// A sheriff's rerun: a pending run more, also of a task that is green or was never scheduled; of one that is
/// pending or running, nothing.
pub(super) fn rerun_task(world: &mut World, ask: &Ask) -> Answer {
    let (task_id, now) = (ask.param("taskId"), world.now());
    let task = find(world, ask, "has been submitted before")?;
    let group = format!("{}/{}", task.text("schedulerId"), task.text("taskGroupId"));
    ask.authorize_expression(&Expression::AnyOf(vec![
        Expression::scope(format!("queue:rerun-task:{group}/{task_id}")),
        Expression::scope(format!("queue:rerun-task-in-project:{}", task.text("projectId"))),
        Expression::all(["queue:rerun-task".to_owned(), format!("assume:scheduler-id:{group}")]),
    ]))?;
    if task.deadline < now {
        let deadline = json_time(task.deadline);
        let message = format!("Task `{task_id}` can't be rescheduled past its deadline of {deadline}.");
        return Err(ApiError::conflict(message));
    }
    if !task.is_active() {
        if task.runs.len() >= MOST_RUNS {
            return Err(ApiError::conflict(format!("Maximum number of runs reached ({MOST_RUNS}).")));
        }
        if let Some(task) = world.tasks.get_mut(task_id) {
            add_rerun(task, now);
        }
    }
    status(world, ask)
}

/// Ends a task that is not resolved. Its worker learns nothing of it, and may go on for many minutes (observed: 17).
pub(super) fn cancel_task(world: &mut World, ask: &Ask) -> Answer {
    let (task_id, now) = (ask.param("taskId"), world.now());
    let task = find(world, ask, "has been submitted before")?;
    let group = format!("{}/{}", task.text("schedulerId"), task.text("taskGroupId"));
    ask.authorize_expression(&Expression::AnyOf(vec![
        Expression::scope(format!("queue:cancel-task:{group}/{task_id}")),
        Expression::scope(format!("queue:cancel-task-in-project:{}", task.text("projectId"))),
        Expression::all(["queue:cancel-task".to_owned(), format!("assume:scheduler-id:{group}")]),
    ]))?;
    if task.deadline < now {
        let deadline = json_time(task.deadline);
        return Err(ApiError::conflict(format!("Task `{task_id}` can't be canceled past its deadline of {deadline}.")));
    }
    cancel(world, task_id);
    status(world, ask)
}

/// A group's tasks, in the order of their ids.
pub(super) fn list_task_group(world: &mut World, ask: &Ask) -> Answer {
    let group_id = ask.param("taskGroupId");
    let members = world.tasks.iter().filter(|(_, task)| task.text("taskGroupId") == group_id);
    let (members, token) = Page::of(ask)?.cut(members);
    let group = world.groups.get(group_id);
    let group = group.ok_or_else(|| ApiError::not_found(format!("No task-group with taskGroupId: `{group_id}`")))?;
    let tasks: Vec<Value> = members
        .into_iter()
        .map(|(task_id, task)| json!({"status": task.status(task_id), "task": task.definition}))
        .collect();
    let mut reply = json!({
        "taskGroupId": group_id,
        "schedulerId": group.scheduler_id,
        "expires": json_time(group.expires),
        "tasks": tasks,
    });
    if let Some(token) = token.filter(|token| !token.is_empty()) {
        reply["continuationToken"] = token.into();
    }
    Ok(Reply::json(200, &reply))
}

fn find<'w>(world: &'w World, ask: &Ask, doubt: &str) -> Result<&'w Task, ApiError> {
    let task_id = ask.param("taskId");
    let missing = || {
        let missing = format!("`{task_id}` does not correspond to a task that exists.");
        ApiError::not_found(format!("{missing}\nAre you sure this task {doubt}?"))
    };
    world.tasks.get(task_id).ok_or_else(missing)
}
