//! The configuration of `push`: which tree, which engine, whose credentials. The command line selects the image.

use super::logins::registry_logins;
use super::{ConfigError, ImagesDir, ProcessEnvironment, SettingLayers, retry, settings};
use crate::engine::EngineConfig;
use crate::net::registry::RegistryLogins;
use crate::net::retry::RetryConfig;

/// One invocation of `push`.
#[derive(Debug)]
pub struct PushConfig {
    /// Where the images are.
    pub place: ImagesDir,
    /// Where to look for an engine.
    pub engine: EngineConfig,
    /// How to push.
    pub pushing: Pushing,
}

/// How images are pushed.
#[derive(Clone, Debug)]
pub struct Pushing {
    /// Push over a tag that has other content.
    pub force: bool,
    /// Write the digest to the image's HASH.
    pub pin: bool,
    /// Where credentials for registries are.
    pub logins: RegistryLogins,
    /// How long and how often to try.
    pub retry: RetryConfig,
}

impl PushConfig {
    /// Reads the configuration of `push`.
    pub fn read(settings: &SettingLayers, environment: &ProcessEnvironment) -> Result<Self, ConfigError> {
        Ok(Self {
            place: ImagesDir::read(settings, &environment.directory)?,
            engine: EngineConfig::read_lasting(settings, environment)?,
            pushing: Pushing::read(settings, environment)?,
        })
    }
}

impl Pushing {
    pub(super) fn read(settings: &SettingLayers, environment: &ProcessEnvironment) -> Result<Self, ConfigError> {
        Ok(Self {
            force: settings.switch(&settings::FORCE)?,
            pin: settings.switch(&settings::PIN)?,
            logins: registry_logins(settings, environment)?,
            retry: retry::read(settings)?,
        })
    }
}
