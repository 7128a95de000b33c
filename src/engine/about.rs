//! What an engine says of itself, for the log and for the provenance of what it builds. Asking it is for `connect`.

use std::fmt;

use serde::Serialize;

use super::{Engine, Kind};

/// An engine's kind and versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    /// `Docker` or `Podman`.
    pub name: &'static str,
    /// Its version, if it tells one.
    pub version: Option<String>,
    /// The newest version of Docker's API that it speaks.
    pub api_version: Option<String>,
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.version.as_deref().unwrap_or("of unknown version");
        let api = self.api_version.as_deref().unwrap_or("unknown");
        write!(f, "{} {version} (API {api})", self.name)
    }
}

impl Engine {
    /// What it says of itself.
    #[must_use]
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Who in the engine reads a `Dockerfile`.
    pub(super) fn builder_name(&self, by_buildkit: bool) -> &'static str {
        match (self.kind, by_buildkit) {
            (Kind::Docker, false) => "classic",
            (Kind::Docker, true) => "buildkit",
            (Kind::Podman, _) => "buildah",
        }
    }
}
