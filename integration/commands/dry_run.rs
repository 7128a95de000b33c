//! The dry run: the whole job on a laptop, without a deployment; and what is refused before anything begins.

use std::collections::BTreeMap;
use std::path::Path;

use image_worker::context::HashScheme;
use image_worker::net::Digest;
use serde_json::{Value, json};
use stand_in::TaskSpec;

use crate::harness::{
    Builder, Finished, Job, PROJECT, PUSHDATE, RANK, Repository, container_output, docker_output, engine, path, program,
};

const STEPS: &str = "RUN echo hello > /greeting\nCMD [\"/bin/busybox\", \"cat\", \"/greeting\"]\n";

fn dry_run(repository: &Repository, context: &str, more: &[(&str, &str)]) -> Finished {
    let output = repository.root.path().join("out");
    let arguments = ["run", "--dry-run", "--context", context, "--output", path(&output)];
    let environment = [("IMAGE_NAME", repository.name.as_str()), ("PROJECT", PROJECT)];
    let environment = environment.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    program(arguments, environment).finish()
}

/// What a dry run wrote: its publish.json, and the archive's bytes.
fn written(repository: &Repository) -> (Value, Vec<u8>) {
    let output = repository.root.path().join("out");
    let mut names: Vec<_> = std::fs::read_dir(&output).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let own = [".gitignore", "build.log", "image.tar", "publish.json"];
    let mut expected = [&own, &Builder::documents()[..]].concat();
    expected.sort_unstable();
    assert_eq!(names, expected, "nothing else is left");
    let publish = std::fs::read_to_string(output.join("publish.json")).unwrap();
    (serde_json::from_str(&publish).unwrap(), std::fs::read(output.join("image.tar")).unwrap())
}

#[test]
fn a_directory_a_file_and_a_url_give_the_same_image() {
    if !engine() {
        return;
    }
    let repository = Repository::new("dry-run", STEPS);
    let (context, hash) = repository.context();
    let file = repository.root.path().join("context.tar.gz");
    let job = Job::new(&repository);
    let task = job.taskcluster.create_task(TaskSpec::default()).task_id;
    job.taskcluster.put_artifact(&task, 0, "public/context.tar.gz", "application/gzip", None, &context);
    let url = format!("{}/api/queue/v1/task/{task}/artifacts/public/context.tar.gz", job.taskcluster.root_url());
    job.taskcluster.clear_calls();
    let directory = repository.directory();
    for context in [path(&directory), path(&file), url.as_str()] {
        let finished = dry_run(&repository, context, &[]);
        finished.assert_succeeds();
        assert_eq!(finished.stdout.trim(), format!("dry-run:{hash}"), "from {context}");
        assert!(finished.stderr.contains("no HASH to compare with"), "{}", finished.stderr);
        written(&repository);
        job.assert_engine_is_clean();
    }
    assert_eq!(job.call_names(), ["getLatestArtifact", "s3 GET"], "only the URL was read, nothing was published");
    let archive = repository.root.path().join("out/image.tar");
    docker_output(&["load", "--input", path(&archive)]);
    let tag = format!("dry-run:{hash}");
    assert_eq!(container_output(&[&tag]), "hello");
    docker_output(&["rmi", "--force", &tag]);
}

/// An engine may keep layers compressed; in the archive they are not.
#[test]
fn the_logged_size_is_that_of_plain_layers() {
    if !engine() {
        return;
    }
    let zeros = 30 * 1024 * 1024;
    let repository = Repository::new("dry-size", &format!("RUN head -c {zeros} /dev/zero > /zeros\n"));
    let finished = dry_run(&repository, path(&repository.directory()), &[("EXPORT", "engine")]);
    finished.assert_succeeds();
    let size = finished.stderr.split_once("exporting the image, about ").and_then(|(_, size)| size.split_once(" MiB"));
    let size: f64 = size.unwrap_or_else(|| panic!("{}", finished.stderr)).0.parse().unwrap();
    // Busybox is in it too.
    assert!((30.0..40.0).contains(&size), "{size} MiB");
}

