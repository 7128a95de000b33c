//! Where the image of a task is: its artifact, and what the index has of it. `parent` finds it, `task_load` and `unpack` take it.

use crate::net::{Digest, HttpUrl, ImageId};
use crate::taskcluster::{ArtifactName, IndexData, TaskRun};

/// The index data about the image of a task.
#[derive(Clone, Debug)]
pub struct Indexed {
    /// The run that has it.
    pub at: TaskRun,
    /// The artifact that it is.
    pub artifact: ArtifactName,
    /// The artifact's sha256; entries of other programs do not have it.
    pub sha256: Option<Digest>,
    /// The image's id, if the entry has one.
    pub image_id: Option<ImageId>,
}

impl Indexed {
    /// The data of an entry, if it has any.
    #[must_use]
    pub fn new(at: TaskRun, artifact: ArtifactName, data: Option<&IndexData>) -> Self {
        let image_id = data.and_then(|data| data.image_id.parse().ok());
        Self { at, artifact, sha256: data.map(|data| data.sha256), image_id }
    }
}

/// An artifact that exists according to the queue.
#[derive(Clone, Debug)]
pub struct ImageSource {
    /// Its name.
    pub name: ArtifactName,
    /// Where it can be downloaded.
    pub url: HttpUrl,
    /// What the index has of this very artifact.
    pub indexed: Option<Indexed>,
}

impl ImageSource {
    /// Its sha256, where the index has it.
    #[must_use]
    pub fn sha256(&self) -> Option<Digest> {
        self.indexed.as_ref()?.sha256
    }
}
