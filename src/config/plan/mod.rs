//! The plan: everything that a run will do, as one value that can be printed and compared in a test. `config` makes it,
//! `job::image_task` executes it, `publish` sends [`Plan::publication`].

mod artifact;
mod build_document;
#[cfg(test)]
mod example;
mod scopes;

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

use crate::context::checkout::Checkout;
use crate::context::{ContextHash, ContextScheme, ImageName, RepoPath};
use crate::engine::BuildPlan;
use crate::net::{Digest, HttpUrl, ImageId, NameError};
use crate::taskcluster::{
    ArtifactName, CreateArtifact, ImageNamespaces, IndexData, IndexPayload, IndexPrefix, InsertTask, Namespace,
    Project, PushDate, TaskId, TaskRun,
};
pub use artifact::{ArtifactPlan, ExportChoice};
pub use build_document::BuildDocument;
pub use scopes::{Need, NeededScope};

/// The build argument with the latest time of a reproducible image, for tools in RUN steps.
pub const EPOCH_ARG: &str = "SOURCE_DATE_EPOCH";

/// The job of one image task.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The image's name.
    pub image: ImageName,
    /// The project that it is indexed for.
    pub project: Project,
    /// The task that publishes; a dry run can do without.
    pub task: Option<TaskRun>,
    /// The push, whose time is the rank of the index entries.
    pub pushdate: PushDate,
    /// What the build may see.
    pub context: ContextPlan,
    /// The other build options.
    pub build: BuildPlan,
    /// The task whose image this one is built from.
    pub parent: Option<TaskId>,
    /// The image artifact.
    pub artifact: ArtifactPlan,
    /// Prefix of the routes.
    pub index: IndexPrefix,
    /// Distinguishes a dry run from all others, in names in the engine; a task has its id.
    #[serde(skip)]
    pub dry_run: Option<DryRunNames>,
    /// The hash in the `.hash.` route and the tag if it is not the context hash.
    pub index_hash: Option<ContextHash>,
    /// The latest time in a reproducible image, in seconds since 1970; absent, the image stays as the engine made it.
    pub reproducible: Option<u64>,
}

/// The parts of a dry run's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryRunNames {
    /// A part of names in the engine that no other dry run has.
    pub id: String,
    /// Whether the hash in the `.hash.` route is known; otherwise there is no such route.
    pub is_hash_known: bool,
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "image {} for {}", self.image, self.project)?;
        self.task.as_ref().map_or(Ok(()), |task| write!(f, ", {task}"))
    }
}

/// The source of the context, and what it must match.
#[derive(Clone, Debug, Serialize)]
pub struct ContextPlan {
    /// Its source.
    pub source: ContextSource,
    /// How its hash is computed.
    pub scheme: ContextScheme,
    /// The expected hash; a dry run computes it if absent.
    pub hash: Option<ContextHash>,
    /// The image directory in the repository, where it is known.
    pub directory: Option<RepoPath>,
    /// The most uncompressed bytes that are accepted.
    pub max_bytes: u64,
    /// The most tar entries that are accepted.
    pub max_entries: u64,
}

/// The possible sources of a context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContextSource {
    /// An artifact, usually of the decision task.
    Artifact {
        /// The task.
        task_id: TaskId,
        /// The artifact.
        name: ArtifactName,
    },
    /// A direct URL.
    Url(HttpUrl),
    /// A context archive on this machine.
    File(PathBuf),
    /// An image directory on this machine.
    Directory {
        /// The repository.
        #[serde(rename = "root")]
        checkout: Checkout,
        /// The image directory, below its root.
        directory: PathBuf,
        /// What fills in its `# %ARG` lines.
        args: BTreeMap<String, String>,
    },
}

impl std::fmt::Display for ContextSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Artifact { task_id, name } => write!(f, "artifact {name} of task {task_id}"),
            Self::Url(url) => write!(f, "{url}"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Directory { directory, .. } => write!(f, "{}", directory.display()),
        }
    }
}

