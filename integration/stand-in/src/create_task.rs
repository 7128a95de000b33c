//! The queue's `createTask`: defaults, dates, scopes, the group, what a second call may do, and dependencies.
//! What becomes of the task afterwards is for `runs`.

use std::time::Duration;

use jiff::ToSpan as _;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::api::{Answer, ApiError, Ask, validate};
use super::http::Reply;
use super::runs::{Task, schedule};
use super::schema::{CREATE_TASK, PRIORITIES};
use super::scopes::Expression;
use super::world::{Group, World, is_slugid, json_time, parse_time};

/// How wrong a caller's clock may be.
const DRIFT: Duration = Duration::from_mins(15);

/// The queue's default `maxTaskDeadlineDays`.
const DEADLINE_DAYS: u64 = 5;

pub(super) fn create_task(world: &mut World, ask: &Ask) -> Answer {
    let definition = complete(ask.param("taskId"), &ask.body)?;
    ask.authorize_expression(&demanded(&definition))?;
    let status = submit(world, ask.param("taskId"), definition)?;
    Ok(Reply::json(200, &json!({"status": status})))
}

/// Creates a task for somebody who may do everything, from a body that nobody has looked at.
pub(super) fn submit_unasked(world: &mut World, task_id: &str, body: &Value) -> Result<Value, ApiError> {
    if !is_slugid(task_id) {
        return Err(ApiError::input(format!("{task_id} is no slugid")));
    }
    validate(CREATE_TASK, body)?;
    submit(world, task_id, complete(task_id, body)?)
}

/// The definition with all its defaults, of a body that the schema has passed. Dates are not looked at.
pub(super) fn complete(task_id: &str, body: &Value) -> Result<Value, ApiError> {
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
    let or = |name: &str, default: Value| body.get(name).cloned().unwrap_or(default);
    Ok(json!({
        "provisionerId": provisioner,
        "workerType": worker_type,
        "taskQueueId": format!("{provisioner}/{worker_type}"),
        "schedulerId": or("schedulerId", json!("-")),
        "projectId": or("projectId", json!("none")),
        "taskGroupId": or("taskGroupId", json!(task_id)),
        "dependencies": or("dependencies", json!([])),
        "requires": or("requires", json!("all-completed")),
        "routes": or("routes", json!([])),
        "priority": or("priority", json!("lowest")),
        "retries": or("retries", json!(5)),
        "created": body["created"],
        "deadline": body["deadline"],
        "expires": body["expires"],
        "scopes": or("scopes", json!([])),
        "payload": body["payload"],
        "metadata": body["metadata"],
        "tags": or("tags", json!({})),
        "extra": or("extra", json!({})),
    }))
}

/// The scopes that a definition demands of whoever creates it.
fn demanded(definition: &Value) -> Expression {
    let text = |name: &str| definition[name].as_str().unwrap_or_default();
    let mut all: Vec<Expression> = texts(&definition["scopes"]).map(Expression::scope).collect();
    all.extend(texts(&definition["routes"]).map(|route| Expression::scope(format!("queue:route:{route}"))));
    all.push(Expression::scope(format!("queue:create-task:project:{}", text("projectId"))));
    all.push(Expression::scope(format!("queue:scheduler-id:{}", text("schedulerId"))));
    // Whoever may do it at a higher priority, may do it at this one.
    let higher = PRIORITIES.iter().take_while(|priority| **priority != text("priority"));
    let priorities = higher.copied().chain([text("priority")]);
    let create = |priority| Expression::scope(format!("queue:create-task:{priority}:{}", text("taskQueueId")));
    all.push(Expression::AnyOf(priorities.map(create).collect()));
    Expression::AllOf(all)
}

/// Creates a task from its complete definition, for somebody who may. Answers its status. An equal task is the same
/// task.
fn submit(world: &mut World, task_id: &str, mut definition: Value) -> Result<Value, ApiError> {
    check_dates(world, &mut definition)?;
    if texts(&definition["scopes"]).any(|scope| scope.ends_with("**")) {
        return Err(ApiError::input("scopes must not end with `**`"));
    }
    let task = Task::new(definition);
    join_group(world, &task)?;
    match world.tasks.get(task_id) {
        Some(other) if other.definition != task.definition => {
            return Err(ApiError::conflict(format!(
                "taskId `{task_id}` already used by another task.\n\
                 This could be the result of faulty idempotency!"
            )));
        }
        Some(_) => {}
        None => {
            world.tasks.insert(task_id.to_owned(), task);
            // Looked at with the task in the books: a task may wait for itself, for ever.
            if let Err(refusal) = track_dependencies(world, task_id) {
                world.tasks.remove(task_id);
                return Err(refusal);
            }
        }
    }
    Ok(world.tasks[task_id].status(task_id))
}

/// Checks the dates, and writes them as the queue keeps them.
fn check_dates(world: &World, definition: &mut Value) -> Result<(), ApiError> {
    let time = |name: &str| {
        let time = definition[name].as_str().and_then(parse_time);
        time.ok_or_else(|| ApiError::internal("the schema lets bad times pass"))
    };
    let (now, created, deadline) = (world.now(), time("created")?, time("deadline")?);
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
pub(super) fn join_group(world: &mut World, task: &Task) -> Result<(), ApiError> {
    let (group_id, scheduler_id) = (task.text("taskGroupId"), task.text("schedulerId"));
    let expires = task.expires();
    // Groups outlive their tasks by an hour.
    let later = expires + Duration::from_hours(1);
    match world.groups.get_mut(group_id) {
        None => {
            let group = Group { scheduler_id: scheduler_id.to_owned(), expires: later };
            world.groups.insert(group_id.to_owned(), group);
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
fn track_dependencies(world: &mut World, task_id: &str) -> Result<(), ApiError> {
    let task = &world.tasks[task_id];
    let dependencies: Vec<&str> = texts(&task.definition["dependencies"]).collect();
    let list = |ids: Vec<&str>, end: &str| ids.iter().fold(String::new(), |list, id| list + " * " + id + end + "\n");
    let missing: Vec<&str> = dependencies.iter().copied().filter(|id| !world.tasks.contains_key(*id)).collect();
    if !missing.is_empty() {
        return Err(ApiError::input(format!(
            "`task.dependencies` references non-existing tasks: \n{}All taskIds in `task.dependencies` **must** exist\n\
             before the task is created.\n",
            list(missing, "")
        )));
    }
    let expiring: Vec<&str> =
        dependencies.iter().copied().filter(|id| world.tasks[*id].expires() < task.deadline).collect();
    if !expiring.is_empty() {
        return Err(ApiError::input(format!(
            "`task.dependencies` references tasks that expires\nbefore `task.deadline` this is not allowed, see tasks: \n\
             {}All taskIds in `task.dependencies` **must** have\n`task.expires` greater than the `deadline` for this \
             task.\n",
            list(expiring, ",")
        )));
    }
    let waits_for: Vec<String> =
        dependencies.into_iter().filter(|id| !world.tasks[*id].satisfies(task)).map(str::to_owned).collect();
    for dependency in &waits_for {
        world.dependents.entry(dependency.clone()).or_default().push(task_id.to_owned());
    }
    if waits_for.is_empty() {
        schedule(world, task_id);
    } else if let Some(task) = world.tasks.get_mut(task_id) {
        task.waits_for.extend(waits_for);
    }
    Ok(())
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().map_or(&[][..], Vec::as_slice).iter().filter_map(Value::as_str)
}
