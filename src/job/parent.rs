//! Another task's image, most often the parent of an image: found among its artifacts, verified, and loaded into the engine under
//! a name. `context::parent` decides how a `Dockerfile` sees its parent, `engine` builds.

use serde_json::Value;
use tracing::info;

use crate::context::{ContextHash, ImageName};
use crate::image::{ForwardError, ForwardSummary};
use crate::job::loading::{LoadError, Loader};
use crate::net::retry::{Failure, Policy, Retryability, retry};
use crate::net::{Digest, HttpUrl};
use crate::report::Bytes;
use crate::taskcluster::{ArtifactName, CallError, CallErrorKind, Services};
use crate::taskcluster::{IndexPrefix, Namespace, Project, TaskId, TaskRun};

/// The usual artifact names of image tasks besides this program's own.
pub const USUAL_NAMES: [&str; 2] = ["public/image.tar.zst", "public/image.tar"];

/// Why there is no parent.
#[derive(Debug, thiserror::Error)]
pub enum ParentError {
    /// The task, or its artifact, is not there.
    #[error(
        "the {}image is gone or was never made: task {task} has none of {names}; rerun that task, or {}", role.whose(), role.hint()
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
    #[error("{error} ({role} {artifact} of task {task}{promise}){}", hint(.error))]
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
            "; rerun that task, which makes it again"
        }
        LoadError::Archive(ForwardError::Write(_)) | LoadError::Transfer(_) | LoadError::Engine(_) => "",
        LoadError::OtherImage { .. } | LoadError::InsufficientSpace(_) | LoadError::File { .. } => "",
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

/// Finds and loads tasks' images.
pub struct TaskImages<'a> {
    /// Their purpose.
    pub role: Role,
    /// The deployment.
    pub services: &'a Services,
    /// What loads them.
    pub loader: Loader<'a>,
    /// The project whose images every project may use.
    pub central: Option<&'a Project>,
}

/// The index data about the image of a task.
#[derive(Clone, Debug)]
pub struct Indexed {
    /// The run that has it.
    pub at: TaskRun,
    /// The artifact that it is.
    pub artifact: ArtifactName,
    /// The artifact's sha256; entries of other programs do not have it.
    pub sha256: Option<Digest>,
}

/// An image that is in the engine.
#[derive(Clone, Debug)]
pub struct TaskImage {
    /// What was loaded.
    pub archive: ForwardSummary,
    /// The artifact that it was.
    pub artifact: ArtifactName,
    /// Whether it matches the index; otherwise it matches the archive's own digests.
    pub promised: bool,
    /// The hash in the `.hash.` route of the task that made it, if its definition has one.
    pub hash: Option<ContextHash>,
}

/// An artifact that exists according to the queue.
struct Source {
    name: ArtifactName,
    url: HttpUrl,
    sha256: Option<Digest>,
}

