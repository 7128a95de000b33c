//! The tar format, for contexts and images alike: headers and their checksums, PAX records, paths. The `tar` crate walks
//! archives; this module has what that crate does not do, or does in another form. It reads and writes no files.

mod header;
mod path;
mod pax;

pub use header::{BLOCK, END, checksum, file_header, header_doubt, octal, padding, seal, verify_checksum};
pub use path::{folder, plain, resolve};
pub use pax::{Record, records_of, split_record};
