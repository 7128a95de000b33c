//! A full disk: the task's directory is a file system that is too small for the context, or for the image. It needs the
//! right to mount; without it the test skips itself, and in CI fails.

use std::path::Path;
use std::process::Command;

use regex::Regex;

use super::document;
use super::play::{assert_engine_is_clean, job};
use crate::harness::{engine, path, program};

/// A file system of a limited size, until it is dropped.
pub(super) struct Small(tempfile::TempDir);

impl Small {
    pub(super) fn mount(bytes: u64) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs", path(directory.path())])
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then(|| Self(directory))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

#[test]
fn a_full_disk_is_named_and_leaves_nothing() {
    if !engine() {
        return;
    }
    // The context is 35 KiB as it comes and 70 KiB unpacked; the image has its file twice. It needs room only where it is exported.
    let cases = [
        (16 << 10, "the context as it comes"),
        (48 << 10, "the context unpacked"),
        (112 << 10, "the image, exported by the engine"),
    ];
    let mut lines = vec!["| what does not fit | exit | index | the error line |\n| --- | --- | --- | --- |".to_owned()];
    for (bytes, what) in cases {
        let Some(small) = Small::mount(bytes) else {
            assert!(std::env::var_os("IMAGE_WORKER_NO_SKIP").is_none(), "mount is not permitted: run this as root");
            eprintln!("SKIPPED: mount is not permitted");
            return;
        };
        let (_repository, job) = job("full", "COPY data /again\n");
        let mut environment = job.environment();
        environment.insert("TASK_WORKDIR".to_owned(), path(small.path()).to_owned());
        environment.insert("EXPORT".to_owned(), "engine".to_owned());
        let finished = program(["run"], environment).finish();
        finished.assert_fails(30, &[path(small.path())]);
        job.assert_nothing_published();
        assert_engine_is_clean(&job.name);
        assert_eq!(std::fs::read_dir(small.path()).unwrap().count(), 0, "something is left");
        let line = finished.error_line().trim_start_matches("[taskcluster-image-build:error] ");
        lines.push(format!("| {what} | 30 | nothing | {} |", redact(line, &small)));
    }
    document::section("disk", cases.len(), &lines);
}

/// The error line without what differs from run to run, and between engines.
fn redact(line: &str, small: &Small) -> String {
    let patterns = [(r"\.image-worker-\w+", ".image-worker-…"), (r"\.tmp\w+", ".tmp…"), (r"[\d.]+ KiB", "N KiB")];
    patterns.iter().fold(line.replace(path(small.path()), "FOLDER"), |line, (pattern, with)| {
        Regex::new(pattern).unwrap().replace_all(&line, *with).into_owned()
    })
}
