//! The admin endpoints under `/stand-in/`: what a test does with method calls, for shell scripts with curl.
//! They need no credentials and do not appear in the call log.

use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use serde_json::{Map, Value, json};

use super::api::ApiError;
use super::create_task::submit_unasked;
use super::faults::Fault;
use super::http::{Reply, decode, header};
use super::runs::{self, RunState, Task};
use super::server::Shared;
use super::tasks::{self, Claim, TaskSpec};
use super::world::World;
use super::{SLOWEST, credentials, index, log, permanent_credentials, proxy, record_artifact, store};

/// The endpoints, for the program's help, in lines that clap need not break.
pub const ENDPOINTS: &str = r#"ROOT_URL/stand-in takes calls from shell scripts, without credentials: JSON in, JSON out.
  POST tasks
      Makes a task and claims it, as a worker does: answers its taskId, runId, credentials and
      proxyUrl (a taskcluster-proxy for the run). The body has any properties of a definition.
      taskId sets the id; "unclaimed": true leaves the run pending; expires and deadline may be
      seconds from now: "+3600".
  GET tasks
      All tasks: their names, states, and what they wait for.
  PUT tasks/TASK
      createTask, for whoever may do everything: a whole definition, looked at as strictly as the
      queue looks at it. The task waits for its dependencies. Answers its status.
  GET tasks/TASK
      The status, as the queue has it.
  POST tasks/TASK/claim
      Claims the pending run, or reclaims the running one. Answers as POST tasks.
  POST tasks/TASK/resolve
      {"state": "completed"}, "failed" or "exception"; with a runId if it is not the last run's.
      An exception may have a reason: worker-shutdown, claim-expired and intermittent-task make
      the queue retry. What waited for a completed task is pending then. Answers the status.
  POST tasks/TASK/rerun
      Ends the run that is there, adds one, and claims it. Answers as POST tasks.
  PUT artifacts/TASK/RUN/NAME
      Uploads the body, with its Content-Type and Content-Encoding, as the task's artifact.
  GET index
      All entries of the index.
  POST credentials
      {"scopes": ["queue:rerun-task-in-project:none"]}: makes a client. Answers its clientId and
      accessToken.
  POST advance
      {"seconds": 3600}: lets time pass. URLs and credentials grow old, deadlines pass.
  POST purge
      Forgets what has expired, as the services do at night.
  POST delay
      {"milliseconds": 50}: how long each call to the API takes from now on.
  POST faults
      {"call": "createArtifact", "kind": "status", "status": 503, "times": 2}: misbehaves. The
      kinds are in integration/stand-in/src/faults.rs.
  GET calls
      The calls to the API and the store so far.
  DELETE calls
      Forgets them.
"#;

/// Answers a request; what is wrong with it is the answer's text.
pub(super) async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Reply {
    let (parts, mut body) = request.into_parts();
    let path: Option<Vec<String>> = parts.uri.path().split('/').skip(2).map(decode).collect();
    let path = path.unwrap_or_default();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    if let ("PUT", ["artifacts", task_id, run_id, name @ ..]) = (parts.method.as_str(), &path[..]) {
        let Ok(run_id) = run_id.parse() else { return Reply::text(400, "the run is not a number") };
        return put_artifact(shared, task_id, run_id, &name.join("/"), &parts.headers, &mut body).await;
    }
    let Ok(body) = body.collect().await else { return Reply::text(400, "the body ended early") };
    let body = body.to_bytes();
    let object = if body.is_empty() { Ok(Map::new()) } else { serde_json::from_slice(&body) };
    match object {
        Ok(object) => match handle(shared, parts.method.as_str(), &path, object) {
            Ok(value) => Reply::json(200, &value),
            Err((status, message)) => Reply::text(status, &message),
        },
        Err(error) => Reply::text(400, &format!("the body is not a JSON object: {error}")),
    }
}

type Outcome = Result<Value, (u16, String)>;

fn no_task() -> (u16, String) {
    (404, "no such task or run".to_owned())
}

fn bad(what: impl Into<String>) -> (u16, String) {
    (400, what.into())
}

