//! Where Podman's storage (containers-storage) keeps an image: its books of images and of layers, and the folders that they
//! name. Reading what is there is for others.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{LayerFiles, StorageError, config, name, read, unexpected};
use crate::net::Digest;

#[derive(Deserialize)]
struct Image {
    id: String,
    /// The uppermost.
    layer: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Layer {
    id: String,
    parent: Option<String>,
    diff_digest: Option<String>,
}

pub(super) fn find(root: &Path, driver: &str, id: Digest) -> Result<(Vec<u8>, Vec<LayerFiles>), StorageError> {
    if !["overlay", "vfs"].contains(&driver) {
        return Err(StorageError::Unknown(format!("the driver {driver}")));
    }
    let images = root.join(format!("{driver}-images"));
    let book = images.join("images.json");
    let all: Vec<Image> = parse(&book)?;
    let hex = id.to_string();
    let image = all.into_iter().find(|image| image.id == hex);
    let image = image.ok_or_else(|| unexpected(&book, format!("it has no image {hex}")))?;
    let config = config(&config_path(&images, &hex), id)?;
    let books = root.join(format!("{driver}-layers"));
    let book = books.join("layers.json");
    let all: Vec<Layer> = parse(&book)?;
    let mut layers = Vec::new();
    let mut next = image.layer.filter(|layer| !layer.is_empty());
    while let Some(wanted) = next {
        let layer = all.iter().find(|layer| layer.id == wanted);
        let layer = layer.ok_or_else(|| unexpected(&book, format!("it has no layer {wanted}")))?;
        if layers.len() > all.len() {
            return Err(unexpected(&book, "a layer is below itself"));
        }
        let diff_id = layer.diff_digest.as_deref().and_then(Digest::from_prefixed);
        let diff_id = diff_id.ok_or_else(|| unexpected(&book, format!("its layer {wanted} has no sum")))?;
        let folder = name(&book, &layer.id)?;
        let tree = match driver {
            "vfs" => root.join("vfs/dir").join(folder),
            _ => root.join(driver).join(folder).join("diff"),
        };
        layers.push(LayerFiles { diff_id, split: books.join(format!("{folder}.tar-split.gz")), tree });
        next = layer.parent.clone().filter(|parent| !parent.is_empty());
    }
    layers.reverse();
    Ok((config, layers))
}

/// Where the configuration of an image is, below the folder of the images: a file's name with a colon in it is written in base64.
pub(in crate::engine) fn config_path(images: &Path, id: &str) -> PathBuf {
    images.join(id).join(format!("={}", STANDARD.encode(format!("sha256:{id}"))))
}

fn parse<T: DeserializeOwned>(path: &Path) -> Result<T, StorageError> {
    serde_json::from_slice(&read(path)?).map_err(|error| unexpected(path, error.to_string()))
}
