//! An image taken apart into one file, its layers plain, in whatever order the engine gave them. Everything in it
//! is verified; what is made of it (the archive, a rewrite, a comparison) is for others, who leave the bytes where they are.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::ops::Range;
use std::sync::Arc;

use super::extents::ExtentReader;
use super::member_digests::{Compression, ContentWriter};
use super::members::{ArchiveIndex, Out, ReadError, fail_fast, read_all};
use super::problem::{NOTHING_LOADS, Problem};
use super::verify::{Verified, misnamed_blobs, verify};
use super::{ArchiveError, Written, oci};
use crate::net::{Digest, ImageId};

/// Written to disk at this size, so that system calls do not count.
const WRITE_BUFFER: usize = 256 * 1024;

/// An image taken apart.
#[derive(Debug)]
pub struct UnpackedImage {
    pub(super) file: Arc<File>,
    config: Vec<u8>,
    layers: Vec<Layer>,
    tags: Vec<String>,
    ids: Vec<Digest>,
    packed: usize,
    /// The file is the canonical archive with this name, and this is its sum.
    archive: Option<(String, Written)>,
}

/// A layer of an unpacked image. Layers that are the same share their bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// sha256 of the plain layer.
    pub diff_id: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Where it is in the staging file, in order: one piece, unless a rewrite has put its entries into another order.
    pub pieces: Vec<Range<u64>>,
}

impl UnpackedImage {
    /// Reads an archive of one image, in whatever form and compression, into an empty file that can be read and written.
    ///
    /// What no image needs comes into the file too, and is nowhere named. The image is whole: the configuration is what it
    /// is named by, and each layer is the one that it names. Memory is flat.
    pub fn import<R: Read>(mut source: R, file: File) -> Result<Self, ArchiveError> {
        let mut seen = ArchiveIndex::default();
        let mut out = Out { raw: io::sink(), plain: ContentWriter::new(BufWriter::with_capacity(WRITE_BUFFER, &file)) };
        read_all(&mut source, &mut out, &mut seen, &mut fail_fast)?;
        out.plain.flush().map_err(ArchiveError::Write)?;
        drop(out);
        let whole = whole(&seen).map_err(|problem| ArchiveError::Content(problem.problem))?;
        let Whole { config, layers, tags, ids, packed } = whole;
        Ok(Self { file: Arc::new(file), config, layers, tags, ids, packed, archive: None })
    }

    /// A file that is the canonical archive of an image with this name.
    pub(super) fn laid(file: File, config: Vec<u8>, layers: Vec<Layer>, tag: &str, written: Written) -> Self {
        let (tags, ids) = (vec![tag.to_owned()], vec![Digest::of(&config)]);
        let (file, archive) = (Arc::new(file), Some((tag.to_owned(), written)));
        Self { file, config, layers, tags, ids, packed: 0, archive }
    }

    /// What the file is, where it is the canonical archive with this name.
    pub(super) fn is_archive_of(&self, tag: &str) -> Option<Written> {
        self.archive.as_ref().filter(|(of, _)| of == tag).map(|(_, written)| *written)
    }

    /// The file that has the layers.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The image's configuration, as it came: its sha256 is the image's id.
    #[must_use]
    pub fn config(&self) -> &[u8] {
        &self.config
    }

    /// The layers, the lowest first.
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The names that the image came with.
    #[must_use]
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// How many of the layers came packed.
    #[must_use]
    pub fn packed(&self) -> usize {
        self.packed
    }

    /// The image's id, the digest of its configuration.
    #[must_use]
    pub fn image_id(&self) -> ImageId {
        ImageId::of(&self.config)
    }

    /// Refuses another image than the one with this id: the configuration's digest, or, with the containerd image store,
    /// that of a manifest or index which leads to it.
    pub fn expect(&self, image_id: ImageId) -> Result<(), ArchiveError> {
        if self.ids.contains(&image_id.hex()) {
            return Ok(());
        }
        Err(ArchiveError::Content(format!("it has {}, not {image_id}", self.image_id())))
    }

    /// A layer, from its beginning; a number that no layer has gives nothing to read.
    #[must_use]
    pub fn reader(&self, layer: usize) -> impl Read + Seek + use<'_> {
        let layer = self.layers.get(layer);
        ExtentReader::new(&self.file, layer.map_or(&[][..], |layer| &layer.pieces))
    }

    /// Another image in the place of this one, of the same file: its configuration and its layers.
    pub fn replace(&mut self, config: Vec<u8>, layers: Vec<Layer>) {
        self.ids = vec![Digest::of(&config)];
        self.config = config;
        self.layers = layers;
        self.archive = None;
    }
}

/// What is known of an image that is whole.
struct Whole {
    config: Vec<u8>,
    layers: Vec<Layer>,
    tags: Vec<String>,
    ids: Vec<Digest>,
    packed: usize,
}

fn whole(seen: &ArchiveIndex) -> Result<Whole, Problem> {
    let image = &*oci::the_image(seen)?;
    let Verified { problems, layers: packings, .. } = verify(seen, image);
    if let Some(problem) = problems.into_iter().chain(misnamed_blobs(seen)).next() {
        return Err(problem);
    }
    let missing = |name: &str| Problem::new(name, NOTHING_LOADS, format!("its member {name} is missing"));
    let config = seen.file(&image.config).ok_or_else(|| missing(&image.config))?;
    let layer = |name: &String| {
        let sums = seen.file(name).ok_or_else(|| missing(name))?;
        let diff_id = sums.content.ok_or_else(|| missing(name))?;
        Ok(Layer { diff_id, size: sums.at.end - sums.at.start, pieces: vec![sums.at.clone()] })
    };
    let layers = image.layers.iter().map(layer).collect::<Result<_, Problem>>()?;
    Ok(Whole {
        config: config.text.clone().ok_or_else(|| missing(&image.config))?,
        layers,
        tags: image.repo_tags.clone(),
        ids: oci::manifests_referencing(seen, config.raw),
        packed: packings.iter().filter(|packing| **packing != Compression::Plain).count(),
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
