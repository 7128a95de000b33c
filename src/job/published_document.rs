//! A small document that another task has published with an image, read into memory: as it is, or as JSON that only
//! saves work and has a time limit.

use std::io::{self, Read as _};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use serde::de::DeserializeOwned;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tracing::debug;

use crate::net::HttpUrl;
use crate::net::retry::{Failure, Retryability};
use crate::net::transfer::{self, Storage, TransferError};
use crate::report::{Bytes, Report};
use crate::taskcluster::{ArtifactName, CallError, Services, TaskRun};

/// The most bytes of a list of layers, which has kilobytes.
pub(super) const LARGEST_LAYERS: u64 = 1 << 20;

/// The time limit for what only saves work: it is not worth a long wait.
pub(super) const LONGEST: Duration = Duration::from_secs(10);

/// Why a document cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum DocumentError {
    /// The queue does not have it.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The download failed.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// It is longer than such a document can be.
    #[error("{0} has more than {limit}", limit = Bytes(*.1))]
    TooLarge(ArtifactName, u64),
    /// It is compressed, and cannot be decompressed.
    #[error("{0} cannot be unpacked: {1}")]
    Packed(ArtifactName, #[source] io::Error),
}

impl Failure for DocumentError {
    fn retryability(&self) -> Retryability {
        match self {
            Self::Transfer(error) => error.retryability(),
            // Calls are tried again where they are made.
            Self::Call(_) | Self::TooLarge(..) | Self::Packed(..) => Retryability::Permanent,
        }
    }
}

/// Why a document that only saves work is not there.
#[derive(Debug, thiserror::Error)]
enum Unavailable {
    #[error(transparent)]
    Unread(#[from] DocumentError),
    #[error("it is none: {0}")]
    Wrong(#[from] serde_json::Error),
    #[error("it did not come within {} s", LONGEST.as_secs())]
    Slow(#[from] Elapsed),
}

/// The JSON document of a run, of at most `limit` bytes, if it is there in time. Whoever asks can do without it.
pub(super) async fn json_in_time<T: DeserializeOwned>(
    services: &Services,
    storage: &Storage,
    at: &TaskRun,
    name: ArtifactName,
    limit: u64,
) -> Option<T> {
    let read = async {
        Ok::<T, Unavailable>(serde_json::from_slice(&document(services, storage, at, name.clone(), limit).await?)?)
    };
    let read = timeout(LONGEST, read).await.unwrap_or_else(|slow| Err(slow.into()));
    read.inspect_err(|error| debug!("{at} has no {name}: {error}")).ok()
}

/// The document of a run, of at most `limit` bytes, compressed or not.
pub(super) async fn document(
    services: &Services,
    storage: &Storage,
    at: &TaskRun,
    name: ArtifactName,
    limit: u64,
) -> Result<Vec<u8>, DocumentError> {
    let url = services.queue.artifact_url(at, &name).await?;
    download(storage, &url, name, limit).await
}

/// The document `name` at a URL, of at most `limit` bytes, compressed or not.
pub(super) async fn download(
    storage: &Storage,
    url: &HttpUrl,
    name: ArtifactName,
    limit: u64,
) -> Result<Vec<u8>, DocumentError> {
    let download = storage.get(url).await?;
    let is_gzip = download.gzip_encoded;
    let meter = Report::silent().meter("downloading a document", None);
    let mut bytes = Vec::new();
    let mut coming = std::pin::pin!(download.bytes(meter));
    while let Some(piece) = coming.try_next().await? {
        bytes.extend_from_slice(&piece);
        if bytes.len() as u64 > limit {
            return Err(DocumentError::TooLarge(name, limit));
        }
    }
    let mut plain = Vec::new();
    let unpacked = transfer::decoded(&bytes[..], is_gzip).take(limit + 1).read_to_end(&mut plain);
    unpacked.map_err(|error| DocumentError::Packed(name.clone(), error))?;
    if plain.len() as u64 > limit { Err(DocumentError::TooLarge(name, limit)) } else { Ok(plain) }
}
