//! Reads an image from containerd's storage, in which each document and each layer is a file that is named by its sha256;
//! layers are compressed as they were built or loaded. The result is an OCI layout in one tar; the caller verifies all
//! checksums.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{StorageError, unexpected};
use crate::context::tar_format::{END, padding};
use crate::image::{Descriptor, Index, Manifest, PresentLayer, diff_ids, header};
use crate::net::Digest;

/// Below the root of a containerd.
const CONTENT: &str = "io.containerd.content.v1.content/blobs/sha256";

/// The root of the containerd that Docker starts, below Docker's own root.
const OWN_ROOT: &str = "containerd/daemon";

/// The default root of a containerd that runs apart from Docker, as in Docker's packages. Docker does not report its path.
const PACKAGED_ROOT: &str = "/var/lib/containerd";

/// The limit for a document: documents have some kilobytes.
const MAX_DOCUMENT: u64 = 4 * 1024 * 1024;

/// An image as an OCI layout, a tar to read.
pub struct StoredBlobs {
    /// The size of its compressed layers in bytes.
    pub size: u64,
    parts: VecDeque<Box<dyn Read + Send>>,
}

/// A manifest, an index or a configuration.
pub(in crate::engine) struct StoredDocument {
    pub(in crate::engine) digest: Digest,
    pub(in crate::engine) text: Vec<u8>,
}

/// What an image's id leads to.
struct ImageBlobs {
    directory: PathBuf,
    /// The first is the one with the image's id; the last is the configuration.
    documents: Vec<StoredDocument>,
    layers: Vec<Descriptor>,
}

/// Opens an image by the digest of its manifest, or of an index that leads to one image.
pub(super) fn open(root: &Path, id: Digest) -> Result<StoredBlobs, StorageError> {
    let ImageBlobs { directory, documents, layers } = find(root, id)?;
    let index = json!({ "schemaVersion": 2, "manifests": [{ "digest": id.prefixed() }] }).to_string();
    let mut image = StoredBlobs { size: 0, parts: VecDeque::new() };
    image.member("index.json", index.len() as u64, Cursor::new(index));
    for StoredDocument { digest, text } in documents {
        let (name, size) = (format!("blobs/sha256/{digest}"), text.len() as u64);
        image.member(&name, size, Cursor::new(text));
    }
    let mut added = Vec::new();
    for layer in layers.iter().filter_map(Descriptor::digest) {
        // If the image has the same layer twice, it is one file.
        if added.contains(&layer) {
            continue;
        }
        added.push(layer);
        let path = directory.join(layer.to_string());
        let unreadable = |source| StorageError::Unreadable { path: path.clone(), source };
        // The file is open from here on, so it can be read even if the image is removed meanwhile.
        let file = File::open(&path).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        image.size += size;
        image.member(&format!("blobs/sha256/{layer}"), size, file.take(size));
    }
    image.parts.push_back(Box::new(Cursor::new(END)));
    Ok(image)
}

/// The documents that an image's id leads to: the first has the id, the last is the configuration.
pub(super) fn documents(root: &Path, id: Digest) -> Result<Vec<StoredDocument>, StorageError> {
    Ok(find(root, id)?.documents)
}

/// The lowest of these layers that an image shares, as far as they are there.
pub(super) fn shared(root: &Path, id: Digest, wanted: &[Digest]) -> Result<Vec<PresentLayer>, StorageError> {
    let ImageBlobs { directory, documents, layers } = find(root, id)?;
    let own = documents.last().and_then(|config| diff_ids(&config.text)).unwrap_or_default();
    let pairs = own.iter().zip(wanted).zip(&layers).take_while(|((own, wanted), _)| own == wanted);
    let blob = |layer: &Descriptor| {
        let digest = layer.digest().filter(|digest| directory.join(digest.to_string()).exists())?;
        Some(PresentLayer::Blob { digest, size: layer.size, media_type: layer.media_type.clone() })
    };
    Ok(pairs.map_while(|(_, layer)| blob(layer)).collect())
}

