//! The secrets service, as far as callers read: who has the scope gets the secret, who has not does not even learn
//! whether it is there. Writing is for the tests.

use std::sync::Arc;

use axum::Router;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::api::{ApiError, ApiRequest, ApiResult, get, ping};
use crate::deployment::Deployment;
use crate::shared::Shared;
use crate::wire::json_time;

/// How long a secret is there.
const DAY: SignedDuration = SignedDuration::from_hours(24);

pub(crate) fn put(deployment: &mut Deployment, name: &str, value: Value) {
    let expires = deployment.now() + DAY;
    deployment.secrets.insert(name.to_owned(), (value, expires));
}

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/ping", get(ping)).route("/secret/{*name}", get(get_secret))
}

fn get_secret(deployment: &mut Deployment, request: &ApiRequest) -> ApiResult {
    let name = request.param("name");
    let (secret, expires) = deployment.secrets.get(name).ok_or_else(|| ApiError::not_found("Secret not found"))?;
    if *expires <= deployment.now() {
        return Err(ApiError::new(410, "ResourceExpired", "The requested resource has expired."));
    }
    request.reply(json!({"secret": secret, "expires": json_time(*expires)}))
}
