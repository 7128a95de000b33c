//! The build options besides the context: the builder, the network, and the available secrets. The values of secrets are not part
//! of the configuration.

use std::collections::BTreeMap;

use super::{ConfigError, ProcessEnvironment, SettingLayers, settings};
use crate::engine::{BuildPlan, BuilderChoice, SecretSource, SecretSources};

/// Reads the options of a build with these arguments.
pub(super) fn read(
    settings: &SettingLayers,
    environment: &ProcessEnvironment,
    args: BTreeMap<String, String>,
) -> Result<BuildPlan, ConfigError> {
    // An empty flag is none, like an empty variable.
    let network = settings.parse(&settings::DOCKER_BUILD_NETWORK)?.filter(|network: &String| !network.is_empty());
    let (builder, secrets) = (builder(settings)?, secrets(settings, environment)?);
    let cache_from = settings.parse(&settings::CACHE_FROM)?;
    Ok(BuildPlan { args, network, builder, secrets, cache_from, target_arch: None })
}

/// The builder. Only the classic builder makes images of steps, which a shell after a failure needs.
fn builder(settings: &SettingLayers) -> Result<BuilderChoice, ConfigError> {
    let builder = settings.parse_or_default(&settings::BUILDER)?;
    match (builder, settings.switch(&settings::SHELL)?) {
        (BuilderChoice::BuildKit, true) => Err(ConfigError::Combination(
            "--shell opens a shell in the image of the last good step, which BuildKit does not make: leave --builder buildkit or --shell away".to_owned(),
        )),
        (BuilderChoice::Auto, true) => Ok(BuilderChoice::Classic),
        (builder, _) => Ok(builder),
    }
}

/// The sources of secret values; a file's path is relative to the current directory.
fn secrets(settings: &SettingLayers, environment: &ProcessEnvironment) -> Result<SecretSources, ConfigError> {
    let Some(given) = settings.get(&settings::SECRET)? else { return Ok(SecretSources::default()) };
    let mut secrets: SecretSources = given.parse()?;
    for source in secrets.0.values_mut() {
        if let SecretSource::File { file } = source {
            *file = environment.directory.join(&file);
        }
    }
    Ok(secrets)
}
