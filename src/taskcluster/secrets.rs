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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stand_in::{Options, StandIn};

    use super::*;
    use crate::taskcluster::{Access, Deployment, Services};

    #[tokio::test]
    async fn only_text_is_a_value_and_errors_contain_none_of_the_secret() {
        let stand_in = StandIn::start(Options::default());
        stand_in.put_secret("project/images", json!({ "token": "hunter2", "number": 4711 }));
        let client = stand_in.permanent_credentials(["secrets:get:project/images"]);
        let deployment = Deployment {
            root_url: stand_in.root_url().parse().unwrap(),
            access: Access::Hawk { client_id: client.client_id, access_token: client.access_token, certificate: None },
            retry: RetryConfig::default(),
        };
        let secrets = Services::new(&deployment).unwrap().secrets;
        assert_eq!(secrets.get("project/images", "token").await.unwrap(), "hunter2");
        for key in ["number", "other"] {
            let error = secrets.get("project/images", key).await.unwrap_err();
            assert_eq!(error.kind, CallErrorKind::Gone);
            assert!(!error.to_string().contains("hunter2") && !error.to_string().contains("4711"), "{error}");
        }
        let other = secrets.get("project/other", "token").await.unwrap_err();
        assert_eq!(other.kind, CallErrorKind::Refused);
    }
}
