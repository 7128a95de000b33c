//! The inputs of an image, each with its digest: the context, the parent, and the base images. `statement` places them in the
//! document.

use std::collections::BTreeMap;

use packageurl::PackageUrl;
use serde_json::json;

use super::ProvenanceInput;
use super::statement::Resource;
use crate::config::plan::ContextSource;
use crate::context::ContextScheme;
use crate::engine::{Base, Bases};
use crate::job::cache::CachedImage;
use crate::job::parent::TaskImage;
use crate::net::HttpUrl;
use crate::net::registry::parse_reference;
use crate::taskcluster::TaskId;

/// Everything that went in, in a fixed order.
pub(super) fn materials(made: &ProvenanceInput) -> Vec<Resource> {
    let Bases { found, unknown } = made.bases;
    let parent_tag = made.plan.parent.as_ref().map(|task| made.plan.parent_tag(task));
    let parent = made
        .plan
        .parent
        .as_ref()
        .zip(made.parent)
        .map(|(task, image)| task_image("parent", made.root_url, task, image));
    // The parent is in the engine under a name of this job's own, which has no meaning elsewhere.
    let bases = found.iter().filter(|base| Some(&base.reference) != parent_tag.as_ref()).map(base);
    let unknown = unknown.iter().map(|reference| Resource {
        name: reference.clone(),
        annotations: [("resolved", json!(false))].into(),
        ..Resource::default()
    });
    let cache = made.cache.map(|CachedImage { newest, image, .. }| {
        let verified = task_image("layer cache", made.root_url, &newest.at.task_id, image);
        // Another run of that task may have another image.
        let run = format!("tasks/{}/runs/{}", newest.at.task_id, newest.at.run_id);
        let run = made.root_url.map(|root| ("run", json!(format!("{root}/{run}"))));
        Resource { annotations: verified.annotations.into_iter().chain(run).collect(), ..verified }
    });
    std::iter::once(context(made)).chain(parent).chain(cache).chain(bases).chain(unknown).collect()
}

fn context(made: &ProvenanceInput) -> Resource {
    let plan = &made.plan.context;
    let hash = made.identity.context_hash.to_string();
    let (algorithm, media_type) = match made.scheme {
        // The sha256 of the tar, unpacked.
        ContextScheme::Tar => ("sha256", Some("application/x-tar")),
        // That of the file as it is stored.
        ContextScheme::Gz => ("sha256", Some("application/gzip")),
        // A sha256 over digests and paths, and of no file.
        ContextScheme::Contents => ("imageWorkerContents", None),
    };
    let uri = match &plan.source {
        ContextSource::Artifact { task_id, name } => {
            made.root_url.map(|root| format!("{root}/api/queue/v1/task/{task_id}/artifacts/{name}"))
        }
        ContextSource::Url(url) => Some(url.to_string()),
        ContextSource::File(_) | ContextSource::Directory { .. } => None,
    };
    let digest = [(algorithm, hash)].into();
    Resource { name: "context".to_owned(), uri, digest, media_type, annotations: BTreeMap::new() }
}

fn task_image(name: &str, root: Option<&HttpUrl>, task: &TaskId, image: &TaskImage) -> Resource {
    let artifact = &image.artifact;
    let verified = match (image.promised, image.archive.skipped) {
        (true, 0) => "index",
        (true, _) => "imageId",
        (false, _) => "archive",
    };
    let id = &image.archive.image_id;
    Resource {
        name: name.to_owned(),
        uri: root.map(|root| format!("{root}/api/queue/v1/task/{task}/artifacts/{artifact}")),
        digest: [("sha256", image.archive.sha256.to_string())].into(),
        annotations: [("imageId", json!(id)), ("comparedWith", json!(verified))].into(),
        ..Resource::default()
    }
}

