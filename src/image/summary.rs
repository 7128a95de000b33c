//! A summary of an image without reading its layers: its configuration, the layers' sizes, the steps that made them. The module
//! `metrics` reports it.

use serde_json::Value;

use super::parts::offsets;
use super::{Layer, UnpackedImage};
use crate::net::Digest;

/// The summary of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSummary {
    /// Its configuration.
    pub config: Vec<u8>,
    /// Its layers, the lowest first.
    pub layers: Vec<LayerSummary>,
}

/// The summary of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerSummary {
    /// sha256 of the plain layer.
    pub diff_id: Digest,
    /// Its size in bytes.
    pub size: u64,
}

impl ImageSummary {
    /// The diff ids of the layers, the lowest first.
    #[must_use]
    pub fn diff_ids(&self) -> Vec<Digest> {
        self.layers.iter().map(|layer| layer.diff_id).collect()
    }

    /// Where the layers are in the image's canonical archive: for each, the number of bytes before its first one. Empty if no
    /// archive is so large.
    #[must_use]
    pub fn offsets(&self) -> Vec<u64> {
        offsets(&self.layers).unwrap_or_default()
    }

    /// The steps that made the layers, from the image's history; empty if their number does not match the layers.
    #[must_use]
    pub fn steps(&self) -> Vec<String> {
        steps(&self.config)
    }
}

impl From<&UnpackedImage> for ImageSummary {
    fn from(unpacked: &UnpackedImage) -> Self {
        let layers = unpacked.layers().iter().map(LayerSummary::from).collect();
        Self { config: unpacked.config().to_vec(), layers }
    }
}

impl From<&Layer> for LayerSummary {
    fn from(layer: &Layer) -> Self {
        Self { diff_id: layer.diff_id, size: layer.size }
    }
}

/// The steps that made the layers, the lowest first; empty if their number does not match the layers.
pub(super) fn steps(config: &[u8]) -> Vec<String> {
    let value: Value = serde_json::from_slice(config).unwrap_or(Value::Null);
    let history = value["history"].as_array().map(Vec::as_slice).unwrap_or_default();
    let steps: Vec<_> = history
        .iter()
        .filter(|step| step["empty_layer"] != true)
        .map(|step| step["created_by"].as_str().unwrap_or("an unnamed step").to_owned())
        .collect();
    let layers = value["rootfs"]["diff_ids"].as_array().map(Vec::len);
    if layers == Some(steps.len()) { steps } else { Vec::new() }
}
