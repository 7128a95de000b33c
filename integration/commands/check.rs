//! `check` against the programs that it is about: what `docker load` and skopeo do with the same archives, of Docker, Podman and
//! skopeo, and with broken ones.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use image_worker::net::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::archive::{Archive, gzip, member, with};
use crate::harness::{
    Finished, Repository, assert_engine_is_clean, container_output, docker, docker_output, engine, installed, names_of,
    path, program,
};

const NOTHING_LOADS: &str = "nothing loads it";

fn check(file: &Path) -> Finished {
    program(["check", path(file)], []).finish()
}

/// The report of `check --json`, with which the exit code must agree.
fn verdict(file: &Path) -> Value {
    let finished = program(["check", "--json", path(file)], []).finish();
    let value: Value = serde_json::from_str(&finished.stdout).unwrap();
    let sound = value["problems"].as_array().unwrap().is_empty();
    assert_eq!(finished.code, if sound { 0 } else { 10 }, "{}", finished.stderr);
    if !sound {
        assert!(finished.error_line().contains(path(file)), "{}", finished.stderr);
    }
    value
}

fn problems(verdict: &Value) -> Vec<(&str, &str)> {
    let problems = verdict["problems"].as_array().unwrap().iter();
    problems.map(|it| (it["problem"].as_str().unwrap(), it["breaks"].as_str().unwrap())).collect()
}

fn tool(name: &str, arguments: &[&str]) -> Output {
    let output = Command::new(name).args(arguments).stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("cannot run {name} {arguments:?}: {error}; run scripts/test"))
}

fn tool_output(name: &str, arguments: &[&str]) -> String {
    let output = tool(name, arguments);
    assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A Podman with a place of its own.
struct Podman(TempDir);

impl Podman {
    fn new() -> Self {
        Self(TempDir::with_prefix("podman-").unwrap())
    }

    fn output(&self, arguments: &[&str]) -> String {
        let [root, run] = ["root", "run"].map(|name| self.0.path().join(name));
        let place = ["--root", path(&root), "--runroot", path(&run), "--storage-driver", "vfs"];
        tool_output("podman", &[&place, arguments].concat())
    }
}

/// Asserts that the engine and skopeo agree with a verdict of no problems: the image has the id and the one name.
fn assert_loads(file: &Path, verdict: &Value, mark: &str) {
    let tags = verdict["tags"].as_array().unwrap();
    let [tag] = tags.as_slice() else { panic!("one name, not {tags:?}") };
    let tag = tag.as_str().unwrap();
    // By its name, which skopeo must find for that.
    let inspected = tool_output("skopeo", &["inspect", &format!("docker-archive:{}:{tag}", path(file))]);
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected["Layers"].as_array().unwrap().len() as u64, verdict["layers"].as_u64().unwrap());
    docker_output(&["load", "--input", path(file)]);
    assert_eq!(docker_output(&["image", "inspect", "--format", "{{.Id}}", tag]), verdict["imageId"].as_str().unwrap());
    let output = container_output(&[tag, "/bin/busybox", "echo", mark]);
    docker_output(&["rmi", "--force", tag]);
    assert_eq!(output, mark);
}

/// Asserts that `image-worker load` loads an archive under a name, and under no other.
fn assert_subcommand_loads(file: &Path, tag: &str, id: &str) {
    let loaded = program(["load", "--file", path(file), "--tag", tag], []).finish();
    loaded.assert_succeeds();
    assert_eq!(loaded.stdout.trim(), tag, "{}", file.display());
    assert_eq!(docker_output(&["image", "inspect", "--format", "{{.Id}}", tag]), id);
    assert_eq!(names_of(id), [tag]);
    docker_output(&["rmi", tag]);
}

