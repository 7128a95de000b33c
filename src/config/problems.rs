//! Finds all settings that are missing or wrong, not only the first: after each problem it reads the configuration again as if
//! that one were mended. `setting_layers` has the text of each.

use super::{ConfigError, SettingLayers};

/// Reads a configuration. If a setting is missing or wrong, its example takes its place, and the configuration is read again,
/// until it can be read or a problem is not one of a single setting. A lone problem is returned as it is.
pub(super) fn all<T>(
    settings: &SettingLayers,
    read: impl Fn(&SettingLayers) -> Result<T, ConfigError>,
) -> Result<T, ConfigError> {
    let first = match read(settings) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let mut mended = settings.clone();
    let mut problems = vec![first];
    while let Some(setting) = problems.last().and_then(ConfigError::setting)
        && mended.replace_by_example(setting)
    {
        match read(&mended) {
            // The example does not help: it is the same problem.
            Err(error) if error.setting() == Some(setting) => break,
            Err(error) => problems.push(error),
            Ok(_) => break,
        }
    }
    Err(match problems.pop() {
        Some(only) if problems.is_empty() => only,
        last => ConfigError::Several(problems.into_iter().chain(last).collect()),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ffi::OsString;

    use super::super::settings::{self, Setting};
    use super::super::{Config, ProcessEnvironment};
    use super::*;

    const TASK: &str = "fN1SbArXTPSVFNUvaOlinQ";

    /// The error of a job with these variables.
    fn error(variables: &BTreeMap<&str, String>) -> Option<ConfigError> {
        let environment = |name: &str| variables.get(name).map(OsString::from);
        let environment = ProcessEnvironment {
            variable: &environment,
            now: "2020-01-01T00:00:00Z".parse().unwrap(),
            directory: "/".into(),
            temporary: "/".into(),
        };
        let settings = SettingLayers::new(BTreeMap::new(), environment.variable).unwrap();
        Config::read(&settings, &environment).err()
    }

    fn complete() -> BTreeMap<&'static str, String> {
        let set = |setting: &Setting, value: &str| (setting.variable, value.to_owned());
        [
            set(&settings::ROOT_URL, "https://tc.example.com"),
            set(&settings::PROXY_URL, "http://taskcluster"),
            set(&settings::TASK_ID, TASK),
            set(&settings::RUN_ID, "0"),
            set(&settings::IMAGE_NAME, "builder"),
            set(&settings::PROJECT, "try"),
            set(&settings::HASH, &"ab".repeat(32)),
            set(&settings::PUSHDATE, "20151209123456"),
            set(&settings::CONTEXT_TASK_ID, TASK),
            set(&settings::CONTEXT_PATH, "public/docker-contexts/builder.tar.gz"),
            set(&settings::PARENT_TASK_ID, TASK),
            set(&settings::CACHE_FROM, "parent"),
        ]
        .into()
    }

    #[test]
    fn all_that_is_missing_or_wrong_is_named_at_once() {
        let ConfigError::Several(problems) = error(&BTreeMap::new()).unwrap() else { panic!("one problem only") };
        let named: Vec<_> = problems.iter().filter_map(|problem| problem.setting().map(|it| it.variable)).collect();
        for setting in ["TASKCLUSTER_ROOT_URL", "TASKCLUSTER_PROXY_URL", "TASK_ID", "RUN_ID", "IMAGE_NAME", "PROJECT"] {
            assert!(named.contains(&setting), "{setting} is not in {named:?}");
        }
        for setting in ["HASH", "PUSHDATE", "CONTEXT_TASK_ID", "CONTEXT_PATH"] {
            assert!(named.contains(&setting), "{setting} is not in {named:?}");
        }
        assert_eq!(named.len(), 10, "{named:?}");
        let mut two = complete();
        two.remove("IMAGE_NAME");
        two.insert("RUN_ID", "first".to_owned());
        let text = error(&two).unwrap().to_string();
        assert_eq!(
            text,
            "2 problems with settings, each with a line of its own below; not set: IMAGE_NAME (--image-name); wrong: RUN_ID"
        );
    }

    /// No value that replaces another may cause a problem of its own, nor hide one.
    #[test]
    fn a_lone_problem_stays_alone() {
        assert!(error(&complete()).is_none());
        for setting in settings::RUN.iter().flat_map(|group| group.iter()) {
            let mut variables = complete();
            if *setting == &settings::CONTEXT_URL {
                // Both are a problem of their own.
                variables.remove(settings::CONTEXT_TASK_ID.variable);
            }
            let was = variables.insert(setting.variable, "\u{1}".to_owned());
            let first = error(&variables);
            assert!(!matches!(first, Some(ConfigError::Several(_))), "{}: {first:?}", setting.variable);
            let Some(first) = first.filter(|_| was.is_some()) else { continue };
            assert_eq!(first.setting().map(|it| it.variable), Some(setting.variable), "{first}");
            variables.remove(setting.variable);
            let missing = error(&variables);
            assert!(!matches!(missing, Some(ConfigError::Several(_))), "{}: {missing:?}", setting.variable);
        }
    }

    /// A task whose payload publishes needs no run and no credentials, and a dry run no task.
    #[test]
    fn a_mistyped_way_to_publish_asks_for_nothing_that_only_another_way_needs() {
        for setting in [&settings::PUBLISH, &settings::DRY_RUN] {
            let mut variables = complete();
            for name in ["RUN_ID", "TASKCLUSTER_PROXY_URL"] {
                variables.remove(name);
            }
            variables.insert(setting.variable, "payloda".to_owned());
            let found = error(&variables).unwrap();
            assert_eq!(found.setting().map(|it| it.variable), Some(setting.variable), "{found}");
        }
    }
}