fn find(root: &Path, id: Digest) -> Result<ImageBlobs, StorageError> {
    let directories = [root.join(OWN_ROOT), PathBuf::from(PACKAGED_ROOT)].map(|root| root.join(CONTENT));
    let directory = directories.iter().find(|directory| directory.join(id.to_string()).exists()).ok_or_else(|| {
        let [own, packaged] = directories.each_ref().map(|directory| directory.display());
        StorageError::Unknown(format!("with containerd, whose files are neither in {own} nor in {packaged}"))
    })?;
    let (mut documents, mut next) = (Vec::new(), id);
    loop {
        let path = directory.join(next.to_string());
        let digest = |descriptor: &Descriptor| {
            let digest = descriptor.digest();
            digest.ok_or_else(|| unexpected(&path, "it leads to something that is not named by its sha256"))
        };
        let text = read(&path, next)?;
        let manifest = serde_json::from_slice::<Manifest>(&text);
        let index = serde_json::from_slice::<Index>(&text);
        documents.push(StoredDocument { digest: next, text });
        if let Ok(Manifest { config, layers }) = manifest {
            layers.iter().try_for_each(|layer| digest(layer).map(drop))?;
            let config = digest(&config)?;
            let text = read(&directory.join(config.to_string()), config)?;
            documents.push(StoredDocument { digest: config, text });
            return Ok(ImageBlobs { directory: directory.clone(), documents, layers });
        }
        let images = match index {
            Ok(Index { manifests }) => manifests,
            Err(error) if error.is_data() => Vec::new(),
            Err(error) => return Err(unexpected(&path, error.to_string())),
        };
        let images =
            images.iter().filter(|image| !image.is_attestation()).map(digest).collect::<Result<Vec<_>, _>>()?;
        // An index also names images of other platforms, which are not there.
        let local: Vec<_> = images.into_iter().filter(|image| directory.join(image.to_string()).exists()).collect();
        let [image] = local[..] else { return Err(unexpected(&path, format!("it leads to {} images", local.len()))) };
        next = image;
    }
}

/// Reads a document, and checks its digest; so no two documents lead to each other.
fn read(path: &Path, digest: Digest) -> Result<Vec<u8>, StorageError> {
    let unreadable = |source| StorageError::Unreadable { path: path.to_owned(), source };
    let mut text = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_DOCUMENT).read_to_end(&mut text)).map_err(unreadable)?;
    if Digest::of(&text) == digest { Ok(text) } else { Err(unexpected(path, "its content has another sha256")) }
}

impl StoredBlobs {
    fn member(&mut self, name: &str, size: u64, content: impl Read + Send + 'static) {
        let mut before = Vec::new();
        header(&mut before, name, size);
        self.parts.extend([
            Box::new(Cursor::new(before)) as Box<dyn Read + Send>,
            Box::new(content),
            Box::new(Cursor::new(padding(size))),
        ]);
    }
}

impl Read for StoredBlobs {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while let Some(part) = self.parts.front_mut().filter(|_| !buf.is_empty()) {
            match part.read(buf)? {
                0 => drop(self.parts.pop_front()),
                read => return Ok(read),
            }
        }
        Ok(0)
    }
}

