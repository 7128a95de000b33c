//! Parents: images that are built from another task's image, with the real engine. The parents are real tasks' images, or
//! archives made here, as other programs make them and as no program should.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::Command;

use image_worker::net::Digest;
use serde_json::{Value, json};
use stand_in::{Fault, Options, StandIn, TaskSpec};

use crate::harness::archive::{Archive, gzip};
use crate::harness::{
    Builder, Finished, Job, PROJECT, Repository, assert_engine_is_clean, container_output, docker, docker_output,
    end_podmans_command, engine, is_on, long_sleep, names_of, path, program, resident,
};

const ARTIFACT: &str = "public/image.tar";
const ZSTD: &str = "public/image.tar.zst";

/// The `Dockerfile` of a child, as trees have them: without an `ARG` line. Its build prints what the parent holds.
fn child(name: &str) -> Repository {
    let shell = "SHELL [\"/bin/busybox\", \"sh\", \"-c\"]";
    let steps = "RUN cat /inherited\nCMD [\"/bin/busybox\", \"cat\", \"/inherited\"]";
    Repository::bare(name, &format!("FROM $DOCKER_IMAGE_PARENT\nENV TEST={name}\n{shell}\n{steps}\n"))
}

/// A child's job, and a parent's task with an archive as its artifact; no index has it.
fn with_archive(name: &str, artifact: &str, archive: &[u8]) -> (Job, String) {
    let job = Job::new(&child(name));
    let parent = job.taskcluster.create_task(TaskSpec::default()).task_id;
    job.taskcluster.put_artifact(&parent, 0, artifact, "application/octet-stream", None, archive);
    (job, parent)
}

/// A child's job, and the task of its parent, which has published its image.
fn child_and_parent(name: &str) -> (Job, String) {
    let base = format!("{name}-base");
    let mut parent = Job::new(&Repository::new(&base, &format!("RUN echo {name}-inherited > /inherited\n")));
    parent.claim = parent.taskcluster.create_task(spec(&parent));
    parent.run().assert_succeeds();
    let task = parent.claim.task_id;
    (Job::on(parent.taskcluster, &child(name)), task)
}

/// An image task with its environment in its definition.
fn spec(job: &Job) -> TaskSpec {
    let env = json!({ "IMAGE_NAME": job.name, "PROJECT": PROJECT, "HASH": job.hash, "INDEX": "", "INDEX_HASH": "" });
    Job::spec(&job.name).property("payload", json!({ "env": env }))
}

fn run(job: &Job, parent: &str) -> Finished {
    job.run_with([("PARENT_TASK_ID", parent)])
}

/// Asserts that an image was made of its parent, and that nothing of either is left in the engine.
fn assert_child(job: &Job, finished: &Finished, mark: &str) {
    finished.assert_succeeds();
    let line = format!("build | {mark}-inherited\n");
    assert!(finished.stderr.contains(&line), "{line:?} is not in:\n{}", finished.stderr);
    assert!(!finished.stderr.contains("not consumed"), "{}", finished.stderr);
    job.assert_engine_is_clean();
    assert_engine_is_clean(mark);
}

/// Asserts that nothing was built, published, or left, and that the error line reports it.
fn assert_refused(job: &Job, finished: &Finished, code: i32, words: &[&str]) {
    finished.assert_fails(code, words);
    assert!(!finished.stderr.contains("build |"), "{}", finished.stderr);
    job.assert_nothing_published();
    job.assert_engine_is_clean();
}

fn has_image(id: &str) -> bool {
    docker(&["image", "inspect", id]).status.success()
}

