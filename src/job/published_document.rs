//! A small document that another task has published beside an image, read whole into memory. What it says, and how long one
//! waits for it, is for those who ask.

use std::io::{self, Read as _};

use futures_util::TryStreamExt as _;

use crate::net::transfer::{self, Storage, TransferError};
use crate::report::{Bytes, Report};
use crate::taskcluster::{ArtifactName, CallError, Services, TaskRun};

/// Why a document cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum DocumentError {
    /// The queue does not lead to it.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It does not come.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// It is longer than such a document can be.
    #[error("{0} has more than {limit}", limit = Bytes(*.1))]
    TooLarge(ArtifactName, u64),
    /// It came packed, and cannot be unpacked.
    #[error("{0} cannot be unpacked: {1}")]
    Packed(ArtifactName, #[source] io::Error),
}

/// The document of a run, of at most `limit` bytes, packed or not.
pub(super) async fn document(
    services: &Services,
    storage: &Storage,
    at: &TaskRun,
    name: ArtifactName,
    limit: u64,
) -> Result<Vec<u8>, DocumentError> {
    let url = services.queue.artifact_url(at, &name).await?;
    let download = storage.get(&url).await?;
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
