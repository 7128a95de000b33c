//! `lookup` against the stand-in: which entries of the index count, in which order, and which calls it makes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use image_worker::context::HashScheme;
use image_worker::context::collect::Context;
use image_worker::net::Digest;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use stand_in::{Fault, Options, RunState, StandIn, TaskSpec};
use tempfile::TempDir;

use super::decide::fixture::GIVEN;
use crate::harness::{Finished, PROJECT as CENTRAL, PUSHDATE, path, program};

const ARTIFACT: &str = "public/image.tar";
const IMAGE: &[u8] = b"an image, as far as a lookup can tell";
const FUTURE: &str = "2100-01-01T00:00:00.000Z";
const PAST: &str = "2001-01-01T00:00:00.000Z";

/// A repository, and a deployment that may have its images.
struct Fixture {
    root: TempDir,
    taskcluster: StandIn,
    hashes: BTreeMap<String, String>,
}

impl Fixture {
    fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self::on(StandIn::start(Options::default()), names)
    }

    /// A repository with these images, each from an own Dockerfile.
    fn on<'a>(taskcluster: StandIn, names: impl IntoIterator<Item = &'a str>) -> Self {
        let root = TempDir::with_prefix("repository-").unwrap();
        std::fs::create_dir(root.path().join(".hg")).unwrap();
        let mut hashes = BTreeMap::new();
        for name in names {
            let directory = root.path().join("testing/docker").join(name);
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join("Dockerfile"), format!("FROM scratch\nENV NAME={name}\n")).unwrap();
            let context = Context::collect(&root.path().into(), &directory, &BTreeMap::new(), HashScheme::Tar).unwrap();
            hashes.insert(name.to_owned(), context.hash().unwrap().to_string());
        }
        Self { root, taskcluster, hashes }
    }

    fn namespace(&self, project: &str, name: &str) -> String {
        format!("docker.images.v1.{project}.{name}.hash.{}", self.hashes[name])
    }

    /// What `run` would have written into the index entry of an image.
    fn data(&self, name: &str) -> Value {
        json!({
            "artifact": ARTIFACT,
            "sha256": Digest::of(IMAGE),
            "size": IMAGE.len(),
            "imageId": "sha256:0",
            "contextHash": self.hashes[name],
            "runId": 0,
        })
    }

    /// A task that has an image and is in the index, as `run` leaves it behind.
    fn publish(&self, project: &str, name: &str) -> String {
        self.publish_with(project, name, TaskSpec::default(), &self.data(name), FUTURE)
    }

    /// The same, where something else is in the entry, or in the task.
    fn publish_with(&self, project: &str, name: &str, task: TaskSpec, data: &Value, expires: &str) -> String {
        let task = self.index(project, name, task, data, expires);
        self.taskcluster.put_artifact(&task, 0, ARTIFACT, "application/x-tar", None, IMAGE);
        task
    }

    /// A completed task that is in the index, and has no artifact.
    fn index(&self, project: &str, name: &str, task: TaskSpec, data: &Value, expires: &str) -> String {
        let task = task
            .property("routes", json!([format!("index.{}", self.namespace(project, name))]))
            .property("extra", json!({ "index": { "rank": 1, "data": data, "expires": expires } }));
        let claim = self.taskcluster.create_task(task);
        self.taskcluster.resolve(&claim.task_id, 0, RunState::Completed);
        claim.task_id
    }

    /// Runs the subcommand in this repository, with these arguments and variables.
    fn lookup_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Finished {
        self.taskcluster.clear_calls();
        let root_url = self.taskcluster.root_url();
        // Tests that need several attempts set this variable.
        let given = [("TASKCLUSTER_ROOT_URL", root_url.as_str()), ("IMAGE_WORKER_TRIES", "1")];
        let environment: BTreeMap<_, _> = given.iter().chain(environment).copied().collect();
        let environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut program = program(std::iter::once("lookup").chain(arguments.iter().copied()), environment);
        program.command.current_dir(self.root.path());
        program.finish()
    }

    /// The answer about these images, for the project `try`.
    fn lookup(&self, names: &[&str]) -> String {
        let finished = self.lookup_with(names, &[("PROJECT", "try")]);
        finished.assert_succeeds();
        finished.stdout
    }

    /// How often each call was made.
    fn calls(&self) -> BTreeMap<String, usize> {
        let mut calls = BTreeMap::new();
        for call in self.taskcluster.calls() {
            *calls.entry(call.name).or_default() += 1;
        }
        calls
    }
}