fn handle(shared: &Arc<Shared>, method: &str, path: &[&str], mut body: Map<String, Value>) -> Outcome {
    let mut world = shared.world();
    runs::settle(&mut world);
    let claimed = |mut world: MutexGuard<World>, task_id: &str| {
        let claim = tasks::claim(&mut world, task_id).map_err(|why| (409, why))?;
        drop(world);
        Ok(claim_json(shared, &claim))
    };
    match (method, path) {
        ("POST", ["tasks"]) => {
            let unclaimed = body.remove("unclaimed") == Some(Value::Bool(true));
            let task_id = tasks::create(&mut world, TaskSpec::from_json(body)).map_err(ApiError::into_parts)?;
            if unclaimed { Ok(json!({"taskId": task_id})) } else { claimed(world, &task_id) }
        }
        ("GET", ["tasks"]) => Ok(world.tasks.iter().map(|(task_id, task)| summary(task_id, task)).collect()),
        ("PUT", ["tasks", task_id]) => {
            submit_unasked(&mut world, task_id, &Value::Object(body)).map_err(ApiError::into_parts)
        }
        ("GET", ["tasks", task_id]) => Ok(world.tasks.get(*task_id).ok_or_else(no_task)?.status(task_id)),
        ("POST", ["tasks", task_id, what @ ("claim" | "rerun")]) => {
            world.tasks.get(*task_id).ok_or_else(no_task)?;
            if *what == "rerun" {
                tasks::rerun(&mut world, task_id).map_err(|why| (409, why))?;
            }
            claimed(world, task_id)
        }
        ("POST", ["tasks", task_id, "resolve"]) => resolve(&mut world, task_id, &body),
        ("POST", ["credentials"]) => {
            let scopes = serde_json::from_value(body.remove("scopes").unwrap_or(Value::Null));
            let scopes: Vec<String> = scopes.map_err(|_| bad("scopes is not an array of strings"))?;
            Ok(credentials::to_json(&permanent_credentials(&mut world, scopes)))
        }
        ("POST", ["faults"]) => {
            let fault = Fault::from_json(&body).ok_or_else(|| bad("call and a known kind are needed"))?;
            world.faults.push(fault.into());
            Ok(json!({}))
        }
        ("POST", ["advance"]) => {
            let seconds = body.get("seconds").and_then(Value::as_u64);
            // More than a lifetime would end the clock.
            let seconds = seconds.filter(|seconds| *seconds <= 3_000_000_000);
            let seconds = seconds.ok_or_else(|| bad("seconds is not a number, or is a lifetime"))?;
            world.advanced += Duration::from_secs(seconds);
            Ok(json!({}))
        }
        ("POST", ["purge"]) => {
            world.purge();
            Ok(json!({}))
        }
        ("POST", ["delay"]) => {
            let delay = body.get("milliseconds").and_then(Value::as_u64);
            let delay = delay.ok_or_else(|| bad("milliseconds is not a number"))?;
            world.options.delay = Duration::from_millis(delay).min(SLOWEST);
            Ok(json!({}))
        }
        ("GET", ["calls"]) => Ok(world.log.calls().iter().map(log::Call::to_json).collect()),
        ("DELETE", ["calls"]) => {
            world.log.clear();
            Ok(json!({}))
        }
        ("GET", ["index"]) => {
            Ok(world.index.iter().map(|(namespace, entry)| index::describe(namespace, entry)).collect())
        }
        _ => Err((404, "no such endpoint".to_owned())),
    }
}

/// What a list of tasks says of each.
fn summary(task_id: &str, task: &Task) -> Value {
    let status = task.status(task_id);
    json!({
        "taskId": task_id,
        "name": task.definition["metadata"]["name"],
        "taskGroupId": status["taskGroupId"],
        "state": status["state"],
        "runs": task.runs.len(),
        "waitsFor": task.waits_for,
    })
}

fn resolve(world: &mut World, task_id: &str, body: &Map<String, Value>) -> Outcome {
    let last = world.tasks.get(task_id).and_then(|task| task.runs.len().checked_sub(1)).ok_or_else(no_task)? as u64;
    let run_id = body.get("runId").map_or(Some(last), Value::as_u64).filter(|run_id| *run_id <= last);
    let run_id = run_id.and_then(|run_id| u32::try_from(run_id).ok()).ok_or_else(no_task)?;
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    match (text("state"), text("reason")) {
        (Some("completed"), None) => runs::resolve(world, task_id, run_id, RunState::Completed),
        (Some("failed"), None) => runs::resolve(world, task_id, run_id, RunState::Failed),
        (Some("exception"), reason) => {
            let reason = runs::exception(reason.unwrap_or("internal-error"));
            let reason = reason.ok_or_else(|| bad("the queue has no such reason for an exception"))?;
            runs::resolve_exception(world, task_id, run_id, reason);
        }
        _ => return Err(bad("state is not completed, failed or exception, and only an exception has a reason")),
    }
    Ok(world.tasks[task_id].status(task_id))
}

fn claim_json(shared: &Arc<Shared>, claim: &Claim) -> Value {
    json!({
        "taskId": claim.task_id,
        "runId": claim.run_id,
        "credentials": credentials::to_json(&claim.credentials),
        "proxyUrl": proxy::open(shared, claim),
    })
}

async fn put_artifact(
    shared: &Shared,
    task_id: &str,
    run_id: u32,
    name: &str,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Reply {
    let known = shared.world().tasks.get(task_id).is_some_and(|task| (run_id as usize) < task.runs.len());
    if !known {
        store::drain(body).await;
        return Reply::text(no_task().0, &no_task().1);
    }
    let content_type = header(headers, "content-type").unwrap_or("application/octet-stream");
    let encoding = header(headers, "content-encoding");
    let Ok(blob) = store::receive(shared, body, None).await else {
        return Reply::text(400, "the body ended early");
    };
    let mut world = shared.world();
    let place = record_artifact(&mut world, task_id, run_id, name, content_type);
    store::put(&mut world, place, blob.with_headers(content_type, encoding));
    Reply::json(200, &json!({}))
}
