//! The differences between engines: each engine has a file here that implements [`EngineDriver`]; no other module checks
//! which engine it is. To add one: write its file, add it to [`ALL`], and add its value of `--engine` in `engine::config`.

mod docker;
mod interface;
mod podman;

pub(super) use docker::DockerEngine;
pub(super) use interface::{AbandonedBuild, BuilderRequest, EngineDriver, Histories};
pub(super) use podman::PodmanEngine;

/// All engines, in the order in which their default sockets are tried.
pub(super) const ALL: [&dyn EngineDriver; 2] = [&DockerEngine, &PodmanEngine];
