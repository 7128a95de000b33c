//! Publishing to a folder: the dry run's publisher, which writes `publish.json`, the calls that a task would have made,
//! beside the archive. The folder itself, and how files come into it whole, is also what `payload` stands on.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use tokio::task::spawn_blocking;

use super::{Finished, PublishError, Published, Stored};
use crate::build_log;
use crate::config::{Output, Owner};
use crate::image_archive::ArchiveError;
use crate::names::ArtifactName;
use crate::plan::{Companion, Publication};
use crate::scratch::{Draft, Scratch};

/// What a dry run writes beside the archive.
const PUBLISH_JSON: &str = "publish.json";

/// Written to disk at this size, so that system calls do not count.
const WRITE_BUFFER: usize = 256 * 1024;

/// A folder that gets an archive and what belongs to it. One that was made for nothing, because the run failed,
/// disappears again.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    owner: Option<Owner>,
    /// What the archive is called, where that is not the last part of its artifact's name.
    file: Option<String>,
    made: bool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.made {
            // Fails where there is something in it, and should.
            let _ = fs::remove_dir(&self.path);
        }
    }
}

impl Folder {
    /// The folder of a dry run, without an earlier one's word about an image that is about to be replaced.
    pub fn for_dry_run(output: Output) -> Result<Self, PublishError> {
        Self::without(output, PUBLISH_JSON)
    }

    /// Makes the folder where it is missing; removes `stale`, and what belongs to an earlier image, where it is there.
    pub(super) fn without(output: Output, stale: &str) -> Result<Self, PublishError> {
        let Output { folder: path, owner, file } = output;
        let made = !path.exists();
        fs::create_dir_all(&path).map_err(|source| error(&path, source))?;
        let folder = Self { path, owner, file, made };
        let besides = ArtifactName::companions();
        for stale in std::iter::once(stale).chain(besides.iter().map(ArtifactName::file_name)) {
            let stale = folder.path.join(stale);
            match fs::remove_file(&stale) {
                Err(source) if source.kind() != ErrorKind::NotFound => return Err(error(&stale, source)),
                _ => {}
            }
        }
        if folder.owner.is_some() {
            // Who may not give files away learns it before the build and not after.
            let probe = Scratch::new_in(&folder.path).map_err(|source| error(&folder.path, source))?;
            folder.give(probe.path(), &folder.path)?;
        }
        Ok(folder)
    }

    pub(super) fn publish_log(&self, log: &build_log::Finished) -> Result<(), PublishError> {
        self.take_in(&log.path, "build.log").map(drop)
    }

    pub(super) async fn publish(
        &self,
        image: Finished,
        name: &ArtifactName,
        publication: &Publication,
    ) -> Result<Published, PublishError> {
        self.take_companions(&image.companions)?;
        let archive = self.take_image(image.stored, name).await?;
        let publish_json = self.path.join(PUBLISH_JSON);
        let write = || {
            let draft = Draft::of(&publish_json)?;
            serde_json::to_writer_pretty(draft.file(), publication)?;
            draft.finish()
        };
        write().map_err(|source| error(&publish_json, source))?;
        self.give(&publish_json, &publish_json)?;
        let story = format!("wrote {} and {}; published nothing", archive.display(), publish_json.display());
        Ok(Published { story })
    }

    /// Takes in what belongs to an archive, before the archive itself.
    pub(super) fn take_companions(&self, companions: &[Companion]) -> Result<(), PublishError> {
        companions.iter().try_for_each(|it| self.take_in(&it.path, it.name.file_name()).map(drop))
    }

    /// Takes a finished archive in. Gives its new path.
    pub(super) async fn take_image(&self, image: Stored, name: &ArtifactName) -> Result<PathBuf, PublishError> {
        let name = self.file.as_deref().unwrap_or(name.file_name());
        let archive = match image {
            Stored::File(path) => return self.take_in(&path, name),
            Stored::Spool(archive) => archive,
        };
        // In the folder, and so on its disk.
        let scratch = Scratch::new_in(&self.path).map_err(|source| error(&self.path, source))?;
        let path = scratch.path().join(name);
        let file = File::create_new(&path).map_err(|source| error(&path, source))?;
        let pour = move || archive.pour(None, BufWriter::with_capacity(WRITE_BUFFER, file));
        match spawn_blocking(pour).await {
            Ok(Ok(_)) => self.take_in(&path, name),
            Ok(Err(ArchiveError::Write(source))) => Err(error(&self.path.join(name), source)),
            Ok(Err(other)) => Err(other.into()),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// Gives a complete file of the same disk its owner, then its name.
    fn take_in(&self, file: &Path, name: impl AsRef<Path>) -> Result<PathBuf, PublishError> {
        let path = self.path.join(name);
        self.give(file, &path)?;
        fs::rename(file, &path).map_err(|source| error(&path, source))?;
        Ok(path)
    }

    /// Gives the owner `file`, which is or will be `path`.
    fn give(&self, file: &Path, path: &Path) -> Result<(), PublishError> {
        let Some(owner) = self.owner else { return Ok(()) };
        chown(file, Some(owner.uid), Some(owner.gid)).map_err(|source| PublishError::Owner {
            path: path.display().to_string(),
            owner,
            source,
        })
    }
}

fn error(path: &Path, source: io::Error) -> PublishError {
    PublishError::Folder { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn who_may_not_give_files_away_learns_it_at_once() {
        let parent = tempfile::tempdir().unwrap();
        let we = fs::metadata(parent.path()).unwrap().uid();
        let (folder, owner) = (parent.path().join("out"), Owner { uid: we + 1, gid: 1 });
        let made = Folder::for_dry_run(Output { folder: folder.clone(), owner: Some(owner), file: None });
        match made.map_err(|error| error.to_string()) {
            Ok(_) => assert_eq!(we, 0, "only root may"),
            Err(error) => assert!(we != 0 && error.contains(&format!("belong to {owner}")), "{error}"),
        }
        assert!(!folder.exists(), "nothing is left of the attempt");
    }

    #[test]
    fn only_what_was_made_for_nothing_disappears() {
        let parent = tempfile::tempdir().unwrap();
        let output = |name: &str| Output { folder: parent.path().join(name), owner: None, file: None };
        drop(Folder::for_dry_run(output("a/b")).unwrap());
        assert!(!parent.path().join("a/b").exists());
        fs::create_dir(parent.path().join("c")).unwrap();
        fs::write(parent.path().join("c/publish.json"), "{}").unwrap();
        drop(Folder::for_dry_run(output("c")).unwrap());
        assert_eq!(
            fs::read_dir(parent.path().join("c")).unwrap().count(),
            0,
            "the folder was there, its word is stale"
        );
        let folder = Folder::for_dry_run(output("d")).unwrap();
        fs::write(parent.path().join("e"), "an image").unwrap();
        let moved = folder.take_in(&parent.path().join("e"), "image.tar").unwrap();
        drop(folder);
        assert_eq!(fs::read(moved).unwrap(), b"an image");
    }
}
