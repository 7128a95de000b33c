//! The state of a git checkout: its revision, and whether it has what CI would not have.

use std::path::Path;

use super::git::Git;

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
        let arguments =
            ["status", "--porcelain=v2", "--branch", "-z", "--ignore-submodules=all", "--untracked-files=normal"];
        Ok(Self::parse(&String::from_utf8_lossy(&Git::at(root).run(&arguments)?)))
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
    use std::process::Command;

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
