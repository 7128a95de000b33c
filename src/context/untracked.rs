//! Finds files of a context that git does not track: they are part of the hash, but other checkouts do not have them. The module
//! `collect` selects the files of a context.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;

use tracing::warn;

/// How many files a warning lists.
const NAMED: usize = 5;

/// With more directories than this, git lists the whole checkout, because the length of command lines is limited.
const MOST_DIRECTORIES: usize = 100;

/// The files that git does not track, by their paths from the checkout's root; empty if `directory` is not in a git checkout.
/// The error is the reason why git fails.
pub(super) fn untracked<'p>(
    directory: &Path,
    files: impl Iterator<Item = &'p Path>,
) -> Result<BTreeSet<PathBuf>, String> {
    let checkout = directory.canonicalize().ok().and_then(|directory| {
        let has_git = |above: &&Path| above.join(".git").exists();
        directory.ancestors().find(has_git).map(Path::to_owned)
    });
    let Some(checkout) = checkout else { return Ok(BTreeSet::new()) };
    let files = real_paths(files, &checkout);
    let tracked = tracked(&checkout, &files)?;
    Ok(files.difference(&tracked).cloned().collect())
}

/// Logs one warning that lists the untracked files, if there are any. An error of git is logged only once.
pub(super) fn warn_of(untracked: &Result<BTreeSet<PathBuf>, String>) {
    static LOGGED: Once = Once::new();
    let untracked = match untracked {
        Ok(untracked) if untracked.is_empty() => return,
        Ok(untracked) => untracked,
        Err(why) => {
            LOGGED.call_once(|| {
                warn!(
                    "cannot tell whether the context has files that git does not track, which CI would not have: {why}"
                );
            });
            return;
        }
    };
    let named: Vec<_> = untracked.iter().take(NAMED).map(|path| format!("{:?}", path.to_string_lossy())).collect();
    let more = match untracked.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let (files, are) = if untracked.len() == 1 { ("file", "is") } else { ("files", "are") };
    warn!(
        "{} {files} of the context {are} not tracked by git, so that the hash is another one in CI: {}{more}; `git add` them, or remove what is not meant",
        untracked.len(),
        named.join(", ")
    );
}

/// The files' paths from the checkout's root, as git lists them: without links to directories.
fn real_paths<'p>(files: impl Iterator<Item = &'p Path>, checkout: &Path) -> BTreeSet<PathBuf> {
    let mut directories: BTreeMap<&Path, Option<PathBuf>> = BTreeMap::new();
    files
        .filter_map(|file| {
            let (parent, name) = (file.parent()?, file.file_name()?);
            let real = directories.entry(parent).or_insert_with(|| {
                let real = parent.canonicalize().ok()?;
                real.strip_prefix(checkout).ok().map(Path::to_owned)
            });
            real.as_ref().map(|real| real.join(name))
        })
        .collect()
}

/// The files that git tracks in the files' directories.
fn tracked(checkout: &Path, files: &BTreeSet<PathBuf>) -> Result<BTreeSet<PathBuf>, String> {
    let mut directories: BTreeSet<_> = files.iter().filter_map(|file| file.parent()).collect();
    if directories.len() > MOST_DIRECTORIES || directories.contains(Path::new("")) {
        directories = BTreeSet::from([Path::new(".")]);
    }
    let mut git = Command::new("git");
    // The checkout's own configuration can make git start programs.
    git.args(["--literal-pathspecs", "-c", "core.fsmonitor=false", "ls-files", "-z", "--recurse-submodules", "--"]);
    git.args(directories).current_dir(checkout).stdin(Stdio::null());
    // A git hook that starts this program sets them for another repository.
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        git.env_remove(variable);
    }
    // Its messages are logged.
    git.env("LC_ALL", "C");
    match git.output() {
        Ok(output) if output.status.success() => {
            let paths = output.stdout.split(|byte| *byte == 0).filter(|path| !path.is_empty());
            Ok(paths.map(|path| PathBuf::from(OsStr::from_bytes(path))).collect())
        }
        Ok(output) => {
            let printed = String::from_utf8_lossy(&output.stderr);
            // The lines after the first one are advice.
            let first = printed.lines().next().unwrap_or("it says nothing").trim_start_matches("fatal: ");
            Err(format!("git in {}: {first}", checkout.display()))
        }
        Err(error) => Err(format!("git cannot be run: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn git(checkout: &Path, arguments: &[&str]) -> bool {
        let done = Command::new("git").current_dir(checkout).args(arguments).output();
        done.is_ok_and(|output| output.status.success())
    }

    #[test]
    fn what_git_does_not_track_is_named() {
        let top = tempfile::tempdir().unwrap();
        let at = |name: &str| top.path().join(name);
        let all =
            ["docker/i/Dockerfile", "docker/i/new", "docker/i/a/old", "docker/i/ignored.pyc", "tools/x", "tools/y"];
        for file in all {
            fs::create_dir_all(at(file).parent().unwrap()).unwrap();
            fs::write(at(file), "").unwrap();
        }
        let files: Vec<_> = all.iter().map(|file| at(file)).collect();
        let untracked = |directory: &str| untracked(&at(directory), files.iter().map(PathBuf::as_path));
        assert_eq!(untracked("docker/i"), Ok(BTreeSet::new()), "no checkout");
        if !git(top.path(), &["init", "--quiet"]) {
            return;
        }
        fs::write(at(".gitignore"), "*.pyc\n").unwrap();
        assert!(git(top.path(), &["add", "docker/i/Dockerfile", "docker/i/a", "tools/x"]));
        let expected = ["docker/i/ignored.pyc", "docker/i/new", "tools/y"].map(PathBuf::from);
        assert_eq!(untracked("docker/i"), Ok(expected.clone().into()));
        // Some trees have image directories behind a link.
        symlink("docker", at("link")).unwrap();
        let linked: Vec<_> = all.iter().map(|file| at(&file.replace("docker/", "link/"))).collect();
        let through = super::untracked(&at("link/i"), linked.iter().map(PathBuf::as_path));
        assert_eq!(through, Ok(expected.into()));
        fs::write(at(".git/HEAD"), "damaged").unwrap();
        let expected = format!("git in {}: not a git repository", top.path().canonicalize().unwrap().display());
        let why = untracked("docker/i").unwrap_err();
        assert!(why.starts_with(&expected), "{why}");
    }
}