impl std::fmt::Debug for StoredBlobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredBlobs").field("size", &self.size).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::Value;
    use tar::Header;
    use tempfile::TempDir;

    use super::*;
    use crate::image::{ArchiveError, UnpackedImage};
    use crate::net::ImageId;

    /// A storage with one image: a compressed layer, a plain one, and the compressed one again.
    struct Storage {
        root: TempDir,
        config: String,
        plain: Vec<u8>,
        packed: Digest,
        manifest: Digest,
    }

    fn tar(content: &[u8]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append_data(&mut header, "file", content).unwrap();
        builder.into_inner().unwrap()
    }

    impl Storage {
        fn new() -> Self {
            let (one, plain) = (tar(&[1; 3000]), tar(b"two"));
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            io::Write::write_all(&mut gzip, &one).unwrap();
            let gzip = gzip.finish().unwrap();
            let id = |bytes: &[u8]| Digest::of(bytes).prefixed();
            let diff_ids = [id(&one), id(&plain), id(&one)];
            let config = json!({ "os": "linux", "rootfs": { "type": "layers", "diff_ids": diff_ids } }).to_string();
            let mut storage = Self {
                root: TempDir::new().unwrap(),
                config,
                plain,
                packed: Digest::of(&gzip),
                manifest: Digest::of(b""),
            };
            fs::create_dir_all(storage.directory()).unwrap();
            let (one, two) = (storage.put(&gzip), storage.put(&storage.plain));
            let config = storage.put(storage.config.as_bytes());
            let blob = |digest: Digest| json!({ "digest": digest.prefixed() });
            let manifest =
                json!({ "schemaVersion": 2, "config": blob(config), "layers": [blob(one), blob(two), blob(one)] });
            storage.manifest = storage.put(manifest.to_string().as_bytes());
            storage
        }

        fn directory(&self) -> PathBuf {
            self.root.path().join(OWN_ROOT).join(CONTENT)
        }

        fn put(&self, content: &[u8]) -> Digest {
            let digest = Digest::of(content);
            fs::write(self.directory().join(digest.to_string()), content).unwrap();
            digest
        }

        /// An index with the image, `BuildKit`'s attestation of it, and an image of another platform.
        fn index(&self, images: &[Value]) -> Digest {
            let image = json!({ "digest": self.manifest.prefixed() });
            let attestation = self.put(b"{}");
            let kind = json!({ "vnd.docker.reference.type": "attestation-manifest" });
            let attestation = json!({ "digest": attestation.prefixed(), "annotations": kind });
            let absent = json!({ "digest": Digest::of(b"arm64").prefixed() });
            let manifests = [&[image, attestation, absent], images].concat();
            self.put(json!({ "schemaVersion": 2, "manifests": manifests }).to_string().as_bytes())
        }

        fn open(&self, id: Digest) -> Result<StoredBlobs, String> {
            open(self.root.path(), id).map_err(|error| error.to_string())
        }

        fn take(&self, id: Digest) -> Result<UnpackedImage, ArchiveError> {
            UnpackedImage::import(self.open(id).unwrap(), tempfile::tempfile().unwrap())
        }
    }

    #[test]
    fn an_image_comes_whole_by_its_manifest_or_an_index() {
        let storage = Storage::new();
        for id in [storage.manifest, storage.index(&[])] {
            let unpacked = storage.take(id).unwrap();
            unpacked.expect(ImageId::new(id)).unwrap();
            assert_eq!((unpacked.config(), unpacked.packed()), (storage.config.as_bytes(), 2));
            let mut second = Vec::new();
            unpacked.reader(1).read_to_end(&mut second).unwrap();
            assert_eq!((unpacked.layers().len(), second), (3, storage.plain.clone()));
            let documents = documents(storage.root.path(), id).unwrap();
            assert_eq!(
                documents.iter().map(|it| Digest::of(&it.text) == it.digest).collect::<Vec<_>>(),
                vec![true; documents.len()]
            );
            assert_eq!(
                (documents[0].digest, documents.last().unwrap().text.as_slice()),
                (id, storage.config.as_bytes())
            );
        }
        assert!(storage.take(storage.manifest).unwrap().expect(ImageId::of(b"")).is_err());
    }

    #[test]
    fn an_image_that_is_removed_meanwhile_is_read_to_its_end() {
        let storage = Storage::new();
        let image = storage.open(storage.manifest).unwrap();
        fs::remove_dir_all(storage.root.path().join(OWN_ROOT)).unwrap();
        UnpackedImage::import(image, tempfile::tempfile().unwrap()).unwrap();
    }

    #[test]
    fn what_is_not_as_expected_is_an_error() {
        let storage = Storage::new();
        let layer = storage.directory().join(storage.packed.to_string());
        let whole = fs::read(&layer).unwrap();
        let mut wrong = whole.clone();
        wrong[whole.len() / 2] ^= 1;
        for content in [&wrong[..], &whole[..whole.len() - 1], b""] {
            fs::write(&layer, content).unwrap();
            let error = storage.take(storage.manifest).unwrap_err();
            assert!(matches!(error, ArchiveError::Content(_) | ArchiveError::Read(_)), "{error:?}");
        }
        fs::remove_file(&layer).unwrap();
        let error = storage.open(storage.manifest).unwrap_err();
        assert!(error.starts_with(&format!("cannot read {}", layer.display())), "{error}");

        let assert_error = |id, wanted: &str| {
            let error = storage.open(id).unwrap_err();
            assert!(error.contains(wanted), "{error}");
        };
        let other = json!({ "digest": storage.put(b"other").prefixed() });
        assert_error(storage.index(&[other]), "it leads to 2 images");
        assert_error(storage.put(b"{}"), "it leads to 0 images");
        assert_error(storage.put(b"no JSON"), "not as expected");
        assert_error(storage.put(br#"{"config":{"digest":"md5:1"},"layers":[]}"#), "not named by its sha256");
        assert_error(
            Digest::of(b"elsewhere"),
            "in a way that image-worker does not read (with containerd, whose files are neither",
        );
        fs::write(storage.directory().join(storage.manifest.to_string()), "{}").unwrap();
        assert_error(storage.manifest, "its content has another sha256");
    }
}
