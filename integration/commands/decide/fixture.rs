//! A repository with images, a deployment, and decision tasks whose tasks are run as workers would, one after the other.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use image_worker::taskcluster::TaskId;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use stand_in::{Claim, Options, RunState, StandIn, TaskSpec};
use tempfile::TempDir;

use crate::harness::generic_worker;
use crate::harness::{PUSHDATE, engine_place, path, program};

/// What only the deployment knows: the workers, and the task that has the program.
pub(crate) const GIVEN: [&str; 8] = [
    "--value",
    "provisioner_id=gecko-1",
    "--value",
    "worker_type=images",
    "--value",
    "image_worker_task_id=YZXRUnMrR5SNKzLUaTbZEA",
    "--value",
    "image_worker_sha256=0000000000000000000000000000000000000000000000000000000000000000",
];
const TOOLCHAIN: &str = "YZXRUnMrR5SNKzLUaTbZEA";

pub(crate) struct Fixture {
    pub(crate) root: TempDir,
    pub(crate) taskcluster: StandIn,
    /// The image tasks' template, where it is not the program's own.
    pub(crate) template: Option<&'static str>,
    /// Further arguments of decisions.
    pub(crate) more: Cell<&'static [&'static str]>,
    /// For how many hours the tasks live.
    pub(crate) hours: Cell<i64>,
    /// Decisions so far: each is a push of its own.
    decisions: Cell<u32>,
}

/// What a decision task has decided.
pub(crate) struct Decided {
    pub(crate) graph: Value,
    /// The images that got a task, by name.
    pub(crate) made: Vec<String>,
    /// The task of each image.
    pub(crate) task_ids: BTreeMap<String, String>,
    pub(super) stderr: String,
    decision: Claim,
}

/// The id of a task that tests call so.
pub(crate) fn task_id(name: &str) -> String {
    TaskId::derived(&["a test's task", name]).to_string()
}

