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

/// What to do where an HTTP client cannot be set up: it loads the machine's CA certificates, also for plain HTTP.
pub const NO_CERTIFICATES: &str =
    "install CA certificates (Debian's package ca-certificates), or name a file with some in SSL_CERT_FILE";
