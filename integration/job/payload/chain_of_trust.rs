//! worker-config/task-payload.yml on the whole way: `decide` fills it in, a worker runs it with the real engine, uploads
//! what it declares, and the queue indexes it when it is completed, and only then.

use image_worker::net::Digest;
use serde_json::{Value, json};
use stand_in::Fault;

use crate::commands::decide::fixture::{Decided, Fixture, consumer, task_id};
use crate::harness::generic_worker::{CHAIN_OF_TRUST, work, work_while};
use crate::harness::{
    PROJECT, PUSHDATE, RANK, assert_engine_is_clean, container_output, docker, engine, path, program,
};

const IMAGE: &str = "public/image.tar";
const LOG: &str = "public/image-build/build.log";

/// A push with one image, whose steps are these, and a task that waits for it.
struct Push {
    fixture: Fixture,
    name: &'static str,
    tasks: [Value; 1],
}

impl Push {
    fn new(name: &'static str, steps: &str) -> Self {
        let mut fixture = Fixture::new();
        fixture.template = Some("worker-config/task-payload.yml");
        fixture.busybox_image(name, &format!("ENV TEST={name}\n{steps}"));
        Self { fixture, name, tasks: [consumer("build", &[name], &[])] }
    }

    fn decide_and_create(&self) -> (Decided, String) {
        let decided = self.fixture.decide_and_create(PROJECT, &self.tasks);
        let task_id = decided.task_ids[self.name].clone();
        (decided, task_id)
    }

    /// The entries of the image's three routes.
    fn entries(&self, decided: &Decided) -> Vec<Option<Value>> {
        let image_task = decided.graph["tasks"].as_array().unwrap().last().unwrap();
        let routes = image_task["task"]["routes"].as_array().unwrap().iter().map(|route| route.as_str().unwrap());
        let entries: Vec<_> = routes
            .filter_map(|route| route.strip_prefix(&format!("index.docker.images.v1.{PROJECT}.{}.", self.name)))
            .map(|tail| format!("docker.images.v1.{PROJECT}.{}.{tail}", self.name))
            .map(|namespace| self.fixture.taskcluster.index_entry(&namespace))
            .collect();
        assert_eq!(entries.len(), 3);
        entries
    }

    fn state(&self, task_id: &str) -> Value {
        self.fixture.taskcluster.status(task_id).unwrap()["state"].clone()
    }

    /// The artifacts that the chain of trust of a run names, with their hashes. They are what consumers get.
    fn trusted(&self, task_id: &str, run_id: u32) -> Vec<String> {
        let taskcluster = &self.fixture.taskcluster;
        let certificate = taskcluster.artifact_bytes(task_id, run_id, CHAIN_OF_TRUST).unwrap();
        let certificate: Value = serde_json::from_slice(&certificate).unwrap();
        assert_eq!((&certificate["taskId"], &certificate["runId"]), (&json!(task_id), &json!(run_id)));
        let of_the_task = |(name, hash): (&String, &Value)| {
            // The worker's own, which it packs.
            if name.starts_with("public/logs/") {
                return None;
            }
            let bytes = taskcluster.artifact_bytes(task_id, run_id, name).unwrap();
            assert_eq!(hash["sha256"], json!(Digest::of(&bytes)), "{name}");
            Some(name.clone())
        };
        certificate["artifacts"].as_object().unwrap().iter().filter_map(of_the_task).collect()
    }
}

#[test]
fn a_declared_image_is_signed_indexed_and_found_by_the_next_push() {
    if !engine() {
        return;
    }
    let push =
        Push::new("payload-signed", "RUN echo signed > /greeting\nCMD [\"/bin/busybox\", \"cat\", \"/greeting\"]\n");
    let first = push.fixture.decide_and_run(PROJECT, &push.tasks);
    let task_id = &first.task_ids[push.name];
    assert_eq!(push.state(task_id), "completed");
    let task = push.fixture.taskcluster.definition(task_id).unwrap();
    for entry in push.entries(&first) {
        let entry = entry.expect("each route leads to the image");
        assert_eq!((&entry["taskId"], &entry["rank"]), (&json!(task_id), &json!(RANK)));
        assert_eq!(entry["expires"], task["expires"], "as long as its artifact");
    }
    let trusted = push.trusted(task_id, 0);
    for name in [IMAGE, LOG, "public/image-build/provenance.json", "public/image-build/layers.json"] {
        assert!(trusted.iter().any(|it| it == name), "{name} is not among {trusted:?}");
    }
    assert!(!trusted.iter().any(|name| name.contains("sbom")), "busybox has no package manager, and the task is green");
    let inserted = push.fixture.taskcluster.calls().iter().any(|call| call.name == "insertTask");
    assert!(!inserted, "the queue indexes, the program has no scope for it");
    assert_engine_is_clean(push.name);

    let again = push.fixture.decide_and_run(PROJECT, &push.tasks);
    assert_eq!((again.made.len(), &again.task_ids), (0, &first.task_ids), "the image is found by its route");
    let tag = push.fixture.load(&again, push.name);
    assert_eq!(container_output(&[&tag]), "signed");
    assert!(docker(&["rmi", &tag]).status.success());
}

