//! The admin endpoints under `/stand-in/`: what a test does with method calls, for shell scripts with curl.
//! They need no credentials and do not appear in the call log.

use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde_json::{Map, Value, json};

use crate::api::ApiError;
use crate::deployment::Deployment;
use crate::faults::Fault;
use crate::http::header;
use crate::queue::create_task::submit_unchecked;
use crate::queue::runs;
use crate::queue::task::{RunState, Task};
use crate::queue::tasks::{self, Claim, TaskSpec};
use crate::shared::Shared;
use crate::{SLOWEST, credentials, index, log, permanent_credentials, proxy, record_artifact, store};

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
      createTask, with all scopes: a whole definition, checked as strictly as the
      queue checks it. The task waits for its dependencies. Answers its status.
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
      Removes what has expired, as the services do at night.
  POST delay
      {"milliseconds": 50}: how long each call to the API takes from now on.
  POST faults
      {"call": "createArtifact", "kind": "status", "status": 503, "times": 2}: misbehaves. The
      kinds are in integration/stand-in/src/faults.rs.
  GET calls
      The calls to the API and the store so far.
  DELETE calls
      Removes them.
"#;

/// JSON, or a status and what is wrong.
type Outcome = Result<Json<Value>, (StatusCode, String)>;

type Server = State<Arc<Shared>>;

pub(crate) fn routes(shared: &Arc<Shared>) -> Router {
    Router::new()
        .route("/tasks", get(list_tasks).post(create_task))
        .route("/tasks/{task}", get(status).put(submit))
        .route("/tasks/{task}/claim", post(claim))
        .route("/tasks/{task}/rerun", post(rerun))
        .route("/tasks/{task}/resolve", post(resolve))
        .route("/artifacts/{task}/{run}/{*name}", put(put_artifact))
        .route("/index", get(list_index))
        .route("/credentials", post(create_credentials))
        .route("/advance", post(advance))
        .route("/purge", post(purge))
        .route("/delay", post(delay))
        .route("/faults", post(add_fault))
        .route("/calls", get(list_calls).delete(clear_calls))
        .fallback(async || (StatusCode::NOT_FOUND, "no such endpoint"))
        .with_state(shared.clone())
}

/// A body that is a JSON object, whatever its Content-Type: curl's `--data` has another. No body is an empty object.
struct Object(Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for Object {
    type Rejection = (StatusCode, String);

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        let body = Bytes::from_request(request, state).await.map_err(|error| bad(error.body_text()))?;
        if body.is_empty() {
            return Ok(Self(Map::new()));
        }
        let object = serde_json::from_slice(&body);
        object.map(Self).map_err(|error| bad(format!("the body is not a JSON object: {error}")))
    }
}

fn no_task() -> (StatusCode, String) {
    (StatusCode::NOT_FOUND, "no such task or run".to_owned())
}

fn bad(what: impl Into<String>) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, what.into())
}

fn conflict(what: String) -> (StatusCode, String) {
    (StatusCode::CONFLICT, what)
}

fn refusal(error: ApiError) -> (StatusCode, String) {
    let (status, message) = error.into_parts();
    (StatusCode::from_u16(status).expect("a status of the API"), message)
}

/// The deployment as it is now: what is past its deadline is resolved.
fn settled(shared: &Shared) -> MutexGuard<'_, Deployment> {
    let mut deployment = shared.lock();
    runs::settle(&mut deployment);
    deployment
}

async fn create_task(State(shared): Server, Object(mut spec): Object) -> Outcome {
    let unclaimed = spec.remove("unclaimed") == Some(Value::Bool(true));
    let task_id = tasks::create(&mut settled(&shared), TaskSpec::from_json(spec)).map_err(refusal)?;
    if unclaimed { Ok(Json(json!({"taskId": task_id}))) } else { claim(State(shared), Path(task_id)).await }
}

async fn list_tasks(State(shared): Server) -> Json<Value> {
    Json(settled(&shared).tasks.iter().map(|(task_id, task)| summary(task_id, task)).collect())
}

async fn submit(State(shared): Server, Path(task_id): Path<String>, Object(definition): Object) -> Outcome {
    submit_unchecked(&mut settled(&shared), &task_id, &Value::Object(definition)).map(Json).map_err(refusal)
}

async fn status(State(shared): Server, Path(task_id): Path<String>) -> Outcome {
    Ok(Json(settled(&shared).tasks.get(&task_id).ok_or_else(no_task)?.status(&task_id)))
}

async fn claim(State(shared): Server, Path(task_id): Path<String>) -> Outcome {
    let claim = {
        let mut deployment = settled(&shared);
        deployment.tasks.get(&task_id).ok_or_else(no_task)?;
        tasks::claim(&mut deployment, &task_id).map_err(conflict)?
    };
    Ok(Json(claim_json(&shared, &claim)))
}

