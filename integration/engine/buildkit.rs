//! BuildKit, chosen by `--builder`: the same job with the same messages, stages in parallel, and what it leaves behind.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use stand_in::{Options, StandIn, TaskSpec};

use crate::harness::{
    Finished, Job, PROJECT, Repository, assert_engine_is_clean, docker_output, engine, long_sleep, path, program,
};

/// A dry run of an image by BuildKit.
fn dry_run(repository: &Repository, more: &[(&str, &str)]) -> Finished {
    let (output, directory) = (repository.root.path().join("out"), repository.directory());
    let arguments = ["run", "--dry-run", "--context", path(&directory), "--output", path(&output)];
    let environment =
        [("IMAGE_NAME", repository.name.as_str()), ("PROJECT", PROJECT), ("IMAGE_WORKER_BUILDER", "buildkit")];
    let environment = environment.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    program(arguments, environment).finish()
}

/// What a container of the image that a dry run wrote prints.
fn prints(repository: &Repository, finished: &Finished) -> String {
    finished.assert_succeeds();
    let tag = finished.stdout.trim();
    docker_output(&["load", "--input", path(&repository.root.path().join("out/image.tar"))]);
    let printed = docker_output(&["run", "--rm", "--network", "none", tag]);
    docker_output(&["rmi", "--force", tag]);
    printed
}

#[test]
fn stages_side_by_side_make_one_image() {
    if !engine() {
        return;
    }
    let stage = |name: &str| {
        format!("FROM base AS {name}\nRUN echo of {name} > /{name}\nRUN echo {name} says && cat /{name}\n")
    };
    let steps = format!(
        "RUN mkdir /tmp\nFROM scratch AS base\nENV TEST=buildkit-stages\nCOPY busybox /bin/busybox\n\
         SHELL [\"/bin/busybox\", \"sh\", \"-c\"]\n{}{}FROM base\nCOPY --from=left /left /\nCOPY --from=right /right /\n\
         CMD [\"/bin/busybox\", \"cat\", \"/left\", \"/right\"]\n",
        stage("left"),
        stage("right"),
    );
    let repository = Repository::new("buildkit-stages", &steps);
    let finished = dry_run(&repository, &[]);
    assert_eq!(prints(&repository, &finished), "of left\nof right");
    for line in [
        "build | [left] Step 2/2 : RUN echo left says && cat /left",
        "build | [left] left says",
        "build | [right] of right",
        "build | [stage-4] Step 2/2 : COPY --from=right /right /",
    ] {
        assert!(finished.stderr.lines().any(|logged| logged == line), "{line} is not in {}", finished.stderr);
    }
    assert!(!finished.stderr.contains("mkdir"), "the first stage is of no use to the image: {}", finished.stderr);
    assert_engine_is_clean("buildkit-stages");
}

#[test]
fn a_failing_step_is_logged_as_by_the_classic_builder() {
    if !engine() {
        return;
    }
    let repository = Repository::new("buildkit-fails", "RUN echo hello; echo almost; exit 7\n");
    let classic = dry_run(&repository, &[("IMAGE_WORKER_BUILDER", "classic")]);
    classic
        .assert_fails(20, &["RUN echo hello; echo almost; exit 7, failed with exit code 7", "its last line: almost"]);
    let finished = dry_run(&repository, &[]);
    let tail = |finished: &Finished| finished.error_line().split_once(", ").unwrap().1.to_owned();
    assert_eq!(tail(&finished), tail(&classic));
    assert!(finished.error_line().contains("build: step 2/2, RUN"), "{}", finished.error_line());
    assert!(finished.stderr.contains("the step's last lines:\n    | hello\n    | almost\n"), "{}", finished.stderr);
    assert_engine_is_clean("buildkit-fails");
}

#[test]
fn what_cannot_be_built_is_the_dockerfiles_fault() {
    if !engine() {
        return;
    }
    let assert_message = |dockerfile: &str, words: &[&str]| {
        let repository = Repository::bare("buildkit-faults", dockerfile);
        dry_run(&repository, &[]).assert_fails(20, words);
    };
    assert_message(
        "FROM scratch\nFOO bar\n",
        &["the build did not begin: dockerfile parse error line 2: unknown instruction: FOO"],
    );
    assert_message("FROM scratch\nCOPY nosuch /x\n", &["step 1/1, COPY nosuch /x, failed", "\"/nosuch\" not found"]);
    assert_message("FROM debian:12\nCOPY Dockerfile /x\nRUN --mount=type=bogus x\n", &["unsupported mount type"]);
    assert_engine_is_clean("buildkit-faults");
}

const SECRET: &str = "hunter2-of-the-build";

