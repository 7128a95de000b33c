//! Small files that are published with an image: what they are, and the calls that create them. `provenance` and `sbom` make
//! their content, `publish` sends them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use super::ArtifactPlan;
use crate::net::Digest;
use crate::taskcluster::{ArtifactName, ArtifactPayload, CreateArtifact};

/// A small file that belongs to an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildDocument {
    /// A description for people.
    pub what: &'static str,
    /// The artifact that it becomes.
    pub name: ArtifactName,
    /// Where it is, under the last part of its artifact's name.
    pub path: PathBuf,
    /// Its sha256.
    pub sha256: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The media type that it is served with.
    pub content_type: &'static str,
}

impl BuildDocument {
    /// Writes a JSON document into `directory`.
    pub fn write(
        directory: &Path,
        what: &'static str,
        name: ArtifactName,
        content_type: &'static str,
        document: &impl Serialize,
    ) -> io::Result<Self> {
        let text = serde_json::to_string_pretty(document)?;
        Self::write_text(directory, what, name, content_type, &(text + "\n"))
    }

    /// Writes a document into `directory`.
    pub fn write_text(
        directory: &Path,
        what: &'static str,
        name: ArtifactName,
        content_type: &'static str,
        text: &str,
    ) -> io::Result<Self> {
        let path = directory.join(name.file_name());
        fs::write(&path, text)?;
        let (sha256, size) = (Digest::of(text.as_bytes()), text.len() as u64);
        Ok(Self { what, name, path, sha256, size, content_type })
    }

    /// The call that creates the artifact, like the image's.
    #[must_use]
    pub fn create(&self, like: &ArtifactPlan, expires: Timestamp) -> CreateArtifact {
        let payload = like.payload(like.storage, self.size, expires);
        CreateArtifact {
            name: self.name.clone(),
            payload: ArtifactPayload { content_type: self.content_type, ..payload },
        }
    }
}
