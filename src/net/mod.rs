//! Network transfers and their retries: HTTP transfers, registries, streams of bytes.

pub mod blocking;
mod checked_text;
pub mod counted;
mod digest;
pub mod digest_reader;
pub mod registry;
pub mod retry;
pub mod stream;
pub mod transfer;
mod url;

pub use checked_text::NameError;
#[cfg(test)]
pub(crate) use checked_text::accepts;
pub(crate) use checked_text::checked_text;
pub use digest::{Digest, ImageId, SizedDigest};
pub use url::{HttpUrl, host};
