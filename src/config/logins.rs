//! Where credentials for registries are, by the settings.

use super::{ConfigError, ProcessEnvironment, SettingLayers, docker, settings};
use crate::net::registry::RegistryLogins;

/// Their location according to the settings.
pub(super) fn registry_logins(
    settings: &SettingLayers,
    environment: &ProcessEnvironment,
) -> Result<RegistryLogins, ConfigError> {
    let docker = docker::directory(settings, environment)?.map(|directory| directory.join("config.json"));
    let text = settings.get(&settings::DOCKER_AUTH_CONFIG)?;
    // The parser's error is left out: its text can contain passwords.
    if let Some(given) = text
        .as_ref()
        .filter(|given| serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&given.text).is_err())
    {
        return Err(given.wrong("is no JSON object, as docker's config.json is one: expected {\"auths\": …}"));
    }
    let files = settings.parse(&settings::REGISTRY_AUTH_FILE)?.into_iter().chain(docker).collect();
    Ok(RegistryLogins { text: text.map(|given| given.text), files })
}
