//! One image of a `kind.yml`: the schemas of taskgraph's and Gecko's transforms, in all their versions, and the values that
//! matter here. `kind` reads the file around it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use serde_json::Value;

use super::Image;
use crate::context::{ImageName, RepoPath};
use crate::engine::TargetArch;
use crate::report::{Hint, nearest};

/// The keys. `index`, `cache` and `run-on-repo-type` concern where and when taskgraph's own tasks are found, which this program's
/// routes replace; taskgraph itself inserts `job-from` and `task-from`.
const KNOWN: [&str; 13] = [
    "arch",
    "args",
    "cache",
    "definition",
    "digest-extra",
    "index",
    "job-from",
    "name",
    "packages",
    "parent",
    "run-on-repo-type",
    "symbol",
    "task-from",
];

/// One image of a `kind.yml`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    /// The directory below `taskcluster/docker`, where it is not the image's name.
    pub(super) definition: Option<RepoPath>,
    pub(super) parent: Option<ImageName>,
    pub(super) args: BTreeMap<String, String>,
    pub(super) symbol: Option<String>,
    pub(super) packages: Vec<String>,
    pub(super) arch: Option<TargetArch>,
    pub(super) digest_extra: Option<Value>,
}

/// Why an image of a `kind.yml` cannot be used. Others of the same file can.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KindProblem {
    /// Not a mapping.
    #[error("it is no mapping{}", Hint("write `{}` where there is nothing to say"))]
    NoMapping,
    /// A key that taskgraph does not know.
    #[error("it has the key `{key}`, which no docker_image transform of taskgraph or Gecko knows{}", Hint(.nearest))]
    UnknownKey {
        /// The key.
        key: String,
        /// Similar keys, in words.
        nearest: String,
    },
    /// A value of another type than taskgraph's schema has.
    #[error("its `{key}` is {value}, not {what}")]
    Type {
        /// The key, `args.NAME` for example.
        key: String,
        /// The value.
        value: String,
        /// What should be.
        what: &'static str,
    },
}

impl Listed {
    /// Reads the entry of an image.
    pub(super) fn read(task: Value) -> Result<Self, KindProblem> {
        let Value::Object(task) = task else { return Err(KindProblem::NoMapping) };
        let mut listed = Self::default();
        for (key, value) in &task {
            if value.is_null() {
                continue;
            }
            let wrong = |what| wrong_type(key, value, what);
            match key.as_str() {
                "definition" => listed.definition = Some(named(key, value, "a directory below taskcluster/docker")?),
                "parent" => listed.parent = Some(named(key, value, "the name of an image")?),
                "symbol" => listed.symbol = Some(value.as_str().ok_or_else(|| wrong("text"))?.to_owned()),
                "args" => {
                    for (name, value) in value.as_object().ok_or_else(|| wrong("a mapping"))? {
                        // As in taskgraph: which text 0.10 and yes are is not for us to guess.
                        let text = value.as_str();
                        let text =
                            text.ok_or_else(|| wrong_type(&format!("args.{name}"), value, "text; put it in quotes"))?;
                        listed.args.insert(name.clone(), text.to_owned());
                    }
                }
                "packages" => {
                    let packages = value.as_array().ok_or_else(|| wrong("a list"))?;
                    let names = packages.iter().map(|it| it.as_str().filter(|name| is_word(name)).map(str::to_owned));
                    listed.packages = names.collect::<Option<_>>().ok_or_else(|| wrong("a list of names"))?;
                }
                "arch" => {
                    let arch = value.as_str().and_then(|arch| arch.parse().ok());
                    listed.arch = Some(arch.ok_or_else(|| wrong("amd64 or arm64"))?);
                }
                "digest-extra" => listed.digest_extra = Some(value.clone()),
                known if KNOWN.contains(&known) => {}
                key => return Err(KindProblem::UnknownKey { key: key.to_owned(), nearest: nearest(key, KNOWN) }),
            }
        }
        Ok(listed)
    }

    /// The image whose Dockerfile is in this directory.
    pub(super) fn image(self, name: ImageName, directory: PathBuf) -> Image {
        let Self { definition: _, parent: listed_parent, args, symbol, packages, arch, digest_extra } = self;
        Image { name, directory, args, symbol, packages, arch, digest_extra, listed_parent }
    }
}

/// Whether a text is valid in a task reference, a label and a flag.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn named<T: FromStr>(key: &str, value: &Value, what: &'static str) -> Result<T, KindProblem> {
    value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| wrong_type(key, value, what))
}

fn wrong_type(key: &str, value: &Value, what: &'static str) -> KindProblem {
    KindProblem::Type { key: key.to_owned(), value: value.to_string().chars().take(60).collect(), what }
}
