//! taskgraph's `kind.yml` of docker images: the list of images, read like taskgraph's transform loader, and like Thunderbird's,
//! which reuses images of Firefox's. `listed` reads the entry of an image, `Tree` finds the image directories.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tracing::warn;

use super::TreeError;
use super::listed::{KindProblem, Listed};
use crate::context::ImageName;
use crate::net::NameError;
use crate::repository::document::{self, DuplicateKeyPolicy};

/// Where it is in the trees of today and of before.
const USUAL: [&str; 2] = ["taskcluster/kinds/docker-image/kind.yml", "taskcluster/ci/docker-image/kind.yml"];

/// The names of the transforms and loaders that this program implements itself.
const PACKAGES: [&str; 2] = ["taskgraph.transforms.", "gecko_taskgraph.transforms."];
const TRANSFORMS: [&str; 3] = ["docker_image", "cached_tasks", "task"];
const LOADERS: [&str; 2] = ["taskgraph.loader.transform:loader", "comm_taskgraph.loader.merge:loader"];

/// Images by name, each with its entry.
type Images = BTreeMap<ImageName, Result<Listed, KindProblem>>;

/// An entry whose name is not a valid image name.
#[derive(Clone, Debug)]
pub(super) struct Misnamed {
    pub(super) error: NameError,
    /// The directory below `taskcluster/docker`, if it is given.
    pub(super) below: String,
}

/// A `kind.yml`.
#[derive(Debug, Default)]
pub(super) struct Kind {
    pub(super) file: PathBuf,
    /// All files of this name that were read: this one, and the one that it refers to.
    pub(super) files: Vec<PathBuf>,
    pub(super) images: Images,
    /// Entries whose names are not valid image names.
    pub(super) misnamed: Vec<Misnamed>,
    /// Images of another project's file, which is not here.
    pub(super) elsewhere: BTreeSet<ImageName>,
    /// The project's own transforms and loader.
    not_run: Vec<String>,
}

/// The `kind.yml` at a repository's usual path. Gecko had one that lists no images.
pub(super) fn usual(root: &Path) -> Vec<PathBuf> {
    let lists_images = |file: &PathBuf| {
        let text = match super::read_text(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return false,
            // Reading it reports the problem.
            Err(_) => return true,
            Ok(text) => text,
        };
        text.lines().any(|line| ["tasks", "jobs", "reference-tasks"].iter().any(|word| line.starts_with(word)))
    };
    USUAL.iter().map(|place| root.join(place)).find(lists_images).into_iter().collect()
}

/// Reads a `kind.yml`, the files in its `tasks-from`, and the file at its `reference-base-path`.
pub(super) fn read(file: &Path, root: &Path) -> Result<Kind, TreeError> {
    let shape = |problem| TreeError::KindShape { path: file.to_owned(), problem };
    let mut document = mapping(file, root)?;
    let not_run = not_run(&document);
    let mut kind = Kind { file: file.to_owned(), files: vec![file.to_owned()], not_run, ..Kind::default() };
    let words = [["tasks", "tasks-from", "task-defaults"], ["jobs", "jobs-from", "job-defaults"]];
    let [tasks, old] = words.map(|words| words.iter().any(|word| document.contains_key(*word)));
    let words = match (tasks, old) {
        (true, true) => return Err(shape("has `tasks` and the older `jobs`; use one of them")),
        (false, true) => words[1],
        (false, false) if !document.contains_key("reference-tasks") => {
            return Err(shape("has no `tasks`; name the kind.yml of the docker images, or say `--kind none`"));
        }
        _ => words[0],
    };
    let defaults = or_empty(document.remove(words[2]).unwrap_or_default());
    match document.remove(words[0]) {
        Some(Value::Object(tasks)) => kind.add(tasks, &defaults),
        None | Some(Value::Null) => {}
        Some(_) => return Err(shape("has `tasks` that are no mapping; write `NAME: {…}` for each image")),
    }
    for other in texts(document.remove(words[1])).ok_or_else(|| shape("has a `tasks-from` that is no list of files"))? {
        let mut tasks = mapping(&file.with_file_name(other), root)?;
        let own = or_empty(tasks.remove(words[2]).unwrap_or_default());
        kind.add(tasks, &merge(defaults.clone(), own));
    }
    if let Some(base) = document.get("reference-base-path") {
        let base = base.as_str().ok_or_else(|| shape("has a `reference-base-path` that is no text"))?;
        let wanted = texts(document.get("reference-tasks").cloned());
        let wanted = wanted.ok_or_else(|| shape("has `reference-tasks` that are no list of images"))?;
        kind.refer(&root.join(base).join("docker-image/kind.yml"), root, &wanted)?;
    }
    Ok(kind)
}

impl Kind {
    fn add(&mut self, tasks: Map<String, Value>, defaults: &Value) {
        for (name, task) in tasks {
            let listed = Listed::read(merge(defaults.clone(), or_empty(task)));
            match name.parse() {
                Ok(name) => drop(self.images.insert(name, listed)),
                Err(error) => {
                    let definition = listed.ok().and_then(|it| it.definition);
                    let below = definition.map_or(name, |definition| definition.to_string());
                    self.misnamed.push(Misnamed { error, below });
                }
            }
        }
    }

