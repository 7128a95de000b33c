//! `layers.json`: the layers of an image, with the step that made each. It is published with each image, so that the next one can
//! be compared with it.

use serde::{Deserialize, Serialize};

use super::step::step;
use crate::image::{ImageSummary, LayerPlace, LayerSummary};
use crate::net::{Digest, ImageId};

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
    /// Its first byte in the image's artifact, counted from the beginning; `None` where the artifact is compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
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
            offset: None,
            step: step(steps.get(number).map_or("", String::as_str)),
            base: number < base,
        };
        Self {
            image_id: ImageId::of(&shape.config).to_string(),
            size: shape.layers.iter().map(|layer| layer.size).sum(),
            layers: shape.layers.iter().enumerate().map(layer).collect(),
        }
    }

    /// The same, where the artifact is the plain archive of the image.
    #[must_use]
    pub fn with_offsets(mut self, shape: &ImageSummary) -> Self {
        for (layer, offset) in self.layers.iter_mut().zip(shape.offsets()) {
            layer.offset = Some(offset);
        }
        self
    }

    /// Where the layers are in the artifact, if the document says it of each.
    #[must_use]
    pub fn places(&self) -> Option<Vec<LayerPlace>> {
        let place = |layer: &Layer| {
            Some(LayerPlace {
                diff_id: Digest::from_prefixed(&layer.diff_id)?,
                size: layer.size,
                offset: layer.offset?,
            })
        };
        self.layers.iter().map(place).collect()
    }
}
