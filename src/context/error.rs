//! Why an image directory gives no context; each message has the path and a hint.
//! The module `cli` maps the errors to exit codes.

use std::io;
use std::path::{Path, PathBuf};

use super::intake::IntakeError;
use super::run_task::RunTaskError;
use crate::dockerfile::preprocess::LineError;
use crate::report::Hint;

/// Why there is no context, or no hash.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The path does not exist, or is a file.
    #[error("{} is no directory{}", path.display(), Hint("name an image, or its directory"))]
    NoDirectory {
        /// The path.
        path: PathBuf,
    },
    /// The directory has no Dockerfile.
    #[error("{} has no Dockerfile{}", directory.display(), Hint("name a directory that has one"))]
    NoDockerfile {
        /// The directory.
        directory: PathBuf,
    },
    /// The scheme `contents` needs the path of the image directory in its repository.
    #[error(
        "{} is not inside the repository {}{}",
        directory.display(),
        root.display(),
        Hint("the scheme contents hashes paths from the repository's root")
    )]
    OutsideRepository {
        /// The image directory.
        directory: PathBuf,
        /// The root of the repository.
        root: PathBuf,
    },
    /// A line of the Dockerfile is invalid.
    #[error("{}, {problem}", path.display())]
    Dockerfile {
        /// The Dockerfile.
        path: PathBuf,
        /// The line, and what is wrong with it.
        problem: LineError,
    },
    /// `# %include-run-task` without a taskgraph.
    #[error("{}, line {line}: `# %include-run-task` {problem}", path.display())]
    RunTask {
        /// The Dockerfile.
        path: PathBuf,
        /// The line.
        line: usize,
        /// Why its files are not available.
        problem: RunTaskError,
    },
    /// The Dockerfile includes a file, but the root of the repository is unknown.
    #[error(
        "{}, line {line} has `# %include {include}`, a path from the repository's root, but the image directory is in no checkout{}",
        path.display(),
        Hint("give --root DIR")
    )]
    NoRoot {
        /// The Dockerfile.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The included path.
        include: String,
    },
    /// A task would refuse the files.
    #[error("{error} (context from {})", directory.display())]
    Refused {
        /// The image directory.
        directory: PathBuf,
        /// What is wrong, as `run` reports it.
        error: Box<IntakeError>,
    },
    /// A link whose target does not exist, or is the link itself.
    #[error("{} is a link that leads nowhere{}", path.display(), Hint("correct or remove it"))]
    DanglingLink {
        /// The link.
        path: PathBuf,
    },
    /// An entry that is not a regular file.
    #[error("{} is {kind}, and a context holds regular files only{}", path.display(), Hint("remove it"))]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// A file with setuid or setgid bits, which would make a program run as root.
    #[error(
        "{} is setuid or setgid, which a context must not hold{}",
        path.display(),
        Hint("clear it with `chmod ug-s`")
    )]
    SetId {
        /// The file.
        path: PathBuf,
    },
    /// A file that changed while it was read.
    #[error(
        "{} changed while it was read, it had {size} bytes before{}",
        path.display(),
        Hint("stop what writes to it")
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// Its size when it was found.
        size: u64,
    },
    /// A file or directory cannot be read.
    #[error("cannot read {}{}", path.display(), Hint("it must be there and readable"))]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        #[source]
        error: io::Error,
    },
    /// The tar cannot be written; the caller knows where to.
    #[error("cannot write the context")]
    Write(#[source] io::Error),
}

impl CollectError {
    pub(super) fn read(path: &Path, error: io::Error) -> Self {
        Self::Read { path: path.to_owned(), error }
    }
}
