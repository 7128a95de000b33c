//! taskgraph's `kind.yml` of docker images: which images there are, and what it says of each, read as taskgraph's
//! transform loader reads it. The image directories are for `Tree`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::TreeError;
use super::trouble::nearest;
use crate::names::{ImageName, RepoPath};

/// What the schema of taskgraph's transform knows. `index` and `cache` are about where taskgraph's own tasks are
/// found, which this program's routes take the place of.
const KNOWN: [&str; 9] = ["args", "cache", "definition", "index", "name", "packages", "parent", "symbol", "task-from"];

/// One image of a `kind.yml`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    /// The directory below `taskcluster/docker`, where it is not the image's name.
    pub(super) definition: Option<RepoPath>,
    pub(super) parent: Option<ImageName>,
    pub(super) args: BTreeMap<String, String>,
    pub(super) symbol: Option<String>,
}

/// Why an image of a `kind.yml` cannot be used. Others of the same file can.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KindProblem {
    /// Not a mapping.
    #[error("it is no mapping; write `{{}}` where there is nothing to say")]
    NoMapping,
    /// Packages, which tasks of other kinds build.
    #[error("it needs `packages:` ({0}), which this program does not build; install them in the Dockerfile")]
    Packages(String),
    /// A key that taskgraph does not know.
    #[error("it has the key `{key}`, which taskgraph's docker_image transform does not know{nearest}")]
    UnknownKey {
        /// The key.
        key: String,
        /// What it could be, in words.
        nearest: String,
    },
    /// A value of another type than taskgraph's schema has.
    #[error("its `{key}` is {value}, not {what}")]
    Type {
        /// The key, `args.NAME` for example.
        key: String,
        /// What is there.
        value: String,
        /// What should be.
        what: &'static str,
    },
}

/// The images of a `kind.yml`, and of the files that its `tasks-from` names. Names that no image can have are left
/// out: nothing can ask for them.
pub(super) fn read(file: &Path) -> Result<BTreeMap<ImageName, Result<Listed, KindProblem>>, TreeError> {
    let shape = |problem| TreeError::KindShape { path: file.to_owned(), problem };
    let mut kind = mapping(file)?;
    let words = [["tasks", "tasks-from", "task-defaults"], ["jobs", "jobs-from", "job-defaults"]];
    let [tasks, old] = words.map(|words| words.iter().any(|word| kind.contains_key(*word)));
    let words = match (tasks, old) {
        (true, false) => words[0],
        (false, true) => words[1],
        (true, true) => return Err(shape("has `tasks` and the older `jobs`; use one of them")),
        (false, false) => return Err(shape("has no `tasks`; name the kind.yml of the docker images")),
    };
    let defaults = or_empty(kind.remove(words[2]).unwrap_or_default());
    let mut images = BTreeMap::new();
    match kind.remove(words[0]) {
        Some(Value::Object(tasks)) => add(&mut images, tasks, &defaults),
        None | Some(Value::Null) => {}
        Some(_) => return Err(shape("has `tasks` that are no mapping; write `NAME: {…}` for each image")),
    }
    let others = match kind.remove(words[1]) {
        Some(Value::Array(others)) => others,
        None | Some(Value::Null) => Vec::new(),
        Some(_) => return Err(shape("has a `tasks-from` that is no list of files")),
    };
    for other in others {
        let other = other.as_str().ok_or_else(|| shape("has a `tasks-from` that is no list of files"))?;
        let mut tasks = mapping(&file.with_file_name(other))?;
        let own = or_empty(tasks.remove(words[2]).unwrap_or_default());
        add(&mut images, tasks, &merge(defaults.clone(), own));
    }
    Ok(images)
}

fn add(images: &mut BTreeMap<ImageName, Result<Listed, KindProblem>>, tasks: Map<String, Value>, defaults: &Value) {
    for (name, task) in tasks {
        if let Ok(name) = name.parse() {
            images.insert(name, listed(merge(defaults.clone(), or_empty(task))));
        }
    }
}

/// Nothing said, as a mapping that says nothing.
fn or_empty(value: Value) -> Value {
    if value.is_null() { Value::Object(Map::new()) } else { value }
}

