//! Publishes by the task's payload: writes the archive where the payload declares an artifact, and the worker uploads it when the
//! program has ended. This makes no call, and cannot check what the worker and the queue do then.

use super::directory::OutputDirectory;
use super::{Finished, PublishError, Published};
use crate::config::Output;
use crate::engine::build_log;
use crate::report::Bytes;
use crate::taskcluster::ArtifactName;

/// The publisher of a task that declares its artifact itself.
#[derive(Debug)]
pub struct Payload {
    directory: OutputDirectory,
}

impl Payload {
    /// Prepares the directory. The worker uploads what it finds there, also after a failed run: an earlier run's archive must not
    /// be mistaken for this one's. Git ignores a directory that is created for a dry run.
    pub fn new(output: Output, artifact: &ArtifactName, dry: bool) -> Result<Self, PublishError> {
        Ok(Self { directory: OutputDirectory::for_payload(output, artifact, dry)? })
    }

    pub(super) fn publish_log(&self, log: &build_log::Finished) -> Result<(), PublishError> {
        self.directory.publish_log(log)
    }

    pub(super) async fn publish(&self, image: Finished, name: &ArtifactName) -> Result<Published, PublishError> {
        self.directory.take_documents(&image.documents)?;
        let size = image.stored.size();
        let archive = self.directory.take_image(image.stored, name).await?;
        let story = format!("wrote {}, {}, for the worker to upload", archive.display(), Bytes(size));
        Ok(Published { story })
    }
}
