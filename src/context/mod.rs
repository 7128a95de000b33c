//! The context: the files that a build may see, as a tar, and the hash that names it.
//!
//! - [`collect`]: from an image directory to a [`collect::Context`], its hash and its tar.
//! - `choose`: which files, under which names. `dockerfile`, `substitute`: the syntax that taskgraph adds to Dockerfiles.
//! - `walk`, `source`: the files below a directory, the bytes of a file. `archive`: the bytes of the tar.
//! - [`contents`]: the hash of the scheme `contents`.

mod archive;
mod choose;
pub mod collect;
pub mod contents;
pub mod dockerfile;
mod source;
mod substitute;
mod walk;
