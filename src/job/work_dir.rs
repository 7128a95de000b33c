//! Directories for unfinished files. A lock shows whether a directory's run lives, so that the next run finds and removes what a
//! killed one left; `engine` does the same for resources in an engine.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use tracing::{debug, info, warn};

/// The prefix of the directories' names; a dot hides them from people and from most patterns.
const PREFIX: &str = ".image-worker-";

/// The directory of a managed engine. It can contain mounts, and files of other users: only its creator removes it.
const ENGINE: &str = "engine";

/// How many directories may be removed before this run has locked one. Each removal takes a coincidence, which is not rare on a
/// busy machine where many start at once.
const TRIES: u32 = 1000;

/// A directory for unfinished files. It is removed with everything in it, except for an engine that still exists, which the next
/// run finds.
#[derive(Debug)]
pub struct WorkDir {
    path: PathBuf,
    /// None on a file system without locks, where nothing can claim the directory either.
    _lock: Option<File>,
}

impl WorkDir {
    /// Creates a directory in `parent`.
    pub fn new_in(parent: &Path) -> io::Result<Self> {
        for _ in 0..TRIES {
            let mut builder = tempfile::Builder::new();
            let own = builder.prefix(PREFIX).permissions(fs::Permissions::from_mode(0o700));
            let path = own.disable_cleanup(true).tempdir_in(parent)?.path().to_owned();
            match lock(&path) {
                Ok(Some(lock)) => return Ok(Self { path, _lock: Some(lock) }),
                // It looked abandoned between its creation and its lock, and was removed.
                Ok(None) => {}
                Err(error) => {
                    debug!("{} cannot be locked: {error}", path.display());
                    return Ok(Self { path, _lock: None });
                }
            }
        }
        Err(io::Error::other("every new directory was taken away"))
    }