/// A task that needs these task images and these registry images.
pub(crate) fn consumer(name: &str, images: &[&str], registry: &[&str]) -> Value {
    let of = |image: &&str| {
        json!({ "type": "task-image", "path": "public/image.tar",
                "taskId": format!("{{{{#task_id_for_image}}}}{image}{{{{/task_id_for_image}}}}") })
    };
    let registry: Vec<_> = registry.iter().map(|name| format!("{{#docker_image}}{name}{{/docker_image}}")).collect();
    let images: Vec<_> = images.iter().map(of).collect();
    json!({ "name": name, "payload": { "images": images, "registry": registry } })
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let root = TempDir::with_prefix("repository-").unwrap();
        std::fs::create_dir(root.path().join(".hg")).unwrap();
        let taskcluster = StandIn::start(Options::default());
        let toolchain = taskcluster.create_task(TaskSpec::default().task_id(TOOLCHAIN));
        taskcluster.resolve(&toolchain.task_id, 0, RunState::Completed);
        let (more, hours, decisions) = (Cell::new(&[][..]), Cell::new(100), Cell::new(0));
        Self { root, taskcluster, template: None, more, hours, decisions }
    }

    pub(super) fn file(&self, name: &str, text: &str) {
        let path = self.root.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn image(&self, name: &str, dockerfile: &str) {
        self.file(&format!("testing/docker/{name}/Dockerfile"), dockerfile);
    }

    pub(super) fn append(&self, name: &str, lines: &str) {
        let path = self.root.path().join(format!("testing/docker/{name}/Dockerfile"));
        std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(lines.as_bytes()).unwrap();
    }

    /// An image that needs nothing but busybox, whose `Dockerfile` goes on with `steps`.
    pub(crate) fn busybox_image(&self, name: &str, steps: &str) {
        let head = "FROM scratch\nCOPY busybox /bin/busybox\nSHELL [\"/bin/busybox\", \"sh\", \"-c\"]\n";
        self.image(name, &format!("{head}{steps}"));
        let busybox = self.root.path().join(format!("testing/docker/{name}/busybox"));
        std::fs::copy("/bin/busybox", busybox).expect("busybox-static; run scripts/test");
    }

    /// Three images that need nothing but busybox, two that are built from one of them, and one of a registry.
    pub(super) fn six_images(&self) {
        for name in ["shared", "own", "fresh"] {
            self.busybox_image(name, &format!("RUN echo {name} > /made-by\n"));
        }
        for parent in ["shared", "fresh"] {
            let name = format!("child-of-{parent}");
            let head = format!("ARG DOCKER_IMAGE_PARENT={parent}\nFROM $DOCKER_IMAGE_PARENT\n");
            let steps = format!("RUN echo {name} >> /made-by\nCMD [\"/bin/busybox\", \"cat\", \"/made-by\"]\n");
            self.image(&name, &format!("{head}{steps}"));
        }
        self.image("tooling", "FROM scratch\n");
        self.file("testing/docker/tooling/VERSION", "1.0\n");
        self.file("testing/docker/REGISTRY", "example\n");
    }

    /// A new push, decided about by a decision task of its own.
    pub(crate) fn decide(&self, project: &str, tasks: &[Value]) -> Decided {
        let decision = self.taskcluster.create_task(TaskSpec::default().property("schedulerId", "gecko-level-1"));
        let number = self.decisions.get() + 1;
        self.decisions.set(number);
        let directory = self.root.path().join(format!("decision-{number}"));
        std::fs::create_dir(&directory).unwrap();
        let (graph, out, contexts) =
            (directory.join("graph.json"), directory.join("task-graph.json"), directory.join("contexts"));
        let tasks: Vec<_> =
            tasks.iter().map(|task| definition(task, project, (number, self.hours.get()), &decision.task_id)).collect();
        std::fs::write(&graph, json!({ "tasks": tasks }).to_string()).unwrap();
        let root = self.root.path();
        let arguments = ["decide", path(&graph), "--root", path(root), "-o", path(&out), "--contexts", path(&contexts)];
        let environment = [
            ("TASKCLUSTER_ROOT_URL", self.taskcluster.root_url()),
            ("TASK_ID", decision.task_id.clone()),
            ("PROJECT", project.to_owned()),
            ("PUSHDATE", PUSHDATE.to_owned()),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value));
        let template = self.template.iter().flat_map(|file| ["--task-template", file]);
        let more = self.more.get().iter().copied();
        let decided = program(arguments.into_iter().chain(GIVEN).chain(template).chain(more), environment).finish();
        decided.assert_succeeds();
        let task_ids = decided.stdout.lines().map(|line| line.split_once(' ').unwrap());
        let graph: Value = serde_json::from_str(&std::fs::read_to_string(&out).unwrap()).unwrap();
        assert!(!graph.to_string().contains("task_id_for_image") && !graph.to_string().contains("docker_image"));
        Decided {
            made: packed(&contexts),
            task_ids: task_ids.map(|(name, task)| (name.to_owned(), task.to_owned())).collect(),
            graph,
            stderr: decided.stderr,
            decision,
        }
    }

    /// Decides, and then does what a decision task does: uploads the contexts, creates all tasks, ends.
    pub(crate) fn decide_and_create(&self, project: &str, tasks: &[Value]) -> Decided {
        let decided = self.decide(project, tasks);
        let directory = self.root.path().join(format!("decision-{}/contexts", self.decisions.get()));
        for name in &decided.made {
            let bytes = std::fs::read(directory.join(format!("{name}.tar.gz"))).unwrap();
            let artifact = format!("public/docker-contexts/{name}.tar.gz");
            self.taskcluster.put_artifact(&decided.decision.task_id, 0, &artifact, "application/gzip", None, &bytes);
        }
        let added = decided.graph["tasks"].as_array().unwrap();
        assert_eq!(added.len(), tasks.len() + decided.made.len(), "a task for each image that is missing");
        // The image tasks come last, parents first; the queue wants a task's dependencies before the task.
        for task in added[tasks.len()..].iter().chain(&added[..tasks.len()]) {
            let task_id = task["taskId"].as_str().unwrap();
            self.taskcluster.submit(task_id, &task["task"]).unwrap_or_else(|refusal| panic!("{task}: {refusal}"));
        }
        self.taskcluster.resolve(&decided.decision.task_id, 0, RunState::Completed);
        decided
    }

    /// The same, and then what workers do: runs the tasks as they become ready.
    pub(crate) fn decide_and_run(&self, project: &str, tasks: &[Value]) -> Decided {
        let decided = self.decide_and_create(project, tasks);
        let done = self.work_all();
        assert_eq!(done, decided.graph["tasks"].as_array().unwrap().len(), "every task becomes ready");
        decided
    }

    /// Runs the tasks as they become ready. Gives how many there were.
    pub(super) fn work_all(&self) -> usize {
        let mut done = 0;
        while let Some(task_id) = self.taskcluster.pending_tasks().into_iter().next() {
            self.work(&task_id);
            done += 1;
        }
        done
    }

    /// What a worker does with a task.
    fn work(&self, task_id: &str) {
        let definition = self.taskcluster.definition(task_id).unwrap();
        if definition["payload"]["env"].is_object() {
            return generic_worker::work(&self.taskcluster, task_id).assert_succeeds();
        }
        let claim = self.taskcluster.claim(task_id);
        // Its image is there before it begins.
        for image in definition["payload"]["images"].as_array().unwrap() {
            let of = image["taskId"].as_str().unwrap();
            assert!(self.taskcluster.artifact_path(of, 0, "public/image.tar").is_some(), "{task_id} waits for {of}");
            let dependencies = definition["dependencies"].as_array().unwrap();
            assert!(dependencies.iter().any(|it| it == of), "a worker mounts images of dependencies only");
        }
        self.taskcluster.resolve(task_id, claim.run_id, RunState::Completed);
    }

    /// Whether a task has built an image: one that has found it has no log of a build.
    pub(super) fn is_built(&self, task_id: &str) -> bool {
        self.taskcluster.artifact_path(task_id, 0, "public/image-build/build.log").is_some()
    }

    /// Loads an image as tasks do that use it. Gives its name in the engine.
    pub(crate) fn load(&self, decided: &Decided, image: &str) -> String {
        let bytes = self.taskcluster.artifact_bytes(&decided.task_ids[image], 0, "public/image.tar").unwrap();
        let mut load = Command::new("docker")
            .envs(engine_place().map(|place| ("DOCKER_HOST", place)))
            .arg("load")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        load.stdin.take().unwrap().write_all(&bytes).unwrap();
        let output = String::from_utf8(load.wait_with_output().unwrap().stdout).unwrap();
        let tag = output.lines().find_map(|line| line.strip_prefix("Loaded image: "));
        tag.unwrap_or_else(|| panic!("{output}")).to_owned()
    }
}

/// The images whose contexts are in a directory.
fn packed(contexts: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(contexts) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.map(|name| name.strip_suffix(".tar.gz").unwrap().to_owned()).collect();
    names.sort();
    names
}

/// A consumer's task of a push as a queue takes it, which lives for so many hours.
fn definition(task: &Value, project: &str, (number, hours): (u32, i64), decision: &str) -> Value {
    let now = Timestamp::now();
    let later = |hours| format!("{:.3}", now + SignedDuration::from_hours(hours));
    let name = task["name"].as_str().unwrap();
    json!({
        "taskId": task_id(&format!("{name} of push {number}")),
        "task": {
            "provisionerId": "gecko-1",
            "workerType": "linux",
            "schedulerId": "gecko-level-1",
            "taskGroupId": decision,
            "dependencies": [],
            "routes": [format!("tc-treeherder.v2.{project}.0123456789abcdef")],
            "priority": "low",
            "retries": 5,
            "created": later(0),
            "deadline": later(24),
            "expires": later(hours),
            "scopes": [],
            "payload": task["payload"],
            "metadata": {
                "name": name,
                "description": "needs images",
                "owner": "owner@example.com",
                "source": "https://example.com/source",
            },
            "tags": {},
            "extra": {},
        },
    })
}
