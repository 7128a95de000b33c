//! Scripted misbehaviour: which call it is for, how often, and what then happens instead of the right response.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::http::StatusCode;
use axum::response::{AppendHeaders, IntoResponse, Response};
use serde_json::{Map, Value};
use tokio::sync::{Barrier, Notify};

use crate::http::{cut, flip, gzip};

/// A fault that waits for its call.
///
/// ```ignore
/// stand_in.fault(Fault::status("createArtifact", 503).times(2));
/// stand_in.fault(Fault::cut_body("s3 GET", 1000).path("context.tar.gz"));
/// ```
#[derive(Clone, Debug)]
pub struct Fault {
    call: String,
    path: Option<String>,
    skip: u32,
    times: u32,
    failure: Failure,
}

/// What a fault does.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// Answers this, without doing any work; together with others, not before all of them have arrived.
    Status { status: u16, body: String, retry_after: Option<u32>, together: Option<Arc<Barrier>> },
    /// Closes the connection before any work.
    Drop,
    /// Does the work, then closes the connection instead of answering.
    ReplyLost,
    /// Accepts the call and never answers, until the stand-in stops.
    Hang,
    /// Does the work, then never answers.
    Stall,
    /// Serves (or, of an upload, reads) so many bytes of the body, then closes the connection.
    CutBody(u64),
    /// Serves the body with one byte changed, in its middle.
    WrongBytes,
    /// Of an upload: one byte is wrong when it arrives, so that a `Content-MD5` is not that of the body.
    WrongArrival,
    /// Of an upload: one byte is wrong in what is stored, whatever arrived, and the answer is 200.
    WrongStore,
    /// Serves the whole file compressed and in chunks, without a length, as stores and caches do that compress by themselves.
    Gzipped,
    /// Waits before the work.
    Delay(Duration),
    /// Waits before the work until the gate is open.
    Held(Arc<Notify>),
}

/// Lets one held call go on.
#[derive(Debug)]
pub struct Gate(Arc<Notify>);

impl Gate {
    /// Lets the call go on; one that has not arrived yet is not held.
    pub fn open(&self) {
        self.0.notify_one();
    }
}

impl Fault {
    fn new(call: &str, failure: Failure) -> Self {
        Self { call: call.to_owned(), path: None, skip: 0, times: 1, failure }
    }

    /// Answers `status`, with a body that is not JSON, such as load balancers send.
    pub fn status(call: &str, status: u16) -> Self {
        let body = format!("<html>stand-in: scripted {status}</html>");
        Self::new(call, Failure::Status { status, body, retry_after: None, together: None })
    }

    /// Closes the connection before any work.
    pub fn drop(call: &str) -> Self {
        Self::new(call, Failure::Drop)
    }

    /// Does the work, then closes the connection instead of answering.
    pub fn reply_lost(call: &str) -> Self {
        Self::new(call, Failure::ReplyLost)
    }

    /// Accepts the call and never answers.
    pub fn hang(call: &str) -> Self {
        Self::new(call, Failure::Hang)
    }

    /// Does the work, then never answers.
    pub fn stall(call: &str) -> Self {
        Self::new(call, Failure::Stall)
    }

    /// Serves (or, of an upload, reads) `bytes` of the body, then closes the connection.
    pub fn cut_body(call: &str, bytes: u64) -> Self {
        Self::new(call, Failure::CutBody(bytes))
    }

    /// Serves the body with one byte changed.
    pub fn wrong_bytes(call: &str) -> Self {
        Self::new(call, Failure::WrongBytes)
    }

    /// One byte of an upload is wrong when it arrives.
    pub fn wrong_arrival(call: &str) -> Self {
        Self::new(call, Failure::WrongArrival)
    }

    /// One byte of an upload is stored wrong.
    pub fn wrong_store(call: &str) -> Self {
        Self::new(call, Failure::WrongStore)
    }

    /// Serves the whole file compressed, without a length.
    pub fn gzipped(call: &str) -> Self {
        Self::new(call, Failure::Gzipped)
    }

    /// Waits before the work.
    pub fn delay(call: &str, delay: Duration) -> Self {
        Self::new(call, Failure::Delay(delay))
    }

    /// Waits before the work until the gate is opened.
    pub fn held(call: &str) -> (Self, Gate) {
        let gate = Arc::<Notify>::default();
        (Self::new(call, Failure::Held(gate.clone())), Gate(gate))
    }

