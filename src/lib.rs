//! image-worker builds Docker images inside Taskcluster tasks.
//!
//! The map of the house; imports go down only (docs/architecture.md):
//!
//! - [`names`], [`retry`], [`stream`]: words and pipes, below everything.
//! - [`report`]: the story on stderr: log lines, progress, the error line.
//! - [`config`], [`plan`], [`task`]: what is to be done, as values.
//! - [`context`], [`image_archive`]: what goes into a build and what comes out, as bytes.
//! - [`taskcluster`], [`engine`], [`download`], [`publish`]: the outside world.
//! - [`commands`]: each verb's story; [`cli`]: the command line.

pub mod config;
pub mod context;
pub mod engine;
pub mod image_archive;
pub mod names;
pub mod plan;
pub mod publish;
pub mod report;
pub mod retry;
pub mod stream;
pub mod taskcluster;
pub mod transfer;
