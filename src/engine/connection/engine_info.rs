//! The name and versions of an engine, for the log and for the provenance of the images that it builds. `find` requests them.

use std::fmt;

use serde::Serialize;

use crate::engine::Engine;

/// An engine's kind and versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineInfo {
    /// `Docker` or `Podman`.
    pub name: &'static str,
    /// Its version, if it reports one.
    pub version: Option<String>,
    /// The newest version of Docker's API that it supports.
    pub api_version: Option<String>,
}

/// The API version of Docker 23.0.
const DOCKER_23: (u32, u32) = (1, 42);

impl EngineInfo {
    /// Whether BuildKit can record in an image which steps made its layers. BuildKit of Docker 20.10 follows records that refer
    /// to one another in a circle, until the engine's stack overflows and the whole engine crashes: observed with 20.10.24,
    /// while several builds copied the same files.
    pub(in crate::engine) fn supports_inline_cache(&self) -> bool {
        self.is_docker_23()
    }

    /// Whether it supports the API of Docker 23.0 or later.
    pub(in crate::engine) fn is_docker_23(&self) -> bool {
        numbers(self.api_version.as_deref()).is_some_and(|version| version >= DOCKER_23)
    }
}

/// The first two numbers of a version.
pub(in crate::engine) fn numbers(version: Option<&str>) -> Option<(u32, u32)> {
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
    /// The engine's name and versions.
    #[must_use]
    pub fn about(&self) -> &EngineInfo {
        &self.about
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::driver::{DockerEngine, EngineDriver, PodmanEngine};

    #[test]
    fn records_are_for_newer_engines() {
        for (api, keeps) in
            [(Some("1.41"), false), (Some("1.42"), true), (Some("2.0"), true), (Some("?"), false), (None, false)]
        {
            let about = EngineInfo { api_version: api.map(str::to_owned), ..EngineInfo::default() };
            assert_eq!(about.supports_inline_cache(), keeps, "{api:?}");
        }
    }

    #[test]
    fn here_documents_are_for_newer_engines() {
        let cases: [(&dyn EngineDriver, &str, &str, bool); 5] = [
            (&DockerEngine, "20.10.24", "1.41", false),
            (&DockerEngine, "23.0.1", "1.42", true),
            (&PodmanEngine, "4.3.1", "1.41", false),
            (&PodmanEngine, "4.8.0-dev", "1.41", true),
            (&PodmanEngine, "5.8.6", "1.44", true),
        ];
        for (driver, version, api, knows) in cases {
            let (version, api_version) = (Some(version.to_owned()), Some(api.to_owned()));
            let about = EngineInfo { name: driver.name(), version, api_version };
            assert_eq!(driver.knows_here_documents(&about), knows, "{about}");
        }
    }
}