#[test]
fn a_failed_build_is_not_indexed_and_leaves_its_log() {
    if !engine() {
        return;
    }
    let push = Push::new("payload-unsigned", "RUN echo the-reason && exit 3\n");
    let (decided, task_id) = push.decide_and_create();
    work(&push.fixture.taskcluster, &task_id).assert_fails(20, &["exit code 3"]);
    assert_eq!(push.state(&task_id), "failed");
    assert_eq!(push.entries(&decided), [None, None, None]);
    let log = push.fixture.taskcluster.artifact_bytes(&task_id, 0, LOG).unwrap();
    assert!(String::from_utf8(log).unwrap().contains("the-reason"));
    assert_eq!(push.trusted(&task_id, 0), [LOG], "what is missing is not signed");
    assert_engine_is_clean(push.name);
    assert_eq!(push.fixture.decide(PROJECT, &push.tasks).made, [push.name], "it is built by the next push");
}

#[test]
fn a_cancelled_task_is_not_indexed() {
    if !engine() {
        return;
    }
    let push = Push::new("payload-cancelled", "RUN echo x > /x\n");
    let (decided, task_id) = push.decide_and_create();
    let finished = work_while(&push.fixture.taskcluster, &task_id, || push.fixture.taskcluster.cancel(&task_id));
    finished.assert_succeeds();
    assert_eq!(push.state(&task_id), "exception");
    assert!(push.trusted(&task_id, 0).iter().any(|name| name == IMAGE), "the queue still takes its artifacts");
    assert_eq!(push.entries(&decided), [None, None, None]);
    assert_eq!(push.fixture.decide(PROJECT, &push.tasks).made, [push.name]);
}

/// The image that is missing then is not what the run is judged by.
#[test]
fn what_another_run_can_fix_is_run_again() {
    if !engine() {
        return;
    }
    let push = Push::new("payload-again", "RUN echo x > /x\n");
    let (decided, task_id) = push.decide_and_create();
    push.fixture.taskcluster.fault(Fault::status("s3 GET", 503).times(1000).retry_after(0));
    work(&push.fixture.taskcluster, &task_id).assert_fails(30, &["503"]);
    assert_eq!((push.state(&task_id), push.entries(&decided)), (json!("pending"), vec![None, None, None]));
    assert_eq!(push.trusted(&task_id, 0), [""; 0]);
    push.fixture.taskcluster.clear_faults();
    work(&push.fixture.taskcluster, &task_id).assert_succeeds();
    assert_eq!(push.state(&task_id), "completed");
    assert!(push.entries(&decided).iter().all(Option::is_some));
    assert!(push.trusted(&task_id, 1).iter().any(|name| name == IMAGE));
}

#[test]
fn a_filled_in_template_has_the_routes_of_the_image_and_its_expiry() {
    let push = Push::new("payload-filled", "");
    let graph = json!({ "tasks": [{ "taskId": task_id("build"), "task": push.tasks[0] }] });
    let file = push.fixture.root.path().join("graph.json");
    std::fs::write(&file, graph.to_string()).unwrap();
    let root = path(push.fixture.root.path());
    let contexts = push.fixture.root.path().join("contexts");
    let decide = |variables: &[(&str, &str)]| {
        let template = ["--task-template", push.fixture.template.unwrap()];
        let arguments = ["decide", path(&file), "--offline", "--root", root, "--contexts", path(&contexts)];
        let variables = [("PROJECT", "try"), ("PUSHDATE", PUSHDATE)].iter().chain(variables);
        let variables = variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let decided = program(arguments.into_iter().chain(template), variables).finish();
        decided.assert_succeeds();
        serde_json::from_str::<Value>(&decided.stdout).unwrap()["tasks"][1]["task"].clone()
    };
    let expires = "2099-01-02T03:04:05Z";
    let task =
        decide(&[("ARTIFACT_EXPIRES", expires), ("INDEX", "index.garbage"), ("ARTIFACT_NAME", "public/image.tar.zst")]);
    let base = format!("index.garbage.docker.images.v1.try.{}", push.name);
    let hash = task["payload"]["env"]["HASH"].as_str().unwrap();
    let routes =
        [format!("{base}.latest"), format!("{base}.pushdate.2015.12-09-123456"), format!("{base}.hash.{hash}")];
    assert_eq!(task["routes"].as_array().unwrap()[..3], routes.map(Value::from));
    assert_eq!(task["extra"]["index"], json!({ "rank": RANK, "expires": expires }));
    let image = &task["payload"]["artifacts"][0];
    assert_eq!((&image["name"], &image["path"]), (&json!("public/image.tar.zst"), &json!("out/image.tar.zst")));
    assert_eq!((&image["contentType"], &image["expires"]), (&json!("application/zstd"), &json!(expires)));
    let task = decide(&[]);
    assert_eq!(task["extra"]["index"]["expires"], task["expires"]);
    assert_eq!(task["payload"]["artifacts"][0]["expires"], task["expires"]);
}