fn base(base: &Base) -> Resource {
    let Base { reference, id, digests, is_from, .. } = base;
    let mut annotations = BTreeMap::from([("from", json!(is_from))]);
    annotations.extend(id.as_ref().map(|id| ("imageId", json!(id))));
    let registered = digests.iter().find(|digest| names_the_same(digest, reference)).or(digests.first());
    let (uri, digest) =
        match registered.and_then(|name| Some((purl(name)?, name.rsplit_once("@sha256:")?.1.to_owned()))) {
            Some((purl, digest)) => {
                annotations.insert("digests", json!(digests));
                (Some(purl), Some(digest))
            }
            // Built or loaded, and never in a registry: its configuration's digest identifies it.
            None => (None, id.map(|id| id.hex().to_string())),
        };
    let digest = digest.map(|digest| ("sha256", digest)).into_iter().collect();
    Resource { name: reference.clone(), uri, digest, media_type: None, annotations }
}

/// Whether `REPOSITORY@sha256:…` is of the repository that `reference` names.
fn names_the_same(digest: &str, reference: &str) -> bool {
    let [digest, reference] = [digest, reference].map(parse_reference);
    digest
        .zip(reference)
        .is_some_and(|(one, other)| (one.registry(), one.repository()) == (other.registry(), other.repository()))
}

/// `pkg:docker/…` of `REPOSITORY@sha256:…`
fn purl(name: &str) -> Option<String> {
    let name = parse_reference(name)?;
    let (namespace, image) =
        name.repository().rsplit_once('/').map_or((None, name.repository()), |(space, image)| (Some(space), image));
    let mut purl = PackageUrl::new("docker", image).ok()?;
    if let Some(namespace) = namespace.filter(|it| *it != "library") {
        purl.with_namespace(namespace).ok()?;
    }
    if name.registry() != "docker.io" {
        purl.add_qualifier("repository_url", name.registry()).ok()?;
    }
    purl.with_version(name.digest()?).ok()?;
    Some(purl.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::ImageId;

    #[test]
    fn an_image_of_a_registry_has_a_name_everywhere() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        for (name, expected) in [
            ("debian", format!("pkg:docker/debian@{digest}")),
            ("docker.io/library/debian", format!("pkg:docker/debian@{digest}")),
            ("mozilla/builder", format!("pkg:docker/mozilla/builder@{digest}")),
            ("localhost:5000/a/b", format!("pkg:docker/a/b@{digest}?repository_url=localhost:5000")),
            ("quay.io/a/b", format!("pkg:docker/a/b@{digest}?repository_url=quay.io")),
        ] {
            let package_url = purl(&format!("{name}@{digest}")).unwrap();
            assert_eq!(package_url.replace("%3A", ":"), expected);
        }
        assert_eq!(purl("debian:12"), None);
    }

    #[test]
    fn the_digest_is_of_the_repository_that_was_named() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let same = |name: &str, reference: &str| names_the_same(&format!("{name}@{digest}"), reference);
        assert!(same("debian", "debian:12"));
        assert!(same("docker.io/library/debian", "debian"));
        assert!(same("localhost:5000/debian", "localhost:5000/debian:12"));
        assert!(!same("localhost:5000/debian", "debian:12"));
        assert!(!same("debian", "no name"));

        let id = ImageId::of(b"image");
        let mut debian = Base {
            reference: "debian:12".to_owned(),
            id: Some(id),
            digests: vec![format!("a/debian@sha256:{}", "cd".repeat(32)), format!("debian@sha256:{}", "ef".repeat(32))],
            layers: Vec::new(),
            is_from: true,
        };
        let material = base(&debian);
        assert_eq!(material.digest["sha256"], "ef".repeat(32));
        assert!(material.uri.unwrap().starts_with("pkg:docker/debian@"));
        assert_eq!(material.annotations["imageId"], json!(id));
        debian.digests.clear();
        let material = base(&debian);
        assert_eq!(
            (material.uri, material.digest["sha256"].as_str()),
            (None, id.hex().to_string().as_str()),
            "it came from no registry"
        );
    }
}
