//! The directories and files that a context is made from: a file that is written into one of them, or to the target of a link
//! in it, becomes a part of the context. The module `config` refuses such output paths.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::iter::once;
use std::path::{Path, PathBuf};

use super::checkout::Checkout;
use super::choose::{PYTHON_CACHE, dockerfile, include_path};
use super::collect::{LocatedDirectory, locate};
use super::run_task::RUN_TASK_FILES;
use super::walk::files_below;
use crate::context::HashScheme;

/// What the context of an image is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextTrees {
    /// The image directory.
    directory: PathBuf,
    /// The directories and files that its Dockerfile includes.
    included: Vec<PathBuf>,
    /// The name of the directories in them that are left out.
    skipped: Option<&'static OsStr>,
}

impl ContextTrees {
    /// The trees of `directory`, a path from the root of the repository. It ignores errors in the Dockerfile: they are reported
    /// when the context is made.
    #[must_use]
    pub fn of(checkout: &Checkout, directory: &Path, args: &BTreeMap<String, String>, scheme: HashScheme) -> Self {
        let relative = |_| LocatedDirectory { root: None, image_directory: directory.to_owned() };
        let LocatedDirectory { root, image_directory: directory } =
            locate(checkout, directory).unwrap_or_else(relative);
        let dockerfile = match scheme {
            HashScheme::Tar => dockerfile(&directory, args).ok(),
            HashScheme::Contents => None,
        };
        let skipped = match scheme {
            HashScheme::Tar => Some(OsStr::new(PYTHON_CACHE)),
            HashScheme::Contents => None,
        };
        let mut included = Vec::new();
        if let Some(dockerfile) = dockerfile {
            let place = |path: &str| include_path(root.as_deref()?, path).ok();
            included.extend(dockerfile.includes.iter().filter_map(|include| place(&include.path)));
            let taskgraph = dockerfile.run_task.and_then(|_| checkout.at(root).taskgraph().ok().cloned());
            included.extend(taskgraph.iter().flat_map(|it| RUN_TASK_FILES.map(|name| it.run_task.join(name))));
        }
        Self { directory, included, skipped }
    }

    /// Where `path` is in these trees, in words; `None` if it is outside the context.
    #[must_use]
    pub fn around(&self, path: &Path) -> Option<String> {
        let (path, directory) = (real(path), self.directory.display());
        if path.starts_with(real(&self.directory)) {
            return Some(format!("inside the image directory {directory}"));
        }
        if let Some(included) = self.included.iter().find(|included| path.starts_with(real(included))) {
            return Some(format!("inside {}, which the Dockerfile in {directory} includes", included.display()));
        }
        let link = self.link_to(&path)?;
        Some(format!("where the link {} in the context leads", link.display()))
    }

    /// The link in the context that leads to a file: the context contains the file under the link's name.
    fn link_to(&self, file: &Path) -> Option<PathBuf> {
        // Making the context refuses a link to nothing, and does not follow a link to a directory.
        if !file.is_file() {
            return None;
        }
        // It also refuses directories that cannot be read.
        let below = |top: &PathBuf| files_below(top, self.skipped).unwrap_or_default();
        let mut found = once(&self.directory).chain(&self.included).flat_map(below);
        found.find(|found| found.source.is_symlink() && real(&found.source) == file).map(|found| found.source)
    }
}

