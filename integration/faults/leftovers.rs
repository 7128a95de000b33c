//! What a killed program has left, and the next starts, of whatever image: they remove it from the engine where it is recorded, and
//! never touch what is in use. Kills at every stage are in `kill`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::kill::{assert_nothing_is_left, job_from_with_busybox, job_with_busybox};
use super::play::{assert_engine_is_clean, job, parent};
use crate::harness::{Builder, Job, Program, Repository, docker, docker_output, engine, path, program};

fn start(job: &Job, work: &Path, arguments: &[&str], docker_host: Option<&str>) -> Program {
    let mut environment = job.environment();
    environment.insert("TASK_WORKDIR".to_owned(), path(work).to_owned());
    environment.extend(docker_host.map(|host| ("DOCKER_HOST".to_owned(), host.to_owned())));
    program(["run"].iter().chain(arguments).copied(), environment)
}

fn directories(work: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(work).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// What a job has recorded in the engine.
pub(super) fn records_of(job: &Job) -> Vec<String> {
    let volumes = docker_output(&["volume", "ls", "--quiet", "--filter", "label=image-worker.record"]);
    let records = volumes.lines().filter_map(|volume| {
        // Another test's can be gone meanwhile.
        let output = docker(&["volume", "inspect", "--format", "{{index .Labels \"image-worker.record\"}}", volume]);
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    });
    records.filter(|record| record.contains(&job.claim.task_id) || record.contains(&job.name)).collect()
}

/// The task's directory and its user are gone with the task, and the next start is of another image. A run that goes on
/// meanwhile, as far as the killed one, keeps what it has.
#[test]
fn what_a_killed_run_left_goes_with_another_images_start_and_what_a_running_one_has_stays() {
    if !engine() {
        return;
    }
    let steps =
        |seconds: u32| format!("COPY busybox /busybox\nENV A=b\nRUN [\"/busybox\", \"sleep\", \"{seconds}\"]\n");
    let dead = job_with_busybox("dead", &steps(300));
    let alive = job_with_busybox("alive", &steps(299));
    let (_repository, other) = job("other", "");
    let work = TempDir::new().unwrap();
    let finished = start(&alive, work.path(), &[], None).finish_when(
        |log| log.contains("\"299\"]"),
        |id| {
            let work = TempDir::new().unwrap();
            let killed = start(&dead, work.path(), &[], None).kill_when(|log| log.contains("\"300\"]"));
            assert_eq!(killed, None, "the program ended before it was killed");
            drop(work);
            assert!(!records_of(&dead).is_empty() && !records_of(&alive).is_empty());
            let work = TempDir::new().unwrap();
            let finished = start(&other, work.path(), &[], None).finish();
            finished.assert_succeeds();
            assert_eq!(records_of(&dead), [""; 0], "{}", finished.stderr);
            assert_engine_is_clean(&dead.name);
            assert!(!records_of(&alive).is_empty(), "{}", finished.stderr);
            assert!(Command::new("kill").arg(id.to_string()).status().unwrap().success());
        },
    );
    finished.assert_fails(143, &["while building"]);
    assert_nothing_is_left(&alive, work.path(), &finished);
    assert_eq!(records_of(&alive), [""; 0]);
}

#[test]
fn what_a_killed_build_left_waits_for_its_engine() {
    if !engine() {
        return;
    }
    let job = job_with_busybox("waits", "COPY busybox /busybox\nRUN [\"/busybox\", \"sleep\", \"1\"]\n");
    let work = TempDir::new().unwrap();
    start(&job, work.path(), &[], None).finish().assert_succeeds();
    let killed = start(&job, work.path(), &["--force"], None).kill_when(|log| log.contains("RUN [\"/busybox\""));
    assert_eq!(killed, None, "the program ended before it was killed");
    assert_eq!(directories(work.path()).len(), 1);

    // From here on each start finds the image in the index and builds nothing.
    let finished = start(&job, work.path(), &[], Some("unix:///nonexistent/docker.sock")).finish();
    finished.assert_succeeds();

    let finished = start(&job, work.path(), &[], None).finish();
    finished.assert_succeeds();
    assert_nothing_is_left(&job, work.path(), &finished);
}

/// A parent whose last bytes go to the engine, which unpacks it by itself if it gets them, and one that is there.
#[test]
fn a_parent_that_a_killed_run_has_loaded_goes() {
    if !engine() {
        return;
    }
    for (when, bytes) in [("{\"sent\":", 16 << 20), ("{\"loaded\":", 64 << 10)] {
        // The parent is in the engine as long as the build takes, so that it can be found also on a busy machine. Podman goes on
        // with a command when the program is gone.
        let (step, long) = if Builder::is_podman() {
            ("RUN [\"/busybox\", \"sleep\", \"1\"]\n", 1)
        } else {
            ("ARG PAUSE\nRUN [\"/busybox\", \"sh\", \"-c\", \"/busybox sleep $PAUSE\"]\n", 8)
        };
        let steps = &format!("COPY busybox /busybox\n{step}");
        let job = job_from_with_busybox("$DOCKER_IMAGE_PARENT", "loaded", steps);
        let parent = parent(&job, bytes);
        let work = TempDir::new().unwrap();
        let arguments = ["--parent-task-id", &parent];
        let start = |pause: u32| {
            let mut program = start(&job, work.path(), &arguments, None);
            program.command.env("DOCKER_BUILD_ARGS", format!("{{\"PAUSE\": \"{pause}\"}}"));
            program
        };
        let killed = start(long).kill_when(|_| records_of(&job).iter().any(|record| record.contains(when)));
        assert_eq!(killed, None, "the program ended before it was killed");
        let finished = start(0).finish();
        finished.assert_succeeds();
        assert_nothing_is_left(&job, work.path(), &finished);
    }
}

/// The engine goes on with a step that has started, and its image comes when the next start has looked already.
#[test]
fn what_the_engine_goes_on_with_after_a_kill_goes_too() {
    if !engine() {
        return;
    }
    let (repository, _) = job("copies", "COPY large /large\n");
    File::create(repository.directory().join("large")).unwrap().set_len(128 << 20).unwrap();
    let job = Job::new(&repository);
    let work = TempDir::new().unwrap();
    let killed = start(&job, work.path(), &[], None).kill_when(|log| log.contains(": COPY large /large"));
    assert_eq!(killed, None, "the program ended before it was killed");
    let finished = start(&job, work.path(), &[], None).finish();
    finished.assert_succeeds();
    assert_nothing_is_left(&job, work.path(), &finished);
}

#[test]
fn a_killed_context_leaves_nothing_for_long() {
    let repository = Repository::bare("killed-context", "FROM scratch\n");
    let large = repository.directory().join("large");
    // Takes long enough to be met.
    File::create(&large).unwrap().set_len(256 << 20).unwrap();
    let out = TempDir::new().unwrap();
    let file = out.path().join("context.tar.gz");
    let start = || program(["context", path(&repository.directory()), "-o", path(&file)], []);
    let killed = start().kill_when(|_| !directories(out.path()).is_empty());
    assert_eq!((killed, file.exists(), directories(out.path()).len()), (None, false, 1));
    std::fs::remove_file(&large).unwrap();
    start().finish().assert_succeeds();
    assert_eq!(directories(out.path()), [file]);
}
