//! An image directory's own `build.sh`, run instead of a build by the engine. Its output becomes the build's output. Callers look
//! in the engine whether it made the image.

use std::cell::RefCell;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use crate::engine::build_log::{BuildLog, LineBuffer};
use crate::report::{BuildEvent, Hint, StepEnd};

/// The block size for reading the output of a script.
const PIECE: usize = 8 * 1024;

/// A script is one step on the display.
const STEP: u32 = 1;

/// Why a script made no image.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// It could not be run.
    #[error(
        "cannot run {}{}",
        script.display(),
        Hint("it needs a first line like #!/bin/bash, or take its executable bit away")
    )]
    Run {
        /// The script.
        script: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It failed.
    #[error("{} failed: {status}{}", script.display(), Hint("its last words are above"))]
    Failed {
        /// The script.
        script: PathBuf,
        /// How it ended.
        status: ExitStatus,
    },
    /// It ended well, and there is no image.
    #[error(
        "{} ended well, but the engine has no {tag}{}",
        script.display(),
        Hint("the script must build the image that `-t` names")
    )]
    NoImage {
        /// The script.
        script: PathBuf,
        /// The image that it was to make.
        tag: String,
    },
}

/// The script of an image directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildScript {
    /// The file.
    pub path: PathBuf,
    /// Whether it can be run.
    pub is_executable: bool,
}

/// The script of an image directory, where it has one.
#[must_use]
pub fn find(directory: &Path) -> Option<BuildScript> {
    let path = directory.join("build.sh");
    let metadata = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
    Some(BuildScript { path, is_executable: metadata.permissions().mode() & 0o111 != 0 })
}

/// Whether a script makes the image of a directory.
#[must_use]
pub fn makes(directory: &Path) -> bool {
    find(directory).is_some_and(|script| script.is_executable)
}

/// Runs a script with `-t TAG`, in the directory of the image directories, like `./build.sh`.
pub async fn run(script: &Path, tag: &str, no_cache: bool, log: &mut BuildLog) -> Result<(), ScriptError> {
    let unusable = |source| ScriptError::Run { script: script.to_owned(), source };
    let parent = script.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
    let mut command = Command::new(script);
    command.args(["-t", tag]).args(no_cache.then_some("--no-cache")).current_dir(parent);
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().map_err(unusable)?;
    let (out, err, log) = (child.stdout.take(), child.stderr.take(), RefCell::new(log));
    log.borrow_mut().show(BuildEvent::Started { step: STEP, title: format!("{} -t {tag}", script.display()) });
    // Both at once: a script that fills one pipe would block while nothing reads it.
    let (status, (), ()) = tokio::join!(child.wait(), copy_to_log(out, &log), copy_to_log(err, &log));
    let status = status.map_err(unusable)?;
    let end = if status.success() { StepEnd::Done } else { StepEnd::Failed };
    log.borrow_mut().show(BuildEvent::Ended { step: STEP, end });
    if status.success() { Ok(()) } else { Err(ScriptError::Failed { script: script.to_owned(), status }) }
}

/// Logs the lines of a pipe.
async fn copy_to_log(pipe: Option<impl AsyncRead + Unpin>, log: &RefCell<&mut BuildLog>) {
    let Some(mut pipe) = pipe else { return };
    let (mut lines, mut piece) = (LineBuffer::default(), vec![0; PIECE]);
    // A pipe that cannot be read counts as ended; the exit status tells how the script ended.
    while let Ok(read @ 1..) = pipe.read(&mut piece).await {
        print(lines.piece(&piece[..read]), log);
    }
    print(lines.end(), log);
}

fn print(lines: impl IntoIterator<Item = String>, log: &RefCell<&mut BuildLog>) {
    for line in lines {
        log.borrow_mut().line(&line);
        log.borrow_mut().show(BuildEvent::Printed { step: STEP, line });
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn script(parent: &Path, text: &str) -> PathBuf {
        let directory = parent.join("image");
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("build.sh");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[tokio::test]
    async fn a_script_is_run_where_the_images_are() {
        let temp = tempfile::tempdir().unwrap();
        let path = script(temp.path(), "#!/bin/sh\necho \"$(pwd) $*\" | tee output >&2\n");
        assert_eq!(find(path.parent().unwrap()), Some(BuildScript { path: path.clone(), is_executable: true }));
        run(&path, "r/i:1", true, &mut BuildLog::for_people(None)).await.unwrap();
        let output = fs::read_to_string(temp.path().join("output")).unwrap();
        assert_eq!(output, format!("{} -t r/i:1 --no-cache\n", temp.path().canonicalize().unwrap().display()));
        run(&path, "r/i:1", false, &mut BuildLog::for_people(None)).await.unwrap();
        assert!(fs::read_to_string(temp.path().join("output")).unwrap().ends_with(" -t r/i:1\n"));
    }

    #[tokio::test]
    async fn what_a_script_prints_is_in_the_log_line_by_line() {
        let temp = tempfile::tempdir().unwrap();
        let path = script(temp.path(), "#!/bin/sh\nprintf '\\033[31mred\\033[0m\\nlast'\n");
        let file = temp.path().join("log");
        let mut log = BuildLog::create(file.clone(), None).unwrap();
        run(&path, "i:latest", false, &mut log).await.unwrap();
        log.finish().unwrap();
        assert_eq!(fs::read_to_string(file).unwrap(), "red\nlast\n");
    }

    #[tokio::test]
    async fn a_script_that_fails_says_how() {
        let temp = tempfile::tempdir().unwrap();
        let path = script(temp.path(), "#!/bin/sh\nexit 3\n");
        let failed = run(&path, "i:latest", false, &mut BuildLog::for_people(None)).await.unwrap_err().to_string();
        assert_eq!(failed, format!("{} failed: exit status: 3; its last words are above", path.display()));
        let path = script(temp.path(), "#!/none\n");
        let error = run(&path, "i:latest", false, &mut BuildLog::for_people(None)).await.unwrap_err();
        assert!(matches!(error, ScriptError::Run { .. }));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(find(path.parent().unwrap()), Some(BuildScript { path, is_executable: false }));
        assert_eq!(find(temp.path()), None);
    }
}
