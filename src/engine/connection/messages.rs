//! Reads long replies of an engine: JSON messages, one per line, which the engine sends while it works. bollard does not read
//! them, because it accepts lines of any length and drops a failed command's exit code. `build`, `load` and `push` interpret
//! the messages.

use std::io;

use bollard::models::{BuildInfo, ErrorDetail};
use bollard::query_parameters::{BuildImageOptions, BuilderVersion};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Incoming};
use hyper::upgrade::Upgraded;
use hyper::{Method, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio_util::bytes::Bytes;
use tokio_util::codec::{AnyDelimiterCodec, AnyDelimiterCodecError, FramedRead};
use tokio_util::io::StreamReader;

use super::address::Address;
use super::client::{Closing, ConnectionError, request, request_upgrade, send};
use crate::engine::build::builder::Builder;
use crate::engine::build::pulling::Pulling;
use crate::engine::{Engine, managed};

/// The longest accepted message, in MiB. Real messages are far below 1 MiB: engines send a command's output in pieces of some
/// KiB, and `BuildKit` truncates its logs.
const LONGEST_MESSAGE: usize = 16;

/// Why a reply could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub(in crate::engine) enum AnswerError {
    /// The engine reported an error in a reply that it had started.
    #[error("{message}")]
    Reported {
        /// What failed.
        message: String,
        /// The exit code of the command that failed: the engine's `errorDetail.code`.
        code: Option<i64>,
    },
    /// The engine rejected the request.
    #[error("it answers {status}: {message}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// The engine's message, which may be empty.
        message: String,
    },
    /// A message is longer than any engine sends.
    #[error("it sent a message without an end, longer than {LONGEST_MESSAGE} MiB")]
    TooLong,
    /// A line is not a message of an engine.
    #[error("it sent what is no message")]
    Json(#[from] serde_json::Error),
    /// The connection broke.
    #[error("the connection to it broke off")]
    Cut(#[source] io::Error),
    /// There is no connection.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The query cannot be encoded in a URL.
    #[error("it cannot be asked for this")]
    Query(#[from] serde_urlencoded::ser::Error),
}

/// A request to an engine.
pub(in crate::engine) struct Question<Q, B> {
    /// The path, without a version.
    pub(in crate::engine) path: String,
    /// The query string.
    pub(in crate::engine) query: Q,
    /// Headers besides those that every request has.
    pub(in crate::engine) headers: Vec<(&'static str, String)>,
    /// The request body.
    pub(in crate::engine) body: B,
}

/// The headers of a request whose body is a tar archive.
pub(in crate::engine) fn of_an_archive() -> Vec<(&'static str, String)> {
    vec![("content-type", "application/x-tar".to_owned())]
}

/// A build request.
pub(in crate::engine) struct BuildRequest<B> {
    pub(in crate::engine) options: BuildImageOptions,
    /// The patterns that Podman excludes from the context. They replace the ignore files that its version reads.
    pub(in crate::engine) excludes: [&'static str; 1],
    /// The context, a tar archive.
    pub(in crate::engine) context: B,
    /// Closes the connection in one direction.
    pub(in crate::engine) closing: Closing,
}

impl Engine {
    /// Requests a build from a builder, over a connection that can be closed in one direction.
    pub(in crate::engine) fn request_build<B>(
        &self,
        builder: &Builder,
        pulling: &Pulling,
        request: BuildRequest<B>,
    ) -> impl Stream<Item = Result<BuildInfo, AnswerError>> + use<B>
    where
        B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    {
        let BuildRequest { mut options, excludes, context, closing } = request;
        if let Some(session) = &builder.session {
            options.version = BuilderVersion::BuilderBuildKit;
            options.session = Some(session.id().to_owned());
        }
        let mut path = if self.managed.is_some() { managed::BUILD } else { "/build" }.to_owned();
        if pulling.without_tls {
            path += if path.contains('?') { "&tlsVerify=false" } else { "?tlsVerify=false" };
        }
        let headers = of_an_archive().into_iter().chain(pulling.credentials.clone()).collect();
        let excludes = self.driver.takes_excludes().then(|| serde_json::json!(excludes).to_string());
        let query = BuildQuery { options, excludes };
        messages_over(&self.place, Question { path, query, headers, body: context }, closing)
    }
}

#[derive(Serialize)]
struct BuildQuery {
    #[serde(flatten)]
    options: BuildImageOptions,
    /// A parameter of Podman, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    excludes: Option<String>,
}

/// The messages of a reply. A message that reports a failure becomes an error, and is the last.
pub(in crate::engine) fn messages<T, Q, B>(
    place: &Address,
    question: Question<Q, B>,
) -> impl Stream<Item = Result<T, AnswerError>> + use<T, Q, B>
where
    T: DeserializeOwned,
    Q: Serialize,
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    messages_over(place, question, Closing::default())
}

fn messages_over<T, Q, B>(
    place: &Address,
    Question { path, query, headers, body }: Question<Q, B>,
    closing: Closing,
) -> impl Stream<Item = Result<T, AnswerError>> + use<T, Q, B>
where
    T: DeserializeOwned,
    Q: Serialize,
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let place = place.clone();
    let answer = async move {
        let join = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{join}{}", serde_urlencoded::to_string(query)?);
        let answer = send(&place, request(Method::POST, &path, &headers, body)?, &closing).await?;
        if answer.status().is_success() { Ok(lines(answer.into_body())) } else { Err(refusal(answer).await) }
    };
    futures_util::stream::once(answer)
        .try_flatten()
        .and_then(|line| std::future::ready(message(&line)))
        .filter_map(|message| std::future::ready(message.transpose()))
}

/// Opens a connection that is a stream of bytes, in both directions. `path` is the endpoint.
pub(in crate::engine) async fn byte_stream(place: &Address, path: &str) -> Result<Upgraded, AnswerError> {
    let answer = request_upgrade(place, path, "tcp", &[]).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refusal(answer).await);
    }
    hyper::upgrade::on(answer).await.map_err(|error| AnswerError::Cut(io::Error::other(error)))
}