#[test]
fn archives_of_docker_podman_and_skopeo_pass_the_check() {
    if !engine() || !installed("podman") || !installed("skopeo") {
        return;
    }
    let name = "check-tools";
    let repository = Repository::new(name, "RUN echo one > /one\n");
    let (directory, podman) = (TempDir::new().unwrap(), Podman::new());
    let file = |name: &str| directory.path().join(name);
    let tag = format!("{name}:1");
    docker_output(&["build", "--quiet", "--no-cache", "--tag", &tag, path(&repository.directory())]);
    let [docker_save, two, podman_save, copied, renamed, oci] =
        ["docker.tar", "two.tar", "podman.tar", "copied.tar", "renamed.tar", "oci.tar"].map(file);
    docker_output(&["save", "--output", path(&docker_save), &tag]);
    let other = format!("{name}:2");
    docker_output(&["tag", &tag, &other]);
    docker_output(&["save", "--output", path(&two), &tag, &other]);
    let id = docker_output(&["image", "inspect", "--format", "{{.Id}}", &tag]);
    docker_output(&["rmi", &tag, &other]);
    podman.output(&["pull", "--quiet", &format!("docker-archive:{}", path(&docker_save))]);
    podman.output(&["save", "--quiet", "--output", path(&podman_save), &tag]);
    let source = format!("docker-archive:{}", path(&docker_save));
    tool_output("skopeo", &["copy", &source, &format!("docker-archive:{}", path(&copied))]);
    tool_output("skopeo", &["copy", &source, &format!("docker-archive:{}:{name}:3", path(&renamed))]);
    tool_output("skopeo", &["copy", &source, &format!("oci-archive:{}:{name}:4", path(&oci))]);

    for (file, tag) in [
        (&docker_save, "check-tools:1"),
        (&podman_save, "localhost/check-tools:1"),
        (&renamed, "docker.io/library/check-tools:3"),
    ] {
        let verdict = verdict(file);
        assert_eq!(verdict["problems"], json!([]), "{tag}");
        let whole = std::fs::read(file).unwrap();
        assert_eq!((&verdict["tags"], &verdict["imageId"]), (&json!([tag]), &json!(id)));
        assert_eq!((&verdict["sha256"], &verdict["size"]), (&json!(Digest::of(&whole)), &json!(whole.len())));
        assert_loads(file, &verdict, name);
        let checked = check(file);
        checked.assert_succeeds();
        let takers = "docker load before 23, docker load from 23 on, podman load, docker-worker, image-worker load";
        assert!(checked.stdout.ends_with(&format!("\ncan load it: {takers}\n")), "{}", checked.stdout);
        // The medium is no difference.
        for packed in [gzip(&whole), zstd::encode_all(&*whole, 1).unwrap()] {
            std::fs::write(directory.path().join("packed"), packed).unwrap();
            assert_eq!(self::verdict(&directory.path().join("packed"))["imageId"], json!(id));
        }
    }
    // `load` takes what is verified, with one name, several or none.
    for file in [&docker_save, &podman_save, &copied, &renamed, &two] {
        assert_subcommand_loads(file, &format!("{name}:loaded"), &id);
    }
    let problems_of =
        |file| verdict(file)["problems"].as_array().unwrap().iter().map(|it| it["problem"].clone()).collect();
    let several: Vec<_> = problems_of(&two);
    assert_eq!(several, [json!("manifest.json gives the image 2 names, check-tools:1, check-tools:2")]);
    let none: Vec<_> = problems_of(&copied);
    assert_eq!(none, [json!("manifest.json gives the image no name")]);
    let no_docker_archive: Vec<_> = problems_of(&oci);
    assert_eq!(no_docker_archive.last(), Some(&json!("it is an OCI layout without a manifest.json")));
    // skopeo writes another configuration for it.
    let oci_id = verdict(&oci)["imageId"].as_str().unwrap().to_owned();
    assert_subcommand_loads(&oci, &format!("{name}:loaded"), &oci_id);
    assert!(!docker(&["load", "--input", path(&oci)]).status.success());
    assert_engine_is_clean(name);
}

#[test]
fn what_run_writes_is_what_every_consumer_can_load() {
    if !engine() || !installed("skopeo") {
        return;
    }
    let name = "check-run";
    let repository = Repository::new(name, "RUN echo one > /one\nRUN true\n");
    let out = TempDir::new().unwrap();
    let [plain, packed] = ["image.tar", "image.tar.zst"].map(|file| {
        let (artifact, output) = (format!("public/{file}"), out.path().join(file));
        let arguments = ["run", "--dry-run", "--project", "try", "--artifact-name", artifact.as_str()];
        let directory = repository.directory();
        let given = ["--image-name", name, "--context", path(&directory), "--output", path(&output)];
        program(arguments.into_iter().chain(given), []).finish().assert_succeeds();
        verdict(&output.join(file))
    });
    assert_eq!((&plain["problems"], &packed["problems"]), (&json!([]), &json!([])));
    assert_eq!((&plain["packing"], &packed["packing"]), (&json!("plain"), &json!("zstd")));
    assert_loads(&out.path().join("image.tar/image.tar"), &plain, name);
    assert_engine_is_clean(name);
}

