//! What an engine says of itself, for the log and for the provenance of what it builds. Asking it is for `connect`.

use std::fmt;

use serde::Serialize;

use super::{Engine, Kind};

/// An engine's kind and versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineInfo {
    /// `Docker` or `Podman`.
    pub name: &'static str,
    /// Its version, if it tells one.
    pub version: Option<String>,
    /// The newest version of Docker's API that it speaks.
    pub api_version: Option<String>,
}

/// The API version of Docker 23.0.
const DOCKER_23: (u32, u32) = (1, 42);

impl EngineInfo {
    /// Whether BuildKit can be asked to write down of which steps an image's layers are. That of Docker 20.10 follows records that
    /// lead to one another in a circle, until the engine's stack is full and the whole engine ends: seen with 20.10.24, while
    /// several builds copied the same files.
    pub(super) fn keeps_records(&self) -> bool {
        numbers(self.api_version.as_deref()).is_some_and(|version| version >= DOCKER_23)
    }

    /// Whether its builder knows here-documents without a `# syntax=`; of Docker's the newer one.
    pub(super) fn knows_here_documents(&self) -> bool {
        match self.name {
            "Podman" => numbers(self.version.as_deref()).is_none_or(|version| version >= PODMAN_4_8),
            _ => self.keeps_records(),
        }
    }
}

/// The Podman that begins to know here-documents.
const PODMAN_4_8: (u32, u32) = (4, 8);

/// The first two numbers of a version.
fn numbers(version: Option<&str>) -> Option<(u32, u32)> {
    let mut numbers = version?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

impl fmt::Display for EngineInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.version.as_deref().unwrap_or("of unknown version");
        let api = self.api_version.as_deref().unwrap_or("unknown");
        write!(f, "{} {version} (API {api})", self.name)
    }
}

impl Engine {
    /// What it says of itself.
    #[must_use]
    pub fn about(&self) -> &EngineInfo {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_for_newer_engines() {
        for (api, keeps) in
            [(Some("1.41"), false), (Some("1.42"), true), (Some("2.0"), true), (Some("?"), false), (None, false)]
        {
            let about = EngineInfo { api_version: api.map(str::to_owned), ..EngineInfo::default() };
            assert_eq!(about.keeps_records(), keeps, "{api:?}");
        }
    }

    #[test]
    fn here_documents_are_for_newer_engines() {
        for (name, version, api, knows) in [
            ("Docker", "20.10.24", "1.41", false),
            ("Docker", "23.0.1", "1.42", true),
            ("Podman", "4.3.1", "1.41", false),
            ("Podman", "4.8.0-dev", "1.41", true),
            ("Podman", "5.8.6", "1.44", true),
        ] {
            let (version, api_version) = (Some(version.to_owned()), Some(api.to_owned()));
            assert_eq!(EngineInfo { name, version, api_version }.knows_here_documents(), knows, "{name} {api}");
        }
    }
}
