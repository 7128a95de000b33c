//! Secrets of a build: the ids in a `Dockerfile`, the sources of the values, and the values, which `Debug` does not print.
//! `job::secret_values` reads the values, and `engine` passes them to a build.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a secret's value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum SecretSource {
    /// The whole content of a file on this machine.
    File {
        /// The file.
        file: PathBuf,
    },
    /// Taskcluster's secrets service.
    Taskcluster {
        /// The name of the secret.
        taskcluster: String,
        /// The key in the secret. Its value is a string.
        key: String,
    },
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file } => write!(f, "{}", file.display()),
            Self::Taskcluster { taskcluster, key } => write!(f, "{key} of Taskcluster's secret {taskcluster}"),
        }
    }
}

/// The secrets that a build may use, by their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct SecretSources(pub BTreeMap<String, SecretSource>);

impl SecretSources {
    /// The first id of a secret from Taskcluster.
    #[must_use]
    pub fn of_taskcluster(&self) -> Option<&str> {
        let is_remote = |(_, source): &(&String, &SecretSource)| matches!(source, SecretSource::Taskcluster { .. });
        self.0.iter().find(is_remote).map(|(id, _)| id.as_str())
    }
}

impl fmt::Display for SecretSources {
    /// The format that [`FromStr`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(&self.0).map_err(|_| fmt::Error)?)
    }
}

/// The format of a flag.
const FORM: &str = "expected id=ID,src=FILE, or id=ID,taskcluster=SECRET,key=KEY";

impl FromStr for SecretSources {
    type Err = String;

    /// Reads a JSON object, the format of the variable, or lines of `id=ID,src=FILE`, the format of the flags.
    fn from_str(text: &str) -> Result<Self, String> {
        let sources = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|error| {
                let place = format!("line {}, column {}", error.line(), error.column());
                format!("is not a JSON object of {{\"file\": …}} or {{\"taskcluster\": …, \"key\": …}} by ids; look at {place}")
            })?
        } else {
            let mut sources = BTreeMap::new();
            for line in text.lines().filter(|line| !line.trim().is_empty()) {
                let (id, source) = parse_flag(line)?;
                if sources.insert(id.clone(), source).is_some() {
                    return Err(format!("the id {id} is given twice"));
                }
            }
            sources
        };
        match sources.keys().find(|id| id.is_empty() || id.contains(|c: char| c.is_whitespace() || c == ',')) {
            Some(id) => Err(format!("{id:?} is no id that a Dockerfile can name")),
            None => Ok(Self(sources)),
        }
    }
}

/// Parses one secret in the format of a flag, which is docker's format.
fn parse_flag(line: &str) -> Result<(String, SecretSource), String> {
    let pairs = line.split(',').map(|pair| pair.split_once('=').ok_or_else(|| format!("{pair:?} has no `=`: {FORM}")));
    let mut fields = BTreeMap::new();
    for pair in pairs {
        let (name, value) = pair?;
        let name = if name.trim() == "source" { "src" } else { name.trim() };
        fields.insert(name, value.to_owned());
    }
    fields.remove("type").filter(|kind| kind != "file").map_or(Ok(()), |kind| Err(format!("type={kind}: {FORM}")))?;
    let id = fields.remove("id").ok_or_else(|| format!("a secret has no id: {FORM}"))?;
    let source = match (fields.remove("src"), fields.remove("taskcluster"), fields.remove("key")) {
        (Some(file), None, None) => SecretSource::File { file: file.into() },
        (None, Some(taskcluster), Some(key)) => SecretSource::Taskcluster { taskcluster, key },
        _ => return Err(format!("where does the secret {id} come from? {FORM}")),
    };
    match fields.into_keys().next() {
        Some(unknown) => Err(format!("{unknown}= says nothing about the secret {id}: {FORM}")),
        None => Ok((id, source)),
    }
}

/// The values of secrets, by their ids.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct BuildSecrets(BTreeMap<String, Vec<u8>>);

impl BuildSecrets {
    /// Wraps these values.
    #[must_use]
    pub fn new(values: BTreeMap<String, Vec<u8>>) -> Self {
        Self(values)
    }

    /// The values.
    #[must_use]
    pub fn values(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.0
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for BuildSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BuildSecrets({})", self.0.keys().cloned().collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SecretSources, String> {
        text.parse()
    }

    #[test]
    fn flags_and_variables_say_the_same() {
        let from_flags = read("id=npm,src=/run/npmrc\nid=gh,taskcluster=project/x/gh,key=token\n").unwrap();
        let json = r#"{"gh":{"taskcluster":"project/x/gh","key":"token"},"npm":{"file":"/run/npmrc"}}"#;
        assert_eq!(read(json).unwrap(), from_flags);
        assert_eq!(from_flags.to_string(), json);
        assert_eq!(read("type=file,id=npm,source=/x").unwrap(), read("id=npm,src=/x").unwrap());
        assert_eq!(read("{}").unwrap(), SecretSources::default());
        assert_eq!(from_flags.0["gh"].to_string(), "token of Taskcluster's secret project/x/gh");
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (text, why) in [
            ("id=a", "where does the secret a come from?"),
            ("id=a,src=b,key=c", "where does the secret a come from?"),
            ("id=a,taskcluster=b", "where does the secret a come from?"),
            ("src=b", "a secret has no id"),
            ("id=a,src=b,mode=1", "mode= says nothing about the secret a"),
            ("id=a,type=env,src=b", "type=env"),
            ("/run/npmrc", "has no `=`"),
            ("id=a,src=b\nid=a,src=c", "the id a is given twice"),
            ("id=a b,src=c", "is no id"),
            (r#"{"a":{"file":"b","mode":1}}"#, "look at line 1"),
            (r#"{"a":"hunter22"}"#, "look at line 1"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(why) && !error.contains("hunter22"), "{error}");
        }
    }

    #[test]
    fn values_do_not_print_themselves() {
        let values = BuildSecrets::new([("npm".to_owned(), b"hunter22".to_vec())].into());
        assert_eq!(format!("{values:?}"), "BuildSecrets(npm)");
    }
}