#[test]
fn a_context_archive_whose_own_default_is_the_parent_gets_a_warning() {
    if !engine() {
        return;
    }
    let dockerfile =
        "ARG DOCKER_IMAGE_PARENT=scratch\nFROM $DOCKER_IMAGE_PARENT\nENV TEST=dry-packed\nCOPY Dockerfile /\n";
    // `scratch` is no image; what an engine would have to pull fails, with a warning before.
    for (default, code) in [("scratch", 0), ("127.0.0.1:1/nothing:1", 30)] {
        let repository =
            Repository::bare("dry-packed", &dockerfile.replace("PARENT=scratch", &format!("PARENT={default}")));
        repository.context();
        let file = repository.root.path().join("context.tar.gz");
        let finished = dry_run(&repository, path(&file), &[]);
        assert_eq!(finished.code == 0, code == 0, "{}", finished.stderr);
        let warning = format!("is its own default, {default}: DOCKER_IMAGE_PARENT is not given");
        assert_eq!(finished.stderr.contains(&warning), default != "scratch", "{}", finished.stderr);
        assert_eq!(finished.stderr.contains("PARENT_TASK_ID"), default != "scratch");
        let given = ("DOCKER_BUILD_ARGS", r#"{"DOCKER_IMAGE_PARENT":"scratch"}"#);
        let finished = dry_run(&repository, path(&file), &[given]);
        finished.assert_succeeds();
        assert!(!finished.stderr.contains("own default"), "{}", finished.stderr);
    }
    crate::harness::assert_engine_is_clean("dry-packed");
}

#[test]
fn images_that_were_there_before_keep_their_names_and_stay() {
    if !engine() {
        return;
    }
    let repository = Repository::new("dry-before", STEPS);
    let tag = format!("dry-before:{}", repository.hash(HashScheme::Tar));
    dry_run(&repository, path(&repository.directory()), &[]).assert_succeeds();
    docker_output(&["load", "--input", path(&repository.root.path().join("out/image.tar"))]);
    let id = docker_output(&["images", "--quiet", &tag]);
    dry_run(&repository, path(&repository.directory()), &[]).assert_succeeds();
    assert_eq!(docker_output(&["images", "--quiet", &tag]), id, "the name is untouched");

    // What a command prints is not the engine's message.
    let liar = Repository::new("dry-liar", &format!("RUN echo ' ---> {id}'; exit 1\n"));
    dry_run(&liar, path(&liar.directory()), &[]).assert_fails(20, &["exit code 1"]);
    assert_eq!(docker_output(&["images", "--quiet", &tag]), id);
    docker_output(&["rmi", "--force", &tag]);
    crate::harness::assert_engine_is_clean("dry-before");
}

#[test]
fn publish_json_is_what_a_task_would_send() {
    if !engine() {
        return;
    }
    let repository = Repository::new("dry-publish", STEPS);
    let hash = repository.hash(HashScheme::Tar);
    let task = "fN1SbArXTPSVFNUvaOlinQ";
    let expires = "2030-01-02T03:04:05.600Z";
    let environment = [("TASK_ID", task), ("RUN_ID", "2"), ("PUSHDATE", PUSHDATE), ("ARTIFACT_EXPIRES", expires)];
    let finished = dry_run(&repository, path(&repository.directory()), &environment);
    finished.assert_succeeds();
    let (publish, archive) = written(&repository);
    let document = |name: &str| {
        let content_type = match name {
            "provenance.json" => "application/vnd.in-toto+json",
            "report.html" => "text/html; charset=utf-8",
            _ => "application/json",
        };
        let file = repository.root.path().join("out").join(name);
        json!({
            "name": format!("public/image-build/{name}"),
            "payload": {
                "storageType": "s3",
                "expires": expires,
                "contentType": content_type,
                "contentLength": file.metadata().unwrap().len(),
            },
        })
    };
    let insert = |tail: &str| {
        json!({
            "namespace": format!("docker.images.v1.{PROJECT}.dry-publish.{tail}"),
            "payload": {
                "taskId": task,
                "rank": RANK,
                "expires": expires,
                "data": {
                    "artifact": "public/image.tar",
                    "sha256": Digest::of(&archive).to_string(),
                    "size": archive.len(),
                    "imageId": publish["insertTask"][0]["payload"]["data"]["imageId"],
                    "contextHash": hash,
                    "runId": 2,
                },
            },
        })
    };
    let expected = json!({
        "taskId": task,
        "runId": 2,
        "createArtifact": {
            "name": "public/image.tar",
            "payload": {
                "storageType": "s3",
                "expires": expires,
                "contentType": "application/x-tar",
                "contentLength": archive.len(),
            },
        },
        "createCompanions": Builder::documents().into_iter().map(document).collect::<Vec<_>>(),
        "insertTask": [insert("latest"), insert("pushdate.2015.12-09-123456"), insert(&format!("hash.{hash}"))],
    });
    assert_eq!(publish, expected);
    assert!(publish["insertTask"][0]["payload"]["data"]["imageId"].as_str().unwrap().starts_with("sha256:"));
}

#[test]
fn a_failing_dry_run_leaves_no_half_archive() {
    if !engine() {
        return;
    }
    let repository = Repository::new("dry-failing", "RUN exit 1\n");
    let output = repository.root.path().join("out");
    std::fs::create_dir(&output).unwrap();
    for name in ["image.tar", "publish.json", "layers.json", "provenance.json", "sbom.cdx.json"] {
        std::fs::write(output.join(name), "of an earlier run").unwrap();
    }
    dry_run(&repository, path(&repository.directory()), &[]).assert_fails(20, &["exit code 1"]);
    let left: Vec<_> = std::fs::read_dir(&output).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["build.log"], "not even the word about an earlier image");
}

