//! image-worker builds Docker images inside Taskcluster tasks.
//!
//! The map of the house; imports go down only (docs/architecture.md):
//!
//! - [`names`], [`stream`]: words and pipes, below everything.
//! - [`context`]: what a build may see, and the hash that names it.

pub mod context;
pub mod names;
pub mod stream;
