//! Publishing: a finished image to the task and the index, to a folder for the worker to upload, or, in a dry run, to a
//! folder only. Which of them is chosen once, by [`Publisher`]; what is published is the plan's word.

mod folder;
mod payload;
mod task;

use std::path::PathBuf;

use jiff::Timestamp;

use crate::build_log;
use crate::config::Owner;
use crate::image_archive::{ArchiveError, Arrangement, Shape};
use crate::lookup::LookupError;
use crate::names::{ArtifactName, Namespace, Project, TaskId};
use crate::plan::{Companion, Identity, ImageFile, Plan, TaskRun};
use crate::report::{Bytes, Report};
use crate::retry::{Another, Failure};
use crate::taskcluster::queue::Grant;
use crate::taskcluster::{CallError, Services};
use crate::transfer::{Storage, TransferError};
pub use folder::Folder;
pub use payload::Payload;
pub use task::Task;

/// Where a finished image goes.
pub enum Publisher {
    /// The task's artifact and the index.
    Task(Box<Task>),
    /// A folder, from which the worker uploads what the task's payload declares.
    Payload(Payload),
    /// A folder, in a dry run.
    Folder(Folder),
}

/// What went wrong while publishing.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A Taskcluster service did not do what was asked.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It cannot be said whether the image is there already.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// The upload, or reading back, failed.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// The task's expiry cannot be what it must be.
    #[error(
        "ARTIFACT_EXPIRES is {asked}, after the task itself expires at {task}; leave it unset to expire with the task"
    )]
    ExpiresAfterTask {
        /// What was asked for.
        asked: Timestamp,
        /// When the task expires.
        task: Timestamp,
    },
    /// The artifact is in the queue, but reads back with another length.
    #[error(
        "artifact {name} of task {task}, run {run}, reads back with {found} bytes, but {sent} were uploaded; nothing was indexed"
    )]
    ReadBack {
        /// The artifact.
        name: ArtifactName,
        /// The task.
        task: TaskId,
        /// The run.
        run: u32,
        /// Bytes that were uploaded.
        sent: u64,
        /// Bytes that the storage has.
        found: u64,
    },
    /// A namespace does not hold what was inserted, and holds nothing better.
    #[error(
        "{namespace} does not keep its entry; the artifact is there, but the index is in trouble: run the task again"
    )]
    NotIndexed {
        /// The namespace.
        namespace: Namespace,
    },
    /// More than one PUT can carry.
    #[error(
        "{name} has {}, and one upload can carry 5 GiB: make the image smaller, or set ARTIFACT_NAME to a name ending in .tar.zst",
        Bytes(*.size)
    )]
    TooLarge {
        /// The artifact.
        name: ArtifactName,
        /// Its size in bytes.
        size: u64,
    },
    /// The queue does not create an artifact of the object service.
    #[error(
        "the object artifact was not created; if an earlier try made it and its answer was lost, this run never can again, but the task's next run can: rerun the task"
    )]
    ObjectNotCreated(#[source] CallError),
    /// The queue answered with another storage type than it was asked for.
    #[error("the queue stores the artifact in another way than it was asked for; set ARTIFACT_STORAGE to s3 or object")]
    StorageChanged,
    /// The folder cannot be written.
    #[error("cannot write {path}")]
    Folder {
        /// The file or folder.
        path: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Another run has the folder.
    #[error("another run writes to {path}; wait until it is done, or give this one another --output")]
    InUse {
        /// The folder.
        path: String,
    },
    /// The archive cannot be put together.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The files cannot be given away.
    #[error("cannot make {path} belong to {owner}, as CHOWN_OUTPUT says; only root gives files away: unset it")]
    Owner {
        /// The file or folder.
        path: String,
        /// Who it should belong to.
        owner: Owner,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

impl Failure for PublishError {
    fn another(&self) -> Another {
        match self {
            // A signed URL that is refused has expired, and a later try gets a fresh one.
            Self::Transfer(error) if error.is_refused() => Another::CanHelp,
            Self::Transfer(error) => error.another(),
            // Calls have been retried where that can help.
            Self::Call(_) | Self::Lookup(_) | Self::ExpiresAfterTask { .. } | Self::ReadBack { .. } => {
                Another::IsUseless
            }
            Self::NotIndexed { .. } | Self::TooLarge { .. } | Self::ObjectNotCreated(_) => Another::IsUseless,
            Self::StorageChanged | Self::Folder { .. } | Self::InUse { .. } => Another::IsUseless,
            Self::Archive(_) | Self::Owner { .. } => Another::IsUseless,
        }
    }
}

/// A finished image on this machine.
#[derive(Debug)]
pub struct Finished {
    /// What it is.
    pub image: ImageFile,
    /// Its layers, and the steps that made them.
    pub shape: Shape,
    /// Where it is.
    pub stored: Stored,
    /// What is published with it.
    pub companions: Vec<Companion>,
}

/// Where an archive is.
#[derive(Clone, Debug)]
pub enum Stored {
    /// In a file, whole.
    File(PathBuf),
    /// In pieces, which no copy is made of where none is needed.
    Spool(Arrangement),
}

/// An image that the index has already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlreadyThere {
    /// The run that has the artifact.
    pub at: TaskRun,
    /// The artifact.
    pub artifact: ArtifactName,
    /// Its size in bytes.
    pub size: u64,
    /// Where it was found.
    pub namespace: Namespace,
    /// What its routes say of it, where they may not all be there: an earlier start of this very run was stopped while
    /// it inserted them. Its archive is not on this machine any more.
    pub unfinished: Option<ImageFile>,
}

impl std::fmt::Display for AlreadyThere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { at, artifact, namespace, .. } = self;
        write!(f, "{namespace} has this image already: {artifact} of {at}")
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

    /// An image of the same hash that lives, if one is sought and the index knows it, of the own project or of the
    /// central one.
    pub async fn already_there(
        &self,
        plan: &Plan,
        sought: Option<&Identity>,
        central: &Project,
    ) -> Result<Option<AlreadyThere>, PublishError> {
        let Some(identity) = sought else { return Ok(None) };
        match self {
            Self::Task(task) => task.already_there(plan, identity, central).await,
            // Without a call to the index: it may know this image, but the artifact that is declared must be written.
            Self::Payload(_) | Self::Folder(_) => Ok(None),
        }
    }

    /// Ends a run whose image is there already: makes it readable from this run too.
    pub async fn point_to(
        &self,
        plan: &Plan,
        identity: &Identity,
        found: &AlreadyThere,
        expires: Timestamp,
    ) -> Result<Published, PublishError> {
        match self {
            Self::Task(task) => task.point_to(plan, identity, found, expires).await,
            Self::Payload(_) | Self::Folder(_) => {
                Ok(Published { story: "nothing was built, nothing was written".to_owned() })
            }
        }
    }

    /// When what this run publishes expires, and who runs it. Asked before the build, so that a wrong expiry costs no build.
    pub async fn grant(&self, plan: &Plan) -> Result<Grant, PublishError> {
        match self {
            Self::Task(task) => task.grant(plan).await,
            Self::Payload(_) | Self::Folder(_) => {
                Ok(Grant { expires: plan.artifact.expires.unwrap_or(Timestamp::MAX), worker_pool: None })
            }
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
            Self::Folder(folder) => folder.publish_log(log),
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
        let publication = plan.publication(identity, &image.image, &image.companions, expires);
        match self {
            Self::Task(task) => task.publish(plan, &image, &publication).await,
            Self::Payload(payload) => payload.publish(image, &plan.artifact.name).await,
            Self::Folder(folder) => folder.publish(image, &plan.artifact.name, &publication).await,
        }
    }
}
