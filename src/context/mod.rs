//! The context: the files that a build may see, as a tar, and the hash that names it.

pub mod intake;
pub mod safety;
