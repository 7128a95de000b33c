//! Uploads that read the image where the engine keeps it: the bytes are right, also when an upload is tried again, and what is
//! wrong there is not published.

use std::path::Path;

use image_worker::net::Digest;
use stand_in::Fault;

use crate::harness::{Builder, Finished, Job, Repository, docker_output, engine, is_on, path, program};

/// Large enough that its MD5 is not computed before it is sent.
const STEP: &str = "RUN dd if=/dev/urandom of=/random bs=1048576 count=24\n";

/// Whether the layers of the tests' engine are read as files.
fn is_read_as_files() -> bool {
    engine() && !is_on("docker-28-containerd")
}

/// Asserts that the artifact is a whole image with the sum that the index has.
fn assert_published(job: &Job, finished: &Finished) {
    finished.assert_succeeds();
    let archive = job.taskcluster.artifact_path(&job.claim.task_id, 0, "public/image.tar").expect("an image");
    let sum = Digest::of(&std::fs::read(&archive).unwrap()).to_string();
    for route in job.routes() {
        assert_eq!(job.taskcluster.index_entry(&route).expect("a route")["data"]["sha256"], sum.as_str(), "{route}");
    }
    program(["check", path(&archive)], []).finish().assert_succeeds();
    job.assert_engine_is_clean();
}

#[test]
fn an_upload_reads_the_engines_storage_each_time() {
    if !is_read_as_files() {
        return;
    }
    for (number, fault) in
        [None, Some(Fault::drop("s3 PUT")), Some(Fault::wrong_arrival("s3 PUT"))].into_iter().enumerate()
    {
        let job = Job::new(&Repository::new(&format!("storage-upload-{number}"), STEP));
        let again = fault.is_some();
        if let Some(fault) = fault {
            job.taskcluster.fault(fault.path("image.tar"));
        }
        let finished = job.run_with([("EXPORT", "storage")]);
        assert_published(&job, &finished);
        let log = &finished.stderr;
        assert!(log.contains("the image is read from the engine's storage while it is uploaded"), "{log}");
        assert!(!log.contains("exported the image"), "{log}");
        let calls = job.taskcluster.calls();
        let uploads = calls.iter().filter(|call| call.name == "s3 PUT" && call.path.contains("image.tar")).count();
        assert_eq!(uploads, if again { 2 } else { 1 }, "{:?}", job.call_names());
    }
}

#[test]
fn what_the_storage_has_wrong_is_not_published() {
    if !is_read_as_files() || Builder::is_podman() {
        // Podman's storage is read in the same way, and its daemonless tools notice a changed layer first.
        return;
    }
    let base = Job::new(&Repository::new("storage-wrong-base", &format!("{STEP}RUN echo true > /word\n")));
    base.run().assert_succeeds();
    let archive = base.taskcluster.artifact_path(&base.claim.task_id, 0, "public/image.tar").unwrap();
    docker_output(&["load", "--input", path(&archive)]);
    let upper = ["image", "inspect", "--format", "{{.GraphDriver.Data.UpperDir}}", &base.tag()];
    let word = Path::new(&docker_output(&upper)).join("word");
    let dockerfile = format!("FROM {}\nENV TEST=storage-wrong\nCOPY Dockerfile /\n", base.tag());
    let mut ended = Vec::new();
    for (wrong, export) in [("fals\n", "storage"), ("fals\n", "auto"), ("more\n\n", "storage"), ("", "storage")] {
        std::fs::write(&word, wrong).unwrap();
        let job = Job::new(&Repository::bare("storage-wrong", &dockerfile));
        let finished = job.run_with([("EXPORT", export)]);
        job.assert_nothing_published();
        job.assert_engine_is_clean();
        ended.push((export, wrong, finished));
    }
    docker_output(&["rmi", "--force", &base.tag()]);
    for (export, wrong, finished) in ended {
        match (export, wrong) {
            // Docker compares its layers with its own sums.
            ("auto", _) => {
                finished.assert_fails(30, &["the engine"]);
                assert!(finished.stderr.contains("so it is exported: "), "{}", finished.stderr);
            }
            (_, "") => {
                finished.assert_fails(30, &["EXPORT=storage: the layer ", "cannot be read"]);
                let cause = "because: the content of word is not there";
                assert!(finished.stderr.contains(cause), "{}", finished.stderr);
            }
            _ => finished.assert_fails(30, &["EXPORT=storage: the layer ", " came as ", "leave EXPORT at auto"]),
        }
    }
}
