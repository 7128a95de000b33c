//! Publishes to a directory: the dry run's publisher, which writes `publish.json`, the calls that a task would have made, beside
//! the archive. `payload` uses the directory and its atomic writes, too.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use tracing::debug;

use super::{Finished, PublishError, Published, Stored};
use crate::config::plan::{BuildDocument, Publication};
use crate::config::{Output, Owner};
use crate::engine::build_log;
use crate::image::ArchiveError;
use crate::job::work_dir::{self, AtomicFile, WorkDir};
use crate::net::blocking::blocking;
use crate::taskcluster::ArtifactName;

/// The dry run's document beside the archive.
const PUBLISH_JSON: &str = "publish.json";

/// The build's output, which exists after a failed build too.
const BUILD_LOG: &str = "build.log";

/// What keeps a directory that a dry run has made out of the checkout that it is in.
const GITIGNORE: &str = ".gitignore";

/// How many times the directory may be removed before this run has locked it. Each time takes a coincidence.
const ATTEMPTS: u32 = 10;

/// Written to disk at this size, so that system calls do not count.
const WRITE_BUFFER: usize = 256 * 1024;

/// A directory that receives an archive and its documents. It belongs to this run while the value lives. A directory that was
/// created for a failed run is removed again.
#[derive(Debug)]
pub struct OutputDirectory {
    path: PathBuf,
    owner: Option<Owner>,
    /// The file name of the archive, if it is not the last part of its artifact's name.
    file: Option<String>,
    made: bool,
    /// None on a file system without locks.
    _lock: Option<File>,
}

impl Drop for OutputDirectory {
    fn drop(&mut self) {
        if self.made && names(&self.path).iter().all(|name| name == GITIGNORE) {
            let _ = fs::remove_file(self.path.join(GITIGNORE));
            let _ = fs::remove_dir(&self.path);
        }
    }
}

impl OutputDirectory {
    /// The directory of a dry run, without an earlier one's image and its `publish.json`. Git ignores a directory that is created
    /// for it.
    pub fn for_dry_run(output: Output, artifact: &ArtifactName) -> Result<Self, PublishError> {
        let directory = Self::locked(output)?;
        let earlier = directory.earlier_archive();
        let earlier = earlier.as_ref().map_or(artifact.file_name(), ArtifactName::file_name);
        directory.remove(&[PUBLISH_JSON, artifact.file_name(), earlier])?;
        directory.hide_from_git()?;
        Ok(directory)
    }

    /// The directory of a task whose worker uploads its content, without an earlier image; or that of its dry run.
    pub(super) fn for_payload(output: Output, artifact: &ArtifactName, dry: bool) -> Result<Self, PublishError> {
        let archive = output.file.clone().unwrap_or_else(|| artifact.file_name().to_owned());
        let directory = Self::locked(output)?;
        directory.remove(&[&archive])?;
        if dry {
            directory.hide_from_git()?;
        }
        Ok(directory)
    }

    /// Makes git ignore a directory that was created for a dry run.
    fn hide_from_git(&self) -> Result<(), PublishError> {
        if !self.made {
            return Ok(());
        }
        let path = self.path.join(GITIGNORE);
        fs::write(&path, "*\n").map_err(|source| error(&path, source))
    }