    /// Adds images of another file. In a checkout without the other project the path leads nowhere, or back.
    fn refer(&mut self, other: &Path, root: &Path, wanted: &[String]) -> Result<(), TreeError> {
        let mut names: BTreeSet<ImageName> = BTreeSet::new();
        for name in wanted {
            match name.parse() {
                Ok(name) => drop(names.insert(name)),
                Err(error) => self.misnamed.push(Misnamed { error, below: name.clone() }),
            }
        }
        if !other.is_file() || other.canonicalize().ok() == self.file.canonicalize().ok() {
            self.elsewhere.extend(names);
            return Ok(());
        }
        let reference = read(other, root)?;
        for (name, listed) in reference.images.into_iter().filter(|(name, _)| names.contains(name)) {
            self.images.entry(name).or_insert(listed);
        }
        self.files.extend(reference.files);
        self.not_run.extend(reference.not_run);
        Ok(())
    }

    /// The project must do its own transforms itself.
    pub(super) fn warn_of_what_is_not_run(&self, root: &Path) {
        if !self.not_run.is_empty() {
            let (file, names) = (self.file.strip_prefix(root).unwrap_or(&self.file).display(), self.not_run.join(", "));
            warn!(
                "{file} has transforms of the project, which are not run here: {names}; what they change is not known"
            );
        }
    }
}

/// The transforms and the loader that only the project itself can run, and that can change images: behind `docker_image`'s
/// transform there are tasks, which this program makes itself.
fn not_run(document: &Map<String, Value>) -> Vec<String> {
    // `:transforms` can be left out.
    let own_work = |name: &str| {
        let module = name.strip_suffix(":transforms").unwrap_or(name);
        let module = PACKAGES.iter().find_map(|package| module.strip_prefix(package))?;
        TRANSFORMS.into_iter().find(|known| *known == module)
    };
    let transforms = document.get("transforms").and_then(Value::as_array).into_iter().flatten();
    let transforms = transforms.filter_map(Value::as_str).take_while(|name| own_work(name) != Some(TRANSFORMS[0]));
    let transforms = transforms.filter(|name| own_work(name).is_none());
    let loader = document.get("loader").and_then(Value::as_str).filter(|name| !LOADERS.contains(name));
    transforms.chain(loader).map(str::to_owned).collect()
}

