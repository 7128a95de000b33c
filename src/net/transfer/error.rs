//! How a transfer fails, and whether another try can help.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::StatusCode;

use crate::net::retry::{Failure, Retryability};
use crate::net::{HttpUrl, NO_CERTIFICATES};
use crate::report::Hint;

/// A transfer that failed.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The server answered, but not with success.
    #[error("{method} {url}: the server answered {status}{}", message(.answer))]
    Status {
        /// The method.
        method: &'static str,
        /// The URL.
        url: HttpUrl,
        /// The answer.
        status: StatusCode,
        /// The beginning of the answer's body, where it is text.
        answer: String,
        /// The server's Retry-After.
        retry_after: Option<Duration>,
    },
    /// No answer, or one that ended too early.
    #[error("{method} {url}: the connection{} failed", elsewhere.as_ref().map(|host| format!(" to {host}")).unwrap_or_default())]
    Connection {
        /// The method.
        method: &'static str,
        /// The URL.
        url: HttpUrl,
        /// The host, if it is another one that the URL has led to.
        elsewhere: Option<String>,
        /// How it failed.
        #[source]
        source: reqwest::Error,
    },
    /// The connection ended, and the file with it, although there should be more.
    #[error("GET {url}: the connection ended within the file, whose length the server did not send")]
    Cut {
        /// The URL.
        url: HttpUrl,
    },
    /// The server took nothing more of an upload, and did not answer.
    #[error("{method} {url}: nothing moved for {} s", silence.as_secs())]
    Stalled {
        /// The method.
        method: &'static str,
        /// Where to.
        url: HttpUrl,
        /// For how long.
        silence: Duration,
    },
    /// The answer does not have the file's length.
    #[error("GET {url}: the answer does not say how long the file is")]
    NoLength {
        /// The URL.
        url: HttpUrl,
    },
    /// What was compressed for the transfer cannot be unpacked.
    #[error("GET {url}: this is not the gzip that the server says it is")]
    Packed {
        /// The URL.
        url: HttpUrl,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A download cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The file to upload cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The HTTP client cannot be set up.
    #[error("the HTTP client cannot be set up{}", Hint(NO_CERTIFICATES))]
    Setup(#[source] reqwest::Error),
}

fn message(answer: &str) -> String {
    if answer.is_empty() { String::new() } else { format!(", {answer}") }
}

impl TransferError {
    /// Whether the server reported that the file does not exist.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(
            self,
            Self::Status { status: StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::FAILED_DEPENDENCY, .. }
        )
    }

    /// Whether the server refused access; for a signed URL, usually because it has expired.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Status { status: StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED, .. })
    }
}

impl Failure for TransferError {
    fn retryability(&self) -> Retryability {
        const PASSING: [StatusCode; 2] = [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT];
        match self {
            Self::Status { status, retry_after, .. } if status.is_server_error() || PASSING.contains(status) => {
                retry_after.map_or(Retryability::Transient, Retryability::RetryAfter)
            }
            // The bytes are wrong that arrived, not those that were sent.
            Self::Status { status: StatusCode::BAD_REQUEST, answer, .. } if answer.starts_with("BadDigest") => {
                Retryability::Transient
            }
            Self::Connection { .. } | Self::Cut { .. } | Self::Stalled { .. } => Retryability::Transient,
            Self::Status { .. } | Self::NoLength { .. } | Self::Packed { .. } => Retryability::Permanent,
            Self::Write { .. } | Self::File { .. } | Self::Setup(_) => Retryability::Permanent,
        }
    }
}
