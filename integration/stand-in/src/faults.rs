//! Scripted misbehaviour: which call it befalls, how often, and what then happens instead of the right answer.
//! Where in an exchange it strikes is for the server.

use std::time::Duration;

use serde_json::{Map, Value};

use super::http::{Damage, Reply};

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
pub(super) enum Failure {
    /// Answers this, without doing any work.
    Status { status: u16, body: String, retry_after: Option<u32> },
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
}

impl Fault {
    fn new(call: &str, failure: Failure) -> Self {
        Self { call: call.to_owned(), path: None, skip: 0, times: 1, failure }
    }

    /// Answers `status`, with a body that is not JSON, such as load balancers send.
    pub fn status(call: &str, status: u16) -> Self {
        let body = format!("<html>stand-in: scripted {status}</html>");
        Self::new(call, Failure::Status { status, body, retry_after: None })
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

    /// The fault of the admin endpoint: `call` and `kind` (as the functions above are called), and the other
    /// properties by the names of the functions below.
    pub(super) fn from_json(fault: &Map<String, Value>) -> Option<Self> {
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
        Some(small("retry_after").into_iter().fold(made, Self::retry_after))
    }

    /// Befalls `times` calls instead of one; `u32::MAX` is for ever.
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Lets the first `calls` matching calls pass.
    pub fn skip(mut self, calls: u32) -> Self {
        self.skip = calls;
        self
    }

    /// Befalls only calls whose path, as sent, contains `part`.
    pub fn path(mut self, part: &str) -> Self {
        self.path = Some(part.to_owned());
        self
    }

    /// The answer's body, of a status fault.
    pub fn body(mut self, text: &str) -> Self {
        if let Failure::Status { body, .. } = &mut self.failure {
            text.clone_into(body);
        }
        self
    }

    /// The answer's Retry-After, of a status fault.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        if let Failure::Status { retry_after, .. } = &mut self.failure {
            *retry_after = Some(seconds);
        }
        self
    }
}

/// A fault and how much of it is left.
pub(super) struct Armed(Fault);

impl From<Fault> for Armed {
    fn from(fault: Fault) -> Self {
        Self(fault)
    }
}

/// Takes the failure that befalls a call: the first armed fault that matches and has no calls left to skip.
pub(super) fn strike(faults: &mut Vec<Armed>, call: &str, path: &str) -> Option<Failure> {
    let matches = |fault: &Fault| fault.call == call && fault.path.as_ref().is_none_or(|part| path.contains(part));
    let mut struck = None;
    for Armed(fault) in faults.iter_mut().filter(|armed| matches(&armed.0)) {
        if fault.skip > 0 {
            fault.skip -= 1;
        } else if struck.is_none() {
            fault.times = if fault.times == u32::MAX { u32::MAX } else { fault.times.saturating_sub(1) };
            struck = Some(fault.failure.clone());
        }
    }
    faults.retain(|Armed(fault)| fault.times > 0);
    struck
}

/// The connection is to be closed without an answer.
#[derive(Debug)]
pub(super) struct Dropped;

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stand-in: connection dropped, as scripted")
    }
}

impl std::error::Error for Dropped {}

impl Failure {
    /// What happens before the work: nothing, an answer in its place, or no answer ever.
    pub(super) async fn before(&self) -> Result<Option<Reply>, Dropped> {
        match self {
            Self::Status { status, body, retry_after } => {
                let mut reply = Reply::text(*status, body);
                if let Some(seconds) = retry_after {
                    reply = reply.header("retry-after", &seconds.to_string());
                }
                Ok(Some(reply))
            }
            Self::Drop => Err(Dropped),
            Self::Hang => std::future::pending().await,
            Self::Delay(delay) => {
                tokio::time::sleep(*delay).await;
                Ok(None)
            }
            Self::ReplyLost | Self::Stall | Self::CutBody(_) | Self::WrongBytes => Ok(None),
            Self::WrongArrival | Self::WrongStore | Self::Gzipped => Ok(None),
        }
    }

    /// What happens to the answer after the work.
    pub(super) async fn after(&self, reply: Reply) -> Result<Reply, Dropped> {
        match self {
            Self::ReplyLost => Err(Dropped),
            Self::Stall => std::future::pending().await,
            Self::CutBody(bytes) => Ok(reply.damaged(Damage::Cut(*bytes))),
            Self::WrongBytes => Ok(reply.damaged(Damage::Flip)),
            Self::Gzipped => Ok(reply.damaged(Damage::Gzip)),
            _ => Ok(reply),
        }
    }
}
