//! `init` in repositories with and without images: what it writes is built by the real engine, and never replaces what is there.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::registry::Registry;
use crate::harness::{Finished, docker, docker_output, engine, path, program};

fn repository() -> TempDir {
    let root = TempDir::with_prefix("repository-").unwrap();
    std::fs::create_dir(root.path().join(".hg")).unwrap();
    root
}

fn call(root: &Path, arguments: &[&str]) -> Finished {
    let mut program = program(arguments.iter().copied(), []);
    program.command.current_dir(root);
    program.finish()
}

fn init(root: &Path, arguments: &[&str]) -> Finished {
    call(root, &[&["init"], arguments].concat())
}

fn read(root: &Path, file: &str) -> String {
    std::fs::read_to_string(root.join(file)).unwrap()
}

#[test]
fn a_new_image_is_built_and_its_next_commands_are_true() {
    if !engine() {
        return;
    }
    let (root, name) = (repository(), "init-first");
    let root = root.path();
    // A digest that is there needs no registry.
    let digest = "sha256:".to_owned() + &"0".repeat(64);
    let pinned = init(root, &["init-pinned", "--from", &format!("debian:12@{digest}")]);
    pinned.assert_succeeds();
    let dockerfile = read(root, "taskcluster/docker/init-pinned/Dockerfile");
    assert!(dockerfile.contains(&format!("\nFROM debian:12@{digest}\n")), "{dockerfile}");

    let finished = init(root, &[name, "--from", "scratch"]);
    finished.assert_succeeds();
    let next = ["build", "shell --local init-first:latest", "run --dry-run init-first"];
    let next = next.map(|command| format!("image-worker {command}")).join("\n").replace("build", "build init-first");
    assert_eq!(finished.stdout, next + "\n");
    let built = call(root, &["build", name]);
    built.assert_succeeds();
    assert_eq!(
        docker_output(&["image", "inspect", "--format", "{{.Config.Cmd}}", &format!("{name}:latest")]),
        "[/bin/sh]"
    );
    docker(&["rmi", &format!("{name}:latest")]);
    call(root, &["tree"]).assert_succeeds();

    // A second time it is there.
    let before = read(root, "taskcluster/docker/init-first/Dockerfile");
    init(root, &[name]).assert_fails(2, &["there is an image init-first already"]);
    assert_eq!(read(root, "taskcluster/docker/init-first/Dockerfile"), before);
    std::fs::create_dir(root.join("taskcluster/docker/init-other")).unwrap();
    std::fs::write(root.join("taskcluster/docker/init-other/file"), "").unwrap();
    init(root, &["init-other"]).assert_fails(2, &["something in its place"]);
    init(root, &["No Name"]).assert_fails(2, &["No Name"]);
    init(root, &["init-wrong", "--from", "No Image"]).assert_fails(2, &["--from No Image"]);
    assert!(!root.join("taskcluster/docker/init-wrong").exists());
}

#[test]
fn a_kind_gets_the_entry_of_the_new_image_and_its_parent() {
    let root = repository();
    let root = root.path();
    let kind = root.join("taskcluster/kinds/docker-image/kind.yml");
    std::fs::create_dir_all(kind.parent().unwrap()).unwrap();
    let text = "---\n# the images\ntasks:\n  base:\n    symbol: I(base) # b\n";
    std::fs::write(&kind, text).unwrap();
    let directory = root.join("taskcluster/docker/base");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("Dockerfile"), "FROM scratch\n").unwrap();
    let finished = init(root, &["child", "--from", "base", "--json"]);
    finished.assert_succeeds();
    let answer: Value = serde_json::from_str(&finished.stdout).unwrap();
    let files = ["taskcluster/docker/child/Dockerfile", "taskcluster/docker/child/.dockerignore"];
    assert_eq!(answer["files"], serde_json::json!([files[0], files[1], "taskcluster/kinds/docker-image/kind.yml"]));
    assert_eq!(answer["from"], "base");
    let entry = "  child:\n    symbol: I(child)\n    parent: base\n";
    assert_eq!(std::fs::read_to_string(&kind).unwrap(), format!("{text}{entry}"));
    let tree = call(root, &["tree", "--json"]);
    tree.assert_succeeds();
    assert!(tree.stdout.contains("\"parent\":\"base\"") || tree.stdout.contains("base"), "{}", tree.stdout);

    // One that has no block for it stays as it is.
    let flow = "tasks: {base: {}, child: {}}\n";
    std::fs::write(&kind, flow).unwrap();
    let finished = init(root, &["third", "--from", "scratch"]);
    finished.assert_succeeds();
    assert!(finished.stderr.contains("by hand: third: {symbol: I(third)}"), "{}", finished.stderr);
    assert_eq!(std::fs::read_to_string(&kind).unwrap(), flow);
    assert!(root.join("taskcluster/docker/third/Dockerfile").exists(), "{}", path(root));
}

#[test]
fn without_an_answer_of_the_registry_the_tag_stands_alone() {
    let root = repository();
    let root = root.path();
    // Nothing listens there.
    let finished = init(root, &["lonely", "--from", "127.0.0.1:1/base:1", "--tries", "1"]);
    finished.assert_succeeds();
    assert!(finished.stderr.contains("127.0.0.1:1/base:1 is not pinned to its digest"), "{}", finished.stderr);
    let dockerfile = read(root, "taskcluster/docker/lonely/Dockerfile");
    assert!(dockerfile.contains("\nFROM 127.0.0.1:1/base:1\n"), "{dockerfile}");
}

#[test]
fn the_base_has_the_digest_that_its_registry_has_and_is_built_on() {
    let Some(registry) = engine().then(|| Registry::start(false)).flatten() else { return };
    let root = repository();
    let root = root.path();
    init(root, &["init-base", "--from", "scratch"]).assert_succeeds();
    std::fs::write(root.join("taskcluster/docker/REGISTRY"), format!("{}/m", registry.address)).unwrap();
    std::fs::write(root.join("taskcluster/docker/init-base/VERSION"), "1").unwrap();
    call(root, &["build", "--push", "init-base"]).assert_succeeds();
    let base = format!("{}/m/init-base:1", registry.address);
    let digest = registry.digest("m/init-base", "1", None).unwrap();

    init(root, &["init-child", "--from", &base]).assert_succeeds();
    let dockerfile = read(root, "taskcluster/docker/init-child/Dockerfile");
    assert!(dockerfile.contains(&format!("\nFROM {base}@{digest}\n")), "{dockerfile}");
    let built = call(root, &["build", "init-child"]);
    for tag in ["init-child:latest", &base] {
        docker(&["rmi", tag]);
    }
    built.assert_succeeds();
    let missing = base.replace(":1", ":2");
    init(root, &["init-none", "--from", &missing]).assert_fails(2, &[&missing, "its registry does not have it"]);
}
