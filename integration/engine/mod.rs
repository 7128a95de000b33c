//! The engines: how one is found, started, asked to build, and read.

mod buildkit;
mod export;
mod find_engine;
mod managed;
mod private_bases;
pub(crate) mod target_arch;
