//! The queue's read side: where an artifact is, what is known about it, and which artifacts a run has. Making
//! artifacts is next door, and serving their bytes is the store's.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::api::{Answer, ApiError, Ask};
use super::credentials::{temporary, to_json};
use super::http::Reply;
use super::queue::object_name;
use super::store::{OBJECT_BUCKET, PRIVATE_BUCKET, get_url, public_url};
use super::world::{Artifact, ArtifactKey, Details, World, json_time};

/// Signed GET URLs of private artifacts and objects are good for so long.
const SIGNED_GET: Duration = Duration::from_mins(30);

pub(super) fn get_artifact(world: &mut World, ask: &Ask) -> Answer {
    download(world, ask, ask.run_id().unwrap_or(u32::MAX))
}

pub(super) fn get_latest_artifact(world: &mut World, ask: &Ask) -> Answer {
    // Permission first: a 404 would tell something.
    ask.authorize(&[format!("queue:get-artifact:{}", ask.param("name"))])?;
    let run_id = latest_run(world, ask)?;
    download(world, ask, run_id)
}

pub(super) fn content(world: &mut World, ask: &Ask) -> Answer {
    let (key, artifact) = follow_links(world, ask, run(world, ask)?)?;
    let storage_type = &artifact.storage_type;
    let content = match &artifact.details {
        Details::Object(_) => {
            let name = object_name(&key);
            let client_id = format!("artifact-download/{}/{}/{}", key.0, key.1, key.2);
            let expiry = world.now() + Duration::from_hours(1);
            let credentials = temporary(world, &client_id, expiry, &[format!("object:download:{name}")]);
            json!({"storageType": storage_type, "name": name, "credentials": to_json(&credentials)})
        }
        Details::Error(reason, message) => {
            json!({"storageType": storage_type, "reason": reason, "message": message})
        }
        _ => json!({"storageType": storage_type, "url": url(world, &artifact, &key)?}),
    };
    Ok(Reply::json(200, &content))
}

pub(super) fn info(world: &mut World, ask: &Ask) -> Answer {
    let key = (ask.param("taskId").to_owned(), run(world, ask)?, ask.param("name").to_owned());
    match world.artifacts.get(&key) {
        // Expired artifacts are still known, until the nightly job removes them.
        Some(artifact) if artifact.present => Ok(Reply::json(200, &serialize(&key.2, artifact))),
        _ => Err(ApiError::not_found("Artifact not found")),
    }
}

/// Lists what was created, finished or not: no flag tells which.
pub(super) fn list(world: &mut World, ask: &Ask) -> Answer {
    let latest = latest_run(world, ask)?;
    let run_id = ask.run_id().unwrap_or(latest);
    let task_id = ask.param("taskId");
    if run_id > latest {
        let message = format!("Task with taskId: `{task_id}` has no run with runId: {run_id}");
        return Err(ApiError::not_found(message));
    }
    let query = |name: &str| ask.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let limit = query("limit").and_then(|limit| limit.parse().ok()).map_or(1000, |limit: usize| limit.min(1000));
    let after = query("continuationToken").and_then(continuation).unwrap_or_default();
    let mut names: Vec<(&String, &Artifact)> = world
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
    Ok(Reply::json(200, &reply))
}

fn continuation(token: &str) -> Option<String> {
    let row: Value = serde_json::from_slice(&STANDARD.decode(token).ok()?).ok()?;
    row[2].as_str().map(str::to_owned)
}

/// The run that the path names, or the last.
fn run(world: &World, ask: &Ask) -> Result<u32, ApiError> {
    ask.run_id().map_or_else(|| latest_run(world, ask), Ok)
}

/// The last run, be it pending: after a rerun, the first run's artifacts are no longer the latest.
fn latest_run(world: &World, ask: &Ask) -> Result<u32, ApiError> {
    let task = world.tasks.get(ask.param("taskId")).ok_or_else(|| ApiError::not_found("Task not found"))?;
    let last = task.runs.len().checked_sub(1).ok_or_else(|| ApiError::not_found("Task doesn't have any runs"))?;
    u32::try_from(last).map_err(|_| ApiError::internal("too many runs"))
}

/// The artifact at the end of the links, each of which the caller must be allowed to read.
fn follow_links(world: &World, ask: &Ask, run_id: u32) -> Result<(ArtifactKey, Artifact), ApiError> {
    let mut names = vec![ask.param("name").to_owned()];
    loop {
        let scopes: Vec<String> = names.iter().map(|name| format!("queue:get-artifact:{name}")).collect();
        ask.authorize(&scopes)?;
        let name = names.last().cloned().unwrap_or_default();
        let key = (ask.param("taskId").to_owned(), run_id, name);
        let artifact = world.artifacts.get(&key).filter(|artifact| artifact.present);
        let artifact = artifact.ok_or_else(|| ApiError::not_found("Artifact not found"))?;
        if artifact.expires < world.now() {
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

fn download(world: &World, ask: &Ask, run_id: u32) -> Answer {
    let (key, artifact) = follow_links(world, ask, run_id)?;
    let reply = if let Details::Error(reason, message) = &artifact.details {
        Reply::json(424, &json!({"reason": reason, "message": message}))
    } else {
        let url = url(world, &artifact, &key)?;
        Reply::json(303, &json!({"storageType": artifact.storage_type, "url": url})).header("location", &url)
    };
    Ok(reply.header("x-taskcluster-artifact-storage-type", &artifact.storage_type))
}

fn url(world: &World, artifact: &Artifact, key: &ArtifactKey) -> Result<String, ApiError> {
    match &artifact.details {
        Details::S3(bucket, path) if bucket == PRIVATE_BUCKET => Ok(get_url(world, bucket, path, SIGNED_GET)),
        Details::S3(bucket, path) => {
            public_url(world, bucket, path).ok_or_else(|| ApiError::internal("Output schema validation error: url"))
        }
        Details::Object(_) => Ok(get_url(world, OBJECT_BUCKET, &object_name(key), SIGNED_GET)),
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
