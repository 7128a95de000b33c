//! Contexts: what belongs to one, and what it hashes to, compared with taskgraph and docker.

mod dockerignore;
pub(crate) mod hash_conformance;
mod old_taskgraph;
mod run_task;
