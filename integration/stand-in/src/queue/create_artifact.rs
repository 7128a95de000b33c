//! The queue's write side: `createArtifact` and `finishArtifact`, with every rule about expiry, run state and
//! second calls that was measured on the real queue. Reading artifacts is in `artifacts`.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use serde_json::{Value, json};

use crate::api::{ApiError, ApiRequest, ApiResult};
use crate::credentials::{temporary, to_json};
use crate::deployment::{Artifact, ArtifactKey, Deployment, Details};
use crate::object;
use crate::queue::task::RunState;
use crate::store::{OBJECT_BUCKET, PRIVATE_BUCKET, PUBLIC_BUCKET, put_url};
use crate::wire::{json_time, slugid};

/// The name under which the object service has an artifact.
pub(crate) fn object_name(key: &ArtifactKey) -> String {
    format!("t/{}/{}/{}", key.0, key.1, key.2)
}

/// Bucket and key of an artifact in the S3-like store.
pub(crate) fn s3_place(key: &ArtifactKey) -> (&'static str, String) {
    let bucket = if key.2.starts_with("public/") { PUBLIC_BUCKET } else { PRIVATE_BUCKET };
    (bucket, format!("{}/{}/{}", key.0, key.1, key.2))
}

/// Where the bytes of an artifact are, for storage types that have bytes: `bucket/key`.
pub(crate) fn blob_key(artifact: &Artifact, key: &ArtifactKey) -> Option<String> {
    match (artifact.storage_type.as_str(), &artifact.details) {
        (_, Details::S3(bucket, path)) => Some(format!("{bucket}/{path}")),
        ("object", _) => Some(format!("{OBJECT_BUCKET}/{}", object_name(key))),
        _ => None,
    }
}

pub(crate) fn create_artifact(deployment: &mut Deployment, request: &ApiRequest) -> ApiResult {
    let key =
        (request.param("taskId").to_owned(), request.run_id().unwrap_or(u32::MAX), request.param("name").to_owned());
    let wanted = check_request(deployment, request, &key)?;
    let artifact = match deployment.artifacts.get_mut(&key) {
        None => {
            deployment.artifacts.insert(key.clone(), wanted.clone());
            wanted
        }
        Some(original) if compatible(original, &wanted) => {
            // A second call extends the expiry and may replace a reference; it never changes the length.
            original.expires = wanted.expires;
            original.storage_type = wanted.storage_type;
            original.details = wanted.details;
            original.clone()
        }
        Some(original) => {
            let was = json!({
                "storageType": original.storage_type,
                "contentType": original.content_type,
                "expires": json_time(original.expires),
            });
            let message = "Artifact already exists with different properties, and none of the allowed exceptions apply";
            return Err(ApiError::conflict(format!("{message}: {was:#}")));
        }
    };
    request.reply(upload_instructions(deployment, &artifact, &key))
}