/// A YAML file that is a mapping.
fn mapping(path: &Path) -> Result<Map<String, Value>, TreeError> {
    let text = super::read_text(path).map_err(|error| TreeError::Read { path: path.to_owned(), error })?;
    // A snippet would be several lines of the file, and an error is told in one.
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(&text, options)
        .map_err(|error| TreeError::Yaml { path: path.to_owned(), problem: one_line(&error.to_string()) })
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// taskgraph's `merge`: mappings are merged, lists joined, and what is below comes before the defaults.
fn merge(defaults: Value, own: Value) -> Value {
    match (defaults, own) {
        (Value::Object(mut merged), Value::Object(own)) => {
            for (key, value) in own {
                // `by-…` is a choice of its own, not a part of another.
                let choice = |map: &Map<String, Value>| map.len() == 1 && map.keys().all(|key| key.starts_with("by-"));
                let whole = value.as_object().is_some_and(choice);
                let merged = merged.entry(key).or_insert(Value::Null);
                let default = if whole { Value::Null } else { merged.take() };
                *merged = merge(default, value);
            }
            Value::Object(merged)
        }
        (Value::Array(mut merged), Value::Array(own)) => {
            merged.extend(own);
            Value::Array(merged)
        }
        (_, own) => own,
    }
}

fn listed(task: Value) -> Result<Listed, KindProblem> {
    let Value::Object(task) = task else { return Err(KindProblem::NoMapping) };
    let mut listed = Listed::default();
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
                if !packages.is_empty() {
                    let packages: Vec<_> = packages.iter().map(|it| it.as_str().unwrap_or("?")).take(5).collect();
                    return Err(KindProblem::Packages(packages.join(", ")));
                }
            }
            known if KNOWN.contains(&known) => {}
            key => return Err(KindProblem::UnknownKey { key: key.to_owned(), nearest: nearest(key, KNOWN) }),
        }
    }
    Ok(listed)
}

fn named<T: std::str::FromStr>(key: &str, value: &Value, what: &'static str) -> Result<T, KindProblem> {
    value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| wrong_type(key, value, what))
}