fn calls<const N: usize>(calls: [(&str, usize); N]) -> BTreeMap<String, usize> {
    calls.map(|(name, times)| (name.to_owned(), times)).into()
}

/// The answer about images that are all there.
fn lines(names: &[&str], tasks: &[String]) -> String {
    let lines: Vec<_> = names.iter().zip(tasks).map(|(name, task)| format!("{name} {task}\n")).collect();
    lines.concat()
}

#[test]
fn the_central_project_wins_and_the_own_one_fills_the_gaps() {
    let fixture = Fixture::new(["both", "central", "nowhere", "own"]);
    let (both, central) = (fixture.publish(CENTRAL, "both"), fixture.publish(CENTRAL, "central"));
    fixture.publish("try", "both");
    let own = fixture.publish("try", "own");
    let expected = format!("own {own}\nboth {both}\nnowhere -\ncentral {central}\n");
    assert_eq!(fixture.lookup(&["own", "testing/docker/both/", "nowhere", "central"]), expected);
    let each = 3;
    let made =
        [("findTasksAtIndex", 1), ("status", each), ("artifactInfo", each), ("getArtifact", each), ("s3 GET", each)];
    assert_eq!(fixture.calls(), calls(made));

    let alone = fixture.lookup_with(&["own", "both", "-v"], &[]);
    alone.assert_succeeds();
    assert_eq!(alone.stdout, format!("own -\nboth {both}\n"));
    assert!(alone.stderr.contains("PROJECT is not set: looking in mozilla-central only"), "{}", alone.stderr);
    let elsewhere = fixture.lookup_with(&["own", "both", "--central", "try", "--project", "try"], &[]);
    assert!(elsewhere.stdout.starts_with(&format!("own {own}\nboth ")), "{}", elsewhere.stdout);
}

#[test]
fn json_has_all_that_is_known() {
    let fixture = Fixture::new(["there", "missing"]);
    let task = fixture.publish("try", "there");
    let expires = fixture.taskcluster.index_entry(&fixture.namespace("try", "there")).unwrap();
    assert_eq!(expires["expires"], json!(FUTURE), "the entry's own");
    let finished = fixture.lookup_with(&["there", "missing", "--project", "try", "--json"], &[]);
    finished.assert_succeeds();
    let mut answer: Value = serde_json::from_str(&finished.stdout).unwrap();
    let artifact_expires = answer[0]["expires"].take();
    assert_eq!(answer[0]["indexExpires"], json!(FUTURE));
    assert_ne!(artifact_expires, json!(FUTURE), "an image lives as long as its artifact");
    assert!(artifact_expires.as_str().unwrap().ends_with('Z'));
    let expected = json!([
        {
            "name": "there",
            "hash": fixture.hashes["there"],
            "contextHash": fixture.hashes["there"],
            "route": format!("index.{}", fixture.namespace("try", "there")),
            "taskId": task,
            "runId": 0,
            "project": "try",
            "artifact": ARTIFACT,
            "expires": null,
            "indexExpires": FUTURE,
        },
        {
            "name": "missing",
            "hash": fixture.hashes["missing"],
            "contextHash": fixture.hashes["missing"],
            "route": null,
            "taskId": null,
            "runId": null,
            "project": null,
            "artifact": null,
            "expires": null,
            "indexExpires": null,
        },
    ]);
    assert_eq!(answer, expected);
}

#[test]
fn decide_has_the_route_of_lookup() {
    let fixture = Fixture::new(["there"]);
    let task = fixture.publish("try", "there");
    let graph = json!({ "build": { "task": { "image": "{{#task_id_for_image}}there{{/task_id_for_image}}" } } });
    std::fs::write(fixture.root.path().join("graph.json"), graph.to_string()).unwrap();
    let environment = [
        ("TASKCLUSTER_ROOT_URL", fixture.taskcluster.root_url()),
        ("TASK_ID", task.clone()),
        ("PROJECT", "try".to_owned()),
        ("PUSHDATE", PUSHDATE.to_owned()),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value));
    let mut decide = program(["decide", "graph.json", "--json"].into_iter().chain(GIVEN), environment);
    decide.command.current_dir(fixture.root.path());
    let decided = decide.finish();
    decided.assert_succeeds();
    let answer: Value = serde_json::from_str(&decided.stdout).unwrap();
    let image = json!({
        "name": "there",
        "hash": fixture.hashes["there"],
        "contextHash": fixture.hashes["there"],
        "task": task,
        "route": format!("index.{}", fixture.namespace("try", "there")),
        "renewedBy": null,
        "context": null,
    });
    assert_eq!(answer["images"], json!([image]));
    assert_eq!(answer["graph"]["build"]["task"]["image"], json!(task));
}