impl TaskImages<'_> {
    /// Loads the image of a task into the engine, as `tag`.
    ///
    /// `usual` is the usual artifact of such tasks, unless the task itself or the index names another.
    pub async fn load(&self, usual: &ArtifactName, task: &TaskId, tag: &str) -> Result<TaskImage, ParentError> {
        let definition = self.definition(task).await?;
        let indexed = self.indexed(&definition).await?;
        let own = indexed.as_ref().filter(|indexed| indexed.at.task_id == *task);
        let names: Vec<ArtifactName> = match own {
            // The index names the artifact: any other would not match its digest.
            Some(indexed) => vec![indexed.artifact.clone()],
            None => names(&definition, usual),
        };
        let image = match (self.first(task, &names, indexed.as_ref(), tag).await, &indexed) {
            // A rerun task that found its image already made: the index knows the image by the same hash.
            (Err(gone @ ParentError::Gone { .. }), Some(indexed)) if own.is_none() => {
                info!("{gone}; the index has an image of the same hash, of {}", indexed.at);
                self.load_indexed(indexed, tag).await?
            }
            (image, _) => image?,
        };
        Ok(TaskImage { hash: hash_of(&definition), ..image })
    }

    /// Loads the image that the index has, as `tag`.
    pub async fn load_indexed(&self, indexed: &Indexed, tag: &str) -> Result<TaskImage, ParentError> {
        let names = std::slice::from_ref(&indexed.artifact);
        self.first(&indexed.at.task_id, names, Some(indexed), tag).await
    }

    /// The first of the artifacts that exists.
    async fn first(
        &self,
        task: &TaskId,
        names: &[ArtifactName],
        indexed: Option<&Indexed>,
        tag: &str,
    ) -> Result<TaskImage, ParentError> {
        let mut gone = None;
        for name in names {
            match self.try_name(task, name, indexed, tag).await {
                Ok(loaded) => return Ok(loaded),
                Err(Missing::Gone(source)) => gone = Some(source),
                Err(Missing::Failed(error)) => return Err(*error),
            }
        }
        let names = names.iter().map(ArtifactName::as_str).collect::<Vec<_>>().join(", ");
        Err(ParentError::Gone { role: self.role, task: task.clone(), names, source: gone })
    }

    async fn try_name(
        &self,
        task: &TaskId,
        name: &ArtifactName,
        indexed: Option<&Indexed>,
        tag: &str,
    ) -> Result<TaskImage, Missing> {
        let policy = self.loader.storage.retry().policy(self.role.policy());
        retry(&format!("the download of the {}", self.role), policy, || async {
            let Source { name, url, sha256 } = self.find(task, name, indexed).await?;
            let promise = if sha256.is_some() { ", as the index has it" } else { "" };
            let loaded = self.loader.download(&url, sha256, tag).await;
            let relayed = loaded.map_err(|error| match error {
                LoadError::Transfer(error) if error.is_gone() => Missing::Gone(error.into()),
                error => Missing::Failed(Box::new(ParentError::Load {
                    role: self.role,
                    error,
                    task: task.clone(),
                    artifact: name.clone(),
                    promise,
                })),
            })?;
            let verified = match sha256 {
                Some(sha256) => format!("sha256 {sha256}, as the index has it"),
                None => "whole in itself; the index has no sha256 of it".to_owned(),
            };
            let (role, size, layers) = (self.role, Bytes(relayed.size), relayed.layers.len());
            info!("{role}: {name} of task {task}, {size}, {layers} layers, {}; {verified}", relayed.image_id);
            Ok(TaskImage { archive: relayed, artifact: name, promised: sha256.is_some(), hash: None })
        })
        .await
    }

    /// The place of an artifact, and its expected digest as far as the index has it.
    async fn find(&self, task: &TaskId, name: &ArtifactName, indexed: Option<&Indexed>) -> Result<Source, Missing> {
        let queue = &self.services.queue;
        let (name, sha256) = (name.clone(), indexed.and_then(|indexed| indexed.sha256));
        if let Some(Indexed { at, .. }) = indexed.filter(|indexed| indexed.at.task_id == *task) {
            // Of the run that the index names: during a rerun the task's latest run has nothing yet.
            let url = queue.artifact_url(at, &name).await?;
            return Ok(Source { name, url, sha256 });
        }
        let url = queue.latest_artifact_url(task, &name).await?;
        // A task that found its image already made refers to the task that made it, and so does the index.
        match indexed {
            Some(indexed) if url.reveal().as_str() == queue.artifact_address(&indexed.at, &indexed.artifact) => {
                let url = queue.artifact_url(&indexed.at, &indexed.artifact).await?;
                Ok(Source { name, url, sha256 })
            }
            _ => Ok(Source { name, url, sha256: None }),
        }
    }

    async fn definition(&self, task: &TaskId) -> Result<Value, ParentError> {
        self.services.queue.task(task).await.map_err(|error| match error.fault {
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
                return Ok(Some(Indexed { at, artifact: data.artifact, sha256: Some(data.sha256) }));
            }
        }
        Ok(None)
    }
}

