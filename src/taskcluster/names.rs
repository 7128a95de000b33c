//! The names that Taskcluster's services use: tasks, artifacts, projects and namespaces of the index.

use crate::context::{is_repo_path, last_part};
use crate::engine::build_log;
use crate::net::checked_text;

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

impl TaskId {
    /// A placeholder for an unknown task, in output for inspection.
    ///
    /// # Panics
    /// Never: the text is a slugid.
    #[must_use]
    pub fn unknown() -> Self {
        "UNKNOWN-TASK-UNKNOWN-A".parse().expect("a constant, covered by the tests of decision")
    }

    /// The id derived from `parts`, always the same: a program that makes a task again makes the same task, and the queue treats
    /// equal definitions as one. 122 bits of a sha256 do not collide by chance.
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
    /// The artifact that has a build's whole output.
    #[must_use]
    pub fn build_log() -> Self {
        Self(build_log::ARTIFACT.to_owned())
    }

    /// The artifact that workers make of a task's whole log.
    #[must_use]
    pub fn task_log() -> Self {
        Self("public/logs/live_backing.log".to_owned())
    }

    /// The artifact that documents what an image was made from, and by whom.
    #[must_use]
    pub fn provenance() -> Self {
        Self("public/image-build/provenance.json".to_owned())
    }

    /// The artifact that shows an image on one page.
    #[must_use]
    pub fn report() -> Self {
        Self("public/image-build/report.html".to_owned())
    }

    /// The artifact that lists an image's packages.
    #[must_use]
    pub fn sbom() -> Self {
        Self("public/image-build/sbom.cdx.json".to_owned())
    }

    /// The artifact that lists an image's layers and the steps that made them.
    #[must_use]
    pub fn layers() -> Self {
        Self("public/image-build/layers.json".to_owned())
    }

    /// The artifact with a build's numbers. Treeherder looks for the beginning of its last part.
    #[must_use]
    pub fn perfherder() -> Self {
        Self("public/image-build/perfherder-data-image-build.json".to_owned())
    }

    /// The artifact that has the configurations of the images of an image's steps.
    #[must_use]
    pub fn layer_cache() -> Self {
        Self("public/image-build/layer-cache.json".to_owned())
    }

    /// All artifacts that can be published with an image.
    #[must_use]
    pub fn documents() -> [Self; 6] {
        [Self::layer_cache(), Self::layers(), Self::perfherder(), Self::provenance(), Self::report(), Self::sbom()]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::accepts;

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
        for ours in ArtifactName::documents().into_iter().chain([ArtifactName::build_log(), ArtifactName::task_log()]) {
            assert!(is_artifact_name(ours.as_str()));
        }
        accepts::<ArtifactName>(
            &["public/image.tar", "public/docker-contexts/builder.tar.gz"],
            &["", "/a", "a//b", "a/../b", "./a", "a b", "a%20b", "a+b", "ü"],
        );
    }
}
