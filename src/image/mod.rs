//! The image archive: what an engine exports, made into the one docker-archive that every consumer loads, and any such
//! archive, verified on its way into an engine. Bytes in, bytes out; where from and where to is for the modules above.

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
mod known_layers;
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

pub use arrange::{ArchiveLayout, Written};
pub use check::{Checked, check};
pub use extents::ExtentReader;
pub use forward::{ForwardError, ForwardSummary, verify_and_forward, verify_and_forward_with};
pub use known_layers::{KnownLayers, KnownLayersError};
pub use member_digests::Compression;
pub(crate) use oci::{Descriptor, Index, Manifest};
pub(crate) use parts::header;
pub use problem::Problem;
pub use squash::SquashedImage;
pub use summary::ImageSummary;
pub use unpacked::{Layer, UnpackedImage};

/// Members up to this size can be configurations, which are kilobytes; larger ones are layers.
const SMALL_MEMBER: u64 = 4 * 1024 * 1024;

/// What is wrong with an image archive that is taken apart, or with writing one.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The export broke off, or is no tar.
    #[error("the engine's export cannot be read to its end")]
    Read(#[source] io::Error),
    /// What is taken apart, or the archive, cannot be written.
    #[error("the image archive cannot be written")]
    Write(#[source] io::Error),
    /// What was written before is not there any more.
    #[error("the image's layers cannot be read back from the disk that they were written to")]
    ReadBack(#[source] io::Error),
    /// The export is not an archive of the image that was built.
    #[error("the engine's export is not the image that was built: {0}")]
    Content(String),
    /// It cannot be made reproducible.
    #[error(transparent)]
    Rewrite(#[from] reproducible::RewriteError),
}
