//! The Taskcluster services that a job needs, called through the official client crate: one typed method a call, one error type
//! that says whether another try can help. `publish` decides what to send, and when.

pub mod auth;
mod deployment;
pub mod index;
mod names;
mod namespaces;
pub mod object;
mod ping;
mod push_date;
pub mod queue;
mod requests;
pub mod secrets;
mod task_ref;
pub mod tasks;
mod time_span;

use std::sync::Arc;

pub use deployment::{Access, Deployment};
pub use names::{ArtifactName, IndexPrefix, Namespace, Project, TaskId};
pub use namespaces::ImageNamespaces;
pub use ping::{Pong, ping};
pub use push_date::PushDate;
pub use requests::{
    ArtifactPayload, CreateArtifact, IndexData, IndexPayload, InsertTask, Storage, TaskRun, to_milliseconds,
};
use reqwest::StatusCode;
pub use task_ref::{TaskRef, TaskRefError};
use taskcluster::{ClientBuilder, Credentials, Retry};
pub use time_span::TimeSpan;

use crate::net::retry::{Failure, Policy, RetryConfig, Retryability, retry};
use crate::net::{NO_CERTIFICATES, host};
use crate::report::Hint;

/// The services of one deployment. Clones use the same clients.
#[derive(Clone)]
pub struct Services {
    /// Tasks and artifacts.
    pub queue: Arc<queue::Queue>,
    /// Routes.
    pub index: Arc<index::Index>,
    /// Secrets.
    pub secrets: Arc<secrets::Secrets>,
    /// Scopes.
    pub auth: Arc<auth::Auth>,
}

impl Services {
    /// Prepares the clients; nothing is sent yet.
    pub fn new(deployment: &Deployment) -> Result<Self, CallError> {
        let builder = builder(deployment);
        let unsigned = match deployment.access {
            Access::Hawk { .. } => Some(self::builder(&Deployment { access: Access::Anonymous, ..deployment.clone() })),
            Access::Proxy(_) | Access::Anonymous => None,
        };
        let bad = |call| move |error| CallError::setup(call, &error);
        Ok(Self {
            queue: Arc::new(queue::Queue::new(
                taskcluster::Queue::new(builder.clone()).map_err(bad("queue"))?,
                deployment.clone(),
            )),
            index: Arc::new(index::Index::new(
                taskcluster::Index::new(builder.clone()).map_err(bad("index"))?,
                unsigned.map(taskcluster::Index::new).transpose().map_err(bad("index"))?,
                deployment.retry,
            )),
            secrets: Arc::new(secrets::Secrets::new(
                taskcluster::Secrets::new(builder.clone()).map_err(bad("secrets"))?,
                deployment.retry,
            )),
            auth: Arc::new(auth::Auth::new(taskcluster::Auth::new(builder).map_err(bad("auth"))?, deployment.retry)),
        })
    }
}

fn builder(deployment: &Deployment) -> ClientBuilder {
    let builder = ClientBuilder::new(deployment.api_url().as_str().trim_end_matches('/'))
        .timeout(deployment.retry.call_timeout)
        // The crate would retry by itself, without a log line; `retry` does it for the whole program.
        .retry(Retry { retries: 0, ..Retry::default() });
    match &deployment.access {
        Access::Hawk { client_id, access_token, certificate } => builder.credentials(Credentials {
            client_id: client_id.clone(),
            access_token: access_token.clone(),
            certificate: certificate.clone(),
        }),
        Access::Proxy(_) | Access::Anonymous => builder,
    }
}

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallErrorKind {
    /// 404, 410 or 424: it does not exist, does not exist any more, or was never made.
    Gone,
    /// 401 or 403: the credentials do not allow it.
    Refused,
    /// 409: it exists already, and is different.
    Conflict,
    /// Another 4xx: the service does not accept the request.
    Invalid,
    /// 5xx or 429: the service has a problem.
    Server,
    /// No answer, or half of one.
    Network,
    /// An answer that makes no sense.
    Protocol,
}

/// A call to a Taskcluster service that failed.
#[derive(Debug, thiserror::Error)]
#[error("{call} for {target}: {what}{}", Hint(.hint))]
pub struct CallError {
    call: &'static str,
    target: String,
    /// Why it failed.
    pub kind: CallErrorKind,
    what: String,
    /// What to do; may be empty.
    hint: &'static str,
    /// 401: the service does not accept the credentials, whatever their scopes.
    pub unauthenticated: bool,
    /// A 404 without a service's message: another server is in its place, or the service has no such call.
    pub is_unknown_call: bool,
    #[source]
    source: Option<reqwest::Error>,
}

