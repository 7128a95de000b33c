//! Stored files: their length, and their download to a file.

use std::io::{self, Read, Write as _};
use std::path::Path;

use reqwest::StatusCode;
use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, RANGE};

use super::{CHUNK, Storage, TransferError, success};
use crate::net::blocking::blocking;
use crate::net::digest_reader::DigestReader;
use crate::net::stream;
use crate::net::{HttpUrl, SizedDigest};
use crate::report::{ProgressCounter, Report};

/// A storage's data about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its length in bytes; none if it is served in chunks, or compressed, without a total.
    pub length: Option<u64>,
    /// Its `ETag`.
    pub etag: Option<String>,
}

impl Stored {
    /// Whether this can be a file of so many bytes.
    #[must_use]
    pub fn can_have(&self, bytes: u64) -> bool {
        self.length.is_none_or(|length| length == bytes)
    }
}

/// Why a copy ended.
enum CopyError {
    /// The file cannot be read.
    Read(TransferError),
    /// The writer refused the bytes.
    Write(io::Error),
}

impl CopyError {
    /// The error of a copy to `path`.
    fn into_transfer_error(self, path: &Path) -> TransferError {
        match self {
            Self::Read(error) => error,
            Self::Write(source) => TransferError::Write { path: path.to_owned(), source },
        }
    }
}

impl Storage {
    /// Queries a stored file with a GET for its first byte: URLs signed for GET refuse HEAD.
    pub async fn look(&self, url: &HttpUrl) -> Result<Stored, TransferError> {
        let answer = self.client.get(url.reveal().clone()).header(RANGE, "bytes=0-0").send().await;
        let response = match success("GET", url, answer).await {
            // An empty file has no first byte.
            Err(TransferError::Status { status: StatusCode::RANGE_NOT_SATISFIABLE, .. }) => {
                return Ok(Stored { length: Some(0), etag: None });
            }
            other => other?,
        };
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let whole = match response.status() {
            StatusCode::PARTIAL_CONTENT => header(CONTENT_RANGE).and_then(|range| range.rsplit('/').next()),
            _ => header(CONTENT_LENGTH),
        };
        // Compressed transfers have another length.
        let is_plain = header(CONTENT_ENCODING).is_none_or(|encoding| encoding.eq_ignore_ascii_case("identity"));
        let length = whole.filter(|_| is_plain).and_then(|length| length.parse().ok());
        Ok(Stored { length, etag: header(ETAG).map(str::to_owned) })
    }

    /// The sha256 and the size of a stored file, unpacked where it was compressed for the transfer: a download of all of it.
    pub async fn sum(&self, url: &HttpUrl) -> Result<SizedDigest, TransferError> {
        let meter = Report::silent().meter("reading back", None);
        self.copy_to(url, io::sink(), meter).await.map_err(|error| error.into_transfer_error(Path::new("/dev/null")))
    }

    /// Downloads a file to `path`, decompressed if the transfer was compressed. Returns its sha256 and its size.
    pub async fn download(
        &self,
        url: &HttpUrl,
        path: &Path,
        meter: ProgressCounter,
    ) -> Result<SizedDigest, TransferError> {
        let file = std::fs::File::create(path).map_err(|source| CopyError::Write(source).into_transfer_error(path))?;
        self.copy_to(url, file, meter).await.map_err(|error| error.into_transfer_error(path))
    }

    /// Copies a file, unpacked.
    async fn copy_to(
        &self,
        url: &HttpUrl,
        out: impl io::Write + Send + 'static,
        meter: ProgressCounter,
    ) -> Result<SizedDigest, CopyError> {
        let download = self.get(url).await.map_err(CopyError::Read)?;
        let is_gzip = download.gzip_encoded;
        let bytes = stream::reader(download.bytes(meter));
        let url = url.clone();
        let unreadable = move |error| {
            CopyError::Read(
                stream::cause(error).unwrap_or_else(|source| TransferError::Packed { url: url.clone(), source }),
            )
        };
        let copying = move || {
            let mut bytes = super::decoded(bytes, is_gzip);
            let (mut out, mut buffer) = (DigestReader::new(out), vec![0; CHUNK]);
            loop {
                let read = bytes.read(&mut buffer).map_err(&unreadable)?;
                if read == 0 {
                    return Ok(out.finish().1);
                }
                out.write_all(&buffer[..read]).map_err(CopyError::Write)?;
            }
        };
        blocking(copying).await
    }
}
