//! The index: namespaces, ranks and the answers that look like success and are not. What is indexed is for the
//! callers: the index never looks whether the task exists.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::api::{Answer, ApiError, Ask, is_namespace};
use super::credentials::signed_url;
use super::http::{Reply, encode};
use super::page::Page;
use super::world::{Entry, World, json_time, parse_time};

pub(super) fn insert_task(world: &mut World, ask: &Ask) -> Answer {
    let namespace = ask.param("namespace");
    let entry = Entry {
        task_id: ask.text("taskId").to_owned(),
        rank: ask.body["rank"].as_f64().unwrap_or_default(),
        data: ask.body["data"].clone(),
        expires: ask.time("expires")?,
    };
    insert(world, namespace, entry)?;
    // The entry that is there after the call: an older one of higher rank stays, and the answer is 200.
    reply(namespace, &world.index[namespace])
}

/// Puts an entry where none, or none of a higher rank, stands. An expired one stands until it is purged.
fn insert(world: &mut World, namespace: &str, entry: Entry) -> Result<(), ApiError> {
    if world.index.get(namespace).is_some_and(|old| old.rank > entry.rank) {
        return Ok(());
    }
    // "number" in the schema, a 32 bit integer in the database.
    if entry.rank.fract() != 0.0 || entry.rank < f64::from(i32::MIN) || entry.rank > f64::from(i32::MAX) {
        return Err(ApiError::internal("rank is out of range for type integer"));
    }
    world.index.insert(namespace.to_owned(), entry);
    Ok(())
}

/// Indexes a completed task by its routes and `extra.index`. What is wrong there, the handler drops, and nobody hears of it:
/// routes that are no namespaces, and all of them where the rank is no number or the data no object.
pub(super) fn insert_routes(world: &mut World, task_id: &str, definition: &Value) {
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
        let _ = insert(world, namespace, entry);
    }
}

pub(super) fn find_task(world: &mut World, ask: &Ask) -> Answer {
    let namespace = ask.param("indexPath");
    reply(namespace, find(world, namespace)?)
}

/// The entries of many namespaces. Expired ones are among them until they are purged, unlike with `findTask`, and
/// the order is the database's.
pub(super) fn find_tasks_at_index(world: &mut World, ask: &Ask) -> Answer {
    let wanted = ask.body["indexes"].as_array().map_or(&[][..], Vec::as_slice);
    let wanted: Vec<&str> = wanted.iter().filter_map(Value::as_str).collect();
    let scopes: Vec<String> = wanted.iter().map(|namespace| format!("index:find-task:{namespace}")).collect();
    ask.authorize(&scopes)?;
    // The query joins on a namespace and a name: what has no dot is never found, although it can be inserted.
    let with_dot = wanted.iter().filter(|namespace| namespace.contains('.'));
    let mut found: Vec<(&str, &Entry)> =
        with_dot.filter_map(|namespace| Some((*namespace, world.index.get(*namespace)?))).collect();
    found.sort_unstable_by_key(|(namespace, _)| *namespace);
    list(ask, found)
}

pub(super) fn list_tasks(world: &mut World, ask: &Ask) -> Answer {
    let parent = ask.param("namespace");
    let is_child = |namespace: &str| namespace.rsplit_once('.').is_some_and(|(of, _)| of == parent);
    list(
        ask,
        world.index.iter().filter(|(namespace, _)| is_child(namespace)).map(|(name, entry)| (name.as_str(), entry)),
    )
}

#[expect(clippy::unnecessary_wraps, reason = "a handler like the others")]
pub(super) fn delete_task(world: &mut World, ask: &Ask) -> Answer {
    world.index.remove(ask.param("namespace"));
    Ok(Reply::json(200, &json!({})))
}

/// Redirects to the queue, with a bewit: without the scope to expand `anonymous`, the index cannot know that
/// an artifact is public (observed).
pub(super) fn find_artifact_from_task(world: &mut World, ask: &Ask) -> Answer {
    let task_id = &find(world, ask.param("indexPath"))?.task_id;
    let path = format!("/api/queue/v1/task/{task_id}/artifacts/{}", encode(ask.param("name"), ""));
    let url = signed_url(world, &path);
    Ok(Reply::text(303, &format!("See Other. Redirecting to {url}")).header("location", &url))
}

fn find<'w>(world: &'w World, namespace: &str) -> Result<&'w Entry, ApiError> {
    let entry = world.index.get(namespace).filter(|entry| entry.expires > world.now());
    entry.ok_or_else(|| ApiError::not_found("Indexed task not found"))
}

/// A page of entries, living and expired.
fn list<'w>(ask: &Ask, entries: impl IntoIterator<Item = (&'w str, &'w Entry)>) -> Answer {
    let (entries, token) = Page::of(ask)?.cut(entries);
    // The output schema wants each task once: a namespace that is asked for twice breaks the answer.
    if entries.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(ApiError::internal("Output schema validation error: tasks must NOT have duplicate items"));
    }
    let tasks: Result<Vec<Value>, ApiError> = entries.iter().map(|(name, entry)| to_json(name, entry)).collect();
    let mut reply = json!({"tasks": tasks?});
    if let Some(token) = token {
        if token.is_empty() {
            return Err(ApiError::internal("Output schema validation error: continuationToken must be string"));
        }
        reply["continuationToken"] = token.into();
    }
    Ok(Reply::json(200, &reply))
}

fn reply(namespace: &str, entry: &Entry) -> Answer {
    Ok(Reply::json(200, &to_json(namespace, entry)?))
}

/// An entry, which the output schema refuses when its name is too long, although the row is in the database.
fn to_json(namespace: &str, entry: &Entry) -> Result<Value, ApiError> {
    if namespace.len() > 255 {
        return Err(ApiError::internal("Output schema validation error: namespace is too long"));
    }
    Ok(describe(namespace, entry))
}

/// An entry as the index answers it.
pub(super) fn describe(namespace: &str, entry: &Entry) -> Value {
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
