//! taskcluster-proxy for one run: callers need no credentials, and get the task's scopes and the right to create
//! artifacts, no more. Everything else passes through unchanged.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use tokio::time::Instant;
use tower::ServiceExt as _;

use crate::auth::Caller;
use crate::faults::{Dropped, is_dropped};
use crate::queue::tasks::{Claim, task_scopes};
use crate::server::{LARGEST_BODY, api, serve, too_large};
use crate::shared::Shared;

/// Whose calls a proxy makes.
pub(crate) struct Identity {
    task: String,
    run: u32,
    client: String,
}

/// The URL of the run's proxy, which listens from now on. Needs a runtime.
pub(crate) fn open(shared: &Arc<Shared>, claim: &Claim) -> String {
    let mut proxies = shared.proxies.lock().expect("nothing panics under this lock");
    let open = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port for the proxy");
        listener.set_nonblocking(true).expect("a socket that can be asynchronous");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let listener = tokio::net::TcpListener::from_std(listener).expect("a runtime");
        let identity =
            Identity { task: claim.task_id.clone(), run: claim.run_id, client: claim.credentials.client_id.clone() };
        tokio::spawn(serve(listener, router(shared.clone(), identity)));
        url
    };
    proxies.entry((claim.task_id.clone(), claim.run_id)).or_insert_with(open).clone()
}

fn router(shared: Arc<Shared>, identity: Identity) -> Router {
    let api = api(&shared);
    let identity = Arc::new(identity);
    Router::new().fallback(move |request| forward(shared, api, identity, request))
}

/// Makes the call in the task's name. 5xx and 429 are tried again for as long as the options allow, as the real
/// proxy does by itself: through it, a permanent 500 looks like a call that hangs.
async fn forward(shared: Arc<Shared>, api: Router, identity: Arc<Identity>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LARGEST_BODY).await else { return too_large() };
    // A path without a version makes the real proxy panic, which closes the connection.
    let path_and_query = match target(parts.uri.path_and_query().map_or("/", |path| path.as_str())) {
        Target::Path(path) => path,
        Target::Panic => return Dropped.into_response(),
        Target::Invalid => return (StatusCode::NOT_FOUND, "invalid /api path").into_response(),
    };
    parts.uri = path_and_query.parse::<Uri>().expect("a part of a URI");
    parts.extensions.clear();
    let retry_time = shared.lock().options.proxy_retry_time;
    let start = Instant::now();
    let mut pause = Duration::from_millis(100);
    loop {
        let mut request = Request::from_parts(parts.clone(), Body::from(body.clone()));
        request.extensions_mut().insert(caller(&shared, &identity));
        let Ok(mut response) = api.clone().oneshot(request).await;
        if is_dropped(&response) {
            response = (StatusCode::INTERNAL_SERVER_ERROR, "Failed during proxy request: EOF").into_response();
        }
        let again = response.status().is_server_error() || response.status() == StatusCode::TOO_MANY_REQUESTS;
        if again && start.elapsed() + pause <= retry_time {
            tokio::time::sleep(pause).await;
            pause *= 2;
            continue;
        }
        let endpoint = format!("{}{path_and_query}", shared.lock().root_url);
        let headers =
            [("x-taskcluster-endpoint", endpoint), ("x-taskcluster-proxy-temp-clientid", identity.client.clone())];
        return (headers, response).into_response();
    }
}

enum Target {
    Path(String),
    Panic,
    Invalid,
}

/// `/api/queue/v1/x` as it is, `/queue/v1/x` with `/api` before it.
fn target(path_and_query: &str) -> Target {
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    let query = if query.is_empty() { String::new() } else { format!("?{query}") };
    if let Some(rest) = path.strip_prefix("/api") {
        let valid = rest.starts_with('/') && rest.matches('/').count() >= 3;
        return if valid { Target::Path(format!("{path}{query}")) } else { Target::Invalid };
    }
    // A service and a version at least.
    if path.matches('/').count() < 3 {
        return Target::Panic;
    }
    Target::Path(format!("/api{path}{query}"))
}

/// Resolving and reclaiming the run are not among the scopes (observed: 403 on reportCompleted).
fn caller(shared: &Shared, identity: &Identity) -> Caller {
    let deployment = shared.lock();
    let mut scopes = deployment.tasks.get(&identity.task).map(task_scopes).unwrap_or_default();
    scopes.push(format!("queue:create-artifact:{}/{}", identity.task, identity.run));
    Caller::client(&deployment, &identity.client, scopes)
}
