//! `load` with the real engine: images of tasks, of the index, and of files, from all tools, whole and damaged; and what the
//! engine has afterwards.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use image_worker::net::Digest;
use serde_json::{Value, json};
use stand_in::{Fault, Options, RunState, StandIn, TaskSpec};
use tempfile::TempDir;

use crate::harness::archive::{Archive, gzip};
use crate::harness::{
    Finished, Job, PROJECT, Repository, assert_engine_is_clean, container_output, docker, docker_output, engine,
    names_of, path, program,
};

const ARTIFACT: &str = "public/image.tar";
const ZSTD: &str = "public/image.tar.zst";

fn load_in(directory: &Path, taskcluster: Option<&StandIn>, arguments: &[&str]) -> Finished {
    let root_url = taskcluster.map(|taskcluster| ("TASKCLUSTER_ROOT_URL".to_owned(), taskcluster.root_url()));
    // Inside of a task its own id is no image to load.
    let environment = [("TASK_ID", "fN1SbArXTPSVFNUvaOlinQ"), ("PROJECT", PROJECT)];
    let environment: BTreeMap<_, _> =
        environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().chain(root_url).collect();
    let mut program = program(std::iter::once("load").chain(arguments.iter().copied()), environment);
    program.command.current_dir(directory);
    program.finish()
}

pub(super) fn load(taskcluster: &StandIn, arguments: &[&str]) -> Finished {
    load_in(&std::env::temp_dir(), Some(taskcluster), arguments)
}

fn load_file(file: &Path, arguments: &[&str]) -> Finished {
    load_in(&std::env::temp_dir(), None, &[&["--file", path(file)], arguments].concat())
}

fn id_of(tag: &str) -> Option<String> {
    let inspected = docker(&["image", "inspect", "--format", "{{.Id}}", tag]);
    inspected.status.success().then(|| String::from_utf8_lossy(&inspected.stdout).trim().to_owned())
}

/// Asserts that an image has this name, and no other, and removes it.
pub(super) fn assert_loaded(id: &str, tag: &str) {
    assert_eq!(names_of(id), [tag]);
    docker_output(&["rmi", tag]);
}

/// Asserts that a load failed and left the engine as it was: the image that has the name has it, the other is not there.
fn assert_refused(finished: &Finished, code: i32, words: &[&str], before: &Archive, tag: &str, other: &Archive) {
    finished.assert_fails(code, words);
    assert_eq!(id_of(tag), Some(before.id_in_engine()), "{}", finished.stderr);
    assert_eq!(id_of(&other.id_in_engine()), None, "{}", finished.stderr);
}

/// A task with an archive as its artifact; no index has it.
pub(super) fn task_with(taskcluster: &StandIn, artifact: &str, archive: &[u8]) -> String {
    let task = taskcluster.create_task(TaskSpec::default()).task_id;
    taskcluster.put_artifact(&task, 0, artifact, "application/octet-stream", None, archive);
    task
}

/// A task with an archive, which the index has under `namespace`, with `data`.
pub(super) fn indexed(taskcluster: &StandIn, namespace: &str, archive: &[u8], data: &Value) -> String {
    let expires = "2100-01-01T00:00:00.000Z";
    let spec = TaskSpec::default()
        .property("routes", json!([format!("index.{namespace}")]))
        .property("extra", json!({ "index": { "rank": 1, "data": data, "expires": expires } }));
    let task = taskcluster.create_task(spec).task_id;
    taskcluster.put_artifact(&task, 0, ARTIFACT, "application/x-tar", None, archive);
    taskcluster.resolve(&task, 0, RunState::Completed);
    task
}

/// What `run` writes into the index.
pub(super) fn data(archive: &[u8], image: &Archive) -> Value {
    json!({
        "artifact": ARTIFACT, "sha256": Digest::of(archive), "size": archive.len(), "imageId": image.id(),
        "contextHash": "ab".repeat(32), "runId": 0,
    })
}

