//! Answers, from bytes or from a file, whole or damaged on purpose, and the bits of URLs that hyper leaves alone.
//! What to answer is for the services.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;

use futures_util::{StreamExt as _, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

/// The body of an answer.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// How much of a file is read at once. The default of 4 KiB takes three times as long for a large image.
const CHUNK: usize = 256 << 10;

/// An answer.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    content: Content,
    damage: Option<Damage>,
}

enum Content {
    Bytes(Bytes),
    /// So many bytes of a file, from an offset: an image of a gigabyte is never in memory.
    File {
        path: PathBuf,
        offset: u64,
        len: u64,
    },
    /// Only the headers, with the length that the body would have.
    Head(u64),
}

/// What goes wrong with a body on its way out.
#[derive(Clone, Copy)]
pub(super) enum Damage {
    /// So many bytes, then the connection is closed.
    Cut(u64),
    /// One byte changed, in the middle.
    Flip,
    /// Compressed, without a word about the length.
    Gzip,
}

impl Reply {
    fn new(status: u16, content: Content) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, headers: HeaderMap::new(), content, damage: None }
    }

    pub(super) fn empty(status: u16) -> Self {
        Self::new(status, Content::Bytes(Bytes::new()))
    }

    pub(super) fn text(status: u16, text: &str) -> Self {
        Self::new(status, Content::Bytes(text.to_owned().into())).header("content-type", "text/plain; charset=utf-8")
    }

    pub(super) fn json(status: u16, value: &Value) -> Self {
        Self::new(status, Content::Bytes(value.to_string().into()))
            .header("content-type", "application/json; charset=utf-8")
    }

    pub(super) fn xml(status: u16, text: String) -> Self {
        Self::new(status, Content::Bytes(text.into())).header("content-type", "application/xml")
    }

    pub(super) fn file(status: u16, path: PathBuf, offset: u64, len: u64) -> Self {
        Self::new(status, Content::File { path, offset, len })
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        // Values come from callers too (a reference's URL): what no header can carry is left out.
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// The same answer without its body, as to HEAD.
    pub(super) fn head(mut self) -> Self {
        self.content = Content::Head(self.len());
        self
    }

    pub(super) fn damaged(mut self, damage: Damage) -> Self {
        self.damage = Some(damage);
        self
    }

    fn len(&self) -> u64 {
        match &self.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File { len, .. } | Content::Head(len) => *len,
        }
    }

    /// The answer as hyper sends it. The length is always announced, also of a body that will be cut.
    pub(super) async fn into_response(self) -> io::Result<Response<Body>> {
        let len = self.len();
        let body = match self.content {
            Content::Head(_) => stream::empty().boxed(),
            Content::Bytes(bytes) => stream::iter([Ok(bytes)]).boxed(),
            Content::File { path, offset, len } => {
                let mut file = tokio::fs::File::open(path).await?;
                file.seek(io::SeekFrom::Start(offset)).await?;
                ReaderStream::with_capacity(file.take(len), CHUNK).boxed()
            }
        };
        let body = match self.damage {
            None => body,
            Some(Damage::Cut(bytes)) => cut(body, bytes).boxed(),
            Some(Damage::Flip) => flip(body, len / 2).boxed(),
            Some(Damage::Gzip) => gzip(body).await?,
        };
        let mut response = Response::new(StreamBody::new(body.map(|chunk| chunk.map(Frame::data))).boxed_unsync());
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        if matches!(self.damage, Some(Damage::Gzip)) {
            response.headers_mut().insert("content-encoding", HeaderValue::from_static("gzip"));
            response.headers_mut().remove("etag");
        // 204 and 304 have no body and no length.
        } else if self.status != StatusCode::NO_CONTENT {
            response.headers_mut().insert("content-length", len.into());
        }
        Ok(response)
    }
}

type Chunks = stream::BoxStream<'static, io::Result<Bytes>>;

fn cut(body: Chunks, bytes: u64) -> impl stream::Stream<Item = io::Result<Bytes>> {
    let kept = body.scan(bytes, |left, chunk| {
        let chunk = chunk.map(|chunk| chunk.slice(..chunk.len().min(usize::try_from(*left).unwrap_or(usize::MAX))));
        *left -= chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        let end = chunk.as_ref().is_ok_and(Bytes::is_empty);
        std::future::ready(if end { None } else { Some(chunk) })
    });
    kept.chain(stream::once(async {
        // hyper flushes what it has when a body is not ready, and throws it away when a body fails.
        tokio::task::yield_now().await;
        Err(io::Error::other("stand-in: body cut, as scripted"))
    }))
}

async fn gzip(mut body: Chunks) -> io::Result<Chunks> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    while let Some(chunk) = body.next().await {
        packed.write_all(&chunk?)?;
    }
    Ok(stream::iter([Ok(packed.finish()?.into())]).boxed())
}

fn flip(body: Chunks, at: u64) -> impl stream::Stream<Item = io::Result<Bytes>> {
    body.scan(0, move |passed: &mut u64, chunk| {
        let chunk = chunk.map(|chunk| {
            let start = *passed;
            *passed += chunk.len() as u64;
            match usize::try_from(at.wrapping_sub(start)) {
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
}

/// Decodes %XX. None when the escapes are broken or not UTF-8.
pub(super) fn decode(text: &str) -> Option<String> {
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
pub(super) fn encode(text: &str, kept: &str) -> String {
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
pub(super) fn parameters(query: &str) -> Vec<(String, String)> {
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
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
