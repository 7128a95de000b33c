//! Moving files over plain HTTP, without credentials: downloads as a stream, uploads, and the question how
//! long a stored file is. Signed URLs are secrets: what this module prints has no query.

mod content_md5;
mod error;
mod stored;
mod words;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use futures_util::{Stream, TryStreamExt};
use reqwest::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderValue, IF_RANGE, RANGE, RETRY_AFTER, TRANSFER_ENCODING,
};
use reqwest::redirect::{self, Attempt};
use reqwest::{Body, Client, Response, StatusCode, Version};
use tokio_util::bytes::Bytes;
use tokio_util::io::ReaderStream;
use tracing::warn;

use crate::net::blocking::blocking;
use crate::net::retry::{Policy, RetryConfig, retry};
use crate::net::{HttpUrl, host};
use crate::report::{ProgressCounter, secrets};
pub use content_md5::ContentMd5;
pub use error::TransferError;
pub use stored::Stored;
use words::{first_words, printable};

/// A signed PUT URL lives for 45 minutes; what has not arrived by then never will.
const PUT_LIMIT: Duration = Duration::from_mins(45);

/// How much is read from a file at a time: large enough that system calls do not count.
const CHUNK: usize = 256 * 1024;

/// The number of pieces of an upload that may wait to be hashed: 2 MiB of a file.
const HASHED_PIECES: usize = 8;

/// How long the body of an error may take: it only makes the message better.
const WORDS_MAY_TAKE: Duration = Duration::from_secs(10);

/// The HTTP client for storage. It follows redirects, and never sends credentials.
#[derive(Clone, Debug)]
pub struct Storage {
    client: Client,
    /// The time limit for silent uploads, measured here: reqwest's `read_timeout` runs from the request to the answer's headers,
    /// so that it would end every upload that takes longer, even one that makes progress.
    uploads: Client,
    retry: RetryConfig,
}

/// How often one download resumes after a broken connection. Without a limit, a server that cuts every answer would keep it busy
/// for ever.
const RESUMPTIONS: u32 = 10;

/// A started download.
pub struct Download {
    /// Its length in bytes, if the server sent it.
    pub length: Option<u64>,
    /// Whether the server compressed the file for the transfer (`Content-Encoding: gzip`), as workers do with some artifacts.
    pub gzip_encoded: bool,
    /// Whether only the end of the connection marks the end of the file, as with HTTP/1.0: then a cut looks like an end.
    pub ends_with_connection: bool,
    storage: Storage,
    response: Response,
    url: HttpUrl,
    /// Identifies this version of the file; without it a broken download begins again.
    etag: Option<HeaderValue>,
    received: u64,
    resumptions: u32,
}

impl Download {
    /// The bytes as they arrive. After a broken connection the download resumes, as long as the server has the same version of
    /// the file. A body that ends before its length is an error.
    pub fn bytes(self, meter: ProgressCounter) -> impl Stream<Item = Result<Bytes, TransferError>> {
        let meter = move |bytes: &Bytes| meter.add(bytes.len() as u64);
        futures_util::stream::try_unfold(self, Self::next).inspect_ok(meter)
    }

    async fn next(mut self) -> Result<Option<(Bytes, Self)>, TransferError> {
        loop {
            match self.response.chunk().await {
                Ok(Some(bytes)) => {
                    self.received += bytes.len() as u64;
                    return Ok(Some((bytes, self)));
                }
                Ok(None) => return Ok(None),
                Err(source) => {
                    let broken = connection("GET", &self.url, source);
                    let Some(rest) = self.rest(&broken).await else { return Err(broken) };
                    self.response = rest;
                }
            }
        }
    }

    /// The answer that has the rest of the file, if there is one.
    async fn rest(&mut self, broken: &TransferError) -> Option<Response> {
        let etag = self.etag.as_ref().filter(|_| self.received > 0 && self.resumptions < RESUMPTIONS)?;
        self.resumptions += 1;
        let from = self.received;
        warn!("{broken} after {from} bytes: going on from there");
        let ask = || async {
            let request = self.storage.client.get(self.url.reveal().clone());
            let request = request.header(RANGE, format!("bytes={from}-")).header(IF_RANGE, etag);
            success("GET", &self.url, request.send().await).await
        };
        let response = retry("going on with the download", self.storage.retry.policy(Policy::CALL), ask).await.ok()?;
        // Anything but exactly the rest would be inserted at the wrong place.
        begins_at(&response, from).then_some(response)
    }
}