fn lines(body: Incoming) -> impl Stream<Item = Result<Bytes, AnswerError>> {
    let body = StreamReader::new(body.into_data_stream().map_err(io::Error::other));
    let lines = AnyDelimiterCodec::new_with_max_length(b"\n".to_vec(), b"\n".to_vec(), LONGEST_MESSAGE << 20);
    FramedRead::new(body, lines).map_err(|error| match error {
        AnyDelimiterCodecError::MaxChunkLengthExceeded => AnswerError::TooLong,
        AnyDelimiterCodecError::Io(error) => AnswerError::Cut(error),
    })
}

/// The message in a line. `None` if the line is empty.
fn message<T: DeserializeOwned>(line: &[u8]) -> Result<Option<T>, AnswerError> {
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    // Docker and Podman fill in both fields. A message with only the older one is a failure, too.
    let Failure { detail, error } = serde_json::from_slice(line)?;
    let code = detail.as_ref().and_then(|detail| detail.code);
    let reported = detail.and_then(|detail| detail.message).or(error).filter(|text| !text.is_empty());
    if let Some(message) = reported {
        return Err(AnswerError::Reported { message, code });
    }
    Ok(Some(serde_json::from_slice(line)?))
}

/// The failure in a reply that the engine has started.
#[derive(Deserialize)]
struct Failure {
    #[serde(rename = "errorDetail")]
    detail: Option<ErrorDetail>,
    error: Option<String>,
}

/// The reply of an engine that rejects a request.
#[derive(Deserialize)]
struct Refusal {
    message: String,
}

async fn refusal(answer: Response<Incoming>) -> AnswerError {
    let status = answer.status().as_u16();
    let body = match Limited::new(answer.into_body(), LONGEST_MESSAGE << 20).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => return AnswerError::TooLong,
        Err(error) => return AnswerError::Cut(io::Error::other(error)),
    };
    let message = match serde_json::from_slice(&body) {
        Ok(Refusal { message }) => message,
        Err(_) => String::from_utf8_lossy(&body).into_owned(),
    };
    AnswerError::Status { status, message }
}

#[cfg(test)]
mod tests {
    use bollard::models::PushImageInfo;
    use http_body_util::Empty;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::engine::EngineAddress;

    fn address(url: &str) -> Address {
        Address::new(&EngineAddress::usual(url)).unwrap()
    }