#[test]
fn an_image_of_the_checkout_is_found_by_its_hash() {
    if !engine() {
        return;
    }
    let name = "load-name";
    let repository = Repository::new(name, "CMD [\"/bin/busybox\", \"echo\", \"loaded\"]\n");
    let root = repository.root.path();
    let job = Job::new(&repository);
    let words = [name, &job.hash, "mozilla-central does not have it", "push, and a task makes it"];
    load_in(root, Some(&job.taskcluster), &[name]).assert_fails(10, &words);
    job.run().assert_succeeds();
    let entry = job.taskcluster.index_entry(&job.routes()[2]).unwrap()["data"].clone();

    // Another image has the name.
    let old = Archive::new("load-name-old");
    let file = root.join("old.tar");
    std::fs::write(&file, old.sound("load-name:latest")).unwrap();
    docker_output(&["load", "--input", path(&file)]);
    let old_id = old.id_in_engine();
    let finished = load_in(root, Some(&job.taskcluster), &["--json", "testing/docker/load-name/"]);
    finished.assert_succeeds();
    let answer: Value = serde_json::from_str(&finished.stdout).unwrap();
    let expected = json!({
        "tag": "load-name:latest",
        "imageId": entry["imageId"],
        "sha256": entry["sha256"],
        "size": entry["size"],
        "fetched": entry["size"],
        "from": format!("{ARTIFACT} of task {}", job.claim.task_id),
        "verified": "index",
        "was": old_id,
    });
    assert_eq!(answer, expected);
    assert!(finished.stderr.contains(&format!("it was {old_id}")), "{}", finished.stderr);
    assert_eq!(container_output(&["load-name"]), "loaded");

    // A second time nothing changes.
    let again = load_in(root, Some(&job.taskcluster), &[name]);
    again.assert_succeeds();
    assert_eq!(again.stdout, "load-name:latest\n");
    assert!(!again.stderr.contains("it was"), "{}", again.stderr);
    assert_loaded("load-name:latest", "load-name:latest");
    docker_output(&["rmi", &old_id]);
    assert_engine_is_clean(name);

    // A context that no task has built.
    std::fs::write(repository.directory().join("new"), "").unwrap();
    load_in(root, Some(&job.taskcluster), &[name]).assert_fails(10, &["no task has the image load-name"]);
    load_in(root, Some(&job.taskcluster), &["load-nam"]).assert_fails(2, &["load-nam", name]);
    // No other path that ends like one is the image.
    let elsewhere = format!("elsewhere/{name}");
    load_in(root, Some(&job.taskcluster), &[&elsewhere]).assert_fails(2, &["cannot read", &elsewhere]);
    std::fs::create_dir_all(root.join(&elsewhere)).unwrap();
    load_in(root, Some(&job.taskcluster), &[&elsewhere]).assert_fails(2, &["is the directory of no image"]);
}

#[test]
fn tasks_and_routes_and_files_of_all_tools_are_loaded() {
    if !engine() {
        return;
    }
    let name = "load-kinds";
    let taskcluster = StandIn::start(Options::default());
    let image = Archive::new(name);
    let sound = image.sound("load-kinds:1");
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    let made_up = format!("image-worker-load:{}", &image.id()["sha256:".len()..][..12]);
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("image");
    for (artifact, archive, tag) in [
        (ARTIFACT, sound.clone(), "load-kinds:1"),
        (ZSTD, zstd(&sound), "load-kinds:1"),
        (ARTIFACT, gzip(&image.tar(None)), made_up.as_str()),
        (ZSTD, zstd(&image.tar(Some(&["load-kinds:1", "load-kinds:2"]))), &made_up),
        (ARTIFACT, image.kaniko(), "base:latest"),
    ] {
        let task = task_with(&taskcluster, artifact, &archive);
        let loaded = load(&taskcluster, &["--task-id", &task]);
        loaded.assert_succeeds();
        assert_eq!(loaded.stdout, format!("{tag}\n"), "{}", loaded.stderr);
        assert!(loaded.stderr.contains("there is no sha256 to compare it with"), "{}", loaded.stderr);
        assert_loaded(&image.id_in_engine(), tag);

        std::fs::write(&file, &archive).unwrap();
        let loaded = load_file(&file, &["--tag", "localhost:5000/load-kinds"]);
        loaded.assert_succeeds();
        assert_eq!(loaded.stdout, "localhost:5000/load-kinds:latest\n");
        assert_loaded(&image.id_in_engine(), "localhost:5000/load-kinds:latest");
    }

    let namespace = format!("docker.images.v1.{PROJECT}.{name}.latest");
    let task = indexed(&taskcluster, &namespace, &sound, &data(&sound, &image));
    for route in [format!("index.{namespace}"), namespace] {
        let loaded = load(&taskcluster, &["--index", &route, "--json"]);
        loaded.assert_succeeds();
        let answer: Value = serde_json::from_str(&loaded.stdout).unwrap();
        let from = json!(format!("{ARTIFACT} of task {task}"));
        assert_eq!((&answer["verified"], &answer["from"], &answer["was"]), (&json!("index"), &from, &Value::Null));
        assert_loaded(&image.id_in_engine(), "load-kinds:1");
    }
    // The entry of a task's own route has nothing about the image.
    let namespace = format!("docker.images.v1.{PROJECT}.{name}.of-a-route");
    indexed(&taskcluster, &namespace, &sound, &json!({}));
    let loaded = load(&taskcluster, &["--index", &namespace]);
    loaded.assert_succeeds();
    assert!(loaded.stderr.contains("there is no sha256 to compare it with"), "{}", loaded.stderr);
    assert_loaded(&image.id_in_engine(), "load-kinds:1");
    assert_engine_is_clean(name);
}

