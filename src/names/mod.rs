//! The field's words as types that cannot hold a wrong value: hashes, image names, projects, task ids,
//! artifact names, push dates and index namespaces. Parsing happens here once; everything above trusts it.

mod hash;
mod namespace;
mod push_date;
mod reference;
mod url;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use hash::{ContextHash, Digest, HashScheme};
pub use namespace::ImageNamespaces;
pub use push_date::PushDate;
pub use reference::{is_repository, is_tag};
pub use url::HttpUrl;

/// The build argument by which a `Dockerfile` reads the name of its parent, as `image_builder` calls it.
pub const PARENT_ARG: &str = "DOCKER_IMAGE_PARENT";

/// Why a text is not the name that it was given for.
///
/// The message says what the name must look like; who asked for the name adds which setting it came from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not {what}: {rule}")]
pub struct NameError {
    value: String,
    what: &'static str,
    rule: &'static str,
}

impl NameError {
    fn new(value: &str, what: &'static str, rule: &'static str) -> Self {
        // A name that is wrong can be anything, also a whole file: quote no more than a line of it.
        let value = value.chars().take(120).collect();
        Self { value, what, rule }
    }
}

/// A text newtype whose only way in is a check.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                if $check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(NameError::new(text, $what, $rule))
                }
            }
        }

        text_serde!($name);
    };
}

/// Serde as the text that `Display` writes and `FromStr` reads.
macro_rules! text_serde {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

text_serde!(Digest);
text_serde!(ContextHash);
text_serde!(HashScheme);
text_serde!(PushDate);
text_serde!(HttpUrl);

checked_text!(
    /// The name of an image: the name of its directory, one component of a docker repository name and of
    /// an index namespace at once.
    ImageName,
    "an image name",
    "expected lower-case letters and digits, joined by one `.`, one or two `_`, or any number of `-`, at most 128 characters",
    is_image_name
);

checked_text!(
    /// The project that an image is indexed for, `mozilla-central` for example.
    Project,
    "a project name",
    "expected characters that the index takes, [A-Za-z0-9_!~*'()%-], in parts joined by single dots",
    is_namespace
);

checked_text!(
    /// A Taskcluster task id: a slugid, a version 4 UUID in 22 characters of URL-safe base64.
    TaskId,
    "a task id",
    "expected a slugid, 22 characters of [A-Za-z0-9_-] that encode a version 4 UUID",
    is_slugid
);

checked_text!(
    /// The name of an artifact.
    ///
    /// Narrower than what the queue takes: other characters upload and then cannot be downloaded, because
    /// the queue builds its URLs without escaping.
    ArtifactName,
    "an artifact name",
    "expected [A-Za-z0-9._/-], no empty, `.` or `..` part, at most 1024 characters",
    is_artifact_name
);

checked_text!(
    /// A namespace of the index: a route without its leading `index.`.
    Namespace,
    "an index namespace",
    "the index takes [A-Za-z0-9_!~*'()%-] in parts joined by single dots, and at most 255 characters",
    is_index_namespace
);

checked_text!(
    /// The prefix of the routes, `index` or `index.` and a namespace.
    IndexPrefix,
    "a route prefix",
    "expected `index`, or `index.` followed by a namespace",
    is_index_prefix
);

checked_text!(
    /// A path inside a repository, relative, with `/` between its parts: `testing/docker/builder`.
    RepoPath,
    "a path inside a repository",
    "expected a relative path without empty, `.` or `..` parts",
    is_repo_path
);

checked_text!(
    /// The name of an image in an engine, with its tag.
    ImageReference,
    "an image's name with a tag",
    "expected REPOSITORY:TAG as docker writes it, lower-case but for the tag",
    reference::is_reference
);

impl TaskId {
    /// Stands for a task that nobody knows, in what is made for a look.
    ///
    /// # Panics
    /// Never: the text is a slugid.
    #[must_use]
    pub fn unknown() -> Self {
        "UNKNOWN-TASK-UNKNOWN-A".parse().expect("a constant, covered by the tests of decision")
    }

    /// The id that follows from `parts`, always the same: whoever makes a task a second time makes the same task, and the
    /// queue takes equal definitions as one. Of 122 bits of a sha256 no two are alike by chance.
    #[must_use]
    pub fn derived(parts: &[&str]) -> Self {
        use base64::Engine as _;
        use sha2::Digest as _;
        // Lengths in front, so that no two lists of parts read alike.
        let hashed = parts.iter().fold(sha2::Sha256::new(), |hasher, part| {
            hasher.chain_update((part.len() as u64).to_be_bytes()).chain_update(part)
        });
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&hashed.finalize()[..16]);
        // A version 4 UUID of the usual variant; and without the first bit it never begins with `-`, which command
        // lines would take for a flag.
        uuid[6] = (uuid[6] & 0x0f) | 0x40;
        uuid[8] = (uuid[8] & 0x3f) | 0x80;
        uuid[0] &= 0x7f;
        Self(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(uuid))
    }
}

impl ArtifactName {
    /// The artifact that has a build's whole output. `public/logs/` is the worker's own.
    #[must_use]
    pub fn build_log() -> Self {
        Self("public/image-build/build.log".to_owned())
    }

    /// The artifact that says what an image was made of, by whom.
    #[must_use]
    pub fn provenance() -> Self {
        Self("public/image-build/provenance.json".to_owned())
    }

