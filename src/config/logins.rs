//! Where credentials for registries are, and in which order they count. Reading them is for `registry`.

use std::fmt;
use std::path::PathBuf;

use super::{ConfigError, Sources, Surroundings, docker, settings};

/// Where credentials for registries are: in docker's format, each of which can name credential helpers.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RegistryLogins {
    /// `DOCKER_AUTH_CONFIG`, which comes before all files; a secret.
    pub text: Option<String>,
    /// `REGISTRY_AUTH_FILE`, then docker's own `config.json`. Files that are not there have nothing.
    pub files: Vec<PathBuf>,
}

impl fmt::Debug for RegistryLogins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text.as_ref().map(|_| "DOCKER_AUTH_CONFIG");
        write!(f, "RegistryLogins({text:?}, {:?})", self.files)
    }
}

impl RegistryLogins {
    pub(super) fn read(sources: &Sources, around: &Surroundings) -> Result<Self, ConfigError> {
        let docker = docker::folder(sources, around)?.map(|folder| folder.join("config.json"));
        let text = sources.get(&settings::DOCKER_AUTH_CONFIG)?;
        // Not what is wrong with it: in its own words are passwords.
        if let Some(given) = text
            .as_ref()
            .filter(|given| serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&given.text).is_err())
        {
            return Err(given.wrong("is no JSON object, as docker's config.json is one: expected {\"auths\": …}"));
        }
        let files = sources.parse(&settings::REGISTRY_AUTH_FILE)?.into_iter().chain(docker).collect();
        Ok(Self { text: text.map(|given| given.text), files })
    }
}
