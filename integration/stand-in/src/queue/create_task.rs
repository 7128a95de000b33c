//! The queue's `createTask`: defaults, dates, scopes, the group, what a second call may do, and dependencies.
//! What becomes of the task afterwards is for `runs`.

use std::time::Duration;

use jiff::ToSpan as _;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::api::{ApiError, ApiRequest, ApiResult, validate_input};
use crate::deployment::{Deployment, Group};
use crate::queue::runs::schedule;
use crate::queue::task::Task;
use crate::wire::{is_slugid, json_time, parse_time};

/// How wrong a caller's clock may be.
const DRIFT: Duration = Duration::from_mins(15);

/// Priorities of tasks, highest first.
const PRIORITIES: &[&str] = &["highest", "very-high", "high", "medium", "low", "very-low", "lowest"];

/// The schema of a definition as it is sent.
pub(crate) const SCHEMA: &str = "schemas/queue/v1/create-task-request.json";

/// The queue's default `maxTaskDeadlineDays`.
const DEADLINE_DAYS: u64 = 5;

pub(crate) fn create_task(deployment: &mut Deployment, request: &ApiRequest) -> ApiResult {
    let definition = complete(request.param("taskId"), &request.body)?;
    request.authorize(&values_of_scopes(&definition))?;
    let status = submit(deployment, request.param("taskId"), definition)?;
    request.reply(json!({"status": status}))
}

/// Creates a task for a caller with all scopes, from a body that was not checked.
pub(crate) fn submit_unchecked(deployment: &mut Deployment, task_id: &str, body: &Value) -> Result<Value, ApiError> {
    if !is_slugid(task_id) {
        return Err(ApiError::input(format!("{task_id} is no slugid")));
    }
    let mut body = body.clone();
    validate_input(SCHEMA, &mut body, &deployment.root_url)?;
    submit(deployment, task_id, complete(task_id, &body)?)
}

/// The definition with the defaults that depend on others, of a body that has those of the schema. Dates are not looked at.
pub(crate) fn complete(task_id: &str, body: &Value) -> Result<Value, ApiError> {
    let given = |name: &str| body[name].as_str();
    let (provisioner, worker_type) =
        match (given("provisionerId").zip(given("workerType")), given("taskQueueId").and_then(|id| id.split_once('/')))
        {
            (Some(old), Some(new)) if old != new => {
                return Err(ApiError::input("taskQueueId must match \"provisionerId/workerType\""));
            }
            (Some(parts), _) | (None, Some(parts)) => parts,
            (None, None) => {
                return Err(ApiError::input(
                    "at least a provisionerId and a workerType or a taskQueueId must be provided\"",
                ));
            }
        };
    let mut definition = body.clone();
    definition["provisionerId"] = provisioner.into();
    definition["workerType"] = worker_type.into();
    definition["taskQueueId"] = format!("{provisioner}/{worker_type}").into();
    if given("taskGroupId").is_none() {
        definition["taskGroupId"] = task_id.into();
    }
    Ok(definition)
}

/// What the template of the call's scopes needs of a definition.
fn values_of_scopes(definition: &Value) -> Value {
    // A scope for a higher priority is enough for this one.
    let higher = PRIORITIES.iter().copied().take_while(|priority| definition["priority"] != *priority);
    let mut values = definition.clone();
    values["priorities"] = higher.map(Value::from).chain([definition["priority"].clone()]).collect();
    values
}

/// Creates a task from its complete definition, for a caller with the scopes. Answers its status. An equal task is the same
/// task.
fn submit(deployment: &mut Deployment, task_id: &str, mut definition: Value) -> Result<Value, ApiError> {
    check_dates(deployment, &mut definition)?;
    if texts(&definition["scopes"]).any(|scope| scope.ends_with("**")) {
        return Err(ApiError::input("scopes must not end with `**`"));
    }
    let task = Task::new(definition);
    join_group(deployment, &task)?;
    match deployment.tasks.get(task_id) {
        Some(other) if other.definition != task.definition => {
            return Err(ApiError::conflict(format!(
                "taskId `{task_id}` already used by another task.\n\
                 This could be the result of faulty idempotency!"
            )));
        }
        Some(_) => {}
        None => {
            deployment.tasks.insert(task_id.to_owned(), task);
            // Checked with the task in the database: a task may wait for itself, for ever.
            if let Err(refusal) = track_dependencies(deployment, task_id) {
                deployment.tasks.remove(task_id);
                return Err(refusal);
            }
        }
    }
    Ok(deployment.tasks[task_id].status(task_id))
}