/// In each case the central project's entry does not count, and the own project's does.
#[test]
fn an_entry_counts_only_if_its_artifact_is_there_whole_and_unexpired() {
    let names = ["forgotten", "never-uploaded", "short", "expired", "another", "renamed", "lost", "failed", "canceled"];
    let fixture = Fixture::new(names);
    let own: Vec<_> = names.iter().map(|name| fixture.publish("try", name)).collect();
    let with = |name: &str, key: &str, value: Value| {
        let mut data = fixture.data(name);
        data[key] = value;
        fixture.publish_with(CENTRAL, name, TaskSpec::default(), &data, FUTURE);
    };
    let data = |name| fixture.data(name);
    // The index still has it, in the answer about many.
    fixture.publish_with(CENTRAL, "forgotten", TaskSpec::default(), &data("forgotten"), PAST);
    fixture.index(CENTRAL, "never-uploaded", TaskSpec::default(), &data("never-uploaded"), FUTURE);
    with("short", "size", json!(IMAGE.len() + 1));
    let old = TaskSpec::default().property("expires", PAST);
    fixture.publish_with(CENTRAL, "expired", old, &data("expired"), FUTURE);
    with("another", "contextHash", json!(fixture.hashes["short"]));
    with("renamed", "artifact", json!("public/image.tar.zst"));
    let lost = fixture.publish(CENTRAL, "lost");
    // The queue never learns that nothing was uploaded.
    fixture.taskcluster.fault(Fault::status("s3 GET", 404).path(&lost).times(u32::MAX));
    // Both have been green, and were rerun: those who depend on them wait for the task, whatever its first run has made.
    for (name, reason) in [("failed", None), ("canceled", Some("canceled"))] {
        let task = fixture.publish(CENTRAL, name);
        let run = fixture.taskcluster.rerun(&task).run_id;
        match reason {
            Some(reason) => fixture.taskcluster.resolve_exception(&task, run, reason),
            None => fixture.taskcluster.resolve(&task, run, RunState::Failed),
        }
    }
    let expected = lines(&names, &own);
    assert_eq!(fixture.lookup(&names), expected);

    let nowhere = fixture.lookup_with(&names, &[]);
    nowhere.assert_succeeds();
    assert_eq!(nowhere.stdout, names.map(|name| format!("{name} -\n")).concat());
    let why = ["which has no public/image.tar", "not there whole", "is gone from 2001-01-01", "not this one"];
    for words in why.into_iter().chain(["which is failed", "which is exception, canceled"]) {
        assert!(nowhere.stderr.contains(words), "{words:?} is not in:\n{}", nowhere.stderr);
    }
    assert!(nowhere.stderr.contains("0 of 9 images are there"), "{}", nowhere.stderr);
}

/// Stores and caches that compress by themselves send no length.
#[test]
fn an_artifact_that_is_served_compressed_and_in_chunks_is_there() {
    let fixture = Fixture::new(["a"]);
    let task = fixture.publish(CENTRAL, "a");
    fixture.taskcluster.fault(Fault::gzipped("s3 GET").times(u32::MAX));
    assert_eq!(fixture.lookup(&["a"]), format!("a {task}\n"));
}