/// A file with the secret, and the variable that names it.
fn secret(repository: &Repository) -> String {
    let file = repository.root.path().join("token");
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    format!(r#"{{"token":{{"file":"{}"}}}}"#, path(&file))
}

/// All that a dry run wrote, the image and its layers among it.
fn written(repository: &Repository) -> String {
    let files = std::fs::read_dir(repository.root.path().join("out")).unwrap();
    let read = |file: std::io::Result<std::fs::DirEntry>| std::fs::read(file.unwrap().path()).unwrap();
    files.map(|file| String::from_utf8_lossy(&read(file)).into_owned()).collect()
}

#[test]
fn a_secret_is_in_the_step_that_mounts_it_and_nowhere_else() {
    if !engine() {
        return;
    }
    let steps = "RUN --mount=type=secret,id=token,required cat /run/secrets/token && wc -c < /run/secrets/token > /size\n\
                 RUN --mount=type=secret,id=none [ ! -e /run/secrets/none ] && [ ! -e /run/secrets/token ]\n\
                 CMD [\"/bin/busybox\", \"cat\", \"/size\"]\n";
    let repository = Repository::new("buildkit-secret", steps);
    let finished =
        dry_run(&repository, &[("DOCKER_BUILD_SECRETS", &secret(&repository)), ("IMAGE_WORKER_BUILDER", "auto")]);
    assert!(finished.stderr.contains("BuildKit builds it, because of RUN --mount"), "{}", finished.stderr);
    assert!(finished.stderr.contains("build | [hidden]"), "{}", finished.stderr);
    assert!(!finished.stderr.contains(SECRET) && !written(&repository).contains(SECRET), "{}", finished.stderr);
    assert_eq!(prints(&repository, &finished), (SECRET.len() + 1).to_string());

    let without = dry_run(&repository, &[]);
    let words = ["of the Dockerfile requires the secret token", "--secret id=token,src=FILE", "DOCKER_BUILD_SECRETS"];
    without.assert_fails(2, &words);
    assert!(!without.stderr.contains("build | "), "{}", without.stderr);
    let flag = format!("id=token,src={}", path(&repository.root.path().join("token")));
    let (output, directory) = (repository.root.path().join("out"), repository.directory());
    let arguments =
        ["run", "--dry-run", "--context", path(&directory), "--output", path(&output), "--project", PROJECT];
    let flags = ["--image-name", &repository.name, "--secret", &flag, "--secret", "id=none,src=/etc/hostname"];
    let finished = program(arguments.into_iter().chain(flags), []).finish();
    finished.assert_fails(20, &["RUN --mount=type=secret,id=none", "exit code 1"]);
    assert_engine_is_clean("buildkit-secret");
}

#[test]
fn secrets_that_cannot_be_read_are_refused_before_the_build() {
    if !engine() {
        return;
    }
    let repository = Repository::new("buildkit-refuses", "RUN true\n");
    let secret = secret(&repository);
    let refused = |variables: &[(&str, &str)], words: &[&str]| {
        let finished = dry_run(&repository, variables);
        finished.assert_fails(2, words);
        assert!(!finished.stderr.contains("build | "), "{}", finished.stderr);
    };
    refused(&[("DOCKER_BUILD_SECRETS", &secret), ("IMAGE_WORKER_BUILDER", "classic")], &["secrets need BuildKit"]);
    refused(
        &[("DOCKER_BUILD_SECRETS", r#"{"a":{"file":"/nonexistent"}}"#)],
        &["the secret a: cannot read /nonexistent"],
    );
    refused(
        &[("DOCKER_BUILD_SECRETS", r#"{"a":{"file":"/bin/busybox"}}"#)],
        &["the secret a, /bin/busybox, has more than"],
    );
    refused(&[("DOCKER_BUILD_SECRETS", r#"{"a":"b"}"#)], &["DOCKER_BUILD_SECRETS: is not a JSON object of"]);
    refused(
        &[("DOCKER_BUILD_SECRETS", r#"{"a":{"taskcluster":"b","key":"c"}}"#)],
        &["TASKCLUSTER_ROOT_URL is not set"],
    );
    refused(&[("IMAGE_WORKER_SHELL", "1")], &["--shell", "--builder buildkit"]);
    refused(&[("IMAGE_WORKER_BUILDER", "kaniko")], &["\"kaniko\" is not a builder"]);
}

#[test]
fn a_secret_can_be_taskclusters() {
    if !engine() {
        return;
    }
    let steps = "RUN --mount=type=secret,id=token,required [ \"$(cat /run/secrets/token)\" = hunter2-of-the-build ]\n";
    let repository = Repository::new("buildkit-taskcluster", steps);
    let taskcluster = StandIn::start(Options::default());
    taskcluster.put_secret("project/images/npm", json!({ "token": SECRET, "number": 1 }));
    let mut job = Job::on(taskcluster, &repository);
    let secrets = |key: &str| format!(r#"{{"token":{{"taskcluster":"project/images/npm","key":"{key}"}}}}"#);
    job.run_with([("DOCKER_BUILD_SECRETS", secrets("token").as_str())])
        .assert_fails(31, &["secrets:get:project/images/npm", "worker-config/scopes.yml"]);
    job.assert_nothing_published();

    let index = format!("index:insert-task:docker.images.v1.{PROJECT}.{}.*", job.name);
    let scopes = [index, "secrets:get:project/images/npm".to_owned()];
    job.claim = job.taskcluster.create_task(TaskSpec::scopes(scopes));
    for key in ["nosuch", "number"] {
        let finished = job.run_with([("DOCKER_BUILD_SECRETS", secrets(key).as_str())]);
        finished.assert_fails(31, &[&format!("it has no text under {key}")]);
    }
    let finished = job.run_with([("DOCKER_BUILD_SECRETS", secrets("token").as_str())]);
    finished.assert_succeeds();
    assert!(!finished.stderr.contains(SECRET), "{}", finished.stderr);
    assert!(finished.stderr.contains("the secret token: token of Taskcluster's secret project/images/npm"));
    job.assert_engine_is_clean();
}

#[test]
fn a_dockerfile_for_another_builder_is_refused_with_a_hint() {
    if !engine() {
        return;
    }
    let mount = Repository::new("buildkit-wrong", "RUN --mount=type=cache,target=/cache true\n");
    let classic = dry_run(&mount, &[("IMAGE_WORKER_BUILDER", "classic")]);
    classic.assert_fails(20, &["the build did not begin: RUN --mount needs BuildKit; use --builder buildkit"]);
    let syntax =
        Repository::bare("buildkit-wrong", "# syntax=127.0.0.1:9/docker/dockerfile:1.4\nFROM scratch\nCOPY a /\n");
    let finished = dry_run(&syntax, &[("IMAGE_WORKER_TRIES", "1")]);
    finished.assert_fails(
        30,
        &[
            "cannot pull 127.0.0.1:9/docker/dockerfile:1.4: ",
            "connection refused",
            "# syntax=127.0.0.1:9/docker/dockerfile:1.4 could not be fetched: ",
        ],
    );
    let here = Repository::new("buildkit-wrong", "RUN <<EOF\ntrue\nEOF\n");
    let finished = dry_run(&here, &[("IMAGE_WORKER_BUILDER", "auto")]);
    // Docker 23 and later support it.
    if finished.code != 0 {
        let words = ["the here-document of RUN <<EOF needs Docker 23 or later", "put # syntax=docker/dockerfile:1"];
        finished.assert_fails(20, &words);
    }
    let link = Repository::new("buildkit-wrong", "COPY --link busybox /b\n");
    let finished = dry_run(&link, &[]);
    if finished.code != 0 {
        finished.assert_fails(20, &["COPY --link needs a newer BuildKit: put # syntax=docker/dockerfile:1"]);
    }
    let platform = Repository::bare("buildkit-wrong", "FROM --platform=$BUILDPLATFORM scratch\nCOPY Dockerfile /\n");
    dry_run(&platform, &[("IMAGE_WORKER_BUILDER", "auto")]).assert_succeeds();
    let base = Repository::bare("buildkit-wrong", "FROM 127.0.0.1:9/nosuch:1\nCOPY Dockerfile /\n");
    dry_run(&base, &[("IMAGE_WORKER_TRIES", "1")]).assert_fails(
        30,
        &["the build did not begin: cannot pull 127.0.0.1:9/nosuch:1: ", "127.0.0.1:9 is in trouble"],
    );
    assert_engine_is_clean("buildkit-wrong");
}

#[test]
fn a_cache_mount_begins_empty_in_each_build() {
    if !engine() {
        return;
    }
    let steps = "RUN --mount=type=cache,target=/cache [ ! -e /cache/of-another ] && touch /cache/of-another\n\
                 RUN --mount=type=cache,target=/cache [ -e /cache/of-another ]\nRUN [ ! -e /cache/of-another ]\n";
    let repository = Repository::new("buildkit-cache", steps);
    dry_run(&repository, &[]).assert_succeeds();
    dry_run(&repository, &[]).assert_succeeds();
}

#[test]
fn a_build_that_is_stopped_stops_in_the_engine() {
    if !engine() {
        return;
    }
    let sleep = &format!("sleep {}", long_sleep(2));
    let repository = Repository::new("buildkit-stop", &format!("RUN echo waiting && exec {sleep}\n"));
    let (output, directory) = (repository.root.path().join("out"), repository.directory());
    let arguments = ["run", "--dry-run", "--context", path(&directory), "--output", path(&output)];
    let environment =
        [("IMAGE_NAME", repository.name.as_str()), ("PROJECT", PROJECT), ("IMAGE_WORKER_BUILDER", "buildkit")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let stopped = program(arguments, environment).finish_when(
        |stderr| stderr.contains("build | waiting"),
        |process| assert!(Command::new("kill").arg(process.to_string()).status().unwrap().success()),
    );
    stopped.assert_fails(143, &["stopped"]);
    let limit = Instant::now() + Duration::from_secs(10);
    while Command::new("pgrep").args(["-f", sleep]).output().unwrap().status.success() {
        assert!(Instant::now() < limit, "the step goes on");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_engine_is_clean("buildkit-stop");
}
