//! The configuration of `history`: whose pushes, how many of them, and whether they are also drawn. The command line names the
//! image.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::access::{self, Credentials};
use super::{ConfigError, SettingLayers, settings};
use crate::net::NameError;
use crate::taskcluster::{Deployment, IndexPrefix, Project, PushDate};

/// One invocation of `history`.
#[derive(Clone, Debug)]
pub struct HistoryConfig {
    /// The project whose pushes are listed: the configured one, else the central one.
    pub project: Project,
    /// Prefix of the routes.
    pub index: IndexPrefix,
    /// The deployment.
    pub deployment: Deployment,
    /// The most pushes to list.
    pub limit: NonZeroUsize,
    /// Earlier pushes are left out.
    pub since: Option<Timestamp>,
    /// Where the page is written.
    pub html: Option<PathBuf>,
}

impl HistoryConfig {
    /// Reads the configuration of `history`.
    pub fn read(settings: &SettingLayers) -> Result<Self, ConfigError> {
        let project: Option<Project> = settings.parse(&settings::PROJECT)?;
        Ok(Self {
            project: match project {
                Some(project) => project,
                None => settings.parse_or_default(&settings::CENTRAL)?,
            },
            index: settings.parse_or_default(&settings::INDEX)?,
            deployment: access::required(settings, Credentials::Optional)?,
            limit: settings.parse_or_default(&settings::LIMIT)?,
            since: settings.parse::<Since>(&settings::SINCE)?.map(|since| since.0),
            html: settings.parse(&settings::HTML)?,
        })
    }
}

/// A day, a time, or a push.
struct Since(Timestamp);

impl FromStr for Since {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let time = match text.len() {
            10 => text.parse::<Date>().ok().and_then(|day| day.to_zoned(TimeZone::UTC).ok()).map(|day| day.timestamp()),
            14 => text.parse().ok().and_then(|push: PushDate| Timestamp::from_second(push.epoch_seconds()).ok()),
            _ => text.parse().ok(),
        };
        let rule = "expected YYYY-MM-DD in UTC, a time as 2015-12-09T12:34:56Z, or YYYYMMDDHHMMSS in UTC";
        time.map(Self).ok_or_else(|| NameError::new(text, "a date", rule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_a_day_a_time_or_a_push() {
        let of = |text: &str| text.parse::<Since>().ok().map(|since| since.0.to_string());
        assert_eq!(of("2015-12-09").unwrap(), "2015-12-09T00:00:00Z");
        assert_eq!(of("2015-12-09T12:34:56+01:00").unwrap(), "2015-12-09T11:34:56Z");
        assert_eq!(of("20151209123456").unwrap(), "2015-12-09T12:34:56Z");
        for wrong in ["", "yesterday", "2015-13-09", "2015-12-09T12:34:56", "2015", "1449664496"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
