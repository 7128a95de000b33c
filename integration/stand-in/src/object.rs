//! The object service: uploads that are negotiated, finished once and then immutable, and the only place in
//! Taskcluster that hands out hashes. The bytes themselves go to and come from the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::{ApiError, ApiRequest, ApiResult, get, ping, post, put};
use crate::deployment::{Deployment, Object};
use crate::http::redirect;
use crate::shared::Shared;
use crate::store::{self, OBJECT_BUCKET, get_url, put_url};
use crate::wire::json_time;

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/ping", get(ping))
        .route("/upload/{name}", put(create_upload))
        .route("/finish-upload/{name}", post(finish_upload))
        .route("/start-download/{*name}", put(start_download))
        .route("/metadata/{*name}", get(metadata))
        .route("/download/{*name}", get(download))
}

/// Begins an upload, or joins one that was started with the same parameters. False when the name is taken.
pub(crate) fn begin(
    deployment: &mut Deployment,
    name: &str,
    project_id: &str,
    upload_id: &str,
    expires: Timestamp,
) -> bool {
    if let Some(object) = deployment.objects.get(name) {
        return object.upload_id.as_deref() == Some(upload_id)
            && object.project_id == project_id
            && object.expires == expires;
    }
    let object = Object {
        project_id: project_id.to_owned(),
        upload_id: Some(upload_id.to_owned()),
        expires,
        hashes: BTreeMap::new(),
    };
    deployment.objects.insert(name.to_owned(), object);
    true
}

fn create_upload(deployment: &mut Deployment, request: &ApiRequest) -> ApiResult {
    let name = request.param("name");
    authorize_upload(deployment, request)?;
    let expires = request.time("expires")?;
    if !begin(deployment, name, request.text("projectId"), request.text("uploadId"), expires) {
        return Err(ApiError::conflict("Object already exists"));
    }
    add_hashes(deployment, request)?;
    let proposed = &request.body["proposedUploadMethods"];
    let method = if let Some(inline) = proposed.get("dataInline") {
        // Inline data wins where both are proposed.
        let data = STANDARD.decode(inline["objectData"].as_str().unwrap_or_default());
        let data = data.map_err(|_| ApiError::input("Invalid base64 objectData"))?;
        let content_type = inline["contentType"].as_str();
        store::put_bytes(deployment, OBJECT_BUCKET, name, content_type, None, &data);
        json!({"dataInline": true})
    } else if let Some(put) = proposed.get("putUrl") {
        put_method(deployment, name, put)
    } else {
        json!({})
    };
    request.reply(json!({
        "projectId": request.text("projectId"),
        "uploadId": request.text("uploadId"),
        "expires": request.text("expires"),
        "uploadMethod": method,
    }))
}

fn finish_upload(deployment: &mut Deployment, request: &ApiRequest) -> ApiResult {
    let name = request.param("name");
    authorize_upload(deployment, request)?;
    let object = deployment.objects.get(name).ok_or_else(|| missing(name))?;
    if object.project_id != request.text("projectId") {
        let message = format!("Object \"{name}\" does not have projectId {}", request.text("projectId"));
        return Err(ApiError::input(message));
    }
    match &object.upload_id {
        None => {
            for (algorithm, hash) in hashes(request) {
                if object.hashes.get(&algorithm) != Some(&hash) {
                    let message = format!("Object \"{name}\" is already finished, but with another {algorithm}");
                    return Err(ApiError::conflict(message));
                }
            }
        }
        Some(id) if id != request.text("uploadId") => {
            let message = format!("Object \"{name}\" does not have uploadId {}", request.text("uploadId"));
            return Err(ApiError::conflict(message));
        }
        Some(_) => {
            add_hashes(deployment, request)?;
            // Nothing checks that the data is there, as with every backend but the real AWS (observed).
            if let Some(object) = deployment.objects.get_mut(name) {
                object.upload_id = None;
            }
        }
    }
    request.reply(json!({}))
}

fn start_download(deployment: &mut Deployment, request: &ApiRequest) -> ApiResult {
    let name = request.param("name");
    let object = finished(deployment, name)?;
    let accepted = &request.body["acceptDownloadMethods"];
    if accepted.get("getUrl").is_some() {
        let minute = Duration::from_mins(1);
        return request.reply(json!({
            "method": "getUrl",
            "url": get_url(deployment, OBJECT_BUCKET, name, 2 * minute),
            "expires": json_time(deployment.now() + minute),
            "hashes": object.hashes,
        }));
    }
    if accepted.get("simple").is_some() {
        let url = get_url(deployment, OBJECT_BUCKET, name, Duration::from_mins(30));
        return request.reply(json!({"method": "simple", "url": url}));
    }
    Err(ApiError::new(406, "NoMatchingMethod", "Object supports methods simple, getUrl"))
}

fn metadata(deployment: &mut Deployment, request: &ApiRequest) -> ApiResult {
    let object = finished(deployment, request.param("name"))?;
    let body = json!({"projectId": object.project_id, "expires": json_time(object.expires), "hashes": object.hashes});
    request.reply(body)
}

fn download(deployment: &mut Deployment, request: &ApiRequest) -> ApiResult {
    let name = request.param("name");
    finished(deployment, name)?;
    let url = get_url(deployment, OBJECT_BUCKET, name, Duration::from_mins(30));
    Ok(redirect(&url))
}

/// The scope names the project that the body names.
fn authorize_upload(deployment: &Deployment, request: &ApiRequest) -> Result<(), ApiError> {
    request.authorize(&json!({"projectId": request.text("projectId"), "name": request.param("name")}))?;
    if deployment.options.object_service {
        Ok(())
    } else {
        Err(ApiError::new(400, "NoMatchingBackend", "No backend matched the given name and projectId"))
    }
}

/// The headers that the URL's signature binds, and that the caller must send exactly.
fn put_method(deployment: &Deployment, name: &str, put: &Value) -> Value {
    let content_type = put["contentType"].as_str().unwrap_or_default();
    let length = put["contentLength"].as_u64().unwrap_or_default().to_string();
    let life = Duration::from_mins(45);
    let bound = [("content-length", length.as_str()), ("content-type", content_type)];
    json!({"putUrl": {
        "url": put_url(deployment, OBJECT_BUCKET, name, life + Duration::from_secs(10), &bound),
        "expires": json_time(deployment.now() + life),
        "headers": {"Content-Type": content_type, "Content-Length": length, "Content-Encoding": "identity"},
    }})
}

fn hashes(request: &ApiRequest) -> Vec<(String, String)> {
    let Some(hashes) = request.body["hashes"].as_object() else { return Vec::new() };
    hashes.iter().filter_map(|(algorithm, hash)| Some((algorithm.clone(), hash.as_str()?.to_owned()))).collect()
}

/// Adds the request's hashes: more are welcome, others are not.
fn add_hashes(deployment: &mut Deployment, request: &ApiRequest) -> Result<(), ApiError> {
    let Some(object) = deployment.objects.get_mut(request.param("name")) else { return Ok(()) };
    for (algorithm, hash) in hashes(request) {
        if object.hashes.get(&algorithm).is_some_and(|known| *known != hash) {
            return Err(ApiError::conflict("Content hash already exists with a different value"));
        }
        object.hashes.insert(algorithm, hash);
    }
    Ok(())
}

fn finished<'w>(deployment: &'w Deployment, name: &str) -> Result<&'w Object, ApiError> {
    deployment.objects.get(name).filter(|object| object.upload_id.is_none()).ok_or_else(|| missing(name))
}

fn missing(name: &str) -> ApiError {
    ApiError::not_found(format!("Object \"{name}\" not found"))
}
