//! The main job against the stand-in and a real engine: images are really built, uploaded, downloaded again,
//! loaded and run.

use std::io::Read;
use std::path::Path;
use std::process::Command;

use image_worker::context::HashScheme;
use image_worker::net::Digest;
use serde_json::json;
use stand_in::{Call, Claim, Fault, Options, RunState, StandIn, TaskSpec};

use crate::harness::{
    Builder, Finished, Job, PUSHDATE, RANK, Repository, assert_engine_is_clean, container_output, docker,
    docker_output, end_podmans_command, engine, first_step, long_sleep, path, podmans_commands, program,
};

const ARTIFACT: &str = "public/image.tar";
const LOG: &str = "public/image-build/build.log";
/// The calls of a start, in no order.
const INITIAL_CALLS: [&str; 4] = ["currentScopes", "findTask", "listArtifacts", "task"];
const HELLO: &str = "RUN echo hello-from-the-build > /greeting\nCMD [\"/bin/busybox\", \"cat\", \"/greeting\"]\n";

/// Loads an archive into the engine, runs a container of it, and removes it again. Gives what it printed.
fn load_and_run(archive: &Path, tag: &str) -> String {
    let loaded = docker_output(&["load", "--input", path(archive)]);
    assert_eq!(
        loaded,
        format!("Loaded image: {}{tag}", if Builder::is_podman() { "localhost/" } else { "" }),
        "what d2g looks for"
    );
    let output = container_output(&[tag]);
    docker_output(&["rmi", "--force", tag]);
    output
}

/// The members of an archive that are JSON, and the names of all.
fn members(archive: &Path) -> (serde_json::Value, serde_json::Value, Vec<String>) {
    let mut archive = tar::Archive::new(std::fs::File::open(archive).unwrap());
    let (mut manifest, mut repositories, mut names) = (json!(null), json!(null), Vec::new());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        if name == "manifest.json" || name == "repositories" {
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            let value = serde_json::from_str(&text).unwrap();
            *(if name == "repositories" { &mut repositories } else { &mut manifest }) = value;
        }
        names.push(name);
    }
    (manifest, repositories, names)
}

/// Asserts all that a published image must be.
fn assert_published(job: &Job, finished: &Finished) {
    finished.assert_succeeds();
    assert_eq!(finished.stdout.trim(), job.tag());
    let task = &job.claim.task_id;
    let url = format!("{}/api/queue/v1/task/{task}/artifacts/{ARTIFACT}", job.taskcluster.root_url());
    let bytes = download(&url);
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("image.tar");
    std::fs::write(&archive, &bytes).unwrap();

    let (manifest, repositories, names) = members(&archive);
    assert_eq!(manifest.as_array().map(Vec::len), Some(1));
    assert_eq!(manifest[0]["RepoTags"], json!([job.tag()]));
    let versions = repositories[&job.name].as_object().expect("the repository");
    assert_eq!((repositories.as_object().unwrap().len(), versions.len()), (1, 1));
    assert!(versions.contains_key(&job.hash));
    for layer in manifest[0]["Layers"].as_array().unwrap() {
        assert!(names.contains(&layer.as_str().unwrap().to_owned()), "{layer} is missing");
    }

    for route in job.routes() {
        let entry = job.taskcluster.index_entry(&route).unwrap_or_else(|| panic!("{route} is missing"));
        assert_eq!(entry["taskId"], json!(task));
        assert_eq!(entry["rank"], json!(RANK));
        assert_eq!(entry["data"]["artifact"], json!(ARTIFACT));
        assert_eq!(entry["data"]["sha256"], json!(Digest::of(&bytes).to_string()));
        assert_eq!(entry["data"]["size"], json!(bytes.len()));
        assert_eq!(entry["data"]["contextHash"], json!(job.hash));
        assert_eq!(entry["data"]["runId"], json!(job.claim.run_id));
        let id = manifest[0]["Config"].as_str().unwrap().trim_end_matches(".json").to_owned();
        assert_eq!(entry["data"]["imageId"], json!(format!("sha256:{id}")));
    }
    job.assert_engine_is_clean();
    assert_eq!(load_and_run(&archive, &job.tag()), "hello-from-the-build");
}

#[test]
fn an_s3_artifact_behind_the_proxy() {
    let Some(job) = Job::ready("run-s3", HELLO) else { return };
    let finished = job.run();
    let calls = job.taskcluster.calls();
    assert_published(&job, &finished);
    assert_order(&calls, &["createArtifact", "s3 PUT"]);
    let inserted: Vec<_> = calls.iter().filter(|call| call.name == "insertTask").map(|call| &call.path).collect();
    for (path, route) in inserted.iter().zip(job.routes()) {
        assert!(path.ends_with(&route), "{path} is not {route}");
    }
    let created: Vec<_> = calls.iter().filter(|call| call.name == "createArtifact").collect();
    let mut types: Vec<_> = created.iter().map(|call| call.request["contentType"].as_str().unwrap()).collect();
    assert_eq!(types[..2], ["text/plain; charset=utf-8", "application/x-tar"]);
    types[2..].sort_unstable();
    let (json, others) = types[2..].split_at(types.len() - 4);
    assert!(json.iter().all(|it| *it == "application/json"), "{types:?}");
    assert_eq!(others, ["application/vnd.in-toto+json", "text/html; charset=utf-8"]);
    let entry = job.taskcluster.index_entry(&job.routes()[0]).unwrap();
    for created in created {
        assert_eq!(created.request["expires"], entry["expires"], "the entry expires with the image");
    }
}

#[test]
fn an_object_artifact_with_signed_calls() {
    let Some(job) = Job::ready("run-object", HELLO) else { return };
    let mut environment = job.signing_environment();
    environment.insert("ARTIFACT_STORAGE".to_owned(), "object".to_owned());
    let finished = program(["run"], environment).finish();
    let calls = job.taskcluster.calls();
    assert_published(&job, &finished);
    assert_order(&calls, &["createArtifact", "createUpload", "s3 PUT", "finishUpload", "finishArtifact"]);
}

