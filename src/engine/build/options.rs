//! The options of a build besides its context, and where it may take cached steps from.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::engine::{BuilderChoice, SecretSources, TargetArch};
use crate::report::keywords;

/// The options of a build, besides its context.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BuildPlan {
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// Network of `RUN` steps.
    pub network: Option<String>,
    /// The builder to use.
    pub builder: BuilderChoice,
    /// The secrets that the `Dockerfile` may use: their sources, never their values.
    pub secrets: SecretSources,
    /// Where the build may take cached steps from. `None`: the job's default.
    pub cache_from: Option<CacheFrom>,
    /// The architecture of the image. `None`: the engine's.
    pub target_arch: Option<TargetArch>,
}

keywords! {
    /// Where a build may take cached steps from.
    pub enum CacheFrom, "a layer cache" {
        /// From the newest image of the same name in the index.
        Latest = "latest",
        /// From the parent image, which is loaded anyway.
        Parent = "parent",
        /// From nowhere: every step is built.
        Off = "off",
    }
}
