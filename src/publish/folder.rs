//! Publishing to a folder: the dry run's publisher. It has the archive in place already, and writes `publish.json`:
//! the calls that a task would have made, as it would have sent them.

use std::path::{Path, PathBuf};

use super::{PublishError, Published};
use crate::build_log;
use crate::plan::{ImageFile, Publication};
use crate::scratch::Draft;

/// The folder of a dry run. One that was made for nothing, because the run failed, disappears again.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    made: bool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.made {
            // Fails where there is something in it, and should.
            let _ = std::fs::remove_dir(&self.path);
        }
    }
}

impl Folder {
    /// Makes the folder, where it is missing.
    pub fn new(path: PathBuf) -> Result<Self, PublishError> {
        let made = !path.exists();
        std::fs::create_dir_all(&path).map_err(|source| error(&path, source))?;
        // An earlier dry run's word about an image that is about to be replaced.
        match std::fs::remove_file(path.join("publish.json")) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(error(&path, source)),
            _ => Ok(Self { path, made }),
        }
    }

    pub(super) fn publish_log(&self, log: &build_log::Finished) -> Result<(), PublishError> {
        let path = self.path.join("build.log");
        std::fs::rename(&log.path, &path).map_err(|source| error(&path, source))
    }

    pub(super) fn publish(&self, image: &ImageFile, publication: &Publication) -> Result<Published, PublishError> {
        let path = self.path.join("publish.json");
        let write = || {
            let draft = Draft::of(&path)?;
            serde_json::to_writer_pretty(draft.file(), publication)?;
            draft.finish()
        };
        write().map_err(|source| error(&path, source))?;
        Ok(Published { story: format!("wrote {} and {}; published nothing", image.path.display(), path.display()) })
    }
}

fn error(path: &Path, source: std::io::Error) -> PublishError {
    PublishError::Folder { path: path.display().to_string(), source }
}
