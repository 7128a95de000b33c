//! `layers.json`: the layers of an image, with the step that made each. It is published with each image, so that the next one can
//! be compared with it.

use serde::{Deserialize, Serialize};

use super::step::step;
use crate::image::{ImageSummary, LayerSummary};
use crate::net::ImageId;

/// The layers of an image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Layers {
    /// The image's id, `sha256:…`.
    pub image_id: String,
    /// How many bytes its layers have together, unpacked.
    pub size: u64,
    /// The layers, the lowest first.
    pub layers: Vec<Layer>,
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    /// sha256 of the plain layer.
    #[serde(rename = "diffId")]
    pub diff_id: String,
    /// Its size in bytes.
    pub size: u64,
    /// The step that made it, without values of build arguments.
    pub step: String,
    /// Whether it is of an image that this one was built from.
    pub base: bool,
}

impl Layers {
    /// The layers of an image, of which the lowest `base` ones are of an image below it.
    #[must_use]
    pub fn of(shape: &ImageSummary, base: usize) -> Self {
        let steps = shape.steps();
        let layer = |(number, layer): (usize, &LayerSummary)| Layer {
            diff_id: layer.diff_id.prefixed(),
            size: layer.size,
            step: step(steps.get(number).map_or("", String::as_str)),
            base: number < base,
        };
        Self {
            image_id: ImageId::of(&shape.config).to_string(),
            size: shape.layers.iter().map(|layer| layer.size).sum(),
            layers: shape.layers.iter().enumerate().map(layer).collect(),
        }
    }
}
