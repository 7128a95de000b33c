//! Finds an image in the storage of Docker's graph drivers (`overlay2` and `vfs`). `split` and `tree` read the layers. The
//! containerd image store of newer Dockers has another layout, without these files: see `blobs`.

use std::path::Path;

use serde::Deserialize;

use super::{ImageFiles, LayerFiles, StorageError, config, name, read, unexpected};
use crate::net::Digest;

#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

pub(super) fn find(root: &Path, driver: &str, id: Digest) -> Result<ImageFiles, StorageError> {
    if !["overlay2", "vfs"].contains(&driver) {
        return Err(StorageError::Unknown(format!("the driver {driver}")));
    }
    let image_dir = root.join("image").join(driver);
    let path = image_dir.join("imagedb/content/sha256").join(id.to_string());
    let config = config(&path, id)?;
    let Config { rootfs } = serde_json::from_slice(&config).map_err(|error| unexpected(&path, error.to_string()))?;
    let mut layers = Vec::new();
    let mut chain: Option<Digest> = None;
    for diff_id in &rootfs.diff_ids {
        let diff_id = Digest::from_prefixed(diff_id).ok_or_else(|| unexpected(&path, "its layers have no sums"))?;
        // A layer's chain id depends on all layers below it.
        let chain_id = match chain {
            None => diff_id,
            Some(below) => Digest::of(format!("{} {}", below.prefixed(), diff_id.prefixed()).as_bytes()),
        };
        chain = Some(chain_id);
        let layer_dir = image_dir.join("layerdb/sha256").join(chain_id.to_string());
        let read_text = |name| {
            let path = layer_dir.join(name);
            let text = String::from_utf8(read(&path)?).map_err(|error| unexpected(&path, error.to_string()))?;
            Ok::<_, StorageError>((path, text))
        };
        let (path, diff) = read_text("diff")?;
        if Digest::from_prefixed(diff.trim()) != Some(diff_id) {
            return Err(unexpected(&path, "it is another layer's"));
        }
        let (path, cache) = read_text("cache-id")?;
        let cache = name(&path, cache.trim())?;
        let tree = match driver {
            "vfs" => root.join("vfs/dir").join(cache),
            _ => root.join(driver).join(cache).join("diff"),
        };
        layers.push(LayerFiles { diff_id, split: layer_dir.join("tar-split.json.gz"), tree });
    }
    Ok(ImageFiles { config, layers })
}
