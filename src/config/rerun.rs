//! The configuration of `rerun` besides the task: whether to ask, and how to follow the run.

use std::num::NonZeroU64;
use std::time::Duration;

use super::access::Credentials;
use super::{ConfigError, SettingLayers, access, settings};
use crate::taskcluster::Deployment;

/// The subcommand `rerun`.
#[derive(Debug)]
pub struct Rerun {
    /// The deployment that has the task. Reading it needs no credentials.
    pub deployment: Deployment,
    /// Do it without asking.
    pub yes: bool,
    /// Whether to follow the run to its end.
    pub follow: bool,
    /// The longest pause between two polls of the run.
    pub longest_pause: Duration,
}

impl Rerun {
    /// Reads what `rerun` needs.
    pub fn read(settings: &SettingLayers) -> Result<Self, ConfigError> {
        let pause: NonZeroU64 = settings.parse_or_default(&settings::LONGEST_PAUSE)?;
        Ok(Self {
            deployment: access::required(settings, Credentials::Optional)?,
            yes: settings.switch(&settings::YES)?,
            follow: !settings.switch(&settings::NO_FOLLOW)?,
            longest_pause: Duration::from_secs(pause.get()),
        })
    }
}
