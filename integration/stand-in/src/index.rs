//! The index: namespaces, ranks and the answers that look like success and are not. What is indexed is for the
//! callers: the index never checks whether the task exists.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::{ApiError, ApiRequest, ApiResult, delete, get, is_namespace, ping, post, put};
use crate::credentials::signed_url;
use crate::deployment::{Deployment, Entry};
use crate::http::{encode, redirect};
use crate::paging::Paging;
use crate::shared::Shared;
use crate::wire::{json_time, parse_time};

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/ping", get(ping))
        .route("/task/{namespace}", get(find_task))
        .route("/task/{namespace}", put(insert_task))
        .route("/task/{namespace}", delete(delete_task))
        .route("/task/{namespace}/artifacts/{*name}", get(find_artifact_from_task))
        .route("/tasks/indexes", post(find_tasks_at_index))
        .route("/tasks/{namespace}", get(list_tasks))
        .route("/namespaces/{namespace}", get(list_namespaces))
}

fn insert_task(deployment: &mut Deployment, request: &ApiRequest) -> ApiResult {
    let namespace = request.param("namespace");
    let entry = Entry {
        task_id: request.text("taskId").to_owned(),
        rank: request.body["rank"].as_f64().unwrap_or_default(),
        data: request.body["data"].clone(),
        expires: request.time("expires")?,
    };
    insert(deployment, namespace, entry)?;
    // The entry that is there after the call: an older one of higher rank stays, and the answer is 200.
    request.reply(describe(namespace, &deployment.index[namespace]))
}

/// Puts an entry where none, or none of a higher rank, stands. An expired one stands until it is purged.
fn insert(deployment: &mut Deployment, namespace: &str, entry: Entry) -> Result<(), ApiError> {
    if deployment.index.get(namespace).is_some_and(|old| old.rank > entry.rank) {
        return Ok(());
    }
    // "number" in the schema, a 32 bit integer in the database.
    if entry.rank.fract() != 0.0 || entry.rank < f64::from(i32::MIN) || entry.rank > f64::from(i32::MAX) {
        return Err(ApiError::internal("rank is out of range for type integer"));
    }
    deployment.index.insert(namespace.to_owned(), entry);
    Ok(())
}

/// Indexes a completed task by its routes and `extra.index`. The handler drops what is wrong there, without an error:
/// routes that are no namespaces, and all of them where the rank is no number or the data no object.
pub(crate) fn insert_routes(deployment: &mut Deployment, task_id: &str, definition: &Value) {
    let options = &definition["extra"]["index"];
    let time = |value: &Value| value.as_str().and_then(parse_time);
    let expires = time(&options["expires"]).or_else(|| time(&definition["expires"])).unwrap_or(Timestamp::MAX);
    let data = options.get("data").cloned().unwrap_or_else(|| json!({}));
    let Some(rank) = options.get("rank").map_or(Some(0.0), Value::as_f64) else { return };
    if !(data.is_object() || data.is_array() || data.is_null()) {
        return;
    }
    let routes = definition["routes"].as_array().map_or(&[][..], Vec::as_slice);
    let namespaces = routes.iter().filter_map(|route| route.as_str()?.strip_prefix("index."));
    for namespace in namespaces.filter(|namespace| is_namespace(namespace)) {
        let entry = Entry { task_id: task_id.to_owned(), rank, data: data.clone(), expires };
        // The handler logs what it cannot insert, and goes on.
        let _ = insert(deployment, namespace, entry);
    }
}

fn find_task(deployment: &mut Deployment, request: &ApiRequest) -> ApiResult {
    let namespace = request.param("indexPath");
    request.reply(describe(namespace, find(deployment, namespace)?))
}

/// The entries of many namespaces. Expired ones are among them until they are purged, unlike with `findTask`, and
/// the order is the database's.
fn find_tasks_at_index(deployment: &mut Deployment, request: &ApiRequest) -> ApiResult {
    let wanted = request.body["indexes"].as_array().map_or(&[][..], Vec::as_slice);
    let wanted: Vec<&str> = wanted.iter().filter_map(Value::as_str).collect();
    request.authorize(&json!({"indexPaths": wanted}))?;
    // The query joins on a namespace and a name: what has no dot is never found, although it can be inserted.
    let with_dot = wanted.iter().filter(|namespace| namespace.contains('.'));
    let mut found: Vec<(&str, &Entry)> =
        with_dot.filter_map(|namespace| Some((*namespace, deployment.index.get(*namespace)?))).collect();
    found.sort_unstable_by_key(|(namespace, _)| *namespace);
    list(request, found)
}

