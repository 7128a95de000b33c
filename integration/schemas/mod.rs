//! The schemas of docs/schemas/: there is one for each answer and document, each says what its properties are, and none lets
//! a property be forgotten. `harness::schemas` validates what the program really prints and writes, in every other test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use image_worker::taskcluster::ArtifactName;
use regex::Regex;
use serde_json::{Value, json};

use crate::commands::tree::sample;
use crate::harness::schemas::{DIRECTORY, DOCUMENTS, FILES, validate};
use crate::harness::{path, program};

/// Where others find the schemas.
const BASE: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/raw/main/");
/// What others refer to; no answer is like it.
const COMMON: &str = "common";
/// Their answers are text, with --json too.
const TEXTS: [&str; 3] = ["completions", "man", "shell"];
/// Their objects have properties that others give them: those of a task graph's writer, fields of a log line.
const OPEN: [&str; 2] = ["task-graph", "log-line"];

/// The schemas inside of a schema that say what a value is; those of conditions only add to them.
fn inner(schema: &Value) -> Vec<(String, &Value)> {
    let named = ["properties", "$defs"].into_iter().filter_map(|key| Some((key, schema.get(key)?.as_object()?)));
    let named = named.flat_map(|(key, map)| map.iter().map(move |(name, schema)| (format!("{key}/{name}"), schema)));
    let single = ["items", "additionalProperties"].into_iter();
    let single = single.filter_map(|key| Some((key.to_owned(), schema.get(key).filter(|inner| inner.is_object())?)));
    let listed =
        ["prefixItems", "anyOf", "oneOf"].into_iter().filter_map(|key| Some((key, schema.get(key)?.as_array()?)));
    let listed = listed.flat_map(|(key, list)| {
        list.iter().enumerate().map(move |(number, schema)| (format!("{key}/{number}"), schema))
    });
    named.chain(single).chain(listed).collect()
}

/// What a schema leaves open or does not say.
fn gaps(file: &str, at: &str, schema: &Value, all: &mut Vec<String>) {
    let mut gap = |at: &str, what: &str| all.push(format!("{file}.json#{at}: {what}"));
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        if !OPEN.contains(&file) && schema["additionalProperties"] != json!(false) {
            gap(at, "additionalProperties is not false");
        }
        if !schema["required"].is_array() {
            gap(at, "required is missing");
        }
        let required: BTreeSet<_> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        required.iter().filter(|name| !properties.contains_key(**name)).for_each(|name| gap(at, &format!("no {name}")));
    }
    let nameless = |(place, schema): &(String, &Value)| {
        let is_named = place.starts_with("properties/") || place.starts_with("$defs/");
        is_named && schema.get("description").is_none() && schema.get("$ref").is_none()
    };
    for (place, _) in inner(schema).iter().filter(|it| nameless(it)) {
        gap(&format!("{at}/{place}"), "description is missing");
    }
    for (place, schema) in inner(schema) {
        gaps(file, &format!("{at}/{place}"), schema, all);
    }
}

#[test]
fn each_schema_says_all() {
    let mut all = Vec::new();
    for (file, schema) in FILES.iter() {
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{file}");
        assert_eq!(schema["$id"], format!("{BASE}{DIRECTORY}/{file}.json"));
        assert!(schema["title"].is_string() && schema["description"].is_string(), "{file} has no title or description");
        gaps(file, "", schema, &mut all);
        // It compiles, and takes no answer of another one.
        assert!(
            file == COMMON || validate(file, &json!({ "something": "else" })).is_err(),
            "{file}.json takes anything"
        );
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn the_readme_lists_each_schema_and_each_answer_has_one() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join(DIRECTORY).join("README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let row = Regex::new(r"(?m)^\| (.+?) \| \[(\S+)\.json\]\((\S+)\.json\) \| (\S+) \|$").unwrap();
    let rows = row.captures_iter(&readme).map(|row| {
        assert_eq!(row[2], row[3], "the link and its words");
        (row[2].to_owned(), row[1].replace('`', ""))
    });
    let rows: BTreeMap<_, _> = rows.collect();
    let titles = FILES.iter().filter(|(file, _)| *file != COMMON);
    let titles: BTreeMap<_, _> =
        titles.map(|(file, schema)| (file.clone(), schema["title"].as_str().unwrap().to_owned())).collect();
    assert_eq!(rows, titles, "the table of {DIRECTORY}/README.md has the titles of the schemas");

    let answers: BTreeSet<_> =
        titles.values().flat_map(|title| title.split(", ")).filter_map(|it| it.split_once(" --json")).collect();
    let answers: BTreeSet<_> = answers.into_iter().map(|(subcommand, _)| subcommand).chain(TEXTS).collect();
    let command = image_worker::cli::command();
    let subcommands = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set());
    let subcommands: BTreeSet<_> = subcommands.map(clap::Command::get_name).collect();
    assert_eq!(answers, subcommands, "each subcommand has a schema of its answer");

    let published = ArtifactName::documents().into_iter().filter(|name| *name != ArtifactName::report());
    let published: BTreeSet<_> = published.map(|name| name.to_string()).collect();
    assert_eq!(DOCUMENTS.map(|(name, _)| name.to_owned()).into_iter().collect::<BTreeSet<_>>(), published);
    assert!(DOCUMENTS.iter().all(|(name, schema)| titles[*schema] == *name), "{titles:?}");
}

/// A document's objects, by their JSON pointers.
fn objects(at: &str, value: &Value, all: &mut Vec<String>) {
    if value.is_object() {
        all.push(at.to_owned());
    }
    let listed = value.as_array().into_iter().flatten().enumerate().map(|(number, inner)| (number.to_string(), inner));
    let named = value.as_object().into_iter().flatten().map(|(name, inner)| (name.clone(), inner));
    listed.chain(named).for_each(|(name, inner)| objects(&format!("{at}/{name}"), inner, all));
}

/// The validation of every other test is worth as much as this.
#[test]
fn an_answer_with_a_property_more_or_less_is_refused() {
    let tree = program(["tree", "--json", "--root", path(sample().path())], []).finish();
    tree.assert_succeeds();
    let tree: Value = serde_json::from_str(&tree.stdout).unwrap();
    let mut places = Vec::new();
    objects("", &tree, &mut places);
    // Build arguments have any names.
    places.retain(|place| !place.ends_with("/args"));
    assert!(places.iter().any(|place| place.contains("/from/")), "{places:?}");
    let mut refused = 0;
    let mut refuse = |changed: &Value, what: &str| {
        assert!(validate("tree", changed).is_err(), "an answer is taken with {what}");
        refused += 1;
    };
    for place in &places {
        let names: Vec<_> = tree.pointer(place).unwrap().as_object().unwrap().keys().cloned().collect();
        for name in names.iter().filter(|name| *name != "mismatch") {
            let mut changed = tree.clone();
            changed.pointer_mut(place).unwrap().as_object_mut().unwrap().remove(name);
            refuse(&changed, &format!("no {place}/{name}"));
        }
        let mut changed = tree.clone();
        changed.pointer_mut(place).unwrap()["more"] = json!(1);
        refuse(&changed, &format!("{place}/more"));
    }
    assert!(refused > 100, "{refused}");
}