/// The names that follow from a context hash. Making it before the build means that a name that the index
/// would refuse is refused before the build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// The verified context hash.
    pub context_hash: ContextHash,
    /// `{image_name}:{INDEX_HASH}`, the archive's one tag.
    pub tag: String,
    /// The image's name while it is in the engine. It differs from the archive's name, because that image may be loaded already.
    /// It is the same in each start of a task, so that the next one finds the image of a killed start.
    #[serde(skip)]
    pub engine_tag: String,
    /// Its three namespaces in the index.
    pub namespaces: ImageNamespaces,
}

/// The description of a finished image archive, at any destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFile {
    /// Its sha256.
    pub sha256: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The image's id, the digest of its configuration.
    pub image_id: ImageId,
}

/// The publication in the order of its calls: the artifact's creation and the index inserts.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Publication {
    /// The task; absent only in a dry run without a task.
    pub task_id: Option<TaskId>,
    /// Its run.
    pub run_id: u32,
    /// `queue.createArtifact`
    pub create_artifact: CreateArtifact,
    /// The same for the files published with the image: after it, and before the first insert.
    #[serde(rename = "createCompanions")]
    pub create_documents: Vec<CreateArtifact>,
    /// `index.insertTask`, three times. The `.hash.` route is last: it marks a complete publication. Only in a dry run can it be
    /// unknown; then there are two calls.
    pub insert_task: Vec<InsertTask>,
}

impl Plan {
    /// The names that follow from a context hash.
    ///
    /// # Errors
    /// When the index could not store one of them.
    pub fn identity(&self, context_hash: ContextHash) -> Result<Identity, NameError> {
        let hash = self.index_hash.unwrap_or(context_hash);
        let builder = self.builder();
        Ok(Identity {
            context_hash,
            tag: format!("{}:{hash}", self.image),
            engine_tag: format!("{}:{hash}-{builder}", self.image),
            namespaces: ImageNamespaces::new(&self.index, &self.project, &self.image, self.pushdate, hash)?,
        })
    }

    /// The calls that publish `image` and what belongs to it, in their order.
    #[must_use]
    pub fn publication(
        &self,
        identity: &Identity,
        image: &ImageFile,
        documents: &[BuildDocument],
        expires: Timestamp,
    ) -> Publication {
        let task_id = self.task.as_ref().map(|task| task.task_id.clone());
        let run_id = self.task.as_ref().map_or(0, |task| task.run_id);
        let names = &identity.namespaces;
        let payload = IndexPayload {
            task_id: task_id.clone(),
            rank: self.pushdate.epoch_seconds(),
            data: IndexData {
                artifact: self.artifact.name.clone(),
                sha256: image.sha256,
                size: image.size,
                image_id: image.image_id.to_string(),
                context_hash: identity.context_hash,
                run_id,
            },
            expires,
        };
        let insert = |namespace: &Namespace| InsertTask { namespace: namespace.clone(), payload: payload.clone() };
        let is_hash_known = self.dry_run.as_ref().is_none_or(|dry_run| dry_run.is_hash_known);
        let hash = Some(&names.hash).filter(|_| is_hash_known);
        Publication {
            task_id,
            run_id,
            create_artifact: self.artifact.create(image.size, expires),
            create_documents: documents.iter().map(|it| it.create(&self.artifact, expires)).collect(),
            insert_task: [&names.latest, &names.pushdate].into_iter().chain(hash).map(insert).collect(),
        }
    }

    /// The name of the parent's image while it is in the engine. It is unique to this job: other jobs may need the same parent.
    #[must_use]
    pub fn parent_tag(&self, parent: &TaskId) -> String {
        format!("{}:parent-{parent}-{}", self.image, self.builder())
    }

    /// The name of the cache image while it is in the engine. It is unique to this job, too.
    #[must_use]
    pub fn cache_tag(&self) -> String {
        format!("{}:cache-{}", self.image, self.builder())
    }

    /// The run, as a part of names in the engine.
    fn builder(&self) -> &str {
        match (&self.dry_run, &self.task) {
            (Some(dry_run), _) => &dry_run.id,
            (None, Some(task)) => task.task_id.as_str(),
            (None, None) => "no-task",
        }
    }
}
