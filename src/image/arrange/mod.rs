//! The canonical archive of an unpacked image: the same image is the same bytes, whichever engine exported it and in whatever
//! order. It is an arrangement of pieces of the unpacked image's own file, so that nothing is copied where nobody needs a
//! file.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;

use zstd::zstd_safe::CParameter;

use super::extents::ExtentReader;
use super::parts::{Part, parts};
use super::{ArchiveError, UnpackedImage};
use crate::image::disk::punch_hole;
use crate::net::Digest;
use crate::net::digest_reader::DigestReader;

/// Read from and written to disk at this size, so that system calls do not count.
const COPY_BUFFER: usize = 256 * 1024;

/// How much is written before its place in the staging file is given back: holes of this size cost nothing to make.
const GIVE_BACK: usize = 64 * 1024 * 1024;

/// What one zstd worker packs at once. Memory is several times this for each worker; what it costs is won back by [`OVERLAP`].
const JOB: u32 = 1024 * 1024;

/// Half a window of what lies before a job is what the job may look back to: with less, small jobs pack worse.
const OVERLAP: u32 = 8;

/// From this level on zstd would take larger tables than [`TABLES`], up to 80 MiB for each worker.
const TABLES_FROM: i32 = 9;

/// Logarithms of the window and of the two tables of a worker, which then are 2 MiB each: a file is three or four per cent
/// larger than with all the memory that the level asks for. docs/performance.md has the figures.
const TABLES: [u32; 3] = [21, 19, 19];

/// A canonical archive, which lies in pieces in a staging file.
#[derive(Clone, Debug)]
pub struct ArchiveLayout {
    file: Arc<File>,
    pieces: Arc<[Range<u64>]>,
    /// What it is as a file, where that is known already.
    known: Option<Written>,
}

/// An archive that has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// sha256 of the written file.
    pub sha256: Digest,
    /// Size of the written file in bytes.
    pub size: u64,
}

impl UnpackedImage {
    /// The canonical archive of the image, with `tag` as its only name. What it has beside the layers is written behind
    /// them, unless the file is that archive already.
    pub fn arrange(&self, tag: &str) -> Result<ArchiveLayout, ArchiveError> {
        if let Some(written) = self.is_archive_of(tag) {
            let pieces = std::iter::once(0..written.size).collect();
            return Ok(ArchiveLayout { file: self.file.clone(), pieces, known: Some(written) });
        }
        let end = self.file.metadata().map_err(ArchiveError::ReadBack)?.len();
        let mut arranging = Arranging { end, pieces: Vec::new(), small: Vec::new() };
        let layers: Vec<_> = self.layers().iter().map(|layer| (layer.diff_id, layer.size)).collect();
        for part in parts(self.config(), &layers, tag).map_err(ArchiveError::Write)? {
            match part {
                Part::Small(bytes) => arranging.small(&bytes),
                Part::Layer(number) => self.layers()[number].pieces.iter().for_each(|it| arranging.piece(it.clone())),
            }
        }
        self.file.write_all_at(&arranging.small, end).map_err(ArchiveError::Write)?;
        Ok(ArchiveLayout { file: self.file.clone(), pieces: arranging.pieces.into(), known: None })
    }
}

/// An arrangement in the making.
struct Arranging {
    /// Where the file ended, and what is small begins.
    end: u64,
    pieces: Vec<Range<u64>>,
    /// Headers, documents and padding.
    small: Vec<u8>,
}

impl Arranging {
    fn small(&mut self, bytes: &[u8]) {
        let start = self.end + self.small.len() as u64;
        self.small.extend_from_slice(bytes);
        self.piece(start..start + bytes.len() as u64);
    }

    fn piece(&mut self, piece: Range<u64>) {
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

    /// Whether the file at this path is the archive already.
    #[must_use]
    pub fn is_at(&self, path: &Path) -> bool {
        let same = |here: Metadata, there: Metadata| (here.dev(), here.ino()) == (there.dev(), there.ino());
        let there = || Ok::<_, io::Error>(same(self.file.metadata()?, fs::metadata(path)?));
        self.known.is_some() && there().unwrap_or(false)
    }

    /// The archive as bytes, from its beginning; many can read it at the same time.
    #[must_use]
    pub fn bytes(&self) -> ExtentReader<'_> {
        ExtentReader::new(&self.file, &self.pieces)
    }

    /// Copies the archive, and leaves it where it is.
    pub fn copy_to<W: Write>(&self, out: &mut W) -> Result<(), ArchiveError> {
        self.copy(out, |_| {})
    }

    /// What the archive is as a file, from a pass over it where that is not known yet.
    pub fn sum(&self) -> Result<Written, ArchiveError> {
        if let Some(known) = self.known {
            return Ok(known);
        }
        let mut tally = DigestReader::new(io::sink());
        self.copy_to(&mut tally)?;
        let (_, sha256, size) = tally.finish();
        Ok(Written { sha256, size })
    }

    /// Writes the archive, packed with zstd where a level is given.
    ///
    /// What has been written is given back to the disk: the unpacked image and this arrangement are worthless then, also where
    /// it ends with an error.
    pub fn write_into<W: Write>(self, zstd_level: Option<i32>, out: W) -> Result<Written, ArchiveError> {
        let mut tally = DigestReader::new(out);
        match zstd_level {
            None => self.empty(&mut tally)?,
            Some(level) => {
                let mut encoder = compressor(&mut tally, level).map_err(ArchiveError::Write)?;
                self.empty(&mut encoder)?;
                encoder.finish().map_err(ArchiveError::Write)?;
            }
        }
        let (mut out, sha256, size) = tally.finish();
        out.flush().map_err(ArchiveError::Write)?;
        Ok(Written { sha256, size })
    }

    fn empty<W: Write>(&self, out: &mut W) -> Result<(), ArchiveError> {
        let bytes = self.bytes();
        self.copy(out, |written| {
            for place in bytes.places(written) {
                // Where the file system cannot do it the staging file takes its room until it is gone.
                let _ = punch_hole(&self.file, place);
            }
        })
    }

    /// Copies everything, and tells now and then what has been copied.
    fn copy<W: Write>(&self, out: &mut W, mut copied: impl FnMut(Range<u64>)) -> Result<(), ArchiveError> {
        let mut bytes = self.bytes();
        let mut buffer = vec![0; COPY_BUFFER];
        let (mut told, mut position) = (0, 0);
        loop {
            let read = match bytes.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(ArchiveError::ReadBack)?,
            };
            out.write_all(&buffer[..read]).map_err(ArchiveError::Write)?;
            position += read as u64;
            if read == 0 || position - told >= GIVE_BACK as u64 {
                copied(told..position);
                told = position;
            }
            if read == 0 {
                return Ok(());
            }
        }
    }
}

/// zstd on all cores, in one frame, with a checksum, so that a consumer notices a damaged file by itself.
fn compressor<W: Write>(out: W, level: i32) -> io::Result<zstd::Encoder<'static, W>> {
    let mut encoder = zstd::Encoder::new(out, level)?;
    encoder.include_checksum(true)?;
    // How many there are does not change what is written.
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(8);
    encoder.multithread(u32::try_from(workers).unwrap_or(1))?;
    // Left alone it takes jobs of 8 to 32 MiB, several for each worker.
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
