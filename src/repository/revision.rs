//! The images of an earlier revision of a git checkout. What their contexts are made from is written to a directory of its own;
//! the checkout, its index and its `.git` stay as they are.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use super::git::Git;
use super::{Tree, TreeError, USUAL_PLACES};
use crate::config::ImagesDir;
use crate::context::checkout::{Checkout, VENDORED};
use crate::report::Hint;

/// The directories of the docker-image kind, beside an images root.
const KINDS_BESIDE: [&str; 2] = ["../kinds/docker-image", "../ci/docker-image"];

/// The mode of an executable file in an index.
const EXECUTABLE: &str = "100755";
/// The mode of a symbolic link in an index.
const LINK: &str = "120000";
/// The mode of a submodule, which has no files here.
const SUBMODULE: &str = "160000";

/// Why a revision cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RevisionError {
    /// A checkout of something else than git.
    #[error(
        "{} is no git checkout, and --changed asks git what has changed{}", root.display(), Hint("name the images, or build --all")
    )]
    NoGit {
        /// Its root.
        root: PathBuf,
    },
    /// A revision that git does not have.
    #[error("git knows no revision {revision} in {}: {why}{}", root.display(), Hint("name another with --since"))]
    Unknown {
        /// As it was given.
        revision: String,
        /// The root of the checkout.
        root: PathBuf,
        /// What git says.
        why: String,
    },
    /// git fails.
    #[error("git in {}: {why}", root.display())]
    Git {
        /// The root of the checkout.
        root: PathBuf,
        /// What it says.
        why: String,
    },
}

/// A revision, as far as its files are written.
#[derive(Debug)]
pub(super) struct Revision {
    /// The commit, in full.
    pub(super) commit: String,
    /// How it was chosen, in words.
    pub(super) chosen: String,
    git: Git,
    /// The root of the git checkout.
    top: PathBuf,
    /// The root of the checkout, which the images' paths start from.
    root: PathBuf,
    /// The root's path from that of the git checkout, which can be above.
    prefix: PathBuf,
    /// Where the index and the files are.
    directory: PathBuf,
    written: BTreeSet<PathBuf>,
}

impl Revision {
    /// Finds a revision: the given one, or else the one where the branch left the default branch of `origin`, or else the last
    /// commit. Its files are written into `directory`, which is empty and the caller's to remove.
    pub(super) fn open(root: &Path, since: Option<&str>, directory: &Path) -> Result<Self, TreeError> {
        let failed = |why| RevisionError::Git { root: root.to_owned(), why };
        let git = Git::at(root);
        let top = git.run(&["rev-parse", "--show-toplevel"]).map_err(|why| {
            let root = root.to_owned();
            let is_none = why.contains("not a git repository");
            if is_none { RevisionError::NoGit { root } } else { RevisionError::Git { root, why } }
        })?;
        let top = PathBuf::from(OsStr::from_bytes(top.trim_ascii_end()));
        let prefix = line(&git.run(&["rev-parse", "--show-prefix"]).map_err(failed)?);
        let (commit, chosen) = match since {
            Some(since) => {
                let named = format!("{since}^{{commit}}");
                let found = git.run(&["rev-parse", "--verify", "--end-of-options", &named]);
                let unknown = |why| RevisionError::Unknown { revision: since.to_owned(), root: root.to_owned(), why };
                (line(&found.map_err(unknown)?), since.to_owned())
            }
            None => match git.run(&["merge-base", "HEAD", "refs/remotes/origin/HEAD"]) {
                Ok(base) => (line(&base), "the merge base with origin/HEAD".to_owned()),
                Err(_) => (line(&git.run(&["rev-parse", "--verify", "HEAD"]).map_err(failed)?), "HEAD".to_owned()),
            },
        };
        let git = Git::at(&top).with_index(directory.join("index"));
        git.run(&["read-tree", &commit]).map_err(failed)?;
        let (root, prefix, directory) = (root.to_owned(), PathBuf::from(prefix), directory.to_owned());
        Ok(Self { commit, chosen, git, top, root, prefix, directory, written: BTreeSet::new() })
    }

    /// The images of the revision. `now` are those of the checkout, in whose places they are looked for, too.
    pub(super) fn tree(&mut self, place: &ImagesDir, now: &Tree) -> Result<Tree, TreeError> {
        let given = place.images_dirs.iter().map(|path| self.root.join(path));
        let usual = USUAL_PLACES.iter().map(|place| self.root.join(place));
        let roots: Vec<_> = given.chain(usual).chain(now.images_roots.iter().cloned()).collect();
        let beside = roots.iter().flat_map(|root| KINDS_BESIDE.map(|kind| root.join(kind)));
        let kinds = beside.chain(now.kinds.iter().filter_map(|kind| kind.parent()).map(Path::to_owned));
        let taskgraph = [self.root.join(VENDORED), self.root.join(".gitattributes")];
        let mut paths: BTreeSet<_> =
            roots.iter().cloned().chain(kinds).chain(taskgraph).filter_map(|path| self.within(&path)).collect();
        loop {
            self.write(&paths)?;
            let tree = Tree::open(&self.place(place))?;
            let included = tree.usable().filter_map(|image| image.dockerfile().ok()).flat_map(|it| it.includes);
            let included: BTreeSet<_> = included
                .filter_map(|it| self.within(&self.root.join(it.path)))
                .filter(|path| !paths.contains(path))
                .collect();
            if included.is_empty() {
                return Ok(tree);
            }
            paths.extend(included);
        }
    }