fn wrong_type(key: &str, value: &Value, what: &'static str) -> KindProblem {
    KindProblem::Type { key: key.to_owned(), value: value.to_string().chars().take(60).collect(), what }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Files;
    use super::*;

    fn read_text(text: &str) -> Result<BTreeMap<ImageName, Result<Listed, KindProblem>>, String> {
        let files =
            Files::new(&[("kind.yml", text), ("more.yml", "job-defaults: {symbol: more}\nm: {args: {B: c}}\n")]);
        read(&files.at("kind.yml")).map_err(|error| error.to_string().replace(&files.root().display().to_string(), ""))
    }

    fn one(task: &str) -> Result<Listed, String> {
        let mut images = read_text(&format!("tasks:\n  x: {task}\n")).unwrap();
        images.remove(&"x".parse().unwrap()).unwrap().map_err(|error| error.to_string())
    }

    #[test]
    fn what_taskgraph_says_of_an_image() {
        let text = "---\nloader: taskgraph.loader.transform:loader\n\ntasks:\n    decision:\n        symbol: I(d)\n        parent: run-task\n    \
                    python: &python\n        definition: py/thon\n        cache: false\n        index: {type: x}\n        packages: []\n        args:\n            \
                    VERSIONS: \"3.14t 3.14\"\n    run-task: {}\n    fetch:\n    Not-A-Name: {}\n    again:\n        <<: *python\n        symbol: I(a)\n";
        let images = read_text(text).unwrap();
        assert_eq!(images.len(), 5);
        let image = |name: &str| images[&name.parse().unwrap()].clone().unwrap();
        let decision =
            Listed { symbol: Some("I(d)".to_owned()), parent: Some("run-task".parse().unwrap()), ..Listed::default() };
        assert_eq!(image("decision"), decision);
        let mut python = Listed {
            definition: Some("py/thon".parse().unwrap()),
            args: [("VERSIONS".to_owned(), "3.14t 3.14".to_owned())].into(),
            ..Listed::default()
        };
        assert_eq!(image("python"), python);
        python.symbol = Some("I(a)".to_owned());
        assert_eq!(image("again"), python);
        assert_eq!((image("run-task"), image("fetch")), (Listed::default(), Listed::default()));
    }

    #[test]
    fn defaults_are_below_and_older_words_hold() {
        let text = "job-defaults:\n  symbol: I\n  args: {A: a, B: b}\njobs-from: [more.yml]\njobs:\n  x: {args: {B: x}}\n  y: {symbol: J, args: {}}\n";
        let images = read_text(text).unwrap();
        let told = |name: &str| {
            let image = images[&name.parse().unwrap()].as_ref().unwrap();
            let args: Vec<_> = image.args.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{} {}", image.symbol.as_deref().unwrap_or_default(), args.join(" "))
        };
        assert_eq!((told("x"), told("y"), told("m")), ("I A=a B=x".into(), "J A=a B=b".into(), "more A=a B=c".into()));
    }

    #[test]
    fn values_merge_as_in_taskgraph() {
        let merged = |defaults: &str, own: &str| {
            let [defaults, own] = [defaults, own].map(|text| serde_json::from_str(text).unwrap());
            merge(defaults, own).to_string()
        };
        assert_eq!(
            merged(r#"{"a":[1],"b":{"c":1},"d":1}"#, r#"{"a":[2],"b":{"e":2},"d":"x"}"#),
            r#"{"a":[1,2],"b":{"c":1,"e":2},"d":"x"}"#
        );
        assert_eq!(merged(r#"{"b":{"c":1}}"#, r#"{"b":{"by-level":{}}}"#), r#"{"b":{"by-level":{}}}"#);
        assert_eq!(merged(r#"{"b":{"c":1}}"#, r#"{"b":[1]}"#), r#"{"b":[1]}"#);
    }

    #[test]
    fn what_cannot_be_built_says_why() {
        for (task, expected) in [
            (
                "{packages: [a, b]}",
                "it needs `packages:` (a, b), which this program does not build; install them in the Dockerfile",
            ),
            (
                "{defintion: y}",
                "it has the key `defintion`, which taskgraph's docker_image transform does not know; did you mean definition?",
            ),
            ("{arch: arm64}", "it has the key `arch`, which taskgraph's docker_image transform does not know"),
            ("{args: {A: 3.10}}", "its `args.A` is 3.1, not text; put it in quotes"),
            ("{args: [A]}", "its `args` is [\"A\"], not a mapping"),
            ("{parent: A/b}", "its `parent` is \"A/b\", not the name of an image"),
            ("{definition: ../y}", "its `definition` is \"../y\", not a directory below taskcluster/docker"),
            ("[]", "it is no mapping; write `{}` where there is nothing to say"),
        ] {
            assert_eq!(one(task).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_file_that_is_no_kind_is_refused() {
        for (text, expected) in [
            ("", "/kind.yml has no `tasks`; name the kind.yml of the docker images"),
            ("kind-dependencies: []\n", "/kind.yml has no `tasks`; name the kind.yml of the docker images"),
            ("tasks: {}\njobs: {}\n", "/kind.yml has `tasks` and the older `jobs`; use one of them"),
            ("tasks: [a]\n", "/kind.yml has `tasks` that are no mapping; write `NAME: {…}` for each image"),
            ("tasks-from: more.yml\n", "/kind.yml has a `tasks-from` that is no list of files"),
            ("tasks-from: [none.yml]\n", "cannot read /none.yml; it must be there and readable"),
        ] {
            assert_eq!(read_text(text).unwrap_err(), expected);
        }
        for text in ["- a\n", "tasks: {a: [}\n", "tasks:\n  a: {}\n  a: {}\n"] {
            let error = read_text(text).unwrap_err();
            assert!(error.starts_with("/kind.yml is no YAML mapping: ") && !error.contains('\n'), "{error}");
        }
        let missing = Path::new("/nowhere/kind.yml");
        assert!(matches!(read(missing), Err(TreeError::Read { path, .. }) if path == missing));
    }
}
