//! An image with decompressed layers: in one file, in the order that the engine wrote them, or still in the engine's storage.
//! Other modules use it (for the archive, a rewrite, a comparison) without moving the bytes.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::ops::Range;
use std::sync::Arc;

use super::extents::{ExtentReader, ReadAt};
use super::member_digests::{Compression, ContentWriter};
use super::members::{ArchiveIndex, Out, ReadError, fail_fast, read_all};
use super::problem::{NOTHING_LOADS, Problem};
use super::rootfs::diff_ids;
use super::verify::{Verified, misnamed_blobs, verify};
use super::{ArchiveError, oci};
use crate::net::{Digest, ImageId, SizedDigest};

/// The size of writes to disk, so that the cost of system calls is negligible.
const WRITE_BUFFER: usize = 256 * 1024;

/// An unpacked image.
#[derive(Debug)]
pub struct UnpackedImage {
    /// The staging file.
    pub(super) file: Arc<File>,
    /// What has the layers: the staging file or, until [`UnpackedImage::staged`], the engine's storage.
    pub(super) bytes: Arc<dyn ReadAt>,
    /// Whether the layers have been compared with their digests. Whoever reads all of an unverified layer does that.
    pub(super) is_verified: bool,
    config: Vec<u8>,
    layers: Vec<Layer>,
    tags: Vec<String>,
    ids: Vec<Digest>,
    compressed_layers: usize,
    /// Set if the file is the canonical archive with this name: the name, and the digest and size of the file.
    archive: Option<(String, SizedDigest)>,
}

/// A layer of an unpacked image. Identical layers share their bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// sha256 of the plain layer.
    pub diff_id: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Where its bytes are, in order: one piece, unless a rewrite has reordered its entries.
    pub pieces: Vec<Range<u64>>,
}

impl UnpackedImage {
    /// Reads an archive of one image, in any format and compression, into an empty file that can be read and written.
    ///
    /// Members that no image needs are also written to the file, but nothing refers to them. The image is verified: the
    /// configuration has the digest in its name, and each layer is the one that the configuration names. Memory is constant.
    pub fn import<R: Read>(mut source: R, file: File) -> Result<Self, ArchiveError> {
        let index = Self::read(&mut source, &file)?;
        Self::of(&index, file).map_err(|problem| match index.unended {
            Some(cut) => ArchiveError::Read(cut.into_io()),
            None => ArchiveError::Content(problem.problem),
        })
    }

    /// Reads an archive into a file, to its end.
    pub(super) fn read<R: Read>(source: &mut R, file: &File) -> Result<ArchiveIndex, ReadError> {
        let mut index = ArchiveIndex::default();
        let mut out = Out { raw: io::sink(), plain: ContentWriter::new(BufWriter::with_capacity(WRITE_BUFFER, file)) };
        read_all(source, &mut out, &mut index, &mut fail_fast)?;
        out.plain.flush().map_err(ReadError::Write)?;
        Ok(index)
    }

    /// The image of an archive that was read into a file.
    pub(super) fn of(index: &ArchiveIndex, file: File) -> Result<Self, Problem> {
        let Whole { config, layers, tags, ids, compressed_layers } = whole(index)?;
        let file = Arc::new(file);
        let bytes = file.clone();
        Ok(Self { file, bytes, is_verified: true, config, layers, tags, ids, compressed_layers, archive: None })
    }

    /// An image whose layers are in the engine's storage, read by `bytes`, and not verified yet. What belongs to it is written at
    /// the end of `file`, which `bytes` has at the same positions. `None` if the configuration names other layers.
    #[must_use]
    pub fn in_storage(config: Vec<u8>, layers: Vec<Layer>, bytes: Arc<dyn ReadAt>, file: Arc<File>) -> Option<Self> {
        if !diff_ids(&config)?.iter().eq(layers.iter().map(|layer| &layer.diff_id)) {
            return None;
        }
        let (tags, ids) = (Vec::new(), vec![Digest::of(&config)]);
        Some(Self { file, bytes, is_verified: false, config, layers, tags, ids, compressed_layers: 0, archive: None })
    }

    /// The image with this as its only name.
    #[must_use]
    pub fn named(mut self, tag: &str) -> Self {
        self.tags = vec![tag.to_owned()];
        self
    }

    /// The image with its layers in a file, where they can be changed: `empty`, if it is still in the engine's storage. They are
    /// verified. `progress` is called with numbers of bytes.
    pub fn staged(mut self, empty: File, progress: impl FnMut(u64)) -> Result<Self, ArchiveError> {
        if self.is_verified {
            return Ok(self);
        }
        let archive = self.arrange("")?;
        let mut out = BufWriter::with_capacity(WRITE_BUFFER, &empty);
        archive.copy(&mut out, |_| {}, progress)?;
        out.flush().map_err(ArchiveError::Write)?;
        drop(out);
        for layer in &mut self.layers {
            let placed = archive.unverified().iter().find(|placed| placed.diff_id == layer.diff_id);
            layer.pieces = placed.map(|placed| placed.range.clone()).into_iter().collect();
        }
        self.file = Arc::new(empty);
        self.bytes = self.file.clone();
        self.is_verified = true;
        Ok(self)
    }

