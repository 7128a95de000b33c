//! taskgraph's own image tasks as they are: what the real taskgraph wrote for fixtures/taskgraph-project is run with
//! `--publish payload`, task after task, to images that taskgraph finds and loads. scripts/taskgraph-images lets it write.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use image_worker::decision::task::unread;
use serde_json::{Map, Value};
use stand_in::{Options, RunState, StandIn, TaskSpec};

use crate::harness::{assert_engine_is_clean, container_output, docker_output, engine, path, program};

/// The decision task that `taskgraph_images.py` acts as.
const DECISION: &str = "fN1SbArXTPSVFNUvaOlinQ";

/// Variables that taskgraph writes and that mean nothing to a builder of images; `image_builder` reads none of them.
const FOR_OTHERS: [&str; 6] = [
    "MOZ_AUTOMATION",
    "SCCACHE_DISABLE",
    "VCS_BASE_REPOSITORY",
    "VCS_HEAD_REPOSITORY",
    "VCS_HEAD_REV",
    "VCS_REPOSITORY_TYPE",
];

/// What a container of each image prints.
const PRINTED: [(&str, &str); 5] = [
    ("sample-base", "base"),
    ("sample-english", "good morning!"),
    ("sample-german", "guten Morgen."),
    ("sample-tools", "base\ntools"),
    ("sample-greeter", "base\ntools\nservus?"),
];

/// The deployment with the decision task, and what taskgraph wrote.
struct Fixture {
    taskcluster: StandIn,
    graph: Map<String, Value>,
}

impl Fixture {
    fn read(directory: &Path) -> Self {
        let taskcluster = StandIn::start(Options::default());
        taskcluster.create_task(TaskSpec::default().task_id(DECISION));
        for entry in std::fs::read_dir(directory.join("docker-contexts")).unwrap() {
            let entry = entry.unwrap();
            let name = format!("public/docker-contexts/{}", entry.file_name().to_str().unwrap());
            let context = std::fs::read(entry.path()).unwrap();
            taskcluster.put_artifact(DECISION, 0, &name, "application/gzip", None, &context);
        }
        let graph = std::fs::read_to_string(directory.join("task-graph.json")).unwrap();
        Self { taskcluster, graph: serde_json::from_str(&graph).unwrap() }
    }

    /// The tasks, each after those that it depends on.
    fn in_order(&self) -> Vec<(&str, &Value)> {
        let mut ordered: Vec<(&str, &Value)> = Vec::new();
        let mut done = BTreeSet::new();
        while ordered.len() < self.graph.len() {
            let before = ordered.len();
            for (id, task) in &self.graph {
                let needs = task["dependencies"].as_object().unwrap();
                if !done.contains(id) && needs.values().all(|need| done.contains(need.as_str().unwrap())) {
                    done.insert(id.clone());
                    ordered.push((id, task));
                }
            }
            assert!(ordered.len() > before, "a cycle, or a task that is not in the graph: {:?}", self.graph.keys());
        }
        ordered
    }

