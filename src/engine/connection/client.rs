//! Connections to the engine: bollard's, and our own for what it keeps to itself: the headers of a ping, long answers as
//! they come, and connections that change their protocol. What goes over them is for `messages` and for BuildKit's session.

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

use super::address::{Address, Close};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(in crate::engine) enum ConnectionError {
    /// Nobody is there.
    #[error("nobody answers at {0}")]
    Closed(String, #[source] io::Error),
    /// What came is no HTTP.
    #[error("no HTTP at {0}")]
    Broken(String, #[source] hyper::Error),
    /// What is asked for does not fit into a request: 65,534 bytes are the most that an address can have.
    #[error("what the engine is asked for does not fit into a request; are there very long build arguments?")]
    Address(#[source] hyper::http::uri::InvalidUri),
    /// The engine does not do that.
    #[error("the engine answers {1} to {0}")]
    Refused(String, StatusCode),
}

/// What an engine says of itself when it is asked whether it is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Ping {
    /// The newest version of the API that it speaks.
    pub(in crate::engine) api: Option<(u32, u32)>,
    /// Whether BuildKit is what it builds with unless it is told otherwise.
    pub(in crate::engine) builds_with_buildkit: bool,
}

/// Closes the sending half of the connection that a request went over.
#[derive(Clone, Default)]
pub(in crate::engine) struct Closing(Arc<Mutex<Half>>);

#[derive(Default)]
struct Half {
    is_closed: bool,
    close: Option<Close>,
}

impl Closing {
    /// What comes can still be read.
    pub(in crate::engine) fn close(&self) {
        let mut half = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        half.is_closed = true;
        if let Some(Err(error)) = half.close.take().map(|close| close()) {
            debug!("the connection to the engine cannot be closed: {error}");
        }
    }

    fn connected(&self, close: Close) {
        let mut half = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        half.close = Some(close);
        let is_closed = half.is_closed;
        drop(half);
        if is_closed {
            self.close();
        }
    }
}

/// A connection that requests go over.
pub(in crate::engine) struct Connected<B> {
    pub(super) sender: SendRequest<B>,
    /// Why it has ended.
    connection: JoinHandle<Result<(), hyper::Error>>,
}

/// Asks the engine at `place` whether it is there.
pub(in crate::engine) async fn ping(place: &Address) -> Result<Ping, ConnectionError> {
    let answer = ask(place, request(Method::GET, "/_ping", &[], Empty::<Bytes>::new())?, &Closing::default()).await?;
    let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let api = header("api-version").and_then(|version| version.split_once('.'));
    let api = api.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    Ok(Ping { api, builds_with_buildkit: header("builder-version") == Some("2") })
}

/// A connection that the engine has agreed to speak HTTP/2 on, in the direction that `path` is about.
pub(in crate::engine) async fn upgrade(
    place: &Address,
    path: &str,
    headers: &[(&str, String)],
) -> Result<Upgraded, ConnectionError> {
    let mut request = request(Method::POST, path, headers, Empty::<Bytes>::new())?;
    let changes = [(CONNECTION, "Upgrade"), (UPGRADE, "h2c")];
    request.headers_mut().extend(changes.map(|(name, value)| (name, hyper::header::HeaderValue::from_static(value))));
    let answer = ask(place, request, &Closing::default()).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(ConnectionError::Refused(path.to_owned(), answer.status()));
    }
    hyper::upgrade::on(answer).await.map_err(|error| ConnectionError::Broken(place.to_string(), error))
}

/// A request. What a header cannot hold is left out: there is none among ours.
pub(in crate::engine) fn request<B>(
    method: Method,
    path: &str,
    headers: &[(&str, String)],
    body: B,
) -> Result<Request<B>, ConnectionError> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    // Without a version, as bollard asks: every engine understands it.
    *request.uri_mut() = path.parse().map_err(ConnectionError::Address)?;
    request.headers_mut().insert(HOST, hyper::header::HeaderValue::from_static("engine"));
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (name.parse::<hyper::header::HeaderName>(), value.parse()) {
            request.headers_mut().append(name, value);
        }
    }
    Ok(request)
}

/// Sends a request, and waits for the head of its answer. The connection ends when the answer is dropped.
pub(in crate::engine) async fn ask<B>(
    place: &Address,
    request: Request<B>,
    closing: &Closing,
) -> Result<Response<Incoming>, ConnectionError>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let broken = |error| ConnectionError::Broken(place.to_string(), error);
    let Connected { mut sender, connection } = connect(place, closing).await?;
    let answer = sender.send_request(request).await;
    match answer {
        // The engine has ended the connection first, and the connection knows why: TLS tells after its handshake that
        // it does not trust us.
        Err(error) if error.is_canceled() => {
            drop(sender);
            let why = connection.await.ok().and_then(Result::err);
            Err(broken(why.unwrap_or(error)))
        }
        answer => answer.map_err(broken),
    }
}

/// A connection for requests, one after the other. It ends with its sender and the last answer.
pub(in crate::engine) async fn connect<B>(place: &Address, closing: &Closing) -> Result<Connected<B>, ConnectionError>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let closed = |error| ConnectionError::Closed(place.to_string(), error);
    let broken = |error| ConnectionError::Broken(place.to_string(), error);
    let (socket, close) = place.connect().await.map_err(closed)?;
    closing.connected(close);
    let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(broken)?;
    // It ends with the answer, or with the connection that the answer has become.
    Ok(Connected { sender, connection: tokio::spawn(connection.with_upgrades()) })
}

/// bollard's client of the engine at `place`, over connections like all others.
pub(in crate::engine) fn client(place: &Address, timeout: Duration) -> Result<Docker, bollard::errors::Error> {
    let place = place.clone();
    let send = move |question: BollardRequest| {
        let place = place.clone();
        async move {
            let (mut head, body) = question.into_parts();
            // What would be said to a proxy: engines want the path only.
            if let Some(path) = head.uri.path_and_query() {
                head.uri = path.clone().into();
            }
            head.headers.insert(HOST, hyper::header::HeaderValue::from_static("engine"));
            let answer = ask(&place, Request::from_parts(head, body), &Closing::default()).await;
            answer.map_err(|error| io::Error::other(error).into())
        }
    };
    Docker::connect_with_custom_transport(send, Some("http://engine"), timeout.as_secs(), API_DEFAULT_VERSION)
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

    /// An engine that gives everybody the same answer.
    async fn engine(answer: &'static str) -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = address(&format!("tcp://{}", listener.local_addr().unwrap()));
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut asked = [0; 1024];
            assert!(socket.read(&mut asked).await.unwrap() > 0);
            socket.write_all(answer.as_bytes()).await.unwrap();
        });
        place
    }

    #[tokio::test]
    async fn a_ping_tells_the_engines_own_builder() {
        let answer = "HTTP/1.1 200 OK\r\nApi-Version: 1.43\r\nBuilder-Version: 2\r\nContent-Length: 2\r\n\r\nOK";
        let said = ping(&engine(answer).await).await.unwrap();
        assert_eq!(said, Ping { api: Some((1, 43)), builds_with_buildkit: true });
        let said =
            ping(&engine("HTTP/1.1 200 OK\r\nBuilder-Version: \r\nContent-Length: 0\r\n\r\n").await).await.unwrap();
        assert_eq!(said, Ping::default());
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
