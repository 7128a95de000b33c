//! The tar format, for contexts and images: headers and their checksums, PAX records, paths. The `tar` crate reads the
//! entries of archives; this module does what that crate does not do, or does differently. It reads and writes no files.

mod header;
mod path;
mod pax;

pub use header::{BLOCK, END, checksum, file_header, header_doubt, octal, padding, seal, verify_checksum};
pub use path::{parent, plain, resolve};
pub use pax::{Record, records_of, split_record};
