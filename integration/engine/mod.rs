//! The engines: how one is found and started, builds, and is read.

mod buildkit;
mod export;
mod find_engine;
mod managed;
mod private_bases;
mod storage_upload;
pub(crate) mod target_arch;
