//! The call log: every call that reached the stand-in, in order of arrival, for tests to look at afterwards.
//! Signatures and bewits are cut out of it, so that it can be printed.

use std::time::Instant;

use serde_json::{Value, json};

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// When it arrived.
    pub arrived: Instant,
    /// `auth`, `queue`, `index`, `object`, `secrets` or `s3`; `unknown` for a path that no service has.
    pub service: &'static str,
    /// `createArtifact` and so on, the names of Taskcluster's reference, or `s3 PUT`, `s3 GET`, `s3 HEAD`; `unknown`.
    pub name: String,
    /// The HTTP method.
    pub method: String,
    /// Path and query, secrets elided.
    pub path: String,
    /// The JSON body, or null; of calls to the store, the headers that matter.
    pub request: Value,
    /// Whose credentials were good; none for anonymous calls and bad credentials.
    pub client_id: Option<String>,
    /// Whether it came through a taskcluster-proxy.
    pub via_proxy: bool,
    /// The scopes that the service required, whether the caller had them or not.
    pub required_scopes: Vec<String>,
    /// What was answered; none when the connection was closed instead, or while the call is under way.
    pub status: Option<u16>,
    /// The scripted fault that happened to the call.
    pub fault: Option<String>,
}

impl Call {
    pub(crate) fn new(service: &'static str, name: &str, method: &str, path_and_query: &str) -> Self {
        Self {
            arrived: Instant::now(),
            service,
            name: name.to_owned(),
            method: method.to_owned(),
            path: elide(path_and_query),
            request: Value::Null,
            client_id: None,
            via_proxy: false,
            required_scopes: Vec::new(),
            status: None,
            fault: None,
        }
    }

    /// The call as the admin endpoints give it.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "service": self.service,
            "name": self.name,
            "method": self.method,
            "path": self.path,
            "request": self.request,
            "clientId": self.client_id,
            "viaProxy": self.via_proxy,
            "requiredScopes": self.required_scopes,
            "status": self.status,
            "fault": self.fault,
        })
    }
}

/// The calls so far.
#[derive(Default)]
pub(crate) struct Log {
    calls: Vec<Call>,
    /// How many calls `clear` removed: ids go on counting.
    cleared: usize,
    /// The most calls that were under way at once.
    most_at_once: usize,
}

impl Log {
    /// Writes a call down when it arrives; its id is for `end`.
    pub(crate) fn begin(&mut self, call: Call) -> usize {
        self.calls.push(call);
        let under_way = self.calls.iter().filter(|call| call.status.is_none()).count();
        self.most_at_once = self.most_at_once.max(under_way);
        self.cleared + self.calls.len() - 1
    }

    /// Completes a call. None when it was cleared meanwhile.
    pub(crate) fn end(&mut self, id: usize, complete: impl FnOnce(&mut Call)) -> Option<&Call> {
        let call = self.calls.get_mut(id.checked_sub(self.cleared)?)?;
        complete(call);
        Some(call)
    }

    pub(crate) fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// The most calls that were under way at once; one whose connection was closed never ends.
    pub(crate) fn most_at_once(&self) -> usize {
        self.most_at_once
    }

    pub(crate) fn clear(&mut self) {
        self.most_at_once = 0;
        self.cleared += self.calls.len();
        self.calls.clear();
    }
}

/// Replaces the values of query parameters that let their holder in.
fn elide(path_and_query: &str) -> String {
    let Some((path, query)) = path_and_query.split_once('?') else { return path_and_query.to_owned() };
    let parameters: Vec<String> = query
        .split('&')
        .map(|parameter| match parameter.split_once('=') {
            Some((name @ ("X-Amz-Signature" | "X-Amz-Credential" | "bewit"), _)) => format!("{name}=…"),
            _ => parameter.to_owned(),
        })
        .collect();
    format!("{path}?{}", parameters.join("&"))
}
