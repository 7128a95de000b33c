//! scopes.yml against the calls that the program makes, and against the scopes that the task carries. Whether the
//! task's scopes are enough for its index inserts is proven with the task, and that the services demand what is listed in
//! `scopes`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use image_worker::commands::Subcommand;
use image_worker::config::settings;
use image_worker::decision::task::values;
use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use super::{BY_PAYLOAD, around, definition_by, plan, read, satisfied, yaml};

/// scopes.yml.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Scopes {
    calls: Vec<CallScope>,
    worker: Vec<WorkerScope>,
    create_task: Vec<CreateTaskScope>,
    create_task_payload: Vec<CreateTaskScope>,
    /// Whose calls a subcommand makes that has none of its own.
    same_calls: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct CallScope {
    call: String,
    scope: String,
    /// The subcommands that make the call; absent, `run`; empty, none yet.
    #[serde(default = "only_run")]
    commands: Vec<String>,
    /// What must be so besides.
    #[serde(default)]
    when: Vec<String>,
    /// What the job does without, where it can.
    optional: Option<String>,
    granted_by: GrantedBy,
    why: String,
}

fn only_run() -> Vec<String> {
    vec!["run".to_owned()]
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct WorkerScope {
    property: String,
    scope: String,
    granted_by: GrantedBy,
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateTaskScope {
    scope: String,
    why: String,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum GrantedBy {
    Task,
    Worker,
    Anonymous,
    Person,
    Author,
    Queue,
}

#[test]
fn scopes_are_listed_for_exactly_the_calls_that_the_program_makes() {
    let scopes: Scopes = yaml("scopes.yml");
    let named = Regex::new(r#""((?:auth|hooks|index|object|queue|secrets)\.[a-z]\w+)""#).unwrap();
    let mut made = BTreeSet::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/taskcluster")).unwrap() {
        let source = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let (program, _) = source.split_once("#[cfg(test)]").unwrap_or((&source, ""));
        made.extend(named.captures_iter(program).map(|found| found[1].to_owned()));
    }
    assert!(made.contains("index.insertTask"), "src/taskcluster/ names its calls in another way now: fix this test");
    let listed: BTreeSet<_> = scopes.calls.iter().map(|call| call.call.clone()).collect();
    assert_eq!(listed, made, "left: worker-config/scopes.yml, right: the calls in src/taskcluster/");
    let whys = scopes.calls.iter().map(|call| &call.why).chain(scopes.worker.iter().map(|scope| &scope.why));
    let whys = whys.chain(scopes.calls.iter().filter_map(|call| call.optional.as_ref()));
    let created = scopes.create_task.iter().chain(&scopes.create_task_payload).map(|scope| &scope.why);
    assert!(whys.chain(created).all(|why| !why.is_empty()));
}

#[test]
fn the_words_of_scopes_yml_are_explained_at_its_head() {
    let scopes: Scopes = yaml("scopes.yml");
    let text = read("scopes.yml");
    let head = text.split_once("\ncalls:").unwrap().0;
    for word in scopes.calls.iter().flat_map(|call| &call.when) {
        let explained = Regex::new(&format!(r"(?m)^#.*  ( |\b){word} {{2,}}\S")).unwrap();
        assert!(explained.is_match(head), "worker-config/scopes.yml: explain `{word}` at its head");
    }
    let commands: BTreeSet<_> = scopes.calls.iter().flat_map(|call| &call.commands).map(String::as_str).collect();
    assert_eq!(
        commands,
        BTreeSet::from(["decide", "history", "lookup", "rerun", "run", "why"]),
        "a new one: write its test in integration/job/scopes/subcommands.rs, and add its name here"
    );
}

/// A subcommand that takes a deployment calls it.
#[test]
fn every_subcommand_that_takes_a_deployment_is_listed() {
    let scopes: Scopes = yaml("scopes.yml");
    let takes = Subcommand::settings().filter(|(_, groups)| groups.contains(&settings::ACCESS));
    let takes: BTreeSet<_> = takes.map(|(name, _)| name).collect();
    let commands: BTreeSet<_> = scopes.calls.into_iter().flat_map(|call| call.commands).collect();
    let same: BTreeSet<_> = scopes.same_calls.keys().cloned().collect();
    let both: Vec<_> = commands.intersection(&same).collect();
    assert!(both.is_empty(), "worker-config/scopes.yml: {both:?} are in `same-calls` and in `commands`");
    let others: BTreeSet<_> = scopes.same_calls.into_values().flatten().collect();
    assert!(
        others.is_subset(&commands),
        "worker-config/scopes.yml: `same-calls` names {others:?}, not all in `commands`"
    );
    let listed: BTreeSet<_> = commands.union(&same).cloned().collect();
    assert_eq!(
        listed, takes,
        "left: `commands` and `same-calls` in worker-config/scopes.yml, right: the subcommands whose SETTINGS have ACCESS"
    );
}

#[test]
fn the_listed_scopes_are_those_of_the_task() {
    let scopes: Scopes = yaml("scopes.yml");
    let task: Value = yaml("task.yml");
    let calls = scopes.calls.iter().map(|call| (&call.scope, call.granted_by));
    let worker = scopes.worker.iter().map(|scope| (&scope.scope, scope.granted_by));
    let listed: BTreeSet<_> =
        calls.chain(worker).filter(|(_, by)| *by == GrantedBy::Task).map(|(scope, _)| scope.as_str()).collect();
    let carried = task["scopes"].as_array().unwrap().iter().map(|scope| scope.as_str().unwrap()).collect();
    assert_eq!(listed, carried, "left: granted-by: task in worker-config/scopes.yml, right: scopes in task.yml");
    assert!(scopes.worker.iter().any(|scope| scope.property == "payload.osGroups"));

    let pool = format!("{}:{}/{}", task["priority"], task["provisionerId"], task["workerType"]).replace('"', "");
    let scheduler = task["schedulerId"].as_str().unwrap();
    let mut needed = BTreeSet::from([
        format!("queue:create-task:{pool}"),
        "queue:create-task:project:none".to_owned(),
        format!("queue:scheduler-id:{scheduler}"),
    ]);
    needed.extend(task["routes"].as_array().unwrap().iter().map(|r| format!("queue:route:{}", r.as_str().unwrap())));
    let listed: BTreeSet<_> = scopes.create_task.into_iter().map(|scope| scope.scope).collect();
    assert_eq!(
        listed, needed,
        "left: create-task in worker-config/scopes.yml, right: what createTask requires for task.yml"
    );
}

/// With task-payload.yml the right to index is the decision task's, and not the image task's.
#[test]
fn whoever_creates_the_other_task_may_name_its_routes_and_no_other_images() {
    let scopes: Scopes = yaml("scopes.yml");
    let mut all_values = values(&plan()).unwrap();
    all_values.extend(around());
    let fill = |text: &str| {
        all_values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{{{name}}}}}"), value))
    };
    let listed = scopes.create_task.iter().chain(&scopes.create_task_payload).map(|scope| fill(&scope.scope));
    let listed: Vec<_> = listed.collect();
    let definition = definition_by(BY_PAYLOAD, &plan());
    for route in &definition.routes {
        assert!(
            satisfied(&listed, &format!("queue:route:{route}")),
            "worker-config/scopes.yml: {listed:?} lack {route}"
        );
    }
    assert!(!satisfied(&listed, "queue:route:index.docker.images.v1.mozilla-central.builder2.latest"), "{listed:?}");
    assert_eq!(scopes.create_task_payload.len(), 1, "one for all three");
    assert!(!definition.scopes.iter().any(|scope| scope.starts_with("index:")), "{:?}", definition.scopes);
}
