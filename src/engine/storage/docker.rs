//! Where Docker's graph drivers keep an image (`overlay2`, and `vfs`). Reading what is there is for others; the containerd
//! image store of newer Dockers is not laid out like this, and has none of these files.

use std::path::Path;

use serde::Deserialize;

use super::{LayerFiles, StorageError, config, name, read, unexpected};
use crate::net::Digest;

#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

pub(super) fn find(root: &Path, driver: &str, id: Digest) -> Result<(Vec<u8>, Vec<LayerFiles>), StorageError> {
    if !["overlay2", "vfs"].contains(&driver) {
        return Err(StorageError::Unknown(format!("the driver {driver}")));
    }
    let books = root.join("image").join(driver);
    let path = books.join("imagedb/content/sha256").join(id.to_string());
    let config = config(&path, id)?;
    let Config { rootfs } = serde_json::from_slice(&config).map_err(|error| unexpected(&path, error.to_string()))?;
    let mut layers = Vec::new();
    let mut chain: Option<Digest> = None;
    for diff_id in &rootfs.diff_ids {
        let diff_id = Digest::from_prefixed(diff_id).ok_or_else(|| unexpected(&path, "its layers have no sums"))?;
        // A layer's place hangs on all that is below it.
        let place = match chain {
            None => diff_id,
            Some(below) => Digest::of(format!("{} {}", below.prefixed(), diff_id.prefixed()).as_bytes()),
        };
        chain = Some(place);
        let book = books.join("layerdb/sha256").join(place.to_string());
        let says = |what| {
            let path = book.join(what);
            let text = String::from_utf8(read(&path)?).map_err(|error| unexpected(&path, error.to_string()))?;
            Ok::<_, StorageError>((path, text))
        };
        let (path, said) = says("diff")?;
        if Digest::from_prefixed(said.trim()) != Some(diff_id) {
            return Err(unexpected(&path, "it is another layer's"));
        }
        let (path, cache) = says("cache-id")?;
        let cache = name(&path, cache.trim())?;
        let tree = match driver {
            "vfs" => root.join("vfs/dir").join(cache),
            _ => root.join(driver).join(cache).join("diff"),
        };
        layers.push(LayerFiles { diff_id, split: book.join("tar-split.json.gz"), tree });
    }
    Ok((config, layers))
}
