//! The queue's read side: where an artifact is, what is known about it, and which artifacts a run has. Making
//! artifacts is in `create_artifact`, and serving their bytes is the store's.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::api::{ApiError, ApiRequest, ApiResult};
use crate::credentials::{temporary, to_json};
use crate::deployment::{Artifact, ArtifactKey, Deployment, Details};
use crate::http::json_response;
use crate::queue::create_artifact::object_name;
use crate::store::{OBJECT_BUCKET, PRIVATE_BUCKET, get_url, public_url};
use crate::wire::json_time;

/// Signed GET URLs of private artifacts and objects are good for so long.
const SIGNED_GET: Duration = Duration::from_mins(30);

pub(crate) fn get_artifact(deployment: &mut Deployment, request: &ApiRequest) -> ApiResult {
    download(deployment, request, request.run_id().unwrap_or(u32::MAX))
}

pub(crate) fn get_latest_artifact(deployment: &mut Deployment, request: &ApiRequest) -> ApiResult {
    // Permission first: a 404 would reveal something.
    request.authorize(&json!({"names": [request.param("name")]}))?;
    let run_id = latest_run(deployment, request)?;
    download(deployment, request, run_id)
}

pub(crate) fn content(deployment: &mut Deployment, request: &ApiRequest) -> ApiResult {
    let (key, artifact) = follow_links(deployment, request, run(deployment, request)?)?;
    let storage_type = &artifact.storage_type;
    let content = match &artifact.details {
        Details::Object(_) => {
            let name = object_name(&key);
            let client_id = format!("artifact-download/{}/{}/{}", key.0, key.1, key.2);
            let expiry = deployment.now() + Duration::from_hours(1);
            let credentials = temporary(deployment, &client_id, expiry, &[format!("object:download:{name}")]);
            json!({"storageType": storage_type, "name": name, "credentials": to_json(&credentials)})
        }
        Details::Error(reason, message) => {
            json!({"storageType": storage_type, "reason": reason, "message": message})
        }
        _ => json!({"storageType": storage_type, "url": url(deployment, &artifact, &key)?}),
    };
    request.reply(content)
}

pub(crate) fn info(deployment: &mut Deployment, request: &ApiRequest) -> ApiResult {
    let key = (request.param("taskId").to_owned(), run(deployment, request)?, request.param("name").to_owned());
    match deployment.artifacts.get(&key) {
        // Expired artifacts are still known, until the nightly job removes them.
        Some(artifact) if artifact.present => request.reply(serialize(&key.2, artifact)),
        _ => Err(ApiError::not_found("Artifact not found")),
    }
}

/// Lists what was created, finished or not: no flag shows which.
pub(crate) fn list(deployment: &mut Deployment, request: &ApiRequest) -> ApiResult {
    let latest = latest_run(deployment, request)?;
    let run_id = request.run_id().unwrap_or(latest);
    let task_id = request.param("taskId");
    if run_id > latest {
        let message = format!("Task with taskId: `{task_id}` has no run with runId: {run_id}");
        return Err(ApiError::not_found(message));
    }
    let query = |name: &str| request.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let limit = query("limit").and_then(|limit| limit.parse().ok()).map_or(1000, |limit: usize| limit.min(1000));
    let after = query("continuationToken").and_then(continuation).unwrap_or_default();
    let mut names: Vec<(&String, &Artifact)> = deployment
        .artifacts
        .iter()
        .filter(|((task, run, name), _)| task == task_id && *run == run_id && *name > after)
        .map(|((.., name), artifact)| (name, artifact))
        .collect();
    let more = names.len() > limit;
    names.truncate(limit);
    let artifacts: Vec<Value> = names.iter().map(|(name, artifact)| serialize(name, artifact)).collect();
    let mut reply = json!({"artifacts": artifacts});
    if more {
        // The token is made of the last row of the page, and a page of none has no last row.
        let (last, _) = names.last().ok_or_else(|| ApiError::internal("limit=0"))?;
        reply["continuationToken"] = STANDARD.encode(json!([task_id, run_id, last]).to_string()).into();
    }
    request.reply(reply)
}

