//! Checks the digests of an archive's members: the configuration against its name, each layer against its diff id.
//! The module `check` checks whether all consumers can load the archive.

use super::manifest::Image;
use super::member_digests::Compression;
use super::members::{ArchiveIndex, Member};
use super::problem::{DOUBT, IDENTITY, LAYER, NOTHING_LOADS, Problem};
use crate::net::{Digest, ImageId};

/// The result of verifying one image of an archive.
pub(super) struct Verified {
    /// Its id, the digest of its configuration, if it has one.
    pub(super) image_id: Option<ImageId>,
    /// The compression of each layer that is present, the lowest first.
    pub(super) layers: Vec<Compression>,
    /// Where the content differs from what the archive declares.
    pub(super) problems: Vec<Problem>,
}

/// Compares an image with what the manifest and its configuration declare.
pub(super) fn verify(index: &ArchiveIndex, image: &Image) -> Verified {
    let config = &image.config;
    let mut found = Verified { image_id: None, layers: Vec::new(), problems: Vec::new() };
    let mut problem = |member: &str, breaks, what: String| found.problems.push(Problem::new(member, breaks, what));
    let digests = match index.member(config) {
        Some(Member::File(digests)) => digests,
        Some(_) => {
            problem(config, DOUBT, format!("its configuration {config} is no file"));
            return found;
        }
        None => {
            problem(config, NOTHING_LOADS, format!("its configuration {config} is missing"));
            return found;
        }
    };
    found.image_id = Some(ImageId::new(digests.raw));
    // Jib's name is `config.json`, which contains no digest.
    if digest_in(config).is_some_and(|named| named != digests.raw) {
        problem(config, IDENTITY, format!("its configuration {config} has sha256 {}", digests.raw));
    }
    let Some(diff_ids) = &digests.diff_ids else {
        problem(config, NOTHING_LOADS, format!("its configuration {config} names no layers, or is too large to"));
        return found;
    };
    if diff_ids.len() != image.layers.len() {
        let (has, named) = (image.layers.len(), diff_ids.len());
        let what = format!("manifest.json has {has} layers, but the configuration names {named}");
        problem("manifest.json", NOTHING_LOADS, what);
    }
    for (layer, diff_id) in image.layers.iter().zip(diff_ids) {
        let Some(digests) = index.file(layer) else {
            problem(layer, NOTHING_LOADS, format!("its layer {layer} is missing"));
            continue;
        };
        found.layers.push(digests.compression);
        match digests.content {
            Some(content) if content == *diff_id => {}
            Some(content) => problem(layer, LAYER, format!("its layer {layer} has sha256 {content}, not {diff_id}")),
            None => problem(layer, LAYER, format!("its layer {layer} is damaged {} data", digests.compression)),
        }
    }
    found
}

/// Blobs of an OCI layout whose sha256 is not the one in their name.
pub(super) fn misnamed_blobs(index: &ArchiveIndex) -> Vec<Problem> {
    let misnamed = |(name, raw): (&str, Digest)| {
        let named: Digest = name.strip_prefix("blobs/sha256/")?.parse().ok()?;
        (named != raw).then(|| Problem::new(name, LAYER, format!("its member {name} has sha256 {raw}")))
    };
    let mut problems: Vec<_> = index.files().filter_map(|(name, digests)| misnamed((name, digests.raw))).collect();
    problems.sort_by(|one, other| one.member.cmp(&other.member));
    problems
}

/// The sha256 in a configuration's name: `HEX.json` of engines, `sha256:HEX` of kaniko, `blobs/sha256/HEX` of OCI.
fn digest_in(config: &str) -> Option<Digest> {
    let name = config.strip_prefix("blobs/sha256/").or_else(|| config.strip_prefix("sha256:")).unwrap_or(config);
    name.strip_suffix(".json").unwrap_or(name).parse().ok()
}
