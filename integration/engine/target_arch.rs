//! Images for another architecture than the engine's: what needs no program of it is built anywhere, and what does is refused
//! before the build where nothing can run it.

use std::io::Read as _;

use serde_json::{Value, json};

use crate::harness::{Finished, Job, PROJECT, Repository, docker_output, engine, path, program};

/// What the engine's own architecture and the other one are called.
pub(crate) fn own_and_other() -> (&'static str, &'static str) {
    match docker_output(&["info", "--format", "{{.Architecture}}"]).as_str() {
        "aarch64" | "arm64" => ("arm64", "amd64"),
        _ => ("amd64", "arm64"),
    }
}

/// Whether an emulator may be there, with which steps for every architecture run.
pub(crate) fn emulators() -> bool {
    let handlers = std::fs::read_dir("/proc/sys/fs/binfmt_misc").into_iter().flatten();
    handlers.map(|handler| handler.unwrap().file_name()).any(|name| name != "register" && name != "status")
}

/// A dry run for an architecture, and the image's configuration from its archive.
fn built(repository: &Repository, arch: &str, more: &[&str]) -> (Finished, Value) {
    let (directory, output) = (repository.directory(), tempfile::tempdir().unwrap());
    let flags = ["run", "--dry-run", "--context", path(&directory), "--output", path(output.path())];
    let environment = [("IMAGE_NAME", repository.name.as_str()), ("PROJECT", PROJECT), ("TARGET_ARCH", arch)];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let finished = program(flags.into_iter().chain(more.iter().copied()), environment).finish();
    let read = |name: &str| -> Option<Value> {
        let mut archive = tar::Archive::new(std::fs::File::open(output.path().join("image.tar")).ok()?);
        let mut entries = archive.entries().ok()?.map(Result::unwrap);
        let mut entry = entries.find(|entry| entry.path().unwrap().to_str() == Some(name))?;
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        serde_json::from_str(&text).ok()
    };
    let configuration = read("manifest.json").and_then(|manifest| read(manifest[0]["Config"].as_str()?));
    (finished, configuration.unwrap_or_default())
}

#[test]
fn what_runs_nothing_is_built_for_any_architecture() {
    if !engine() {
        return;
    }
    let (own, other) = own_and_other();
    let repository = Repository::bare("arch-copied", "FROM scratch\nENV TEST=arch-copied\nCOPY Dockerfile /\n");
    for arch in [own, other] {
        for export in ["auto", "squash"] {
            let (finished, configuration) = built(&repository, arch, &["--export", export]);
            finished.assert_succeeds();
            assert_eq!((&configuration["architecture"], &configuration["os"]), (&json!(arch), &json!("linux")));
        }
    }
    crate::harness::assert_engine_is_clean("arch-copied");
}

#[test]
fn steps_that_cannot_run_are_refused_before_the_build() {
    if !engine() {
        return;
    }
    let (own, other) = own_and_other();
    let repository = Repository::new("arch-runs", "RUN echo from-a-step > /said\n");
    let (finished, configuration) = built(&repository, own, &[]);
    finished.assert_succeeds();
    assert_eq!(configuration["architecture"], json!(own));
    if emulators() {
        eprintln!("SKIPPED: this machine has emulators");
        return;
    }
    let (refused, _) = built(&repository, other, &[]);
    refused.assert_fails(
        2,
        &[&format!("is for {other} (TARGET_ARCH"), "a worker of that architecture", "qemu-user-static"],
    );
    assert!(!refused.stderr.contains("build | "), "nothing was started: {}", refused.stderr);
    crate::harness::assert_engine_is_clean("arch-runs");
}

#[test]
fn a_parent_is_of_the_same_architecture() {
    let Some(parent) = Job::ready("arch-parent", "") else { return };
    let (_, other) = own_and_other();
    parent.run().assert_succeeds();
    let dockerfile = "ARG DOCKER_IMAGE_PARENT\nFROM $DOCKER_IMAGE_PARENT\nENV TEST=arch-child\n";
    let Job { taskcluster, claim, .. } = parent;
    let child = Job::on(taskcluster, &Repository::bare("arch-child", dockerfile));
    let refused = child.run_with([("PARENT_TASK_ID", &*claim.task_id), ("TARGET_ARCH", other)]);
    refused.assert_fails(20, &["the parent image is for", &format!("must be for {other} (TARGET_ARCH")]);
    child.assert_engine_is_clean();
    crate::harness::assert_engine_is_clean("arch-parent");
}

#[test]
fn unknown_architectures_are_refused_with_the_known_ones() {
    let repository = Repository::bare("arch-unknown", "FROM scratch\nCOPY Dockerfile /\n");
    let (refused, _) = built(&repository, "aarch64", &[]);
    refused.assert_fails(2, &["TARGET_ARCH: \"aarch64\" is not an architecture: expected amd64 or arm64"]);
}
