//! What a build is given besides its context, and where steps may be taken from.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::engine::{BuilderChoice, SecretSources, TargetArch};

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

/// Where a build may take steps from that have been built before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheFrom {
    /// From the newest image of the same name that the index has.
    Latest,
    /// From the parent image, which is loaded anyway.
    Parent,
    /// From nowhere: each step is built.
    Off,
}

impl fmt::Display for CacheFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Latest => "latest",
            Self::Parent => "parent",
            Self::Off => "off",
        })
    }
}

impl FromStr for CacheFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "latest" => Ok(Self::Latest),
            "parent" => Ok(Self::Parent),
            "off" => Ok(Self::Off),
            _ => Err(format!("{text:?} is no layer cache: expected latest, parent or off")),
        }
    }
}
