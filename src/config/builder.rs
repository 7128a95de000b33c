//! What a build is told besides its context: who builds it, on which network, and which secrets it may ask for. The
//! values of secrets are no part of the configuration.

use std::collections::BTreeMap;

use super::{ConfigError, ProcessEnvironment, SettingLayers, settings};
use crate::engine::{BuildPlan, BuilderChoice, SecretSource, SecretSources};

/// Reads what a build with these arguments is told.
pub(super) fn read(
    sources: &SettingLayers,
    around: &ProcessEnvironment,
    args: BTreeMap<String, String>,
) -> Result<BuildPlan, ConfigError> {
    // An empty flag is none, like an empty variable.
    let network = sources.parse(&settings::DOCKER_BUILD_NETWORK)?.filter(|network: &String| !network.is_empty());
    let (builder, secrets) = (builder(sources)?, secrets(sources, around)?);
    let cache_from = sources.parse(&settings::CACHE_FROM)?;
    Ok(BuildPlan { args, network, builder, secrets, cache_from, target_arch: None })
}

/// Who builds. The images of steps, which a shell after a failure needs, are the classic builder's only.
fn builder(sources: &SettingLayers) -> Result<BuilderChoice, ConfigError> {
    let builder = sources.parse_or_default(&settings::BUILDER)?;
    match (builder, sources.switch(&settings::SHELL)?) {
        (BuilderChoice::BuildKit, true) => Err(ConfigError::Combination(
            "--shell opens a shell in the image of the last good step, which BuildKit does not make: leave --builder buildkit or --shell away".to_owned(),
        )),
        (BuilderChoice::Auto, true) => Ok(BuilderChoice::Classic),
        (builder, _) => Ok(builder),
    }
}

/// Where the values of secrets are; a file's path is the one that somebody typed here.
fn secrets(sources: &SettingLayers, around: &ProcessEnvironment) -> Result<SecretSources, ConfigError> {
    let Some(given) = sources.get(&settings::SECRET)? else { return Ok(SecretSources::default()) };
    let mut secrets: SecretSources = given.parse()?;
    for source in secrets.0.values_mut() {
        if let SecretSource::File { file } = source {
            *file = around.directory.join(&file);
        }
    }
    Ok(secrets)
}
