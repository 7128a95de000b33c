//! The doors: what listens, how a request finds its service, and where in the exchange a fault strikes. Each
//! call is logged on arrival and again when it is answered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use super::api::{self, ApiRequest};
use super::faults::{Dropped, Failure, strike};
use super::http::{Body, Reply};
use super::log::Call;
use super::proxy::{self, Identity};
use super::store::{self, StoreRequest};
use super::world::World;
use super::{SLOWEST, admin, routes};

/// The services' own limit.
const LARGEST_BODY: usize = 10 << 20;

/// What all doors share.
pub(super) struct Shared {
    world: Mutex<World>,
    /// URLs of the proxies that listen, by task and run.
    pub(super) proxies: Mutex<BTreeMap<(String, u32), String>>,
}

/// What a listener is for.
#[derive(Clone)]
pub(super) enum Door {
    /// The API, and the admin endpoints beside it.
    Api,
    Store,
    Proxy(Arc<Identity>),
}

impl Shared {
    pub(super) fn new(world: World) -> Self {
        Self { world: Mutex::new(world), proxies: Mutex::default() }
    }

    /// The world, for as long as nothing is awaited.
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        // A test's assertion that failed under the lock says enough by itself.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs a call, and finds the fault that befalls it.
    fn begin(&self, mut call: Call, path: &str) -> (usize, Option<Failure>) {
        let mut world = self.world();
        let failure = strike(&mut world.faults, &call.name, path);
        call.fault = failure.as_ref().map(|failure| format!("{failure:?}"));
        (world.log.begin(call), failure)
    }

    /// Completes the log of a call; `answered` has what only the API tells.
    fn end(&self, id: usize, result: &Result<Reply, Dropped>, answered: impl FnOnce(&mut Call)) {
        let mut world = self.world();
        let on_call = world.options.on_call.clone();
        let call = world.log.end(id, |call| {
            call.status = result.as_ref().ok().map(|reply| reply.status.as_u16());
            answered(call);
        });
        let call = call.cloned();
        drop(world);
        if let (Some(call), Some(on_call)) = (call, on_call) {
            on_call(&call);
        }
    }
}

/// Accepts connections until the runtime ends.
pub(super) async fn listen(shared: Arc<Shared>, listener: TcpListener, door: Door) {
    loop {
        // Out of file descriptors, for example: the next connection may do better.
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio::spawn(serve_connection(shared.clone(), stream, door.clone()));
    }
}

async fn serve_connection(shared: Arc<Shared>, stream: TcpStream, door: Door) {
    let service = service_fn(|request| answer(shared.clone(), door.clone(), request));
    // An error here is a caller that went away, or a connection that was dropped as scripted.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(shared: Arc<Shared>, door: Door, request: Request<Incoming>) -> Result<Response<Body>, Dropped> {
    let reply = match door {
        Door::Store => store(&shared, request).await?,
        Door::Api if request.uri().path().starts_with("/stand-in/") => admin::answer(&shared, request).await,
        Door::Api => match read(request).await? {
            Ok(request) => api(&shared, request, false).await?,
            Err(too_large) => too_large,
        },
        Door::Proxy(identity) => match read(request).await? {
            Ok(request) => proxy::forward(&shared, &identity, request).await?,
            Err(too_large) => too_large,
        },
    };
    reply.into_response().await.map_err(|_| Dropped)
}

/// Reads a request to the API into memory. The inner error is an answer.
async fn read(request: Request<Incoming>) -> Result<Result<ApiRequest, Reply>, Dropped> {
    let (parts, body) = request.into_parts();
    let body = match Limited::new(body, LARGEST_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return Ok(Err(Reply::text(413, "request entity too large")));
        }
        Err(_) => return Err(Dropped),
    };
    let path_and_query = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    Ok(Ok(ApiRequest { method: parts.method.to_string(), path_and_query, headers: parts.headers, body, caller: None }))
}

/// One call to the API, direct or through a proxy.
pub(super) async fn api(shared: &Shared, request: ApiRequest, via_proxy: bool) -> Result<Reply, Dropped> {
    let path = request.path_and_query.split('?').next().unwrap_or_default();
    let found = routes::find(&request.method, path);
    let (service, name) = found.as_ref().map_or(("unknown", "unknown"), |(route, _)| (route.service, route.name));
    let mut call = Call::new(service, name, &request.method, &request.path_and_query);
    call.request = body_json(&request.body);
    call.via_proxy = via_proxy;
    let (id, failure) = shared.begin(call, path);
    let (mut client_id, mut demanded) = (None, Vec::new());
    let work = async || {
        // Nothing is locked meanwhile: calls at the same time wait at the same time.
        let delay = shared.world().options.delay.min(SLOWEST);
        tokio::time::sleep(delay).await;
        let Some((route, params)) = found else { return Ok(api::unknown_route()) };
        let answered = api::answer(&mut shared.world(), route, params, &request);
        (client_id, demanded) = (answered.client_id, answered.demanded);
        Ok(answered.reply)
    };
    let result = with_failure(failure.as_ref(), work).await;
    shared.end(id, &result, |call| (call.client_id, call.demanded) = (client_id, demanded));
    result
}

async fn store(shared: &Shared, request: Request<Incoming>) -> Result<Reply, Dropped> {
    let (parts, mut body) = request.into_parts();
    let mut request = StoreRequest {
        method: parts.method.to_string(),
        path_and_query: parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        headers: parts.headers,
    };
    let mut call = Call::new("s3", &format!("s3 {}", request.method), &request.method, &request.path_and_query);
    call.request = request.describe();
    let (id, failure) = shared.begin(call, parts.uri.path());
    if matches!(failure, Some(Failure::Gzipped)) {
        // What is compressed while it is served has no parts.
        request.headers.remove("range");
    }
    let work = async || store::answer(shared, &request, &mut body, failure.as_ref()).await;
    let result = with_failure(failure.as_ref(), work).await;
    if result.is_ok() {
        // Where the answer came in place of the work: read the body, so that the caller sees the answer.
        store::drain(&mut body).await;
    }
    shared.end(id, &result, |_| ());
    result
}

/// Does the work, unless a fault strikes before, and answers, unless one strikes after.
async fn with_failure(
    failure: Option<&Failure>,
    work: impl AsyncFnOnce() -> Result<Reply, Dropped>,
) -> Result<Reply, Dropped> {
    let Some(failure) = failure else { return work().await };
    match failure.before().await? {
        Some(reply) => Ok(reply),
        None => failure.after(work().await?).await,
    }
}

fn body_json(body: &Bytes) -> Value {
    serde_json::from_slice(body).unwrap_or(Value::Null)
}
