//! Where credentials for registries are, by the settings.

use super::{ConfigError, ProcessEnvironment, SettingLayers, docker, settings};
use crate::net::registry::RegistryLogins;

/// Where the settings say that they are.
pub(super) fn registry_logins(
    sources: &SettingLayers,
    around: &ProcessEnvironment,
) -> Result<RegistryLogins, ConfigError> {
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
    Ok(RegistryLogins { text: text.map(|given| given.text), files })
}