pub(crate) fn finish_artifact(deployment: &mut Deployment, request: &ApiRequest) -> ApiResult {
    let key =
        (request.param("taskId").to_owned(), request.run_id().unwrap_or(u32::MAX), request.param("name").to_owned());
    let object_finished = deployment.objects.get(&object_name(&key)).is_some_and(|object| object.upload_id.is_none());
    let Some(artifact) = deployment.artifacts.get_mut(&key) else {
        let (task, run, name) = key;
        return Err(ApiError::not_found(format!(
            "Artifact with taskId `{task}`, runId {run}, name `{name}` not found"
        )));
    };
    if artifact.storage_type != "object" {
        return Err(ApiError::input("Only object artifacts can be finished"));
    }
    // Once finished, the call repeats its answer without a look at the upload id.
    if !artifact.present {
        if artifact.details != Details::Object(request.text("uploadId").to_owned()) {
            return Err(ApiError::input("given uploadId does not match that for the artifact"));
        }
        if !object_finished {
            return Err(ApiError::input("Object storing artifact data does not exist"));
        }
        artifact.present = true;
    }
    if artifact.content_length.is_some() {
        // Observed in version 106: the message about the artifact then breaks its own schema, after the
        // artifact has been marked as present.
        return Err(ApiError::internal(
            "Message validation failed: data/artifact must NOT have additional properties: contentLength",
        ));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// All that is refused before the artifact's own history matters. Answers the requested artifact.
fn check_request(deployment: &mut Deployment, request: &ApiRequest, key: &ArtifactKey) -> Result<Artifact, ApiError> {
    let expires = request.time("expires")?;
    let now = deployment.now();
    // A quarter of an hour in the past is allowed: the clocks of workers.
    if expires < now - Duration::from_mins(15) {
        return Err(ApiError::input("Expires must be in the future"));
    }
    let task = deployment.tasks.get(&key.0).ok_or_else(|| ApiError::input("Task not found"))?;
    let run = task.runs.get(key.1 as usize).ok_or_else(|| ApiError::input("Run not found"))?;
    if run.worker.is_none() {
        let message = "Run was not claimed by a worker and so no artifacts can exist";
        return Err(ApiError::input(message));
    }
    if expires > task.expires() {
        return Err(ApiError::input(format!(
            "Artifact expires ({}) after the task expiration {} (task.expires < expires) - this is not allowed, \
             artifacts may not expire after the task they belong to expires",
            json_time(expires),
            json_time(task.expires())
        )));
    }
    let grace = Duration::from_mins(25);
    let open = match run.state {
        RunState::Running => true,
        RunState::Exception => run.resolved.is_some_and(|resolved| now < resolved + grace),
        RunState::Pending | RunState::Completed | RunState::Failed => false,
    };
    if !open {
        return Err(ApiError::conflict(format!(
            "Artifacts cannot be created for a task after it is resolved, unless it is resolved 'exception', and \
             even in this case only up to 25 min past resolution.\n\nTask status: {:#}",
            task.status(&key.0)
        )));
    }
    let project_id = task.text("projectId").to_owned();
    let storage_type = request.text("storageType").to_owned();
    let details = match storage_type.as_str() {
        "s3" if deployment.options.s3 => {
            let (bucket, path) = s3_place(key);
            Details::S3(bucket.to_owned(), path)
        }
        "object" if deployment.options.object_service => {
            let upload_id = slugid();
            // The object service refuses a second upload of the same name, and the queue does not expect that.
            if !object::begin(deployment, &object_name(key), &project_id, &upload_id, expires) {
                return Err(ApiError::internal("Object already exists"));
            }
            Details::Object(upload_id)
        }
        "reference" => Details::Reference(request.text("url").to_owned()),
        "link" => Details::Link(request.text("artifact").to_owned()),
        "error" => Details::Error(request.text("reason").to_owned(), request.text("message").to_owned()),
        other => return Err(ApiError::internal(&format!("this deployment has no storage of type {other}"))),
    };
    let content_type = match request.text("contentType") {
        "" => "application/binary",
        given => given,
    };
    Ok(Artifact {
        present: storage_type != "object",
        storage_type,
        content_type: content_type.to_owned(),
        content_length: length(&request.body["contentLength"]),
        expires,
        details,
    })
}

/// Whether a second call may have its way.
fn compatible(original: &Artifact, wanted: &Artifact) -> bool {
    let becomes_link = original.storage_type == "reference" && wanted.storage_type == "link";
    let same_type = original.storage_type == wanted.storage_type;
    (wanted.storage_type == "link" || original.content_type == wanted.content_type)
        && original.expires <= wanted.expires
        && (becomes_link || same_type)
        && (becomes_link || wanted.storage_type == "reference" || original.details == wanted.details)
}

/// What `createArtifact` answers. Of the s3 answer, `expires` is the URL's, not the artifact's.
fn upload_instructions(deployment: &Deployment, artifact: &Artifact, key: &ArtifactKey) -> Value {
    let now = deployment.now();
    match &artifact.details {
        Details::S3(bucket, path) => json!({
            "storageType": "s3",
            "contentType": artifact.content_type,
            "expires": json_time(now + Duration::from_mins(45)),
            // Ten seconds more, for the clock's drift. Only the host is signed: no header is bound.
            "putUrl": put_url(deployment, bucket, path, Duration::from_secs(45 * 60 + 10), &[]),
        }),
        Details::Object(upload_id) => {
            let name = object_name(key);
            let task = &deployment.tasks[&key.0];
            let (group, worker) = task.runs[key.1 as usize].worker.unwrap_or_default();
            let client_id = format!("artifact-upload/{}/{}/on/{group}/{worker}", key.0, key.1);
            let expiry = artifact.expires.min(now + Duration::from_hours(24));
            let scope = format!("object:upload:{}:{name}", task.text("projectId"));
            json!({
                "storageType": "object",
                "name": name,
                "projectId": task.text("projectId"),
                "uploadId": upload_id,
                "expires": json_time(artifact.expires),
                "credentials": to_json(&temporary(deployment, &client_id, expiry, &[scope])),
            })
        }
        _ => json!({"storageType": artifact.storage_type}),
    }
}

/// A length as JSON has it: 5.0 is an integer to JavaScript.
fn length(value: &Value) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the schema wants an integer >= 0")]
    value.as_u64().or_else(|| value.as_f64().map(|number| number as u64))
}