/// Checks the dates, and writes them as the queue keeps them.
fn check_dates(deployment: &Deployment, definition: &mut Value) -> Result<(), ApiError> {
    let time = |name: &str| {
        let time = definition[name].as_str().and_then(parse_time);
        time.ok_or_else(|| ApiError::internal("the schema lets bad times pass"))
    };
    let (now, created, deadline) = (deployment.now(), time("created")?, time("deadline")?);
    let limit = Duration::from_hours(24 * DEADLINE_DAYS) + DRIFT;
    let refusal = match () {
        () if created < now - DRIFT => "`created` cannot be in the past (max 15min drift)",
        () if created > now + DRIFT => "`created` cannot be in the future (max 15min drift)",
        // The queue's own words.
        () if created > deadline => "`deadline` cannot be later than `created`",
        () if deadline < now => "`deadline` cannot be in the past",
        () if deadline > now + limit => {
            return Err(ApiError::input(format!(
                "`deadline` cannot be more than {DEADLINE_DAYS} days into the future"
            )));
        }
        () => "",
    };
    if !refusal.is_empty() {
        return Err(ApiError::input(refusal));
    }
    let expires = if definition["expires"].is_null() {
        deadline.to_zoned(TimeZone::UTC).saturating_add(1.year()).timestamp()
    } else {
        time("expires")?
    };
    if deadline > expires {
        return Err(ApiError::input("`expires` cannot be before `deadline`"));
    }
    for (name, time) in [("created", created), ("deadline", deadline), ("expires", expires)] {
        definition[name] = json_time(time).into();
    }
    Ok(())
}

/// Makes the task's group, or finds that the task may be in it.
pub(crate) fn join_group(deployment: &mut Deployment, task: &Task) -> Result<(), ApiError> {
    let (group_id, scheduler_id) = (task.text("taskGroupId"), task.text("schedulerId"));
    let expires = task.expires();
    // Groups outlive their tasks by an hour.
    let later = expires + Duration::from_hours(1);
    match deployment.groups.get_mut(group_id) {
        None => {
            let group = Group { scheduler_id: scheduler_id.to_owned(), expires: later };
            deployment.groups.insert(group_id.to_owned(), group);
        }
        Some(group) if group.scheduler_id != scheduler_id => {
            return Err(ApiError::conflict(format!(
                "Task group `{group_id}` contains tasks with a schedulerId other\n\
                 than `{scheduler_id}`. All tasks in the same task-group must have\n\
                 the same schedulerId."
            )));
        }
        Some(group) if expires > group.expires => group.expires = later,
        Some(_) => {}
    }
    Ok(())
}

/// Looks at each dependency, and makes the first run if there is nothing to wait for.
fn track_dependencies(deployment: &mut Deployment, task_id: &str) -> Result<(), ApiError> {
    let task = &deployment.tasks[task_id];
    let dependencies: Vec<&str> = texts(&task.definition["dependencies"]).collect();
    let list = |ids: Vec<&str>, end: &str| ids.iter().fold(String::new(), |list, id| list + " * " + id + end + "\n");
    let missing: Vec<&str> = dependencies.iter().copied().filter(|id| !deployment.tasks.contains_key(*id)).collect();
    if !missing.is_empty() {
        return Err(ApiError::input(format!(
            "`task.dependencies` references non-existing tasks: \n{}All taskIds in `task.dependencies` **must** exist\n\
             before the task is created.\n",
            list(missing, "")
        )));
    }
    let expiring: Vec<&str> =
        dependencies.iter().copied().filter(|id| deployment.tasks[*id].expires() < task.deadline).collect();
    if !expiring.is_empty() {
        return Err(ApiError::input(format!(
            "`task.dependencies` references tasks that expires\nbefore `task.deadline` this is not allowed, see tasks: \n\
             {}All taskIds in `task.dependencies` **must** have\n`task.expires` greater than the `deadline` for this \
             task.\n",
            list(expiring, ",")
        )));
    }
    let waits_for: Vec<String> =
        dependencies.into_iter().filter(|id| !deployment.tasks[*id].satisfies(task)).map(str::to_owned).collect();
    for dependency in &waits_for {
        deployment.dependents.entry(dependency.clone()).or_default().push(task_id.to_owned());
    }
    if waits_for.is_empty() {
        schedule(deployment, task_id);
    } else if let Some(task) = deployment.tasks.get_mut(task_id) {
        task.waits_for.extend(waits_for);
    }
    Ok(())
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().map_or(&[][..], Vec::as_slice).iter().filter_map(Value::as_str)
}
