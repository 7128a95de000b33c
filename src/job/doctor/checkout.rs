//! The checkout: its state in git, its `kind.yml`, taskgraph, and what is wrong with its images.

use std::path::Path;

use super::check::Check;
use crate::config::{ConfigError, ImagesDir};
use crate::context::pinned::Pinned;
use crate::context::run_task::RunTaskError;
use crate::context::{ContextHash, HashScheme, ImageName};
use crate::job::CommandError;
use crate::report::{Bytes, counted};
use crate::repository::{GitState, Tree, TreeError};

/// The image that the command line names.
pub(super) struct NamedInTree {
    pub(super) name: ImageName,
    /// The hash in its `.hash.` route, if it is known.
    pub(super) hash: Option<ContextHash>,
}

/// How many digits of a revision are shown.
const SHORT_REVISION: usize = 12;

/// What to say outside of a checkout.
pub(super) fn none(image: Option<&str>) -> Check {
    match image {
        Some(_) => {
            let what = "the image is named, and the current directory is in no checkout".to_owned();
            let hint = "change to one, or give --root DIR (IMAGE_WORKER_ROOT)";
            Check::problem("images", ConfigError::Argument { what, hint })
        }
        None => Check::note("images", "the current directory is in no checkout, so that there are none to check"),
    }
}

/// Looks at a checkout; also gives the image that is named.
pub(super) fn checks(
    place: &ImagesDir,
    image: Option<&str>,
    directory: &Path,
    scheme: HashScheme,
) -> (Option<NamedInTree>, Vec<Check>) {
    let root = place.checkout.root.as_deref().unwrap_or(directory);
    let mut checks = vec![git(root), taskgraph(place, root)];
    let tree = match Tree::open(place) {
        Ok(tree) => tree,
        Err(error @ TreeError::NoImagesRoot { .. }) if image.is_none() => {
            checks.push(Check::note("images", error.to_string()));
            return (None, checks);
        }
        Err(error) => {
            checks.push(Check::problem("images", error));
            return (None, checks);
        }
    };
    checks.push(kind(&tree));
    let named = match image.map(|typed| tree.named(typed, directory)).transpose() {
        Ok(named) => named,
        Err(error) => {
            checks.push(Check::problem("images", error));
            return (None, checks);
        }
    };
    let (named, of_images) = images(&tree, named, scheme);
    checks.extend(of_images);
    (named, checks)
}

/// What is wrong with the images, or with the named one, as `tree` finds it.
fn images(tree: &Tree, named: Option<ImageName>, scheme: HashScheme) -> (Option<NamedInTree>, Vec<Check>) {
    let report = tree.lint(scheme);
    let is_meant = |image: Option<&ImageName>| named.is_none() || image == named.as_ref();
    let problems: Vec<_> = report.problems.iter().filter(|problem| is_meant(problem.image.as_ref())).collect();
    let what = named.as_ref().map_or_else(|| report.images_dir.clone(), ToString::to_string);
    let mut checks = Vec::new();
    for problem in &problems {
        let (what, first) = (what.clone(), problem.message.clone());
        let error = CommandError::Problems { what, count: problems.len(), first };
        checks.push(Check::problem_of("images", &problem.message, error));
    }
    let found = named.as_ref().and_then(|name| report.images.iter().find(|image| image.name == *name));
    if problems.is_empty() {
        let message = match found.map(|image| (image.files, image.size, image.context_hash)) {
            Some((Some(files), Some(size), Some(hash))) => {
                format!("{what} has {} of {}, hash {hash}", counted(files, "file"), Bytes(size))
            }
            Some(_) => format!("{what} has no known problem, and its hash is not known here; see `image-worker tree`"),
            None => format!("{} in {what}, without a problem", counted(report.images.len(), "image")),
        };
        checks.push(Check::ok("images", message));
    }
    let hash = found.and_then(|image| image.hash);
    (named.map(|name| NamedInTree { name, hash }), checks)
}

fn kind(tree: &Tree) -> Check {
    let kinds: Vec<_> = tree.kinds().iter().map(|it| it.strip_prefix(tree.root()).unwrap_or(it)).collect();
    if kinds.is_empty() {
        return Check::note("kind", "there is no kind.yml: every image directory is an image");
    }
    let shown: Vec<_> = kinds.iter().map(|it| it.display().to_string()).collect();
    Check::ok("kind", format!("{} lists the images", shown.join(", ")))
}

fn git(root: &Path) -> Check {
    if !root.join(".git").exists() {
        return Check::note("git", format!("{} is no git checkout", root.display()));
    }
    let GitState { revision, branch, changed, untracked } = match GitState::read(root) {
        Ok(state) => state,
        Err(why) => return Check::warning("git", format!("{}: {why}", root.display())),
    };
    let revision = revision.as_deref().map_or("no commit", |it| it.get(..SHORT_REVISION).unwrap_or(it));
    let at = branch.map_or_else(|| revision.to_owned(), |branch| format!("{revision} of {branch}"));
    if changed + untracked == 0 {
        return Check::ok("git", format!("{at}, without changes"));
    }
    let changes = format!("{} changed, {untracked} not tracked", counted(changed, "file"));
    Check::note("git", format!("{at}, {changes}: CI has only what is committed"))
}

/// The taskgraph whose files `# %include-run-task` takes; only Dockerfiles with that line need it.
fn taskgraph(place: &ImagesDir, root: &Path) -> Check {
    let found = match place.checkout.taskgraph() {
        Ok(found) => found,
        Err(error @ RunTaskError::NotInstalled { .. }) => {
            return Check::note("taskgraph", format!("`# %include-run-task` {error}"));
        }
        Err(error) => return Check::warning("taskgraph", format!("`# %include-run-task` {error}")),
    };
    let version = found.version.as_deref().unwrap_or("of unknown version");
    let message = format!("{version} in {}", found.run_task.display());
    match Pinned::read(root).filter(|pinned| found.version.as_ref() != Some(&pinned.version)) {
        Some(Pinned { version, file }) => Check::warning(
            "taskgraph",
            format!(
                "{message}, and {file} pins {version}: hashes can differ; pip install taskcluster-taskgraph=={version}"
            ),
        ),
        None => Check::ok("taskgraph", message),
    }
}
