//! The schemas of docs/schemas/, and what they are for: every answer, log line and document that passes through the harness is
//! validated here. That the schemas are complete and strict is tested in `schemas`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use boon::{Compiler, SchemaIndex, Schemas};
use clap::ArgMatches;
use image_worker::config::settings::{self, Setting};
use serde_json::Value;

use stand_in::StandIn;

/// Where the schemas are, from the repository's root.
pub(crate) const DIRECTORY: &str = "docs/schemas";

/// The documents that are published beside an image, and their schemas.
pub(crate) const DOCUMENTS: [(&str, &str); 5] = [
    ("public/image-build/layer-cache.json", "layer-cache"),
    ("public/image-build/layers.json", "layers"),
    ("public/image-build/perfherder-data-image-build.json", "perfherder-data"),
    ("public/image-build/provenance.json", "provenance"),
    ("public/image-build/sbom.cdx.json", "sbom"),
];

/// The schemas by their names, `hash` for `hash.json`.
pub(crate) static FILES: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(DIRECTORY);
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let schemas = files.filter(|file| file.extension().is_some_and(|extension| extension == "json"));
    schemas.map(|file| (file.file_stem().unwrap().to_str().unwrap().to_owned(), read(&file))).collect()
});

struct Compiled {
    schemas: Schemas,
    indexes: BTreeMap<String, SchemaIndex>,
}

/// A schema that is none, or that refers to one that is not there, fails every test here.
static COMPILED: LazyLock<Compiled> = LazyLock::new(|| {
    let url = |schema: &Value| schema["$id"].as_str().expect("an $id").to_owned();
    let mut compiler = Compiler::new();
    compiler.enable_format_assertions();
    for schema in FILES.values() {
        compiler.add_resource(&url(schema), schema.clone()).unwrap();
    }
    let mut schemas = Schemas::new();
    let mut compile = |(name, schema): (&String, &Value)| {
        let index = compiler.compile(&url(schema), &mut schemas);
        (name.clone(), index.unwrap_or_else(|error| panic!("{name}.json: {error:#}")))
    };
    let indexes = FILES.iter().map(&mut compile).collect();
    Compiled { schemas, indexes }
});

/// What is wrong with a document by its schema.
pub(crate) fn validate(schema: &str, document: &Value) -> Result<(), String> {
    let index = COMPILED.indexes.get(schema);
    let index =
        index.unwrap_or_else(|| panic!("write {DIRECTORY}/{schema}.json, and its line of {DIRECTORY}/README.md"));
    COMPILED.schemas.validate(document, *index).map_err(|error| format!("{DIRECTORY}/{schema}.json: {error:#}"))
}

/// Fails where a document is not as its schema says.
pub(crate) fn assert_valid(schema: &str, document: &Value) {
    if let Err(error) = validate(schema, document) {
        panic!("{error}\n{document:#}");
    }
}

/// The schema of a subcommand's answer; none where `--json` changes nothing.
fn of_answer<'a>(subcommand: &'a str, run: &ProgramRun) -> Option<&'a str> {
    match subcommand {
        "completions" | "man" => None,
        "check" if run.own.contains_id("compare") => Some("compare"),
        "context" if run.is_on(&settings::LIST) => Some("context-list"),
        "replay" => Some("run"),
        name => Some(name),
    }
}

/// The arguments of a run of the program.
struct ProgramRun<'a> {
    command: &'a Command,
    own: ArgMatches,
}

impl ProgramRun<'_> {
    fn variable(&self, setting: &Setting) -> Option<String> {
        let (_, value) = self.command.get_envs().find(|(name, _)| *name == setting.variable)?;
        value?.to_str().map(str::to_owned)
    }

    fn is_on(&self, setting: &Setting) -> bool {
        self.own.get_flag(setting.name) || self.variable(setting).is_some_and(|value| value == "1" || value == "true")
    }

    fn text(&self, setting: &Setting) -> Option<String> {
        self.own.get_one::<String>(setting.name).cloned().or_else(|| self.variable(setting))
    }

    /// A path, as the program reads it.
    fn file(&self, setting: &Setting) -> Option<PathBuf> {
        let here = self.command.get_current_dir().unwrap_or_else(|| Path::new("."));
        self.text(setting).map(|file| here.join(file))
    }
}

/// Validates what the program has printed and written.
pub(crate) fn check(command: &Command, code: Option<i32>, stdout: &str, stderr: &str) {
    let arguments = std::iter::once("image-worker".as_ref()).chain(command.get_args());
    // Wrong usage is no answer.
    let Ok(matches) = image_worker::cli::command().try_get_matches_from(arguments) else { return };
    let Some((subcommand, own)) = matches.subcommand() else { return };
    let run = ProgramRun { command, own: own.clone() };
    if run.text(&settings::LOG_FORMAT).is_some_and(|format| format == "json") {
        stderr.lines().filter(|line| line.starts_with('{')).for_each(|line| assert_valid("log-line", &parsed(line)));
    }
    if run.is_on(&settings::JSON) {
        if let Some(schema) = of_answer(subcommand, &run) {
            let lines = stdout.lines().count();
            assert!(lines <= 1 || schema == "rerun", "an answer is one line of JSON, not {lines}");
            stdout.lines().for_each(|line| assert_valid(schema, &parsed(line)));
        }
    } else if subcommand == "decide" && stdout.starts_with('{') {
        assert_valid("task-graph", &parsed(stdout));
    }
    if code != Some(0) {
        return;
    }
    match subcommand {
        "decide" => {
            if let Some(file) = run.file(&settings::OUT).filter(|file| file.is_file()) {
                assert_valid("task-graph", &read(&file));
            }
        }
        // Where it is not said, a directory of another run may be meant.
        "run" | "replay" => {
            if let Some(directory) = run.file(&settings::OUTPUT) {
                check_directory(&directory);
            }
        }
        _ => {}
    }
}

/// Validates what a run has written to a directory.
fn check_directory(directory: &Path) {
    let documents = DOCUMENTS.iter().map(|(artifact, schema)| (artifact.rsplit('/').next().unwrap(), *schema));
    for (name, schema) in documents.chain([("publish.json", "publish")]) {
        let file = directory.join(name);
        if file.exists() {
            assert_valid(schema, &read(&file));
        }
    }
}

/// Validates what a successful run has published.
pub(crate) fn check_published(taskcluster: &StandIn, task_id: &str, run_id: u32, namespaces: &[String]) {
    for (artifact, schema) in DOCUMENTS {
        if let Some(bytes) = taskcluster.artifact_bytes(task_id, run_id, artifact) {
            assert_valid(schema, &serde_json::from_slice(&bytes).unwrap());
        }
    }
    for entry in namespaces.iter().filter_map(|namespace| taskcluster.index_entry(namespace)) {
        // A worker that inserts a task's own routes has no data.
        if entry["taskId"] == task_id && entry["data"] != serde_json::json!({}) {
            assert_valid("index-data", &entry["data"]);
        }
    }
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("it is no JSON: {error}: {text}"))
}

fn read(file: &Path) -> Value {
    parsed(&std::fs::read_to_string(file).unwrap())
}
