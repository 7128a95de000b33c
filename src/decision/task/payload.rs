//! The payload of an image's task, as generic-worker reads it. Properties that this project never writes are unknown here;
//! the definition around it is `task`'s.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Environment;
use crate::net::Digest;
use crate::taskcluster::{ArtifactName, TaskId};

/// A payload for generic-worker, limited to what an image task needs.
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
    /// Additional features of the worker.
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

/// Additional features of the worker.
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
    /// The media type of the artifact; if absent, the worker derives it from the file's extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// How the worker packs it on the way.
    pub content_encoding: ContentEncoding,
    /// Whether the task may succeed without it. Otherwise the worker fails a task whose file is missing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// The type of an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileType {
    /// One file.
    File,
}

/// How a worker compresses an artifact for upload. The default is gzip for most extensions, `.tar` among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentEncoding {
    /// Not at all.
    Identity,
    /// With gzip, which clients must accept.
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

/// The source of a mount's archive. It always has a hash, because its content is executed.
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
