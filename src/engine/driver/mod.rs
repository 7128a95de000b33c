//! What differs between engines: each has a file here that answers the questions of [`EngineDriver`]; nothing else asks which
//! engine it is. To add one: its file, its line in [`ALL`], and its value of `--engine` in `engine::config`.

mod docker;
mod interface;
mod podman;

pub(super) use docker::DockerEngine;
pub(super) use interface::{AbandonedBuild, BuilderRequest, EngineDriver, Histories};
pub(super) use podman::PodmanEngine;

/// All engines, in the order in which their usual sockets are tried.
pub(super) const ALL: [&dyn EngineDriver; 2] = [&DockerEngine, &PodmanEngine];