#[test]
fn what_other_programs_indexed_counts_by_its_latest_run() {
    let fixture = Fixture::new(["by-route", "rerun", "gone"]);
    let silent = |name: &str| fixture.index(CENTRAL, name, TaskSpec::default(), &json!({}), FUTURE);
    let (by_route, rerun) = (silent("by-route"), silent("rerun"));
    silent("gone");
    let zstd = "public/image.tar.zst";
    for (task, run) in [(&by_route, 0), (&rerun, 0)] {
        fixture.taskcluster.put_artifact(task, run, zstd, "application/zstd", None, IMAGE);
    }
    fixture.taskcluster.rerun(&rerun);
    let arguments = ["by-route", "rerun", "gone", "--artifact-name", zstd, "--json"];
    let finished = fixture.lookup_with(&arguments, &[]);
    finished.assert_succeeds();
    let answer: Value = serde_json::from_str(&finished.stdout).unwrap();
    let tasks: Vec<_> = answer.as_array().unwrap().iter().map(|image| &image["taskId"]).collect();
    assert_eq!(tasks, [&json!(by_route), &json!(null), &json!(null)], "readers take the latest run's artifact");
    let made = [("findTasksAtIndex", 1), ("status", 3), ("artifactInfo", 3), ("getArtifact", 1), ("s3 GET", 1)];
    assert_eq!(fixture.calls(), calls(made));

    fixture.taskcluster.put_artifact(&rerun, 1, zstd, "application/zstd", None, IMAGE);
    let answer: Value = serde_json::from_str(&fixture.lookup_with(&arguments, &[]).stdout).unwrap();
    assert_eq!((&answer[1]["taskId"], &answer[1]["runId"]), (&json!(rerun), &json!(1)));
    assert_eq!(fixture.lookup(&["by-route"]), "by-route -\n", "it has another artifact than public/image.tar");
}

/// Its own files stay the same when its parent changes: the route has another hash than that of the context.
#[test]
fn a_child_is_found_under_a_hash_that_its_parent_is_in() {
    let mut fixture = Fixture::new(["base", "child"]);
    let images = fixture.root.path().join("testing/docker");
    std::fs::write(images.join("child/Dockerfile"), "ARG DOCKER_IMAGE_PARENT=base\nFROM $DOCKER_IMAGE_PARENT\n")
        .unwrap();
    let known = |fixture: &Fixture| -> Value {
        serde_json::from_str(&fixture.lookup_with(&["child", "base", "--json"], &[]).stdout).unwrap()
    };
    let before = known(&fixture);
    let (hash, context) = (&before[0]["hash"], &before[0]["contextHash"]);
    assert_ne!(hash, context);
    assert_eq!(
        before[1]["hash"], before[1]["contextHash"],
        "the context of an image without a parent is all that counts"
    );
    let mut data = fixture.data("child");
    data["contextHash"] = context.clone();
    fixture.hashes.insert("child".to_owned(), hash.as_str().unwrap().to_owned());
    let child = fixture.publish_with(CENTRAL, "child", TaskSpec::default(), &data, FUTURE);
    assert_eq!(known(&fixture)[0]["taskId"], json!(child));

    std::fs::write(images.join("base/Dockerfile"), "FROM scratch\nENV NAME=other\n").unwrap();
    let after = known(&fixture);
    assert_eq!((&after[0]["contextHash"], &after[0]["taskId"]), (context, &json!(null)));
}

#[test]
fn the_images_of_a_kind_are_known_by_its_file() {
    let fixture = Fixture::new([]);
    let directory = fixture.root.path().join("taskcluster/docker/shared");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("Dockerfile"), "# %ARG BASE\nFROM $BASE\n").unwrap();
    let kind = fixture.root.path().join("kind.yml");
    let tasks = "tasks:\n  one:\n    definition: shared\n    args: {BASE: 'debian:12'}\n\
                 \x20 two:\n    definition: shared\n    args: {BASE: 'debian:13'}\n";
    std::fs::write(&kind, tasks).unwrap();
    let finished = fixture.lookup_with(&["two", "one", "--kind", path(&kind)], &[]);
    finished.assert_succeeds();
    assert_eq!(finished.stdout, "two -\none -\n");
    let namespaces = fixture.taskcluster.calls()[0].request["indexes"].as_array().unwrap().len();
    assert_eq!(namespaces, 2, "one directory with two arguments is two images");
    fixture
        .lookup_with(&["shared", "--kind", path(&kind)], &[])
        .assert_fails(2, &["taskcluster/docker/shared is the definition of one, two; name"]);
}

