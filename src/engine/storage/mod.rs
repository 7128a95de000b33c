//! Reads an image's configuration and layers directly from the engine's own storage, without the copy that an export starts
//! with. Unexpected data is an error. The data is not trusted: whoever reads a layer verifies its checksum.

mod blobs;
pub(super) mod containers;
mod docker;
mod split;
mod stored_bytes;
mod tree;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use super::Engine;
use super::containerd::is_containerd;
use crate::image::{PresentLayer, UnpackedImage};
use crate::net::blocking::blocking;
use crate::net::{Digest, ImageId};
pub use blobs::StoredBlobs;
use blobs::StoredDocument;
use stored_bytes::in_storage;

/// Why an image cannot be read from the engine's storage.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The engine's files are on another machine, or in a virtual one.
    #[error("the engine at {0} is on another machine, or in a virtual one, and its storage is not here")]
    Remote(String),
    /// The layers' files belong to many users.
    #[error("the engine's storage has files that only root may read")]
    NotRoot,
    /// The image store is of an unknown kind.
    #[error("the engine keeps images in a way that image-worker does not read ({0})")]
    Unknown(String),
    /// A file cannot be read.
    #[error("cannot read {path} in the engine's storage")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// The headers of the layers cannot be copied.
    #[error("cannot write the headers of the image's layers")]
    Staging(#[source] io::Error),
    /// The configuration and the layers are of different images.
    #[error("the engine's storage has other layers than the image's configuration names")]
    OtherLayers,
    /// A file has unexpected content.
    #[error("{path} in the engine's storage is not as expected: {why}")]
    Unexpected {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// An image in the engine's storage.
#[derive(Debug)]
pub enum Stored {
    /// Its layers are directories with files, which are read where they are.
    Files(UnpackedImage),
    /// Its layers are compressed blobs.
    Blobs(StoredBlobs),
}

/// The data of an image whose layers are directories.
struct ImageFiles {
    config: Vec<u8>,
    /// The layers, lowest first.
    layers: Vec<LayerFiles>,
}

/// The paths of a layer's data.
struct LayerFiles {
    diff_id: Digest,
    /// The tar-split metadata of its tar.
    split: PathBuf,
    /// The directory with its files.
    tree: PathBuf,
}

/// The kinds of image store.
pub(in crate::engine) enum StorageKind {
    Docker { driver: String },
    Containerd,
    Podman { driver: String },
}

/// The location of an image.
struct ImageLocation {
    kind: StorageKind,
    root: PathBuf,
    id: Digest,
}

impl Engine {
    /// An image by its id, in the engine's storage, if that can be read from here. What is not in the files of its layers, the
    /// headers of their tars, is copied into `staging`, an empty file.
    pub async fn stored(&self, image_id: ImageId, staging: File) -> Result<Stored, StorageError> {
        let location = self.location_of(image_id).await?;
        blocking(move || {
            let files = match location.kind {
                StorageKind::Containerd => return Ok(Stored::Blobs(blobs::open(&location.root, location.id)?)),
                StorageKind::Docker { driver } => docker::find(&location.root, &driver, location.id)?,
                StorageKind::Podman { driver } => containers::find(&location.root, &driver, location.id)?,
            };
            Ok(Stored::Files(in_storage(files, staging)?))
        })
        .await
    }

    /// The configuration of such an image.
    pub(super) async fn stored_config(&self, image_id: ImageId) -> Result<Vec<u8>, StorageError> {
        let location = self.location_of(image_id).await?;
        blocking(move || match location.kind {
            StorageKind::Containerd => {
                let documents = blobs::documents(&location.root, location.id)?;
                Ok(documents.into_iter().next_back().map(|document| document.text).unwrap_or_default())
            }
            StorageKind::Docker { driver } => Ok(docker::find(&location.root, &driver, location.id)?.config),
            StorageKind::Podman { driver } => Ok(containers::find(&location.root, &driver, location.id)?.config),
        })
        .await
    }

    /// The documents that the id of an image in containerd's store leads to: its manifest and its configuration.
    pub(super) async fn stored_documents(&self, image_id: ImageId) -> Result<Vec<StoredDocument>, StorageError> {
        let location = self.location_of(image_id).await?;
        blocking(move || blobs::documents(&location.root, location.id)).await
    }

    /// The lowest of these layers that one of the images with these ids has in containerd's store. None if that cannot be read
    /// from here.
    pub(super) async fn stored_layers(&self, ids: Vec<Digest>, diff_ids: Vec<Digest>) -> Vec<PresentLayer> {
        let Ok((StorageKind::Containerd, root)) = self.storage().await else { return Vec::new() };
        blocking(move || {
            let shared = ids.iter().map(|id| blobs::shared(&root, *id, &diff_ids).unwrap_or_default());
            shared.max_by_key(Vec::len).unwrap_or_default()
        })
        .await
    }

    async fn location_of(&self, image_id: ImageId) -> Result<ImageLocation, StorageError> {
        let (kind, root) = self.storage().await?;
        Ok(ImageLocation { kind, root, id: image_id.hex() })
    }

    /// How the engine keeps images, and where, if that can be read from here.
    pub(super) async fn storage(&self) -> Result<(StorageKind, PathBuf), StorageError> {
        if !self.place.is_on_this_kernel() {
            return Err(StorageError::Remote(self.place.to_string()));
        }
        // This includes rootless engines: most files of a layer can be read, but some cannot.
        if !geteuid().is_root() {
            return Err(StorageError::NotRoot);
        }
        let unknown = |what: &str| StorageError::Unknown(what.to_owned());
        let info = self.client.info().await.map_err(|_| unknown("it does not say which"))?;
        let is_containerd = is_containerd(&info);
        let root = info.docker_root_dir.map(PathBuf::from).ok_or_else(|| unknown("it does not say where"))?;
        let driver = info.driver.unwrap_or_default();
        Ok((self.driver.storage(driver, is_containerd), root))
    }
}

/// Reads one of the storage's metadata files, which are small.
fn read(path: &Path) -> Result<Vec<u8>, StorageError> {
    std::fs::read(path).map_err(|source| StorageError::Unreadable { path: path.to_owned(), source })
}

fn unexpected(path: &Path, why: impl Into<String>) -> StorageError {
    StorageError::Unexpected { path: path.to_owned(), why: why.into() }
}

/// Reads a configuration, and checks that it has the image's id.
fn config(path: &Path, id: Digest) -> Result<Vec<u8>, StorageError> {
    let config = read(path)?;
    if Digest::of(&config) == id { Ok(config) } else { Err(unexpected(path, "it is not the image's configuration")) }
}

/// Checks the name of a directory or file: it must not lead elsewhere.
fn name<'a>(path: &Path, text: &'a str) -> Result<&'a str, StorageError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) { Ok(text) } else { Err(unexpected(path, "it names no folder")) }
}

#[cfg(test)]
mod tests;
