//! A sha256 as a value, and the id of an image, which is one. Computing it of a stream is for `stream`.

use std::fmt;
use std::str::FromStr;

use super::NameError;
use crate::report::text_serde;

text_serde!(Digest);
text_serde!(ImageId);

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

    /// `sha256:HEX`, as engines and the documents of images have it.
    #[must_use]
    pub fn prefixed(self) -> String {
        format!("{PREFIX}{self}")
    }

    /// The digest of `sha256:HEX`; none of another algorithm, or without one.
    #[must_use]
    pub fn from_prefixed(text: &str) -> Option<Self> {
        text.strip_prefix(PREFIX)?.parse().ok()
    }
}

/// The sha256 of some data, and how long they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizedDigest {
    /// The sha256.
    pub sha256: Digest,
    /// The length in bytes.
    pub size: u64,
}

/// The algorithm, as it stands before a digest.
const PREFIX: &str = "sha256:";

/// An image's id, the digest of its configuration; with containerd's image store, of a manifest or index that leads to it.
/// Written `sha256:HEX`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId(Digest);

impl ImageId {
    /// The id that is this digest.
    #[must_use]
    pub fn new(digest: Digest) -> Self {
        Self(digest)
    }

    /// The id of the image with this configuration.
    #[must_use]
    pub fn of(config: &[u8]) -> Self {
        Self(Digest::of(config))
    }

    /// The id in an answer of an engine: Podman leaves the algorithm out in some.
    #[must_use]
    pub fn in_answer(text: &str) -> Option<Self> {
        text.parse().ok().or_else(|| text.parse().ok().map(Self))
    }

    /// The digest, which is written without the algorithm.
    #[must_use]
    pub fn hex(self) -> Digest {
        self.0
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0)
    }
}

impl fmt::Debug for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ImageId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = || NameError::new(text, "an image's id", "expected sha256: and 64 lower-case hex digits");
        Digest::from_prefixed(text).map(Self).ok_or_else(error)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::accepts;

    #[test]
    fn digests() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), hex);
        assert_eq!(hex.parse::<Digest>(), Ok(Digest::of(b"")));
        accepts::<Digest>(&[hex], &["", &hex[1..], &hex.to_uppercase(), &hex.replace('e', "g"), "é"]);
        let prefixed = format!("sha256:{hex}");
        assert_eq!(Digest::of(b"").prefixed(), prefixed);
        assert_eq!(Digest::from_prefixed(&prefixed), Some(Digest::of(b"")));
        for text in [hex, "sha256:", "sha512:00", &prefixed.to_uppercase()] {
            assert_eq!(Digest::from_prefixed(text), None, "{text}");
        }
    }

    #[test]
    fn ids_of_images_have_their_algorithm() {
        let hex = Digest::of(b"").to_string();
        let id: ImageId = format!("sha256:{hex}").parse().unwrap();
        assert_eq!(
            (id, id.to_string(), id.hex().to_string()),
            (ImageId::of(b""), format!("sha256:{hex}"), hex.clone())
        );
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"sha256:{hex}\""));
        accepts::<ImageId>(&[&id.to_string()], &["", &hex, "sha256:00", &format!("sha512:{hex}")]);
        for text in [&hex, &id.to_string()] {
            assert_eq!(ImageId::in_answer(text), Some(id));
        }
        assert_eq!(ImageId::in_answer("sha256:00"), None);
    }
}
