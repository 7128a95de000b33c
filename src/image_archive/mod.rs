//! The image archive: what an engine exports, made into one docker-archive that every consumer loads, and any such
//! archive, verified on its way into an engine. One pass, bytes in, bytes out; where from and where to is for the rooms above.

mod check;
#[cfg(test)]
mod fixture;
pub mod layer;
mod manifest;
mod members;
mod normalise;
mod oci;
mod pieces;
mod problem;
mod relay;
pub mod reproducible;
mod spool;
mod sums;
mod verify;

use std::io::{Read, Write};

pub use check::{Checked, check};
pub use normalise::{ArchiveError, Normalised};
pub use pieces::Pieces;
pub use problem::Problem;
pub use relay::{RelayError, Relayed, relay};
pub use spool::{Layer, Spool};
pub use sums::Packing;

use crate::names::Digest;
use crate::stream::Tally;

/// Members up to this size can be configurations, which are kilobytes; larger ones are layers.
const SMALL_MEMBER: u64 = 4 * 1024 * 1024;

/// An archive that has been written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// sha256 of the written file.
    pub sha256: Digest,
    /// Size of the written file in bytes.
    pub size: u64,
    /// What the archive holds.
    pub content: Normalised,
}

/// Reads an engine's export and writes the archive: normalised, compressed where a level is given, hashed, counted.
///
/// `image_id` is the id that the build gave; an export of anything else is refused. On an error what has been
/// written is worthless.
pub fn write<R: Read, W: Write>(
    export: R,
    image_id: &str,
    tag: &str,
    zstd_level: Option<i32>,
    out: W,
) -> Result<Written, ArchiveError> {
    let tally = Tally::new(out);
    let (content, tally) = match zstd_level {
        None => normalise::normalise(export, image_id, tag, tally)?,
        Some(level) => {
            let encoder = compressor(tally, level).map_err(ArchiveError::Write)?;
            let (content, encoder) = normalise::normalise(export, image_id, tag, encoder)?;
            (content, encoder.finish().map_err(ArchiveError::Write)?)
        }
    };
    let (mut out, sha256, size) = tally.finish();
    out.flush().map_err(ArchiveError::Write)?;
    Ok(Written { sha256, size, content })
}

/// zstd on all cores, with a checksum, so that a consumer notices a damaged file by itself.
fn compressor<W: Write>(out: W, level: i32) -> std::io::Result<zstd::Encoder<'static, W>> {
    let mut encoder = zstd::Encoder::new(out, level)?;
    encoder.include_checksum(true)?;
    // Each takes memory of its own, at high levels a hundred megabytes.
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(8);
    encoder.multithread(u32::try_from(workers).unwrap_or(1))?;
    Ok(encoder)
}
