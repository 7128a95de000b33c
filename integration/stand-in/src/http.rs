//! Responses as the services write them, bodies that are damaged on purpose, and what axum leaves alone of URLs.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;

use axum::body::{Body, BodyDataStream, Bytes, HttpBody as _};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt as _, stream};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

/// How much of a file is read at once. The default of 4 KiB takes three times as long for a large image.
const CHUNK: usize = 256 << 10;

/// JSON, with the content type of the services.
pub(crate) fn json_response(status: StatusCode, value: &Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json; charset=utf-8")], value.to_string()).into_response()
}

/// A redirect as Express writes it.
pub(crate) fn redirect(url: &str) -> Response {
    let text = format!("See Other. Redirecting to {url}");
    (StatusCode::SEE_OTHER, [(LOCATION, url.to_owned())], text).into_response()
}

/// So many bytes of a file, from an offset: an image of a gigabyte is never in memory.
pub(crate) async fn file_response(path: PathBuf, offset: u64, length: u64) -> io::Result<Response> {
    let mut file = tokio::fs::File::open(path).await?;
    file.seek(io::SeekFrom::Start(offset)).await?;
    let body = Body::from_stream(ReaderStream::with_capacity(file.take(length), CHUNK));
    Ok(([(CONTENT_LENGTH, length)], body).into_response())
}

/// The response with a part of its body. The length is that of the whole body, as if the connection had broken.
pub(crate) fn cut(response: Response, bytes: u64) -> Response {
    with_body(response, |body, _| {
        let kept = body.scan(bytes, |left, chunk| {
            let chunk = chunk.map(|chunk| chunk.slice(..chunk.len().min(usize::try_from(*left).unwrap_or(usize::MAX))));
            *left -= chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
            let end = chunk.as_ref().is_ok_and(Bytes::is_empty);
            std::future::ready(if end { None } else { Some(chunk) })
        });
        kept.chain(stream::once(async {
            // hyper flushes what it has when a body is not ready, and throws it away when a body fails.
            tokio::task::yield_now().await;
            Err(axum::Error::new(io::Error::other("stand-in: body cut, as scripted")))
        }))
    })
}

/// The response with one byte changed, in the middle of its body.
pub(crate) fn flip(response: Response) -> Response {
    with_body(response, |body, length| {
        body.scan(0, move |passed: &mut u64, chunk| {
            let chunk = chunk.map(|chunk| {
                let start = *passed;
                *passed += chunk.len() as u64;
                match usize::try_from((length / 2).wrapping_sub(start)) {
                    Ok(index) if index < chunk.len() => {
                        let mut wrong = chunk.to_vec();
                        wrong[index] ^= 1;
                        wrong.into()
                    }
                    _ => chunk,
                }
            });
            std::future::ready(Some(chunk))
        })
    })
}

/// The response compressed, in chunks and without a length.
pub(crate) async fn gzip(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let mut body = body.into_data_stream();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    while let Some(chunk) = body.next().await {
        packed.write_all(&chunk.expect("a stored file")).expect("memory");
    }
    let packed = Bytes::from(packed.finish().expect("memory"));
    parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.remove(ETAG);
    Response::from_parts(parts, Body::from_stream(stream::iter([Ok::<_, io::Error>(packed)])))
}

/// Replaces the body by one of the same length, which is announced.
fn with_body<S>(response: Response, change: impl FnOnce(BodyDataStream, u64) -> S) -> Response
where
    S: Stream<Item = Result<Bytes, axum::Error>> + Send + 'static,
{
    let (mut parts, body) = response.into_parts();
    let announced = header(&parts.headers, "content-length").and_then(|length| length.parse().ok());
    let length = announced.or(body.size_hint().exact()).unwrap_or_default();
    parts.headers.insert(CONTENT_LENGTH, length.into());
    Response::from_parts(parts, Body::from_stream(change(body.into_data_stream(), length)))
}

/// Decodes %XX. None when the escapes are broken or not UTF-8.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let pair = [bytes.next()?, bytes.next()?];
            let pair = std::str::from_utf8(&pair).ok()?;
            decoded.push(u8::from_str_radix(pair, 16).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

/// Encodes all but `[A-Za-z0-9_.~-]` and the characters of `kept`.
pub(crate) fn encode(text: &str, kept: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"_.~-".contains(&byte) || kept.as_bytes().contains(&byte);
        if plain {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The query's parameters, decoded, in order.
pub(crate) fn parameters(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let plain = |text: &str| decode(&text.replace('+', " ")).unwrap_or_else(|| text.to_owned());
            (plain(name), plain(value))
        })
        .collect()
}

/// A header as text.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