/// Asserts the order of a job's calls. Where nothing depends on it, there is none: the first calls are made at once,
/// and what belongs to the image is uploaded in parallel with it.
fn assert_order(calls: &[Call], uploading: &[&str]) {
    let calls: Vec<_> = calls.iter().filter(|call| call.service != "proxy").collect();
    let names: Vec<_> = calls.iter().map(|call| call.name.as_str()).collect();
    let mut looking = names[..4].to_vec();
    looking.sort_unstable();
    assert_eq!(looking, INITIAL_CALLS, "called before anything else");
    let building = [&["findTasksAtIndex", "getLatestArtifact", "s3 GET"], uploading].concat();
    assert_eq!(names[4..4 + building.len()], building, "the newest image, the context, the build's log");
    let (uploads, inserts) = names[4 + building.len()..].split_at(names.len() - 4 - building.len() - 7);
    let expected = [&["status"][..], &["insertTask", "findTask"].repeat(3)].concat();
    assert_eq!(inserts, expected, "all is read back, and the task looked at, before the first insert");
    let of = |name: &str| {
        calls.iter().filter(|call| call.path.contains(name)).map(|call| call.name.as_str()).collect::<Vec<_>>()
    };
    let whole = [uploading, &["getArtifact", "s3 GET"]].concat();
    assert_eq!(of("image.tar"), whole, "of the image");
    let documents = Builder::documents();
    for name in &documents {
        assert_eq!(of(name), whole, "of {name}");
    }
    assert_eq!(uploads.len(), whole.len() * (documents.len() + 1), "nothing else: {uploads:?}");
    let created = |name: &str| calls.iter().position(|it| it.name == "createArtifact" && it.path.contains(name));
    assert!(documents.iter().all(|name| created("image.tar") < created(name)), "the image's artifact comes first");
}

#[test]
fn a_deployment_without_buckets_gets_an_object() {
    if !engine() {
        return;
    }
    let repository = Repository::new("run-auto", HELLO);
    let job = Job::on(StandIn::start(Options { s3: false, ..Options::default() }), &repository);
    // Such a queue fails as if it might do better next time: the default number of attempts takes a minute.
    assert_published(&job, &job.run_with([("IMAGE_WORKER_TRIES", "2")]));
}

#[test]
fn a_compressed_archive() {
    let Some(job) = Job::ready("run-zst", HELLO) else { return };
    let finished = job.run_with([("ARTIFACT_NAME", "public/image.tar.zst"), ("DOCKER_IMAGE_ZSTD_LEVEL", "10")]);
    finished.assert_succeeds();
    let packed = job.taskcluster.artifact_bytes(&job.claim.task_id, 0, "public/image.tar.zst").unwrap();
    let entry = job.taskcluster.index_entry(&job.routes()[2]).unwrap();
    assert_eq!(entry["data"]["sha256"], json!(Digest::of(&packed).to_string()));
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("image.tar");
    std::fs::write(&archive, zstd::decode_all(packed.as_slice()).unwrap()).unwrap();
    assert_eq!(load_and_run(&archive, &job.tag()), "hello-from-the-build");
}

#[test]
fn a_context_of_2015_by_url() {
    if !engine() {
        return;
    }
    let repository = Repository::new("run-2015", HELLO);
    let hash = repository.hash(HashScheme::Contents);
    let mut context = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    context.append_dir_all(&repository.name, repository.directory()).unwrap();
    let context = context.into_inner().unwrap().finish().unwrap();
    let job = Job::new(&repository);
    let task = job.taskcluster.create_task(TaskSpec::default()).task_id;
    job.taskcluster.put_artifact(&task, 0, "public/old.tar.gz", "application/gzip", None, &context);
    let url = format!("{}/api/queue/v1/task/{task}/artifacts/public/old.tar.gz", job.taskcluster.root_url());
    let directory = format!("testing/docker/{}", repository.name);
    let finished = job.run_with([
        ("CONTEXT_TASK_ID", ""),
        ("CONTEXT_URL", &url),
        ("CONTEXT_PATH", &directory),
        ("HASH", &hash),
        ("HASH_SCHEME", "contents"),
    ]);
    finished.assert_succeeds();
    assert!(job.taskcluster.index_entry(&job.namespace(&format!("hash.{hash}"))).is_some());
    let archive = job.taskcluster.artifact_path(&job.claim.task_id, 0, ARTIFACT).unwrap();
    assert_eq!(load_and_run(&archive, &format!("{}:{hash}", job.name)), "hello-from-the-build");
}

#[test]
fn a_debian_base_and_apt_in_a_run_step() {
    if !engine() {
        return;
    }
    if docker_output(&["images", "--quiet", "debian:12"]).is_empty() {
        assert!(std::env::var_os("IMAGE_WORKER_NO_SKIP").is_none(), "no debian:12: run scripts/base-image");
        eprintln!("SKIPPED: no debian:12; run scripts/base-image");
        return;
    }
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/fixtures/repo/taskcluster/docker/apt-tools");
    let dockerfile = std::fs::read_to_string(fixture.join("Dockerfile")).unwrap();
    let repository = Repository::bare("apt-tools", &dockerfile);
    let job = Job::new(&repository);
    job.run_with([("DOCKER_BUILD_NETWORK", "host")]).assert_succeeds();
    let archive = job.taskcluster.artifact_path(&job.claim.task_id, 0, ARTIFACT).unwrap();
    assert!(load_and_run(&archive, &job.tag()).starts_with("jq-1."));
}

