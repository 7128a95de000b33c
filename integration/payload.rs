//! `--publish payload`: the archive comes to lie where the task's payload declares an artifact, whole or not at all, and
//! nothing is called but what the context needs.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::harness::{Builder, Finished, Job, PROJECT, Repository, container_says, docker_says, engine, path, program};

const STEPS: &str = "RUN echo from-a-payload > /greeting\nCMD [\"/bin/busybox\", \"cat\", \"/greeting\"]\n";
const ARCHIVE: &str = "image.tar.zst";

/// Runs the job as `image_builder`'s tasks run theirs: with no push date, run, proxy or credentials.
fn run(job: &Job, output: &Path, more: &[(&str, &str)]) -> Finished {
    let without = ["PUSHDATE", "RUN_ID", "TASKCLUSTER_PROXY_URL"].map(|name| (name, ""));
    let with = [("IMAGE_WORKER_PUBLISH", "payload"), ("IMAGE_WORKER_OUTPUT", path(output))];
    job.run_with(without.into_iter().chain(with).chain(more.iter().copied()))
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_archive_waits_for_the_worker() {
    let Some(job) = Job::ready("payload-whole", STEPS) else { return };
    let output = tempfile::tempdir().unwrap();
    // The folder need not be there.
    let folder = output.path().join("workspace/out");
    let finished = run(&job, &folder, &[("DOCKER_IMAGE_ZSTD_LEVEL", "10")]);
    finished.assert_succeeds();
    assert_eq!(finished.stdout.trim(), job.tag());
    assert!(finished.stderr.contains("for the worker to upload"), "{}", finished.stderr);
    let asked = ["findTasksAtIndex", "getLatestArtifact", "s3 GET"];
    assert_eq!(job.story(), asked, "the context is read, and the newest image looked for: nothing else is called");
    job.assert_nothing_published();
    job.assert_engine_is_clean();
    assert_eq!(names(&folder), [&["build.log", ARCHIVE][..], &Builder::companions()].concat());

    let archive = output.path().join("image.tar");
    let compressed = std::fs::File::open(folder.join(ARCHIVE)).unwrap();
    zstd::stream::copy_decode(compressed, std::fs::File::create(&archive).unwrap()).unwrap();
    docker_says(&["load", "--input", path(&archive)]);
    assert_eq!(container_says(&[&job.tag()]), "from-a-payload");
    docker_says(&["rmi", "--force", &job.tag()]);
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
        "sbom.cdx.json",
    ] {
        std::fs::write(output.path().join(name), "of an earlier run").unwrap();
    }
    run(&job, output.path(), &[]).assert_fails(20, &["exit code 3"]);
    assert_eq!(names(output.path()), ["build.log"]);
    job.assert_engine_is_clean();
}

#[test]
fn what_is_written_belongs_to_whom_chown_output_says() {
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
    let folder = std::fs::metadata(output.path()).unwrap();
    assert_eq!((folder.uid(), folder.gid()), (we.uid(), we.gid()), "the folder was there before");
}

#[test]
fn a_dry_run_of_such_a_task_writes_what_the_task_writes() {
    if !engine() {
        return;
    }
    let repository = Repository::new("payload-dry", STEPS);
    let output = tempfile::tempdir().unwrap();
    let (directory, folder) = (repository.directory(), path(output.path()));
    let context = ["--context", path(&directory), "--output", folder];
    let arguments = ["run", "--dry-run", "--publish", "payload"].into_iter().chain(context);
    let environment = [("IMAGE_NAME", "payload-dry"), ("PROJECT", PROJECT)];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    program(arguments, environment).finish().assert_succeeds();
    assert_eq!(names(output.path()), [&["build.log", ARCHIVE][..], &Builder::companions()].concat());
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
        ("IMAGE_WORKER_PUBLISH", "worker", "IMAGE_WORKER_PUBLISH: \"worker\" is no way to publish"),
        ("CHOWN_OUTPUT", "worker", "CHOWN_OUTPUT: \"worker\" is no owner"),
    ] {
        run(&job, output.path(), &[(variable, value)]).assert_fails(2, &[words]);
    }
    let file = output.path().join("file");
    std::fs::write(&file, "").unwrap();
    run(&job, &file, &[]).assert_fails(30, &["cannot write", path(&file)]);
    assert_eq!(job.story(), [""; 0], "nothing has begun");
}
