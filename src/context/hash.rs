//! The context hash and its schemes. The modules `collect` and `contents` compute it.

use std::fmt;
use std::str::FromStr;

use crate::net::{Digest, NameError};
use crate::report::{keywords, text_serde};

text_serde!(ContextHash);
text_serde!(HashScheme);

/// The sha256 that identifies a context, in one of the schemes below, or the value that replaces it in the `.hash.` route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContextHash(pub Digest);

impl fmt::Display for ContextHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ContextHash {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        text.parse()
            .map(Self)
            .map_err(|_| NameError::new(text, "a context hash", "expected 64 lower-case hex digits (a sha256)"))
    }
}

/// How the hash of an image directory's context is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HashScheme {
    /// sha256 of the uncompressed, deterministic context tar: taskgraph since version 12.
    #[default]
    Tar,
    /// sha256 over the sorted lines `{file sha256}\t/{path from the repository root}\n`: Gecko in 2015.
    Contents,
}

keywords! {
    /// How the hash of a context from outside is verified.
    #[derive(Default)]
    pub enum ContextScheme, "a hash scheme" {
        /// As [`HashScheme::Tar`].
        #[default]
        Tar = "tar",
        /// sha256 of the compressed file: taskgraph before version 12. It can be verified, but only the same taskgraph, with its
        /// own zlib, produces the same bytes again.
        Gz = "gz",
        /// As [`HashScheme::Contents`].
        Contents = "contents",
    }
}

impl ContextScheme {
    /// The corresponding scheme for image directories; `None` if the hash cannot be computed from an image directory.
    #[must_use]
    pub fn of_directory(self) -> Option<HashScheme> {
        match self {
            Self::Tar => Some(HashScheme::Tar),
            Self::Gz => None,
            Self::Contents => Some(HashScheme::Contents),
        }
    }
}

impl From<HashScheme> for ContextScheme {
    fn from(scheme: HashScheme) -> Self {
        match scheme {
            HashScheme::Tar => Self::Tar,
            HashScheme::Contents => Self::Contents,
        }
    }
}

impl fmt::Display for HashScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ContextScheme::from(*self).fmt(f)
    }
}

impl FromStr for HashScheme {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let rule = match text {
            "tar" => return Ok(Self::Tar),
            "contents" => return Ok(Self::Contents),
            "gz" => {
                "only taskgraph before version 12 can compute it, and `run` and `replay` verify it; expected `tar` or `contents`"
            }
            _ => "expected `tar` or `contents`",
        };
        Err(NameError::new(text, "a hash scheme for an image directory", rule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::accepts;

    #[test]
    fn context_hashes() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        accepts::<ContextHash>(&[hex], &["", &hex[1..], &hex.to_uppercase(), &hex.replace('e', "g"), "é"]);
    }
}
