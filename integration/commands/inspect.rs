//! `inspect` of a real image: of its archive, of the same image in the engine, and of images of tasks, whole and damaged.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use stand_in::{Fault, Options, StandIn};

use super::load::{data, indexed, task_with};
use crate::harness::archive::{Archive, gzip};
use crate::harness::{Finished, Job, PROJECT, Repository, docker_output, engine, path, program};

fn inventory(arguments: &[&str]) -> Value {
    let finished = program(["inspect", "--json"].into_iter().chain(arguments.iter().copied()), []).finish();
    finished.assert_succeeds();
    serde_json::from_str(&finished.stdout).unwrap()
}

#[test]
fn an_archive_and_an_image_of_the_engine_show_the_same_waste() {
    if !engine() {
        return;
    }
    let steps = "RUN head -c 100000 /dev/zero > /big; mkdir /d; head -c 50000 /dev/zero > /d/x\nRUN echo small > /big\nRUN rm -r /d\n";
    let job = Job::new(&Repository::new("inspect", &format!("{steps}ENV TOKEN=hush\nUSER 7\n")));
    job.run().assert_succeeds();
    let archive = job.taskcluster.artifact_path(&job.claim.task_id, 0, "public/image.tar").expect("the image");
    let of_archive = inventory(&[path(&archive)]);

    let layers = of_archive["layers"].as_array().unwrap();
    let last = layers.len();
    let step = |number: usize| layers[last - number]["step"].as_str().unwrap().to_owned();
    assert!(step(3).starts_with("RUN head -c 100000"), "{}", step(3));
    assert_eq!((step(2), step(1)), ("RUN echo small > /big".to_owned(), "RUN rm -r /d".to_owned()));
    assert_eq!(layers[last - 3]["visible"], 0, "nothing of that step is left");
    let wasted = json!([
        { "path": "big", "bytes": 100_000, "by": "overwritten", "layer": last - 1 },
        { "path": "d", "bytes": 50_000, "by": "deleted", "layer": last },
    ]);
    assert_eq!((&of_archive["wasted"]["bytes"], &of_archive["wasted"]["paths"]), (&json!(150_000), &wasted));
    let configuration = &of_archive["configuration"];
    assert_eq!(configuration["user"], "7");
    assert!(configuration["variables"].as_array().unwrap().contains(&json!("TOKEN")), "{configuration}");
    assert!(!of_archive.to_string().contains("hush"), "values can be secrets");

    let loaded = docker_output(&["load", "--input", path(&archive)]);
    let tag = loaded.trim_start_matches("Loaded image: ");
    let of_engine = inventory(&["--local", tag]);
    docker_output(&["rmi", "--force", tag]);
    assert_eq!(of_engine["names"], json!([tag]));
    for part in ["layers", "wasted", "largestFiles", "largestDirectories", "files", "packages"] {
        assert_eq!(of_engine[part], of_archive[part], "{part}");
    }

    let shown = program(["inspect", path(&archive)], []).finish();
    shown.assert_succeeds();
    assert!(shown.stdout.contains("Wasted: 146.48 KiB; "), "{}", shown.stdout);
    assert!(shown.stdout.contains("\n   97.66 KiB  big, overwritten in layer "), "{}", shown.stdout);
    job.assert_engine_is_clean();
}

#[test]
fn what_cannot_be_inspected_is_named() {
    program(["inspect", "/dev/null"], []).finish().assert_fails(10, &["/dev/null", "image-worker check"]);
    let ways_out = ["/nowhere is no file here", "name a file that is there", "--task-id, --index or --local"];
    program(["inspect", "/nowhere"], []).finish().assert_fails(2, &ways_out);
    let sources = "<FILE|NAME|PATH|--task-id <ID|URL>|--index <ROUTE>|--local <IMAGE>>";
    program(["inspect"], []).finish().assert_fails(2, &[sources]);
    program(["inspect", "/dev/null", "--local", "x"], []).finish().assert_fails(2, &["wrong usage"]);
    if engine() {
        let unknown = program(["inspect", "--local", "image-worker-test/nothing:1"], []).finish();
        unknown.assert_fails(10, &["the engine has no image image-worker-test/nothing:1"]);
    }
}

fn inspect_in(folder: &Path, taskcluster: &StandIn, arguments: &[&str]) -> Finished {
    let environment = [("TASKCLUSTER_ROOT_URL", taskcluster.root_url()), ("PROJECT", PROJECT.to_owned())];
    let environment: BTreeMap<_, _> = environment.map(|(name, value)| (name.to_owned(), value)).into();
    let mut program = program(["inspect", "--json"].into_iter().chain(arguments.iter().copied()), environment);
    program.command.current_dir(folder);
    program.finish()
}

