//! The routers and their listeners: each call is logged when it arrives and when it is answered, and between the two the
//! fault happens that is scripted for it. hyper serves the routers instead of axum, because some calls get no response.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::http::header::DATE;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jiff::fmt::rfc2822::DateTimePrinter;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use crate::api::not_found;
use crate::auth::Caller;
use crate::faults::{Dropped, Failure, is_dropped};
use crate::log::Call;
use crate::shared::Shared;
use crate::{SLOWEST, admin, auth_service, index, object, queue, reference, secrets, store};

/// The services' own limit.
pub(crate) const LARGEST_BODY: usize = 10 << 20;

/// The services.
pub(crate) fn api(shared: &Arc<Shared>) -> Router {
    Router::new()
        .nest("/api/auth/v1", auth_service::routes())
        .nest("/api/index/v1", index::routes())
        .nest("/api/object/v1", object::routes())
        .nest("/api/queue/v1", queue::routes())
        .nest("/api/secrets/v1", secrets::routes())
        .layer(from_fn_with_state(shared.clone(), api_call))
        .with_state(shared.clone())
}

/// The services, and the admin endpoints beside them.
pub(crate) fn api_and_admin(shared: &Arc<Shared>) -> Router {
    api(shared).nest("/stand-in", admin::routes(shared))
}

/// The S3-like store.
pub(crate) fn store(shared: &Arc<Shared>) -> Router {
    Router::new().fallback(store_call).with_state(shared.clone())
}

/// Logs one call to the API, direct or through a proxy, and makes it if it is to succeed.
async fn api_call(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LARGEST_BODY).await else { return too_large() };
    let route = parts.extensions.get::<MatchedPath>();
    let known = route.and_then(|route| reference::find(parts.method.as_str(), route.as_str()));
    let (service, name) = known.map_or(("unknown", "unknown"), |known| (known.service.as_str(), known.name.as_str()));
    let path_and_query = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut call = Call::new(service, name, parts.method.as_str(), path_and_query);
    call.request = serde_json::from_slice(&body).unwrap_or_default();
    call.via_proxy = parts.extensions.get::<Caller>().is_some();
    let (id, failure) = shared.begin(call);
    let work = async {
        // Nothing is locked meanwhile: calls at the same time wait at the same time.
        let delay = shared.lock().options.delay.min(SLOWEST);
        tokio::time::sleep(delay).await;
        let Some(known) = known else { return not_found() };
        parts.extensions.insert(known);
        next.run(Request::from_parts(parts, Body::from(body))).await
    };
    let mut response = match &failure {
        Some(failure) => failure.apply(work).await,
        None => work.await,
    };
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&shared.lock().caller_now()).expect("a date");
    response.headers_mut().insert(DATE, date.parse().expect("a header"));
    shared.end(id, &response);
    response
}

pub(crate) fn too_large() -> Response {
    (StatusCode::PAYLOAD_TOO_LARGE, "request entity too large").into_response()
}

async fn store_call(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let mut body = body.into_data_stream();
    let path_and_query = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let method = parts.method.as_str();
    let mut call = Call::new("s3", &format!("s3 {method}"), method, path_and_query);
    call.request = store::describe(&parts.headers);
    let (id, failure) = shared.begin(call);
    if matches!(failure, Some(Failure::Gzipped)) {
        // What is compressed while it is served has no parts.
        parts.headers.remove("range");
    }
    let work = async { store::respond(&shared, &parts, &mut body, failure.as_ref()).await.into_response() };
    let response = match &failure {
        Some(failure) => failure.apply(work).await,
        None => work.await,
    };
    if !is_dropped(&response) {
        // Where the response came in place of the work: read the body, so that the caller sees the response.
        store::drain(&mut body).await;
    }
    shared.end(id, &response);
    response
}

/// Serves a router until the runtime ends.
pub(crate) async fn serve(listener: TcpListener, router: Router) {
    loop {
        // Out of file descriptors, for example: the next connection may do better.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let router = router.clone();
        let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let response = router.clone().oneshot(request.map(Body::new));
            async move {
                let Ok(response) = response.await;
                if is_dropped(&response) { Err(Dropped) } else { Ok(response) }
            }
        });
        // An error is a caller that went away, or a connection that was dropped as scripted.
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