#[test]
fn an_image_is_built_from_the_image_of_another_task() {
    if !engine() {
        return;
    }
    let (job, parent) = child_and_parent("parent-family");
    let entry = job.taskcluster.index_entry(&format!("docker.images.v1.{PROJECT}.parent-family-base.latest")).unwrap();
    let finished = run(&job, &parent);
    let calls = job.call_names();
    assert_child(&job, &finished, "parent-family");
    assert!(finished.stderr.contains("as the index has it"), "{}", finished.stderr);
    assert!(!has_image(entry["data"]["imageId"].as_str().unwrap()), "the parent is left");
    // Of the parent its list of layers comes first, where the engine has other images.
    let fetched = ["getLatestArtifact", "s3 GET", "task", "findTask", "getArtifact", "getArtifact", "s3 GET", "s3 GET"];
    let at = calls.iter().position(|call| call == "getLatestArtifact").unwrap();
    assert_eq!(calls[at..at + fetched.len()], fetched, "the context comes before the parent");

    // What was built holds what the parent holds, layer by layer, and runs.
    let archive = job.taskcluster.artifact_path(&job.claim.task_id, 0, ARTIFACT).unwrap();
    docker_output(&["load", "--input", path(&archive)]);
    assert_eq!(container_output(&[&job.tag()]), "parent-family-inherited");
    docker_output(&["rmi", "--force", &job.tag()]);

    // Its provenance names the parent once, with what was compared.
    let provenance = job.taskcluster.artifact_bytes(&job.claim.task_id, 0, "public/image-build/provenance.json");
    let provenance: Value = serde_json::from_slice(&provenance.unwrap()).unwrap();
    let definition = &provenance["predicate"]["buildDefinition"];
    let dependencies = definition["resolvedDependencies"].as_array().unwrap();
    assert_eq!(dependencies.iter().map(|it| &it["name"]).collect::<Vec<_>>(), ["context", "parent"]);
    assert_eq!(dependencies[1]["digest"]["sha256"], entry["data"]["sha256"]);
    let annotations = json!({ "imageId": entry["data"]["imageId"], "comparedWith": "index" });
    assert_eq!(dependencies[1]["annotations"], annotations);
    let named = json!({ "taskId": parent, "artifact": ARTIFACT, "indexHash": entry["data"]["contextHash"] });
    assert_eq!(definition["externalParameters"]["parent"], named);

    // A dry run does the same, where it takes no step from the image that is there now.
    let out = tempfile::tempdir().unwrap();
    let mut environment = job.environment();
    environment.insert("CACHE_FROM".to_owned(), "off".to_owned());
    environment.insert("PARENT_TASK_ID".to_owned(), parent);
    let finished = program(["run", "--dry-run", "--output", path(out.path())], environment).finish();
    assert_child(&job, &finished, "parent-family");
    assert!(out.path().join("image.tar").exists());
}

#[test]
fn a_parent_that_found_its_image_made_leads_to_it() {
    if !engine() {
        return;
    }
    let name = "parent-reference";
    let mut parent =
        Job::new(&Repository::new("parent-reference-base", &format!("RUN echo {name}-inherited > /inherited\n")));
    parent.run().assert_succeeds();
    parent.claim = parent.taskcluster.create_task(spec(&parent));
    parent.run().assert_succeeds();
    let task = parent.claim.task_id;
    let job = Job::on(parent.taskcluster, &child(name));
    let finished = run(&job, &task);
    assert_child(&job, &finished, name);
    assert!(finished.stderr.contains("as the index has it"), "{}", finished.stderr);
}

/// A rerun of the parent has nothing yet, and its first run only pointed to an older task's image: the index has it, under the
/// parent's hash, of the own project or of the central one.
#[test]
fn a_parent_that_only_pointed_to_its_image_may_be_under_way_again() {
    if !engine() {
        return;
    }
    let name = "parent-rerun";
    let mut parent =
        Job::new(&Repository::new("parent-rerun-base", &format!("RUN echo {name}-inherited > /inherited\n")));
    parent.run().assert_succeeds();
    let mut parents = Vec::new();
    for project in [PROJECT, "try"] {
        let env = json!({ "IMAGE_NAME": parent.name, "PROJECT": project, "HASH": parent.hash });
        let scope = format!("index:insert-task:docker.images.v1.{project}.*");
        parent.claim =
            parent.taskcluster.create_task(TaskSpec::scopes([scope]).property("payload", json!({ "env": env })));
        let pointed = parent.run_with([("PROJECT", project)]);
        pointed.assert_succeeds();
        assert!(pointed.stderr.contains("of this task leads to"), "{}", pointed.stderr);
        parent.taskcluster.rerun(&parent.claim.task_id);
        parents.push(parent.claim.task_id.clone());
    }
    let mut job = Job::on(parent.taskcluster, &child(name));
    for task in parents {
        job.claim = job.taskcluster.create_task(Job::spec(&job.name));
        let finished = job.run_with([("PARENT_TASK_ID", task.as_str()), ("CACHE_FROM", "off")]);
        assert_child(&job, &finished, name);
        assert!(finished.stderr.contains("the index has an image of the same hash"), "{}", finished.stderr);
        assert!(finished.stderr.contains("as the index has it"), "{}", finished.stderr);
    }
}