    /// Runs a task as a worker would that has no container for it: its environment and the worker's own, then its
    /// artifact is uploaded and its routes are inserted.
    fn run(&self, id: &str, task: &Value, output: &Path) {
        let (definition, payload) = (&task["task"], &task["task"]["payload"]);
        let spec = TaskSpec::default().task_id(id).property("routes", definition["routes"].clone());
        let claim = self.taskcluster.create_task(spec);
        let env: BTreeMap<String, String> = serde_json::from_value(payload["env"].clone()).expect("texts only");
        let mut others = unread(&env);
        others.retain(|variable| !FOR_OTHERS.contains(&variable.as_str()));
        assert_eq!(others, [""; 0], "taskgraph writes variables that we do not know");
        let by_the_worker = [
            ("TASK_ID", claim.task_id.as_str()),
            ("RUN_ID", "0"),
            ("TASKCLUSTER_ROOT_URL", &self.taskcluster.root_url()),
            ("IMAGE_WORKER_PUBLISH", "payload"),
            ("IMAGE_WORKER_OUTPUT", path(output)),
        ];
        let by_the_worker = by_the_worker.map(|(name, value)| (name.to_owned(), value.to_owned()));
        program(["run"], env.into_iter().chain(by_the_worker)).finish().assert_succeeds();

        let artifacts = payload["artifacts"].as_object().unwrap();
        let (name, declared) = artifacts.iter().next().expect("an artifact");
        let place = Path::new(declared["path"].as_str().unwrap());
        assert_eq!((artifacts.len(), place.parent()), (1, Some(Path::new("/workspace/out"))), "our default");
        let archive = output.join(place.file_name().unwrap());
        let bytes = std::fs::read(&archive).unwrap_or_else(|error| panic!("{}: {error}", archive.display()));
        self.taskcluster.put_artifact(id, 0, name, "application/zstd", None, &bytes);
        self.taskcluster.resolve(id, 0, RunState::Completed);
    }

    /// Lets taskgraph look the image up in the index, and load it.
    fn load(&self, namespace: &str, tag: &str) {
        let mut taskgraph = Command::new("scripts/taskgraph");
        taskgraph.args(["integration/taskgraph_images.py", "load", namespace, tag]);
        let output = taskgraph.env("TASKCLUSTER_ROOT_URL", self.taskcluster.root_url()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// By name, in the project's root and below it: the hash by `hash` is the one that taskgraph has written into its task.
#[test]
#[ignore = "scripts/taskgraph-images runs it, with what the real taskgraph wrote"]
fn hash_agrees_with_taskgraph_for_each_image() {
    let directory = std::env::var_os("IMAGE_WORKER_TASKGRAPH_IMAGES").expect("run scripts/taskgraph-images");
    let (project, fixture) = (Path::new(&directory).join("project"), Fixture::read(Path::new(&directory)));
    let mut names = BTreeSet::new();
    for (_, task) in fixture.in_order() {
        let env = &task["task"]["payload"]["env"];
        let name = env["IMAGE_NAME"].as_str().unwrap();
        for place in ["", "tools", "taskcluster/docker/base"] {
            let mut hash = program(["hash", name, "--root", path(&project)], []);
            hash.command.current_dir(project.join(place));
            let hash = hash.finish();
            assert_eq!(hash.stdout, format!("{}\n", env["HASH"].as_str().unwrap()), "{name}: {}", hash.stderr);
        }
        names.insert(name.to_owned());
    }
    assert_eq!(names, PRINTED.map(|(name, _)| name.to_owned()).into());
}

#[test]
#[ignore = "scripts/taskgraph-images runs it, with what the real taskgraph wrote"]
fn the_image_tasks_of_a_taskgraph_project_run_as_they_are() {
    let directory = std::env::var_os("IMAGE_WORKER_TASKGRAPH_IMAGES").expect("run scripts/taskgraph-images");
    if !engine() {
        return;
    }
    let fixture = Fixture::read(Path::new(&directory));
    let mut printed = BTreeMap::new();
    for (id, task) in fixture.in_order() {
        let output = tempfile::tempdir().unwrap();
        fixture.run(id, task, output.path());
        for (image, _) in PRINTED {
            assert_engine_is_clean(image);
        }
        let name = task["attributes"]["image_name"].as_str().unwrap();
        let (tag, namespace) = (format!("{name}:by-taskgraph"), &task["optimization"]["index-search"][0]);
        fixture.load(namespace.as_str().expect("where taskgraph looks"), &tag);
        printed.insert(name.to_owned(), container_output(&[&tag]));
        docker_output(&["rmi", "--force", &tag]);
    }
    let expected = PRINTED.map(|(name, words)| (name.to_owned(), words.to_owned()));
    assert_eq!(printed, expected.into());
}
