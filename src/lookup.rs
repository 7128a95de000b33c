//! Finding images that live: which entries of the index can be believed, and whether an artifact is there.
//! What to do with an image that is found, or is not, is for those above.

use tracing::debug;

use crate::names::{ArtifactName, ContextHash};
use crate::plan::{IndexData, TaskRun};
use crate::retry::{Another, Failure as _, Policy, retry};
use crate::taskcluster::index::Entry;
use crate::taskcluster::{CallError, CallFault, Services};
use crate::transfer::{Storage, TransferError};

/// Why it cannot be said whether an image is there. Never because it is not.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// A Taskcluster service did not answer as it should.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The storage did not answer as it should.
    #[error("cannot see whether {artifact} of {at} is there: the storage is in trouble; try again later")]
    Storage {
        /// The artifact.
        artifact: ArtifactName,
        /// The run that should have it.
        at: TaskRun,
        /// What the storage said.
        #[source]
        source: TransferError,
    },
}

/// What an entry says about an image.
#[derive(Debug, PartialEq)]
pub enum Claim {
    /// That it is the one that was made from this context, as this artifact.
    This(IndexData),
    /// That it is another one, or another artifact.
    Another,
    /// Nothing that we know: another program made the entry.
    Silent,
}

/// Compares what an entry says with what is wanted.
#[must_use]
pub fn claim(entry: &Entry, context: ContextHash, artifact: &ArtifactName) -> Claim {
    match entry.image() {
        Some(data) if data.context_hash == context && data.artifact == *artifact => Claim::This(data),
        Some(_) => Claim::Another,
        None => Claim::Silent,
    }
}

/// How many bytes of an artifact can be read; none when it is not there, or cannot be read however often one tries.
pub async fn length(
    services: &Services,
    storage: &Storage,
    at: &TaskRun,
    artifact: &ArtifactName,
) -> Result<Option<u64>, LookupError> {
    let url = match services.queue.artifact_url(at, artifact).await {
        Err(error) if error.fault == CallFault::Gone => return Ok(None),
        url => url?,
    };
    match retry("looking at the artifact", Policy::CALL, || storage.length(&url)).await {
        Ok(length) => Ok(Some(length)),
        // Buckets that nobody may list answer 403 for what is not there.
        Err(error) if error.another() == Another::IsUseless => {
            debug!("{artifact} of {at}: {error}");
            Ok(None)
        }
        Err(source) => Err(LookupError::Storage { artifact: artifact.clone(), at: at.clone(), source }),
    }
}