#[test]
fn an_index_without_the_call_for_many_gets_one_call_for_each() {
    let fixture = Fixture::new(["both", "missing", "own"]);
    let (both, own) = (fixture.publish(CENTRAL, "both"), fixture.publish("try", "own"));
    fixture.taskcluster.fault(Fault::status("findTasksAtIndex", 404).body("{\"error\":\"Not found\"}").times(u32::MAX));
    assert_eq!(fixture.lookup(&["both", "missing", "own"]), format!("both {both}\nmissing -\nown {own}\n"));
    assert_eq!((fixture.calls()["findTasksAtIndex"], fixture.calls()["findTask"]), (1, 6));
    fixture.taskcluster.fault(Fault::status("findTask", 503));
    fixture.lookup_with(&["own"], &[]).assert_fails(30, &["index.findTask", "503"]);
    // Nothing there is an index.
    fixture.taskcluster.fault(Fault::status("findTask", 404).times(u32::MAX));
    fixture.lookup_with(&["own"], &[]).assert_fails(30, &["index.findTask", "is TASKCLUSTER_ROOT_URL right?"]);
}

#[test]
fn an_unavailable_service_is_not_a_missing_image() {
    let fixture = Fixture::new(["a", "b"]);
    fixture.publish(CENTRAL, "a");
    fixture.index(CENTRAL, "b", TaskSpec::default(), &json!({}), FUTURE);
    let calls = ["findTasksAtIndex", "status", "artifactInfo", "getArtifact", "s3 GET"];
    for call in calls {
        for fault in [Fault::status(call, 500), Fault::drop(call), Fault::status(call, 429)] {
            fixture.taskcluster.fault(fault.clone());
            let finished = fixture.lookup_with(&["a", "b"], &[]);
            assert_eq!(finished.code, 30, "{fault:?}: {}", finished.stderr);
            finished.assert_fails(30, &[]);
            assert_eq!(finished.stdout, "");
        }
        fixture.taskcluster.fault(Fault::status(call, 503));
        let again = fixture.lookup_with(&["a", "b"], &[("IMAGE_WORKER_TRIES", "2")]);
        again.assert_succeeds();
        assert!(again.stdout.starts_with("a ") && !again.stdout.contains("a -"), "{call}: {}", again.stdout);
    }
    fixture.taskcluster.fault(Fault::status("s3 GET", 500));
    let storage = fixture.lookup_with(&["a"], &[]);
    storage.assert_fails(30, &["public/image.tar of task", "the storage is in trouble"]);
}

#[test]
fn a_closed_deployment_gets_signed_calls() {
    let closed = Options { anonymous_scopes: Vec::new(), ..Options::default() };
    let fixture = Fixture::on(StandIn::start(closed), ["a"]);
    let task = fixture.publish(CENTRAL, "a");
    fixture.lookup_with(&["a"], &[]).assert_fails(31, &["index:find-task:docker.images.v1.mozilla-central.a.hash."]);
    let scopes = [
        "index:find-task:docker.images.v1.*",
        "queue:status:*",
        "queue:list-artifacts:*",
        "queue:get-artifact:public/*",
    ];
    let credentials = fixture.taskcluster.permanent_credentials(scopes);
    let environment = [
        ("TASKCLUSTER_CLIENT_ID", credentials.client_id.as_str()),
        ("TASKCLUSTER_ACCESS_TOKEN", credentials.access_token.as_str()),
    ];
    let finished = fixture.lookup_with(&["a"], &environment);
    finished.assert_succeeds();
    assert_eq!(finished.stdout, format!("a {task}\n"));
}

/// A time from now, as the queue takes it.
fn in_days(days: i64) -> String {
    format!("{:.3}", Timestamp::now() + SignedDuration::from_hours(24 * days))
}