/// The texts of a list; none where it is something else.
fn texts(list: Option<Value>) -> Option<Vec<String>> {
    match list.unwrap_or_default() {
        Value::Null => Some(Vec::new()),
        Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// A null value counts as an empty mapping.
fn or_empty(value: Value) -> Value {
    if value.is_null() { Value::Object(Map::new()) } else { value }
}

/// A YAML file that is a mapping.
fn mapping(path: &Path, root: &Path) -> Result<Map<String, Value>, TreeError> {
    let text = super::read_text(path).map_err(|error| TreeError::Read { path: path.to_owned(), error })?;
    let shown = path.strip_prefix(root).unwrap_or(path).display().to_string();
    let value = document::parse_yaml(&shown, &text, DuplicateKeyPolicy::Error).or_else(|error| {
        // PyYAML, and with it taskgraph, takes the last of several.
        let value = document::parse_yaml(&shown, &text, DuplicateKeyPolicy::LastWins)?;
        warn!("{error}: the last one counts, as in taskgraph; remove the others");
        Ok(value)
    });
    match value.map_err(TreeError::Yaml)? {
        Value::Object(mapping) => Ok(mapping),
        Value::Null => Ok(Map::new()),
        _ => Err(TreeError::KindShape {
            path: path.to_owned(),
            problem: "is no YAML mapping; write `tasks:` and the images below it",
        }),
    }
}

/// taskgraph's `merge`: mappings are merged, lists joined, and the entries' values win over the defaults.
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

#[cfg(test)]
mod tests {
    use super::super::fixture::Files;
    use super::*;

    fn read_text(text: &str) -> Result<Images, String> {
        let files =
            Files::new(&[("kind.yml", text), ("more.yml", "job-defaults: {symbol: more}\nm: {args: {B: c}}\n")]);
        let kind = read(&files.at("kind.yml"), files.root());
        kind.map(|it| it.images).map_err(|error| error.to_string().replace(&files.root().display().to_string(), ""))
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
        let describe = |name: &str| {
            let image = images[&name.parse().unwrap()].as_ref().unwrap();
            let args: Vec<_> = image.args.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{} {}", image.symbol.as_deref().unwrap_or_default(), args.join(" "))
        };
        assert_eq!(
            (describe("x"), describe("y"), describe("m")),
            ("I A=a B=x".into(), "J A=a B=b".into(), "more A=a B=c".into())
        );
    }

    #[test]
    fn the_last_of_equal_keys_counts() {
        let images = read_text("tasks:\n  x: {symbol: a}\n  x:\n    symbol: b\n    symbol: c\n").unwrap();
        let symbols: Vec<_> = images.into_values().map(|it| it.unwrap().symbol.unwrap()).collect();
        assert_eq!(symbols, ["c"]);
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
                "{defintion: y}",
                "it has the key `defintion`, which no docker_image transform of taskgraph or Gecko knows; did you mean definition?",
            ),
            ("{arch: [arm64]}", "its `arch` is [\"arm64\"], not amd64 or arm64"),
            ("{packages: ['a b']}", "its `packages` is [\"a b\"], not a list of names"),
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
    fn what_geckos_kind_says_besides() {
        let image =
            one("{packages: [b, a], arch: arm64, digest-extra: {x: [1]}, cache: true, run-on-repo-type: [git]}")
                .unwrap();
        assert_eq!(
            (image.packages, image.arch),
            (vec!["b".to_owned(), "a".to_owned()], Some(crate::engine::TargetArch::Arm64))
        );
        assert_eq!(image.digest_extra, Some(serde_json::json!({ "x": [1] })));
    }

    #[test]
    fn images_of_another_project_are_read_where_it_is() {
        let comm = "loader: comm_taskgraph.loader.merge:loader\nreference-base-path: taskcluster/kinds\n\
                    reference-tasks: [base, gone]\ntasks-from: [own.yml]\n";
        let files = Files::new(&[
            ("comm/taskcluster/kinds/docker-image/kind.yml", comm),
            ("comm/taskcluster/kinds/docker-image/own.yml", "tb: {parent: base}\n"),
        ]);
        let kind = |at: &str| {
            let kind = read(&files.at(at), files.root()).unwrap();
            let names = |it: Vec<&ImageName>| it.into_iter().map(ToString::to_string).collect::<Vec<_>>();
            (names(kind.images.keys().collect()), names(kind.elsewhere.iter().collect()), kind.files.len())
        };
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let at = "comm/taskcluster/kinds/docker-image/kind.yml";
        assert_eq!(kind(at), (names(&["tb"]), names(&["base", "gone"]), 1));
        files.write("taskcluster/kinds/docker-image/kind.yml", "tasks: {base: {}, more: {}}\n");
        assert_eq!(kind(at), (names(&["base", "tb"]), names(&[]), 2));
        // Without another file, its base path refers to itself.
        files.write("taskcluster/kinds/docker-image/kind.yml", comm);
        files.write("taskcluster/kinds/docker-image/own.yml", "tb: {}\n");
        assert_eq!(kind("taskcluster/kinds/docker-image/kind.yml").1, names(&["base", "gone"]));
    }

    #[test]
    fn transforms_of_the_project_are_named() {
        let named = |text: &str| not_run(serde_json::from_str::<Value>(text).unwrap().as_object().unwrap());
        let known = r#"{"loader": "taskgraph.loader.transform:loader", "transforms": ["taskgraph.transforms.docker_image:transforms",
            "gecko_taskgraph.transforms.cached_tasks", "taskgraph.transforms.task:transforms"]}"#;
        assert_eq!(named(known), [""; 0]);
        let own = r#"{"loader": "own.loader:loader", "transforms": ["own.transforms.docker_image:transforms"]}"#;
        assert_eq!(named(own), ["own.transforms.docker_image:transforms", "own.loader:loader"]);
        // As in winsign; the later transforms work on tasks.
        let before =
            r#"{"transforms": ["taskgraph.transforms.task", "own.a", "taskgraph.transforms.docker_image", "own.b"]}"#;
        assert_eq!(named(before), ["own.a"]);
    }

    #[test]
    fn a_file_that_is_no_kind_is_refused() {
        for (text, expected) in [
            ("", "/kind.yml has no `tasks`; name the kind.yml of the docker images, or say `--kind none`"),
            (
                "kind-dependencies: []\n",
                "/kind.yml has no `tasks`; name the kind.yml of the docker images, or say `--kind none`",
            ),
            ("tasks: {}\njobs: {}\n", "/kind.yml has `tasks` and the older `jobs`; use one of them"),
            ("tasks: [a]\n", "/kind.yml has `tasks` that are no mapping; write `NAME: {…}` for each image"),
            ("tasks-from: more.yml\n", "/kind.yml has a `tasks-from` that is no list of files"),
            ("tasks-from: [none.yml]\n", "cannot read /none.yml; it must be there and readable"),
        ] {
            assert_eq!(read_text(text).unwrap_err(), expected);
        }
        assert_eq!(
            read_text("- a\n").unwrap_err(),
            "/kind.yml is no YAML mapping; write `tasks:` and the images below it"
        );
        for (text, place) in [("tasks:\n  a: [}\n", "line 2, "), ("tasks:\n  a: {}\n b: {}\n", "line 3, ")] {
            let error = read_text(text).unwrap_err();
            assert!(error.starts_with(&format!("kind.yml, {place}")) && !error.contains('\n'), "{error}");
            assert!(error.ends_with("; correct the YAML there"), "{error}");
        }
        let missing = Path::new("/nowhere/kind.yml");
        assert!(matches!(read(missing, Path::new("/")), Err(TreeError::Read { path, .. }) if path == missing));
    }
}
