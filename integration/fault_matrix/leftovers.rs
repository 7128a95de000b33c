//! What a killed program has left, and the next starts: they remove it, unless it is in another engine, and they never
//! touch what is in use. Kills at every stage are in `kill`.

use std::fs::File;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::kill::{assert_nothing_is_left, job_from_with_busybox, job_with_busybox};
use super::play::{assert_engine_is_clean, job, parent};
use crate::harness::{Builder, Job, Program, Repository, engine, engine_place, path, program};

fn start(job: &Job, work: &Path, arguments: &[&str], docker_host: Option<&str>) -> Program {
    let mut environment = job.environment();
    environment.insert("TASK_WORKDIR".to_owned(), path(work).to_owned());
    environment.extend(docker_host.map(|host| ("DOCKER_HOST".to_owned(), host.to_owned())));
    program(["run"].iter().chain(arguments).copied(), environment)
}

fn folders(work: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(work).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// What a start says that has found something in the engine.
const REMOVED: &str = "images of a killed run from the engine";

/// Whether a build that is killed leaves something in the engine; BuildKit makes one image, at the end.
fn leaves_images() -> bool {
    Builder::chosen() != Builder::BuildKit
}

/// The socket of the tests' engine.
fn socket() -> String {
    let host = engine_place().unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned());
    host.strip_prefix("unix://").expect("an engine at a socket").to_owned()
}

#[test]
fn what_a_killed_build_left_waits_for_its_engine() {
    if !engine() {
        return;
    }
    let job = job_with_busybox("waits", "COPY busybox /busybox\nRUN [\"/busybox\", \"sleep\", \"1\"]\n");
    let work = TempDir::new().unwrap();
    start(&job, work.path(), &[], None).finish().assert_succeeds();
    let killed = start(&job, work.path(), &["--force"], None).kill_when(|said| said.contains("RUN [\"/busybox\""));
    assert_eq!(killed, None, "the program ended before it was killed");
    assert_eq!(folders(work.path()).len(), 1);

    // From here on each start finds the image in the index and builds nothing.
    let finished = start(&job, work.path(), &[], Some("unix:///nonexistent/docker.sock")).finish();
    finished.assert_succeeds();
    assert!(finished.stderr.contains("warning: what a killed run has left in the engine stays"), "{}", finished.stderr);

    let elsewhere = TempDir::new().unwrap();
    let other = elsewhere.path().join("other.sock");
    std::os::unix::fs::symlink(socket(), &other).unwrap();
    let finished = start(&job, work.path(), &[], Some(&format!("unix://{}", path(&other)))).finish();
    finished.assert_succeeds();
    let words = format!("left in the engine at unix://{} stays there: this one is at unix://", socket());
    assert!(finished.stderr.contains(&words), "{}", finished.stderr);
    let left: Vec<_> = folders(work.path()).iter().flat_map(|folder| folders(folder)).collect();
    assert!(left.len() == 1 && left[0].ends_with("journal"), "the journal and nothing else: {left:?}");

    let finished = start(&job, work.path(), &[], None).finish();
    finished.assert_succeeds();
    assert_eq!(finished.stderr.contains(REMOVED), leaves_images(), "{}", finished.stderr);
    assert_nothing_is_left(&job, work.path(), &finished);
}

/// A parent whose last bytes go to the engine, which unpacks it by itself if it gets them, and one that is there.
#[test]
fn a_parent_that_a_killed_run_has_loaded_goes() {
    if !engine() {
        return;
    }
    for (when, bytes, is_there) in [("{\"sent\":", 16 << 20, false), ("{\"loaded\":", 64 << 10, true)] {
        // The parent is in the engine as long as the build takes: for a second, in which it can be seen.
        let steps = "COPY busybox /busybox\nRUN [\"/busybox\", \"sleep\", \"1\"]\n";
        let job = job_from_with_busybox("$DOCKER_IMAGE_PARENT", "loaded", steps);
        let parent = parent(&job, bytes);
        let work = TempDir::new().unwrap();
        let arguments = ["--parent-task-id", &parent];
        let journal = || {
            let folders = folders(work.path());
            folders.iter().filter_map(|folder| std::fs::read_to_string(folder.join("journal")).ok()).collect::<String>()
        };
        let killed = start(&job, work.path(), &arguments, None)
            .kill_when(|said| said.contains(when) || journal().contains(when));
        assert_eq!(killed, None, "the program ended before it was killed");
        let finished = start(&job, work.path(), &arguments, None).finish();
        finished.assert_succeeds();
        let removed = finished.stderr.contains(REMOVED);
        assert!(removed || !is_there, "{}", finished.stderr);
        assert_nothing_is_left(&job, work.path(), &finished);
    }
}

/// The engine goes on with a step that has begun, and its image comes when the next start has looked already.
#[test]
fn what_the_engine_goes_on_with_after_a_kill_goes_too() {
    if !engine() {
        return;
    }
    let (repository, _) = job("copies", "COPY large /large\n");
    File::create(repository.directory().join("large")).unwrap().set_len(128 << 20).unwrap();
    let job = Job::new(&repository);
    let work = TempDir::new().unwrap();
    let killed = start(&job, work.path(), &[], None).kill_when(|said| said.contains(": COPY large /large"));
    assert_eq!(killed, None, "the program ended before it was killed");
    let finished = start(&job, work.path(), &[], None).finish();
    finished.assert_succeeds();
    assert_eq!(finished.stderr.contains(REMOVED), leaves_images(), "{}", finished.stderr);
    assert_nothing_is_left(&job, work.path(), &finished);
}

#[test]
fn a_start_leaves_alone_what_a_living_run_uses() {
    if !engine() {
        return;
    }
    let slow = job_with_busybox("lives", "COPY busybox /busybox\nRUN [\"/busybox\", \"sleep\", \"5\"]\n");
    let (_repository, quick) = job("beside", "");
    let work = TempDir::new().unwrap();
    let finished = start(&slow, work.path(), &[], None).finish_when(
        |said| said.contains("RUN [\"/busybox\""),
        |_| {
            let finished = start(&quick, work.path(), &[], None).finish();
            finished.assert_succeeds();
            assert!(!finished.stderr.contains("killed"), "{}", finished.stderr);
        },
    );
    finished.assert_succeeds();
    assert_engine_is_clean(&quick.name);
    assert_nothing_is_left(&slow, work.path(), &finished);
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
    let killed = start().kill_when(|_| !folders(out.path()).is_empty());
    assert_eq!((killed, file.exists(), folders(out.path()).len()), (None, false, 1));
    std::fs::remove_file(&large).unwrap();
    start().finish().assert_succeeds();
    assert_eq!(folders(out.path()), [file]);
}
