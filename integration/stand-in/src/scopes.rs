//! Scope expressions: what a call demands, and what of it a caller lacks; and the auth service's own call that tells what a
//! caller has. Whose scopes they are is `auth`'s.

use serde_json::{Value, json};

use super::api::{Answer, Ask};
use super::auth::satisfies;
use super::http::Reply;
use super::world::World;

/// What the caller has, with what the role `anonymous` adds for everybody; of two scopes, the one that satisfies the other.
#[expect(clippy::unnecessary_wraps, reason = "a handler like the others")]
pub(super) fn current_scopes(_: &mut World, ask: &Ask) -> Answer {
    let mut scopes = ask.given().to_vec();
    scopes.push("assume:anonymous".to_owned());
    scopes.sort_unstable();
    scopes.dedup();
    let all = scopes.clone();
    scopes.retain(|scope| !all.iter().any(|other| other != scope && satisfies(std::slice::from_ref(other), scope)));
    Ok(Reply::json(200, &json!({"scopes": scopes})))
}

/// What a call demands.
pub(super) enum Expression {
    Scope(String),
    AllOf(Vec<Expression>),
    AnyOf(Vec<Expression>),
}

impl Expression {
    /// One scope.
    pub(super) fn scope(scope: impl Into<String>) -> Self {
        Self::Scope(scope.into())
    }

    /// Each of these scopes.
    pub(super) fn all(scopes: impl IntoIterator<Item = String>) -> Self {
        Self::AllOf(scopes.into_iter().map(Self::Scope).collect())
    }

    /// The part that `given` does not satisfy, if any.
    pub(super) fn missing(&self, given: &[String]) -> Option<Self> {
        match self {
            Self::Scope(scope) => (!satisfies(given, scope)).then(|| Self::Scope(scope.clone())),
            Self::AllOf(parts) => {
                let missing: Vec<Self> = parts.iter().filter_map(|part| part.missing(given)).collect();
                (!missing.is_empty()).then(|| Self::AllOf(missing).simplified())
            }
            Self::AnyOf(parts) => {
                let missing: Option<Vec<Self>> = parts.iter().map(|part| part.missing(given)).collect();
                missing.map(|missing| Self::AnyOf(missing).simplified())
            }
        }
    }

    /// The scopes that it is about. Where one of several will do, those that `given` satisfies, if any.
    pub(super) fn scopes(&self, given: &[String]) -> Vec<String> {
        match self {
            Self::Scope(scope) => vec![scope.clone()],
            Self::AllOf(parts) => parts.iter().flat_map(|part| part.scopes(given)).collect(),
            Self::AnyOf(parts) => match parts.iter().find(|part| part.missing(given).is_none()) {
                Some(part) => part.scopes(given),
                None => parts.iter().flat_map(|part| part.scopes(given)).collect(),
            },
        }
    }

    /// A single part speaks for itself.
    fn simplified(self) -> Self {
        match self {
            Self::AllOf(mut parts) | Self::AnyOf(mut parts) if parts.len() == 1 => parts.remove(0),
            other => other,
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Scope(scope) => json!(scope),
            Self::AllOf(parts) => json!({"AllOf": parts.iter().map(Self::to_json).collect::<Vec<_>>()}),
            Self::AnyOf(parts) => json!({"AnyOf": parts.iter().map(Self::to_json).collect::<Vec<_>>()}),
        }
    }
}

impl std::fmt::Display for Expression {
    /// As the services' errors have it: a scope as it is, anything else as JSON.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Scope(scope) => f.write_str(scope),
            other => write!(f, "{:#}", other.to_json()),
        }
    }
}
