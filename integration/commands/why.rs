//! `why` against the stand-in: what changed a hash, between builds and the checkout, from the contexts of the tasks.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::{Value, json};
use stand_in::{Options, RunState, StandIn, TaskSpec};

use crate::harness::{Finished, PROJECT, Repository, path, program};

const DOCKERFILE: &str = "# %include python/shared.py\nFROM debian:12\nCOPY run.sh /\nRUN one\nRUN two\n";

/// A repository with the image `builder`, and a deployment.
struct Fixture {
    repository: Repository,
    taskcluster: StandIn,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self {
            repository: Repository::bare("builder", DOCKERFILE),
            taskcluster: StandIn::start(Options::default()),
        };
        fixture.write("testing/docker/builder/run.sh", "#!/bin/sh\n");
        fixture.write("python/shared.py", "print(1)\n");
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.repository.root.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// The task of an image as the decision task makes it, with the context of the checkout, completed and indexed as the newest.
    fn build(&self, more: &Value) -> String {
        let (context, hash) = self.repository.context();
        self.build_of(&context, &hash, more)
    }

    fn build_of(&self, context: &[u8], hash: &str, more: &Value) -> String {
        let decision = self.taskcluster.create_task(TaskSpec::default());
        let name = "public/docker-contexts/builder.tar.gz";
        self.taskcluster.put_artifact(&decision.task_id, 0, name, "application/gzip", None, context);
        let mut env = json!({
            "IMAGE_NAME": "builder", "PROJECT": PROJECT, "HASH": hash,
            "CONTEXT_TASK_ID": decision.task_id, "CONTEXT_PATH": name,
        });
        for (name, value) in more.as_object().unwrap() {
            env[name] = value.clone();
        }
        self.task(&env)
    }

    fn task(&self, env: &Value) -> String {
        let name = env["IMAGE_NAME"].as_str().unwrap();
        let task = TaskSpec::default()
            .property("payload", json!({ "env": env }))
            .property("routes", json!([format!("index.docker.images.v1.{PROJECT}.{name}.latest")]));
        let claim = self.taskcluster.create_task(task);
        self.taskcluster.resolve(&claim.task_id, 0, RunState::Completed);
        claim.task_id
    }

    fn why(&self, arguments: &[&str]) -> Finished {
        self.taskcluster.clear_calls();
        let environment =
            [("TASKCLUSTER_ROOT_URL", self.taskcluster.root_url()), ("IMAGE_WORKER_TRIES", "1".to_owned())];
        let environment: BTreeMap<_, _> = environment.map(|(name, value)| (name.to_owned(), value)).into();
        let mut program = program(std::iter::once("why").chain(arguments.iter().copied()), environment);
        program.command.current_dir(self.repository.root.path());
        program.finish()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let finished = self.why(&[arguments, &["--json"]].concat());
        finished.assert_succeeds();
        serde_json::from_str(&finished.stdout).unwrap()
    }

    fn calls(&self) -> Vec<String> {
        self.taskcluster.calls().into_iter().map(|call| call.name).collect()
    }
}

#[test]
fn an_unchanged_image_says_so_and_fetches_no_context() {
    let fixture = Fixture::new();
    let task = fixture.build(&json!({}));
    let (_, hash) = fixture.repository.context();
    let finished = fixture.why(&["builder"]);
    finished.assert_succeeds();
    let expected = format!(
        "builder: the hash has not changed\n  before  {hash}, task {task}, the newest of {PROJECT}\n  after   {hash}, the checkout\n"
    );
    assert_eq!(finished.stdout, expected);
    assert_eq!(fixture.calls(), ["findTask", "task"]);
    let json = fixture.json(&["testing/docker/builder", "--task-id", &task]);
    assert_eq!((&json["same"], &json["before"]["taskId"]), (&json!(true), &json!(task)));
    assert_eq!(fixture.calls(), ["task"]);
    assert_eq!(fixture.json(&[&task, &task])["same"], json!(true));
}

