//! A repository on this machine: its root, and the taskgraph whose files its Dockerfiles include. The module `repository` finds
//! its images; `run_task` finds and checks an installed taskgraph.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde::{Serialize, Serializer};
use tracing::{info, warn};

use super::pinned::Pinned;
use super::run_task::{RunTaskError, Taskgraph};

/// Firefox's own copy of taskgraph, which `mach taskgraph` runs.
pub(crate) const VENDORED: &str = "third_party/python/taskcluster_taskgraph/taskgraph/run-task";

/// A checked out repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkout {
    /// Its root, which `# %include` paths start from; `None` if an image directory is in no checkout.
    pub root: Option<PathBuf>,
    /// taskgraph's directory `run-task`, if it was specified.
    pub run_task: Option<PathBuf>,
    /// The directories of programs, as in `PATH`.
    pub search_path: Option<OsString>,
    /// The taskgraph that was found, shared with other threads and clones.
    found: Arc<OnceLock<Result<Taskgraph, RunTaskError>>>,
}

impl Checkout {
    /// A checkout, and where to look for taskgraph.
    #[must_use]
    pub fn new(root: Option<PathBuf>, run_task: Option<PathBuf>, search_path: Option<OsString>) -> Self {
        Self { root, run_task, search_path, ..Self::default() }
    }

    /// The same checkout with another root.
    #[must_use]
    pub fn at(&self, root: Option<PathBuf>) -> Self {
        Self { root, ..self.clone() }
    }

    /// The taskgraph whose files `# %include-run-task` adds: the specified one, the repository's own, or the one on `PATH`.
    /// It is searched for only once, and only if a Dockerfile needs it.
    pub fn taskgraph(&self) -> Result<&Taskgraph, RunTaskError> {
        self.found.get_or_init(|| self.find()).as_ref().map_err(Clone::clone)
    }

    fn find(&self) -> Result<Taskgraph, RunTaskError> {
        let own = self.root.as_ref().map(|root| root.join(VENDORED)).filter(|own| own.is_dir());
        let pinned = self.root.as_deref().and_then(Pinned::read);
        let found = match self.run_task.as_ref().or(own.as_ref()) {
            Some(directory) => Taskgraph::at(directory),
            None => Taskgraph::on_path(self.search_path.as_deref())
                .and_then(|found| found.ok_or_else(|| RunTaskError::NotInstalled { pinned: pinned.clone() })),
        }?;
        let version = found.version.as_deref().unwrap_or("of unknown version");
        info!("`# %include-run-task` takes the files of taskgraph {version} in {}", found.run_task.display());
        if let Some(pinned) = pinned.filter(|it| own.is_none() && Some(&it.version) != found.version.as_ref()) {
            warn!(
                "{} pins taskgraph {}, and the files are of taskgraph {version}: hashes can differ from CI's",
                pinned.file, pinned.version
            );
        }
        Ok(found)
    }
}

/// A checkout of which only the root is known.
impl From<&Path> for Checkout {
    fn from(root: &Path) -> Self {
        Self::new(Some(root.to_owned()), None, None)
    }
}

impl From<&Self> for Checkout {
    fn from(checkout: &Self) -> Self {
        checkout.clone()
    }
}

/// Serializes only the root: the other fields are specific to this machine.
impl Serialize for Checkout {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.root.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn repository(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn without_a_taskgraph_the_error_names_the_pinned_release_and_how_to_install_it() {
        let root = repository(&[("taskcluster/requirements.txt", "taskcluster-taskgraph==14.0.0\n")]);
        let checkout = Checkout::new(Some(root.path().to_owned()), None, Some("/nonexistent/bin".into()));
        assert_eq!(
            checkout.taskgraph().unwrap_err().to_string(),
            "needs an installed taskgraph, and there is none on PATH; taskcluster/requirements.txt pins 14.0.0: \
             pip install taskcluster-taskgraph==14.0.0, or name its directory run-task with --run-task"
        );
        let bare = repository(&[]);
        let error = Checkout::from(bare.path()).taskgraph().unwrap_err().to_string();
        let expected =
            "none on PATH; pip install taskcluster-taskgraph, or name its directory run-task with --run-task";
        assert!(error.ends_with(expected), "{error}");
    }

    #[test]
    fn the_named_directory_comes_before_the_repositorys_own() {
        let files = ["run-task", "fetch-content", "hgrc", "robustcheckout.py"];
        let own: Vec<_> = files.iter().map(|name| format!("{VENDORED}/{name}")).collect();
        let given: Vec<_> = files.iter().map(|name| format!("given/{name}")).collect();
        let files: Vec<_> = own.iter().chain(&given).map(|path| (path.as_str(), "")).collect();
        let root = repository(&files);
        let given = root.path().join("given");
        let of =
            |given| Checkout::new(Some(root.path().to_owned()), given, None).taskgraph().map(|it| it.run_task.clone());
        assert_eq!(of(Some(given.clone())), Ok(given.clone()));
        assert_eq!(of(None), Ok(root.path().join(VENDORED)));
        fs::remove_file(given.join("hgrc")).unwrap();
        assert_eq!(of(Some(given.clone())), Err(RunTaskError::Incomplete { directory: given, file: "hgrc" }));
    }

    #[test]
    fn it_is_looked_for_once() {
        let root = repository(&[]);
        let checkout = Checkout::from(root.path());
        let clone = checkout.at(Some("/elsewhere".into()));
        assert!(checkout.taskgraph().is_err());
        fs::create_dir_all(root.path().join(VENDORED)).unwrap();
        assert_eq!(clone.taskgraph(), checkout.taskgraph());
    }
}
