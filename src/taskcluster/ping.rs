//! Whether a deployment answers, and its clock. The official client drops the headers of answers, and so the date.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::header::DATE;

use super::{CallError, Deployment};

/// What the answer to a ping tells.
#[derive(Clone, Copy, Debug)]
pub struct Pong {
    /// The service's time in whole seconds, if the answer has one.
    pub date: Option<Timestamp>,
    /// How long the answer took.
    pub took: Duration,
}

/// Asks the auth service for a sign of life, once, the way that all calls go. It needs no scope.
pub async fn ping(deployment: &Deployment) -> Result<Pong, CallError> {
    let began = Instant::now();
    let url = format!("{}/api/auth/v1/ping", deployment.api_url().as_str().trim_end_matches('/'));
    let answer = async {
        let client = reqwest::Client::builder().timeout(deployment.retry.call_timeout).build()?;
        client.get(url).send().await?.error_for_status()
    };
    let answer = answer.await.map_err(|error: reqwest::Error| {
        CallError::new("ping", &deployment.root_url.to_string(), error.into(), deployment.retry)
    })?;
    let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| Some(rfc2822::parse(date).ok()?.timestamp()));
    Ok(Pong { date, took: began.elapsed() })
}