#[test]
fn files_that_changed_are_listed_with_diffs_of_small_texts() {
    let fixture = Fixture::new();
    fixture.write("testing/docker/builder/old.bin", "\0old");
    fixture.write("testing/docker/builder/gone.txt", "gone\n");
    let task = fixture.build(&json!({}));
    let dockerfile = DOCKERFILE
        .replace("RUN two", "RUN \u{1b}[2Kthree")
        .replace("# %include", "# %include python/new.py\n# %include");
    fixture.write("testing/docker/builder/Dockerfile", &dockerfile);
    fixture.write("testing/docker/builder/old.bin", "\0new");
    fixture.write("python/new.py", "print(2)\n");
    fixture.write("python/shared.py", "print(3)\n");
    std::fs::remove_file(fixture.path("testing/docker/builder/gone.txt")).unwrap();
    let run = fixture.path("testing/docker/builder/run.sh");
    std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o755)).unwrap();
    let finished = fixture.why(&["builder"]);
    finished.assert_succeeds();
    let (head, changes) = finished.stdout.split_once("\nchanged: Dockerfile ").unwrap();
    assert!(head.starts_with("builder: the hash has changed\n  before  "), "{head}");
    let (_, diff) = changes.split_once('\n').unwrap();
    let expected = "    @@ -1,5 +1,6 @@
    +# %include python/new.py
     # %include python/shared.py
     FROM debian:12
     COPY run.sh /
     RUN one
    -RUN two
    +RUN \\u{1b}[2Kthree
removed: gone.txt (5 B, mode 644)
changed: old.bin (4 B, mode 644; was 4 B, mode 644)
mode: run.sh, 755 (was 644)
added: topsrcdir/python/new.py (9 B, mode 644), included from python/new.py
changed: topsrcdir/python/shared.py (9 B, mode 644; was 9 B, mode 644), included from python/shared.py
    @@ -1 +1 @@
    -print(1)
    +print(3)
";
    assert_eq!(diff, expected);
    assert_eq!(fixture.calls(), ["findTask", "task", "getLatestArtifact", "s3 GET"]);

    let json = fixture.json(&["builder", "--task-id", &task]);
    let changes: Vec<_> =
        json["files"].as_array().unwrap().iter().map(|file| file["change"].as_str().unwrap()).collect();
    assert_eq!(changes, ["changed", "removed", "changed", "mode", "added", "changed"]);
    assert_eq!((&json["same"], &json["files"][4]["from"]), (&json!(false), &json!("python/new.py")));
    assert_eq!(json["files"][1]["before"]["size"], json!(5));

    // The same between the builds, by their contexts alone.
    let later = fixture.build(&json!({}));
    std::fs::remove_dir_all(fixture.path("testing")).unwrap();
    let both = fixture.json(&[&task, &format!("{}/tasks/{later}", fixture.taskcluster.root_url())]);
    let names = |json: &Value| -> Vec<String> {
        json["files"].as_array().unwrap().iter().map(|file| format!("{} {}", file["change"], file["name"])).collect()
    };
    assert_eq!(names(&both), names(&json));
    let back = fixture.json(&[&later, &task]);
    assert_eq!(back["files"][1]["change"], json!("added"), "the order of the tasks is that of time");
}