    /// An engine that sends one reply, piece by piece, and returns how many bytes of it were sent.
    async fn engine(pieces: Vec<Vec<u8>>) -> (Address, tokio::task::JoinHandle<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = address(&format!("tcp://{}", listener.local_addr().unwrap()));
        let sending = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = socket.read(&mut request).await.unwrap();
            assert!(request[..length].starts_with(b"POST /images/a/b/push?tag=1%3A HTTP/1.1\r\n"), "{request:?}");
            let mut taken = 0;
            for piece in pieces {
                if socket.write_all(&piece).await.is_err() {
                    break;
                }
                taken += piece.len();
            }
            taken
        });
        (place, sending)
    }

    /// The result of a reply: the statuses, how it ends, and how many bytes of it were sent.
    async fn answer(pieces: Vec<Vec<u8>>) -> (Vec<String>, Result<(), AnswerError>, usize) {
        let (place, sending) = engine(pieces).await;
        let (path, headers, body) = ("/images/a/b/push".to_owned(), Vec::new(), Empty::<Bytes>::new());
        let question = Question { path, query: [("tag", "1:")], headers, body };
        let mut statuses = Vec::new();
        let end = {
            let mut messages = std::pin::pin!(messages::<PushImageInfo, _, _>(&place, question));
            loop {
                match messages.next().await {
                    None => break Ok(()),
                    Some(Ok(message)) => statuses.push(message.status.unwrap_or_default()),
                    Some(Err(error)) => break Err(error),
                }
            }
        };
        (statuses, end, sending.await.unwrap())
    }

    const HEAD: &str = "HTTP/1.1 200 OK\r\n\r\n";

    async fn answer_of(text: &str) -> (Vec<String>, Result<(), AnswerError>) {
        let (statuses, end, _) = answer(vec![text.into()]).await;
        (statuses, end)
    }

    #[tokio::test]
    async fn messages_are_lines_and_the_last_needs_no_line_break() {
        let text = format!("{HEAD}{{\"status\":\"a\"}}\r\n\r\n{{\"status\":\"b\\nc\"}}\n{{\"status\":\"d\"}}");
        let (statuses, end) = answer_of(&text).await;
        assert_eq!(statuses, ["a", "b\nc", "d"]);
        assert!(end.is_ok(), "{end:?}");
        // In pieces of one byte.
        let (statuses, end, _) = answer(text.bytes().map(|byte| vec![byte]).collect()).await;
        assert_eq!((statuses.len(), end.is_ok()), (3, true));
    }

    #[tokio::test]
    async fn a_failure_has_the_engines_words_and_the_commands_exit_code() {
        for (line, text, exit_code) in [
            (r#"{"errorDetail":{"code":3,"message":"returned 3"},"error":"returned 3"}"#, "returned 3", Some(3)),
            (r#"{"errorDetail":{"message":"denied"},"error":"denied"}"#, "denied", None),
            (r#"{"error":"denied"}"#, "denied", None),
        ] {
            let (statuses, end) =
                answer_of(&format!("{HEAD}{{\"status\":\"a\"}}\n{line}\n{{\"status\":\"b\"}}\n")).await;
            assert_eq!(statuses, ["a"]);
            let Err(AnswerError::Reported { message, code }) = end else { panic!("{end:?}") };
            assert_eq!((message.as_str(), code), (text, exit_code));
        }
    }

    #[tokio::test]
    async fn a_refusal_is_told_from_an_answer_that_breaks_off() {
        let (_, end) = answer_of("HTTP/1.1 400 Bad Request\r\nContent-Length: 17\r\n\r\n{\"message\":\"bad\"}").await;
        assert!(matches!(&end, Err(AnswerError::Status { status: 400, message }) if message == "bad"), "{end:?}");
        let (_, end) = answer_of("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n").await;
        assert!(matches!(&end, Err(AnswerError::Status { status: 500, message }) if message.is_empty()), "{end:?}");
        let (statuses, end) = answer_of("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"status\":\"a\"}\n").await;
        assert!(matches!(end, Err(AnswerError::Cut(_))) && statuses == ["a"], "{end:?}");
        assert!(matches!(answer_of(&format!("{HEAD}{{\"status\"")).await.1, Err(AnswerError::Json(_))));
        assert!(matches!(answer_of(&format!("{HEAD}<html>\n")).await.1, Err(AnswerError::Json(_))));
        assert!(matches!(answer_of("").await.1, Err(AnswerError::Connection(_))));
    }

    #[tokio::test]
    async fn a_message_without_an_end_is_not_kept() {
        // A real message is well within the limit, whatever its length.
        let long = format!("{HEAD}{{\"status\":\"{}\"}}\n", "x".repeat(1 << 20));
        assert_eq!(answer_of(&long).await.0[0].len(), 1 << 20);
        for head in [HEAD, "HTTP/1.1 500 Internal Server Error\r\n\r\n"] {
            let pieces = std::iter::once(head.into()).chain((0..1024).map(|_| vec![b'x'; 1 << 20])).collect();
            let (_, end, taken) = answer(pieces).await;
            assert!(matches!(end, Err(AnswerError::TooLong)), "{end:?}");
            assert!(taken < LONGEST_MESSAGE << 21, "{taken} bytes");
        }
    }

    #[tokio::test]
    async fn what_fits_into_no_address_is_not_asked() {
        let (path, headers, body) = ("/build".to_owned(), Vec::new(), Empty::<Bytes>::new());
        let question = Question { path, query: [("buildargs", "x".repeat(1 << 16))], headers, body };
        let mut messages = std::pin::pin!(messages::<PushImageInfo, _, _>(&address("tcp://127.0.0.1:9"), question));
        let error = messages.next().await.unwrap().unwrap_err().to_string();
        assert!(error.ends_with("are there very long build arguments?"), "{error}");
    }
}