#[test]
fn build_arguments_and_the_root_url_reach_the_build() {
    if !engine() {
        return;
    }
    let steps = "ARG GREETING\nARG TASKCLUSTER_ROOT_URL\nRUN echo \"$GREETING from $TASKCLUSTER_ROOT_URL\"\n";
    let job = Job::new(&Repository::new("run-args", steps));
    let finished = job.run_with([("DOCKER_BUILD_ARGS", r#"{"GREETING": "hello"}"#)]);
    finished.assert_succeeds();
    let expected = format!("build | hello from {}\n", job.taskcluster.root_url());
    assert!(finished.stderr.contains(&expected), "{}", finished.stderr);
}

#[test]
fn a_second_run_builds_nothing_and_leads_to_the_same_image() {
    let Some(job) = Job::ready("run-twice", HELLO) else { return };
    job.run().assert_succeeds();
    let index = job.routes().map(|route| job.taskcluster.index_entry(&route));
    let image = job.taskcluster.artifact_bytes(&job.claim.task_id, 0, ARTIFACT).unwrap();

    // The same run again, as after a worker's crash; then a rerun; then another task of a later push.
    job.taskcluster.clear_calls();
    job.run().assert_succeeds();
    let mut calls = job.call_names();
    calls[..8].sort_unstable();
    let expected =
        ["artifactInfo", "currentScopes", "findTask", "getArtifact", "listArtifacts", "s3 GET", "status", "task"];
    assert_eq!(calls[..8], expected, "nothing is built, nothing is published");
    assert_eq!(calls[8..], [&["status"][..], &["insertTask", "findTask"].repeat(3)].concat(), "the same routes again");
    let rerun = job.taskcluster.rerun(&job.claim.task_id);
    let later = job.taskcluster.create_task(Job::spec(&job.name));
    for (claim, pushdate) in [(&rerun, PUSHDATE), (&later, "20151210000000")] {
        assert_eq!(job.routes().map(|route| job.taskcluster.index_entry(&route)), index);
        let mut environment = job.environment_of(claim);
        environment.insert("PUSHDATE".to_owned(), pushdate.to_owned());
        let finished = program(["run"], environment).finish();
        finished.assert_succeeds();
        assert!(finished.stderr.contains("has this image already"), "{}", finished.stderr);
        assert!(!finished.stderr.contains("build |"), "{}", finished.stderr);
        let url = format!("{}/api/queue/v1/task/{}/artifacts/{ARTIFACT}", job.taskcluster.root_url(), claim.task_id);
        assert!(download(&url) == image, "{url} does not lead to the image");
    }

    // --force builds all the same.
    let claim = job.taskcluster.create_task(Job::spec(&job.name));
    let finished = program(["run", "--force"], job.environment_of(&claim)).finish();
    finished.assert_succeeds();
    let first = format!("build | {}", first_step(6));
    assert!(finished.stderr.contains(&first), "{first:?} is not in:\n{}", finished.stderr);
    assert_eq!(job.taskcluster.index_entry(&job.routes()[2]).unwrap()["taskId"], json!(claim.task_id));
}

/// Push A, push B, push A again.
#[test]
fn a_backout_moves_latest_back_to_the_right_image() {
    let Some(job) = Job::ready("run-backout", HELLO) else { return };
    job.run().assert_succeeds();
    let changed = Repository::new("run-backout", &format!("RUN echo changed\n{HELLO}"));
    let (context, hash) = changed.context();
    let decision = job.taskcluster.create_task(TaskSpec::default()).task_id;
    job.taskcluster.put_artifact(&decision, 0, "public/b.tar.gz", "application/gzip", None, &context);
    let push = |date: &str, changes: &[(&str, &str)]| {
        let claim = job.taskcluster.create_task(Job::spec(&job.name));
        let mut environment = job.environment_of(&claim);
        environment.insert("PUSHDATE".to_owned(), date.to_owned());
        environment.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        (claim, program(["run"], environment).finish())
    };
    let of_b = [("HASH", hash.as_str()), ("CONTEXT_TASK_ID", &decision), ("CONTEXT_PATH", "public/b.tar.gz")];
    let (b, finished) = push("20151209130000", &of_b);
    finished.assert_succeeds();
    let latest = job.namespace("latest");
    assert_eq!(job.taskcluster.index_entry(&latest).unwrap()["taskId"], json!(b.task_id));

    push("20151209140000", &[]).1.assert_succeeds();
    let [first, .., of_hash] = job.routes().map(|route| job.taskcluster.index_entry(&route).unwrap());
    let of_push = job.taskcluster.index_entry(&job.namespace("pushdate.2015.12-09-140000")).expect("the third push");
    for entry in [&first, &of_push] {
        assert_eq!((&entry["taskId"], &entry["data"]), (&json!(job.claim.task_id), &of_hash["data"]), "the image of A");
        assert_eq!(entry["rank"], json!(1_449_669_600), "the rank of the third push");
    }
    // An older push finds it too, and moves nothing back.
    push("20151209133000", &[]).1.assert_succeeds();
    assert_eq!(job.taskcluster.index_entry(&latest).unwrap(), first);
}

#[test]
fn a_route_that_an_expired_entry_keeps_is_an_error() {
    let Some(job) = Job::ready("run-kept", HELLO) else { return };
    let newer = job.taskcluster.create_task(
        TaskSpec::default()
            .property("routes", json!([format!("index.{}", job.namespace("latest"))]))
            .property("extra", json!({ "index": { "rank": RANK + 1, "expires": "2001-01-01T00:00:00.000Z" } })),
    );
    job.taskcluster.resolve(&newer.task_id, 0, RunState::Completed);
    let finished = job.run();
    let words = ["latest is kept by an expired entry", &newer.task_id, "once a day", "rerun the task"];
    finished.assert_fails(31, &words);
    assert_eq!(
        job.routes().map(|route| job.taskcluster.index_entry(&route).unwrap()["taskId"] == json!(job.claim.task_id)),
        [false, true, true]
    );
    // As the message advises.
    job.taskcluster.purge();
    let rerun = job.taskcluster.rerun(&job.claim.task_id);
    let finished = program(["run"], job.environment_of(&rerun)).finish();
    finished.assert_succeeds();
    assert!(!finished.stderr.contains("build |"), "{}", finished.stderr);
    assert_eq!(job.taskcluster.index_entry(&job.namespace("latest")).unwrap()["taskId"], json!(job.claim.task_id));
}

#[test]
fn an_image_that_expires_too_early_is_built_again_and_no_reference_outlives_its_image() {
    let Some(job) = Job::ready("run-early", HELLO) else { return };
    let hours = |hours| std::time::Duration::from_hours(hours);
    let lives = |hours_| TaskSpec::expires_in(Job::spec(&job.name), hours(hours_));
    let push = |spec: TaskSpec| {
        let claim = job.taskcluster.create_task(spec);
        let finished = program(["run"], job.environment_of(&claim)).finish();
        finished.assert_succeeds();
        (claim, finished)
    };
    let (first, _) = push(lives(1));
    // Tasks that wait for the second task may start until its deadline, a day later: the image would be gone.
    let (second, finished) = push(lives(60));
    let reason = format!("points at task {}, whose artifact {ARTIFACT} is gone from ", first.task_id);
    assert!(finished.stderr.contains(&reason), "{}", finished.stderr);
    assert_eq!(job.taskcluster.index_entry(&job.routes()[2]).unwrap()["taskId"], json!(second.task_id));
    // The third one leads to it until that image expires, not until its own task does.
    let (third, finished) = push(lives(600));
    assert!(finished.stderr.contains("has this image already"), "{}", finished.stderr);
    let expires = |claim: &Claim| {
        let url =
            format!("{}/api/queue/v1/task/{}/artifact-info/{ARTIFACT}", job.taskcluster.root_url(), claim.task_id);
        let info: serde_json::Value = serde_json::from_slice(&download(&url)).unwrap();
        info["expires"].clone()
    };
    assert_eq!(expires(&third), expires(&second));
    assert_eq!(job.taskcluster.index_entry(&job.routes()[0]).unwrap()["expires"], expires(&second));
}

/// Consumers sign the first request, and then go where they are sent, without credentials.
#[test]
fn an_image_that_not_everybody_may_read_is_copied_for_those_who_wait_for_the_task() {
    if !engine() {
        return;
    }
    let everybody = Options::default();
    let nobody = everybody.anonymous_scopes.iter().filter(|scope| !scope.starts_with("queue:get-artifact:"));
    let closed = Options { anonymous_scopes: nobody.cloned().collect(), ..everybody.clone() };
    for (name, artifact, options) in [
        ("run-private", "private/image.tar", everybody.clone()),
        ("run-closed", ARTIFACT, closed.clone()),
        ("run-closed-object", ARTIFACT, Options { s3: false, ..closed }),
    ] {
        let repository = Repository::new(name, HELLO);
        let job = Job::on(StandIn::start(options), &repository);
        let scopes = [format!("index:insert-task:{}*", job.namespace("")), "queue:get-artifact:*".to_owned()];
        let push = |changes: &[(&str, &str)]| {
            let claim = job.taskcluster.create_task(TaskSpec::scopes(scopes.clone()));
            let mut environment = job.environment_of(&claim);
            environment.insert("ARTIFACT_NAME".to_owned(), artifact.to_owned());
            environment.insert("IMAGE_WORKER_TRIES".to_owned(), "2".to_owned());
            environment.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
            let finished = program(["run"], environment).finish();
            finished.assert_succeeds();
            (claim, finished)
        };
        let (first, _) = push(&[]);
        let (second, finished) = push(&[("PUSHDATE", "20151210000000")]);
        assert!(!finished.stderr.contains("build |"), "{}", finished.stderr);
        assert!(finished.stderr.contains("of this task is a copy of that of"), "{}", finished.stderr);
        let url =
            format!("{}/api/queue/v1/task/{}/artifacts/{artifact}", job.taskcluster.proxy_url(&second), second.task_id);
        let image = job.taskcluster.artifact_bytes(&first.task_id, 0, artifact).unwrap();
        assert!(download(&url) == image, "{url} does not lead to the image");
        let latest = job.taskcluster.index_entry(&job.namespace("latest")).unwrap();
        assert_eq!((&latest["taskId"], &latest["rank"]), (&json!(first.task_id), &json!(1_449_705_600)));

        // A copy is compared with the index: of wrong bytes none is made.
        let stored = job.taskcluster.artifact_path(&first.task_id, 0, artifact).unwrap();
        let mut bytes = std::fs::read(&stored).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&stored, bytes).unwrap();
        let (third, finished) = push(&[]);
        assert!(finished.stderr.contains("and the index says"), "{}", finished.stderr);
        let hash = job.taskcluster.index_entry(&job.routes()[2]).unwrap();
        assert_eq!(hash["taskId"], json!(third.task_id), "it was built again");
    }
}

/// Killed after the artifact was created: neither can it be created again, nor its upload be gone on with.
#[test]
fn an_object_of_an_earlier_start_is_reported_before_anything_is_built() {
    let Some(job) = Job::ready("run-object-left", HELLO) else { return };
    let object = [("ARTIFACT_STORAGE", "object"), ("IMAGE_WORKER_TRIES", "1")];
    job.taskcluster.fault(Fault::status("createUpload", 403).path("image.tar"));
    job.run_with(object).assert_fails(31, &["object.createUpload"]);
    job.taskcluster.clear_calls();
    for changes in [&object[..], &[]] {
        let finished = job.run_with(changes.iter().copied());
        let words = ["an earlier start of", &job.claim.task_id, ARTIFACT, "object service", "rerun the task"];
        finished.assert_fails(30, &words);
        assert!(!finished.stderr.contains("build |"), "{}", finished.stderr);
        assert!(job.call_names().iter().all(|call| INITIAL_CALLS.contains(&call.as_str())));
    }
    let rerun = job.taskcluster.rerun(&job.claim.task_id);
    program(["run"], job.environment_of(&rerun)).finish().assert_succeeds();
}

#[test]
fn a_cancelled_task_goes_on_and_indexes_nothing() {
    let Some(job) = Job::ready("run-cancelled", HELLO) else { return };
    // The worker learns of it up to 17 minutes later, and the queue takes artifacts meanwhile.
    job.taskcluster.cancel(&job.claim.task_id);
    let finished = job.run();
    finished.assert_fails(31, &[&job.claim.task_id, "exception, canceled", "nothing was indexed", "rerun the task"]);
    assert!(job.routes().iter().all(|route| job.taskcluster.index_entry(route).is_none()));
    job.assert_engine_is_clean();
    // The same with an image that another task has made: this one's push has no route to it.
    let other = job.taskcluster.create_task(Job::spec(&job.name));
    program(["run"], job.environment_of(&other)).finish().assert_succeeds();
    // A rerun takes it back.
    let rerun = job.taskcluster.rerun(&job.claim.task_id);
    program(["run"], job.environment_of(&rerun)).finish().assert_succeeds();
}

#[test]
fn the_image_of_a_task_that_failed_is_not_taken() {
    let Some(job) = Job::ready("run-failed-task", HELLO) else { return };
    job.run().assert_succeeds();
    job.taskcluster.resolve(&job.claim.task_id, 0, RunState::Failed);
    let claim = job.taskcluster.create_task(Job::spec(&job.name));
    let finished = program(["run"], job.environment_of(&claim)).finish();
    finished.assert_succeeds();
    let reason = format!("points at task {}, which is failed: what depends on it would never begin", job.claim.task_id);
    assert!(finished.stderr.contains(&reason), "{}", finished.stderr);
    assert_eq!(job.taskcluster.index_entry(&job.routes()[2]).unwrap()["taskId"], json!(claim.task_id));
}

/// Downloads with redirects followed, as any consumer does.
fn download(url: &str) -> Vec<u8> {
    let output = Command::new("curl").args(["--silent", "--show-error", "--fail", "--location", url]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn a_route_to_a_lost_artifact_is_not_believed() {
    let Some(job) = Job::ready("run-lost", HELLO) else { return };
    job.run().assert_succeeds();
    let stored = job.taskcluster.artifact_path(&job.claim.task_id, 0, ARTIFACT).unwrap();
    let claim = job.taskcluster.create_task(Job::spec(&job.name));
    job.taskcluster.fault(Fault::status("s3 GET", 404).path(&job.claim.task_id));
    let finished = program(["run"], job.environment_of(&claim)).finish();
    finished.assert_succeeds();
    assert!(finished.stderr.contains("is not there whole: going on"), "{}", finished.stderr);
    assert_eq!(job.taskcluster.index_entry(&job.routes()[2]).unwrap()["taskId"], json!(claim.task_id));
    assert!(stored.exists());
}

#[test]
fn an_older_push_does_not_move_the_routes_back() {
    let Some(job) = Job::ready("run-older", HELLO) else { return };
    job.run_with([("PUSHDATE", "20251209123456")]).assert_succeeds();
    let older = job.taskcluster.create_task(Job::spec(&job.name));
    let finished = program(["run", "--force"], job.environment_of(&older)).finish();
    finished.assert_succeeds();
    assert!(finished.stderr.contains("latest stays with task"), "{}", finished.stderr);
    let latest = job.taskcluster.index_entry(&job.namespace("latest")).unwrap();
    assert_eq!(latest["taskId"], json!(job.claim.task_id));
}

#[test]
fn a_wrong_hash_builds_nothing_and_publishes_nothing() {
    if !engine() {
        return;
    }
    let repository = Repository::new("run-wrong-hash", HELLO);
    let mut job = Job::new(&repository);
    let actual = std::mem::replace(&mut job.hash, "0123456789abcdef".repeat(4));
    let finished = job.run();
    finished.assert_fails(10, &[&actual, &job.hash, "scheme `tar`", "public/docker-contexts/run-wrong-hash.tar.gz"]);
    assert!(!finished.stderr.contains("build |"), "{}", finished.stderr);
    job.assert_nothing_published();
    job.assert_engine_is_clean();
    assert_eq!(job.call_names()[4..], ["findTasksAtIndex", "getLatestArtifact", "s3 GET"]);

    // The hash of the other scheme: the message names the setting that is wrong.
    job.hash = repository.hash(HashScheme::Contents);
    job.run().assert_fails(10, &["contents"]);
}

#[test]
fn a_failing_step_is_logged_with_its_output() {
    if !engine() {
        return;
    }
    let steps = "RUN echo first-words; echo last-words >&2; exit 3\nRUN echo never\n";
    let job = Job::new(&Repository::new("run-failing-step", steps));
    let finished = job.run();
    // BuildKit counts what it does.
    let step = if Builder::chosen() == Builder::BuildKit { "step 2/3, RUN echo" } else { "step 5/6, RUN echo" };
    finished.assert_fails(20, &[step, "exit code 3", "last-words", "fix the Dockerfile"]);
    for line in ["build | first-words\n", "build | last-words\n", "    | first-words\n", "    | last-words\n"] {
        assert!(finished.stderr.contains(line), "{line:?} is not in:\n{}", finished.stderr);
    }
    job.assert_nothing_published();
    job.assert_engine_is_clean();
    let log = job.taskcluster.artifact_bytes(&job.claim.task_id, 0, LOG).expect("the log of a failed build");
    let log = String::from_utf8(log).unwrap();
    assert!(
        log.starts_with(&first_step(6)) && log.contains("\nfirst-words\n") && log.contains("\nlast-words\n"),
        "{log}"
    );
}

#[test]
fn a_chatty_step_is_logged_in_part_and_kept_whole() {
    if !engine() {
        return;
    }
    let chat =
        "i=0; while [ $i -lt 60000 ]; do echo line-$i-of-a-very-chatty-step-that-says-too-much; i=$((i+1)); done";
    let job = Job::new(&Repository::new("run-chatty", &format!("RUN {chat}\n")));
    let finished = job.run();
    finished.assert_succeeds();
    assert!(finished.stderr.len() < 1024 * 1024, "{} bytes of log", finished.stderr.len());
    if Builder::chosen() == Builder::BuildKit {
        // It leaves out by itself what comes faster than 200 KiB in a second: docs/engines.md.
        assert!(finished.stderr.contains("build | [output clipped, log limit "), "{}", finished.stderr);
        return;
    }
    let elided = finished.stderr.lines().find(|line| line.contains("are left out here")).expect("a line about it");
    assert!(elided.contains(LOG), "{elided}");
    assert!(finished.stderr.contains("build | line-59999-of"), "the end of the step is logged");
    let log = job.taskcluster.artifact_bytes(&job.claim.task_id, 0, LOG).unwrap();
    assert_eq!(String::from_utf8(log).unwrap().lines().filter(|line| line.starts_with("line-")).count(), 60_000);
}

#[test]
fn secret_build_arguments_are_never_printed() {
    if !engine() {
        return;
    }
    let steps = "ARG DEPLOY_TOKEN\nRUN echo \"the token is $DEPLOY_TOKEN\"\nRUN echo \"$DEPLOY_TOKEN\" >&2; exit 1\n";
    let job = Job::new(&Repository::new("run-secret-args", steps));
    let finished = job.run_with([("DOCKER_BUILD_ARGS", r#"{"DEPLOY_TOKEN": "hunter2-hunter2"}"#)]);
    finished.assert_fails(20, &["exit code 1", "[hidden]"]);
    assert!(finished.stderr.contains("build | the token is [hidden]\n"), "{}", finished.stderr);
    assert!(!finished.stderr.contains("hunter2"), "{}", finished.stderr);
    let log = job.taskcluster.artifact_bytes(&job.claim.task_id, 0, LOG).unwrap();
    assert!(!String::from_utf8(log).unwrap().contains("hunter2"));
}

#[test]
fn a_dockerfile_that_cannot_be_read_is_its_authors_fault() {
    if !engine() {
        return;
    }
    let job = Job::new(&Repository::bare("run-nonsense", "FROM scratch\nNONSENSE here\n"));
    // Podman reads an instruction when it comes to it.
    let place = if Builder::is_podman() { "step 2/2, NONSENSE here, failed" } else { "the build did not begin" };
    job.run().assert_fails(20, &[place, "NONSENSE", "fix the Dockerfile"]);
    job.assert_nothing_published();
}

#[test]
fn a_missing_engine_names_each_place() {
    let job = Job::new(&Repository::bare("run-no-engine", "FROM scratch\n"));
    let finished = job.run_with([("DOCKER_HOST", "unix:///nonexistent/docker.sock")]);
    finished.assert_fails(30, &["no engine answers", "unix:///nonexistent/docker.sock (no such socket)"]);
    let finished = job.run_with([("DOCKER_HOST", "tcp://127.0.0.1:1")]);
    finished.assert_fails(30, &["tcp://127.0.0.1:1", "refused"]);
    job.assert_nothing_published();
}

#[test]
fn a_missing_scope_is_named_and_refused() {
    let Some(job) = Job::ready("run-no-scope", HELLO) else { return };
    let claim = job.taskcluster.create_task(TaskSpec::default());
    let finished = program(["run"], job.environment_of(&claim)).finish();
    let scope = format!("index:insert-task:{}", job.routes()[0]);
    finished.assert_fails(31, &["index.insertTask", &scope, "worker-config/scopes.yml"]);
    assert!(!finished.stderr.contains("build |"), "it is known before the build: {}", finished.stderr);
    assert!(job.routes().iter().all(|route| job.taskcluster.index_entry(route).is_none()));
    assert_engine_is_clean(&job.name);
}

#[test]
fn transient_failures_are_retried_and_logged() {
    let Some(job) = Job::ready("run-trouble", HELLO) else { return };
    let faults = [
        Fault::status("findTask", 503),
        Fault::status("s3 GET", 503).path("docker-contexts"),
        Fault::drop("createArtifact").path("image.tar"),
        Fault::status("s3 PUT", 500).path("image.tar"),
        Fault::reply_lost("insertTask"),
    ];
    for fault in faults {
        job.taskcluster.fault(fault);
    }
    let finished = job.run();
    assert_published(&job, &finished);
    for call in
        ["index.findTask", "the download of the context", "queue.createArtifact", "the upload", "index.insertTask"]
    {
        let line = format!("{call} failed, trying again in");
        assert!(finished.stderr.contains(&line), "{line:?} is not in:\n{}", finished.stderr);
    }
}

#[test]
fn a_cut_download_goes_on_where_it_was_cut() {
    let Some(job) = Job::ready("run-cut", HELLO) else { return };
    // Twice: the rest is cut too. busybox alone makes the context a megabyte.
    job.taskcluster.fault(Fault::cut_body("s3 GET", 300_000).path("docker-contexts").times(2));
    let finished = job.run();
    assert_published(&job, &finished);
    assert!(finished.stderr.contains("going on from there"), "{}", finished.stderr);
    let downloads: Vec<_> =
        job.taskcluster.calls().into_iter().filter(|call| call.path.contains("docker-contexts")).collect();
    let statuses: Vec<_> = downloads.iter().filter(|call| call.name == "s3 GET").map(|call| call.status).collect();
    assert_eq!(statuses, [Some(200), Some(206), Some(206)]);
}

#[test]
fn wrong_bytes_are_noticed_although_the_transfer_succeeds() {
    let Some(job) = Job::ready("run-wrong-bytes", HELLO) else { return };
    job.taskcluster.fault(Fault::wrong_bytes("s3 GET").path("docker-contexts"));
    let finished = job.run();
    finished.assert_fails(10, &["public/docker-contexts/run-wrong-bytes.tar.gz"]);
    job.assert_nothing_published();
}

#[test]
fn an_entry_that_is_not_there_after_all_is_inserted_again() {
    let Some(job) = Job::ready("run-lost-race", HELLO) else { return };
    // The index answers 200 and keeps nothing, as when a task with a lower rank wins the race.
    let task = &job.claim.task_id;
    let answer =
        json!({ "namespace": "x", "taskId": task, "rank": RANK, "data": {}, "expires": "2030-01-01T00:00:00Z" });
    job.taskcluster.fault(Fault::status("insertTask", 200).body(&answer.to_string()));
    let finished = job.run();
    assert_published(&job, &finished);
    assert!(finished.stderr.contains("is not there after it was inserted: inserting again"), "{}", finished.stderr);

    // Never, and the program does not claim that it is there.
    let claim = job.taskcluster.create_task(Job::spec(&job.name));
    let later = [("PUSHDATE".to_owned(), "20251209123456".to_owned())];
    job.taskcluster.fault(Fault::status("insertTask", 200).body(&answer.to_string()).times(3));
    let finished = program(["run", "--force"], job.environment_of(&claim).into_iter().chain(later)).finish();
    finished.assert_fails(30, &["latest does not keep its entry", "run the task again"]);
}

#[test]
fn an_upload_that_did_not_arrive_is_not_indexed() {
    let Some(job) = Job::ready("run-no-upload", HELLO) else { return };
    job.taskcluster.fault(Fault::status("s3 PUT", 200).path("image.tar"));
    let finished = job.run_with([("IMAGE_WORKER_TRIES", "2")]);
    finished.assert_fails(30, &["was uploaded, and is not there", "nothing was indexed"]);
    assert!(job.routes().iter().all(|route| job.taskcluster.index_entry(route).is_none()));
}

#[test]
fn an_object_that_is_shown_late_is_waited_for() {
    let Some(job) = Job::ready("run-late", HELLO) else { return };
    for name in ["image.tar", "provenance.json"] {
        job.taskcluster.fault(Fault::status("s3 GET", 404).path(name).times(2));
    }
    let finished = job.run();
    assert_published(&job, &finished);
    assert_eq!(finished.stderr.matches("reading back failed, trying again").count(), 4, "{}", finished.stderr);
}

#[test]
fn wrong_bytes_that_arrive_are_sent_again() {
    let Some(job) = Job::ready("run-wrong-arrival", HELLO) else { return };
    let names = ["image.tar", "provenance.json", "build.log"];
    for name in names {
        job.taskcluster.fault(Fault::wrong_arrival("s3 PUT").path(name));
    }
    let finished = job.run();
    let calls = job.taskcluster.calls();
    assert_published(&job, &finished);
    for name in names {
        let puts: Vec<_> = calls.iter().filter(|call| call.name == "s3 PUT" && call.path.contains(name)).collect();
        assert_eq!(puts.iter().map(|call| call.status).collect::<Vec<_>>(), [Some(400), Some(200)], "{name}");
        assert!(puts.iter().all(|call| call.request["contentMd5"].is_string()), "{name}");
    }
}

/// The MD5 of a large file is computed while it is sent: the storage has nothing to compare the first time.
#[test]
fn wrong_bytes_of_a_large_image_are_found_and_sent_again() {
    if !engine() {
        return;
    }
    let steps = format!("RUN dd if=/dev/urandom of=/bytes bs=1M count=9\n{HELLO}");
    let repository = Repository::new("run-wrong-large", &steps);
    for (fault, exit_code) in [(Fault::wrong_arrival("s3 PUT"), 0), (Fault::wrong_store("s3 PUT").times(2), 30)] {
        let job = Job::new(&repository);
        job.taskcluster.fault(fault.path("image.tar"));
        let finished = job.run();
        let calls = job.taskcluster.calls();
        let puts: Vec<_> =
            calls.iter().filter(|call| call.name == "s3 PUT" && call.path.contains("image.tar")).collect();
        let compared: Vec<_> = puts.iter().map(|call| call.request["contentMd5"].is_string()).collect();
        assert_eq!(compared, [false, true]);
        assert_eq!(finished.stderr.matches("sending it again").count(), 1, "{}", finished.stderr);
        if exit_code == 0 {
            assert_published(&job, &finished);
        } else {
            finished.assert_fails(exit_code, &["image.tar", "reads back with sha256", "nothing was indexed"]);
            assert!(job.routes().iter().all(|route| job.taskcluster.index_entry(route).is_none()));
        }
    }
}

/// The storage answers 200, and has other bytes, of the same length.
#[test]
fn wrong_bytes_that_are_stored_are_not_indexed() {
    if !engine() {
        return;
    }
    let repository = Repository::new("run-wrong-store", HELLO);
    for (name, storage, encrypted_buckets) in [
        ("image.tar", "s3", false),
        ("provenance.json", "s3", false),
        ("image.tar", "s3", true),
        ("image.tar", "object", false),
    ] {
        let job = Job::on(StandIn::start(Options { encrypted_buckets, ..Options::default() }), &repository);
        job.taskcluster.fault(Fault::wrong_store("s3 PUT").path(name));
        let finished = job.run_with([("ARTIFACT_STORAGE", storage)]);
        finished.assert_fails(30, &[name, "reads back with sha256", "nothing was indexed"]);
        assert!(job.routes().iter().all(|route| job.taskcluster.index_entry(route).is_none()));
        let rerun = job.taskcluster.rerun(&job.claim.task_id);
        program(["run"], job.environment_of(&rerun)).finish().assert_succeeds();
    }
}

/// What has an `ETag` that is no MD5, or none, is read back whole.
#[test]
fn a_storage_with_other_etags_is_read_back_whole() {
    if !engine() {
        return;
    }
    let repository = Repository::new("run-etags", HELLO);
    let job = Job::on(StandIn::start(Options { encrypted_buckets: true, ..Options::default() }), &repository);
    let finished = job.run();
    let gets =
        job.taskcluster.calls().iter().filter(|call| call.name == "s3 GET" && call.path.contains("image.tar")).count();
    assert_published(&job, &finished);
    assert_eq!(gets, 2, "a look, and all of it");
    let job = Job::on(StandIn::start(Options::default()), &repository);
    job.taskcluster.fault(Fault::gzipped("s3 GET").path("image.tar").times(u32::MAX));
    job.run().assert_succeeds();
    // Such an image is there, too, for the next task.
    let next = job.taskcluster.create_task(Job::spec(&job.name));
    let finished = program(["run"], job.environment_of(&next)).finish();
    finished.assert_succeeds();
    assert!(finished.stderr.contains("has this image already"), "{}", finished.stderr);
}

#[test]
fn a_context_that_is_gone_or_unsafe_is_refused() {
    let Some(job) = Job::ready("run-gone", HELLO) else { return };
    let finished = job.run_with([("CONTEXT_PATH", "public/docker-contexts/nosuch.tar.gz")]);
    finished.assert_fails(10, &["the context is not there", "public/docker-contexts/nosuch.tar.gz", "decision task"]);

    let mut context = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.as_mut_bytes()[..9].copy_from_slice(b"../escape");
    header.set_cksum();
    context.append(&header, std::io::empty()).unwrap();
    let context = context.into_inner().unwrap();
    let task = job.taskcluster.create_task(TaskSpec::default()).task_id;
    job.taskcluster.put_artifact(&task, 0, "public/evil.tar", "application/x-tar", None, &context);
    let finished = job.run_with([("CONTEXT_TASK_ID", task.as_str()), ("CONTEXT_PATH", "public/evil.tar")]);
    finished.assert_fails(10, &["../escape", "public/evil.tar"]);
    job.assert_nothing_published();
}

#[test]
fn a_context_that_was_compressed_for_the_transfer() {
    if !engine() {
        return;
    }
    let repository = Repository::new("run-encoded", HELLO);
    let job = Job::new(&repository);
    let mut gzip =
        flate2::read::GzEncoder::new(std::io::Cursor::new(repository.context().0), flate2::Compression::fast());
    let mut twice = Vec::new();
    gzip.read_to_end(&mut twice).unwrap();
    let task = job.taskcluster.create_task(TaskSpec::default()).task_id;
    let name = "public/context.tar.gz";
    job.taskcluster.put_artifact(&task, 0, name, "application/gzip", Some("gzip"), &twice);
    job.run_with([("CONTEXT_TASK_ID", task.as_str()), ("CONTEXT_PATH", name)]).assert_succeeds();
}

#[test]
fn the_tasks_limit_stops_the_build_in_time() {
    let seconds = &long_sleep(1);
    let Some(job) = Job::ready("run-limit", &format!("RUN sleep {seconds}\n")) else { return };
    let finished = job.run_with([("MAX_RUN_TIME", "5")]);
    finished.assert_fails(32, &["MAX_RUN_TIME is nearly over", "while building", "longer maxRunTime"]);
    if Builder::is_podman() {
        // On a busy machine the build has not come to it.
        let _ = end_podmans_command(seconds);
    }
    job.assert_nothing_published();
    job.assert_engine_is_clean();
}

#[test]
fn an_expiry_after_the_tasks_own_costs_no_build() {
    let Some(job) = Job::ready("run-expires", HELLO) else { return };
    let finished = job.run_with([("ARTIFACT_EXPIRES", "2100-01-01T00:00:00Z")]);
    finished.assert_fails(2, &["ARTIFACT_EXPIRES is 2100-01-01T00:00:00Z", "after the task itself expires"]);
    // They are made at once: which of them have arrived when the task's answer ends it is a matter of moments.
    assert!(job.call_names().iter().all(|call| INITIAL_CALLS.contains(&call.as_str())));
}

#[test]
fn a_signal_stops_the_build_and_leaves_nothing() {
    let seconds = &long_sleep(0);
    let steps = format!("RUN echo made > /made\nRUN sleep {seconds}\n");
    let Some(job) = Job::ready("run-stopped", &steps) else { return };
    let started = || docker(&["ps", "--no-trunc", "--quiet", "--filter", "status=running"]);
    let is_ours = |id: &str| {
        let inspected = docker(&["inspect", "--format", "{{.Args}} {{.Config.Env}}", id]);
        let text = String::from_utf8_lossy(&inspected.stdout).into_owned();
        text.contains(seconds) && text.contains("TEST=run-stopped")
    };
    let runs = || {
        match Builder::chosen() {
            Builder::Docker => String::from_utf8_lossy(&started().stdout).lines().any(is_ours),
            // These have steps in containers that no list has.
            Builder::BuildKit => {
                Command::new("pgrep").args(["-f", &format!("sleep {seconds}")]).output().unwrap().status.success()
            }
            Builder::Podman => !podmans_commands(seconds).is_empty(),
        }
    };
    for (signal, code, word) in [("TERM", 143, "SIGTERM"), ("INT", 130, "SIGINT")] {
        let finished = program(["run"], job.environment()).finish_with(|id| {
            // The condition is what we wait for; the limit only ends a test that has failed.
            let limit = std::time::Instant::now() + std::time::Duration::from_mins(2);
            while !runs() {
                assert!(std::time::Instant::now() < limit, "the step does not start");
                std::thread::yield_now();
            }
            let kill = Command::new("kill").args([&format!("-{signal}"), &id.to_string()]).status().unwrap();
            assert!(kill.success());
        });
        finished.assert_fails(code, &[word, "while building"]);
        job.assert_nothing_published();
        if Builder::is_podman() {
            assert!(end_podmans_command(seconds), "Podman ends it by itself now: change docs/engines.md");
        }
        // The engine removes the container of a cancelled step by itself, a moment later.
        let limit = std::time::Instant::now() + std::time::Duration::from_mins(1);
        while runs() {
            assert!(std::time::Instant::now() < limit, "the step goes on");
            std::thread::yield_now();
        }
        job.assert_engine_is_clean();
    }
}
