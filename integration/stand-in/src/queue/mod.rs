//! The queue: tasks, their runs and artifacts, as strict about them as the real one. Where the bytes of artifacts are is for
//! `store` and `object`.

mod artifacts;
mod calls;
pub(crate) mod create_artifact;
pub(crate) mod create_task;
pub(crate) mod runs;
pub(crate) mod task;
pub(crate) mod tasks;

use std::sync::Arc;

use axum::Router;

use crate::api::{get, ping, post, put};
use crate::shared::Shared;

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/ping", get(ping))
        .route("/task/{taskId}", get(calls::task))
        .route("/task/{taskId}", put(create_task::create_task))
        .route("/task/{taskId}/status", get(calls::status))
        .route("/task/{taskId}/rerun", post(calls::rerun_task))
        .route("/task/{taskId}/cancel", post(calls::cancel_task))
        .route("/task-group/{taskGroupId}/list", get(calls::list_task_group))
        .route("/task/{taskId}/runs/{runId}/artifacts/{*name}", post(create_artifact::create_artifact))
        .route("/task/{taskId}/runs/{runId}/artifacts/{*name}", put(create_artifact::finish_artifact))
        .route("/task/{taskId}/runs/{runId}/artifacts/{*name}", get(artifacts::get_artifact))
        // The name may be empty in the services' router, and is refused later.
        .route("/task/{taskId}/runs/{runId}/artifacts/", post(create_artifact::create_artifact))
        .route("/task/{taskId}/runs/{runId}/artifacts", get(artifacts::list))
        .route("/task/{taskId}/artifacts/{*name}", get(artifacts::get_latest_artifact))
        .route("/task/{taskId}/artifacts", get(artifacts::list))
        .route("/task/{taskId}/runs/{runId}/artifact-info/{*name}", get(artifacts::info))
        .route("/task/{taskId}/artifact-info/{*name}", get(artifacts::info))
        .route("/task/{taskId}/runs/{runId}/artifact-content/{*name}", get(artifacts::content))
        .route("/task/{taskId}/artifact-content/{*name}", get(artifacts::content))
}
