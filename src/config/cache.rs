//! The source of cached build steps, and its default for each kind of job. The job finds out whether there is such an image.

use super::{ConfigError, SettingLayers, settings};
use crate::config::plan::Plan;
use crate::dockerfile::PARENT_ARG;
use crate::engine::CacheFrom;

/// The choice for a job. It adds a log line if the default is not the usual one.
pub(super) fn read(settings: &SettingLayers, plan: &Plan, assumed: &mut Vec<String>) -> Result<CacheFrom, ConfigError> {
    if let Some(choice) = plan.build.cache_from {
        return match (choice, &plan.parent, settings.get(&settings::CACHE_FROM)?) {
            (CacheFrom::Parent, None, Some(given)) if !plan.build.args.contains_key(PARENT_ARG) => Err(given.wrong(
                "parent: there is no parent, as PARENT_TASK_ID is not set; set it, or take latest or off".to_owned(),
            )),
            _ => Ok(choice),
        };
    }
    // Both are used to build without an earlier build's results.
    let why = if plan.reproducible.is_some() {
        "a reproducible image"
    } else if settings.switch(&settings::FORCE)? {
        "an image that is built by force"
    } else if settings.switch(&settings::REBUILD_TASK)? {
        "an image that is rebuilt"
    } else {
        return settings.parse_or_default(&settings::CACHE_FROM);
    };
    assumed.push(format!("CACHE_FROM is not set: it is off, as {why} is made of its context and its base only"));
    Ok(CacheFrom::Off)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::{Config, ProcessEnvironment};
    use super::*;

    const PARENT: &str = "BBBBBBBBQBqBBBBBBBBBBA";

    /// The choice for a dry run with these variables, and its log lines.
    fn holds(variables: &[(&str, &str)]) -> Result<(CacheFrom, bool), String> {
        let hash = "ab".repeat(32);
        let usual = [
            ("IMAGE_NAME", "builder"),
            ("PROJECT", "try"),
            ("HASH", hash.as_str()),
            ("CONTEXT_URL", "https://example.com/context.tar.gz"),
            ("IMAGE_WORKER_DRY_RUN", "1"),
            ("TASKCLUSTER_ROOT_URL", "https://tc.example.com"),
        ];
        let all = usual.iter().chain(variables);
        let environment =
            |name: &str| all.clone().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
        let settings = SettingLayers::new([].into(), &environment).unwrap();
        let environment = ProcessEnvironment {
            variable: &environment,
            now: "2020-01-01T00:00:00Z".parse().unwrap(),
            directory: "/".into(),
            temporary: "/".into(),
        };
        let config = Config::read(&settings, &environment).map_err(|error| error.to_string())?;
        Ok((config.cache_from, config.assumed.iter().any(|line| line.contains("CACHE_FROM"))))
    }

    #[test]
    fn what_is_said_holds_and_else_what_is_right() {
        use CacheFrom::{Latest, Off, Parent};
        let (reproducible, force) = (("IMAGE_WORKER_REPRODUCIBLE", "1"), ("IMAGE_WORKER_FORCE", "1"));
        assert_eq!(holds(&[]), Ok((Latest, false)));
        assert_eq!(holds(&[("CACHE_FROM", "")]), Ok((Latest, false)));
        assert_eq!(holds(&[reproducible]), Ok((Off, true)));
        assert_eq!(holds(&[("SOURCE_DATE_EPOCH", "7")]), Ok((Off, true)));
        assert_eq!(holds(&[force]), Ok((Off, true)));
        assert_eq!(holds(&[("REBUILD", "1")]), Ok((Off, true)));
        assert_eq!(holds(&[("NEEDED_UNTIL", "2030-01-01T00:00:00Z")]), Ok((Latest, false)));
        assert_eq!(holds(&[("CACHE_FROM", "latest"), force, reproducible]), Ok((Latest, false)));
        assert_eq!(holds(&[("CACHE_FROM", "off")]), Ok((Off, false)));
        assert_eq!(holds(&[("CACHE_FROM", "parent"), ("PARENT_TASK_ID", PARENT)]), Ok((Parent, false)));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let error = holds(&[("CACHE_FROM", "parent")]).unwrap_err();
        assert!(error.starts_with("CACHE_FROM: parent: there is no parent"), "{error}");
        let error = holds(&[("CACHE_FROM", "newest")]).unwrap_err();
        assert_eq!(error, "CACHE_FROM: \"newest\" is not a layer cache: expected latest, parent or off");
    }
}
