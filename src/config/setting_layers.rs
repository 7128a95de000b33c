//! Where a setting's value comes from: flags beat environment variables, variables beat the configuration
//! file, the file beats defaults. Values stay text here; each keeps its origin, so that an error can name it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::replay::Job;
use super::settings::{self, Setting};
use crate::report::{Hint, counted, nearest};
use crate::taskcluster::TaskId;

/// A configuration error, which the caller must fix (exit code 2).
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value that does not mean anything.
    #[error("{origin}: {why}")]
    Value {
        /// The flag, variable or key that it came from.
        origin: ValueSource,
        /// What is wrong with it.
        why: String,
    },
    /// A setting that the subcommand cannot do without.
    #[error("{} is not set: {why}{}", setting.variable, Hint(setting.way_to_set()))]
    Missing {
        /// The setting.
        setting: &'static Setting,
        /// What it is needed for.
        why: &'static str,
    },
    /// A task whose job cannot be repeated.
    #[error("task {task}: {why}")]
    Definition {
        /// The task.
        task: TaskId,
        /// What is wrong with its definition.
        why: String,
    },
    /// Two settings that exclude each other, or one that needs another; the text says what to do.
    #[error("{0}")]
    Combination(String),
    /// An argument that does not mean anything, or not with the others.
    #[error("{what}{}", Hint(.hint))]
    Argument {
        /// What is wrong with it.
        what: String,
        /// What to do.
        hint: &'static str,
    },
    /// The configuration file cannot be read.
    #[error("{origin}: cannot read {}{}", path.display(), Hint("it must be there and readable"))]
    Unreadable {
        /// The source of the file's path.
        origin: ValueSource,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The configuration file is not what it should be.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column where TOML has them.
        why: String,
    },
    /// More than one of these.
    #[error("{}", several(.0))]
    Several(Vec<ConfigError>),
}

impl ConfigError {
    /// The setting that is missing or has a wrong value, if it is one.
    pub(super) fn setting(&self) -> Option<&'static Setting> {
        match self {
            Self::Missing { setting, .. } => Some(setting),
            Self::Value { origin, .. } => origin.setting(),
            Self::Definition { .. }
            | Self::Combination(_)
            | Self::Argument { .. }
            | Self::Unreadable { .. }
            | Self::File { .. }
            | Self::Several(_) => None,
        }
    }
}

/// Names each setting in one line; the errors themselves have a line each elsewhere.
fn several(errors: &[ConfigError]) -> String {
    let (mut missing, mut wrong, mut lists) = (Vec::new(), Vec::new(), Vec::new());
    for error in errors {
        match error {
            ConfigError::Missing { setting, .. } => {
                let flag = setting.flag().map(|flag| format!(" ({flag})")).unwrap_or_default();
                missing.push(format!("{}{flag}", setting.variable));
            }
            ConfigError::Value { origin, .. } => wrong.push(origin.to_string()),
            other => lists.push(other.to_string()),
        }
    }
    for (what, list) in [("wrong", wrong), ("not set", missing)] {
        if !list.is_empty() {
            lists.insert(0, format!("{what}: {}", list.join(", ")));
        }
    }
    let count = counted(errors.len(), "problem");
    format!("{count} with settings, each with a line of its own below; {}", lists.join("; "))
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueSource {
    /// The command line.
    Flag(&'static str),
    /// The environment.
    Variable(&'static str),
    /// The configuration file.
    File(PathBuf, &'static str),
    /// The definition of the task whose job this is.
    Task(TaskId, &'static str),
}

impl ValueSource {
    /// The setting whose value it is.
    fn setting(&self) -> Option<&'static Setting> {
        let is_it = |setting: &&&Setting| match self {
            Self::Flag(name) | Self::File(_, name) => setting.name == *name,
            Self::Variable(name) | Self::Task(_, name) => setting.variable == *name,
        };
        settings::ALL.iter().find(is_it).copied()
    }
}

impl fmt::Display for ValueSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Variable(name) => f.write_str(name),
            Self::File(path, key) => write!(f, "{}: {key}", path.display()),
            Self::Task(task, name) => write!(f, "{name} of task {task}"),
        }
    }
}

/// A value and where it came from.
#[derive(Clone, Debug)]
pub struct SettingValue {
    /// The value, as text.
    pub text: String,
    /// Where it came from.
    pub origin: ValueSource,
}

impl SettingValue {
    /// The value, parsed.
    pub fn parse<T: FromStr>(&self) -> Result<T, ConfigError>
    where
        T::Err: fmt::Display,
    {
        self.text.parse().map_err(|error: T::Err| self.wrong(error.to_string()))
    }

    /// An error that names this value's origin.
    pub fn wrong(&self, why: impl Into<String>) -> ConfigError {
        ConfigError::Value { origin: self.origin.clone(), why: why.into() }
    }
}

/// The three layers, in the order of the look-up.
#[derive(Clone)]
pub struct SettingLayers<'a> {
    pub(super) flags: BTreeMap<&'static str, String>,
    environment: &'a dyn Fn(&str) -> Option<OsString>,
    file: BTreeMap<&'static str, String>,
    file_path: PathBuf,
    job: Option<Job>,
    /// Values that replace wrong and missing ones, to find the next problem: see `problems`. None: the setting is not set.
    replaced: BTreeMap<&'static str, Option<&'static str>>,
}

