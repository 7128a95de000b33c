//! The requests to the queue and the index, by their own schemas, and the task run that sends them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ArtifactName, Namespace, TaskId};
use crate::context::ContextHash;
use crate::net::Digest;
use crate::report::keywords;

/// A run of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TaskRun {
    /// The task.
    pub task_id: TaskId,
    /// Its run, counted from 0.
    pub run_id: u32,
}

impl std::fmt::Display for TaskRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "task {}, run {}", self.task_id, self.run_id)
    }
}

/// One call of `queue.createArtifact`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CreateArtifact {
    /// The artifact's name.
    pub name: ArtifactName,
    /// The request's body.
    pub payload: ArtifactPayload,
}

/// The body of `queue.createArtifact`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactPayload {
    /// `s3` or `object`.
    pub storage_type: Storage,
    /// Not later than the task's own, and the same in every repetition of the call.
    #[serde(serialize_with = "in_milliseconds")]
    pub expires: Timestamp,
    /// The media type.
    pub content_type: &'static str,
    /// In bytes. Never sent for `object`: finishArtifact then fails with 500 for ever (docs/taskcluster.md).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_length: Option<u64>,
}

impl ArtifactPayload {
    /// The same artifact in the object service.
    #[must_use]
    pub fn as_object(&self) -> Self {
        Self { storage_type: Storage::Object, content_length: None, ..self.clone() }
    }
}

/// One call of `index.insertTask`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InsertTask {
    /// The namespace.
    pub namespace: Namespace,
    /// The request's body.
    pub payload: IndexPayload,
}

/// The body of `index.insertTask`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IndexPayload {
    /// The task that has the artifact.
    pub task_id: Option<TaskId>,
    /// The push's seconds since 1970: the index keeps the entry with the highest rank.
    pub rank: i64,
    /// The data that a consumer needs to verify the artifact.
    pub data: IndexData,
    /// The artifact's expiry.
    #[serde(serialize_with = "in_milliseconds")]
    pub expires: Timestamp,
}

/// The `data` of an index entry; `docs/schemas/index-data.json` is its schema.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IndexData {
    /// The artifact's name.
    pub artifact: ArtifactName,
    /// sha256 of the artifact.
    pub sha256: Digest,
    /// Size of the artifact in bytes.
    pub size: u64,
    /// The image's id, as whoever has written the entry had it.
    pub image_id: String,
    /// The context hash that was verified.
    pub context_hash: ContextHash,
    /// The run that has the artifact.
    pub run_id: u32,
}

/// All of Taskcluster writes times with exactly three digits behind the second, and answers so.
#[must_use]
pub fn to_milliseconds(time: Timestamp) -> String {
    format!("{time:.3}")
}

fn in_milliseconds<S: serde::Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&to_milliseconds(*time))
}

keywords! {
    /// The choice of a storage type.
    #[derive(Default)]
    pub enum Storage, "a storage type" {
        /// s3, or object where the deployment refuses s3.
        #[default]
        Auto = "auto",
        /// One PUT to a URL that the queue signs.
        S3 = "s3",
        /// The object service.
        Object = "object",
    }
}
