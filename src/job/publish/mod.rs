//! Publishing: a finished image to the task and the index, to a directory for the worker to upload, or, in a dry run, to a
//! directory only. [`Publisher`] chooses once; the plan has the publication.

mod directory;
mod payload;
mod task;

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::config::plan::{BuildDocument, Identity, ImageFile, Plan};
use crate::config::{Owner, Reuse};
use crate::decision::lookup::LookupError;
use crate::engine::build_log;
use crate::image::inventory::Survey;
use crate::image::{ArchiveError, ArchiveLayout, ImageSummary};
use crate::net::Digest;
use crate::net::retry::{Failure, Retryability};
use crate::net::transfer::{Storage, TransferError};
use crate::report::{Bytes, Hint, Report};
use crate::taskcluster::queue::TaskLimits;
use crate::taskcluster::{ArtifactName, CallError, IndexData, Namespace, Project, Services, TaskId, TaskRun};
pub use directory::OutputDirectory;
pub use payload::Payload;
pub use task::Task;

/// The destination of a finished image.
pub enum Publisher {
    /// The task's artifact and the index.
    Task(Box<Task>),
    /// A directory, from which the worker uploads what the task's payload declares.
    Payload(Payload),
    /// A directory, in a dry run.
    Directory(OutputDirectory),
}

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
            Self::ReadBack { what: ReadBack::Missing | ReadBack::Length { .. }, .. } => Retryability::Transient,
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

/// A finished image on this machine.
#[derive(Debug)]
pub struct Finished {
    /// A description.
    pub image: ImageFile,
    /// Its layers, and the steps that made them.
    pub shape: ImageSummary,
    /// Where it is.
    pub stored: Stored,
    /// The files published with it.
    pub documents: Vec<BuildDocument>,
    /// What is in it, unless that could not be read.
    pub survey: Option<Survey>,
}

/// Where an archive is.
#[derive(Clone, Debug)]
pub enum Stored {
    /// In a file, whole.
    File(PathBuf),
    /// In parts, which are copied only if necessary.
    Layout(ArchiveLayout),
}

/// An image that a run takes from the index instead of building it.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Its names.
    pub identity: &'a Identity,
    /// The project whose images every project may use.
    pub central: &'a Project,
    /// Which images of this name count.
    pub reuse: Reuse,
    /// The current time.
    pub now: Timestamp,
}

/// The facts that a run needs before it starts any work.
#[derive(Debug)]
pub struct Start {
    /// The image, if it exists.
    pub found: Option<ExistingImage>,
    /// The properties that the run inherits from the task.
    pub limits: TaskLimits,
}

/// An image that the index has already.
#[derive(Clone, Debug, PartialEq)]
pub struct ExistingImage {
    /// The run that has the artifact.
    pub at: TaskRun,
    /// Where it was found.
    pub namespace: Namespace,
    /// The data of its index entry.
    pub data: IndexData,
    /// How long this task can refer to it: until it expires, or the task's own artifacts do.
    pub expires: Timestamp,
}

impl std::fmt::Display for ExistingImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { at, data, namespace, .. } = self;
        write!(f, "{namespace} has this image already: {} of {at}", data.artifact)
    }
}

/// What has been published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// In one line, for people.
    pub story: String,
}

impl Publisher {
    /// The publisher of a run in a task.
    #[must_use]
    pub fn task(services: Services, storage: Storage, run: TaskRun, report: Report) -> Self {
        Self::Task(Box::new(Task::new(services, storage, run, report)))
    }

    /// Queries before any work starts, so that a wrong expiry costs no build: an image of the same hash that counts, if wanted,
    /// of the own project or of the central one; and the expiry of what this run publishes, and its worker.
    pub async fn look_up(&self, plan: &Plan, wanted: Option<&Wanted<'_>>) -> Result<Start, PublishError> {
        match self {
            Self::Task(task) => task.look_up(plan, wanted).await,
            // Without a call to the index: it may have this image, but the declared artifact must be written.
            Self::Payload(_) | Self::Directory(_) => {
                let expires = plan.artifact.expires.unwrap_or(Timestamp::MAX);
                Ok(Start { found: None, limits: TaskLimits { expires, deadline: expires, worker_pool: None } })
            }
        }
    }

    /// Ends a run whose image exists: makes it readable from this run too. None if it must be built after all. Copies are made in
    /// `directory`.
    pub async fn reuse(
        &self,
        plan: &Plan,
        identity: &Identity,
        found: &ExistingImage,
        directory: &Path,
    ) -> Result<Option<Published>, PublishError> {
        match self {
            Self::Task(task) => task.reuse(plan, identity, found, directory).await,
            // These look up no image.
            Self::Payload(_) | Self::Directory(_) => Ok(None),
        }
    }

    /// Publishes the output of a build, also of one that failed.
    pub async fn publish_log(
        &self,
        plan: &Plan,
        log: &build_log::Finished,
        expires: Timestamp,
    ) -> Result<(), PublishError> {
        match self {
            Self::Task(task) => task.publish_log(plan, log, expires).await,
            Self::Payload(payload) => payload.publish_log(log),
            Self::Directory(directory) => directory.publish_log(log),
        }
    }

    /// Publishes a finished image, and what belongs to it.
    pub async fn publish(
        &self,
        plan: &Plan,
        identity: &Identity,
        image: Finished,
        expires: Timestamp,
    ) -> Result<Published, PublishError> {
        let publication = plan.publication(identity, &image.image, &image.documents, expires);
        match self {
            Self::Task(task) => task.publish(plan, &image, &publication).await,
            Self::Payload(payload) => payload.publish(image, &plan.artifact.name).await,
            Self::Directory(directory) => directory.publish(image, &plan.artifact.name, &publication).await,
        }
    }
}
