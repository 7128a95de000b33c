//! The object service: uploads that are negotiated, finished once and then immutable, and the only place in
//! Taskcluster that hands out hashes. The bytes themselves go to and come from the store.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::api::{Answer, ApiError, Ask};
use super::http::Reply;
use super::store::{self, OBJECT_BUCKET, get_url, put_url};
use super::world::{Object, World, json_time};

/// Begins an upload, or joins one that was begun in the same words. False when the name is taken.
pub(super) fn begin(world: &mut World, name: &str, project_id: &str, upload_id: &str, expires: Timestamp) -> bool {
    if let Some(object) = world.objects.get(name) {
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
    world.objects.insert(name.to_owned(), object);
    true
}

pub(super) fn create_upload(world: &mut World, ask: &Ask) -> Answer {
    let name = ask.param("name");
    authorize_upload(world, ask)?;
    let expires = ask.time("expires")?;
    if !begin(world, name, ask.text("projectId"), ask.text("uploadId"), expires) {
        return Err(ApiError::conflict("Object already exists"));
    }
    add_hashes(world, ask)?;
    let proposed = &ask.body["proposedUploadMethods"];
    let method = if let Some(inline) = proposed.get("dataInline") {
        // Inline data wins where both are proposed.
        let data = STANDARD.decode(inline["objectData"].as_str().unwrap_or_default());
        let data = data.map_err(|_| ApiError::input("Invalid base64 objectData"))?;
        let content_type = inline["contentType"].as_str();
        store::put_bytes(world, OBJECT_BUCKET, name, content_type, None, &data);
        json!({"dataInline": true})
    } else if let Some(put) = proposed.get("putUrl") {
        put_method(world, name, put)
    } else {
        json!({})
    };
    Ok(Reply::json(
        200,
        &json!({
            "projectId": ask.text("projectId"),
            "uploadId": ask.text("uploadId"),
            "expires": ask.text("expires"),
            "uploadMethod": method,
        }),
    ))
}

pub(super) fn finish_upload(world: &mut World, ask: &Ask) -> Answer {
    let name = ask.param("name");
    authorize_upload(world, ask)?;
    let object = world.objects.get(name).ok_or_else(|| missing(name))?;
    if object.project_id != ask.text("projectId") {
        let message = format!("Object \"{name}\" does not have projectId {}", ask.text("projectId"));
        return Err(ApiError::input(message));
    }
    match &object.upload_id {
        None => {
            for (algorithm, hash) in hashes(ask) {
                if object.hashes.get(&algorithm) != Some(&hash) {
                    let message = format!("Object \"{name}\" is already finished, but with another {algorithm}");
                    return Err(ApiError::conflict(message));
                }
            }
        }
        Some(id) if id != ask.text("uploadId") => {
            let message = format!("Object \"{name}\" does not have uploadId {}", ask.text("uploadId"));
            return Err(ApiError::conflict(message));
        }
        Some(_) => {
            add_hashes(world, ask)?;
            // Nothing checks that the data is there, as with every backend but the real AWS (observed).
            if let Some(object) = world.objects.get_mut(name) {
                object.upload_id = None;
            }
        }
    }
    Ok(Reply::json(200, &json!({})))
}

pub(super) fn start_download(world: &mut World, ask: &Ask) -> Answer {
    let name = ask.param("name");
    let object = finished(world, name)?;
    let accepted = &ask.body["acceptDownloadMethods"];
    if accepted.get("getUrl").is_some() {
        let minute = Duration::from_mins(1);
        return Ok(Reply::json(
            200,
            &json!({
                "method": "getUrl",
                "url": get_url(world, OBJECT_BUCKET, name, 2 * minute),
                "expires": json_time(world.now() + minute),
                "hashes": object.hashes,
            }),
        ));
    }
    if accepted.get("simple").is_some() {
        let url = get_url(world, OBJECT_BUCKET, name, Duration::from_mins(30));
        return Ok(Reply::json(200, &json!({"method": "simple", "url": url})));
    }
    Err(ApiError::new(406, "NoMatchingMethod", "Object supports methods simple, getUrl"))
}

pub(super) fn metadata(world: &mut World, ask: &Ask) -> Answer {
    let object = finished(world, ask.param("name"))?;
    let body = json!({"projectId": object.project_id, "expires": json_time(object.expires), "hashes": object.hashes});
    Ok(Reply::json(200, &body))
}

pub(super) fn download(world: &mut World, ask: &Ask) -> Answer {
    let name = ask.param("name");
    finished(world, name)?;
    let url = get_url(world, OBJECT_BUCKET, name, Duration::from_mins(30));
    Ok(Reply::text(303, &format!("See Other. Redirecting to {url}")).header("location", &url))
}

/// The scope names the project that the body names.
fn authorize_upload(world: &World, ask: &Ask) -> Result<(), ApiError> {
    ask.authorize(&[format!("object:upload:{}:{}", ask.text("projectId"), ask.param("name"))])?;
    if world.options.object_service {
        Ok(())
    } else {
        Err(ApiError::new(400, "NoMatchingBackend", "No backend matched the given name and projectId"))
    }
}

/// The headers that the URL's signature binds, and that the caller must send exactly.
fn put_method(world: &World, name: &str, put: &Value) -> Value {
    let content_type = put["contentType"].as_str().unwrap_or_default();
    let length = put["contentLength"].as_u64().unwrap_or_default().to_string();
    let life = Duration::from_mins(45);
    let bound = [("content-length", length.as_str()), ("content-type", content_type)];
    json!({"putUrl": {
        "url": put_url(world, OBJECT_BUCKET, name, life + Duration::from_secs(10), &bound),
        "expires": json_time(world.now() + life),
        "headers": {"Content-Type": content_type, "Content-Length": length, "Content-Encoding": "identity"},
    }})
}

fn hashes(ask: &Ask) -> Vec<(String, String)> {
    let Some(hashes) = ask.body["hashes"].as_object() else { return Vec::new() };
    hashes.iter().filter_map(|(algorithm, hash)| Some((algorithm.clone(), hash.as_str()?.to_owned()))).collect()
}

/// Adds the request's hashes: more are welcome, others are not.
fn add_hashes(world: &mut World, ask: &Ask) -> Result<(), ApiError> {
    let Some(object) = world.objects.get_mut(ask.param("name")) else { return Ok(()) };
    for (algorithm, hash) in hashes(ask) {
        if object.hashes.get(&algorithm).is_some_and(|known| *known != hash) {
            return Err(ApiError::conflict("Content hash already exists with a different value"));
        }
        object.hashes.insert(algorithm, hash);
    }
    Ok(())
}

fn finished<'w>(world: &'w World, name: &str) -> Result<&'w Object, ApiError> {
    world.objects.get(name).filter(|object| object.upload_id.is_none()).ok_or_else(|| missing(name))
}

fn missing(name: &str) -> ApiError {
    ApiError::not_found(format!("Object \"{name}\" not found"))
}
