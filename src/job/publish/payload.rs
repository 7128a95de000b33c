//! Publishing by the task's payload: the archive comes to lie where the payload declares an artifact, and the worker
//! uploads it when the program has ended. No call is made; what the worker and the queue do then is not ours to check.

use super::folder::Folder;
use super::{Finished, PublishError, Published};
use crate::config::Output;
use crate::engine::build_log;
use crate::report::Bytes;
use crate::taskcluster::ArtifactName;

/// The publisher of a task that declares its artifact itself.
#[derive(Debug)]
pub struct Payload {
    folder: Folder,
}

impl Payload {
    /// Makes the folder ready. The worker uploads what it finds there, also after a failed run: an archive of an earlier
    /// one must not be taken for this one's. Git ignores a folder that is made for a dry run.
    pub fn new(output: Output, artifact: &ArtifactName, dry: bool) -> Result<Self, PublishError> {
        Ok(Self { folder: Folder::for_payload(output, artifact, dry)? })
    }

    pub(super) fn publish_log(&self, log: &build_log::Finished) -> Result<(), PublishError> {
        self.folder.publish_log(log)
    }

    pub(super) async fn publish(&self, image: Finished, name: &ArtifactName) -> Result<Published, PublishError> {
        self.folder.take_companions(&image.companions)?;
        let archive = self.folder.take_image(image.stored, name).await?;
        let story = format!("wrote {}, {}, for the worker to upload", archive.display(), Bytes(image.image.size));
        Ok(Published { story })
    }
}