impl<'a> SettingLayers<'a> {
    /// Reads the configuration file, where one is named, and keeps the flags and the environment for look-ups.
    ///
    /// `flags` has the values given on the command line by setting name.
    pub fn new(
        flags: BTreeMap<&'static str, String>,
        environment: &'a dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let (file, file_path, replaced) = (BTreeMap::new(), PathBuf::new(), BTreeMap::new());
        let mut settings = Self { flags, environment, file, file_path, job: None, replaced };
        if let Some(given) = settings.get(&settings::CONFIG)? {
            let path = PathBuf::from(&given.text);
            let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::Unreadable {
                origin: given.origin.clone(),
                path: path.clone(),
                source,
            })?;
            settings.file = parse_file(&path, &text)?;
            settings.file_path = path;
        }
        Ok(settings)
    }

    /// The same, with a task's definition in place of the environment for all that a task decides.
    #[must_use]
    pub fn of(&self, job: &Job) -> Self {
        Self { job: Some(job.clone()), ..self.clone() }
    }

    /// Replaces a setting's value by its example. Returns whether it was not replaced before.
    pub(super) fn replace_by_example(&mut self, setting: &'static Setting) -> bool {
        self.replaced.insert(setting.name, setting.example).is_none()
    }

    /// Whether this is the job of an existing task, which is done again.
    pub(super) fn is_replay(&self) -> bool {
        self.job.is_some()
    }

    /// The directories of programs.
    pub(super) fn search_path(&self) -> Option<OsString> {
        (self.environment)("PATH")
    }

    /// The value of a setting. An empty environment variable counts as not set: task templates write such.
    pub fn get(&self, setting: &'static Setting) -> Result<Option<SettingValue>, ConfigError> {
        if let Some(example) = self.replaced.get(setting.name) {
            let origin = ValueSource::Variable(setting.variable);
            return Ok(example.map(|text| SettingValue { text: text.to_owned(), origin }));
        }
        if let Some(text) = self.flags.get(setting.name) {
            return Ok(Some(SettingValue { text: text.clone(), origin: ValueSource::Flag(setting.name) }));
        }
        if let Some(given) = self.job.as_ref().and_then(|job| job.get(setting)) {
            return Ok(Some(given));
        }
        let is_the_tasks = self.job.as_ref().is_some_and(|job| job.overrides(setting));
        let variable = if is_the_tasks { None } else { (self.environment)(setting.variable) };
        if let Some(value) = variable.filter(|value| !value.is_empty()) {
            let origin = ValueSource::Variable(setting.variable);
            return match value.into_string() {
                Ok(text) => Ok(Some(SettingValue { text, origin })),
                Err(_) => Err(ConfigError::Value { origin, why: "is not valid UTF-8".to_owned() }),
            };
        }
        Ok(self.file.get(setting.name).map(|text| SettingValue {
            text: text.clone(),
            origin: ValueSource::File(self.file_path.clone(), setting.name),
        }))
    }

    /// The parsed value of a setting.
    pub fn parse<T: FromStr>(&self, setting: &'static Setting) -> Result<Option<T>, ConfigError>
    where
        T::Err: fmt::Display,
    {
        let Some(given) = self.get(setting)? else { return Ok(None) };
        let read = given.text.parse().map_err(|error: T::Err| match setting.number_rule() {
            Some(rule) => {
                let is_number = given.text.parse::<i64>().is_ok();
                let what = if is_number { "is out of range" } else { "is not a number" };
                given.wrong(format!("{:?} {what}: {rule}", given.text))
            }
            None => given.wrong(error.to_string()),
        });
        read.map(Some)
    }

    /// Like [`Self::parse`], falling back to the setting's own default.
    ///
    /// # Panics
    /// When the setting has no default, or one that does not parse: a mistake in the table of settings.
    pub fn parse_or_default<T: FromStr>(&self, setting: &'static Setting) -> Result<T, ConfigError>
    where
        T::Err: fmt::Display,
    {
        Ok(match self.parse(setting)? {
            Some(value) => value,
            None => match setting.default.map(str::parse) {
                Some(Ok(value)) => value,
                _ => panic!("the setting {} has no usable default", setting.name),
            },
        })
    }

    /// Like [`Self::parse`], for a setting that must be there.
    pub fn require<T: FromStr>(&self, setting: &'static Setting, why: &'static str) -> Result<T, ConfigError>
    where
        T::Err: fmt::Display,
    {
        self.parse(setting)?.ok_or(ConfigError::Missing { setting, why })
    }

    /// Whether a switch is on.
    pub fn switch(&self, setting: &'static Setting) -> Result<bool, ConfigError> {
        let Some(given) = self.get(setting)? else { return Ok(false) };
        match given.text.as_str() {
            "1" | "true" | "yes" => Ok(true),
            "0" | "false" | "no" => Ok(false),
            other => Err(given.wrong(format!("{other:?} is not a switch: expected 1 or 0"))),
        }
    }
}

/// The values of a configuration file by setting name. Keys that no setting has are errors.
fn parse_file(path: &Path, text: &str) -> Result<BTreeMap<&'static str, String>, ConfigError> {
    let wrong = |why: String| ConfigError::File { path: path.to_owned(), why };
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| wrong(error.to_string()))?;
    let mut values = BTreeMap::new();
    for (key, value) in table {
        let keys = || settings::ALL.iter().filter(|setting| **setting != &settings::CONFIG);
        let setting = keys().find(|setting| setting.name == key).ok_or_else(|| {
            let nearest = match nearest(&key, keys().map(|setting| setting.name)) {
                none if none.is_empty() => none,
                nearest => format!("{nearest} "),
            };
            wrong(format!("unknown key `{key}`; {nearest}the keys are the flags in the `--help` of `image-worker run` and the other subcommands"))
        })?;
        if setting.secret {
            return Err(wrong(format!("`{key}` is a secret: give it in the variable {}", setting.variable)));
        }
        let text = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(switch) => switch.to_string(),
            toml::Value::Datetime(time) => time.to_string(),
            toml::Value::Table(table) => serde_json::to_string(&table).map_err(|error| wrong(error.to_string()))?,
            toml::Value::Array(list) if setting.repeatable && list.iter().all(toml::Value::is_str) => {
                list.iter().filter_map(toml::Value::as_str).collect::<Vec<_>>().join("\n")
            }
            toml::Value::Float(_) | toml::Value::Array(_) => {
                return Err(wrong(format!("`{key}` is neither a text, a number, a switch nor a table")));
            }
        };
        values.insert(setting.name, text);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::settings::{FORCE, HASH_SCHEME, INDEX, PROJECT, ZSTD_LEVEL};
    use super::*;
    use crate::context::ContextScheme;

    #[test]
    fn flags_beat_variables_beat_the_file_beats_defaults() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "project = 'file'\nindex = 'index.file'\nzstd-level = 7\n").unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        let environment = move |name: &str| match name {
            "PROJECT" | "INDEX" => Some(OsString::from("index.variable")),
            "IMAGE_WORKER_CONFIG" => Some(OsString::from(&path)),
            "HASH_SCHEME" => Some(OsString::new()),
            _ => None,
        };
        let flags = BTreeMap::from([("project", "flag".to_owned())]);
        let settings = SettingLayers::new(flags, &environment).unwrap();
        let text = |setting| settings.get(setting).unwrap().unwrap();
        assert_eq!(text(&PROJECT).text, "flag");
        assert_eq!(text(&INDEX).text, "index.variable");
        assert_eq!(settings.parse_or_default::<i32>(&ZSTD_LEVEL).unwrap(), 7);
        let scheme: ContextScheme = settings.parse_or_default(&HASH_SCHEME).unwrap();
        assert_eq!(scheme, ContextScheme::Tar, "an empty variable counts as not set");
        assert!(text(&ZSTD_LEVEL).origin.to_string().ends_with(": zstd-level"));
    }

    #[test]
    fn errors_name_where_the_value_came_from() {
        let environment = |name: &str| (name == "IMAGE_WORKER_FORCE").then(|| OsString::from("maybe"));
        let flags = BTreeMap::from([("hash-scheme", "md5".to_owned())]);
        let settings = SettingLayers::new(flags, &environment).unwrap();
        let error = settings.parse_or_default::<ContextScheme>(&HASH_SCHEME).unwrap_err().to_string();
        assert_eq!(error, "--hash-scheme: \"md5\" is not a hash scheme: expected tar, gz or contents");
        let error = settings.switch(&FORCE).unwrap_err().to_string();
        assert_eq!(error, "IMAGE_WORKER_FORCE: \"maybe\" is not a switch: expected 1 or 0");
        let error = settings.require::<String>(&PROJECT, "the routes name it").unwrap_err().to_string();
        assert_eq!(error, "PROJECT is not set: the routes name it; set it, or give --project PROJECT");
    }

    #[test]
    fn unknown_keys_and_secrets_in_the_file_are_errors() {
        let read = |text| parse_file(Path::new("c.toml"), text).map_err(|error| error.to_string());
        assert!(read("projcet = 'x'").unwrap_err().contains("unknown key `projcet`; did you mean project?"));
        assert!(read("access-token = 'x'").unwrap_err().contains("TASKCLUSTER_ACCESS_TOKEN"));
        assert!(read("project = [1]").unwrap_err().contains("`project` is neither"));
        assert!(read("project = ").unwrap_err().starts_with("c.toml: "));
        assert_eq!(read("images-dir = ['a', 'b']").unwrap()["images-dir"], "a\nb");
        let args = read("[docker-build-args]\nBASE = 'debian:12'").unwrap();
        assert_eq!(args["docker-build-args"], r#"{"BASE":"debian:12"}"#);
    }
}
