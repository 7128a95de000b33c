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
#[error("{call} for {target}: {what}")]
pub struct CallError {
    call: &'static str,
    target: String,
    /// Why it failed.
    pub fault: CallErrorKind,
    what: String,
    /// 401: the service does not accept the credentials, whatever their scopes.
    pub unauthenticated: bool,
    /// Whether the service itself answered, and not a server in its place without such a path.
    spoken: bool,
    #[source]
    source: Option<reqwest::Error>,
}

impl CallError {
    fn setup(call: &'static str, error: &anyhow::Error) -> Self {
        let what = format!("{error:#}");
        Self {
            call,
            target: "the client".to_owned(),
            fault: CallErrorKind::Protocol,
            what,
            unauthenticated: false,
            spoken: false,
            source: None,
        }
    }

    fn new(call: &'static str, target: &str, error: anyhow::Error, retry: RetryConfig) -> Self {
        let status = taskcluster::err_status_code(&error);
        // With a 4xx the crate puts the service's message in front; its first part is for people.
        let message = human_part(&error.to_string()).to_owned();
        let spoken = error.downcast_ref::<String>().is_some();
        let (fault, what, source) = match (status, error.downcast::<reqwest::Error>()) {
            (Some(status), _) if status.is_client_error() => {
                let fault = client_fault(status);
                let hint = match status {
                    StatusCode::UNAUTHORIZED => "; check the credentials, and the clock",
                    StatusCode::FORBIDDEN => "; add the scope to the task",
                    _ => "",
                };
                // The scopes stand in a block of Markdown.
                (fault, format!("{} ({status}){hint}", message.replace("```", "")), None)
            }
            // The crate drops the body of a 5xx, so only the status is known.
            (Some(status), _) => (CallErrorKind::Server, format!("the service answered {status}"), None),
            // The other errors of a body are about a connection that broke in the middle of it.
            (None, Ok(error)) if error.is_decode() && is_json(&error) => (
                CallErrorKind::Protocol,
                "the answer is not the JSON that was expected".to_owned(),
                Some(error.without_url()),
            ),
            (None, Ok(error)) if error.is_timeout() => {
                let what = format!("no answer within {} s", retry.call_timeout.as_secs());
                (CallErrorKind::Network, what, Some(error.without_url()))
            }
            (None, Ok(error)) => (CallErrorKind::Network, "no answer".to_owned(), Some(error.without_url())),
            // Without the crate's own text: about a header that cannot be sent it contains that header, certificate and all.
            (None, Err(_)) => (CallErrorKind::Protocol, "the request cannot be made".to_owned(), None),
        };
        let unauthenticated = status == Some(StatusCode::UNAUTHORIZED);
        Self { call, target: target.to_owned(), fault, what, unauthenticated, spoken, source }
    }

    /// The same for calls where a 404 without a service's message cannot mean that something is missing.
    fn proxy_404(self) -> Self {
        let what = "this is no answer of a Taskcluster service; is TASKCLUSTER_ROOT_URL right?".to_owned();
        Self { fault: CallErrorKind::Protocol, what, ..self }
    }

    /// A list whose pages do not end.
    fn endless(call: &'static str, target: &str, pages: usize) -> Self {
        let (target, what) = (target.to_owned(), format!("the list has more than {pages} pages"));
        Self { call, target, fault: CallErrorKind::Protocol, what, unauthenticated: false, spoken: true, source: None }
    }

    fn protocol(call: &'static str, target: &str, error: &serde_json::Error) -> Self {
        let what = format!("the answer is not what was expected: {error}");
        let (target, fault) = (target.to_owned(), CallErrorKind::Protocol);
        Self { call, target, fault, what, unauthenticated: false, spoken: false, source: None }
    }
}

/// Whether an error is about the JSON of a whole answer.
fn is_json(error: &reqwest::Error) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<serde_json::Error>)
}

fn client_fault(status: StatusCode) -> CallErrorKind {
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
        match self.fault {
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
        for (status, fault) in cases.into_iter().chain(more) {
            assert_eq!(client_fault(StatusCode::from_u16(status).unwrap()), fault, "{status}");
        }
    }

    /// The error of a call whose answer is `answer`, after which the connection is closed.
    async fn fault_of(answer: &'static str) -> CallErrorKind {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let root_url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            let _ = connection.read(&mut [0; 4096]).await.unwrap();
            connection.write_all(answer.as_bytes()).await.unwrap();
        });
        let client = builder(&Deployment { root_url, access: Access::Anonymous, retry: RetryConfig::default() });
        let error = taskcluster::Queue::new(client).unwrap().task("fN1SbArXTPSVFNUvaOlinQ").await.unwrap_err();
        CallError::new("queue.task", "a task", error, RetryConfig::default()).fault
    }

    #[tokio::test]
    async fn half_an_answer_is_the_networks_fault_and_a_senseless_one_is_not() {
        assert_eq!(
            fault_of("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"expires\":").await,
            CallErrorKind::Network
        );
        assert_eq!(fault_of("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>").await, CallErrorKind::Protocol);
    }

    #[test]
    fn people_read_what_stands_before_the_dashes() {
        assert_eq!(human_part("No such task\n\n---\n\n* method: task"), "No such task");
        assert_eq!(human_part("plain"), "plain");
    }
}
