//! Another task's image, most often the parent of an image: found among its artifacts, and handed to what downloads and verifies
//! it, most often into the engine. `context::parent` decides how a `Dockerfile` sees its parent, `engine` builds.

use serde_json::Value;
use tracing::info;

use super::image_definition::{USUAL_NAMES, hash_namespaces, hash_of, names};
use super::image_source::{ImageSource, Indexed};
use crate::context::ContextHash;
use crate::image::{ForwardError, ForwardSummary};
use crate::job::loading::LoadError;
use crate::net::retry::{Failure, Policy, Retryability, retry};
use crate::net::transfer::Storage;
use crate::report::{Bytes, Hint};
use crate::taskcluster::{ArtifactName, CallError, CallErrorKind, Services};
use crate::taskcluster::{Project, TaskId, TaskRun};

/// Why there is no parent.
#[derive(Debug, thiserror::Error)]
pub enum ParentError {
    /// The task, or its artifact, is not there.
    #[error(
        "the {}image is gone or was never made: task {task} has none of {names}{}",
        role.whose(),
        Hint(format_args!("rerun that task, or {}", role.hint()))
    )]
    Gone {
        /// The purpose of the image.
        role: Role,
        /// The task.
        task: TaskId,
        /// The tried artifacts.
        names: String,
        /// The message about the last one.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// It cannot be loaded.
    #[error("{error} ({role} {artifact} of task {task}{promise}){}", Hint(hint(.error)))]
    Load {
        /// The purpose of the image.
        role: Role,
        /// Why not.
        #[source]
        error: LoadError,
        /// The task.
        task: TaskId,
        /// The artifact.
        artifact: ArtifactName,
        /// The source of the expected digest.
        promise: &'static str,
    },
    /// A service refused the request.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// The purpose of a task's image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Another image is built from it.
    Parent,
    /// A build takes steps from it.
    Cache,
    /// Itself.
    Image,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Parent => "parent image",
            Self::Cache => "layer cache",
            Self::Image => "image",
        })
    }
}

impl Role {
    fn whose(self) -> &'static str {
        match self {
            Self::Parent => "parent's ",
            Self::Cache => "layer cache's ",
            Self::Image => "",
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Self::Parent => "set PARENT_TASK_ID to another",
            Self::Cache => "set CACHE_FROM to off",
            Self::Image => "name another",
        }
    }

    /// How often its download is tried: what only saves time may not take much.
    fn policy(self) -> Policy {
        match self {
            Self::Cache => Policy { attempts: 2, ..Policy::TRANSFER },
            Self::Parent | Self::Image => Policy::TRANSFER,
        }
    }
}

/// Bytes that are wrong are wrong in the next run, too.
fn hint(error: &LoadError) -> &'static str {
    match error {
        LoadError::Archive(ForwardError::Read(_) | ForwardError::Digest { .. } | ForwardError::Content(_)) => {
            "rerun that task, which makes it again"
        }
        LoadError::Archive(ForwardError::Write(_)) | LoadError::Transfer(_) | LoadError::Engine(_) => "",
        LoadError::OtherImage { .. } | LoadError::InsufficientSpace(_) => "",
        LoadError::File { .. } | LoadError::Write { .. } => "",
    }
}

impl Failure for ParentError {
    fn retryability(&self) -> Retryability {
        match self {
            Self::Load { error, .. } => error.retryability(),
            Self::Gone { .. } | Self::Call(_) => Retryability::Permanent,
        }
    }
}

/// Finds tasks' images. What takes one gets its URL, and its sha256 where the index has it; it is called again where another try
/// can help.
pub struct TaskImages<'a> {
    /// Their purpose.
    pub role: Role,
    /// The deployment.
    pub services: &'a Services,
    /// How often and how long to try.
    pub storage: &'a Storage,
    /// The project whose images every project may use.
    pub central: Option<&'a Project>,
}

/// An image that was taken.
#[derive(Clone, Debug)]
pub struct TaskImage<T = ForwardSummary> {
    /// What became of its archive.
    pub archive: T,
    /// The artifact that it was.
    pub artifact: ArtifactName,
    /// Whether it matches the index; otherwise it matches the archive's own digests.
    pub promised: bool,
    /// The hash in the `.hash.` route of the task that made it, if its definition has one.
    pub hash: Option<ContextHash>,
}

