//! HTTP connections to the engine: bollard's client, and our own requests for what bollard does not offer: the headers of a
//! ping, long replies as streams, and connections that change their protocol. `messages` and BuildKit's session use them.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use http_body_util::Empty;
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONNECTION, HOST, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;
use tracing::debug;

use super::address::{Address, Close, OpenConnection};

use crate::report::Hint;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(in crate::engine) enum ConnectionError {
    /// Nothing listens at the address.
    #[error("nobody answers at {0}")]
    Closed(String, #[source] io::Error),
    /// The reply is not HTTP.
    #[error("no HTTP at {0}")]
    Broken(String, #[source] hyper::Error),
    /// The request does not fit into a URL: a URL has at most 65,534 bytes.
    #[error("what the engine is asked for does not fit into a request{}", Hint("are there very long build arguments?"))]
    Address(#[source] hyper::http::uri::InvalidUri),
    /// The engine does not support the request.
    #[error("the engine answers {1} to {0}")]
    Refused(String, StatusCode),
}

/// The engine's reply to a ping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Ping {
    /// The newest version of the API that it supports.
    pub(in crate::engine) api: Option<(u32, u32)>,
    /// Whether BuildKit is its default builder.
    pub(in crate::engine) builds_with_buildkit: bool,
}

/// Closes the sending half of the connection of a request.
#[derive(Clone, Default)]
pub(in crate::engine) struct Closing(Arc<Mutex<Half>>);

#[derive(Default)]
struct Half {
    is_closed: bool,
    close: Option<Close>,
}

impl Closing {
    /// Closes the sending half. The reply can still be read.
    pub(in crate::engine) fn close(&self) {
        let mut half = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        half.is_closed = true;
        if let Some(Err(error)) = half.close.take().map(|close| close()) {
            debug!("the connection to the engine cannot be closed: {error}");
        }
    }

    fn set_close(&self, close: Close) {
        let mut half = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        half.close = Some(close);
        let is_closed = half.is_closed;
        drop(half);
        if is_closed {
            self.close();
        }
    }
}

/// A connection for requests.
pub(in crate::engine) struct RawConnection<B> {
    pub(super) sender: SendRequest<B>,
    /// The task of the connection. Its result has the reason if the connection breaks.
    connection: JoinHandle<Result<(), hyper::Error>>,
}

/// Pings the engine at `place`.
pub(in crate::engine) async fn ping(place: &Address) -> Result<Ping, ConnectionError> {
    let answer = send(place, request(Method::GET, "/_ping", &[], Empty::<Bytes>::new())?, &Closing::default()).await?;
    let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let api = header("api-version").and_then(|version| version.split_once('.'));
    let api = api.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    Ok(Ping { api, builds_with_buildkit: header("builder-version") == Some("2") })
}

/// Opens a connection and upgrades it to HTTP/2, for requests of the engine to us. `path` is the endpoint.
pub(in crate::engine) async fn upgrade(
    place: &Address,
    path: &str,
    headers: &[(&str, String)],
) -> Result<Upgraded, ConnectionError> {
    let answer = request_upgrade(place, path, "h2c", headers).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(ConnectionError::Refused(path.to_owned(), answer.status()));
    }
    hyper::upgrade::on(answer).await.map_err(|error| ConnectionError::Broken(place.to_string(), error))
}

/// Asks for another protocol. The engine's reply may refuse it.
pub(super) async fn request_upgrade(
    place: &Address,
    path: &str,
    protocol: &'static str,
    headers: &[(&str, String)],
) -> Result<Response<Incoming>, ConnectionError> {
    let mut request = request(Method::POST, path, headers, Empty::<Bytes>::new())?;
    let changes = [(CONNECTION, "Upgrade"), (UPGRADE, protocol)];
    request.headers_mut().extend(changes.map(|(name, value)| (name, hyper::header::HeaderValue::from_static(value))));
    send(place, request, &Closing::default()).await
}

/// Builds a request. Invalid headers are left out; none of ours is invalid.
pub(in crate::engine) fn request<B>(
    method: Method,
    path: &str,
    headers: &[(&str, String)],
    body: B,
) -> Result<Request<B>, ConnectionError> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    // Without a version, as bollard sends it: every engine accepts this.
    *request.uri_mut() = path.parse().map_err(ConnectionError::Address)?;
    request.headers_mut().insert(HOST, hyper::header::HeaderValue::from_static("engine"));
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (name.parse::<hyper::header::HeaderName>(), value.parse()) {
            request.headers_mut().append(name, value);
        }
    }
    Ok(request)
}

