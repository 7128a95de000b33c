//! Why a context was refused or not read, and whose fault it is: the exit code follows from the error type.
//! The causes are sources; the module `cli` prints the chain.

use std::io;

use crate::context::safety::UnsafeEntry;
use crate::context::{ContextHash, ContextScheme, ImageName};
use crate::report::Hint;

/// Whose fault it is that a context was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntakeFault {
    /// The context is not the expected one: another attempt gives the same result.
    Context,
    /// Reading it failed: another attempt can help.
    Source,
    /// Writing it failed, on this machine.
    Output,
    /// The configuration is incomplete.
    Configuration,
}

/// Why a context was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The scheme `contents` hashes paths from the repository root, but the path of the image directory is not set.
    #[error(
        "the hash scheme `contents` needs the image's directory in the repository{}",
        Hint(format_args!("set CONTEXT_PATH, for example to testing/docker/{image}"))
    )]
    NeedsDirectory {
        /// The image whose directory is needed.
        image: ImageName,
    },
    /// The source reported an error.
    #[error("reading the context failed after {bytes} bytes{}", Hint("another try can help"))]
    Source {
        /// How many bytes were read, as sent.
        bytes: u64,
        /// The error of the source.
        source: io::Error,
    },
    /// The verified bytes could not be written.
    #[error("cannot write the context")]
    Output {
        /// The error of the writer.
        source: io::Error,
    },
    /// The data is not a tar, compressed with gzip or not.
    #[error(
        "the context is {looks}{}",
        Hint("expected a tar, compressed with gzip or not: is the URL or the artifact's name right?")
    )]
    NotATar {
        /// What it looks like.
        looks: &'static str,
    },
    /// The stream ended too early.
    #[error("the context is truncated at {bytes} bytes: {what}{}", Hint("download or make it again"))]
    Truncated {
        /// How many bytes there are, as sent.
        bytes: u64,
        /// What ended too early.
        what: &'static str,
    },
    /// The gzip stream is damaged.
    #[error("the context's gzip stream is damaged{}", Hint("download or make it again"))]
    Gzip {
        /// The error of the decoder.
        source: io::Error,
    },
    /// There is data after the end; readers differ in whether they read it.
    #[error("the context has data {}{}", .0, Hint("make it again"))]
    Trailing(&'static str),
    /// More bytes than allowed, compressed or uncompressed.
    #[error("the context has more than {limit} bytes{}", Hint("leave large files out of the image directory"))]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// The tar reader failed.
    #[error("the context is not a well-formed tar {}{}", whereabouts(.after.as_ref()), Hint("make it again"))]
    Malformed {
        /// The entry before the damage, quoted.
        after: Option<String>,
        /// The error of the reader.
        source: io::Error,
    },
    /// An entry that a context must not contain.
    #[error("the context's entry {entry} {hazard}")]
    Refused {
        /// The entry's name, quoted.
        entry: String,
        /// What is wrong with it.
        hazard: UnsafeEntry,
    },
    /// There is no Dockerfile at the top.
    #[error(
        "the context has no Dockerfile at its top{}",
        Hint(if .nested.is_some() { "it has one in a directory with the image's name, as in 2015: set HASH_SCHEME=contents" } else { "is it the context of this image?" })
    )]
    NoDockerfile {
        /// Where there is one instead: in the single top directory that 2015 contexts have.
        nested: Option<String>,
    },
    /// The context is valid, but its hash is not the expected one.
    #[error(
        "the context's hash is {actual}, expected {expected} (scheme `{scheme}`, {bytes} bytes unpacked){}",
        Hint(hint(*.instead))
    )]
    Mismatch {
        /// The expected hash.
        expected: ContextHash,
        /// The hash of the received context.
        actual: ContextHash,
        /// How `actual` was computed.
        scheme: ContextScheme,
        /// The size of the uncompressed tar.
        bytes: u64,
        /// The scheme that gives the expected hash, if there is one.
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

    /// Something ends too early. [`Self::at`] adds where.
    pub(super) fn truncated(what: &'static str) -> Self {
        Self::Truncated { bytes: 0, what }
    }

    /// The error after so many bytes of the source.
    pub(super) fn at(self, bytes: u64) -> Self {
        match self {
            Self::Truncated { what, .. } => Self::Truncated { bytes, what },
            error => error,
        }
    }

    /// Wraps the error in an I/O error, to pass it through code that only knows I/O errors.
    pub(super) fn into_io(self) -> io::Error {
        io::Error::other(self)
    }

    /// Unwraps what [`Self::into_io`] has wrapped; converts any other error with `otherwise`.
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