impl CallError {
    /// An error that no answer of a service told.
    fn of(call: &'static str, target: &str, kind: CallErrorKind, what: String) -> Self {
        let target = target.to_owned();
        Self { call, target, kind, what, hint: "", unauthenticated: false, is_unknown_call: false, source: None }
    }

    fn setup(service: &'static str, error: &anyhow::Error) -> Self {
        let error = Self::of("the client", service, CallErrorKind::Protocol, format!("{error:#}"));
        Self { hint: NO_CERTIFICATES, ..error }
    }

    fn new(call: &'static str, target: &str, error: anyhow::Error, retry: RetryConfig) -> Self {
        let status = taskcluster::err_status_code(&error);
        // With a 4xx the crate puts the service's message in front; its first part is for people.
        let message = human_part(&error.to_string()).to_owned();
        // Every service has a message for what it does not have.
        let is_unknown_call = status == Some(StatusCode::NOT_FOUND) && error.downcast_ref::<String>().is_none();
        let error = error.downcast::<reqwest::Error>();
        // Errors about the body of an answer do not name it.
        let from = error.as_ref().ok().and_then(|error| error.url().and_then(host));
        let from = from.map(|host| format!(" from {host}")).unwrap_or_default();
        let (kind, what, hint, source) = match (status, error) {
            (Some(status), _) if is_unknown_call => {
                let what = format!("this is no answer of a Taskcluster service ({status}{from})");
                (CallErrorKind::Protocol, what, "is TASKCLUSTER_ROOT_URL right?", None)
            }
            (Some(status), _) if status.is_client_error() => {
                let kind = client_error_kind(status);
                let hint = match status {
                    StatusCode::UNAUTHORIZED => "check the credentials, and the clock",
                    StatusCode::FORBIDDEN => "add the scope to the task",
                    _ => "",
                };
                // The scopes stand in a block of Markdown.
                (kind, format!("{} ({status})", message.replace("```", "")), hint, None)
            }
            // The crate drops the body of a 5xx, so only the status is known.
            (Some(status), _) => (CallErrorKind::Server, format!("the service answered {status}"), "", None),
            // The other errors of a body are about a connection that broke in the middle of it.
            (None, Ok(error)) if error.is_decode() && is_json(&error) => {
                let what = "the answer is not the JSON that was expected".to_owned();
                (CallErrorKind::Protocol, what, "", Some(error.without_url()))
            }
            (None, Ok(error)) if error.is_builder() => {
                let what = "the HTTP client cannot be set up".to_owned();
                (CallErrorKind::Protocol, what, NO_CERTIFICATES, Some(error.without_url()))
            }
            (None, Ok(error)) if error.is_timeout() => {
                let what = format!("no answer within {} s{from}", retry.call_timeout.as_secs());
                (CallErrorKind::Network, what, UNREACHABLE, Some(error.without_url()))
            }
            (None, Ok(error)) if error.is_body() || error.is_decode() => {
                (CallErrorKind::Network, "the answer broke off".to_owned(), "", Some(error.without_url()))
            }
            (None, Ok(error)) => {
                (CallErrorKind::Network, format!("no answer{from}"), UNREACHABLE, Some(error.without_url()))
            }
            // Without the crate's own text: about a header that cannot be sent it contains that header, certificate and all.
            (None, Err(_)) => (CallErrorKind::Protocol, "the request cannot be made".to_owned(), "", None),
        };
        let unauthenticated = status == Some(StatusCode::UNAUTHORIZED);
        Self { call, target: target.to_owned(), kind, what, hint, unauthenticated, is_unknown_call, source }
    }

    /// A list whose pages do not end.
    fn endless(call: &'static str, target: &str, pages: usize) -> Self {
        Self::of(call, target, CallErrorKind::Protocol, format!("the list has more than {pages} pages"))
    }

    fn protocol(call: &'static str, target: &str, error: &serde_json::Error) -> Self {
        Self::of(call, target, CallErrorKind::Protocol, format!("the answer is not what was expected: {error}"))
    }
}

/// What to do where nobody answers.
const UNREACHABLE: &str = "is it running, reachable from here, and TASKCLUSTER_ROOT_URL right?";

/// Whether an error is about the JSON of a whole answer.
fn is_json(error: &reqwest::Error) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<serde_json::Error>)
}

fn client_error_kind(status: StatusCode) -> CallErrorKind {
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::FAILED_DEPENDENCY => CallErrorKind::Gone,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => CallErrorKind::Refused,
        StatusCode::CONFLICT => CallErrorKind::Conflict,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => CallErrorKind::Server,
        _ => CallErrorKind::Invalid,
    }
}

