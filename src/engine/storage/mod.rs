//! The engine's own storage, read where it lies: an image's configuration and its layers, without the copy that an export
//! begins with. Whatever is not as expected is an error, and nothing here is believed: who takes the bytes sums them.

mod blobs;
pub(super) mod containers;
mod docker;
mod split;
mod tree;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use super::Engine;
use super::containerd::is_containerd;
use crate::net::blocking::blocking;
use crate::net::{Digest, ImageId};
pub use blobs::StoredBlobs;
use split::Split;

/// Why an image cannot be read from the engine's storage.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The engine's files are another machine's.
    #[error("the engine at {0} is reached over the network, and its storage is not here")]
    Remote(String),
    /// The layers' files belong to many users.
    #[error("the engine's storage has files that only root may read")]
    NotRoot,
    /// It keeps images in a way that is not known here.
    #[error("the engine keeps images in a way that image-worker does not read ({0})")]
    Unknown(String),
    /// A file cannot be read.
    #[error("cannot read {path} in the engine's storage")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file is there and does not say what it should.
    #[error("{path} in the engine's storage is not as expected: {why}")]
    Unexpected {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// An image in the engine's storage, as that keeps it.
#[derive(Debug)]
pub enum Stored {
    /// As folders with the layers' files.
    Files(StoredImage),
    /// As packed layers.
    Blobs(StoredBlobs),
}

/// An image whose layers are folders.
#[derive(Debug)]
pub struct StoredImage {
    /// Its configuration, whose sha256 is its id.
    pub config: Vec<u8>,
    /// The layers, the lowest first.
    pub layers: Vec<StoredLayer>,
}

/// A layer in the engine's storage.
#[derive(Debug)]
pub struct StoredLayer {
    /// What the storage says that its sum is.
    pub diff_id: Digest,
    /// How many bytes its tar will have.
    pub size: u64,
    split: Split,
}

/// Where a layer's pieces are.
struct LayerFiles {
    diff_id: Digest,
    /// The recipe of its tar.
    split: PathBuf,
    /// The folder with its files.
    tree: PathBuf,
}

/// The ways in which engines keep images.
pub(in crate::engine) enum StorageKind {
    Docker { driver: String },
    Containerd,
    Podman { driver: String },
}

/// Where an image is.
struct ImageLocation {
    kind: StorageKind,
    root: PathBuf,
    id: Digest,
}

impl Engine {
    /// An image by its id, as the engine's storage has it, where that can be read from here.
    pub async fn stored(&self, image_id: ImageId) -> Result<Stored, StorageError> {
        let place = self.place_of(image_id).await?;
        blocking(move || {
            let (config, found) = match place.kind {
                StorageKind::Containerd => return Ok(Stored::Blobs(blobs::open(&place.root, place.id)?)),
                StorageKind::Docker { driver } => docker::find(&place.root, &driver, place.id)?,
                StorageKind::Podman { driver } => containers::find(&place.root, &driver, place.id)?,
            };
            let layers = found.into_iter().map(StoredLayer::open).collect::<Result<_, _>>()?;
            Ok(Stored::Files(StoredImage { config, layers }))
        })
        .await
    }

    /// The configuration of such an image.
    pub(super) async fn stored_config(&self, image_id: ImageId) -> Result<Vec<u8>, StorageError> {
        let place = self.place_of(image_id).await?;
        blocking(move || match place.kind {
            StorageKind::Containerd => {
                let documents = blobs::documents(&place.root, place.id)?;
                Ok(documents.into_iter().next_back().map(|(_, text)| text).unwrap_or_default())
            }
            StorageKind::Docker { driver } => Ok(docker::find(&place.root, &driver, place.id)?.0),
            StorageKind::Podman { driver } => Ok(containers::find(&place.root, &driver, place.id)?.0),
        })
        .await
    }

    /// What the id of an image in containerd's store leads to: its manifest and its configuration, by their digests.
    pub(super) async fn stored_documents(&self, image_id: ImageId) -> Result<Vec<(Digest, Vec<u8>)>, StorageError> {
        let place = self.place_of(image_id).await?;
        blocking(move || blobs::documents(&place.root, place.id)).await
    }

    async fn place_of(&self, image_id: ImageId) -> Result<ImageLocation, StorageError> {
        if self.place.socket().is_none() {
            return Err(StorageError::Remote(self.place.to_string()));
        }
        // A rootless engine's too: most files of a layer could be read, and then one not.
        if !geteuid().is_root() {
            return Err(StorageError::NotRoot);
        }
        let unknown = |what: &str| StorageError::Unknown(what.to_owned());
        let info = self.client.info().await.map_err(|_| unknown("it does not say which"))?;
        let is_containerd = is_containerd(&info);
        let root = info.docker_root_dir.map(PathBuf::from).ok_or_else(|| unknown("it does not say where"))?;
        let driver = info.driver.unwrap_or_default();
        let kind = self.driver.storage(driver, is_containerd);
        Ok(ImageLocation { kind, root, id: image_id.hex() })
    }
}

impl StoredLayer {
    fn open(found: LayerFiles) -> Result<Self, StorageError> {
        let LayerFiles { diff_id, split, tree } = found;
        let split = Split::open(split, &tree)?;
        let size = split.size()?;
        Ok(Self { diff_id, size, split })
    }

    /// Writes the layer's tar.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        self.split.write(out)
    }
}

/// A file of the storage's own books, which are small.
fn read(path: &Path) -> Result<Vec<u8>, StorageError> {
    std::fs::read(path).map_err(|source| StorageError::Unreadable { path: path.to_owned(), source })
}

fn unexpected(path: &Path, why: impl Into<String>) -> StorageError {
    StorageError::Unexpected { path: path.to_owned(), why: why.into() }
}

/// A configuration, which must be what its image is named by.
fn config(path: &Path, id: Digest) -> Result<Vec<u8>, StorageError> {
    let config = read(path)?;
    if Digest::of(&config) == id { Ok(config) } else { Err(unexpected(path, "it is not the image's configuration")) }
}

/// A folder's or a file's name, which must not lead elsewhere.
fn name<'a>(path: &Path, text: &'a str) -> Result<&'a str, StorageError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) { Ok(text) } else { Err(unexpected(path, "it names no folder")) }
}

#[cfg(test)]
mod tests;
