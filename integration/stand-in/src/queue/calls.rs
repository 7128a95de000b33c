//! The queue's calls about tasks that are there: definition, status, group, and a sheriff's rerun. Making tasks is
//! `create_task`'s.

use serde_json::{Value, json};

use crate::api::{ApiError, ApiRequest, ApiResult};
use crate::deployment::Deployment;
use crate::paging::Paging;
use crate::queue::runs::{MOST_RUNS, add_rerun, cancel};
use crate::queue::task::Task;
use crate::wire::json_time;

pub(crate) fn task(deployment: &mut Deployment, request: &ApiRequest) -> ApiResult {
    request.reply(find(deployment, request, "has already been submitted")?.definition.clone())
}

pub(crate) fn status(deployment: &mut Deployment, request: &ApiRequest) -> ApiResult {
    let status = find(deployment, request, "exists")?.status(request.param("taskId"));
    request.reply(json!({"status": status}))
}

/// A sheriff's rerun: a pending run more, also of a task that is green or was never scheduled; of one that is
/// pending or running, nothing.
pub(crate) fn rerun_task(deployment: &mut Deployment, request: &ApiRequest) -> ApiResult {
    let (task_id, now) = (request.param("taskId"), deployment.now());
    let task = find(deployment, request, "has been submitted before")?;
    request.authorize(&task.status(task_id))?;
    if task.deadline < now {
        let deadline = json_time(task.deadline);
        let message = format!("Task `{task_id}` can't be rescheduled past its deadline of {deadline}.");
        return Err(ApiError::conflict(message));
    }
    if !task.is_active() {
        if task.runs.len() >= MOST_RUNS {
            return Err(ApiError::conflict(format!("Maximum number of runs reached ({MOST_RUNS}).")));
        }
        if let Some(task) = deployment.tasks.get_mut(task_id) {
            add_rerun(task, now);
        }
    }
    status(deployment, request)
}

/// Ends a task that is not resolved. Its worker learns nothing of it, and may go on for many minutes (observed: 17).
pub(crate) fn cancel_task(deployment: &mut Deployment, request: &ApiRequest) -> ApiResult {
    let (task_id, now) = (request.param("taskId"), deployment.now());
    let task = find(deployment, request, "has been submitted before")?;
    request.authorize(&task.status(task_id))?;
    if task.deadline < now {
        let deadline = json_time(task.deadline);
        return Err(ApiError::conflict(format!("Task `{task_id}` can't be canceled past its deadline of {deadline}.")));
    }
    cancel(deployment, task_id);
    status(deployment, request)
}

/// A group's tasks, in the order of their ids.
pub(crate) fn list_task_group(deployment: &mut Deployment, request: &ApiRequest) -> ApiResult {
    let group_id = request.param("taskGroupId");
    let members = deployment.tasks.iter().filter(|(_, task)| task.text("taskGroupId") == group_id);
    let (members, token) = Paging::of(request)?.page(members);
    let group = deployment.groups.get(group_id);
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
    if let Some(token) = token.filter(Value::is_string) {
        reply["continuationToken"] = token;
    }
    request.reply(reply)
}

fn find<'w>(deployment: &'w Deployment, request: &ApiRequest, doubt: &str) -> Result<&'w Task, ApiError> {
    let task_id = request.param("taskId");
    let missing = || {
        let missing = format!("`{task_id}` does not correspond to a task that exists.");
        ApiError::not_found(format!("{missing}\nAre you sure this task {doubt}?"))
    };
    deployment.tasks.get(task_id).ok_or_else(missing)
}