fn inspect(taskcluster: &StandIn, arguments: &[&str]) -> Finished {
    inspect_in(&std::env::temp_dir(), taskcluster, arguments)
}

/// Asserts that an inventory is of this image.
fn assert_shows(finished: &Finished, image: &Archive) {
    finished.assert_succeeds();
    let shown: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!((&shown["imageId"], &shown["files"]), (&json!(image.id()), &json!(2)), "{}", finished.stderr);
    assert_eq!(shown["largestFiles"][0]["path"], "bin/busybox");
}

#[test]
fn images_of_tasks_and_routes_are_shown() {
    let taskcluster = StandIn::start(Options::default());
    let image = Archive::new("inspect-task");
    let sound = image.sound("inspect-task:1");
    for (artifact, archive) in [
        ("public/image.tar", sound.clone()),
        ("public/image.tar.zst", zstd::encode_all(&sound[..], 3).unwrap()),
        ("public/image.tar", gzip(&image.kaniko())),
    ] {
        let task = task_with(&taskcluster, artifact, &archive);
        assert_shows(&inspect(&taskcluster, &["--task-id", &task]), &image);
        let url = format!("{}/tasks/{task}/runs/0", taskcluster.root_url());
        assert_shows(&inspect(&taskcluster, &["--task-id", &url]), &image);
    }
    let namespace = format!("docker.images.v1.{PROJECT}.inspect-task.latest");
    indexed(&taskcluster, &namespace, &sound, &data(&sound, &image));
    let shown = inspect(&taskcluster, &["--index", &format!("index.{namespace}")]);
    assert_shows(&shown, &image);
    assert!(shown.stderr.contains("as the index has it"), "{}", shown.stderr);

    taskcluster.fault(Fault::cut_body("s3 GET", 300_000).path("image.tar"));
    let shown = inspect(&taskcluster, &["--index", &namespace]);
    assert_shows(&shown, &image);
    assert!(shown.stderr.contains("going on from there"), "{}", shown.stderr);
}

#[test]
fn an_image_of_the_checkout_is_found_by_its_hash_and_a_file_wins() {
    let name = "inspect-name";
    let repository = Repository::new(name, "");
    let (root, job) = (repository.root.path(), Job::new(&repository));
    let image = Archive::new(name);
    let sound = image.sound("inspect-name:1");
    let mut entry = data(&sound, &image);
    entry["contextHash"] = json!(job.hash);
    let missing = inspect_in(root, &job.taskcluster, &[name]);
    missing.assert_fails(10, &["no task has the image inspect-name of hash", &job.hash]);
    indexed(&job.taskcluster, &job.routes()[2], &sound, &entry);
    for typed in [name, "testing/docker/inspect-name/"] {
        assert_shows(&inspect_in(root, &job.taskcluster, &[typed]), &image);
    }
    let mistyped = inspect_in(root, &job.taskcluster, &["inspect-nam"]);
    mistyped.assert_fails(2, &["inspect-nam is no file here", name, "--task-id"]);

    let other = Archive::new("inspect-file");
    std::fs::write(root.join(name), other.sound("inspect-file:1")).unwrap();
    assert_shows(&inspect_in(root, &job.taskcluster, &[name]), &other);
}

#[test]
fn what_a_task_has_is_verified_as_for_an_engine() {
    let taskcluster = StandIn::start(Options::default());
    let (image, other) = (Archive::new("inspect-refused"), Archive::new("inspect-other"));
    let sound = image.sound("inspect-refused:1");
    let mut wrong_layer = sound.clone();
    let at = sound.windows(9).position(|window| window == b"inherited").unwrap() + 512;
    wrong_layer[at] ^= 1;
    for (archive, words) in [(wrong_layer.as_slice(), "its layer "), (&sound[..1_000_000], "is truncated at ")] {
        let task = task_with(&taskcluster, "public/image.tar", archive);
        inspect(&taskcluster, &["--task-id", &task]).assert_fails(10, &[words, &task, "rerun that task"]);
    }
    // Whole, but another one than the index promises.
    let namespace = format!("docker.images.v1.{PROJECT}.inspect-refused.latest");
    let promised = data(&other.sound("inspect-other:1"), &other);
    indexed(&taskcluster, &namespace, &sound, &promised);
    let promised = promised["sha256"].as_str().unwrap();
    inspect(&taskcluster, &["--index", &namespace]).assert_fails(10, &[promised, "was promised"]);
    let nothing = ["the index has nothing at", "of-nobody"];
    inspect(&taskcluster, &["--index", "docker.images.v1.try.of-nobody.latest"]).assert_fails(10, &nothing);
}
