//! `--publish payload`: the archive is written where the task's payload declares an artifact, whole or not at all, and
//! nothing is called but what the context needs.

mod chain_of_trust;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;

use serde_json::{Value, json};
use stand_in::{Options, StandIn};

use crate::harness::{
    Builder, Finished, Job, PROJECT, Program, Repository, container_output, docker_output, engine, path, program,
};

const STEPS: &str = "RUN echo from-a-payload > /greeting\nCMD [\"/bin/busybox\", \"cat\", \"/greeting\"]\n";
const ARCHIVE: &str = "image.tar.zst";

/// Runs the job as `image_builder`'s tasks run theirs: with no push date, run, proxy or credentials.
fn run(job: &Job, output: &Path, more: &[(&str, &str)]) -> Finished {
    let without = ["PUSHDATE", "RUN_ID", "TASKCLUSTER_PROXY_URL"].map(|name| (name, ""));
    let with = [("IMAGE_WORKER_PUBLISH", "payload"), ("IMAGE_WORKER_OUTPUT", path(output))];
    job.run_with(without.into_iter().chain(with).chain(more.iter().copied()))
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_archive_waits_for_the_worker() {
    let Some(job) = Job::ready("payload-whole", STEPS) else { return };
    let output = tempfile::tempdir().unwrap();
    // The directory need not be there.
    let directory = output.path().join("workspace/out");
    let finished = run(&job, &directory, &[("DOCKER_IMAGE_ZSTD_LEVEL", "10")]);
    finished.assert_succeeds();
    assert_eq!(finished.stdout.trim(), job.tag());
    assert!(finished.stderr.contains("for the worker to upload"), "{}", finished.stderr);
    for not_of_such_a_task in ["PUSHDATE", "push of "] {
        assert!(!finished.stderr.contains(not_of_such_a_task), "{}", finished.stderr);
    }
    let expected = ["findTasksAtIndex", "getLatestArtifact", "s3 GET"];
    assert_eq!(
        job.call_names(),
        expected,
        "the context is read, and the newest image looked for: nothing else is called"
    );
    job.assert_nothing_published();
    job.assert_engine_is_clean();
    assert_eq!(names(&directory), [&["build.log", ARCHIVE][..], &Builder::documents()].concat());

    let archive = output.path().join("image.tar");
    let compressed = std::fs::File::open(directory.join(ARCHIVE)).unwrap();
    zstd::stream::copy_decode(compressed, std::fs::File::create(&archive).unwrap()).unwrap();
    docker_output(&["load", "--input", path(&archive)]);
    assert_eq!(container_output(&[&job.tag()]), "from-a-payload");
    docker_output(&["rmi", "--force", &job.tag()]);
}

/// The job in a task that declares these artifacts; no setting decides where its image goes.
fn declaring(job: &Job, artifacts: &Value) -> Program {
    let task = Job::spec(&job.name).property("payload", json!({ "artifacts": artifacts }));
    let mut environment = job.environment_of(&job.taskcluster.create_task(task));
    for not_of_such_a_task in ["PUSHDATE", "RUN_ID", "TASKCLUSTER_PROXY_URL"] {
        environment.remove(not_of_such_a_task);
    }
    environment.insert("IMAGE_WORKER_PUBLISH".to_owned(), "payload".to_owned());
    program(["run"], environment)
}

/// taskgraph until version 15 and Gecko declare another place than taskgraph since version 16.
#[test]
fn the_archive_goes_where_the_task_declares_it() {
    let Some(job) = Job::ready("payload-declared", STEPS) else { return };
    let output = tempfile::tempdir().unwrap();
    let place = output.path().join("workspace/image.tar.zst");
    let of_docker_worker = json!({ "public/image.tar.zst": { "type": "file", "path": path(&place) } });
    job.taskcluster.clear_calls();
    let finished = declaring(&job, &of_docker_worker).finish();
    finished.assert_succeeds();
    assert!(finished.stderr.contains(&format!("declares public/image.tar.zst as {}", place.display())));
    assert_eq!(job.call_names(), ["task", "findTasksAtIndex", "getLatestArtifact", "s3 GET"], "one more call");
    zstd::decode_all(std::fs::File::open(&place).unwrap()).unwrap();

    // generic-worker's paths are from the task's directory, and files can be called otherwise than artifacts.
    let of_generic_worker = json!([
        { "type": "directory", "name": "public/logs", "path": "logs" },
        { "type": "file", "name": "public/image.tar", "path": "out/of-the-task.tar" },
    ]);
    let mut program = declaring(&job, &of_generic_worker);
    program.command.current_dir(output.path());
    program.finish().assert_succeeds();
    let archive = output.path().join("out/of-the-task.tar");
    docker_output(&["load", "--input", path(&archive)]);
    assert_eq!(container_output(&[&job.tag()]), "from-a-payload");
    docker_output(&["rmi", "--force", &job.tag()]);
    assert_eq!(names(&output.path().join("out")).last().unwrap(), "report.html");
    job.assert_nothing_published();
    job.assert_engine_is_clean();
}

/// As a user who cannot write to the usual place, so that nothing is written there.
#[test]
fn without_its_definition_a_task_takes_the_usual_place() {
    let repository = Repository::bare("payload-usual", "FROM scratch\n");
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let binary = directory.path().join("image-worker");
    std::fs::copy(env!("CARGO_BIN_EXE_image-worker"), &binary).unwrap();
    let anonymous_scopes = vec!["queue:get-artifact:public/*".to_owned()];
    let closed = Job::on(StandIn::start(Options { anonymous_scopes, ..Options::default() }), &repository);
    let open = Job::new(&repository);
    for (job, artifacts, warning) in [
        (
            &closed,
            json!({ "public/image.tar": { "type": "file", "path": "/x/image.tar" } }),
            "cannot read the definition of task",
        ),
        (
            &open,
            json!({ "public/logs": { "type": "directory", "path": "/x" } }),
            "declares no image among its artifacts",
        ),
    ] {
        let mut program = declaring(job, &artifacts);
        let environment: Vec<_> =
            program.command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
        program.command = std::process::Command::new(&binary);
        program.command.arg("run").env_clear().envs(environment);
        if std::fs::metadata(directory.path()).unwrap().uid() == 0 {
            program.command.uid(65534).gid(65534);
        }
        let finished = program.finish();
        finished.assert_fails(30, &["cannot write /workspace/out"]);
        assert!(finished.stderr.contains(warning), "{}", finished.stderr);
        assert!(finished.stderr.contains("the image goes to /workspace/out: --output says another place"));
    }
}

/// The worker uploads what lies there, also when the task failed.
#[test]
fn a_failed_build_leaves_its_log_and_no_archive_of_an_earlier_one() {
    let Some(job) = Job::ready("payload-failing", "RUN exit 3\n") else { return };
    let output = tempfile::tempdir().unwrap();
    for name in [
        ARCHIVE,
        "layer-cache.json",
        "layers.json",
        "perfherder-data-image-build.json",
        "provenance.json",
        "report.html",
        "sbom.cdx.json",
    ] {
        std::fs::write(output.path().join(name), "of an earlier run").unwrap();
    }
    run(&job, output.path(), &[]).assert_fails(20, &["exit code 3"]);
    assert_eq!(names(output.path()), ["build.log"]);
    job.assert_engine_is_clean();
}

#[test]
fn what_is_written_belongs_to_the_owner_of_chown_output() {
    let Some(job) = Job::ready("payload-owner", STEPS) else { return };
    let output = tempfile::tempdir().unwrap();
    let we = std::fs::metadata(output.path()).unwrap();
    // Root can give files away; everybody else can give them to themselves.
    let (uid, gid) = if we.uid() == 0 { (12345, 54321) } else { (we.uid(), we.gid()) };
    let owner = format!("{uid}:{gid}");
    run(&job, output.path(), &[("CHOWN_OUTPUT", &owner), ("ARTIFACT_NAME", "public/image.tar")]).assert_succeeds();
    for name in ["build.log", "image.tar", "provenance.json"] {
        let file = std::fs::metadata(output.path().join(name)).unwrap();
        assert_eq!((file.uid(), file.gid()), (uid, gid), "{name}");
    }
    let directory = std::fs::metadata(output.path()).unwrap();
    assert_eq!((directory.uid(), directory.gid()), (we.uid(), we.gid()), "the directory was there before");
}

#[test]
fn a_dry_run_of_such_a_task_writes_what_the_task_writes() {
    if !engine() {
        return;
    }
    let repository = Repository::new("payload-dry", STEPS);
    let output = tempfile::tempdir().unwrap();
    let (directory, made) = (repository.directory(), output.path().join("made"));
    let context = ["--context", path(&directory), "--output", path(&made)];
    let arguments = ["run", "--dry-run", "--publish", "payload"].into_iter().chain(context);
    let environment = [("IMAGE_NAME", "payload-dry"), ("PROJECT", PROJECT)];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    program(arguments, environment).finish().assert_succeeds();
    assert_eq!(names(&made), [&[".gitignore", "build.log", ARCHIVE][..], &Builder::documents()].concat());
    assert_eq!(std::fs::read(made.join(".gitignore")).unwrap(), b"*\n");
}

/// No push date, no run and no credentials are needed; what a task cannot do without is still missed.
#[test]
fn a_task_is_still_a_task() {
    let repository = Repository::bare("payload-wrong", "FROM scratch\n");
    let job = Job::new(&repository);
    let output = tempfile::tempdir().unwrap();
    for (variable, value, words) in [
        ("HASH", "", "HASH is not set"),
        ("TASKCLUSTER_ROOT_URL", "", "TASKCLUSTER_ROOT_URL is not set"),
        ("IMAGE_WORKER_CONTEXT", "/", "IMAGE_WORKER_CONTEXT is for --dry-run"),
        ("IMAGE_WORKER_PUBLISH", "worker", "IMAGE_WORKER_PUBLISH: \"worker\" is not a way to publish"),
        ("CHOWN_OUTPUT", "worker", "CHOWN_OUTPUT: \"worker\" is no owner"),
    ] {
        run(&job, output.path(), &[(variable, value)]).assert_fails(2, &[words]);
    }
    let file = output.path().join("file");
    std::fs::write(&file, "").unwrap();
    run(&job, &file, &[]).assert_fails(2, &[path(&file), "is no directory", "--output"]);
    assert_eq!(job.call_names(), [""; 0], "nothing was started");
}