    /// An image whose file is already the canonical archive with this name.
    pub(super) fn of_archive(file: File, config: Vec<u8>, layers: Vec<Layer>, tag: &str, written: SizedDigest) -> Self {
        let (tags, ids) = (vec![tag.to_owned()], vec![Digest::of(&config)]);
        let (file, archive) = (Arc::new(file), Some((tag.to_owned(), written)));
        let bytes = file.clone();
        Self { file, bytes, is_verified: true, config, layers, tags, ids, compressed_layers: 0, archive }
    }

    /// The digest and size of the file, if it is the canonical archive with this name.
    pub(super) fn is_archive_of(&self, tag: &str) -> Option<SizedDigest> {
        self.archive.as_ref().filter(|(of, _)| of == tag).map(|(_, written)| *written)
    }

    /// What has the layers.
    #[must_use]
    pub fn bytes(&self) -> &dyn ReadAt {
        &*self.bytes
    }

    /// Whether the layers are still where the engine keeps them.
    #[must_use]
    pub fn is_in_storage(&self) -> bool {
        !self.is_verified
    }

    /// The size of all layers in bytes, as tars.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }

    /// The image's configuration, unchanged: its sha256 is the image's id.
    #[must_use]
    pub fn config(&self) -> &[u8] {
        &self.config
    }

    /// The layers, the lowest first.
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The names that the image had in the archive.
    #[must_use]
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// How many of the layers were compressed in the archive.
    #[must_use]
    pub fn packed(&self) -> usize {
        self.compressed_layers
    }

    /// The image's id, the digest of its configuration.
    #[must_use]
    pub fn image_id(&self) -> ImageId {
        ImageId::of(&self.config)
    }

    /// Refuses an image with another id than this: the configuration's digest or, with the containerd image store, the digest
    /// of a manifest or index that leads to it.
    pub fn expect(&self, image_id: ImageId) -> Result<(), ArchiveError> {
        if self.ids.contains(&image_id.hex()) {
            return Ok(());
        }
        Err(ArchiveError::Content(format!("it has {}, not {image_id}", self.image_id())))
    }

    /// Reads a layer from its beginning; if no layer has this number, there is nothing to read.
    #[must_use]
    pub fn reader(&self, layer: usize) -> impl Read + Seek + use<'_> {
        let layer = self.layers.get(layer);
        ExtentReader::new(&*self.bytes, layer.map_or(&[][..], |layer| &layer.pieces))
    }

    /// Replaces the configuration and the layers with those of another image in the same file.
    pub fn replace(&mut self, config: Vec<u8>, layers: Vec<Layer>) {
        self.ids = vec![Digest::of(&config)];
        self.config = config;
        self.layers = layers;
        self.archive = None;
    }
}

/// The parts of a complete image.
struct Whole {
    config: Vec<u8>,
    layers: Vec<Layer>,
    tags: Vec<String>,
    ids: Vec<Digest>,
    compressed_layers: usize,
}

fn whole(index: &ArchiveIndex) -> Result<Whole, Problem> {
    let image = &*oci::single_image(index)?;
    let Verified { problems, layers: compressions, .. } = verify(index, image);
    if let Some(problem) = problems.into_iter().chain(misnamed_blobs(index)).next() {
        return Err(problem);
    }
    let missing = |name: &str| Problem::new(name, NOTHING_LOADS, format!("its member {name} is missing"));
    let config = index.file(&image.config).ok_or_else(|| missing(&image.config))?;
    let layer = |name: &String| {
        let digests = index.file(name).ok_or_else(|| missing(name))?;
        let diff_id = digests.content.ok_or_else(|| missing(name))?;
        Ok(Layer { diff_id, size: digests.at.end - digests.at.start, pieces: vec![digests.at.clone()] })
    };
    let layers = image.layers.iter().map(layer).collect::<Result<_, Problem>>()?;
    Ok(Whole {
        config: config.text.clone().ok_or_else(|| missing(&image.config))?,
        layers,
        tags: image.repo_tags.clone(),
        ids: oci::manifests_referencing(index, config.raw),
        compressed_layers: compressions.iter().filter(|compression| **compression != Compression::Plain).count(),
    })
}

impl From<ReadError> for ArchiveError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Read(error) => Self::Read(error),
            ReadError::Write(error) => Self::Write(error),
            ReadError::Content(problem) => Self::Content(problem.problem),
        }
    }
}

#[cfg(test)]
mod tests;
