//! The state of a git checkout: its revision, and whether it has what CI would not have.

use std::path::Path;
use std::process::{Command, Stdio};

/// The state of a git checkout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GitState {
    /// The commit, in full; absent before the first.
    pub revision: Option<String>,
    /// The branch, if one is checked out.
    pub branch: Option<String>,
    /// How many tracked files differ from the commit.
    pub changed: usize,
    /// How many files and directories git does not track.
    pub untracked: usize,
}

impl GitState {
    /// The state of the checkout at `root`. The error is the reason why git fails.
    pub fn read(root: &Path) -> Result<Self, String> {
        let mut git = Command::new("git");
        // Without the locks it writes nothing. The checkout's and its submodules' own configuration can make git start programs.
        git.args(["--no-optional-locks", "-c", "core.fsmonitor=false", "status", "--porcelain=v2", "--branch", "-z"]);
        git.args(["--ignore-submodules=all", "--untracked-files=normal"]).current_dir(root).stdin(Stdio::null());
        // A git hook that starts this program sets them for another repository.
        for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
            git.env_remove(variable);
        }
        let output = git.env("LC_ALL", "C").output().map_err(|error| format!("git cannot be run: {error}"))?;
        if !output.status.success() {
            let printed = String::from_utf8_lossy(&output.stderr);
            // The lines after the first one are advice.
            return Err(printed.lines().next().unwrap_or("git says nothing").trim_start_matches("fatal: ").to_owned());
        }
        Ok(Self::parse(&String::from_utf8_lossy(&output.stdout)))
    }

    fn parse(status: &str) -> Self {
        let mut state = Self::default();
        let mut entries = status.split('\0');
        while let Some(entry) = entries.next() {
            match entry.split_once(' ') {
                Some(("#", header)) => match header.split_once(' ') {
                    Some(("branch.oid", oid)) if oid != "(initial)" => state.revision = Some(oid.to_owned()),
                    Some(("branch.head", name)) if name != "(detached)" => state.branch = Some(name.to_owned()),
                    _ => {}
                },
                Some(("1" | "u", _)) => state.changed += 1,
                Some(("2", _)) => {
                    state.changed += 1;
                    // The old name of a renamed file.
                    entries.next();
                }
                Some(("?", _)) => state.untracked += 1,
                _ => {}
            }
        }
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_counted_apart_from_untracked_files() {
        let top = tempfile::tempdir().unwrap();
        let git = |arguments: &[&str]| {
            let who = ["-c", "user.name=x", "-c", "user.email=x@example.com"];
            let git = Command::new("git").args(who).args(arguments).current_dir(top.path()).status();
            assert!(git.unwrap().success(), "git {arguments:?}");
        };
        assert!(GitState::read(top.path()).is_err());
        git(&["init", "--quiet", "--initial-branch", "main"]);
        let state = GitState::read(top.path()).unwrap();
        assert_eq!(state, GitState { branch: Some("main".to_owned()), ..GitState::default() });
        for file in ["? a", "b", "c"] {
            std::fs::write(top.path().join(file), file.repeat(100)).unwrap();
        }
        git(&["add", "."]);
        git(&["commit", "--quiet", "--message", "x"]);
        let revision = std::fs::read_to_string(top.path().join(".git/refs/heads/main")).unwrap().trim().to_owned();
        let clean = GitState { revision: Some(revision), branch: Some("main".to_owned()), ..GitState::default() };
        assert_eq!(GitState::read(top.path()).unwrap(), clean);
        git(&["mv", "? a", "1 a"]);
        std::fs::write(top.path().join("b"), "changed").unwrap();
        std::fs::write(top.path().join("? new"), "").unwrap();
        git(&["checkout", "--quiet", "--detach"]);
        let expected = GitState { branch: None, changed: 2, untracked: 1, ..clean };
        assert_eq!(GitState::read(top.path()).unwrap(), expected);
    }
}
