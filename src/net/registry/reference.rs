//! Docker's grammar of image names: repositories, tags, and references that combine them. This is syntax only; registries give
//! names their meaning.

use std::sync::LazyLock;

use regex::Regex;

use crate::net::checked_text;

/// Docker's grammar of tags.
#[must_use]
pub fn is_tag(text: &str) -> bool {
    static TAG: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$").expect("a constant, used by every test"));
    TAG.is_match(text)
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