#[test]
fn archives_of_all_kinds_are_parents() {
    if !engine() {
        return;
    }
    let name = "parent-kinds";
    let image = Archive::new(name);
    let plain = image.tar(Some(&["base:1", "base:2"]));
    for (artifact, archive) in [
        (ARTIFACT, plain.clone()),
        (ZSTD, zstd::encode_all(&*plain, 3).unwrap()),
        (ARTIFACT, gzip(&image.tar(None))),
        (ZSTD, zstd::encode_all(&*image.kaniko(), 3).unwrap()),
    ] {
        let (job, parent) = with_archive(name, artifact, &archive);
        let finished = run(&job, &parent);
        assert_child(&job, &finished, name);
        assert!(finished.stderr.contains("the index has no sha256 of it"), "{}", finished.stderr);
        assert!(!has_image(&image.id_in_engine()), "the parent is left");
    }
}

#[test]
fn a_parent_that_is_not_what_the_index_has_is_refused() {
    if !engine() {
        return;
    }
    let (job, parent) = child_and_parent("parent-swapped");
    let published = job.taskcluster.artifact_bytes(&parent, 0, ARTIFACT).unwrap();
    let other = Archive::new("parent-other");
    let archive = other.tar(Some(&["base:1"]));
    job.taskcluster.put_artifact(&parent, 0, ARTIFACT, "application/x-tar", None, &archive);
    let digests = [&published, &archive].map(|bytes| Digest::of(bytes).to_string());
    let finished = run(&job, &parent);
    assert_refused(&job, &finished, 10, &[&digests[0], &digests[1], &parent, "as the index has it"]);
    assert!(!has_image(&other.id_in_engine()), "it was loaded");
}

#[test]
fn a_damaged_parent_is_refused_also_where_the_engine_would_not_notice() {
    if !engine() {
        return;
    }
    let name = "parent-damaged";
    let image = Archive::new(name);
    let good = image.tar(Some(&["parent-damaged-before:1"]));
    let at = good.windows(9).position(|window| window == b"inherited").unwrap() + 512;
    let mut layer = good.clone();
    layer[at] ^= 1;
    let mut config = good.clone();
    config[512 + 2] ^= 1;
    let packed = zstd::encode_all(&*good, 3).unwrap();

    // The engine has the image already: Docker then skips the damaged layer, and reports that it has loaded it.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("good.tar");
    std::fs::write(&file, &good).unwrap();
    docker_output(&["load", "--input", path(&file)]);
    for (artifact, archive, words) in [
        (ARTIFACT, layer.as_slice(), "its layer"),
        (ARTIFACT, &config, "its configuration"),
        (ARTIFACT, &good[..good.len() / 2], "the image archive is truncated at "),
        (ZSTD, &packed[..packed.len() - 1000], "the image archive is truncated at "),
        (ARTIFACT, b"<html>please log in</html>", "cannot be read to its end"),
    ] {
        let (job, parent) = with_archive(name, artifact, archive);
        let finished = run(&job, &parent);
        assert_refused(&job, &finished, 10, &[words, artifact, &parent, "rerun that task"]);
    }
    // What was there before is there.
    assert_eq!(
        docker_output(&["image", "inspect", "--format", "{{.Id}}", "parent-damaged-before:1"]),
        image.id_in_engine()
    );
    let (job, parent) = with_archive(name, ARTIFACT, &good);
    run(&job, &parent).assert_succeeds();
    assert_eq!(names_of(&image.id_in_engine()), ["parent-damaged-before:1"]);
    docker_output(&["rmi", "parent-damaged-before:1"]);
}

#[test]
fn an_image_without_a_name_that_was_there_before_stays() {
    if !engine() {
        return;
    }
    let name = "parent-nameless";
    let image = Archive::new(name);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("nameless.tar");
    std::fs::write(&file, image.tar(None)).unwrap();
    docker_output(&["load", "--input", path(&file)]);
    let (job, parent) = with_archive(name, ARTIFACT, &image.tar(None));
    run(&job, &parent).assert_succeeds();
    assert!(has_image(&image.id_in_engine()), "it would have gone with the name that we gave it");
    docker_output(&["rmi", "--force", &image.id_in_engine()]);
    assert_engine_is_clean(name);
}

#[test]
fn a_parent_that_is_gone_is_reported() {
    let (job, parent) = with_archive("parent-gone", "public/other.tar", b"");
    if !engine() {
        return;
    }
    let words = ["gone or was never made", &parent, ARTIFACT, ZSTD, "rerun that task"];
    assert_refused(&job, &run(&job, &parent), 10, &words);
    assert_refused(
        &job,
        &run(&job, "fN1SbArXTPSVFNUvaOlinQ"),
        10,
        &["gone or was never made", "fN1SbArXTPSVFNUvaOlinQ"],
    );
    // The queue has it, the storage has not.
    job.taskcluster.put_artifact(&parent, 0, ARTIFACT, "application/x-tar", None, b"");
    job.taskcluster.fault(Fault::status("s3 GET", 404).path("image.tar"));
    assert_refused(&job, &run(&job, &parent), 10, &words);
}

