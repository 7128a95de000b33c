//! Whether an archive is what it says it is, from the sums of its members: the configuration's name, each layer's diff id.
//! Whether all consumers understand how it says so is for `check`.

use super::manifest::Image;
use super::member_digests::Compression;
use super::members::{ArchiveIndex, Member};
use super::problem::{DOUBT, IDENTITY, LAYER, NOTHING_LOADS, Problem};
use crate::net::{Digest, ImageId};

/// What is known of an image of an archive.
pub(super) struct Verified {
    /// Its id, the digest of its configuration, if there is one.
    pub(super) image_id: Option<ImageId>,
    /// How each layer that is there is packed, the lowest first.
    pub(super) layers: Vec<Compression>,
    /// What is not as the archive says.
    pub(super) problems: Vec<Problem>,
}

/// Compares an image with what the manifest and its configuration say of it.
pub(super) fn verify(seen: &ArchiveIndex, image: &Image) -> Verified {
    let config = &image.config;
    let mut found = Verified { image_id: None, layers: Vec::new(), problems: Vec::new() };
    let mut problem = |member: &str, breaks, what: String| found.problems.push(Problem::new(member, breaks, what));
    let sums = match seen.member(config) {
        Some(Member::File(sums)) => sums,
        Some(_) => {
            problem(config, DOUBT, format!("its configuration {config} is no file"));
            return found;
        }
        None => {
            problem(config, NOTHING_LOADS, format!("its configuration {config} is missing"));
            return found;
        }
    };
    found.image_id = Some(ImageId::new(sums.raw));
    // Jib's is `config.json`, which promises nothing.
    if digest_in(config).is_some_and(|named| named != sums.raw) {
        problem(config, IDENTITY, format!("its configuration {config} has sha256 {}", sums.raw));
    }
    let Some(diff_ids) = &sums.diff_ids else {
        problem(config, NOTHING_LOADS, format!("its configuration {config} names no layers, or is too large to"));
        return found;
    };
    if diff_ids.len() != image.layers.len() {
        let (has, named) = (image.layers.len(), diff_ids.len());
        let what = format!("manifest.json has {has} layers, but the configuration names {named}");
        problem("manifest.json", NOTHING_LOADS, what);
    }
    for (layer, diff_id) in image.layers.iter().zip(diff_ids) {
        let Some(sums) = seen.file(layer) else {
            problem(layer, NOTHING_LOADS, format!("its layer {layer} is missing"));
            continue;
        };
        found.layers.push(sums.packing);
        match sums.content {
            Some(content) if content == *diff_id => {}
            Some(content) => problem(layer, LAYER, format!("its layer {layer} has sha256 {content}, not {diff_id}")),
            None => problem(layer, LAYER, format!("its layer {layer} is damaged {} data", sums.packing)),
        }
    }
    found
}

/// Files of an OCI layout, which are named by their sha256, that have another.
pub(super) fn misnamed_blobs(seen: &ArchiveIndex) -> Vec<Problem> {
    let misnamed = |(name, raw): (&str, Digest)| {
        let named: Digest = name.strip_prefix("blobs/sha256/")?.parse().ok()?;
        (named != raw).then(|| Problem::new(name, LAYER, format!("its member {name} has sha256 {raw}")))
    };
    let mut problems: Vec<_> = seen.files().filter_map(|(name, sums)| misnamed((name, sums.raw))).collect();
    problems.sort_by(|one, other| one.member.cmp(&other.member));
    problems
}

/// The sha256 in a configuration's name: `HEX.json` of engines, `sha256:HEX` of kaniko, `blobs/sha256/HEX` of OCI.
fn digest_in(config: &str) -> Option<Digest> {
    let name = config.strip_prefix("blobs/sha256/").or_else(|| config.strip_prefix("sha256:")).unwrap_or(config);
    name.strip_suffix(".json").unwrap_or(name).parse().ok()
}
