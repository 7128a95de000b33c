//! The image artifact in a plan: its name, storage, compression, and how it is exported from the engine. `job::export` makes it,
//! `publish` sends it.

use jiff::Timestamp;
use serde::Serialize;

use crate::report::keywords;
use crate::taskcluster::{ArtifactName, ArtifactPayload, CreateArtifact, Storage};

/// The image artifact.
#[derive(Clone, Debug, Serialize)]
pub struct ArtifactPlan {
    /// Its name.
    pub name: ArtifactName,
    /// When it expires; absent, with the task.
    pub expires: Option<Timestamp>,
    /// The storage type requested from the queue.
    pub storage: Storage,
    /// The zstd level, for a compressed artifact.
    pub zstd_level: Option<i32>,
    /// How the image is exported from the engine.
    pub export: ExportChoice,
}

impl ArtifactPlan {
    /// An image artifact as the settings have it by themselves, for tests.
    #[cfg(test)]
    pub(crate) fn example() -> Self {
        Self {
            name: "public/image.tar".parse().unwrap(),
            expires: None,
            storage: Storage::Auto,
            zstd_level: None,
            export: ExportChoice::Auto,
        }
    }

    /// The media type that the artifact is served with.
    #[must_use]
    pub fn content_type(&self) -> &'static str {
        if self.zstd_level.is_some() { "application/zstd" } else { "application/x-tar" }
    }
}

keywords! {
    /// The ways out of the engine.
    #[derive(Default)]
    pub enum ExportChoice, "a way out of the engine" {
        /// From the engine's storage where that can be read, else by the engine's export: the same bytes.
        #[default]
        Auto = "auto",
        /// By the engine's export, which begins with a copy of the whole image.
        Engine = "engine",
        /// From the engine's storage, or not at all.
        Storage = "storage",
        /// Another image, of the same files in one layer.
        Squash = "squash",
    }
}

impl ArtifactPlan {
    /// The call that creates the artifact, of `size` bytes.
    #[must_use]
    pub fn create(&self, size: u64, expires: Timestamp) -> CreateArtifact {
        CreateArtifact { name: self.name.clone(), payload: self.payload(self.storage, size, expires) }
    }

    /// The body of `queue.createArtifact` for a storage type; `auto` begins with s3.
    #[must_use]
    pub fn payload(&self, storage: Storage, size: u64, expires: Timestamp) -> ArtifactPayload {
        let storage_type = if storage == Storage::Object { Storage::Object } else { Storage::S3 };
        ArtifactPayload {
            storage_type,
            expires,
            content_type: self.content_type(),
            content_length: (storage_type == Storage::S3).then_some(size),
        }
    }
}