    /// Creates the directory if it is missing, and locks it.
    fn locked(output: Output) -> Result<Self, PublishError> {
        let Output { directory: path, owner, file } = output;
        for _ in 0..ATTEMPTS {
            let made = !path.exists();
            fs::create_dir_all(&path).map_err(|source| match source.kind() {
                ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
                    PublishError::NoDirectory { path: path.display().to_string() }
                }
                _ => error(&path, source),
            })?;
            match work_dir::lock(&path) {
                Ok(Some(lock)) => return Ok(Self { path, owner, file, made, _lock: Some(lock) }),
                Ok(None) if path.exists() => break,
                // Another run has made it for nothing, and has removed it.
                Ok(None) => {}
                Err(error) => {
                    debug!("{} cannot be locked: {error}", path.display());
                    return Ok(Self { path, owner, file, made, _lock: None });
                }
            }
        }
        Err(PublishError::InUse { path: path.display().to_string() })
    }

    /// The archive of an earlier dry run, according to its `publish.json`.
    fn earlier_archive(&self) -> Option<ArtifactName> {
        let publication = fs::read(self.path.join(PUBLISH_JSON)).ok()?;
        let publication: serde_json::Value = serde_json::from_slice(&publication).ok()?;
        publication["createArtifact"]["name"].as_str()?.parse().ok()
    }

    /// Removes these files, and everything else of an earlier image, if they exist.
    fn remove(&self, stale: &[&str]) -> Result<(), PublishError> {
        let besides = ArtifactName::documents();
        for stale in stale.iter().copied().chain(besides.iter().map(ArtifactName::file_name)).chain([BUILD_LOG]) {
            let stale = self.path.join(stale);
            match fs::remove_file(&stale) {
                Err(source) if source.kind() != ErrorKind::NotFound => return Err(error(&stale, source)),
                _ => {}
            }
        }
        if self.owner.is_some() {
            // A missing permission to change owners is found before the build and not after.
            let probe = WorkDir::new_in(&self.path).map_err(|source| error(&self.path, source))?;
            self.give(probe.path(), &self.path)?;
        }
        Ok(())
    }

    pub(super) fn publish_log(&self, log: &build_log::Finished) -> Result<(), PublishError> {
        self.move_in(&log.path, BUILD_LOG).map(drop)
    }

    pub(super) async fn publish(
        &self,
        image: Finished,
        name: &ArtifactName,
        publication: &Publication,
    ) -> Result<Published, PublishError> {
        self.take_documents(&image.documents)?;
        let archive = self.take_image(image.stored, name).await?;
        let publish_json = self.path.join(PUBLISH_JSON);
        let write = || {
            let draft = AtomicFile::of(&publish_json)?;
            serde_json::to_writer_pretty(draft.file(), publication)?;
            draft.finish()
        };
        write().map_err(|source| error(&publish_json, source))?;
        self.give(&publish_json, &publish_json)?;
        let story = format!("wrote {} and {}; published nothing", archive.display(), publish_json.display());
        Ok(Published { story })
    }

    /// Takes in what belongs to an archive, before the archive itself.
    pub(super) fn take_documents(&self, documents: &[BuildDocument]) -> Result<(), PublishError> {
        documents.iter().try_for_each(|it| self.move_in(&it.path, it.name.file_name()).map(drop))
    }

    /// Moves a finished archive in. Returns its new path.
    pub(super) async fn take_image(&self, image: Stored, name: &ArtifactName) -> Result<PathBuf, PublishError> {
        let name = self.file.as_deref().unwrap_or(name.file_name());
        let archive = match image {
            Stored::File { path, .. } => return self.move_in(&path, name),
            Stored::Layout(archive) => archive,
        };
        // In the directory, and so on its disk.
        let scratch = WorkDir::new_in(&self.path).map_err(|source| error(&self.path, source))?;
        let path = scratch.path().join(name);
        let file = File::create_new(&path).map_err(|source| error(&path, source))?;
        let writing = move || archive.write_into(None, BufWriter::with_capacity(WRITE_BUFFER, file), |_| {});
        match blocking(writing).await {
            Ok(_) => self.move_in(&path, name),
            Err(ArchiveError::Write(source)) => Err(error(&self.path.join(name), source)),
            Err(other) => Err(other.into()),
        }
    }

    /// Sets the owner of a complete file of the same disk, then its name.
    fn move_in(&self, file: &Path, name: impl AsRef<Path>) -> Result<PathBuf, PublishError> {
        let path = self.path.join(name);
        self.give(file, &path)?;
        fs::rename(file, &path).map_err(|source| error(&path, source))?;
        Ok(path)
    }

    /// Sets the owner of `file`, which is or will be `path`.
    fn give(&self, file: &Path, path: &Path) -> Result<(), PublishError> {
        let Some(owner) = self.owner else { return Ok(()) };
        chown(file, Some(owner.uid), Some(owner.gid)).map_err(|source| PublishError::Owner {
            path: path.display().to_string(),
            owner,
            source,
        })
    }
}

/// The content of a directory.
fn names(directory: &Path) -> Vec<std::ffi::OsString> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).collect()
}

fn error(path: &Path, source: io::Error) -> PublishError {
    PublishError::Directory { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn dry_run(directory: PathBuf, owner: Option<Owner>) -> Result<OutputDirectory, PublishError> {
        OutputDirectory::for_dry_run(Output { directory, owner, file: None }, &"public/image.tar".parse().unwrap())
    }

    #[test]
    fn who_may_not_give_files_away_learns_it_at_once() {
        let parent = tempfile::tempdir().unwrap();
        let we = fs::metadata(parent.path()).unwrap().uid();
        let (directory, owner) = (parent.path().join("out"), Owner { uid: we + 1, gid: 1 });
        match dry_run(directory.clone(), Some(owner)).map_err(|error| error.to_string()) {
            Ok(_) => assert_eq!(we, 0, "only root may"),
            Err(error) => assert!(we != 0 && error.contains(&format!("belong to {owner}")), "{error}"),
        }
        assert!(!directory.exists(), "nothing is left of the attempt");
    }

    #[test]
    fn only_what_was_made_for_nothing_disappears() {
        let parent = tempfile::tempdir().unwrap();
        let at = |name: &str| parent.path().join(name);
        drop(dry_run(at("a/b"), None).unwrap());
        assert!(!at("a/b").exists());
        fs::create_dir(at("c")).unwrap();
        let earlier = r#"{"createArtifact": {"name": "public/image.tar.zst"}}"#;
        for (name, text) in [("publish.json", earlier), ("image.tar", ""), ("image.tar.zst", ""), ("build.log", "")] {
            fs::write(at("c").join(name), text).unwrap();
        }
        fs::write(at("c/mine"), "").unwrap();
        drop(dry_run(at("c"), None).unwrap());
        assert_eq!(names(&at("c")), ["mine"], "the directory was there, what an earlier run wrote is stale");
        let directory = dry_run(at("d"), None).unwrap();
        fs::write(at("e"), "an image").unwrap();
        let moved = directory.move_in(&at("e"), "image.tar").unwrap();
        drop(directory);
        assert_eq!(fs::read(moved).unwrap(), b"an image");
        assert_eq!(fs::read(at("d/.gitignore")).unwrap(), b"*\n");
    }

    #[test]
    fn a_directory_is_one_runs_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let at = |name: &str| parent.path().join(name);
        let first = dry_run(at("out"), None).unwrap();
        fs::write(at("out/image.tar"), "of the first").unwrap();
        let second = dry_run(at("out"), None).unwrap_err().to_string();
        assert!(second.starts_with("another run writes to ") && second.contains("--output"), "{second}");
        assert_eq!(fs::read(at("out/image.tar")).unwrap(), b"of the first");
        drop(dry_run(at("other"), None).unwrap());
        drop(first);
        drop(dry_run(at("out"), None).unwrap());
        assert!(!at("out/image.tar").exists());
    }
}