    /// The same, after removing what killed programs left there, except for engines, which a run removes.
    pub fn after_removing_stale(parent: &Path) -> io::Result<Self> {
        drop(remove_stale(parent));
        Self::new_in(parent)
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The subdirectory for an engine, which is not removed with it.
    #[must_use]
    pub fn engine(&self) -> PathBuf {
        self.path.join(ENGINE)
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if let Err(error) = clear(&self.path) {
            warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// A directory whose run was killed and has left an engine. This value holds its lock, so that nothing else claims it.
#[derive(Debug)]
pub struct StaleWorkDir {
    path: PathBuf,
    _lock: File,
}

impl StaleWorkDir {
    /// The engine that it has left.
    #[must_use]
    pub fn engine(&self) -> PathBuf {
        self.path.join(ENGINE)
    }

    /// Removes the directory: its engine is gone.
    pub fn remove(self) {
        log_removal(&self.path, fs::remove_dir(&self.path));
    }
}

/// Removes what killed runs of this user left in `parent`. Returns the directories that still have an engine, and nothing else.
#[must_use]
pub fn remove_stale(parent: &Path) -> Vec<StaleWorkDir> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    named.filter_map(|entry| claim(entry.path())).collect()
}

/// Takes an unused directory, and removes it; if it has an engine, everything else.
fn claim(path: PathBuf) -> Option<StaleWorkDir> {
    // Locked by its run, gone, or not a directory of this program.
    let lock = lock(&path).ok().flatten()?;
    // In a directory that many users share, this run must not end another user's engine.
    if lock.metadata().ok()?.uid() != rustix::process::geteuid().as_raw() {
        return None;
    }
    let cleared = clear(&path);
    if matches!(cleared, Ok(false)) {
        return Some(StaleWorkDir { path, _lock: lock });
    }
    log_removal(&path, cleared.map(drop));
    None
}

fn log_removal(path: &Path, removed: io::Result<()>) {
    match removed {
        Ok(()) => info!("removed {}, which a run that was killed had left", path.display()),
        Err(error) => warn!("cannot remove {}, which a run that was killed has left: {error}", path.display()),
    }
}

/// Locks a directory, as long as the file lives. None if another process has the lock, or had it and has removed the directory.
pub fn lock(path: &Path) -> io::Result<Option<File>> {
    // It locks the directory itself and no file in it, so that there is no moment without a lock.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(directory) => File::from(directory),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match directory.try_lock() {
        Ok(()) => Ok(path.symlink_metadata().is_ok().then_some(directory)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Removes the content of a directory except its engine, and the directory if it has none. Returns whether the directory is gone.
fn clear(path: &Path) -> io::Result<bool> {
    let mut keeps = false;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == ENGINE {
            keeps = true;
        } else if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    if !keeps {
        fs::remove_dir(path)?;
    }
    Ok(!keeps)
}

/// A file that appears under its name when it is complete. Until then it is in a temporary directory beside its path, on the same
/// disk; a killed program leaves that directory, which the next program that writes there removes.
///
/// An existing device or pipe is written directly: it has readers, and is never replaced.
#[derive(Debug)]
pub struct AtomicFile {
    file: File,
    /// Where the file is until it gets its name, and its name.
    unfinished: Option<(WorkDir, PathBuf)>,
}

impl AtomicFile {
    /// Starts the file for `path`, or for the target of its links.
    pub fn of(path: &Path) -> io::Result<Self> {
        Self::begin(path, WorkDir::after_removing_stale)
    }

    /// The same, for one of several that are written at once in a directory: they do not look for what killed programs left, and so
    /// cannot take each other's new directories for it.
    pub fn one_of_several(path: &Path) -> io::Result<Self> {
        Self::begin(path, WorkDir::new_in)
    }

    fn begin(path: &Path, work_dir: impl FnOnce(&Path) -> io::Result<WorkDir>) -> io::Result<Self> {
        let there = fs::metadata(path).ok();
        if there.as_ref().is_some_and(|there| !there.is_file() && !there.is_dir()) {
            return Ok(Self { file: File::options().write(true).open(path)?, unfinished: None });
        }
        // A link stays one: `/dev/stdout` is one to the file that stdout was sent to.
        let path = if there.is_some() { fs::canonicalize(path)? } else { path.to_owned() };
        if there.is_some_and(|there| there.is_dir()) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let parent = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
        let scratch = work_dir(parent)?;
        let file = File::create_new(scratch.path().join("draft"))?;
        Ok(Self { file, unfinished: Some((scratch, path)) })
    }

    /// Where to write.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The file is complete: renames it to its name.
    pub fn finish(self) -> io::Result<()> {
        let Some((scratch, path)) = self.unfinished else { return Ok(()) };
        fs::rename(scratch.path().join("draft"), path)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// What SIGKILL leaves: the directory, and no lock on it.
    fn killed(parent: &Path) -> PathBuf {
        let path = parent.join(".image-worker-killed");
        fs::create_dir_all(path.join("directory")).unwrap();
        fs::write(path.join("directory/image.tar"), "unfinished").unwrap();
        fs::write(path.join("context"), "unfinished").unwrap();
        path
    }

    #[test]
    fn only_what_nobody_uses_is_swept() {
        let parent = tempfile::tempdir().unwrap();
        let alive = WorkDir::new_in(parent.path()).unwrap();
        fs::write(alive.path().join("context"), "in use").unwrap();
        let path = killed(parent.path());
        fs::write(parent.path().join(".image-worker-file"), "").unwrap();
        fs::create_dir(parent.path().join("image-worker-out")).unwrap();
        assert!(remove_stale(parent.path()).is_empty());
        assert!(!path.exists());
        assert_eq!(names(alive.path()), ["context"]);
        let alive = alive.path().file_name().unwrap().to_str().unwrap().to_owned();
        let mut left = [".image-worker-file".to_owned(), alive, "image-worker-out".to_owned()];
        left.sort();
        assert_eq!(names(parent.path()), left);
        assert!(remove_stale(&parent.path().join("nosuch")).is_empty());
    }

    #[test]
    fn an_engine_keeps_its_directory_until_it_is_gone() {
        let parent = tempfile::tempdir().unwrap();
        let path = killed(parent.path());
        fs::create_dir(path.join(ENGINE)).unwrap();
        let found = remove_stale(parent.path());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].engine(), path.join(ENGINE));
        assert_eq!(names(&path), [ENGINE], "the large files go at once");
        assert!(remove_stale(parent.path()).is_empty(), "two do not get the same");
        drop(found);
        fs::remove_dir(path.join(ENGINE)).unwrap();
        assert!(remove_stale(parent.path()).is_empty() && names(parent.path()).is_empty());

        // A run that ends and has not ended its engine leaves the same.
        let scratch = WorkDir::new_in(parent.path()).unwrap();
        fs::create_dir(scratch.engine()).unwrap();
        fs::write(scratch.path().join("image.tar"), "").unwrap();
        let path = scratch.path().to_owned();
        drop(scratch);
        assert_eq!(names(&path), [ENGINE]);
    }

    #[test]
    fn links_are_not_followed() {
        let parent = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), parent.path().join(".image-worker-link")).unwrap();
        let path = killed(parent.path());
        std::os::unix::fs::symlink(elsewhere.path(), path.join("link")).unwrap();
        assert!(remove_stale(parent.path()).is_empty());
        assert_eq!(names(elsewhere.path()), ["file"]);
        assert_eq!(names(parent.path()), [".image-worker-link"]);
    }

    #[test]
    fn a_directory_that_is_being_made_is_not_taken_from_its_maker() {
        /// Also if the test fails, which would wait for its threads otherwise.
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let parent = tempfile::tempdir().unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        assert!(remove_stale(parent.path()).is_empty());
                    }
                });
            }
            let ends = Over(&over);
            let made = (0..2000).map(|_| WorkDir::new_in(parent.path()).unwrap());
            let kept = made.enumerate().filter(|(number, scratch)| {
                fs::write(scratch.path().join("file"), "").expect("it is ours");
                number % 10 == 0
            });
            let kept: Vec<_> = kept.map(|(_, scratch)| scratch).collect();
            drop(ends);
            assert!(kept.iter().all(|scratch| scratch.path().join("file").exists()));
        });
        assert!(names(parent.path()).is_empty());
    }

    #[test]
    fn a_draft_appears_when_it_is_finished() {
        let parent = tempfile::tempdir().unwrap();
        killed(parent.path());
        let path = parent.path().join("context.tar.gz");
        let draft = AtomicFile::of(&path).unwrap();
        draft.file().write_all(b"half").unwrap();
        assert!(!path.exists());
        drop(draft);
        assert!(names(parent.path()).is_empty(), "neither its own nor the killed one's");
        let draft = AtomicFile::of(&path).unwrap();
        draft.file().write_all(b"whole").unwrap();
        draft.finish().unwrap();
        assert_eq!(names(parent.path()), ["context.tar.gz"]);
        assert_eq!(fs::read(&path).unwrap(), b"whole");
    }
    #[test]
    fn what_is_no_regular_file_is_written_to_and_stays() {
        let parent = tempfile::tempdir().unwrap();
        let pipe = parent.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        std::thread::scope(|threads| {
            let reader = threads.spawn(|| fs::read(&pipe).unwrap());
            let draft = AtomicFile::of(&pipe).unwrap();
            draft.file().write_all(b"whole").unwrap();
            draft.finish().unwrap();
            assert_eq!(reader.join().unwrap(), b"whole");
        });
        assert!(!fs::symlink_metadata(&pipe).unwrap().is_file());
        let (file, link) = (parent.path().join("file"), parent.path().join("link"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        let draft = AtomicFile::of(&link).unwrap();
        draft.file().write_all(b"new").unwrap();
        draft.finish().unwrap();
        assert!(link.is_symlink() && fs::read(&file).unwrap() == b"new");
        assert_eq!(names(parent.path()), ["file", "link", "pipe"]);
        assert_eq!(AtomicFile::of(parent.path()).unwrap_err().kind(), io::ErrorKind::IsADirectory);
    }
}