#[test]
fn a_download_that_breaks_goes_on_or_begins_again() {
    if !engine() {
        return;
    }
    let name = "parent-cut";
    let (job, parent) = with_archive(name, ARTIFACT, &Archive::new(name).tar(None));
    job.taskcluster.fault(Fault::cut_body("s3 GET", 300_000).path("image.tar"));
    let finished = run(&job, &parent);
    assert_child(&job, &finished, name);
    assert!(finished.stderr.contains("going on from there"), "{}", finished.stderr);

    // No server sends the rest: from the beginning, into an engine that no longer has the first half.
    let (job, parent) = with_archive(name, ARTIFACT, &Archive::new(name).tar(None));
    job.taskcluster.fault(Fault::cut_body("s3 GET", 300_000).path("image.tar"));
    job.taskcluster.fault(Fault::status("s3 GET", 404).path("image.tar").skip(1));
    let finished = run(&job, &parent);
    assert_child(&job, &finished, name);
    assert!(finished.stderr.contains("the download of the parent image failed, trying again"), "{}", finished.stderr);
}

#[test]
fn the_same_context_with_another_parent_is_another_image() {
    if !engine() {
        return;
    }
    let (mut job, first) = with_archive("parent-new", ARTIFACT, &Archive::new("parent-new-first").tar(None));
    let second = job.taskcluster.create_task(TaskSpec::default()).task_id;
    let archive = Archive::new("parent-new-second").tar(None);
    job.taskcluster.put_artifact(&second, 0, ARTIFACT, "application/x-tar", None, &archive);
    assert_child(&job, &run(&job, &first), "parent-new-first");

    // A task that was started twice builds once; another task cannot know that the image has its parent.
    let again = run(&job, &first);
    again.assert_succeeds();
    assert!(again.stderr.contains("has this image already"), "{}", again.stderr);
    job.claim = job.taskcluster.create_task(Job::spec(&job.name));
    let other = run(&job, &second);
    assert!(other.stderr.contains("may have another parent: building"), "{}", other.stderr);
    assert_child(&job, &other, "parent-new-second");

    // With INDEX_HASH it can.
    let hash = "ab".repeat(32);
    let changes = [("PARENT_TASK_ID", second.as_str()), ("INDEX_HASH", &hash)];
    job.run_with(changes).assert_succeeds();
    job.claim = job.taskcluster.create_task(Job::spec(&job.name));
    let found = job.run_with(changes);
    found.assert_succeeds();
    assert!(found.stderr.contains("has this image already"), "{}", found.stderr);
}

#[test]
fn a_signal_leaves_no_parent_behind() {
    if !engine() {
        return;
    }
    let name = "parent-stopped";
    let (image, seconds) = (Archive::new(name), &long_sleep(3));
    let job = Job::new(&Repository::bare(
        name,
        &format!(
            "FROM $DOCKER_IMAGE_PARENT\nENV TEST={name}\nSHELL [\"/bin/busybox\", \"sh\", \"-c\"]\nRUN echo up; sleep {seconds}\n"
        ),
    ));
    let parent = job.taskcluster.create_task(TaskSpec::default()).task_id;
    job.taskcluster.put_artifact(&parent, 0, ARTIFACT, "application/x-tar", None, &image.tar(None));
    let mut environment = job.environment();
    environment.insert("PARENT_TASK_ID".to_owned(), parent);
    let stop = |id: u32| assert!(Command::new("kill").args(["-TERM", &id.to_string()]).status().unwrap().success());
    let finished = program(["run"], environment.clone()).finish_when(|log| log.contains("build | up"), stop);
    assert!(finished.error_line().contains("SIGTERM while building"), "{}", finished.stderr);
    if Builder::is_podman() {
        assert!(end_podmans_command(seconds), "Podman ends it by itself now: change docs/engines.md");
    }
    assert!(!has_image(&image.id_in_engine()), "the parent is left");
    job.assert_engine_is_clean();

    // While it is on its way.
    job.taskcluster.fault(Fault::stall("s3 GET").path("image.tar"));
    let requested =
        |_: &str| job.taskcluster.calls().iter().any(|call| call.path.contains("image.tar") && call.fault.is_some());
    let finished = program(["run"], environment).finish_when(requested, stop);
    assert!(finished.error_line().contains("SIGTERM while loading the parent image"), "{}", finished.stderr);
    assert!(!has_image(&image.id_in_engine()), "the parent is left");
    job.assert_engine_is_clean();
}

