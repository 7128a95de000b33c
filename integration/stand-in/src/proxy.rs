//! taskcluster-proxy for one run: callers need no credentials, and get the task's scopes and the right to create
//! artifacts, no more. Everything else passes through unchanged.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::api::ApiRequest;
use super::auth::Caller;
use super::faults::Dropped;
use super::http::Reply;
use super::server::{Door, Shared, api, listen};
use super::tasks::{Claim, task_scopes};

/// Whose calls a proxy makes.
pub(super) struct Identity {
    task: String,
    run: u32,
    client: String,
}

/// The URL of the run's proxy, which listens from now on. Needs a runtime.
pub(super) fn open(shared: &Arc<Shared>, claim: &Claim) -> String {
    let mut proxies = shared.proxies.lock().expect("nothing panics under this lock");
    let open = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port for the proxy");
        listener.set_nonblocking(true).expect("a socket that can be asynchronous");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let listener = tokio::net::TcpListener::from_std(listener).expect("a runtime");
        let identity =
            Identity { task: claim.task_id.clone(), run: claim.run_id, client: claim.credentials.client_id.clone() };
        tokio::spawn(listen(shared.clone(), listener, Door::Proxy(Arc::new(identity))));
        url
    };
    proxies.entry((claim.task_id.clone(), claim.run_id)).or_insert_with(open).clone()
}

/// Makes the call in the task's name. 5xx and 429 are tried again for as long as the options say, as the real
/// proxy does by itself: through it, a permanent 500 looks like a call that hangs.
pub(super) async fn forward(shared: &Shared, identity: &Identity, request: ApiRequest) -> Result<Reply, Dropped> {
    // A path without a version makes the real proxy panic, which closes the connection.
    let path_and_query = match target(&request.path_and_query) {
        Target::Path(path) => path,
        Target::Panic => return Err(Dropped),
        Target::Invalid => return Ok(Reply::text(404, "invalid /api path")),
    };
    let patience = shared.world().options.proxy_patience;
    let start = Instant::now();
    let mut pause = Duration::from_millis(100);
    loop {
        let request = ApiRequest {
            method: request.method.clone(),
            path_and_query: path_and_query.clone(),
            headers: request.headers.clone(),
            body: request.body.clone(),
            caller: Some(caller(shared, identity)),
        };
        let result = api(shared, request, true).await;
        let again = result.as_ref().map_or(true, |reply| reply.status.is_server_error() || reply.status == 429);
        if again && start.elapsed() + pause <= patience {
            tokio::time::sleep(pause).await;
            pause *= 2;
            continue;
        }
        let endpoint = format!("{}{path_and_query}", shared.world().root_url);
        let reply = result.unwrap_or_else(|_| Reply::text(500, "Failed during proxy request: EOF"));
        return Ok(reply
            .header("x-taskcluster-endpoint", &endpoint)
            .header("x-taskcluster-proxy-temp-clientid", &identity.client));
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
    let world = shared.world();
    let mut scopes = world.tasks.get(&identity.task).map(task_scopes).unwrap_or_default();
    scopes.push(format!("queue:create-artifact:{}/{}", identity.task, identity.run));
    Caller::client(&world, &identity.client, scopes)
}
