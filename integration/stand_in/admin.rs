//! The admin endpoints under `/stand-in/`: what a test does with method calls, for shell scripts with curl.
//! They need no credentials and do not appear in the call log.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use serde_json::{Map, Value, json};

use super::faults::Fault;
use super::http::{Reply, decode, header};
use super::server::Shared;
use super::tasks::{self, Claim, RunState, TaskSpec};
use super::world::World;
use super::{SLOWEST, credentials, index, log, permanent_credentials, proxy, record_artifact, store};

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
            Err((status, message)) => Reply::text(status, message),
        },
        Err(error) => Reply::text(400, &format!("the body is not a JSON object: {error}")),
    }
}

type Outcome = Result<Value, (u16, &'static str)>;

const NO_TASK: (u16, &str) = (404, "no such task or run");

fn handle(shared: &Arc<Shared>, method: &str, path: &[&str], mut body: Map<String, Value>) -> Outcome {
    let mut world = shared.world();
    match (method, path) {
        ("POST", ["tasks"]) => {
            let spec = TaskSpec::from_json(body);
            let unclaimed = spec.is_unclaimed();
            let task_id = tasks::create(&mut world, spec);
            if unclaimed {
                return Ok(json!({"taskId": task_id}));
            }
            let claim = tasks::claim(&mut world, &task_id);
            drop(world);
            Ok(claim_json(shared, &claim))
        }
        ("POST", ["tasks", task_id, what @ ("claim" | "rerun")]) => {
            let resolved = world.tasks.get(*task_id).ok_or(NO_TASK)?.is_resolved();
            if *what == "rerun" {
                tasks::rerun(&mut world, task_id);
            } else if resolved {
                return Err((409, "the last run is resolved: rerun the task"));
            }
            let claim = tasks::claim(&mut world, task_id);
            drop(world);
            Ok(claim_json(shared, &claim))
        }
        ("POST", ["tasks", task_id, "resolve"]) => resolve(&mut world, task_id, &body),
        ("GET", ["tasks", task_id]) => Ok(world.tasks.get(*task_id).ok_or(NO_TASK)?.status(task_id)),
        ("POST", ["credentials"]) => {
            let scopes = serde_json::from_value(body.remove("scopes").unwrap_or(Value::Null));
            let scopes: Vec<String> = scopes.map_err(|_| (400, "scopes is not an array of strings"))?;
            Ok(credentials::to_json(&permanent_credentials(&mut world, scopes)))
        }
        ("POST", ["faults"]) => {
            let fault = Fault::from_json(&body).ok_or((400, "call and a known kind are needed"))?;
            world.faults.push(fault.into());
            Ok(json!({}))
        }
        ("POST", ["advance"]) => {
            let seconds = body.get("seconds").and_then(Value::as_u64).ok_or((400, "seconds is not a number"))?;
            world.advanced += Duration::from_secs(seconds);
            Ok(json!({}))
        }
        ("POST", ["delay"]) => {
            let delay =
                body.get("milliseconds").and_then(Value::as_u64).ok_or((400, "milliseconds is not a number"))?;
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
        _ => Err((404, "no such endpoint")),
    }
}

fn resolve(world: &mut World, task_id: &str, body: &Map<String, Value>) -> Outcome {
    let state = match body.get("state").and_then(Value::as_str) {
        Some("completed") => RunState::Completed,
        Some("failed") => RunState::Failed,
        Some("exception") => RunState::Exception,
        _ => return Err((400, "state is not completed, failed or exception")),
    };
    let runs = world.tasks.get(task_id).ok_or(NO_TASK)?.runs.len();
    let run_id = body.get("runId").map_or(Some(runs as u64 - 1), Value::as_u64).and_then(|id| u32::try_from(id).ok());
    let run_id = run_id.filter(|id| (*id as usize) < runs).ok_or(NO_TASK)?;
    tasks::resolve(world, task_id, run_id, state);
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
        return Reply::text(NO_TASK.0, NO_TASK.1);
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
