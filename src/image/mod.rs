//! The image archive: converts an engine's export into the one docker-archive that every consumer can load, and verifies any
//! such archive on its way to an engine. It only processes bytes; the modules above choose their source and destination.

mod arrange;
pub mod cache_records;
mod check;
pub mod compare;
pub mod disk;
mod extents;
#[cfg(test)]
mod fixture;
mod forward;
pub mod inventory;
pub mod layer;
mod manifest;
mod member_digests;
mod members;
mod oci;
mod parts;
mod problem;
pub mod reproducible;
mod rootfs;
pub mod sbom;
mod squash;
pub mod steps;
mod summary;
mod unpacked;
mod verify;

use std::io;

/// The digest and size of a written archive.
pub use crate::net::SizedDigest as Written;
pub use arrange::{ArchiveLayout, LayerDamage};
pub use check::{Checked, check};
pub use extents::{ExtentReader, ReadAt};
pub use forward::{
    ForwardError, ForwardSummary, LayerPlace, PartialImage, PresentLayer, verify_and_forward, verify_and_forward_with,
    verify_and_unpack,
};
pub use member_digests::Compression;
pub(crate) use oci::{Descriptor, Index, Manifest};
pub(crate) use parts::header;
pub use problem::Problem;
pub(crate) use rootfs::diff_ids;
pub use squash::SquashedImage;
pub use summary::{ImageSummary, LayerSummary};
pub use unpacked::{Layer, UnpackedImage};

/// Members up to this size can be configurations, which are kilobytes; larger ones are layers.
const SMALL_MEMBER: u64 = 4 * 1024 * 1024;

/// What is wrong with an archive that cannot be read, as the end of a sentence about it.
fn read_problem(error: &io::Error) -> String {
    truncation(error).map_or_else(|| "cannot be read to its end".to_owned(), |cut| format!("is {cut}"))
}

/// Where an archive is cut off, in words: `truncated at 512 bytes`.
#[must_use]
pub fn truncation(error: &io::Error) -> Option<String> {
    members::Truncated::of(error).map(|cut| cut.to_string())
}

/// Why unpacking an image archive, or writing one, failed.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The export is truncated, or no tar.
    #[error("the engine's export {}", read_problem(.0))]
    Read(#[source] io::Error),
    /// The staging file or the archive cannot be written.
    #[error("the image archive cannot be written")]
    Write(#[source] io::Error),
    /// Data that was written before cannot be read back.
    #[error("the image's layers cannot be read back from the disk that they were written to")]
    ReadBack(#[source] io::Error),
    /// A layer in the engine's storage is not as it should be.
    #[error(transparent)]
    Layer(#[from] LayerDamage),
    /// The export is not an archive of the image that was built.
    #[error("the engine's export is not the image that was built: {0}")]
    Content(String),
    /// The image cannot be made reproducible.
    #[error(transparent)]
    Rewrite(#[from] reproducible::RewriteError),
}
