//! Docker's grammar of image names: repositories, tags, and references that combine them. This is syntax only; registries give
//! names their meaning.

use std::sync::LazyLock;

use oci_client::Reference;
use regex::Regex;

use crate::net::checked_text;

/// Docker's grammar of tags.
#[must_use]
pub fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let (Some(first), 1..=128) = (text.bytes().next(), text.len()) else { return false };
    is_word(first) && text.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

/// Docker's grammar of names: a host or none, and a path.
#[must_use]
pub fn is_repository(text: &str) -> bool {
    static REPOSITORY: LazyLock<Regex> = LazyLock::new(|| {
        let label = "(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])";
        let host = format!(r"(?:{label}(?:\.{label})*|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?");
        let part = "[a-z0-9]+(?:(?:[.]|_|__|-+)[a-z0-9]+)*";
        Regex::new(&format!("^(?:{host}/)?{part}(?:/{part})*$")).expect("a constant, used by every test")
    });
    text.len() <= 255 && REPOSITORY.is_match(text)
}

/// A name of an image, completed as docker does it: `debian` is `docker.io/library/debian:latest`. `None` if docker's grammar does
/// not allow it.
///
/// `Reference`'s own parser accepts the same names (and no IPv6 host, but tags like `ä`), but its regular expression takes 17 MB of memory.
#[must_use]
pub fn parse_reference(name: &str) -> Option<Reference> {
    let (name, digest) = name.split_once('@').map_or((name, None), |(name, digest)| (name, Some(digest)));
    let (name, tag) = match name.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => (before, Some(tag)),
        _ => (name, None),
    };
    if !is_repository(name) || !tag.is_none_or(is_tag) || !digest.is_none_or(is_digest) {
        return None;
    }
    let is_host = |part: &str| part.contains(['.', ':']) || part == "localhost";
    let (host, path) = name.split_once('/').filter(|(host, _)| is_host(host)).unwrap_or((DOCKER_HUB, name));
    let host = if host == "index.docker.io" { DOCKER_HUB } else { host };
    let library = if host == DOCKER_HUB && !path.contains('/') { "library/" } else { "" };
    let (host, path) = (host.to_owned(), format!("{library}{path}"));
    Some(match (tag.map(str::to_owned), digest.map(str::to_owned)) {
        (Some(tag), Some(digest)) => Reference::with_tag_and_digest(host, path, tag, digest),
        (None, Some(digest)) => Reference::with_digest(host, path, digest),
        (tag, None) => Reference::with_tag(host, path, tag.unwrap_or_else(|| "latest".to_owned())),
    })
}

/// Where names without a host are.
const DOCKER_HUB: &str = "docker.io";

/// The digests that OCI registers.
fn is_digest(text: &str) -> bool {
    let digits = match text.split_once(':') {
        Some(("sha256", hex)) if hex.len() == 64 => hex,
        Some(("sha512", hex)) if hex.len() == 128 => hex,
        _ => return false,
    };
    digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

checked_text!(
    /// The name of an image in an engine, with its tag.
    ImageReference,
    "an image's name with a tag",
    "expected REPOSITORY:TAG as docker writes it, lower-case but for the tag",
    is_reference
);

impl ImageReference {
    /// The part before the tag.
    #[must_use]
    pub fn repository(&self) -> &str {
        self.as_str().rsplit_once(':').map_or(self.as_str(), |(repository, _)| repository)
    }

    /// The tag.
    #[must_use]
    pub fn tag(&self) -> &str {
        self.as_str().rsplit_once(':').map_or("latest", |(_, tag)| tag)
    }
}

/// `REPOSITORY:TAG`
fn is_reference(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(repository, tag)| is_repository(repository) && is_tag(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_and_refused_as_by_the_registry_client() {
        let (sha256, sha512) = ("a1".repeat(32), "f".repeat(128));
        let long = format!("a/{}:1", "b".repeat(250));
        let pinned = [
            format!("quay.io/m/i@sha256:{sha256}"),
            format!("r:5000/i:1@sha512:{sha512}"),
            format!("i@sha256:{}", &sha256[1..]),
            format!("i@md5:{sha256}"),
            "i@".to_owned(),
        ];
        let names = [
            "debian",
            "debian:12",
            "a/b",
            "localhost/a",
            "localhost:5000/a/i",
            "docker.io/a",
            "index.docker.io/a:1",
            "r.io/a/b/c:x",
            "test.com:5000",
            "foo_bar.com:80",
            "lower:Upper",
            &long,
            "",
            ":a",
            "A",
            "a:",
            "a//b",
            "-a",
            "a b",
            "a:b:c",
            "http://a/b",
            "a:-b",
            "a/B",
            "ä",
            "${X}",
            "a\n",
        ];
        for name in names.into_iter().chain(pinned.iter().map(String::as_str)) {
            let theirs = name.parse::<Reference>().ok();
            assert_eq!(parse_reference(name), theirs, "{name}");
        }
        // Docker has its own mind: hosts by number are fine, tags are of ASCII.
        assert!(parse_reference("a:ä").is_none());
        assert_eq!(parse_reference("[::1]:5000/i").unwrap().registry(), "[::1]:5000");
    }

    #[test]
    fn names_in_docker_grammar() {
        for good in ["taskcluster/i", "localhost:5000/a/i", "quay.io/m_a/i", "[::1]:5000/i", "R.example.com/a/i"] {
            assert!(is_repository(good), "{good}");
        }
        for bad in ["/i", "a//i", "quay.io/Mozilla/i", "a:b/i", "a b/i", &format!("{}/i", "a".repeat(254))] {
            assert!(!is_repository(bad), "{bad}");
        }
        assert!(is_tag(&"a".repeat(128)) && !is_tag(&"a".repeat(129)) && !is_tag("-a"));
        for good in ["i:1", "localhost:5000/a/i:latest"] {
            assert!(is_reference(good), "{good}");
        }
        for bad in ["i", "localhost:5000/i", "i:", ":1", "I:1"] {
            assert!(!is_reference(bad), "{bad}");
        }
    }
}