    /// The artifact that lists an image's packages.
    #[must_use]
    pub fn sbom() -> Self {
        Self("public/image-build/sbom.cdx.json".to_owned())
    }

    /// The artifact that says which layers an image has, and which steps made them.
    #[must_use]
    pub fn layers() -> Self {
        Self("public/image-build/layers.json".to_owned())
    }

    /// The artifact that has a build's numbers. Treeherder looks for the beginning of its last part.
    #[must_use]
    pub fn perfherder() -> Self {
        Self("public/image-build/perfherder-data-image-build.json".to_owned())
    }

    /// The artifact that has the configurations of the images of an image's steps.
    #[must_use]
    pub fn layer_cache() -> Self {
        Self("public/image-build/layer-cache.json".to_owned())
    }

    /// All that can be published beside an image.
    #[must_use]
    pub fn companions() -> [Self; 5] {
        [Self::layer_cache(), Self::layers(), Self::perfherder(), Self::provenance(), Self::sbom()]
    }

    /// Whether the artifact is to be compressed with zstd.
    #[must_use]
    pub fn is_zstd(&self) -> bool {
        self.file_name().strip_suffix(".tar.zst").is_some()
    }

    /// Whether the artifact is a plain tar.
    #[must_use]
    pub fn is_tar(&self) -> bool {
        self.file_name().strip_suffix(".tar").is_some()
    }

    /// The last part of the name.
    #[must_use]
    pub fn file_name(&self) -> &str {
        last_part(&self.0)
    }
}

impl RepoPath {
    /// The last part of the path.
    #[must_use]
    pub fn file_name(&self) -> &str {
        last_part(&self.0)
    }
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn is_image_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let joins = |run: &str| run == "." || run == "_" || run == "__" || run.bytes().all(|b| b == b'-');
    text.len() <= 128
        && text.bytes().next().is_some_and(plain)
        && text.bytes().last().is_some_and(plain)
        && text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(joins)
}

/// `/^([a-zA-Z0-9_!~*'()%-]+\.)*[a-zA-Z0-9_!~*'()%-]+$/`, the index service's own pattern.
fn is_namespace(text: &str) -> bool {
    text.split('.')
        .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_!~*'()%-".contains(&b)))
}

/// Longer namespaces are written by the index although it answers 500, and break listing for everybody.
fn is_index_namespace(text: &str) -> bool {
    text.len() <= 255 && is_namespace(text)
}

fn is_index_prefix(text: &str) -> bool {
    text == "index" || text.strip_prefix("index.").is_some_and(is_namespace)
}

/// The queue's own pattern for slugids.
fn is_slugid(text: &str) -> bool {
    let b = text.as_bytes();
    let url_safe = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    b.len() == 22
        && b.iter().copied().all(url_safe)
        && matches!(b[8], b'Q'..=b'T')
        && b"CGKOSWaeimquy26-".contains(&b[10])
        && b"AQgw".contains(&b[21])
}

fn is_artifact_name(text: &str) -> bool {
    text.len() <= 1024 && is_repo_path(text) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/-".contains(&b))
}

fn is_repo_path(text: &str) -> bool {
    text.split('/').all(|part| !matches!(part, "" | "." | "..")) && !text.contains('\0')
}

/// Asserts which texts a name takes and which it refuses.
#[cfg(test)]
fn accepts<T: FromStr>(good: &[&str], bad: &[&str]) {
    for text in good {
        assert!(text.parse::<T>().is_ok(), "{text:?} should be accepted");
    }
    for text in bad {
        assert!(text.parse::<T>().is_err(), "{text:?} should be refused");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_names() {
        accepts::<ImageName>(
            &["builder", "gcc-4.4", "a", "a__b", "a--b", "debian12-amd64", "0"],
            &["", "Builder", "a/b", "a:b", "-a", "a-", "a..b", "a___b", "a._b", "ü", "a b", &"a".repeat(129)],
        );
    }

    #[test]
    fn projects_and_prefixes() {
        accepts::<Project>(&["mozilla-central", "try", "a.b"], &["", "a..b", "a/b", "a b", "a.", "a+b"]);
        accepts::<IndexPrefix>(&["index", "index.garbage.staging"], &["", "index.", "indexes", "docker"]);
    }

    #[test]
    fn task_ids() {
        accepts::<TaskId>(&["fN1SbArXTPSVFNUvaOlinQ"], &["", "fN1SbArXTPSVFNUvaOlinR", "fN1SbArXAPSVFNUvaOlinQ", "x"]);
    }

    #[test]
    fn derived_task_ids_are_slugids_and_follow_from_each_part() {
        let of = |parts: &[&str]| TaskId::derived(parts);
        assert_eq!(of(&["a", "b"]), of(&["a", "b"]));
        assert_ne!(of(&["a", "b"]), of(&["ab", ""]));
        for n in 0..1000 {
            let id = of(&["decision", &n.to_string()]).to_string();
            assert!(is_slugid(&id) && !id.starts_with('-'), "{id}");
        }
    }

    #[test]
    fn artifact_names() {
        for ours in ArtifactName::companions().into_iter().chain([ArtifactName::build_log()]) {
            assert!(is_artifact_name(ours.as_str()));
        }
        accepts::<ArtifactName>(
            &["public/image.tar", "public/docker-contexts/builder.tar.gz"],
            &["", "/a", "a//b", "a/../b", "./a", "a b", "a%20b", "a+b", "ü"],
        );
    }
}
