//! The configuration of `init`: which tree, and whose credentials for the registry of the base image.

use super::logins::registry_logins;
use super::{ConfigError, ImagesDir, ProcessEnvironment, SettingLayers, retry};
use crate::net::registry::RegistryLogins;
use crate::net::retry::RetryConfig;

/// How often a registry is asked for a digest that the image can do without.
const ATTEMPTS: u32 = 2;

/// One invocation of `init`.
#[derive(Debug)]
pub struct InitConfig {
    /// Where the images are.
    pub place: ImagesDir,
    /// Where credentials for registries are.
    pub logins: RegistryLogins,
    /// How long and how often to try.
    pub retry: RetryConfig,
}

impl InitConfig {
    /// Reads the configuration of `init`.
    pub fn read(settings: &SettingLayers, environment: &ProcessEnvironment) -> Result<Self, ConfigError> {
        let retry = retry::read(settings)?;
        Ok(Self {
            place: ImagesDir::read(settings, &environment.directory)?,
            logins: registry_logins(settings, environment)?,
            retry: RetryConfig { attempts: retry.attempts.or(Some(ATTEMPTS)), ..retry },
        })
    }
}
