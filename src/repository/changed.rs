//! Which images of a tree differ from those of an earlier revision: those whose hash in the index is another one, and those that
//! are built from them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tracing::debug;

use super::local::LocalImage;
use super::revision::Revision;
use super::{Entry, Tree, TreeError};
use crate::config::ImagesDir;
use crate::context::{ContextHash, HashScheme, ImageName};

/// What differs from a revision.
#[derive(Debug, PartialEq, Eq)]
pub struct Changed {
    /// The images, each after those that it needs.
    pub names: Vec<ImageName>,
    /// How many images there are.
    pub of: usize,
    /// The revision, as it was given or chosen, in words.
    pub since: String,
    /// Its commit.
    pub commit: String,
}

impl Tree {
    /// The names of all images that this checkout has, also of those that cannot be used.
    #[must_use]
    pub fn own_names(&self) -> Vec<ImageName> {
        let own = self.images.iter().filter(|(_, entry)| !matches!(entry, Entry::Elsewhere { .. }));
        own.map(|(name, _)| name.clone()).collect()
    }
}

/// Compares the images of a checkout, with all that is not committed, with those of a revision. What the contexts of that revision
/// are made from is written into `directory`, which is empty and the caller's to remove.
pub fn changed(
    place: &ImagesDir,
    scheme: HashScheme,
    since: Option<&str>,
    directory: &Path,
) -> Result<Changed, TreeError> {
    let now = Tree::open(place)?;
    let mut revision = Revision::open(now.root(), since, directory)?;
    let before = match revision.tree(place, &now) {
        Ok(before) => hashes(&before, scheme),
        Err(error @ TreeError::Revision(_)) => return Err(error),
        Err(error) => {
            debug!("{} has no images: {error}", revision.commit);
            BTreeMap::new()
        }
    };
    let images = now.local(&now.own_names(), scheme)?;
    let mut changed: BTreeSet<&ImageName> = BTreeSet::new();
    let mut names = Vec::new();
    for LocalImage { image, needs, hash, .. } in &images {
        let is_same = before.get(&image.name) == Some(hash) && needs.iter().all(|need| !changed.contains(need));
        if !is_same {
            changed.insert(&image.name);
            names.push(image.name.clone());
        }
    }
    Ok(Changed { names, of: images.len(), since: revision.chosen.clone(), commit: revision.commit.clone() })
}

/// The hashes of the images; none of an image that could not be built.
fn hashes(tree: &Tree, scheme: HashScheme) -> BTreeMap<ImageName, ContextHash> {
    let names = tree.own_names();
    // At once, as this hashes each context once; one by one where one of them is in the way of all.
    let images = tree.local(&names, scheme).unwrap_or_else(|_| {
        let alone = names.iter().filter_map(|name| tree.local(std::slice::from_ref(name), scheme).ok());
        alone.flatten().collect()
    });
    images.into_iter().map(|it| (it.image.name, it.hash)).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::super::fixture::Files;
    use super::super::git::Git;
    use super::super::revision::RevisionError;
    use super::*;
    use crate::context::checkout::Checkout;

    fn git(files: &Files, arguments: &[&str]) {
        let who = ["-c", "user.name=x", "-c", "user.email=x@example.com"];
        let git = Command::new("git").args(who).args(arguments).current_dir(files.root()).status();
        assert!(git.unwrap().success(), "git {arguments:?}");
    }

    fn commit(files: &Files) {
        git(files, &["add", "--all"]);
        git(files, &["commit", "--quiet", "--message", "x"]);
    }

    fn changed_since(files: &Files, since: Option<&str>) -> Result<Vec<String>, TreeError> {
        let place = ImagesDir { checkout: Checkout::from(files.root()), ..ImagesDir::default() };
        let temporary = tempfile::tempdir().unwrap();
        let changed = changed(&place, HashScheme::Tar, since, temporary.path())?;
        Ok(changed.names.iter().map(ToString::to_string).collect())
    }

    fn tree() -> Files {
        let files = Files::new(&[
            ("taskcluster/docker/base/Dockerfile", "FROM debian:12\n# %include tools/a\n"),
            ("taskcluster/docker/child/Dockerfile", "ARG DOCKER_IMAGE_PARENT=base\nFROM $DOCKER_IMAGE_PARENT\n"),
            ("taskcluster/docker/other/Dockerfile", "FROM debian:12\n"),
            ("tools/a", "1"),
            ("linked/b", "1"),
            ("unrelated", "1"),
        ]);
        std::os::unix::fs::symlink("../../../linked/b", files.at("taskcluster/docker/other/b")).unwrap();
        git(&files, &["init", "--quiet", "--initial-branch", "main"]);
        commit(&files);
        files
    }

    #[test]
    fn what_the_context_is_made_from_counts_wherever_it_is() {
        let files = tree();
        assert!(changed_since(&files, None).unwrap().is_empty());
        files.write("unrelated", "2");
        assert!(changed_since(&files, None).unwrap().is_empty());
        // An included file, and what is built on that image.
        files.write("tools/a", "2");
        assert_eq!(changed_since(&files, None).unwrap(), ["base", "child"]);
        files.write("tools/a", "1");
        // A link's target.
        files.write("linked/b", "2");
        assert_eq!(changed_since(&files, None).unwrap(), ["other"]);
        let status = Git::at(files.root()).run(&["status", "--porcelain"]).unwrap();
        assert_eq!(String::from_utf8_lossy(&status), " M linked/b\n M unrelated\n");
    }

    #[test]
    fn another_umask_changes_nothing_and_another_executable_bit_does() {
        let files = tree();
        files.write("taskcluster/docker/other/tool", "1");
        commit(&files);
        let set_mode = |mode| {
            let path = files.at("taskcluster/docker/other/tool");
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        for (mode, changed) in [(0o664, &[][..]), (0o600, &[]), (0o755, &["other"])] {
            set_mode(mode);
            assert_eq!(changed_since(&files, None).unwrap(), changed, "{mode:o}");
        }
    }

    #[test]
    fn the_revision_is_the_given_one_or_where_the_branch_began() {
        let files = tree();
        git(&files, &["update-ref", "refs/remotes/origin/main", "HEAD"]);
        git(&files, &["symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main"]);
        files.write("taskcluster/docker/new/Dockerfile", "FROM scratch\n");
        files.write("linked/b", "2");
        commit(&files);
        assert_eq!(changed_since(&files, None).unwrap(), ["new", "other"]);
        assert!(changed_since(&files, Some("HEAD")).unwrap().is_empty());
        let error = changed_since(&files, Some("nowhere")).unwrap_err();
        assert!(matches!(error, TreeError::Revision(RevisionError::Unknown { .. })), "{error}");
        assert!(error.to_string().contains("git knows no revision nowhere in "), "{error}");
    }

    #[test]
    fn only_git_knows_revisions() {
        let files = Files::new(&[("taskcluster/docker/base/Dockerfile", "FROM scratch\n"), (".hg/x", "")]);
        let error = changed_since(&files, None).unwrap_err().to_string();
        assert!(error.contains("is no git checkout"), "{error}");
    }
}