#[test]
fn arguments_the_parent_and_the_architecture_are_in_the_hash_too() {
    let fixture = Fixture::new();
    let parent =
        |hash: &str| fixture.task(&json!({ "IMAGE_NAME": "base", "PROJECT": PROJECT, "HASH": hash.repeat(32) }));
    let (old, new) = (parent("aa"), parent("bb"));
    let build = |index: &str, args: &str, parent: &str, arch: &str| {
        let index = index.repeat(32);
        fixture.build(
            &json!({ "INDEX_HASH": index, "DOCKER_BUILD_ARGS": args, "PARENT_TASK_ID": parent, "TARGET_ARCH": arch }),
        )
    };
    let one = build("11", r#"{"V": "1", "GONE": "x", "API_TOKEN": "hush-hush"}"#, &old, "");
    let args = r#"{"V": "2", "API_TOKEN": "hush-more", "TASKCLUSTER_ROOT_URL": "https://x"}"#;
    let other = build("22", args, &new, "arm64");
    let finished = fixture.why(&[&one, &other]);
    finished.assert_succeeds();
    let expected = format!(
        "argument API_TOKEN: \"[hidden]\" (was \"[hidden]\")
argument GONE: gone (was \"x\")
argument V: \"2\" (was \"1\")
parent base of hash bbbbbbbbbbbb, task {new} (was base of hash aaaaaaaaaaaa, task {old}); `image-worker why {old} {new}` says why
architecture: arm64 (was amd64, by default)
"
    );
    assert!(finished.stdout.ends_with(&expected), "{}", finished.stdout);
    assert!(!fixture.calls().contains(&"getLatestArtifact".to_owned()), "the contexts are the same");

    // A parent whose task is forgotten.
    let unknown = build("33", r#"{"V": "2"}"#, "fN1SbArXTPSVFNUvaOlinQ", "arm64");
    let finished = fixture.why(&[&other, &unknown]);
    finished.assert_succeeds();
    assert!(finished.stdout.contains("note: the hash of the parent of task "), "{}", finished.stdout);
    // taskgraph's tasks do not say their hash in the index.
    let of_taskgraph = |args: &str| fixture.build(&json!({ "DOCKER_BUILD_ARGS": args }));
    let (one, other) = (of_taskgraph(r#"{"V": "2"}"#), of_taskgraph(r#"{"V": "2"}"#));
    let json = fixture.json(&[&one, &other]);
    assert_eq!((&json["same"], &json["before"]["hash"]), (&json!(true), &json!(null)), "{json}");
    assert_eq!(fixture.json(&[&one, &of_taskgraph("{}")])["same"], json!(false));
    // What only the task graph knows.
    let (one, other) = (build("44", "{}", &new, ""), build("55", "{}", &new, ""));
    let json = fixture.json(&[&one, &other]);
    assert_eq!((&json["same"], json["notes"].as_array().unwrap().len()), (&json!(false), 1), "{json}");
    assert!(json["notes"][0].as_str().unwrap().contains("digest-extra"), "{json}");
}

#[test]
fn a_parent_that_changed_in_the_checkout_is_named() {
    let fixture = Fixture::new();
    fixture.write("testing/docker/base/Dockerfile", "FROM debian:12\n");
    fixture.write("testing/docker/builder/Dockerfile", "ARG DOCKER_IMAGE_PARENT=base\nFROM $DOCKER_IMAGE_PARENT\n");
    let hashes = || -> Value {
        let tree = program(["tree", "--root", path(fixture.repository.root.path()), "--json"], []).finish();
        tree.assert_succeeds();
        serde_json::from_str(&tree.stdout).unwrap()
    };
    let hash = |tree: &Value, name: &str, key: &str| {
        let images = tree["images"].as_array().unwrap();
        images.iter().find(|image| image["name"] == name).unwrap()[key].as_str().unwrap().to_owned()
    };
    let tree = hashes();
    let base = fixture.task(&json!({ "IMAGE_NAME": "base", "PROJECT": PROJECT, "HASH": hash(&tree, "base", "hash") }));
    let task = fixture.build(&json!({ "INDEX_HASH": hash(&tree, "builder", "hash"), "PARENT_TASK_ID": base }));
    assert_eq!(fixture.json(&["builder"])["same"], json!(true));
    fixture.write("testing/docker/base/Dockerfile", "FROM debian:13\n");
    let finished = fixture.why(&["builder"]);
    finished.assert_succeeds();
    let way = format!("`image-worker why base --task-id {base}` says why\n");
    assert!(
        finished.stdout.ends_with(&way) && finished.stdout.contains("\nparent base of hash "),
        "{}",
        finished.stdout
    );
    assert!(finished.stdout.contains(&format!("task {task}")), "{}", finished.stdout);
}

#[test]
fn a_context_that_is_gone_names_its_task_and_the_way_out() {
    let fixture = Fixture::new();
    let expired = fixture.taskcluster.create_task(TaskSpec::default().property("expires", "2001-01-01T00:00:00.000Z"));
    let (context, _) = fixture.repository.context();
    let name = "public/docker-contexts/builder.tar.gz";
    fixture.taskcluster.put_artifact(&expired.task_id, 0, name, "application/gzip", None, &context);
    let task = fixture.build(&json!({ "CONTEXT_TASK_ID": expired.task_id }));
    assert_eq!(fixture.json(&["builder"])["same"], json!(true), "nobody needs it");
    fixture.write("testing/docker/builder/run.sh", "#!/bin/bash\n");
    let gone = format!("{name} of task {} expired at 2001-01-01T00:00:00Z", expired.task_id);
    let expired = fixture.why(&["builder"]);
    expired.assert_fails(10, &["the context of task", &task, &gone, "--task-id"]);
}

#[test]
fn a_context_is_verified_before_it_is_compared() {
    let fixture = Fixture::new();
    let (context, hash) = fixture.repository.context();
    let task = fixture.build_of(&context, &"ab".repeat(32), &json!({}));
    fixture.why(&["builder", "--task-id", &task]).assert_fails(10, &[&hash, &"ab".repeat(32)]);
    let task = fixture.build_of(b"no context", &hash, &json!({}));
    fixture.write("testing/docker/builder/run.sh", "#!/bin/bash\n");
    fixture.why(&["builder", "--task-id", &task]).assert_fails(10, &["builder.tar.gz"]);
}

#[test]
fn the_hash_of_a_packed_file_is_compared_by_the_files() {
    let fixture = Fixture::new();
    let (context, _) = fixture.repository.context();
    let packed = image_worker::net::Digest::of(&context).to_string();
    let task = fixture.build_of(&context, &packed, &json!({}));
    let json = fixture.json(&["builder"]);
    assert_eq!((&json["same"], &json["files"]), (&json!(true), &json!([])), "{json}");
    assert_eq!((&json["before"]["scheme"], &json["before"]["taskId"]), (&json!("gz"), &json!(task)));
    assert!(json["notes"][0].as_str().unwrap().contains("cannot be compared"), "{json}");
    fixture.write("testing/docker/builder/run.sh", "#!/bin/bash\n");
    let json = fixture.json(&["builder"]);
    assert_eq!((&json["same"], &json["files"][0]["name"]), (&json!(false), &json!("run.sh")));
}

#[test]
fn what_cannot_be_compared_is_refused_with_a_way_out() {
    let fixture = Fixture::new();
    fixture.why(&["builder"]).assert_fails(10, &["no build of builder for mozilla-central", "--task-id"]);
    fixture.why(&["builder", "--project", "try"]).assert_fails(10, &["for try or mozilla-central"]);
    let task = fixture.build(&json!({}));
    let other = fixture.task(&json!({ "IMAGE_NAME": "base", "PROJECT": PROJECT, "HASH": "ab".repeat(32), "CONTEXT_TASK_ID": task, "CONTEXT_PATH": "public/x.tar.gz" }));
    fixture.why(&[&task, &other]).assert_fails(2, &["builds of two images, builder and base"]);
    fixture.why(&[&task, &other, "--task-id", &task]).assert_fails(2, &["--task-id", "leave it out"]);
    fixture.why(&[&task, "nonsense"]).assert_fails(2, &["\"nonsense\" is not a task id"]);
    fixture.why(&["biulder"]).assert_fails(2, &["biulder", "builder"]);
    let decision = fixture.taskcluster.create_task(TaskSpec::default()).task_id;
    fixture.why(&["builder", "--task-id", &decision]).assert_fails(2, &["no image task"]);
    fixture.why(&["builder", "--task-id", "fN1SbArXTPSVFNUvaOlinQ"]).assert_fails(2, &["knows no task"]);
    fixture.why(&[&task]).assert_fails(2, &[&task, "nothing to compare it with", "a second task"]);
    fixture.why(&[]).assert_fails(2, &["NAME|TASK_ID"]);
}
