//! image-worker builds Docker images inside Taskcluster tasks.
//!
//! The modules, the top layer first; imports go down only (docs/architecture.md):
//!
//! - [`cli`]: arguments, dispatch, error lines and exit codes. [`commands`]: what each subcommand does.
//! - [`job`]: the parts of the image task's job. [`decision`]: the decision task's side.
//! - [`repository`]: the image directories of a checkout. [`config`]: settings as typed values, and the plan of a run.
//! - [`taskcluster`]: calls of the services. [`engine`]: Docker and Podman.
//! - [`image`], [`context`], [`dockerfile`]: what comes out of a build, what goes into it, and what is in its Dockerfile.
//! - [`net`]: transfers, retries, registries. [`report`]: the log, and secrets that it hides.

pub mod cli;
pub mod commands;
pub mod config;
pub mod context;
pub mod decision;
pub mod dockerfile;
pub mod engine;
pub mod image;
pub mod job;
pub mod net;
pub mod report;
pub mod repository;
pub mod taskcluster;
