//! The table of API calls: service, method, path, name, scope and schema of each, and the handler that does the
//! work. Matching is here too, with %2F and raw slashes treated as the services' router treats them.

use super::api::Handler;
use super::http::decode;
use super::schema::{self, Schema};
use super::{artifacts, create_task, index, object, queue, scopes, secrets, task_calls};

/// One API call.
pub(super) struct Route {
    pub(super) service: &'static str,
    pub(super) method: &'static str,
    /// `:x` is one segment, `*x` is all the rest, slashes included.
    pattern: &'static str,
    pub(super) name: &'static str,
    /// The scope that the path alone decides about; none where the handler authorizes.
    pub(super) scope: Option<&'static str>,
    pub(super) input: Option<Schema>,
    /// Whether `limit` and `continuationToken` are allowed.
    pub(super) paged: bool,
    pub(super) handler: Handler,
}

/// The parameters of a matched path, decoded, in order.
pub(super) type Params = Vec<(&'static str, String)>;

const fn get(
    service: &'static str,
    pattern: &'static str,
    name: &'static str,
    scope: Option<&'static str>,
    handler: Handler,
) -> Route {
    Route { service, method: "GET", pattern, name, scope, input: None, paged: false, handler }
}

impl Route {
    const fn paged(self) -> Self {
        Self { paged: true, ..self }
    }

    const fn with(self, method: &'static str, input: Option<Schema>) -> Self {
        Self { method, input, ..self }
    }
}

const CREATE: Option<&str> = Some("queue:create-artifact:<taskId>/<runId>");
const LIST_RUN: Option<&str> = Some("queue:list-artifacts:<taskId>:<runId>");
const LIST: Option<&str> = Some("queue:list-artifacts:<taskId>");

const GROUP: Option<&str> = Some("queue:list-task-group:<taskGroupId>");

/// In the order in which the services declare them: the first that matches answers.
static ROUTES: &[Route] = &[
    get("queue", "/ping", "ping", None, task_calls::ping),
    get("queue", "/task/:taskId", "task", Some("queue:get-task:<taskId>"), task_calls::task),
    get("queue", "/task/:taskId/status", "status", Some("queue:status:<taskId>"), task_calls::status),
    get("queue", "/task-group/:taskGroupId/list", "listTaskGroup", GROUP, task_calls::list_task_group).paged(),
    get("queue", "/task/:taskId", "createTask", None, create_task::create_task).with("PUT", Some(schema::CREATE_TASK)),
    get("queue", "/task/:taskId/rerun", "rerunTask", None, task_calls::rerun_task).with("POST", None),
    get("queue", "/task/:taskId/cancel", "cancelTask", None, task_calls::cancel_task).with("POST", None),
    get("queue", "/task/:taskId/runs/:runId/artifacts/*name", "createArtifact", CREATE, queue::create_artifact)
        .with("POST", Some(schema::CREATE_ARTIFACT)),
    get("queue", "/task/:taskId/runs/:runId/artifacts/*name", "finishArtifact", CREATE, queue::finish_artifact)
        .with("PUT", Some(schema::FINISH_ARTIFACT)),
    get("queue", "/task/:taskId/runs/:runId/artifacts/*name", "getArtifact", None, artifacts::get_artifact),
    get("queue", "/task/:taskId/artifacts/*name", "getLatestArtifact", None, artifacts::get_latest_artifact),
    get("queue", "/task/:taskId/runs/:runId/artifacts", "listArtifacts", LIST_RUN, artifacts::list).paged(),
    get("queue", "/task/:taskId/artifacts", "listLatestArtifacts", LIST, artifacts::list).paged(),
    get("queue", "/task/:taskId/runs/:runId/artifact-info/*name", "artifactInfo", LIST_RUN, artifacts::info),
    get("queue", "/task/:taskId/artifact-info/*name", "latestArtifactInfo", LIST, artifacts::info),
    get("queue", "/task/:taskId/runs/:runId/artifact-content/*name", "artifact", None, artifacts::content),
    get("queue", "/task/:taskId/artifact-content/*name", "latestArtifact", None, artifacts::content),
    get("index", "/ping", "ping", None, task_calls::ping),
    get("index", "/task/:indexPath", "findTask", Some("index:find-task:<indexPath>"), index::find_task),
    get("index", "/tasks/indexes", "findTasksAtIndex", None, index::find_tasks_at_index)
        .with("POST", Some(schema::FIND_TASKS))
        .paged(),
    get("index", "/tasks/:namespace", "listTasks", Some("index:list-tasks:<namespace>"), index::list_tasks).paged(),
    get("index", "/task/:namespace", "insertTask", Some("index:insert-task:<namespace>"), index::insert_task)
        .with("PUT", Some(schema::INSERT_TASK)),
    get("index", "/task/:namespace", "deleteTask", Some("index:delete-task:<namespace>"), index::delete_task)
        .with("DELETE", None),
    get(
        "index",
        "/task/:indexPath/artifacts/*name",
        "findArtifactFromTask",
        Some("queue:get-artifact:<name>"),
        index::find_artifact_from_task,
    ),
    get("auth", "/ping", "ping", None, task_calls::ping),
    get("auth", "/scopes/current", "currentScopes", Some("auth:current-scopes"), scopes::current_scopes),
    get("secrets", "/ping", "ping", None, task_calls::ping),
    get("secrets", "/secret/*name", "get", Some("secrets:get:<name>"), secrets::get),
    get("object", "/ping", "ping", None, task_calls::ping),
    get("object", "/upload/:name", "createUpload", None, object::create_upload)
        .with("PUT", Some(schema::CREATE_UPLOAD)),
    get("object", "/finish-upload/:name", "finishUpload", None, object::finish_upload)
        .with("POST", Some(schema::FINISH_UPLOAD)),
    get("object", "/start-download/*name", "startDownload", Some("object:download:<name>"), object::start_download)
        .with("PUT", Some(schema::START_DOWNLOAD)),
    get("object", "/metadata/*name", "object", Some("object:download:<name>"), object::metadata),
    get("object", "/download/*name", "download", Some("object:download:<name>"), object::download),
];

/// The call that a request is for. GET routes answer HEAD too.
pub(super) fn find(method: &str, path: &str) -> Option<(&'static Route, Params)> {
    let method = if method == "HEAD" { "GET" } else { method };
    let (service, rest) = path.strip_prefix("/api/")?.split_once("/v1/")?;
    let rest = format!("/{rest}");
    ROUTES
        .iter()
        .filter(|route| route.method == method && route.service == service)
        .find_map(|route| Some((route, params(route.pattern, &rest)?)))
}

/// Matches a path that is still encoded: a %2F belongs to its segment, a raw slash ends it.
fn params(pattern: &'static str, path: &str) -> Option<Params> {
    let mut found = Vec::new();
    let mut rest = path;
    for part in pattern.split('/').skip(1) {
        rest = rest.strip_prefix('/')?;
        if let Some(name) = part.strip_prefix('*') {
            found.push((name, decode(rest)?));
            return Some(found);
        }
        let end = rest.find('/').unwrap_or(rest.len());
        let segment = &rest[..end];
        rest = &rest[end..];
        match part.strip_prefix(':') {
            Some(name) if !segment.is_empty() => found.push((name, decode(segment)?)),
            None if part == segment => {}
            _ => return None,
        }
    }
    // The router is not strict about one slash at the end.
    (rest.is_empty() || rest == "/").then_some(found)
}
