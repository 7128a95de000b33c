//! Hashes: a sha256 as a value, the context hash, and the schemes that it is computed by.
//! Computing them is for `stream` and `context`.

use std::fmt;
use std::str::FromStr;

use super::NameError;

/// A sha256 digest, written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest that a finished sha256 hasher gives.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The sha256 of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = || NameError::new(text, "a sha256 digest", "expected 64 lower-case hex digits");
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(|d| matches!(d, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(error());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| error())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| error())?;
        }
        Ok(Self(bytes))
    }
}

/// The sha256 that names a context (contract, section 3), or what stands for it in the `.hash.` route.
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

/// How the hash of a context that comes from outside is verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContextScheme {
    /// As [`HashScheme::Tar`].
    #[default]
    Tar,
    /// sha256 of the packed file: taskgraph before version 12. It can be verified, but only that taskgraph, with its own
    /// zlib, makes the same bytes again.
    Gz,
    /// As [`HashScheme::Contents`].
    Contents,
}

impl ContextScheme {
    /// The scheme, where the hash can be computed from an image directory.
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

impl fmt::Display for ContextScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tar => "tar",
            Self::Gz => "gz",
            Self::Contents => "contents",
        })
    }
}

impl FromStr for ContextScheme {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            "tar" => Ok(Self::Tar),
            "gz" => Ok(Self::Gz),
            "contents" => Ok(Self::Contents),
            _ => Err(NameError::new(text, "a hash scheme", "expected `tar`, `gz` or `contents`")),
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
    use crate::names::accepts;

    #[test]
    fn digests() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), hex);
        assert_eq!(hex.parse::<Digest>(), Ok(Digest::of(b"")));
        accepts::<ContextHash>(&[hex], &["", &hex[1..], &hex.to_uppercase(), &hex.replace('e', "g"), "é"]);
    }
}
