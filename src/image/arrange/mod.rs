//! The canonical archive of an unpacked image: the same image gives the same bytes, whichever engine exported it, and in any
//! order. The archive is a layout of pieces of the unpacked image: bytes are copied only when a file is needed.

mod verifier;

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;

use zstd::zstd_safe::CParameter;

use super::extents::{ExtentReader, ReadAt};
use super::parts::{Part, parts};
use super::{ArchiveError, Layer, LayerSummary, UnpackedImage};
use crate::image::disk::punch_hole;
use crate::net::digest_reader::DigestReader;
use crate::net::{Digest, SizedDigest};
pub use verifier::LayerDamage;
use verifier::LayerVerifier;

/// The size of reads from and writes to disk, so that the cost of system calls is negligible.
const COPY_BUFFER: usize = 256 * 1024;

/// How much is written before its space in the staging file is released: holes of this size cost nothing.
const RELEASE_STEP: usize = 64 * 1024 * 1024;

/// The job size of a zstd worker. Each worker needs several times this memory; [`OVERLAP`] makes up for the worse compression.
const JOB: u32 = 1024 * 1024;

/// A job may refer to half a window of the data before it; with less, small jobs compress worse.
const OVERLAP: u32 = 8;

/// From this level on, zstd would use larger tables than [`TABLES`], up to 80 MiB for each worker.
const TABLES_FROM: i32 = 9;

/// Logarithms of the sizes of a worker's window and two tables, which are 2 MiB each: files get three or four per cent larger
/// than with all the memory that the level uses by default. docs/performance.md has the figures.
const TABLES: [u32; 3] = [21, 19, 19];

/// A canonical archive that consists of pieces of an unpacked image.
#[derive(Clone, Debug)]
pub struct ArchiveLayout {
    /// The staging file of the image.
    file: Arc<File>,
    /// What has the pieces.
    bytes: Arc<dyn ReadAt>,
    pieces: Arc<[Range<u64>]>,
    /// The distinct layers of an image in the engine's storage, in the archive's order: copying the archive verifies them. Those of
    /// a staged image are verified already.
    unverified: Arc<[PlacedLayer]>,
    /// The digest and size of the archive, if they are already known.
    known: Option<SizedDigest>,
}

/// Where a layer is in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlacedLayer {
    /// sha256 of the plain layer.
    pub(super) diff_id: Digest,
    /// Its bytes, counted from the beginning of the archive.
    pub(super) range: Range<u64>,
}

impl UnpackedImage {
    /// The canonical archive of the image, with `tag` as its only name. Everything except the layers is appended to the file,
    /// unless the file already is this archive.
    pub fn arrange(&self, tag: &str) -> Result<ArchiveLayout, ArchiveError> {
        if let Some(written) = self.is_archive_of(tag) {
            let pieces = std::iter::once(0..written.size).collect();
            return Ok(self.layout(pieces, Vec::new(), Some(written)));
        }
        let end = self.file.metadata().map_err(ArchiveError::ReadBack)?.len();
        let mut builder = LayoutBuilder { end, pieces: Vec::new(), small: Vec::new() };
        let (mut unverified, mut position) = (Vec::new(), 0);
        let layers: Vec<_> = self.layers().iter().map(LayerSummary::from).collect();
        for part in parts(self.config(), &layers, tag).map_err(ArchiveError::Write)? {
            match part {
                Part::Small(bytes) => {
                    builder.add_bytes(&bytes);
                    position += bytes.len() as u64;
                }
                Part::Layer(number) => {
                    let Layer { diff_id, size, pieces } = &self.layers()[number];
                    for piece in pieces {
                        builder.add_piece(piece.clone());
                    }
                    unverified.push(PlacedLayer { diff_id: *diff_id, range: position..position + size });
                    position += size;
                }
            }
        }
        self.file.write_all_at(&builder.small, end).map_err(ArchiveError::Write)?;
        unverified.retain(|_| self.is_in_storage());
        Ok(self.layout(builder.pieces, unverified, None))
    }

    fn layout(
        &self,
        pieces: Vec<Range<u64>>,
        unverified: Vec<PlacedLayer>,
        known: Option<SizedDigest>,
    ) -> ArchiveLayout {
        let (file, bytes) = (self.file.clone(), self.bytes.clone());
        ArchiveLayout { file, bytes, pieces: pieces.into(), unverified: unverified.into(), known }
    }
}

/// Builds the layout of an archive.
struct LayoutBuilder {
    /// Where the file ended: here the small parts begin.
    end: u64,
    pieces: Vec<Range<u64>>,
    /// Headers, documents and padding.
    small: Vec<u8>,
}

impl LayoutBuilder {
    fn add_bytes(&mut self, bytes: &[u8]) {
        let start = self.end + self.small.len() as u64;
        self.small.extend_from_slice(bytes);
        self.add_piece(start..start + bytes.len() as u64);
    }

    fn add_piece(&mut self, piece: Range<u64>) {
        match self.pieces.last_mut() {
            Some(last) if last.end == piece.start => last.end = piece.end,
            _ => self.pieces.push(piece),
        }
    }
}