#[test]
fn what_is_not_what_was_promised_takes_no_name() {
    if !engine() {
        return;
    }
    let name = "load-refused";
    let tag = "load-refused:1";
    let taskcluster = StandIn::start(Options::default());
    let (before, image) = (Archive::new("load-refused-before"), Archive::new(name));
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("image.tar");
    std::fs::write(&file, before.sound(tag)).unwrap();
    load_file(&file, &[]).assert_succeeds();

    let sound = image.sound(tag);
    let mut wrong_layer = sound.clone();
    let at = sound.windows(9).position(|window| window == b"inherited").unwrap() + 512;
    wrong_layer[at] ^= 1;
    let mut wrong_config = sound.clone();
    wrong_config[512 + 2] ^= 1;
    for (archive, words) in [
        (wrong_layer.as_slice(), "its layer "),
        (&wrong_config, "its configuration "),
        (&sound[..1_000_000], "is truncated at "),
        (b"<html>please log in</html>", "cannot be read to its end"),
    ] {
        std::fs::write(&file, archive).unwrap();
        assert_refused(&load_file(&file, &[]), 10, &[words, path(&file)], &before, tag, &image);
        let task = task_with(&taskcluster, ARTIFACT, archive);
        let finished = load(&taskcluster, &["--task-id", &task]);
        assert_refused(&finished, 10, &[words, ARTIFACT, &task, "rerun that task"], &before, tag, &image);
    }
    // Complete, but another one than the index lists.
    let promised = data(&before.sound(tag), &before);
    let namespace = format!("docker.images.v1.{PROJECT}.{name}.latest");
    let task = indexed(&taskcluster, &namespace, &sound, &promised);
    let digests = [promised["sha256"].as_str().unwrap(), &Digest::of(&sound).to_string(), &task];
    let finished = load(&taskcluster, &["--index", &namespace]);
    assert_refused(&finished, 10, &digests, &before, tag, &image);
    docker_output(&["rmi", tag]);
    assert_engine_is_clean(name);
}

#[test]
fn a_name_that_only_the_archive_has_is_not_taken_from_another_image() {
    if !engine() {
        return;
    }
    let (tag, name) = ("load-replaced:1", "load-replaced");
    let (before, image) = (Archive::new("load-replaced-before"), Archive::new(name));
    let directory = TempDir::new().unwrap();
    let (old, new) = (directory.path().join("old.tar"), directory.path().join("new.tar"));
    std::fs::write(&old, before.sound(tag)).unwrap();
    std::fs::write(&new, image.sound(tag)).unwrap();
    let first = load_file(&old, &[]);
    first.assert_succeeds();
    assert!(first.stderr.contains("the image gets load-replaced:1"), "{}", first.stderr);
    load_file(&old, &[]).assert_succeeds();
    let before_id = before.id_in_engine();
    let words = [tag, &before_id, "--replace", "--tag"];
    assert_refused(&load_file(&new, &[]), 2, &words, &before, tag, &image);
    let replaced = load_file(&new, &["--replace"]);
    replaced.assert_succeeds();
    assert!(replaced.stderr.contains(&format!("it was {before_id}")), "{}", replaced.stderr);
    assert_loaded(&image.id_in_engine(), tag);
    docker_output(&["rmi", &before_id]);
    assert_engine_is_clean(name);
}

