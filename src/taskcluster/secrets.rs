//! The secrets service: the value of a secret's key. The service decides who may read it, the callers what it is used for.

use serde_json::Value;

use super::{CallError, CallErrorKind, call};
use crate::net::retry::RetryConfig;

/// The secrets of one deployment.
pub struct Secrets {
    client: taskcluster::Secrets,
    retry: RetryConfig,
}

impl Secrets {
    pub(super) fn new(client: taskcluster::Secrets, retry: RetryConfig) -> Self {
        Self { client, retry }
    }

    /// The text that a secret has under a key.
    pub async fn get(&self, secret: &str, key: &str) -> Result<String, CallError> {
        const CALL: &str = "secrets.get";
        let mut json = call(self.retry, CALL, secret, || self.client.get(secret)).await?;
        // Errors never contain text of the answer.
        match json["secret"][key].take() {
            Value::String(value) => Ok(value),
            _ => Err(CallError {
                hint: "look at the secret in Taskcluster, or name another key",
                ..CallError::of(CALL, secret, CallErrorKind::Gone, format!("it has no text under {key}"))
            }),
        }
    }
}
