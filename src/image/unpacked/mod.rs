//! An image unpacked into one file, with decompressed layers, in the order that the engine wrote them. Its content is
//! verified. Other modules use it (for the archive, a rewrite, a comparison) without moving the bytes.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::ops::Range;
use std::sync::Arc;

use super::extents::ExtentReader;
use super::member_digests::{Compression, ContentWriter};
use super::members::{ArchiveIndex, Out, ReadError, fail_fast, read_all};
use super::problem::{NOTHING_LOADS, Problem};
use super::verify::{Verified, misnamed_blobs, verify};
use super::{ArchiveError, oci};
use crate::net::{Digest, ImageId, SizedDigest};

/// The size of writes to disk, so that the cost of system calls is negligible.
const WRITE_BUFFER: usize = 256 * 1024;

/// An unpacked image.
#[derive(Debug)]
pub struct UnpackedImage {
    pub(super) file: Arc<File>,
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
    /// Where it is in the staging file, in order: one piece, unless a rewrite has reordered its entries.
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
        Ok(Self { file: Arc::new(file), config, layers, tags, ids, compressed_layers, archive: None })
    }

    /// An image whose file is already the canonical archive with this name.
    pub(super) fn of_archive(file: File, config: Vec<u8>, layers: Vec<Layer>, tag: &str, written: SizedDigest) -> Self {
        let (tags, ids) = (vec![tag.to_owned()], vec![Digest::of(&config)]);
        let (file, archive) = (Arc::new(file), Some((tag.to_owned(), written)));
        Self { file, config, layers, tags, ids, compressed_layers: 0, archive }
    }

    /// The digest and size of the file, if it is the canonical archive with this name.
    pub(super) fn is_archive_of(&self, tag: &str) -> Option<SizedDigest> {
        self.archive.as_ref().filter(|(of, _)| of == tag).map(|(_, written)| *written)
    }

    /// The file that has the layers.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
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
        ExtentReader::new(&self.file, layer.map_or(&[][..], |layer| &layer.pieces))
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
