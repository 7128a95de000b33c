//! The auth service, limited to what a job needs: the scopes of its calls. The plan knows which it needs.

use serde::Deserialize;

use super::{CallError, answer, call};
use crate::net::retry::RetryConfig;

/// The auth service of one deployment.
pub struct Auth {
    client: taskcluster::Auth,
    retry: RetryConfig,
}

/// The scopes of a client, with all that roles add to them.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Scopes {
    scopes: Vec<String>,
}

impl Scopes {
    /// Whether they satisfy one that is needed: it is among them, or begins as one of them does that ends in `*`.
    #[must_use]
    pub fn satisfy(&self, needed: &str) -> bool {
        self.scopes.iter().any(|scope| match scope.strip_suffix('*') {
            Some(beginning) => needed.starts_with(beginning),
            None => scope == needed,
        })
    }
}

impl Auth {
    pub(super) fn new(client: taskcluster::Auth, retry: RetryConfig) -> Self {
        Self { client, retry }
    }

    /// The scopes that calls of ours have.
    pub async fn current_scopes(&self) -> Result<Scopes, CallError> {
        const CALL: &str = "auth.currentScopes";
        const TARGET: &str = "the scopes of this job";
        answer(CALL, TARGET, call(self.retry, CALL, TARGET, || self.client.currentScopes()).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_satisfied_by_itself_or_by_a_beginning_with_a_star() {
        let held = |scopes: &[&str]| Scopes { scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect() };
        let needed = "index:insert-task:docker.images.v1.try.builder.latest";
        for good in [needed, "index:insert-task:docker.images.v1.try.builder.*", "index:*", "*", &format!("{needed}*")]
        {
            assert!(held(&["queue:x", good]).satisfy(needed), "{good}");
        }
        for bad in
            ["index:insert-task:docker.images.v1.try.builder", "*:latest", "INDEX:*", "index:insert-task:*.latest"]
        {
            assert!(!held(&["queue:x", bad]).satisfy(needed), "{bad}");
        }
        assert!(!held(&[]).satisfy(needed));
    }
}
