//! Finds the differences between two images, down to files and lines, for people who want reproducible images. Both images are
//! unpacked. The module `display` prints the result, and `likely_causes` suggests causes.

mod configuration;
mod display;
mod files;
mod likely_causes;
#[cfg(test)]
mod tests;

use serde::Serialize;
use similar::{Algorithm, DiffOp, capture_diff_slices};

use super::layer::{self, LayerError};
use super::summary::steps;
use super::{Layer, UnpackedImage};
use crate::net::{Digest, ImageId};
pub use files::{Aspect, FileDifference};
pub use likely_causes::Cause;

/// Two images that cannot be compared.
#[derive(Debug, thiserror::Error)]
#[error("layer {number} of {image} cannot be compared with its counterpart")]
pub struct CompareError {
    number: usize,
    image: ImageId,
    source: LayerError,
}

/// Two images side by side, called A and B.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// Image A.
    pub a: Side,
    /// Image B.
    pub b: Side,
    /// Whether both are the same image under the same names.
    pub identical: bool,
    /// The differences between the configurations.
    pub configuration: Vec<Difference>,
    /// All layers, in order.
    pub layers: Vec<LayerPair>,
    /// The likely causes, with hints.
    pub causes: Vec<Cause>,
}

/// One of the two images.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Side {
    /// Its id.
    pub image_id: ImageId,
    /// Its names.
    pub tags: Vec<String>,
    /// How many layers it has.
    pub layers: usize,
}

/// Something that has different values in the images, or that only one of them has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its path in the configuration.
    pub what: String,
    /// The value in A.
    pub a: Option<String>,
    /// The value in B.
    pub b: Option<String>,
}

/// A layer, or two layers at the same place.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerPair {
    /// The layer of A: its number, counted from 1, and its diff id.
    pub a: Option<(usize, Digest)>,
    /// The layer of B.
    pub b: Option<(usize, Digest)>,
    /// The step that made it, if the history contains it.
    pub made_by: Option<String>,
    /// Whether both layers are the same.
    pub identical: bool,
    /// The differences by file.
    pub files: Vec<FileDifference>,
    /// The first path at another place in B, if the common entries have another order.
    pub order: Option<String>,
}

impl Comparison {
    /// Compares two images. It does not read layers that are the same in both.
    pub fn of(a: &UnpackedImage, b: &UnpackedImage) -> Result<Self, CompareError> {
        let configuration = configuration::differences(a.config(), b.config());
        let made_by = [steps(a.config()), steps(b.config())];
        let ids = [a, b].map(|unpacked| unpacked.layers().iter().map(|layer| layer.diff_id).collect::<Vec<_>>());
        let mut layers = Vec::new();
        for operation in capture_diff_slices(Algorithm::Myers, &ids[0], &ids[1]) {
            let identical = matches!(operation, DiffOp::Equal { .. });
            let (mut old, mut new) = (operation.old_range(), operation.new_range());
            loop {
                let (one, other) = (old.next(), new.next());
                if one.is_none() && other.is_none() {
                    break;
                }
                let step = one.and_then(|it| made_by[0].get(it)).or(other.and_then(|it| made_by[1].get(it)));
                layers.push(pair([a, b], [one, other], identical, step.cloned())?);
            }
        }
        let identical = a.config() == b.config() && a.tags() == b.tags();
        let causes = likely_causes::causes(&configuration, &layers);
        Ok(Self { a: Side::of(a), b: Side::of(b), identical, configuration, layers, causes })
    }
}

impl Side {
    fn of(unpacked: &UnpackedImage) -> Self {
        Self { image_id: unpacked.image_id(), tags: unpacked.tags().to_vec(), layers: unpacked.layers().len() }
    }
}

fn pair(
    images: [&UnpackedImage; 2],
    numbers: [Option<usize>; 2],
    identical: bool,
    made_by: Option<String>,
) -> Result<LayerPair, CompareError> {
    let layer = |side: usize| -> Option<(usize, &Layer)> {
        let number = numbers[side]?;
        Some((number, images[side].layers().get(number)?))
    };
    let (a, b) = (layer(0), layer(1));
    let mut differences = files::LayerDifferences::default();
    if let (Some((number, one)), Some((_, other)), false) = (a, b, identical) {
        let [one, other] = [(images[0], one), (images[1], other)]
            .map(|(unpacked, layer)| layer::entries(unpacked.bytes(), &layer.pieces));
        let error = |files::Sided { side, error: source }| CompareError {
            number: numbers[side].unwrap_or(number) + 1,
            image: images[side].image_id(),
            source,
        };
        differences = files::compare(&one, &other).map_err(error)?;
    }
    let named = |(number, layer): (usize, &Layer)| (number + 1, layer.diff_id);
    let files::LayerDifferences { files, order } = differences;
    Ok(LayerPair { a: a.map(named), b: b.map(named), made_by, identical, files, order })
}
