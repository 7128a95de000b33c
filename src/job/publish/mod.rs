//! Publishing: a finished image to the task and the index, to a directory for the worker to upload, or, in a dry run, to a
//! directory only. [`Publisher`] chooses once; the plan has the publication.

mod directory;
mod error;
mod payload;
mod task;

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::config::Reuse;
use crate::config::plan::{BuildDocument, Identity, ImageFile, Plan};
use crate::engine::build_log;
use crate::image::inventory::Survey;
use crate::image::{ArchiveLayout, ImageSummary};
use crate::net::transfer::Storage;
use crate::net::{Digest, ImageId};
use crate::report::Report;
use crate::taskcluster::queue::TaskLimits;
use crate::taskcluster::{IndexData, Namespace, Project, Services, TaskRun};
pub use directory::OutputDirectory;
pub use error::{PublishError, ReadBack};
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

/// A finished image on this machine.
#[derive(Debug)]
pub struct Finished {
    /// Its id, the digest of its configuration.
    pub image_id: ImageId,
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
    File {
        /// The file.
        path: PathBuf,
        /// Its sha256.
        sha256: Digest,
        /// Its size in bytes.
        size: u64,
    },
    /// In parts, which may be in the engine's storage. Its sha256 is known when it has been sent.
    Layout(ArchiveLayout),
}

impl Stored {
    /// The archive's size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::File { size, .. } => *size,
            Self::Layout(archive) => archive.size(),
        }
    }
}

/// What is published, and until when.
#[derive(Clone, Copy, Debug)]
pub struct PublishRequest<'a> {
    /// The job.
    pub plan: &'a Plan,
    /// The names that followed from its context.
    pub identity: &'a Identity,
    /// When what it publishes expires.
    pub expires: Timestamp,
}

/// An image that was uploaded if it is to be, and what belongs to it.
#[derive(Debug)]
pub struct Uploaded {
    /// The image.
    pub finished: Finished,
    /// Its archive.
    pub image: ImageFile,
    /// The files published with it that are made afterwards: they have the archive's sha256.
    pub later: Vec<BuildDocument>,
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

    /// Uploads a finished image and its files so far, if it is published to a task. Gives what is known of the archive then.
    pub async fn upload(&self, request: PublishRequest<'_>, image: &Finished) -> Result<ImageFile, PublishError> {
        let sha256 = match (self, &image.stored) {
            (Self::Task(task), _) => task.upload(request, image).await?,
            (_, Stored::File { sha256, .. }) => *sha256,
            (_, Stored::Layout(archive)) => archive.sum()?.sha256,
        };
        Ok(ImageFile { sha256, size: image.stored.size(), image_id: image.image_id })
    }

    /// Publishes the rest: what was made after the upload, and the routes; or, to a directory, everything.
    pub async fn publish(&self, request: PublishRequest<'_>, image: Uploaded) -> Result<Published, PublishError> {
        let PublishRequest { plan, identity, expires } = request;
        let Uploaded { mut finished, image, later } = image;
        match self {
            Self::Task(task) => {
                let inserts = plan.publication(identity, &image, &[], expires).insert_task;
                task.publish(request, &later, &inserts).await
            }
            Self::Payload(payload) => {
                finished.documents.extend(later);
                payload.publish(finished, &plan.artifact.name).await
            }
            Self::Directory(directory) => {
                finished.documents.extend(later);
                let publication = plan.publication(identity, &image, &finished.documents, expires);
                directory.publish(finished, &plan.artifact.name, &publication).await
            }
        }
    }
}
