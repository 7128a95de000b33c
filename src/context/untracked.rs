//! Files of a context that git does not track: the hash has them in it, and no other checkout has them. Which files a
//! context has is `collect`'s word.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;

use tracing::warn;

/// How many files a warning names.
const NAMED: usize = 5;

/// With more directories than this, git lists the whole checkout: command lines have a limit.
const MOST_DIRECTORIES: usize = 100;

/// Those of the files that git does not track, by their paths from the checkout's root; none where `directory` is in no
/// checkout of git's. The error is why git does not say.
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

/// Names untracked files in one warning, where there are any. Why git does not say is told once.
pub(super) fn warn_of(untracked: &Result<BTreeSet<PathBuf>, String>) {
    static TOLD: Once = Once::new();
    let untracked = match untracked {
        Ok(untracked) if untracked.is_empty() => return,
        Ok(untracked) => untracked,
        Err(why) => {
            TOLD.call_once(|| {
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
        "{} {files} of the context {are} not tracked by git, so that the hash is another one in CI: {}{more}; add or remove what is not meant",
        untracked.len(),
        named.join(", ")
    );
}

/// The files' paths from the checkout's root, as git has them: not through links to directories.
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

/// What git tracks of the files' directories.
fn tracked(checkout: &Path, files: &BTreeSet<PathBuf>) -> Result<BTreeSet<PathBuf>, String> {
    let mut directories: BTreeSet<_> = files.iter().filter_map(|file| file.parent()).collect();
    if directories.len() > MOST_DIRECTORIES || directories.contains(Path::new("")) {
        directories = BTreeSet::from([Path::new(".")]);
    }
    let mut git = Command::new("git");
    // A checkout's own configuration can have git start programs.
    git.args(["--literal-pathspecs", "-c", "core.fsmonitor=false", "ls-files", "-z", "--recurse-submodules", "--"]);
    git.args(directories).current_dir(checkout).stdin(Stdio::null());
    // Of another repository, where the program is started by a hook.
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        git.env_remove(variable);
    }
    // Its words are told.
    git.env("LC_ALL", "C");
    match git.output() {
        Ok(output) if output.status.success() => {
            let paths = output.stdout.split(|byte| *byte == 0).filter(|path| !path.is_empty());
            Ok(paths.map(|path| PathBuf::from(OsStr::from_bytes(path))).collect())
        }
        Ok(output) => {
            let words = String::from_utf8_lossy(&output.stderr);
            // Behind the first line comes advice.
            let first = words.lines().next().unwrap_or("it says nothing").trim_start_matches("fatal: ");
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
        // Through a link, as some trees have image directories.
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