/// The entries directly below a namespace. Unlike the answer about many namespaces, the query leaves expired ones out.
fn list_tasks(deployment: &mut Deployment, request: &ApiRequest) -> ApiResult {
    let parent = request.param("namespace");
    let is_child = |namespace: &str| namespace.rsplit_once('.').is_some_and(|(of, _)| of == parent);
    let now = deployment.now();
    let living = deployment.index.iter().filter(|(namespace, entry)| is_child(namespace) && entry.expires > now);
    list(request, living.map(|(name, entry)| (name.as_str(), entry)))
}

/// The namespaces directly below one, by their names. Each lives as long as the entry below it that lives longest.
fn list_namespaces(deployment: &mut Deployment, request: &ApiRequest) -> ApiResult {
    let parent = request.param("namespace");
    let now = deployment.now();
    let mut found: BTreeMap<&str, Timestamp> = BTreeMap::new();
    for (namespace, entry) in deployment.index.iter().filter(|(_, entry)| entry.expires > now) {
        let below = namespace.strip_prefix(parent).and_then(|rest| rest.strip_prefix('.'));
        if let Some((name, _)) = below.and_then(|below| below.split_once('.')) {
            let expires = found.entry(name).or_insert(entry.expires);
            *expires = entry.expires.max(*expires);
        }
    }
    let (rows, token) = Paging::of(request)?.page(found);
    let row = |(name, expires): (&str, Timestamp)| json!({"namespace": format!("{parent}.{name}"), "name": name, "expires": json_time(expires)});
    let mut reply = json!({"namespaces": rows.into_iter().map(row).collect::<Vec<_>>()});
    if let Some(token) = token {
        reply["continuationToken"] = token;
    }
    request.reply(reply)
}

fn delete_task(deployment: &mut Deployment, request: &ApiRequest) -> ApiResult {
    deployment.index.remove(request.param("namespace"));
    request.reply(json!({}))
}

/// Redirects to the queue, with a bewit: without the scope to expand `anonymous`, the index cannot know that
/// an artifact is public (observed).
fn find_artifact_from_task(deployment: &mut Deployment, request: &ApiRequest) -> ApiResult {
    let task_id = &find(deployment, request.param("indexPath"))?.task_id;
    let path = format!("/api/queue/v1/task/{task_id}/artifacts/{}", encode(request.param("name"), ""));
    Ok(redirect(&signed_url(deployment, &path)))
}

fn find<'w>(deployment: &'w Deployment, namespace: &str) -> Result<&'w Entry, ApiError> {
    let entry = deployment.index.get(namespace).filter(|entry| entry.expires > deployment.now());
    entry.ok_or_else(|| ApiError::not_found("Indexed task not found"))
}

/// A page of entries, expired ones too.
fn list<'w>(request: &ApiRequest, entries: impl IntoIterator<Item = (&'w str, &'w Entry)>) -> ApiResult {
    let (entries, token) = Paging::of(request)?.page(entries);
    // The schema wants each task once, and short namespaces: one that is requested twice, or that is too long although its row
    // is in the database, breaks the response.
    let tasks: Vec<Value> = entries.into_iter().map(|(namespace, entry)| describe(namespace, entry)).collect();
    let mut reply = json!({"tasks": tasks});
    if let Some(token) = token {
        reply["continuationToken"] = token;
    }
    request.reply(reply)
}

/// An entry as the index answers it.
pub(crate) fn describe(namespace: &str, entry: &Entry) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "what is not a 32 bit integer is never stored")]
    let rank = entry.rank as i64;
    json!({
        "namespace": namespace,
        "taskId": entry.task_id,
        "rank": rank,
        "data": entry.data,
        "expires": json_time(entry.expires),
    })
}