impl ArchiveLayout {
    /// The archive's size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.bytes().length()
    }

    /// Whether the file at this path already is the archive.
    #[must_use]
    pub fn is_at(&self, path: &Path) -> bool {
        let same = |here: Metadata, there: Metadata| (here.dev(), here.ino()) == (there.dev(), there.ino());
        let there = || Ok::<_, io::Error>(same(self.file.metadata()?, fs::metadata(path)?));
        self.known.is_some() && there().unwrap_or(false)
    }

    /// Reads the archive from its beginning; there can be several readers at the same time.
    #[must_use]
    pub fn bytes(&self) -> ExtentReader<'_> {
        ExtentReader::new(&*self.bytes, &self.pieces)
    }

    /// Where the distinct layers of an image in the engine's storage are in the archive.
    pub(super) fn unverified(&self) -> &[PlacedLayer] {
        &self.unverified
    }

    /// Whether the layers are read where the engine keeps them.
    #[must_use]
    pub fn is_in_storage(&self) -> bool {
        !self.unverified.is_empty()
    }

    /// Copies the archive, and keeps what it is made of.
    pub fn copy_to<W: Write>(&self, out: &mut W) -> Result<(), ArchiveError> {
        self.copy(out, |_| {}, |_| {})
    }

    /// The digest and size of the archive; reads it if they are not known yet.
    pub fn sum(&self) -> Result<SizedDigest, ArchiveError> {
        if let Some(known) = self.known {
            return Ok(known);
        }
        let mut digest_reader = DigestReader::new(io::sink());
        self.copy_to(&mut digest_reader)?;
        Ok(digest_reader.finish().1)
    }

    /// Writes the archive, compressed with zstd if a level is given. Returns the digest and size of the written file.
    ///
    /// It releases the space in the staging file of what it has written: the unpacked image and this layout are useless
    /// afterwards, even if it fails. `progress` is called with numbers of bytes of the plain archive.
    pub fn write_into<W: Write>(
        self,
        zstd_level: Option<i32>,
        out: W,
        mut progress: impl FnMut(u64),
    ) -> Result<SizedDigest, ArchiveError> {
        let mut digest_reader = DigestReader::new(out);
        match zstd_level {
            None => self.copy_and_release(&mut digest_reader, &mut progress)?,
            Some(level) => {
                let mut encoder = compressor(&mut digest_reader, level).map_err(ArchiveError::Write)?;
                self.copy_and_release(&mut encoder, &mut progress)?;
                encoder.finish().map_err(ArchiveError::Write)?;
            }
        }
        let (mut out, written) = digest_reader.finish();
        out.flush().map_err(ArchiveError::Write)?;
        Ok(written)
    }

    fn copy_and_release<W: Write>(&self, out: &mut W, progress: impl FnMut(u64)) -> Result<(), ArchiveError> {
        let bytes = self.bytes();
        let release = |written| {
            // The engine's storage stays as it is.
            for place in bytes.places(written).into_iter().filter(|_| !self.is_in_storage()) {
                // If the file system does not support this, the staging file keeps its space until it is removed.
                let _ = punch_hole(&self.file, place);
            }
        };
        self.copy(out, release, progress)
    }

    /// Copies everything. Reports from time to time the range that was `copied`, and for each block its size.
    pub(super) fn copy<W: Write>(
        &self,
        out: &mut W,
        mut copied: impl FnMut(Range<u64>),
        mut progress: impl FnMut(u64),
    ) -> Result<(), ArchiveError> {
        let mut bytes = self.bytes();
        let mut verifier = LayerVerifier::new(&self.unverified);
        let mut buffer = vec![0; COPY_BUFFER];
        let (mut reported, mut position) = (0, 0);
        loop {
            let read = fill(&mut bytes, &mut buffer).map_err(|source| match verifier.unreadable(source) {
                Ok(damage) => damage.into(),
                Err(source) => ArchiveError::ReadBack(source),
            })?;
            verifier.add(&buffer[..read])?;
            out.write_all(&buffer[..read]).map_err(ArchiveError::Write)?;
            position += read as u64;
            progress(read as u64);
            if read == 0 || position - reported >= RELEASE_STEP as u64 {
                copied(reported..position);
                reported = position;
            }
            if read == 0 {
                return Ok(());
            }
        }
    }
}

/// Reads until the buffer is full or nothing is left: of many small pieces, too, comes one large block.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => filled += read?,
        }
    }
    Ok(filled)
}

/// Compresses with zstd on all cores, in one frame, with a checksum, so that consumers detect damaged files.
fn compressor<W: Write>(out: W, level: i32) -> io::Result<zstd::Encoder<'static, W>> {
    let mut encoder = zstd::Encoder::new(out, level)?;
    encoder.include_checksum(true)?;
    // The number of workers does not change the output.
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(8);
    encoder.multithread(u32::try_from(workers).unwrap_or(1))?;
    // The default are jobs of 8 to 32 MiB, several for each worker.
    encoder.set_parameter(CParameter::JobSize(JOB))?;
    encoder.set_parameter(CParameter::OverlapSizeLog(OVERLAP))?;
    if level >= TABLES_FROM {
        let [window, hash, chain] = TABLES;
        encoder.set_parameter(CParameter::WindowLog(window))?;
        encoder.set_parameter(CParameter::HashLog(hash))?;
        encoder.set_parameter(CParameter::ChainLog(chain))?;
    }
    Ok(encoder)
}

#[cfg(test)]
mod tests;
