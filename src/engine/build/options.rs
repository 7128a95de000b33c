//! What a build is given besides its context, and where steps may be taken from.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::engine::{BuilderChoice, SecretSources, TargetArch};
use crate::report::keywords;

/// What the engine is told besides the context.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BuildPlan {
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// Network of `RUN` steps.
    pub network: Option<String>,
    /// Who builds.
    pub builder: BuilderChoice,
    /// What the `Dockerfile` may ask for: where from, never what.
    pub secrets: SecretSources,
    /// Where steps may be taken from; absent, what is right for the job.
    pub cache_from: Option<CacheFrom>,
    /// The architecture of the image; absent, the engine's.
    pub target_arch: Option<TargetArch>,
}

keywords! {
    /// Where a build may take steps from that have been built before.
    pub enum CacheFrom, "a layer cache" {
        /// From the newest image of the same name that the index has.
        Latest = "latest",
        /// From the parent image, which is loaded anyway.
        Parent = "parent",
        /// From nowhere: each step is built.
        Off = "off",
    }
}