/// An engine that has the whole archive unpacks it although the client is gone.
#[test]
fn a_signal_while_the_engine_unpacks_leaves_no_parent_behind() {
    // Containerd unpacks an archive while it comes: there is no moment when it has all of it.
    if !engine() || is_on("docker-28-containerd") {
        return;
    }
    let name = "parent-unpacked";
    let mut image = Archive::new(name);
    image.add_layer("large", &vec![0; LARGE]);
    let (job, parent) = with_archive(name, ARTIFACT, &image.tar(None));
    let mut environment = job.environment();
    environment.insert("PARENT_TASK_ID".to_owned(), parent.clone());
    let root = docker_output(&["info", "--format", "{{.DockerRootDir}}"]);
    // Where an engine puts an archive before it unpacks it: the member that names the image comes last.
    let imports =
        if Builder::is_podman() { Path::new(&root).with_file_name("tmp") } else { Path::new(&root).join("tmp") };
    if std::fs::read_dir(&imports).is_err() {
        assert!(std::env::var_os("IMAGE_WORKER_NO_SKIP").is_none(), "{} cannot be read", imports.display());
        eprintln!("SKIPPED: {} cannot be read", imports.display());
        return;
    }
    let manifest = |import: &Path| {
        if !Builder::is_podman() {
            return std::fs::read(import.join("manifest.json")).unwrap_or_default();
        }
        let mut end = Vec::new();
        if let Ok(mut tar) = std::fs::File::open(import)
            && import.file_name().is_some_and(|name| name.to_string_lossy().starts_with("api_load.tar"))
            && tar.seek(SeekFrom::End(-8192)).is_ok()
        {
            tar.read_to_end(&mut end).unwrap();
        }
        end
    };
    let whole = |_: &str| {
        let imports = std::fs::read_dir(&imports).into_iter().flatten().flatten();
        let mut manifests = imports.map(|import| manifest(&import.path()));
        manifests.any(|manifest| String::from_utf8_lossy(&manifest).contains(&parent))
    };
    let kill = |id: u32| assert!(Command::new("kill").args(["-TERM", &id.to_string()]).status().unwrap().success());
    let finished = program(["run"], environment).finish_when(whole, kill);
    finished.assert_fails(143, &["SIGTERM while loading the parent image"]);
    assert!(!has_image(&image.id_in_engine()), "the parent is left");
    job.assert_engine_is_clean();
    // Newer engines give it up when they learn in time that the client is gone.
    let gives_up = is_on("podman-5") || is_on("docker-28");
    assert!(finished.stderr.contains("removed 1 image of ") || gives_up, "{}", finished.stderr);
}

/// Twice of what the program may take.
const LARGE: usize = 128 << 20;

#[test]
fn memory_stays_flat_however_large_the_parent_is() {
    if !engine() {
        return;
    }
    let name = "parent-large";
    let mut image = Archive::new(name);
    image.add_layer("large", &vec![0; LARGE]);
    let packed = zstd::encode_all(&*image.tar(None), 1).unwrap();
    let (job, parent) = with_archive(name, ZSTD, &packed);
    let mut environment = job.environment();
    environment.insert("PARENT_TASK_ID".to_owned(), parent);
    let mut most = 0;
    let finished = program(["run"], environment).finish_with(|id| {
        while let Some(kilobytes) = resident(id) {
            most = most.max(kilobytes);
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    });
    assert_child(&job, &finished, name);
    assert!((1..64 << 10).contains(&most), "{most} KiB for a parent of {} KiB", LARGE >> 10);
}

#[test]
fn a_parent_has_one_name_and_a_deployment() {
    let job = Job::on(StandIn::start(Options::default()), &child("parent-words"));
    let parent = "fN1SbArXTPSVFNUvaOlinQ";
    let args = json!({ "DOCKER_IMAGE_PARENT": "debian:12" }).to_string();
    let finished = job.run_with([("PARENT_TASK_ID", parent), ("DOCKER_BUILD_ARGS", &args)]);
    finished.assert_fails(2, &["DOCKER_BUILD_ARGS: has DOCKER_IMAGE_PARENT", "PARENT_TASK_ID"]);
    assert_eq!(job.call_names(), [""; 0]);
    let repository = child("parent-words");
    let directory = repository.directory();
    let arguments = [
        "run",
        "--dry-run",
        "--image-name",
        "parent-words",
        "--project",
        "try",
        "--context",
        path(&directory),
        "--parent-task-id",
        parent,
    ];
    program(arguments, []).finish().assert_fails(2, &["TASKCLUSTER_ROOT_URL is not set"]);
    assert_eq!(Value::Null, job.taskcluster.index_entry(&job.routes()[0]).unwrap_or_default());
}
