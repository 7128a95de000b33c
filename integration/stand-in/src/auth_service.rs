//! The auth service, as far as a caller requests its own scopes. Who the caller is, is for `auth`.

use std::sync::Arc;

use axum::Router;
use serde_json::json;

use crate::api::{ApiRequest, ApiResult, get, ping};
use crate::auth::satisfies;
use crate::deployment::Deployment;
use crate::shared::Shared;

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/ping", get(ping)).route("/scopes/current", get(current_scopes))
}

/// What the caller has, with what the role `anonymous` adds for everybody; of two scopes, the one that satisfies the other.
fn current_scopes(_: &mut Deployment, request: &ApiRequest) -> ApiResult {
    let mut scopes = request.given().to_vec();
    scopes.push("assume:anonymous".to_owned());
    scopes.sort_unstable();
    scopes.dedup();
    let all = scopes.clone();
    scopes.retain(|scope| !all.iter().any(|other| other != scope && satisfies(std::slice::from_ref(other), scope)));
    request.reply(json!({"scopes": scopes}))
}