    /// The fault of the admin endpoint: `call` and `kind` (as the functions above are called), and the other
    /// properties by the names of the functions below.
    pub(crate) fn from_json(fault: &Map<String, Value>) -> Option<Self> {
        let number = |name: &str| fault.get(name).and_then(Value::as_u64);
        let small = |name: &str| number(name).and_then(|number| u32::try_from(number).ok());
        let text = |name: &str| fault.get(name).and_then(Value::as_str);
        let call = text("call")?;
        let made = match text("kind")? {
            "status" => Self::status(call, u16::try_from(number("status")?).ok()?),
            "drop" => Self::drop(call),
            "reply_lost" => Self::reply_lost(call),
            "hang" => Self::hang(call),
            "stall" => Self::stall(call),
            "cut_body" => Self::cut_body(call, number("bytes")?),
            "wrong_bytes" => Self::wrong_bytes(call),
            "wrong_arrival" => Self::wrong_arrival(call),
            "wrong_store" => Self::wrong_store(call),
            "gzipped" => Self::gzipped(call),
            "delay" => Self::delay(call, Duration::from_millis(number("milliseconds")?)),
            _ => return None,
        };
        let made = made.times(small("times").unwrap_or(1)).skip(small("skip").unwrap_or(0));
        let made = text("body").into_iter().fold(made, Self::body);
        let made = text("path").into_iter().fold(made, Self::path);
        let made = small("retry_after").into_iter().fold(made, Self::retry_after);
        Some(if fault.get("together") == Some(&Value::Bool(true)) { made.together() } else { made })
    }

    /// Happens to `times` calls instead of one; `u32::MAX` is for ever.
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Lets the first `calls` matching calls pass.
    pub fn skip(mut self, calls: u32) -> Self {
        self.skip = calls;
        self
    }

    /// Happens only to calls whose path, as sent, contains `part`.
    pub fn path(mut self, part: &str) -> Self {
        self.path = Some(part.to_owned());
        self
    }

    /// The response's body, of a status fault.
    pub fn body(mut self, text: &str) -> Self {
        if let Failure::Status { body, .. } = &mut self.failure {
            text.clone_into(body);
        }
        self
    }

    /// The response's Retry-After, of a status fault.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        if let Failure::Status { retry_after, .. } = &mut self.failure {
            *retry_after = Some(seconds);
        }
        self
    }

    /// Answers all of its `times` calls at the same moment, when the last of them has arrived; of a status fault.
    pub fn together(mut self) -> Self {
        let calls = usize::try_from(self.times).unwrap_or(usize::MAX);
        if let Failure::Status { together, .. } = &mut self.failure {
            *together = Some(Arc::new(Barrier::new(calls)));
        }
        self
    }
}

/// A fault and how much of it is left.
pub(crate) struct ArmedFault(Fault);

impl From<Fault> for ArmedFault {
    fn from(fault: Fault) -> Self {
        Self(fault)
    }
}

/// Takes the failure of a call: the first armed fault that matches and has no calls left to skip.
pub(crate) fn take_matching(faults: &mut Vec<ArmedFault>, call: &str, path: &str) -> Option<Failure> {
    let matches = |fault: &Fault| fault.call == call && fault.path.as_ref().is_none_or(|part| path.contains(part));
    let mut taken = None;
    for ArmedFault(fault) in faults.iter_mut().filter(|armed| matches(&armed.0)) {
        if fault.skip > 0 {
            fault.skip -= 1;
        } else if taken.is_none() {
            fault.times = if fault.times == u32::MAX { u32::MAX } else { fault.times.saturating_sub(1) };
            taken = Some(fault.failure.clone());
        }
    }
    faults.retain(|ArmedFault(fault)| fault.times > 0);
    taken
}

/// Stands for a response: the connection is closed without one.
#[derive(Clone, Debug)]
pub(crate) struct Dropped;

impl IntoResponse for Dropped {
    /// A response that `server` does not send.
    fn into_response(self) -> Response {
        (Extension(Self), ()).into_response()
    }
}

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stand-in: connection dropped")
    }
}

impl std::error::Error for Dropped {}

/// Whether the connection is to be closed instead.
pub(crate) fn is_dropped(response: &Response) -> bool {
    response.extensions().get::<Dropped>().is_some()
}

impl Failure {
    /// Does the work, or not, and responds, or not.
    pub(crate) async fn apply(&self, work: impl Future<Output = Response>) -> Response {
        match self {
            Self::Status { status, body, retry_after, together } => {
                if let Some(together) = together {
                    together.wait().await;
                }
                let retry_after = retry_after.map(|seconds| [("retry-after", seconds.to_string())]);
                let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                (status, retry_after.map(AppendHeaders), body.clone()).into_response()
            }
            Self::Drop => Dropped.into_response(),
            Self::Hang => std::future::pending().await,
            Self::Delay(delay) => {
                tokio::time::sleep(*delay).await;
                work.await
            }
            Self::Held(gate) => {
                gate.notified().await;
                work.await
            }
            Self::ReplyLost => {
                work.await;
                Dropped.into_response()
            }
            Self::Stall => {
                work.await;
                std::future::pending().await
            }
            Self::CutBody(bytes) => match work.await {
                // An upload that is cut has no response.
                response if is_dropped(&response) => response,
                response => cut(response, *bytes),
            },
            Self::WrongBytes => flip(work.await),
            Self::Gzipped => gzip(work.await).await,
            // The store does these to what it receives.
            Self::WrongArrival | Self::WrongStore => work.await,
        }
    }
}