async fn rerun(State(shared): Server, Path(task_id): Path<String>) -> Outcome {
    {
        let mut deployment = settled(&shared);
        deployment.tasks.get(&task_id).ok_or_else(no_task)?;
        tasks::rerun(&mut deployment, &task_id).map_err(conflict)?;
    }
    claim(State(shared), Path(task_id)).await
}

async fn resolve(State(shared): Server, Path(task_id): Path<String>, Object(body): Object) -> Outcome {
    let mut deployment = settled(&shared);
    let last = deployment.tasks.get(&task_id).and_then(|task| task.runs.len().checked_sub(1)).ok_or_else(no_task)?;
    let run_id = body.get("runId").map_or(Some(last as u64), Value::as_u64).filter(|run_id| *run_id <= last as u64);
    let run_id = run_id.and_then(|run_id| u32::try_from(run_id).ok()).ok_or_else(no_task)?;
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    match (text("state"), text("reason")) {
        (Some("completed"), None) => runs::resolve(&mut deployment, &task_id, run_id, RunState::Completed),
        (Some("failed"), None) => runs::resolve(&mut deployment, &task_id, run_id, RunState::Failed),
        (Some("exception"), reason) => {
            let reason = runs::exception(reason.unwrap_or("internal-error"));
            let reason = reason.ok_or_else(|| bad("the queue has no such reason for an exception"))?;
            runs::resolve_exception(&mut deployment, &task_id, run_id, reason);
        }
        _ => return Err(bad("state is not completed, failed or exception, and only an exception has a reason")),
    }
    Ok(Json(deployment.tasks[&task_id].status(&task_id)))
}

async fn list_index(State(shared): Server) -> Json<Value> {
    let deployment = settled(&shared);
    Json(deployment.index.iter().map(|(namespace, entry)| index::describe(namespace, entry)).collect())
}

async fn create_credentials(State(shared): Server, Object(mut body): Object) -> Outcome {
    let scopes = serde_json::from_value(body.remove("scopes").unwrap_or(Value::Null));
    let scopes: Vec<String> = scopes.map_err(|_| bad("scopes is not an array of strings"))?;
    Ok(Json(credentials::to_json(&permanent_credentials(&mut shared.lock(), scopes))))
}

async fn advance(State(shared): Server, Object(body): Object) -> Outcome {
    let seconds = body.get("seconds").and_then(Value::as_u64);
    // More than a lifetime would end the clock.
    let seconds = seconds.filter(|seconds| *seconds <= 3_000_000_000);
    let seconds = seconds.ok_or_else(|| bad("seconds is not a number, or is a lifetime"))?;
    shared.lock().advanced += Duration::from_secs(seconds);
    Ok(Json(json!({})))
}

async fn purge(State(shared): Server) -> Json<Value> {
    settled(&shared).purge();
    Json(json!({}))
}

async fn delay(State(shared): Server, Object(body): Object) -> Outcome {
    let delay = body.get("milliseconds").and_then(Value::as_u64);
    let delay = delay.ok_or_else(|| bad("milliseconds is not a number"))?;
    shared.lock().options.delay = Duration::from_millis(delay).min(SLOWEST);
    Ok(Json(json!({})))
}

async fn add_fault(State(shared): Server, Object(body): Object) -> Outcome {
    let fault = Fault::from_json(&body).ok_or_else(|| bad("call and a known kind are needed"))?;
    shared.lock().faults.push(fault.into());
    Ok(Json(json!({})))
}

async fn list_calls(State(shared): Server) -> Json<Value> {
    Json(shared.lock().log.calls().iter().map(log::Call::to_json).collect())
}

async fn clear_calls(State(shared): Server) -> Json<Value> {
    shared.lock().log.clear();
    Json(json!({}))
}

async fn put_artifact(
    State(shared): Server,
    Path((task_id, run_id, name)): Path<(String, String, String)>,
    headers: HeaderMap,
    request: Request,
) -> Outcome {
    let mut body = request.into_body().into_data_stream();
    let run_id: u32 = run_id.parse().map_err(|_| bad("the run is not a number"))?;
    let known = shared.lock().tasks.get(&task_id).is_some_and(|task| (run_id as usize) < task.runs.len());
    if !known {
        store::drain(&mut body).await;
        return Err(no_task());
    }
    let content_type = header(&headers, "content-type").unwrap_or("application/octet-stream");
    let blob = store::receive(&shared, &mut body, None).await.map_err(|_| bad("the body ended early"))?;
    let blob = blob.with_headers(content_type, header(&headers, "content-encoding"));
    let mut deployment = shared.lock();
    let place = record_artifact(&mut deployment, &task_id, run_id, &name, content_type);
    store::put(&mut deployment, place, blob);
    Ok(Json(json!({})))
}

/// A task in the list of tasks.
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

fn claim_json(shared: &Arc<Shared>, claim: &Claim) -> Value {
    json!({
        "taskId": claim.task_id,
        "runId": claim.run_id,
        "credentials": credentials::to_json(&claim.credentials),
        "proxyUrl": proxy::open(shared, claim),
    })
}
