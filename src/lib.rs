//! image-worker builds Docker images inside Taskcluster tasks.
//!
//! The map of the house; imports go down only (docs/architecture.md):
//!
//! - [`names`], [`secrets`], [`retry`], [`stream`]: words and pipes, below everything.
//! - [`report`], [`build_log`]: the story on stderr: log lines, progress, the error line; a build's output.
//! - [`builder`], [`build_secrets`], [`plan`], [`config`], [`task`]: what is to be done, as values; read from an environment, written into a task.
//! - [`graph`]: task graphs: the images that their tasks use, and the same graphs with the images filled in.
//! - [`dockerfile`]: Dockerfiles: preprocessing, instructions, the images that they name.
//! - [`context`], [`image_archive`], [`sbom`], [`metrics`]: what goes into a build and what comes out, as bytes, what is in
//!   that, and how much of it.
//! - [`tree`]: the images of a repository, who is built from whom, and their hashes.
//! - [`taskcluster`], [`transfer`], [`lookup`], [`registry`], [`engine`], [`build_script`], [`loading`], [`parent`], [`fetch`],
//!   [`provenance`], [`publish`]: the outside world.
//! - [`commands`]: each verb's story; [`cli`]: the command line.
//! - [`door`]: the only place that touches the real environment, clock, stdout and exit code.

pub mod build_log;
pub mod build_script;
pub mod build_secrets;
pub mod builder;
pub mod cli;
pub mod commands;
pub mod config;
pub mod context;
pub mod decision;
pub mod disk;
pub mod dockerfile;
pub mod document;
pub mod door;
pub mod engine;
pub mod fetch;
pub mod graph;
pub mod image_archive;
pub mod loading;
pub mod lookup;
pub mod metrics;
pub mod names;
pub mod parent;
pub mod plan;
pub mod provenance;
pub mod publish;
pub mod registry;
pub mod report;
pub mod retry;
pub mod sbom;
pub mod scratch;
pub mod secrets;
pub mod stream;
pub mod task;
pub mod taskcluster;
pub mod transfer;
pub mod tree;