fn continuation(token: &str) -> Option<String> {
    let row: Value = serde_json::from_slice(&STANDARD.decode(token).ok()?).ok()?;
    row[2].as_str().map(str::to_owned)
}

/// The run that the path names, or the last.
fn run(deployment: &Deployment, request: &ApiRequest) -> Result<u32, ApiError> {
    request.run_id().map_or_else(|| latest_run(deployment, request), Ok)
}

/// The last run, be it pending: after a rerun, the first run's artifacts are no longer the latest.
fn latest_run(deployment: &Deployment, request: &ApiRequest) -> Result<u32, ApiError> {
    let task = deployment.tasks.get(request.param("taskId")).ok_or_else(|| ApiError::not_found("Task not found"))?;
    let last = task.runs.len().checked_sub(1).ok_or_else(|| ApiError::not_found("Task doesn't have any runs"))?;
    u32::try_from(last).map_err(|_| ApiError::internal("too many runs"))
}

/// The artifact at the end of the links, each of which the caller must be allowed to read.
fn follow_links(
    deployment: &Deployment,
    request: &ApiRequest,
    run_id: u32,
) -> Result<(ArtifactKey, Artifact), ApiError> {
    let mut names = vec![request.param("name").to_owned()];
    loop {
        request.authorize(&json!({"names": names}))?;
        let name = names.last().cloned().unwrap_or_default();
        let key = (request.param("taskId").to_owned(), run_id, name);
        let artifact = deployment.artifacts.get(&key).filter(|artifact| artifact.present);
        let artifact = artifact.ok_or_else(|| ApiError::not_found("Artifact not found"))?;
        if artifact.expires < deployment.now() {
            return Err(ApiError::new(410, "ResourceExpired", "Artifact expired"));
        }
        match &artifact.details {
            Details::Link(target) if names.contains(target) => {
                return Err(ApiError::input("Artifact leads to a link cycle"));
            }
            Details::Link(target) => names.push(target.clone()),
            _ => return Ok((key, artifact.clone())),
        }
    }
}

fn download(deployment: &Deployment, request: &ApiRequest, run_id: u32) -> ApiResult {
    let (key, artifact) = follow_links(deployment, request, run_id)?;
    let storage_type = artifact.storage_type.as_str();
    let response = if let Details::Error(reason, message) = &artifact.details {
        json_response(StatusCode::FAILED_DEPENDENCY, &json!({"reason": reason, "message": message}))
    } else {
        let url = url(deployment, &artifact, &key)?;
        // The schema refuses what is no URL (observed: 500).
        let found = request.reply(json!({"storageType": storage_type, "url": url}))?;
        (StatusCode::SEE_OTHER, [("location", url)], found).into_response()
    };
    Ok(([("x-taskcluster-artifact-storage-type", storage_type)], response).into_response())
}

fn url(deployment: &Deployment, artifact: &Artifact, key: &ArtifactKey) -> Result<String, ApiError> {
    match &artifact.details {
        Details::S3(bucket, path) if bucket == PRIVATE_BUCKET => Ok(get_url(deployment, bucket, path, SIGNED_GET)),
        Details::S3(bucket, path) => Ok(public_url(deployment, bucket, path)),
        Details::Object(_) => Ok(get_url(deployment, OBJECT_BUCKET, &object_name(key), SIGNED_GET)),
        Details::Reference(url) => Ok(url.clone()),
        Details::Link(_) | Details::Error(..) => Err(ApiError::internal("an artifact without a URL")),
    }
}

fn serialize(name: &str, artifact: &Artifact) -> Value {
    let mut value = json!({
        "storageType": artifact.storage_type,
        "name": name,
        "expires": json_time(artifact.expires),
        "contentType": artifact.content_type,
    });
    if let Some(length) = artifact.content_length {
        value["contentLength"] = length.into();
    }
    value
}