/// The artifacts that may have the image, in the order of the attempts: the one named by the task, this job's own, the usual one.
fn names(definition: &Value, own: &ArtifactName) -> Vec<ArtifactName> {
    let declared = variable(definition, "ARTIFACT_NAME").and_then(|name| name.parse().ok());
    let usual = USUAL_NAMES.iter().filter_map(|name| name.parse().ok());
    let mut names = Vec::new();
    for name in declared.into_iter().chain([own.clone()]).chain(usual) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// A variable of a task's environment; an empty one counts as not set.
fn variable<'a>(definition: &'a Value, name: &str) -> Option<&'a str> {
    definition["payload"]["env"][name].as_str().filter(|value| !value.is_empty())
}

/// The namespaces of the index that can have the image of an image task, from its definition: the one that it publishes to last,
/// and that of the central project, where it may have found its image. None if it is another kind of task.
fn hash_namespaces(definition: &Value, central: Option<&Project>) -> Vec<Namespace> {
    let variable = |name| variable(definition, name);
    let places = || {
        let image: ImageName = variable("IMAGE_NAME")?.parse().ok()?;
        let own: Project = variable("PROJECT")?.parse().ok()?;
        let index: IndexPrefix = variable("INDEX").unwrap_or("index").parse().ok()?;
        let hash = hash_of(definition)?;
        let projects = std::iter::once(&own).chain(central.filter(|central| **central != own));
        Some(projects.filter_map(|project| Namespace::of_hash(&index, project, &image, hash).ok()).collect())
    };
    places().unwrap_or_default()
}

/// The hash in the `.hash.` route of an image task.
fn hash_of(definition: &Value) -> Option<ContextHash> {
    let variable = |name| variable(definition, name);
    variable("INDEX_HASH").or_else(|| variable("HASH"))?.parse().ok()
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
        if error.fault == CallErrorKind::Gone { Self::Gone(error.into()) } else { Self::Failed(Box::new(error.into())) }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_parents_own_word_comes_first_and_each_name_once() {
        let of = |declared: &str, own: &str| {
            let definition = json!({ "payload": { "env": { "ARTIFACT_NAME": declared } } });
            names(&definition, &own.parse().unwrap()).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let (tar, zst) = ("public/image.tar", "public/image.tar.zst");
        assert_eq!(of("", tar), [tar, zst]);
        assert_eq!(of(zst, tar), [zst, tar]);
        assert_eq!(of("public/base.tar", "public/other.tar"), ["public/base.tar", "public/other.tar", zst, tar]);
        assert_eq!(of("no name", tar), [tar, zst]);
    }

    #[test]
    fn the_place_in_the_index_follows_from_the_tasks_environment() {
        let (hash, index_hash) = ("ab".repeat(32), "cd".repeat(32));
        let central = "mozilla-central".parse().unwrap();
        let of = |env: Value| {
            let places = hash_namespaces(&json!({ "payload": { "env": env } }), Some(&central));
            places.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let places = |prefix: &str, hash: &str| {
            ["try", "mozilla-central"].map(|project| format!("{prefix}docker.images.v1.{project}.base.hash.{hash}"))
        };
        let env = json!({ "IMAGE_NAME": "base", "PROJECT": "try", "HASH": hash, "INDEX_HASH": "" });
        assert_eq!(of(env), places("", &hash));
        let both =
            json!({ "IMAGE_NAME": "base", "PROJECT": "try", "HASH": hash, "INDEX_HASH": index_hash, "INDEX": "index" });
        assert_eq!(of(both), places("", &index_hash));
        let staging = json!({ "IMAGE_NAME": "base", "PROJECT": "try", "HASH": hash, "INDEX": "index.garbage" });
        assert_eq!(of(staging), places("garbage.", &hash));
        assert_eq!(of(json!({ "IMAGE_NAME": "base", "PROJECT": "mozilla-central", "HASH": hash })).len(), 1);
        assert_eq!(of(json!({ "IMAGE_NAME": "base", "HASH": hash })), [""; 0]);
    }
}
