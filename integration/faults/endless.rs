//! An engine that sends one message without an end: the program ends, reports it, and has not kept it.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::archive::Archive;
use crate::harness::engine_proxy::EngineProxy;
use crate::harness::{Finished, PROJECT, Program, Repository, engine, path, program, resident};

/// Far more than the program should ever take: without a limit all of it is sent.
const ENDLESS: usize = 1 << 30;

/// Runs the program against an engine that answers `requests` without an end. Gives how it ended, and its most memory, in KiB.
fn run_against(requests: &'static str, program: impl FnOnce(String) -> Program) -> (Finished, usize) {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let proxy = EngineProxy::start(requests, move |client| {
        client.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"stream\":\"")?;
        let piece = vec![b'x'; 64 << 10];
        while counted.load(Ordering::Relaxed) < ENDLESS {
            client.write_all(&piece)?;
            counted.fetch_add(piece.len(), Ordering::Relaxed);
        }
        Ok(())
    });
    let mut most = 0;
    let finished = program(proxy.place()).finish_with(|id| {
        while let Some(kilobytes) = resident(id) {
            most = most.max(kilobytes);
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    assert_eq!(proxy.answered(), 1, "{}", finished.stderr);
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < 32 << 20, "{sent} bytes of it were taken");
    (finished, most)
}

fn assert_ended(finished: &Finished, most: usize, doing: &str) {
    finished.assert_fails(30, &["infra: the engine failed while", doing]);
    let why = "it sent a message without an end, longer than 16 MiB";
    assert!(finished.stderr.contains(why), "{}", finished.stderr);
    assert!((1..128 << 10).contains(&most), "{most} KiB");
}

#[test]
fn an_endless_message_ends_a_build() {
    if !engine() {
        return;
    }
    for builder in ["classic", "buildkit"] {
        let repository = Repository::bare("endless-build", "FROM scratch\nCOPY Dockerfile /\n");
        let (output, directory) = (repository.root.path().join("out"), repository.directory());
        let (finished, most) = run_against("/build?", |place| {
            let arguments = ["run", "--dry-run", "--context", path(&directory), "--output", path(&output)];
            let environment = [
                ("IMAGE_NAME", "endless-build"),
                ("PROJECT", PROJECT),
                ("DOCKER_HOST", &place),
                ("IMAGE_WORKER_BUILDER", builder),
            ];
            program(arguments, environment.map(|(name, value)| (name.to_owned(), value.to_owned())))
        });
        assert_ended(&finished, most, "building the image");
    }
}

#[test]
fn an_endless_message_ends_a_load() {
    if !engine() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("image.tar");
    std::fs::write(&file, Archive::new("endless-load").tar(None)).unwrap();
    let (finished, most) = run_against("/images/load?", |place| {
        program(["load", "--file", path(&file), "--tag", "endless-load:1"], [("DOCKER_HOST".to_owned(), place)])
    });
    assert_ended(&finished, most, "loading the image");
}