#[test]
fn what_expires_soon_is_listed_and_is_an_exit_code_for_cron() {
    let fixture = Fixture::new(["artifact", "entry", "lasting", "missing", "registry", "two"]);
    let publish = |project: &str, name: &str, artifact: i64, entry: i64| {
        let task = TaskSpec::default().property("expires", in_days(artifact));
        fixture.publish_with(project, name, task, &fixture.data(name), &in_days(entry))
    };
    let artifact = publish(CENTRAL, "artifact", 3, 400);
    let entry = publish(CENTRAL, "entry", 400, 5);
    publish(CENTRAL, "lasting", 400, 400);
    let two = publish(CENTRAL, "two", 3, 3);
    publish("try", "two", 400, 400);
    // Perhaps only a registry has it.
    std::fs::write(fixture.root.path().join("testing/docker/registry/VERSION"), "1.0\n").unwrap();

    let of_try = [("PROJECT", "try")];
    let listed = fixture.lookup_with(&["--expires-within", "14d"], &of_try);
    assert_eq!(listed.code, 10, "{}", listed.stderr);
    let lines: Vec<_> = listed.stdout.lines().map(|line| line.split(' ').collect::<Vec<_>>()).collect();
    let named: Vec<_> = lines.iter().map(|line| (line[0], line[1])).collect();
    assert_eq!(named, [("artifact", artifact.as_str()), ("entry", &entry), ("missing", "-")], "{}", listed.stdout);
    assert!(lines[1][2] < in_days(6).as_str() && lines[1][2] > in_days(4).as_str(), "{}", listed.stdout);
    let words = ["2 images of the index are gone within 14 days, artifact first, at ", "1 image is not in the index"];
    assert!(words.iter().all(|words| listed.error_line().contains(words)), "{}", listed.error_line());

    // In the central project alone, and by their names.
    let central = fixture.lookup_with(&["two", "lasting", "registry", "--expires-within", "2 months", "--json"], &[]);
    assert_eq!(central.code, 10, "{}", central.stderr);
    let answer: Value = serde_json::from_str(&central.stdout).unwrap();
    let found: Vec<_> = answer.as_array().unwrap().iter().map(|it| (&it["name"], &it["taskId"])).collect();
    assert_eq!(found, [(&json!("two"), &json!(two)), (&json!("registry"), &json!(null))]);

    let nothing =
        fixture.lookup_with(&["two", "lasting", "artifact"], &[("IMAGE_WORKER_EXPIRES_WITHIN", "2d"), of_try[0]]);
    nothing.assert_succeeds();
    assert_eq!(nothing.stdout, "");
    assert!(nothing.stderr.contains("3 images looked up: each lasts longer than 2 days"), "{}", nothing.stderr);
    // Who cannot ask knows nothing.
    fixture.taskcluster.fault(Fault::status("findTasksAtIndex", 503));
    fixture.lookup_with(&["--expires-within", "2d"], &[]).assert_fails(30, &["503"]);
}

#[test]
fn two_hundred_images_are_looked_at_side_by_side() {
    let names: Vec<_> = (0..200).map(|number| format!("image-{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let fixture = Fixture::new(names.iter().copied());
    let tasks: Vec<_> = names.iter().map(|name| fixture.publish(CENTRAL, name)).collect();
    // Long enough that calls that are made side by side are under way at the same time.
    fixture.taskcluster.set_delay(Duration::from_millis(50));
    let expected = lines(&names, &tasks);
    assert_eq!(fixture.lookup(&names), expected);
    let each = names.len();
    let made =
        [("findTasksAtIndex", 1), ("status", each), ("artifactInfo", each), ("getArtifact", each), ("s3 GET", each)];
    assert_eq!(fixture.calls(), calls(made), "one call for all, and four for each that is there");
    let most = fixture.taskcluster.most_at_once();
    assert!((9..=32).contains(&most), "{most} calls were under way at once");
}

#[test]
fn what_cannot_be_looked_up_is_refused_before_any_call() {
    let fixture = Fixture::new(["builder"]);
    let none: &[(&str, &str)] = &[];
    fixture.lookup_with(&[], none).assert_fails(2, &["no image is named", "<NAME|PATH>", "--expires-within"]);
    fixture.lookup_with(&["--expires-within", "14"], none).assert_fails(2, &["--expires-within: \"14\"", "like 14d"]);
    fixture.lookup_with(&["Builder"], none).assert_fails(2, &["\"Builder\" is not an image name"]);
    fixture.lookup_with(&["biulder"], none).assert_fails(2, &["biulder", "builder"]);
    let nowhere = [("TASKCLUSTER_ROOT_URL", "")];
    fixture.lookup_with(&["builder"], &nowhere).assert_fails(2, &["TASKCLUSTER_ROOT_URL is not set"]);
    let long = "x".repeat(230);
    fixture.lookup_with(&["builder", "--project", &long], none).assert_fails(2, &["index namespace", "255"]);
    fixture.lookup_with(&["builder", "--scheme", "md5"], none).assert_fails(2, &["--scheme: \"md5\""]);
    assert!(fixture.taskcluster.calls().is_empty());
    let outside = program(
        ["lookup", "--root", path(Path::new("/nonexistent")), "builder"],
        [("TASKCLUSTER_ROOT_URL".to_owned(), fixture.taskcluster.root_url())],
    );
    outside.finish().assert_fails(2, &["/nonexistent"]);
}