#[test]
fn the_scheme_contents_works_with_a_directory() {
    if !engine() {
        return;
    }
    let repository = Repository::new("dry-contents", STEPS);
    let hash = repository.hash(HashScheme::Contents);
    let more = [("HASH_SCHEME", "contents"), ("HASH", hash.as_str())];
    let finished = dry_run(&repository, path(&repository.directory()), &more);
    finished.assert_succeeds();
    assert_eq!(finished.stdout.trim(), format!("dry-contents:{hash}"));
    assert!(finished.stderr.contains("(scheme contents), verified"), "{}", finished.stderr);
}

#[test]
fn json_answers_on_stdout_and_json_lines_on_stderr() {
    if !engine() {
        return;
    }
    let repository = Repository::new("dry-json", STEPS);
    let more = [("IMAGE_WORKER_JSON", "1"), ("IMAGE_WORKER_LOG_FORMAT", "json")];
    let finished = dry_run(&repository, path(&repository.directory()), &more);
    finished.assert_succeeds();
    let answer: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(answer["built"], json!(true));
    assert_eq!(answer["contextHash"], json!(repository.hash(HashScheme::Tar)));
    for line in finished.stderr.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "not JSON: {line}");
    }
}

/// Every one of these ends with exit code 2, before anything begins, and names its flag or variable.
#[test]
fn wrong_configuration_names_the_flag_or_variable() {
    let repository = Repository::bare("wrong", "FROM scratch\n");
    let good: BTreeMap<&str, &str> = BTreeMap::from([
        ("TASKCLUSTER_ROOT_URL", "http://127.0.0.1:1"),
        ("TASKCLUSTER_PROXY_URL", "http://127.0.0.1:1"),
        ("TASK_ID", "fN1SbArXTPSVFNUvaOlinQ"),
        ("RUN_ID", "0"),
        ("IMAGE_NAME", "wrong"),
        ("PROJECT", "try"),
        ("HASH", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("CONTEXT_TASK_ID", "fN1SbArXTPSVFNUvaOlinQ"),
        ("CONTEXT_PATH", "public/docker-contexts/wrong.tar.gz"),
        ("PUSHDATE", PUSHDATE),
    ]);
    let long = "x".repeat(230);
    // The variable that is changed, its value (empty: not set), and what the error line must have.
    let cases: &[(&str, &str, &[&str])] = &[
        ("TASKCLUSTER_ROOT_URL", "", &["TASKCLUSTER_ROOT_URL is not set"]),
        ("TASKCLUSTER_ROOT_URL", "ftp://secret@x", &["TASKCLUSTER_ROOT_URL: ", "http://HOST"]),
        ("TASKCLUSTER_PROXY_URL", "", &["TASKCLUSTER_PROXY_URL is not set", "TASKCLUSTER_CLIENT_ID"]),
        ("TASK_ID", "", &["TASK_ID is not set"]),
        ("TASK_ID", "nonsense", &["TASK_ID: \"nonsense\"", "slugid"]),
        ("RUN_ID", "", &["RUN_ID is not set"]),
        ("RUN_ID", "-1", &["RUN_ID: "]),
        ("IMAGE_NAME", "", &["IMAGE_NAME is not set"]),
        ("IMAGE_NAME", "a/b", &["IMAGE_NAME: \"a/b\""]),
        ("PROJECT", "", &["PROJECT is not set"]),
        ("PROJECT", "a b", &["PROJECT: \"a b\""]),
        ("PROJECT", &long, &["index namespace", "255"]),
        ("HASH", "", &["HASH is not set"]),
        ("HASH", "abc", &["HASH: \"abc\"", "64"]),
        ("HASH_SCHEME", "md5", &["HASH_SCHEME: \"md5\"", "tar, gz or contents"]),
        ("HASH_SCHEME", "contents", &["HASH_SCHEME=contents", "CONTEXT_PATH", "CONTEXT_URL"]),
        ("INDEX_HASH", "abc", &["INDEX_HASH: \"abc\""]),
        ("CONTEXT_TASK_ID", "", &["CONTEXT_TASK_ID is not set", "CONTEXT_URL"]),
        ("CONTEXT_PATH", "", &["CONTEXT_PATH is not set"]),
        ("CONTEXT_PATH", "../x", &["CONTEXT_PATH: \"../x\""]),
        ("CONTEXT_URL", "http://127.0.0.1:1/x", &["CONTEXT_TASK_ID and CONTEXT_URL are both set"]),
        ("IMAGE_WORKER_CONTEXT", "/", &["IMAGE_WORKER_CONTEXT is for --dry-run"]),
        ("PUSHDATE", "", &["PUSHDATE is not set"]),
        ("PUSHDATE", "1449664496000", &["PUSHDATE: \"1449664496000\"", "YYYYMMDDHHMMSS"]),
        ("INDEX", "docker", &["INDEX: \"docker\""]),
        ("DOCKER_BUILD_ARGS", "{\"a\": 1}", &["DOCKER_BUILD_ARGS: ", "JSON object of strings"]),
        ("PARENT_TASK_ID", "nonsense", &["PARENT_TASK_ID: \"nonsense\"", "slugid"]),
        ("ARTIFACT_NAME", "public/image.zip", &["ARTIFACT_NAME: ", ".tar.zst"]),
        ("ARTIFACT_EXPIRES", "tomorrow", &["ARTIFACT_EXPIRES: "]),
        ("ARTIFACT_EXPIRES", "2015-12-09T12:34:56Z", &["ARTIFACT_EXPIRES: ", "is past"]),
        ("ARTIFACT_STORAGE", "azure", &["ARTIFACT_STORAGE: ", "s3 or object"]),
        ("DOCKER_IMAGE_ZSTD_LEVEL", "22", &["DOCKER_IMAGE_ZSTD_LEVEL: ", "1 to 19"]),
        ("MAX_RUN_TIME", "an hour", &["MAX_RUN_TIME: "]),
        ("MAX_RUN_TIME", "0", &["MAX_RUN_TIME: "]),
        ("IMAGE_WORKER_ENGINE", "lxc", &["IMAGE_WORKER_ENGINE: ", "auto, docker, podman or managed"]),
        ("DOCKER_HOST", "ssh://me@example.com", &["DOCKER_HOST: ", "unix://PATH"]),
        ("IMAGE_WORKER_LOG_FORMAT", "xml", &["IMAGE_WORKER_LOG_FORMAT: ", "text or json"]),
        ("IMAGE_WORKER_FORCE", "maybe", &["IMAGE_WORKER_FORCE: "]),
        ("IMAGE_WORKER_CONFIG", "/nonexistent.toml", &["IMAGE_WORKER_CONFIG: cannot read /nonexistent.toml"]),
    ];
    for (variable, value, words) in cases {
        let mut environment = good.clone();
        environment.insert(variable, value);
        let environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let finished = program(["run"], environment).finish();
        assert_eq!(finished.code, 2, "{variable}={value:?}: {}", finished.stderr);
        finished.assert_fails(2, words);
    }
    let nowhere = dry_run(&repository, "/nonexistent", &[]);
    nowhere.assert_fails(2, &["--context: /nonexistent does not exist"]);
    let (directory, file) = (repository.directory(), repository.root.path().join("file"));
    std::fs::write(&file, "").unwrap();
    for output in [file.clone(), file.join("below")] {
        let to_file = ["run", "--dry-run", path(&directory), "--output", path(&output)];
        program(to_file, []).finish().assert_fails(2, &[path(&output), "is no directory", "--output"]);
    }
    program([], []).finish().assert_fails(2, &["wrong usage", "no subcommand", "--help"]);
    program(["run", "--nonsense"], []).finish().assert_fails(2, &["wrong usage", "--nonsense", "--help"]);
}

#[test]
fn a_configuration_file_gives_what_nobody_else_gave() {
    let repository = Repository::bare("wrong", "FROM scratch\n");
    let file = repository.root.path().join("image-worker.toml");
    std::fs::write(&file, "project = 'from-the-file'\nimage-name = 'Wrong'\n").unwrap();
    let environment = [("IMAGE_WORKER_CONFIG".to_owned(), path(&file).to_owned())];
    let finished =
        program(["run", "--dry-run", "--context", path(Path::new(&repository.directory()))], environment).finish();
    finished.assert_fails(2, &["image-worker.toml: image-name: \"Wrong\""]);
}