    /// Writes the files below these paths, and those that symbolic links among them lead to.
    fn write(&mut self, paths: &BTreeSet<PathBuf>) -> Result<(), TreeError> {
        let failed = |why| RevisionError::Git { root: self.root.clone(), why };
        let mut paths = paths.clone();
        while !paths.is_empty() {
            let texts: Vec<_> = paths.iter().filter_map(|path| path.to_str()).collect();
            if texts.is_empty() {
                // Without a path git lists all files.
                break;
            }
            let listed = self.git.run(&[&["ls-files", "--stage", "-z", "--"][..], &texts].concat()).map_err(failed)?;
            let (mut names, mut links, mut files) = (Vec::new(), Vec::new(), Vec::new());
            for entry in listed.split(|byte| *byte == 0) {
                let Some(tab) = entry.iter().position(|byte| *byte == b'\t') else { continue };
                let path = PathBuf::from(OsStr::from_bytes(&entry[tab + 1..]));
                if entry.starts_with(SUBMODULE.as_bytes()) || !self.written.insert(path.clone()) {
                    continue;
                }
                names.extend_from_slice(path.as_os_str().as_bytes());
                names.push(0);
                if entry.starts_with(LINK.as_bytes()) {
                    links.push(path);
                } else {
                    files.push((path, entry.starts_with(EXECUTABLE.as_bytes())));
                }
            }
            let to = format!("--prefix={}/", self.files().display());
            self.git.run_with(&["checkout-index", "--force", "-z", "--stdin", &to], &names).map_err(failed)?;
            for (path, is_executable) in &files {
                self.keep_mode(path, *is_executable);
            }
            paths = links.iter().filter_map(|link| self.target(link)).collect();
        }
        Ok(())
    }

    /// Gives a file the mode that it has in the checkout, if it is as executable there: git knows no more of a mode, the hash of a
    /// context has all of it, and a checkout has that of the umask of its day. A file that cannot be changed counts as changed.
    fn keep_mode(&self, path: &Path, is_executable: bool) {
        let Ok(now) = fs::symlink_metadata(self.top.join(path)) else { return };
        if now.is_file() && (now.permissions().mode() & 0o100 != 0) == is_executable {
            let _ = fs::set_permissions(self.files().join(path), now.permissions());
        }
    }

    /// Where a link leads, as a path of the checkout; none outside of it.
    fn target(&self, link: &Path) -> Option<PathBuf> {
        let target = self.files().join(link).read_link().ok().filter(|target| target.is_relative())?;
        plain(&link.parent()?.join(target))
    }

    /// A path of the checkout as git names it; none outside of it.
    fn within(&self, path: &Path) -> Option<PathBuf> {
        plain(&self.prefix.join(std::path::absolute(path).ok()?.strip_prefix(&self.root).ok()?))
    }

    /// Where the files are.
    fn files(&self) -> PathBuf {
        self.directory.join("files")
    }

    /// The place of the images among the written files.
    fn place(&self, of: &ImagesDir) -> ImagesDir {
        let moved = |path: &Path| match std::path::absolute(path).unwrap_or_default().strip_prefix(&self.root) {
            Ok(inside) => self.files().join(&self.prefix).join(inside),
            Err(_) => path.to_owned(),
        };
        let Checkout { run_task, search_path, .. } = of.checkout.clone();
        ImagesDir {
            // Not the same one with another root: it may know the taskgraph of today already.
            checkout: Checkout::new(Some(self.files().join(&self.prefix)), run_task, search_path),
            images_dirs: of.images_dirs.iter().map(|path| moved(&self.root.join(path))).collect(),
            kinds: of.kinds.as_ref().map(|kinds| kinds.iter().map(|kind| moved(kind)).collect()),
            limits: of.limits,
        }
    }
}

/// A path without `.` and `..`; none where it leads out.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir if plain.pop() => {}
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    // git takes no empty path.
    Some(if plain.as_os_str().is_empty() { PathBuf::from(".") } else { plain })
}

fn line(printed: &[u8]) -> String {
    String::from_utf8_lossy(printed).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_as_git_names_them() {
        let of = |path: &str| plain(Path::new(path)).map(|plain| plain.display().to_string());
        assert_eq!(of("a/../b/./c").unwrap(), "b/c");
        assert_eq!(of("a/..").unwrap(), ".");
        assert_eq!(of("a/../../b"), None);
        assert_eq!(of("/a"), None);
    }
}
