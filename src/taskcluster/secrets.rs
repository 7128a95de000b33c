//! The secrets service: what a secret has under a key. Who may have it is the service's word, and what it is used for the
//! callers'.

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
        // Never a word of the answer in an error.
        match json["secret"][key].take() {
            Value::String(value) => Ok(value),
            _ => Err(CallError {
                call: CALL,
                target: secret.to_owned(),
                fault: CallErrorKind::Gone,
                what: format!("it has no text under {key}; look at the secret in Taskcluster, or name another key"),
                spoken: true,
                source: None,
            }),
        }
    }
}
