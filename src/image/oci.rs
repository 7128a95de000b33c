//! The documents of an OCI layout: from its index to the one image in it, and the names that lead to an image's
//! configuration. Whether that image is whole is for `verify`.
//!
//! Not oci-spec's types: those refuse descriptors without a size and a media type, and platforms without an operating system,
//! where engines load such layouts.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;

use super::manifest::Image;
use super::members::ArchiveIndex;
use super::problem::{MANY_IMAGES, NOTHING_LOADS, Problem};
use crate::net::Digest;

/// An index: the images of several platforms, or one image and what belongs to it.
#[derive(Deserialize)]
pub(crate) struct Index {
    pub(crate) manifests: Vec<Descriptor>,
}

/// The manifest of one image.
#[derive(Deserialize)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// What leads to another document, or to a layer.
#[derive(Clone, Deserialize)]
pub(crate) struct Descriptor {
    digest: String,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl Descriptor {
    /// The sha256 that it is named by; none of another algorithm.
    pub(crate) fn digest(&self) -> Option<Digest> {
        Digest::from_prefixed(&self.digest)
    }

    /// The member that has it, wherever that is.
    fn member(&self) -> String {
        format!("blobs/{}", self.digest.replacen(':', "/", 1))
    }

    /// `BuildKit` puts these beside images.
    pub(crate) fn is_attestation(&self) -> bool {
        self.annotation("vnd.docker.reference.type") == Some("attestation-manifest")
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// The image's name: containerd's is whole, that of the layout itself is often only the tag.
    fn name(&self) -> Option<&str> {
        let tag = || self.annotation("org.opencontainers.image.ref.name").filter(|name| name.contains(':'));
        self.annotation("io.containerd.image.name").or_else(tag)
    }
}

/// A document by its digest, if it is one of this kind.
fn document<T: for<'de> Deserialize<'de>>(seen: &ArchiveIndex, descriptor: &Descriptor) -> Option<T> {
    serde_json::from_slice(seen.file(&descriptor.member())?.text.as_deref()?).ok()
}

/// The one image of an archive, by its manifest, or of an OCI layout that has none.
pub(super) fn the_image(seen: &ArchiveIndex) -> Result<Cow<'_, Image>, Problem> {
    match (&seen.manifest, &seen.index) {
        (None, Some(index)) => image(seen, index).map(Cow::Owned),
        _ => seen.image().map(Cow::Borrowed),
    }
}

/// The one image that `index.json` leads to, as `manifest.json` would say it.
///
/// Not counted are attestations, which `BuildKit` puts beside images, and images that the index names without having
/// them: those of other platforms, which were never pulled.
fn image(seen: &ArchiveIndex, index: &[u8]) -> Result<Image, Problem> {
    let problem = |breaks, problem: String| Problem::new("index.json", breaks, problem);
    let index: Index =
        serde_json::from_slice(index).map_err(|error| problem(NOTHING_LOADS, format!("index.json: {error}")))?;
    let mut tags: Vec<String> = Vec::new();
    let mut images: BTreeMap<String, Manifest> = BTreeMap::new();
    let mut known = HashSet::new();
    let mut todo = index.manifests;
    while let Some(descriptor) = todo.pop() {
        let name = descriptor.name().map(str::to_owned);
        tags.extend(name.filter(|name| !tags.contains(name)));
        if descriptor.is_attestation() || !known.insert(descriptor.digest.clone()) {
            continue;
        }
        if let Some(index) = document::<Index>(seen, &descriptor) {
            todo.extend(index.manifests);
        } else if let Some(manifest) = document::<Manifest>(seen, &descriptor) {
            images.insert(descriptor.digest, manifest);
        }
    }
    let count = images.len();
    let mut images = images.into_values();
    match (images.next(), count) {
        (Some(manifest), 1) => {
            tags.sort();
            let layers = manifest.layers.iter().map(Descriptor::member).collect();
            Ok(Image { config: manifest.config.member(), repo_tags: tags, layers })
        }
        (_, 0) => Err(problem(NOTHING_LOADS, "its index.json leads to no image that it has".to_owned())),
        _ => Err(problem(MANY_IMAGES, format!("its index.json leads to {count} images"))),
    }
}

/// The digests of the manifests and indexes that lead to a configuration: the containerd image store has such a one as
/// the image's id.
pub(super) fn manifests_referencing(seen: &ArchiveIndex, config: Digest) -> Vec<Digest> {
    let mut found = vec![config];
    // An index can be in an index: what is found last can lead to what is found first.
    loop {
        let before = found.len();
        for (_, sums) in seen.files() {
            let Some(text) = sums.text.as_deref().filter(|_| !found.contains(&sums.raw)) else { continue };
            let manifest = serde_json::from_slice::<Manifest>(text).map(|manifest| vec![manifest.config]);
            let index = || serde_json::from_slice::<Index>(text).map(|index| index.manifests);
            let Ok(targets) = manifest.or_else(|_| index()) else { continue };
            if targets.iter().filter_map(Descriptor::digest).any(|digest| found.contains(&digest)) {
                found.push(sums.raw);
            }
        }
        if found.len() == before {
            return found;
        }
    }
}