/// Sends a request and waits for the head of its reply. The connection ends when the reply is dropped.
pub(in crate::engine) async fn send<B>(
    place: &Address,
    request: Request<B>,
    closing: &Closing,
) -> Result<Response<Incoming>, ConnectionError>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let broken = |error| ConnectionError::Broken(place.to_string(), error);
    let RawConnection { mut sender, connection } = connect(place, closing).await?;
    let answer = sender.send_request(request).await;
    match answer {
        // The engine closed the connection first, and the connection has the reason: with TLS the engine reports only after its
        // handshake that it does not trust us.
        Err(error) if error.is_canceled() => {
            drop(sender);
            let why = connection.await.ok().and_then(Result::err);
            Err(broken(why.unwrap_or(error)))
        }
        answer => answer.map_err(broken),
    }
}

/// Opens a connection for requests, one after the other. It ends with its sender and the last reply.
pub(in crate::engine) async fn connect<B>(
    place: &Address,
    closing: &Closing,
) -> Result<RawConnection<B>, ConnectionError>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let closed = |error| ConnectionError::Closed(place.to_string(), error);
    let broken = |error| ConnectionError::Broken(place.to_string(), error);
    let OpenConnection { stream, close } = place.connect().await.map_err(closed)?;
    closing.set_close(close);
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // The task ends with the reply, or with the upgraded connection.
    Ok(RawConnection { sender, connection: tokio::spawn(connection.with_upgrades()) })
}

/// bollard's client for the engine at `place`. It uses the same connections as all other requests.
pub(in crate::engine) fn client(place: &Address, timeout: Duration) -> Result<Docker, bollard::errors::Error> {
    let place = place.clone();
    let transport = move |request: BollardRequest| {
        let place = place.clone();
        async move {
            let (mut head, body) = request.into_parts();
            // Only proxies need a full URL; engines need only the path.
            if let Some(path) = head.uri.path_and_query() {
                head.uri = path.clone().into();
            }
            head.headers.insert(HOST, hyper::header::HeaderValue::from_static("engine"));
            let answer = send(&place, Request::from_parts(head, body), &Closing::default()).await;
            answer.map_err(|error| io::Error::other(error).into())
        }
    };
    Docker::connect_with_custom_transport(transport, Some("http://engine"), timeout.as_secs(), API_DEFAULT_VERSION)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::engine::EngineAddress;

    fn address(url: &str) -> Address {
        Address::new(&EngineAddress::usual(url)).unwrap()
    }

    /// An engine that sends the same reply to every request.
    async fn engine(answer: &'static str) -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = address(&format!("tcp://{}", listener.local_addr().unwrap()));
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1024];
            assert!(socket.read(&mut buffer).await.unwrap() > 0);
            socket.write_all(answer.as_bytes()).await.unwrap();
        });
        place
    }

    #[tokio::test]
    async fn a_ping_tells_the_engines_own_builder() {
        let answer = "HTTP/1.1 200 OK\r\nApi-Version: 1.43\r\nBuilder-Version: 2\r\nContent-Length: 2\r\n\r\nOK";
        let pong = ping(&engine(answer).await).await.unwrap();
        assert_eq!(pong, Ping { api: Some((1, 43)), builds_with_buildkit: true });
        let pong =
            ping(&engine("HTTP/1.1 200 OK\r\nBuilder-Version: \r\nContent-Length: 0\r\n\r\n").await).await.unwrap();
        assert_eq!(pong, Ping::default());
        assert!(matches!(ping(&address("unix:///nonexistent.sock")).await.unwrap_err(), ConnectionError::Closed(..)));
    }

    #[tokio::test]
    async fn an_engine_that_keeps_to_http_is_told_from_one_that_does_not() {
        let place = engine("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
        let refused = upgrade(&place, "/session", &[("x-name", "value".to_owned())]).await.unwrap_err();
        assert_eq!(refused.to_string(), "the engine answers 404 Not Found to /session");
        let place = engine("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n").await;
        assert!(upgrade(&place, "/session", &[]).await.is_ok());
    }
}