/// Archives with something wrong: the mark of the image, the archive, the problem in the report, and whether Docker and skopeo
/// take it.
fn broken() -> Vec<(&'static str, Vec<u8>, &'static str, bool, bool)> {
    let of = |mark: &'static str, make: fn(&Archive) -> Vec<u8>| (mark, make(&Archive::new(mark)));
    [
        (of("check-nameless", |image| image.tar(None)), "gives the image no name", true, true),
        (
            of("check-two-names", |image| image.tar(Some(&["check-two-names:1", "check-two-names:2"]))),
            "gives the image 2 names",
            true,
            true,
        ),
        (
            of("check-no-repositories", |image| image.tar(Some(&["check-no-repositories:1"]))),
            "it has no repositories",
            true,
            true,
        ),
        (of("check-bad-name", |image| image.tar(Some(&["Check-bad-name:1"]))), "which is none", false, true),
        (of("check-kaniko", Archive::kaniko), "is packed with gzip", true, true),
        (
            of("check-layer", |image| {
                let mut archive = image.sound("check-layer:1");
                let at = archive.windows(9).position(|window| window == b"inherited").unwrap() + 512;
                archive[at] ^= 1;
                archive
            }),
            "layer.tar has sha256 ",
            false,
            true,
        ),
        (
            of("check-config", |image| {
                let mut archive = image.sound("check-config:1");
                let at = archive.windows(5).position(|window| window == b"amd64").unwrap();
                archive[at..at + 5].copy_from_slice(b"arm64");
                archive
            }),
            ".json has sha256 ",
            true,
            true,
        ),
        (
            of("check-no-layer", |image| {
                let names: Vec<_> = ["one", "two"].map(|name| format!("{name}/layer.tar")).into();
                let config = format!("{}.json", Digest::of(&image.config));
                image.write(&config, &names, &image.layers[..1], Some(&["check-no-layer:1"]))
            }),
            "its layer two/layer.tar is missing",
            false,
            false,
        ),
        (
            of("check-one-layer", |image| {
                let config = format!("{}.json", Digest::of(&image.config));
                image.write(&config, &["one/layer.tar".to_owned()], &image.layers[..1], Some(&["check-one-layer:1"]))
            }),
            "manifest.json has 1 layers, but the configuration names 2",
            false,
            false,
        ),
        (
            of("check-no-config", |image| {
                let archive = image.sound("check-no-config:1");
                let first = image.config.len().next_multiple_of(512) + 512;
                archive[first..].to_vec()
            }),
            "its configuration ",
            false,
            false,
        ),
        (
            of("check-cut", |image| image.sound("check-cut:1")[..1_000_000].to_vec()),
            "it is truncated at ",
            false,
            false,
        ),
        (
            of("check-outside", |image| with(&image.sound("check-outside:1"), &member("../check-outside", b"x"))),
            "\"../check-outside\" has no plain name",
            true,
            true,
        ),
    ]
    .map(|((mark, archive), problem, docker, skopeo)| (mark, archive, problem, docker, skopeo))
    .into()
}

#[test]
fn reports_about_broken_archives_agree_with_engines_and_skopeo() {
    if !engine() || !installed("skopeo") {
        return;
    }
    let directory = TempDir::new().unwrap();
    let sound = directory.path().join("sound.tar");
    std::fs::write(&sound, Archive::new("check-sound").sound("check-sound:1")).unwrap();
    assert_loads(&sound, &verdict(&sound), "check-sound");
    let mut differences = Vec::new();
    for (mark, archive, expected, docker_loads, skopeo_reads) in broken() {
        let file = directory.path().join(format!("{mark}.tar"));
        std::fs::write(&file, archive).unwrap();
        let verdict = verdict(&file);
        let problems = problems(&verdict);
        assert!(problems.iter().any(|(problem, _)| problem.contains(expected)), "{mark}: {problems:?}");
        let finished = check(&file);
        assert_eq!(finished.code, 10, "{}", finished.stderr);
        assert!(problems.iter().all(|(problem, breaks)| finished.stdout.contains(&format!("- {problem}: {breaks}\n"))));
        assert!(finished.stdout.contains(" cannot load it: "), "{}", finished.stdout);

        let loaded = docker(&["load", "--quiet", "--input", path(&file)]);
        let words = String::from_utf8_lossy(&loaded.stdout);
        // Docker keeps the image also where it does not take its name.
        if let Some(id) = verdict["imageId"].as_str() {
            docker(&["rmi", "--force", id]);
        }
        let read = tool("skopeo", &["inspect", &format!("docker-archive:{}", path(&file))]);
        let failures = [&loaded, &read].map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
        let took = (loaded.status.success() && !words.is_empty(), read.status.success());
        if took != (docker_loads, skopeo_reads) {
            differences.push(format!("{mark}: docker and skopeo {took:?}, {failures:?}"));
        }
        if problems.iter().any(|(_, breaks)| *breaks == NOTHING_LOADS) {
            assert_eq!(took, (false, false), "{mark}: {problems:?}");
        }
        assert_engine_is_clean(mark);
        std::fs::remove_file(&file).unwrap();
    }
    assert_eq!(differences, Vec::<String>::new());
}

#[test]
fn a_file_that_is_not_there_is_no_verdict() {
    let directory = TempDir::new().unwrap();
    check(&directory.path().join("image.tar")).assert_fails(2, &["cannot read", "image.tar"]);
    check(directory.path()).assert_fails(2, &["cannot read"]);
}