/// Whether an answer is the part of a file that begins at the byte `start`.
fn begins_at(response: &Response, start: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let is_from = |range: &str| range.starts_with(&format!("bytes {start}-"));
    response.status() == StatusCode::PARTIAL_CONTENT && range.is_some_and(is_from)
}

/// The content of an upload.
pub struct UploadBody<S> {
    /// The bytes.
    pub bytes: S,
    /// How many they are.
    pub size: u64,
    /// What counts those that are sent.
    pub meter: ProgressCounter,
}

fn connection(method: &'static str, url: &HttpUrl, source: reqwest::Error) -> TransferError {
    let elsewhere = source.url().and_then(host).filter(|other| Some(other) != host(url.reveal()).as_ref());
    TransferError::Connection { method, url: url.clone(), elsewhere, source: source.without_url() }
}

impl Storage {
    /// Sets up the client.
    pub fn new(retry: RetryConfig) -> Result<Self, TransferError> {
        let builder = || {
            let agent = concat!("image-worker/", env!("CARGO_PKG_VERSION"));
            let redirects = redirect::Policy::custom(|redirect: Attempt<'_>| {
                secrets::add_url(redirect.url());
                redirect::Policy::default().redirect(redirect)
            });
            Client::builder().connect_timeout(Duration::from_secs(30)).user_agent(agent).redirect(redirects)
        };
        let client = builder().read_timeout(retry.silence).build().map_err(TransferError::Setup)?;
        let uploads = builder().build().map_err(TransferError::Setup)?;
        Ok(Self { client, uploads, retry })
    }

    /// How often and how long to try.
    #[must_use]
    pub fn retry(&self) -> RetryConfig {
        self.retry
    }

    /// Begins to download a file.
    pub async fn get(&self, url: &HttpUrl) -> Result<Download, TransferError> {
        secrets::add_url(url.reveal());
        let answer = self.client.get(url.reveal().clone()).send().await;
        let response = success("GET", url, answer).await?;
        Ok(self.download_of(response, url, 0))
    }

    /// Begins to download a file from the byte `start` on. `None` if the server does not send exactly that, or if it has the file
    /// compressed.
    pub async fn get_from(&self, url: &HttpUrl, start: u64) -> Result<Option<Download>, TransferError> {
        secrets::add_url(url.reveal());
        let request = self.client.get(url.reveal().clone()).header(RANGE, format!("bytes={start}-"));
        let response = success("GET", url, request.send().await).await?;
        let is_rest = begins_at(&response, start);
        let download = self.download_of(response, url, start);
        Ok(Some(download).filter(|download| is_rest && !download.gzip_encoded))
    }

    /// The download that a server has answered with, from the byte `received` on.
    fn download_of(&self, response: Response, url: &HttpUrl, received: u64) -> Download {
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let gzip_encoded = header(CONTENT_ENCODING).is_some_and(|encoding| encoding.eq_ignore_ascii_case("gzip"));
        let length = header(CONTENT_LENGTH).and_then(|length| length.parse().ok());
        let ends_with_connection =
            length.is_none() && header(TRANSFER_ENCODING).is_none() && response.version() <= Version::HTTP_11;
        // A weak validator does not promise the same bytes.
        let etag = response.headers().get(ETAG).filter(|etag| !etag.as_bytes().starts_with(b"W/")).cloned();
        let (storage, url) = (self.clone(), url.clone());
        let resumptions = 0;
        Download { length, gzip_encoded, ends_with_connection, storage, response, url, etag, received, resumptions }
    }

    /// Uploads bytes with one PUT and a known length: S3 refuses chunked bodies. Gives the MD5 of what was sent, which is computed
    /// meanwhile, on its own thread.
    pub async fn put(
        &self,
        url: &HttpUrl,
        headers: &BTreeMap<String, String>,
        UploadBody { bytes, size, meter }: UploadBody<impl Stream<Item = io::Result<Bytes>> + Send + 'static>,
    ) -> Result<ContentMd5, TransferError> {
        secrets::add_url(url.reveal());
        secrets::add_headers(headers);
        let (hashed, pieces) = tokio::sync::mpsc::channel(HASHED_PIECES);
        let md5 = blocking(move || ContentMd5::of_received(pieces, size));
        let bytes = bytes.and_then(move |bytes| {
            let hashed = hashed.clone();
            async move {
                // It is received until all bytes are there.
                let _ = hashed.send(bytes.clone()).await;
                Ok(bytes)
            }
        });
        let (progress, mut moves) = tokio::sync::watch::channel(());
        let stream = bytes.inspect_ok(move |bytes| {
            meter.add(bytes.len() as u64);
            progress.send_replace(());
        });
        let mut request = self.uploads.put(url.reveal().clone()).timeout(PUT_LIMIT);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if !headers.keys().any(|name| name.eq_ignore_ascii_case(CONTENT_LENGTH.as_str())) {
            request = request.header(CONTENT_LENGTH, size);
        }
        let stalled = async {
            // The sender is dropped with the body; then only the answer is outstanding.
            while let Ok(change) = tokio::time::timeout(self.retry.silence, moves.changed()).await {
                if change.is_err() {
                    return tokio::time::sleep(self.retry.silence).await;
                }
            }
        };
        let answer = tokio::select! {
            answer = request.body(Body::wrap_stream(stream)).send() => answer,
            () = stalled => {
                return Err(TransferError::Stalled { method: "PUT", url: url.clone(), silence: self.retry.silence });
            }
        };
        success("PUT", url, answer).await?;
        Ok(md5.await)
    }
}

