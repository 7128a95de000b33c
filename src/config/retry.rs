//! How long and how often to try, as configured. `retry` explains the numbers.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use super::settings::{self, Setting};
use super::{ConfigError, SettingLayers};
use crate::net::retry::RetryConfig;

pub(super) fn read(settings: &SettingLayers) -> Result<RetryConfig, ConfigError> {
    // Nothing can be done in no time, and in no try.
    let seconds = |setting: &'static Setting| {
        settings.parse_or_default::<NonZeroU64>(setting).map(|seconds| Duration::from_secs(seconds.get()))
    };
    Ok(RetryConfig {
        attempts: settings.parse::<NonZeroU32>(&settings::TRIES)?.map(NonZeroU32::get),
        call_timeout: seconds(&settings::CALL_TIMEOUT)?,
        silence: seconds(&settings::SILENCE)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_show_the_defaults() {
        let settings = SettingLayers::new([].into(), &|_| None).unwrap();
        assert_eq!(read(&settings).unwrap(), RetryConfig::default());
    }
}