/// The services put what people should read before a rule of dashes, and the request after it.
fn human_part(message: &str) -> &str {
    message.split("\n\n---\n").next().unwrap_or(message).trim()
}

impl Failure for CallError {
    fn retryability(&self) -> Retryability {
        match self.kind {
            CallErrorKind::Server | CallErrorKind::Network => Retryability::Transient,
            CallErrorKind::Gone
            | CallErrorKind::Refused
            | CallErrorKind::Conflict
            | CallErrorKind::Invalid
            | CallErrorKind::Protocol => Retryability::Permanent,
        }
    }
}

/// One API call, tried again where that can help.
async fn call<T, F>(
    config: RetryConfig,
    name: &'static str,
    target: &str,
    mut request: impl FnMut() -> F,
) -> Result<T, CallError>
where
    F: Future<Output = Result<T, anyhow::Error>>,
{
    retry(name, config.policy(Policy::CALL), || {
        let request = request();
        async move { request.await.map_err(|error| CallError::new(name, target, error, config)) }
    })
    .await
}

/// Parses an answer's JSON into its type.
fn answer<T: serde::de::DeserializeOwned>(
    call: &'static str,
    target: &str,
    json: serde_json::Value,
) -> Result<T, CallError> {
    serde_json::from_value(json).map_err(|error| CallError::protocol(call, target, &error))
}

/// A request's JSON. Only values that serialise are ever passed.
fn body(payload: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(payload).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_decides_whether_another_try_can_help() {
        let cases = [
            (404, CallErrorKind::Gone),
            (410, CallErrorKind::Gone),
            (424, CallErrorKind::Gone),
            (403, CallErrorKind::Refused),
        ];
        let more = [(409, CallErrorKind::Conflict), (400, CallErrorKind::Invalid), (429, CallErrorKind::Server)];
        for (status, kind) in cases.into_iter().chain(more) {
            assert_eq!(client_error_kind(StatusCode::from_u16(status).unwrap()), kind, "{status}");
        }
    }

    /// The error of a call whose answer is `answer`, after which the connection is closed.
    async fn error_of(answer: &'static str) -> (CallError, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let root_url = format!("http://{host}").parse().unwrap();
        tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            let _ = connection.read(&mut [0; 4096]).await.unwrap();
            connection.write_all(answer.as_bytes()).await.unwrap();
        });
        let client = builder(&Deployment { root_url, access: Access::Anonymous, retry: RetryConfig::default() });
        let error = taskcluster::Queue::new(client).unwrap().task("fN1SbArXTPSVFNUvaOlinQ").await.unwrap_err();
        (CallError::new("queue.task", "a task", error, RetryConfig::default()), host)
    }

    #[tokio::test]
    async fn half_an_answer_is_the_networks_fault_and_a_senseless_one_is_not() {
        let (half, _) = error_of("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"expires\":").await;
        assert_eq!(half.kind, CallErrorKind::Network);
        assert_eq!(half.to_string(), "queue.task for a task: the answer broke off");
        let (senseless, _) = error_of("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>").await;
        assert_eq!(senseless.kind, CallErrorKind::Protocol);
    }

    #[tokio::test]
    async fn who_does_not_answer_is_named() {
        let (silent, host) = error_of("").await;
        assert_eq!(silent.kind, CallErrorKind::Network);
        assert_eq!(silent.to_string(), format!("queue.task for a task: no answer from {host}; {UNREACHABLE}"));
    }

    #[tokio::test]
    async fn a_404_without_a_services_message_is_no_services() {
        let (page, host) = error_of("HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\n<html>").await;
        assert_eq!((page.kind, page.is_unknown_call), (CallErrorKind::Protocol, true));
        assert_eq!(
            page.to_string(),
            format!(
                "queue.task for a task: this is no answer of a Taskcluster service (404 Not Found from {host}); is TASKCLUSTER_ROOT_URL right?"
            )
        );
        let (told, _) = error_of("HTTP/1.1 404 Not Found\r\nContent-Length: 16\r\n\r\n{\"message\":\"no\"}").await;
        assert_eq!((told.kind, told.is_unknown_call), (CallErrorKind::Gone, false));
    }

    #[test]
    fn people_read_what_stands_before_the_dashes() {
        assert_eq!(human_part("No such task\n\n---\n\n* method: task"), "No such task");
        assert_eq!(human_part("plain"), "plain");
    }
}