/// A file, to be uploaded.
pub async fn file(path: &Path) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>, TransferError> {
    let unreadable = |source| TransferError::File { path: path.to_owned(), source };
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    Ok(ReaderStream::with_capacity(file, CHUNK))
}

async fn success(
    method: &'static str,
    url: &HttpUrl,
    answer: Result<Response, reqwest::Error>,
) -> Result<Response, TransferError> {
    let response = answer.map_err(|source| connection(method, url, source))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    let answer = tokio::time::timeout(WORDS_MAY_TAKE, first_words(response)).await.unwrap_or_default();
    Err(TransferError::Status { method, url: url.clone(), status, answer: printable(&answer), retry_after })
}

/// The bytes of a transfer, decompressed if the server sent them compressed (`Content-Encoding: gzip`), as workers store some
/// artifacts of any type.
pub fn decoded<'a>(bytes: impl Read + 'a, is_gzip: bool) -> Box<dyn Read + 'a> {
    if is_gzip { Box::new(MultiGzDecoder::new(bytes)) } else { Box::new(bytes) }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::net::retry::{Failure as _, Retryability};
    use crate::report::Report;

    const SIZE: usize = 16 * 1024 * 1024;

    /// Uploads a file to a server that reads `most` bytes, some every few milliseconds, and then sends its answer.
    async fn upload(silence: Duration, most: usize) -> Result<ContentMd5, TransferError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: HttpUrl = format!("http://{}/image.tar", listener.local_addr().unwrap()).parse().unwrap();
        let server = tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut buffer = vec![0; 128 * 1024];
            let mut taken = 0;
            while taken < most {
                taken += connection.read(&mut buffer).await.unwrap();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            if most >= SIZE {
                connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            }
            std::future::pending::<()>().await;
        });
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(SIZE as u64).unwrap();
        let storage = Storage::new(RetryConfig { silence, ..RetryConfig::default() }).unwrap();
        let meter = Report::silent().meter("uploading", None);
        let bytes = super::file(file.path()).await.unwrap();
        let uploaded = storage.put(&url, &BTreeMap::new(), UploadBody { bytes, size: SIZE as u64, meter }).await;
        server.abort();
        uploaded
    }

    #[tokio::test]
    async fn an_upload_may_take_longer_than_the_silence_as_long_as_it_moves() {
        let sent = upload(Duration::from_secs(1), SIZE).await.unwrap();
        let expected = ContentMd5::of_written(|out| out.write_all(&vec![0; SIZE])).unwrap();
        assert_eq!(sent, expected);
    }

    #[tokio::test]
    async fn an_upload_that_does_not_move_ends() {
        let error = upload(Duration::from_millis(300), SIZE / 16).await.unwrap_err();
        assert!(matches!(error, TransferError::Stalled { .. }), "{error}");
        assert_eq!(error.retryability(), Retryability::Transient);
    }
}
