//! Secrets of a build: by which ids a `Dockerfile` asks for them, where their values come from, and the values, which do
//! not print themselves. Getting the values is for `commands`, handing them to a build for `engine`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a secret's value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum SecretSource {
    /// A file on this machine: all of it.
    File {
        /// The file.
        file: PathBuf,
    },
    /// Taskcluster's secrets service.
    Taskcluster {
        /// The secret's name there.
        taskcluster: String,
        /// The key in it; its value is a text.
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

/// The secrets that a build may ask for, by their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct SecretSources(pub BTreeMap<String, SecretSource>);

impl SecretSources {
    /// The first id of a secret that Taskcluster has.
    #[must_use]
    pub fn of_taskcluster(&self) -> Option<&str> {
        let theirs = |(_, source): &(&String, &SecretSource)| matches!(source, SecretSource::Taskcluster { .. });
        self.0.iter().find(theirs).map(|(id, _)| id.as_str())
    }
}

impl fmt::Display for SecretSources {
    /// As [`FromStr`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(&self.0).map_err(|_| fmt::Error)?)
    }
}

/// The form in which people write it.
const FORM: &str = "expected id=ID,src=FILE, or id=ID,taskcluster=SECRET,key=KEY";

impl FromStr for SecretSources {
    type Err = String;

    /// A JSON object, as a variable has it, or `id=ID,src=FILE`, a line each, as flags have it.
    fn from_str(text: &str) -> Result<Self, String> {
        let sources = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|error| {
                let place = format!("line {}, column {}", error.line(), error.column());
                format!("is not a JSON object of {{\"file\": …}} or {{\"taskcluster\": …, \"key\": …}} by ids; look at {place}")
            })?
        } else {
            let mut sources = BTreeMap::new();
            for line in text.lines().filter(|line| !line.trim().is_empty()) {
                let (id, source) = typed(line)?;
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

/// One secret as a flag has it, which is docker's form.
fn typed(line: &str) -> Result<(String, SecretSource), String> {
    let pairs = line.split(',').map(|pair| pair.split_once('=').ok_or_else(|| format!("{pair:?} has no `=`: {FORM}")));
    let mut given = BTreeMap::new();
    for pair in pairs {
        let (name, value) = pair?;
        let name = if name.trim() == "source" { "src" } else { name.trim() };
        given.insert(name, value.to_owned());
    }
    given.remove("type").filter(|kind| kind != "file").map_or(Ok(()), |kind| Err(format!("type={kind}: {FORM}")))?;
    let id = given.remove("id").ok_or_else(|| format!("a secret has no id: {FORM}"))?;
    let source = match (given.remove("src"), given.remove("taskcluster"), given.remove("key")) {
        (Some(file), None, None) => SecretSource::File { file: file.into() },
        (None, Some(taskcluster), Some(key)) => SecretSource::Taskcluster { taskcluster, key },
        _ => return Err(format!("where does the secret {id} come from? {FORM}")),
    };
    match given.into_keys().next() {
        Some(unknown) => Err(format!("{unknown}= says nothing about the secret {id}: {FORM}")),
        None => Ok((id, source)),
    }
}

/// The values, by ids.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct BuildSecrets(BTreeMap<String, Vec<u8>>);

impl BuildSecrets {
    /// These values.
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
        let typed = read("id=npm,src=/run/npmrc\nid=gh,taskcluster=project/x/gh,key=token\n").unwrap();
        let json = r#"{"gh":{"taskcluster":"project/x/gh","key":"token"},"npm":{"file":"/run/npmrc"}}"#;
        assert_eq!(read(json).unwrap(), typed);
        assert_eq!(typed.to_string(), json);
        assert_eq!(read("type=file,id=npm,source=/x").unwrap(), read("id=npm,src=/x").unwrap());
        assert_eq!(read("{}").unwrap(), SecretSources::default());
        assert_eq!(typed.0["gh"].to_string(), "token of Taskcluster's secret project/x/gh");
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