impl TaskImages<'_> {
    /// Takes the image of a task.
    ///
    /// `usual` is the usual artifact of such tasks, unless the task itself or the index names another.
    pub async fn take<T: AsRef<ForwardSummary>>(
        &self,
        usual: &ArtifactName,
        task: &TaskId,
        take: &impl AsyncFn(ImageSource) -> Result<T, LoadError>,
    ) -> Result<TaskImage<T>, ParentError> {
        let definition = self.definition(task).await?;
        let indexed = self.indexed(&definition).await?;
        let own = indexed.as_ref().filter(|indexed| indexed.at.task_id == *task);
        let names: Vec<ArtifactName> = match own {
            // The index names the artifact: any other would not match its digest.
            Some(indexed) => vec![indexed.artifact.clone()],
            None => names(&definition, usual),
        };
        let image = match (self.first(task, &names, indexed.as_ref(), take).await, &indexed) {
            // A rerun task that found its image already made: the index knows the image by the same hash.
            (Err(gone @ ParentError::Gone { .. }), Some(indexed)) if own.is_none() => {
                info!("{gone}; the index has an image of the same hash, of {}", indexed.at);
                self.take_indexed(indexed, take).await?
            }
            (image, _) => image?,
        };
        Ok(TaskImage { hash: hash_of(&definition), ..image })
    }

    /// Takes the image that the index has.
    pub async fn take_indexed<T: AsRef<ForwardSummary>>(
        &self,
        indexed: &Indexed,
        take: &impl AsyncFn(ImageSource) -> Result<T, LoadError>,
    ) -> Result<TaskImage<T>, ParentError> {
        let names = std::slice::from_ref(&indexed.artifact);
        self.first(&indexed.at.task_id, names, Some(indexed), take).await
    }

    /// The first of the artifacts that exists.
    async fn first<T: AsRef<ForwardSummary>>(
        &self,
        task: &TaskId,
        names: &[ArtifactName],
        indexed: Option<&Indexed>,
        take: &impl AsyncFn(ImageSource) -> Result<T, LoadError>,
    ) -> Result<TaskImage<T>, ParentError> {
        let mut gone = None;
        for name in names {
            match self.try_name(task, name, indexed, take).await {
                Ok(loaded) => return Ok(loaded),
                Err(Missing::Gone(source)) => gone = Some(source),
                Err(Missing::Failed(error)) => return Err(*error),
            }
        }
        let names = names.iter().map(ArtifactName::as_str).collect::<Vec<_>>().join(", ");
        Err(ParentError::Gone { role: self.role, task: task.clone(), names, source: gone })
    }

    async fn try_name<T: AsRef<ForwardSummary>>(
        &self,
        task: &TaskId,
        name: &ArtifactName,
        indexed: Option<&Indexed>,
        take: &impl AsyncFn(ImageSource) -> Result<T, LoadError>,
    ) -> Result<TaskImage<T>, Missing> {
        let policy = self.storage.retry().policy(self.role.policy());
        retry(&format!("the download of the {}", self.role), policy, || async {
            let source = self.find(task, name, indexed).await?;
            let (name, sha256) = (source.name.clone(), source.sha256());
            let promise = if sha256.is_some() { ", as the index has it" } else { "" };
            let archive = take(source).await.map_err(|error| match error {
                LoadError::Transfer(error) if error.is_gone() => Missing::Gone(error.into()),
                error => Missing::Failed(Box::new(ParentError::Load {
                    role: self.role,
                    error,
                    task: task.clone(),
                    artifact: name.clone(),
                    promise,
                })),
            })?;
            let ForwardSummary { size, layers, image_id, skipped, .. } = archive.as_ref();
            let verified = match sha256 {
                Some(_) if *skipped > 0 => {
                    format!("as the index has it; {} fetched, the engine has the other layers", Bytes(size - skipped))
                }
                Some(sha256) => format!("sha256 {sha256}, as the index has it"),
                None => "whole in itself; the index has no sha256 of it".to_owned(),
            };
            let (role, size, layers) = (self.role, Bytes(*size), layers.len());
            info!("{role}: {name} of task {task}, {size}, {layers} layers, {image_id}; {verified}");
            Ok(TaskImage { archive, artifact: name, promised: sha256.is_some(), hash: None })
        })
        .await
    }

    /// The place of an artifact, and its expected digest as far as the index has it.
    async fn find(
        &self,
        task: &TaskId,
        name: &ArtifactName,
        indexed: Option<&Indexed>,
    ) -> Result<ImageSource, Missing> {
        let queue = &self.services.queue;
        let (name, indexed) = (name.clone(), indexed.cloned());
        if let Some(Indexed { at, .. }) = indexed.as_ref().filter(|indexed| indexed.at.task_id == *task) {
            // Of the run that the index names: during a rerun the task's latest run has nothing yet.
            let url = queue.artifact_url(at, &name).await?;
            return Ok(ImageSource { name, url, indexed });
        }
        let url = queue.latest_artifact_url(task, &name).await?;
        // A task that found its image already made refers to the task that made it, and so does the index.
        match indexed {
            Some(indexed) if url.reveal().as_str() == queue.artifact_address(&indexed.at, &indexed.artifact) => {
                let url = queue.artifact_url(&indexed.at, &indexed.artifact).await?;
                Ok(ImageSource { name, url, indexed: Some(indexed) })
            }
            _ => Ok(ImageSource { name, url, indexed: None }),
        }
    }

    async fn definition(&self, task: &TaskId) -> Result<Value, ParentError> {
        self.services.queue.task(task).await.map_err(|error| match error.kind {
            CallErrorKind::Gone => ParentError::Gone {
                role: self.role,
                task: task.clone(),
                names: USUAL_NAMES.join(", "),
                source: Some(error.into()),
            },
            _ => error.into(),
        })
    }

    /// The index entry for the hash of a task's image, from the task's definition.
    async fn indexed(&self, definition: &Value) -> Result<Option<Indexed>, ParentError> {
        for namespace in hash_namespaces(definition, self.central) {
            let Some(entry) = self.services.index.find_task(&namespace).await? else { continue };
            if let Some(data) = entry.image() {
                let at = TaskRun { task_id: entry.task_id, run_id: data.run_id };
                return Ok(Some(Indexed::new(at, data.artifact.clone(), Some(&data))));
            }
        }
        Ok(None)
    }
}

/// Why an artifact is not loaded: it is not there, and another may be; or all is lost.
#[derive(Debug, thiserror::Error)]
enum Missing {
    #[error(transparent)]
    Gone(Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Failed(Box<ParentError>),
}

impl From<CallError> for Missing {
    fn from(error: CallError) -> Self {
        if error.kind == CallErrorKind::Gone { Self::Gone(error.into()) } else { Self::Failed(Box::new(error.into())) }
    }
}

impl Failure for Missing {
    fn retryability(&self) -> Retryability {
        match self {
            Self::Gone(_) => Retryability::Permanent,
            Self::Failed(error) => error.retryability(),
        }
    }
}