/// The path with links resolved, as far as it exists.
fn real(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = absolute.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    match there {
        Some((above, real)) => match absolute.strip_prefix(above) {
            Ok(rest) if rest != Path::new("") => real.join(rest),
            // Joining an empty path would add a slash at the end, which only directories may have.
            Ok(_) | Err(_) => real,
        },
        None => absolute,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_written_stays_out_of_all_that_goes_in() {
        let top = tempfile::tempdir().unwrap();
        let at = |name: &str| top.path().join(name);
        let taskgraph = RUN_TASK_FILES.map(|name| format!("taskgraph/{name}"));
        let files = ["tools/a/x", "tools/b", "elsewhere/x"].into_iter().chain(taskgraph.iter().map(String::as_str));
        for file in files {
            fs::create_dir_all(at(file).parent().unwrap()).unwrap();
            fs::write(at(file), "").unwrap();
        }
        fs::create_dir_all(at("docker/i")).unwrap();
        let dockerfile =
            "FROM x\n# %include tools/a\n# %include tools/b\n# %include linked\n# %include none\n# %include-run-task\n";
        fs::write(at("docker/i/Dockerfile"), dockerfile).unwrap();
        symlink("docker", at("link")).unwrap();
        symlink("elsewhere", at("linked")).unwrap();
        let checkout = Checkout::new(Some(top.path().to_owned()), Some(at("taskgraph")), None);
        let around = |scheme, written: &str| {
            ContextTrees::of(&checkout, Path::new("docker/i"), &BTreeMap::new(), scheme).around(&at(written))
        };
        for (written, inside) in [
            ("docker/i", "docker/i"),
            ("docker/i/out/new", "docker/i"),
            ("link/i/out", "docker/i"),
            ("tools/a/out/new", "tools/a"),
            ("tools/b", "tools/b"),
            ("elsewhere/out", "linked"),
            ("none/out", "none"),
            ("taskgraph/hgrc", "taskgraph/hgrc"),
            ("docker/i-out", ""),
            ("docker/out", ""),
            ("tools/out", ""),
            ("taskgraph/out", ""),
            ("out", ""),
        ] {
            let found = around(HashScheme::Tar, written);
            let expected = match inside {
                "" => None,
                "docker/i" => Some(format!("inside the image directory {}", at(inside).display())),
                included => {
                    let (included, directory) = (at(included), at("docker/i"));
                    Some(format!(
                        "inside {}, which the Dockerfile in {} includes",
                        included.display(),
                        directory.display()
                    ))
                }
            };
            assert_eq!(found, expected, "{written}");
            // The scheme `contents` has no includes.
            let is_in_directory = inside == "docker/i";
            assert_eq!(around(HashScheme::Contents, written).is_some(), is_in_directory, "{written}");
        }
    }
    #[test]
    fn what_is_written_stays_out_of_what_links_lead_to() {
        let top = tempfile::tempdir().unwrap();
        let at = |name: &str| top.path().join(name);
        for directory in ["docker/i/__pycache__", "tools", "directory"] {
            fs::create_dir_all(at(directory)).unwrap();
        }
        for (target, link) in [
            ("own", "docker/i/a"),
            ("included", "tools/b"),
            ("cached", "docker/i/__pycache__/c"),
            ("directory/file", "docker/i/d"),
            ("directory/other", "docker/i/__pycache__/e"),
        ] {
            fs::write(at(target), "").unwrap();
            symlink(at(target), at(link)).unwrap();
        }
        symlink(at("own"), at("chain")).unwrap();
        symlink(at("directory"), at("docker/i/to-directory")).unwrap();
        symlink(at("nothing"), at("docker/i/to-nothing")).unwrap();
        fs::write(at("docker/i/Dockerfile"), "FROM x\n# %include tools\n").unwrap();
        let checkout = Checkout::new(Some(top.path().to_owned()), None, None);
        for (written, by_tar, by_contents) in [
            ("own", Some("docker/i/a"), Some("docker/i/a")),
            ("chain", Some("docker/i/a"), Some("docker/i/a")),
            ("included", Some("tools/b"), None),
            ("cached", None, Some("docker/i/__pycache__/c")),
            ("directory/file", Some("docker/i/d"), Some("docker/i/d")),
            ("directory/new", None, None),
            ("directory", None, None),
            ("nothing", None, None),
        ] {
            for (scheme, link) in [(HashScheme::Tar, by_tar), (HashScheme::Contents, by_contents)] {
                let trees = ContextTrees::of(&checkout, Path::new("docker/i"), &BTreeMap::new(), scheme);
                let expected = link.map(|link| format!("where the link {} in the context leads", at(link).display()));
                assert_eq!(trees.around(&at(written)), expected, "{written}, {scheme}");
            }
        }
    }
}
