//! Finds an image in Podman's storage (containers-storage): the lists of images and layers, and the directories that they
//! name. `split` and `tree` read the layers.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{ImageFiles, LayerFiles, StorageError, config, name, read, unexpected};
use crate::net::Digest;

#[derive(Deserialize)]
struct Image {
    id: String,
    /// The top layer.
    layer: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Layer {
    id: String,
    parent: Option<String>,
    diff_digest: Option<String>,
}

pub(super) fn find(root: &Path, driver: &str, id: Digest) -> Result<ImageFiles, StorageError> {
    if !["overlay", "vfs"].contains(&driver) {
        return Err(StorageError::Unknown(format!("the driver {driver}")));
    }
    let images = root.join(format!("{driver}-images"));
    let list = images.join("images.json");
    let all: Vec<Image> = parse(&list)?;
    let hex = id.to_string();
    let image = all.into_iter().find(|image| image.id == hex);
    let image = image.ok_or_else(|| unexpected(&list, format!("it has no image {hex}")))?;
    let config = config(&config_path(&images, &hex), id)?;
    let layers_dir = root.join(format!("{driver}-layers"));
    let list = layers_dir.join("layers.json");
    let all: Vec<Layer> = parse(&list)?;
    let mut layers = Vec::new();
    let mut next = image.layer.filter(|layer| !layer.is_empty());
    while let Some(layer_id) = next {
        let layer = all.iter().find(|layer| layer.id == layer_id);
        let layer = layer.ok_or_else(|| unexpected(&list, format!("it has no layer {layer_id}")))?;
        if layers.len() > all.len() {
            return Err(unexpected(&list, "a layer is below itself"));
        }
        let diff_id = layer.diff_digest.as_deref().and_then(Digest::from_prefixed);
        let diff_id = diff_id.ok_or_else(|| unexpected(&list, format!("its layer {layer_id} has no sum")))?;
        let directory = name(&list, &layer.id)?;
        let tree = match driver {
            "vfs" => root.join("vfs/dir").join(directory),
            _ => root.join(driver).join(directory).join("diff"),
        };
        layers.push(LayerFiles { diff_id, split: layers_dir.join(format!("{directory}.tar-split.gz")), tree });
        next = layer.parent.clone().filter(|parent| !parent.is_empty());
    }
    layers.reverse();
    Ok(ImageFiles { config, layers })
}

/// The path of an image's configuration, below the directory of the images: file names that contain a colon are encoded in
/// base64.
pub(in crate::engine) fn config_path(images: &Path, id: &str) -> PathBuf {
    images.join(id).join(format!("={}", STANDARD.encode(format!("sha256:{id}"))))
}

fn parse<T: DeserializeOwned>(path: &Path) -> Result<T, StorageError> {
    serde_json::from_slice(&read(path)?).map_err(|error| unexpected(path, error.to_string()))
}