#[test]
fn the_image_of_the_run_that_a_url_names() {
    if !engine() {
        return;
    }
    let taskcluster = StandIn::start(Options::default());
    let (old, new) = (Archive::new("load-run-old"), Archive::new("load-run-new"));
    let task = task_with(&taskcluster, ARTIFACT, &old.sound("load-run-old:1"));
    taskcluster.resolve(&task, 0, RunState::Completed);
    taskcluster.rerun(&task);
    let bytes = new.sound("load-run-new:1");
    taskcluster.put_artifact(&task, 1, ARTIFACT, "application/octet-stream", None, &bytes);
    let page = |run: u32| format!("{}/tasks/{task}/runs/{run}/logs/public/logs/live.log", taskcluster.root_url());
    let of_new = [page(1), task.clone()].map(|named| (named, &new, "load-run-new:1"));
    for (named, image, tag) in of_new.into_iter().chain([(page(0), &old, "load-run-old:1")]) {
        load(&taskcluster, &["--task-id", &named]).assert_succeeds();
        assert_loaded(&image.id_in_engine(), tag);
    }
    assert_engine_is_clean("load-run-old");
    assert_engine_is_clean("load-run-new");
}

#[test]
fn what_is_not_there_is_reported() {
    if !engine() {
        return;
    }
    let taskcluster = StandIn::start(Options::default());
    let task = taskcluster.create_task(TaskSpec::default()).task_id;
    let gone = ["the image is gone or was never made", &task, ARTIFACT, ZSTD, "name another"];
    load(&taskcluster, &["--task-id", &task]).assert_fails(10, &gone);
    let url = format!("{}/tasks/{task}/runs/0", taskcluster.root_url());
    load(&taskcluster, &["--task-id", &url]).assert_fails(10, &gone);
    let route = "index.docker.images.v1.try.builder.latest";
    load(&taskcluster, &["--index", route]).assert_fails(10, &["the index has nothing at", route]);
    let directory = TempDir::new().unwrap();
    load_file(&directory.path().join("image.tar"), &[]).assert_fails(2, &["cannot read", "image.tar"]);
    load(&taskcluster, &["--task-id", &task, "--tag", "No:1"]).assert_fails(2, &["--tag", "No:1"]);
    load(&taskcluster, &[]).assert_fails(2, &["no image is named", "--task"]);
    load(&taskcluster, &["builder", "--file", "image.tar"]).assert_fails(2, &["wrong usage"]);
    taskcluster.fault(Fault::status("findTask", 500).times(u32::MAX));
    let environment = [("IMAGE_WORKER_TRIES", "1".to_owned()), ("TASKCLUSTER_ROOT_URL", taskcluster.root_url())];
    let environment = environment.map(|(name, value)| (name.to_owned(), value));
    program(["load", "--index", route], environment).finish().assert_fails(30, &["index.findTask"]);
}

#[test]
fn a_download_that_breaks_goes_on() {
    if !engine() {
        return;
    }
    let name = "load-cut";
    let taskcluster = StandIn::start(Options::default());
    let image = Archive::new(name);
    let task = task_with(&taskcluster, ARTIFACT, &image.sound("load-cut:1"));
    taskcluster.fault(Fault::cut_body("s3 GET", 300_000).path("image.tar"));
    let finished = load(&taskcluster, &["--task-id", &task]);
    finished.assert_succeeds();
    assert!(finished.stderr.contains("going on from there"), "{}", finished.stderr);
    assert_loaded(&image.id_in_engine(), "load-cut:1");
    assert_engine_is_clean(name);
}

#[test]
fn a_load_that_is_stopped_leaves_nothing() {
    if !engine() {
        return;
    }
    let name = "load-stopped";
    let taskcluster = StandIn::start(Options::default());
    let image = Archive::new(name);
    let task = task_with(&taskcluster, ARTIFACT, &image.sound("load-stopped:1"));
    taskcluster.fault(Fault::stall("s3 GET").path("image.tar"));
    let requested =
        |_: &str| taskcluster.calls().iter().any(|call| call.path.contains("image.tar") && call.fault.is_some());
    let stop = |id: u32| assert!(Command::new("kill").args(["-TERM", &id.to_string()]).status().unwrap().success());
    let environment = [("TASKCLUSTER_ROOT_URL".to_owned(), taskcluster.root_url())];
    let finished = program(["load", "--task-id", &task], environment).finish_when(requested, stop);
    finished.assert_fails(143, &["SIGTERM while loading the image"]);
    assert_eq!(id_of(&image.id_in_engine()), None, "{}", finished.stderr);
    assert_engine_is_clean(name);
}
