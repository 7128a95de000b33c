//! The payload of an image's task, as generic-worker reads it. Properties that this project never writes are unknown here;
//! the definition around it is `task`'s.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Environment;
use crate::net::Digest;
use crate::taskcluster::{ArtifactName, TaskId};

/// A payload of generic-worker's own kind, as far as an image task needs one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Payload {
    /// What the worker uploads when the commands have ended; nothing, where the program publishes by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<DeclaredArtifact>,
    /// Commands, each a list of arguments.
    pub command: Vec<Vec<String>>,
    /// The commands' environment.
    pub env: Environment,
    /// What the worker does besides.
    pub features: Features,
    /// Seconds after which the worker kills the commands.
    pub max_run_time: u64,
    /// What the worker puts into the task's directory.
    pub mounts: Vec<Mount>,
    /// What exit codes mean.
    pub on_exit_status: OnExitStatus,
    /// Groups of the worker's machine that the commands run in.
    pub os_groups: Vec<String>,
}

/// What the worker does besides running commands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Features {
    /// Sign the hashes of what the worker uploads.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub chain_of_trust: bool,
    /// Sign the task's API calls.
    pub taskcluster_proxy: bool,
}

/// A file that the worker uploads, also when the commands failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeclaredArtifact {
    /// `file`: the worker names the files of a directory by itself.
    pub r#type: FileType,
    /// The artifact.
    pub name: ArtifactName,
    /// The file, below the task's directory.
    pub path: String,
    /// When it is forgotten: not before the task's deadline, nor after the task.
    pub expires: Timestamp,
    /// The media type that it is served with; without one, what the machine knows of the file's ending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// How the worker packs it on the way.
    pub content_encoding: ContentEncoding,
    /// Whether the task may be green without it. Without this the worker fails a task whose file is missing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// What a worker uploads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileType {
    /// One file.
    File,
}

/// How a worker packs an artifact on the way. Without a word it takes gzip for most endings, `.tar` among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentEncoding {
    /// Not at all.
    Identity,
    /// With gzip, which readers must ask for.
    Gzip,
}

/// An archive that the worker unpacks into the task's directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mount {
    /// Where, below the task's directory.
    pub directory: String,
    /// The archive.
    pub content: Content,
    /// Its format, `tar.gz` for example.
    pub format: String,
}

/// Where the archive of a mount comes from. Never without its hash: what a mount brings is run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Content {
    /// A task's artifact.
    #[serde(rename_all = "camelCase")]
    Artifact {
        /// The task, which must be among the dependencies.
        task_id: TaskId,
        /// The artifact.
        artifact: ArtifactName,
        /// Its sha256.
        sha256: Digest,
    },
    /// A download.
    Url {
        /// Its address.
        url: String,
        /// Its sha256.
        sha256: Digest,
    },
}

/// What exit codes mean to the worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OnExitStatus {
    /// Codes after which the queue makes another run.
    pub retry: Vec<u8>,
}
