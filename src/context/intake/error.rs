//! Why a context was not taken, each case with whose fault it is, so that the exit code follows from the type.
//! The causes are sources; printing the chain is for `cli`.

use std::io;

use crate::context::safety::UnsafeEntry;
use crate::context::{ContextHash, ContextScheme, ImageName};

/// Whose fault it is that a context was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntakeFault {
    /// The context is not what was promised: another try gives the same answer.
    Context,
    /// Reading it failed on the way: another try can help.
    Source,
    /// Writing it failed, on this side.
    Output,
    /// What was asked for is not complete.
    Configuration,
}

/// Why a context was not taken.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The scheme `contents` hashes paths from the repository root, and nobody said where the image directory is.
    #[error(
        "the hash scheme `contents` needs the image's directory in the repository: set CONTEXT_PATH, for example to testing/docker/{image}"
    )]
    NeedsDirectory {
        /// The image whose directory is needed.
        image: ImageName,
    },
    /// The source reported an error of its own.
    #[error("reading the context failed after {bytes} bytes; another try can help")]
    Source {
        /// How many bytes had come, as sent.
        bytes: u64,
        /// What the source said.
        source: io::Error,
    },
    /// The verified bytes could not be passed on.
    #[error("cannot write the context")]
    Output {
        /// What the writer said.
        source: io::Error,
    },
    /// Something else than a tar, compressed with gzip or not.
    #[error(
        "the context is {looks}; expected a tar, compressed with gzip or not: is the URL or the artifact's name right?"
    )]
    NotATar {
        /// What it looks like.
        looks: &'static str,
    },
    /// The stream ended in the middle.
    #[error("the context is cut short: {what}; download or make it again")]
    Truncated {
        /// What ended too early.
        what: &'static str,
    },
    /// The gzip stream contradicts itself.
    #[error("the context's gzip stream is damaged; download or make it again")]
    Gzip {
        /// What the decoder said.
        source: io::Error,
    },
    /// Something stands behind the end, where readers differ in whether they look.
    #[error("the context has data {0}; make it again")]
    Trailing(&'static str),
    /// More bytes than allowed, packed or unpacked.
    #[error("the context has more than {limit} bytes; leave large files out of the image directory")]
    TooLarge {
        /// What was allowed.
        limit: u64,
    },
    /// A tar that its reader could not follow.
    #[error("the context is not a well-formed tar {}; make it again", whereabouts(.after.as_ref()))]
    Malformed {
        /// The entry before the damage, quoted.
        after: Option<String>,
        /// What the reader said.
        source: io::Error,
    },
    /// An entry that a context may not have.
    #[error("the context's entry {entry} {hazard}")]
    Refused {
        /// The entry's name, quoted.
        entry: String,
        /// What is wrong with it.
        hazard: UnsafeEntry,
    },
    /// No Dockerfile at the top.
    #[error("the context has no Dockerfile at its top; {}", if .nested.is_some() {
        "it has one in a directory with the image's name, as in 2015: set HASH_SCHEME=contents"
    } else {
        "is it the context of this image?"
    })]
    NoDockerfile {
        /// Where there is one instead: in the one top directory that 2015 contexts have.
        nested: Option<String>,
    },
    /// All is well with the context, but it is another one.
    #[error("the context's hash is {actual}, expected {expected} (scheme `{scheme}`, {bytes} bytes unpacked); {}", hint(*.instead))]
    Mismatch {
        /// The hash that was promised.
        expected: ContextHash,
        /// The hash of what came.
        actual: ContextHash,
        /// How `actual` was computed.
        scheme: ContextScheme,
        /// The size of the uncompressed tar.
        bytes: u64,
        /// The scheme that gives the expected hash.
        instead: Option<ContextScheme>,
    },
}

impl IntakeError {
    /// Whose fault it is.
    #[must_use]
    pub fn kind(&self) -> IntakeFault {
        match self {
            Self::NeedsDirectory { .. } => IntakeFault::Configuration,
            Self::Source { .. } => IntakeFault::Source,
            Self::Output { .. } => IntakeFault::Output,
            Self::NotATar { .. }
            | Self::Truncated { .. }
            | Self::Gzip { .. }
            | Self::Trailing(_)
            | Self::TooLarge { .. }
            | Self::Malformed { .. }
            | Self::Refused { .. }
            | Self::NoDockerfile { .. }
            | Self::Mismatch { .. } => IntakeFault::Context,
        }
    }

    /// Wraps the error for its way through code that only knows I/O errors.
    pub(super) fn into_io(self) -> io::Error {
        io::Error::other(self)
    }

    /// Unwraps what [`Self::into_io`] wrapped; any other error becomes what `otherwise` makes of it.
    pub(super) fn from_io(error: io::Error, otherwise: impl FnOnce(io::Error) -> Self) -> Self {
        error.downcast().unwrap_or_else(otherwise)
    }
}

fn whereabouts(after: Option<&String>) -> String {
    after.map_or_else(|| "at its beginning".to_owned(), |name| format!("after its entry {name}"))
}

fn hint(instead: Option<ContextScheme>) -> String {
    match instead {
        Some(scheme) => format!("the scheme `{scheme}` gives the expected hash: set HASH_SCHEME={scheme}"),
        None => "is it the context of another push, or of another image?".to_owned(),
    }
}
