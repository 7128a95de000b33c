//! Runs git in a checkout, without whatever the checkout's configuration or a hook around this program would make of it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// git in one checkout.
#[derive(Debug)]
pub(super) struct Git {
    directory: PathBuf,
    /// An index in place of the checkout's own.
    index: Option<PathBuf>,
}

impl Git {
    /// git in the checkout that has this directory.
    pub(super) fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), index: None }
    }

    /// The same with an index of its own: the checkout's stays as it is.
    pub(super) fn with_index(self, index: PathBuf) -> Self {
        Self { index: Some(index), ..self }
    }

    /// What git prints. The error is its first line about why it fails.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<Vec<u8>, String> {
        self.run_with(arguments, &[])
    }

    /// The same, with these bytes as its input.
    pub(super) fn run_with(&self, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, String> {
        let output = self.output(arguments, input).map_err(|error| format!("git cannot be run: {error}"))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let printed = String::from_utf8_lossy(&output.stderr);
        // The lines after the first one are advice.
        Err(printed.lines().next().unwrap_or("git says nothing").trim_start_matches("fatal: ").to_owned())
    }

    fn output(&self, arguments: &[&str], input: &[u8]) -> std::io::Result<Output> {
        let mut git = Command::new("git");
        // Without the locks it writes nothing. The checkout's and its submodules' own configuration can make git start programs.
        git.args(["--no-optional-locks", "--literal-pathspecs", "-c", "core.fsmonitor=false"]);
        git.args(["-c", "core.hooksPath=/dev/null"]).args(arguments).current_dir(&self.directory);
        // A git hook that starts this program sets them for another repository.
        for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
            git.env_remove(variable);
        }
        git.envs(self.index.iter().map(|index| ("GIT_INDEX_FILE", index))).env("LC_ALL", "C");
        let mut child = git.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take();
        std::thread::scope(|threads| {
            // On a thread of its own: git prints while it reads.
            threads.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
            child.wait_with_output()
        })
    }
}
