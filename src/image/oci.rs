//! The documents of an OCI layout: finds the single image that its index leads to, and the digests that lead to an image's
//! configuration. The module `verify` checks that the image is complete.
//!
//! It does not use the types of oci-spec: those refuse descriptors without a size and a media type, and platforms without an
//! operating system, but engines load such layouts.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;

use super::manifest::Image;
use super::members::ArchiveIndex;
use super::problem::{MANY_IMAGES, NOTHING_LOADS, Problem};
use crate::net::Digest;

/// An index: the images of several platforms, or one image and its attestations.
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

/// A reference to another document, or to a layer.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    digest: String,
    #[serde(default)]
    pub(crate) media_type: String,
    #[serde(default)]
    pub(crate) size: u64,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl Descriptor {
    /// Its sha256; `None` for digests of another algorithm.
    pub(crate) fn digest(&self) -> Option<Digest> {
        Digest::from_prefixed(&self.digest)
    }

    /// The name of the archive member that holds it.
    fn member(&self) -> String {
        format!("blobs/{}", self.digest.replacen(':', "/", 1))
    }

    /// `BuildKit` adds attestations beside images.
    pub(crate) fn is_attestation(&self) -> bool {
        self.annotation("vnd.docker.reference.type") == Some("attestation-manifest")
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// The image's name: containerd's annotation has the full name, that of OCI often only the tag.
    fn name(&self) -> Option<&str> {
        let tag = || self.annotation("org.opencontainers.image.ref.name").filter(|name| name.contains(':'));
        self.annotation("io.containerd.image.name").or_else(tag)
    }
}

/// Reads the document that a descriptor refers to; `None` if it is of another type.
fn document<T: for<'de> Deserialize<'de>>(index: &ArchiveIndex, descriptor: &Descriptor) -> Option<T> {
    serde_json::from_slice(index.file(&descriptor.member())?.text.as_deref()?).ok()
}

/// The archive's single image: from its manifest, or from an OCI layout if there is no manifest.
pub(super) fn single_image(index: &ArchiveIndex) -> Result<Cow<'_, Image>, Problem> {
    match (&index.manifest, &index.oci_index) {
        (None, Some(text)) => image(index, text).map(Cow::Owned),
        _ => index.image().map(Cow::Borrowed),
    }
}

/// The single image that `index.json` leads to, in the form of `manifest.json`.
///
/// It ignores attestations, which `BuildKit` adds beside images, and images that the index names but the archive does not
/// contain: those of other platforms, which were never pulled.
fn image(index: &ArchiveIndex, text: &[u8]) -> Result<Image, Problem> {
    let problem = |breaks, problem: String| Problem::new("index.json", breaks, problem);
    let top: Index =
        serde_json::from_slice(text).map_err(|error| problem(NOTHING_LOADS, format!("index.json: {error}")))?;
    let mut tags: Vec<String> = Vec::new();
    let mut images: BTreeMap<String, Manifest> = BTreeMap::new();
    let mut known = HashSet::new();
    let mut todo = top.manifests;
    while let Some(descriptor) = todo.pop() {
        let name = descriptor.name().map(str::to_owned);
        tags.extend(name.filter(|name| !tags.contains(name)));
        if descriptor.is_attestation() || !known.insert(descriptor.digest.clone()) {
            continue;
        }
        if let Some(nested) = document::<Index>(index, &descriptor) {
            todo.extend(nested.manifests);
        } else if let Some(manifest) = document::<Manifest>(index, &descriptor) {
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

/// The digests of the manifests and indexes that lead to a configuration: the containerd image store uses one of them as
/// the image's id.
pub(super) fn manifests_referencing(index: &ArchiveIndex, config: Digest) -> Vec<Digest> {
    let mut found = vec![config];
    // Indexes can be nested, so a document found later can lead to one that was found earlier.
    loop {
        let before = found.len();
        for (_, digests) in index.files() {
            let Some(text) = digests.text.as_deref().filter(|_| !found.contains(&digests.raw)) else { continue };
            let manifest = serde_json::from_slice::<Manifest>(text).map(|manifest| vec![manifest.config]);
            let in_index = || serde_json::from_slice::<Index>(text).map(|index| index.manifests);
            let Ok(targets) = manifest.or_else(|_| in_index()) else { continue };
            if targets.iter().filter_map(Descriptor::digest).any(|digest| found.contains(&digest)) {
                found.push(digests.raw);
            }
        }
        if found.len() == before {
            return found;
        }
    }
}
