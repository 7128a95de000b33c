//! What can go wrong while an image is published, and whether another try can help.

use jiff::Timestamp;

use crate::config::Owner;
use crate::decision::lookup::LookupError;
use crate::image::ArchiveError;
use crate::net::Digest;
use crate::net::retry::{Failure, Retryability};
use crate::net::transfer::TransferError;
use crate::report::{Bytes, Hint};
use crate::taskcluster::{ArtifactName, CallError, Namespace, TaskId, TaskRun};

/// A problem with an uploaded artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadBack {
    /// The storage does not have it.
    Missing,
    /// It is longer or shorter.
    Length {
        /// Bytes that the storage has.
        found: u64,
        /// Bytes that were uploaded.
        sent: u64,
    },
    /// The storage took the upload before all of it was sent.
    TakenEarly,
    /// It has other bytes.
    Content {
        /// The sha256 of what the storage has.
        found: Digest,
        /// The sha256 of what was uploaded.
        sent: Digest,
    },
}

impl std::fmt::Display for ReadBack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => f.write_str("was uploaded, and is not there"),
            Self::TakenEarly => f.write_str("was taken by the storage before all of it was sent"),
            Self::Length { found, sent } => write!(f, "reads back with {found} bytes, but {sent} were uploaded"),
            Self::Content { found, sent } => write!(f, "reads back with sha256 {found}, but {sent} was uploaded"),
        }
    }
}

/// What went wrong while publishing.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A Taskcluster service refused the request.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The look-up of the image failed.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// The upload, or reading back, failed.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// The task's expiry is not possible.
    #[error(
        "ARTIFACT_EXPIRES is {requested}, after the task itself expires at {task}{}",
        Hint("leave it unset to expire with the task")
    )]
    ExpiresAfterTask {
        /// The requested expiry.
        requested: Timestamp,
        /// When the task expires.
        task: Timestamp,
    },
    /// The artifact is in the queue, but does not read back.
    #[error("artifact {name} of {run} {what}; nothing was indexed")]
    ReadBack {
        /// The artifact.
        name: ArtifactName,
        /// The run.
        run: TaskRun,
        /// The problem.
        what: ReadBack,
    },
    /// A namespace does not hold what was inserted, and holds nothing better.
    #[error(
        "{namespace} does not keep its entry{}",
        Hint("the artifact is there, but the index is in trouble: run the task again")
    )]
    NotIndexed {
        /// The namespace.
        namespace: Namespace,
    },
    /// A namespace still has an entry of a vanished task.
    #[error(
        "{namespace} is kept by an expired entry of a newer push, task {task}; the image is there, and what else was to be indexed{}",
        Hint("the index removes expired entries once a day: rerun the task then")
    )]
    KeptByExpired {
        /// The namespace.
        namespace: Namespace,
        /// The task of the expired entry.
        task: TaskId,
    },
    /// The own run is over, although the worker goes on with it.
    #[error("{run} is {outcome}: what depends on it does not begin, so nothing was indexed{}", Hint("rerun the task"))]
    Over {
        /// The run.
        run: TaskRun,
        /// How it ended.
        outcome: String,
    },
    /// More than one PUT can carry.
    #[error(
        "{name} has {}, and one upload can carry 5 GiB{}",
        Bytes(*.size),
        Hint("make the image smaller, or set ARTIFACT_NAME to a name ending in .tar.zst")
    )]
    TooLarge {
        /// The artifact.
        name: ArtifactName,
        /// Its size in bytes.
        size: u64,
    },
    /// The queue does not create an artifact of the object service.
    #[error(
        "the object artifact was not created{}",
        Hint(
            "if an earlier try made it and its answer was lost, this run never can again, but the task's next run can: rerun the task"
        )
    )]
    ObjectNotCreated(#[source] CallError),
    /// An earlier start of the run has created the artifact in the object service.
    #[error(
        "an earlier start of {run} began to upload {name} to the object service, and no later one can go on with it{}",
        Hint("the task's next run can: rerun the task")
    )]
    ObjectLeft {
        /// The artifact.
        name: ArtifactName,
        /// The run.
        run: TaskRun,
    },
    /// The queue answered with another storage type than the requested one.
    #[error(
        "the queue answered with another storage type than the requested one{}",
        Hint("set ARTIFACT_STORAGE to s3 or object")
    )]
    StorageChanged,
    /// A file instead of the directory, or above it.
    #[error("{path} is no directory, and the image goes into one{}", Hint("name another with --output"))]
    NoDirectory {
        /// The path.
        path: String,
    },
    /// The directory cannot be written.
    #[error("cannot write {path}")]
    Directory {
        /// The file or directory.
        path: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Another run has the directory.
    #[error("another run writes to {path}{}", Hint("wait until it is done, or give this one another --output"))]
    InUse {
        /// The directory.
        path: String,
    },
    /// The archive cannot be put together.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The owner of the files cannot be changed.
    #[error(
        "cannot make {path} belong to {owner}, as CHOWN_OUTPUT says{}",
        Hint("only root gives files away: unset it")
    )]
    Owner {
        /// The file or directory.
        path: String,
        /// The wanted owner.
        owner: Owner,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

impl Failure for PublishError {
    fn retryability(&self) -> Retryability {
        match self {
            // A signed URL that is refused has expired, and a later try gets a fresh one.
            Self::Transfer(error) if error.is_refused() => Retryability::Transient,
            Self::Transfer(error) => error.retryability(),
            // Some storages show an object late.
            Self::ReadBack { what: ReadBack::Missing | ReadBack::TakenEarly | ReadBack::Length { .. }, .. } => {
                Retryability::Transient
            }
            // Calls have been retried where that can help.
            Self::Call(_) | Self::Lookup(_) | Self::ExpiresAfterTask { .. } | Self::ReadBack { .. } => {
                Retryability::Permanent
            }
            Self::NotIndexed { .. } | Self::KeptByExpired { .. } | Self::Over { .. } => Retryability::Permanent,
            Self::TooLarge { .. } | Self::ObjectNotCreated(_) | Self::ObjectLeft { .. } => Retryability::Permanent,
            Self::StorageChanged | Self::Directory { .. } | Self::Archive(_) | Self::Owner { .. } => {
                Retryability::Permanent
            }
            Self::InUse { .. } | Self::NoDirectory { .. } => Retryability::Permanent,
        }
    }
}
