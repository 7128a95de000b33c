//! `.dockerignore` with real engines: every builder gets the files that `docker build` itself takes from the same directory,
//! and the hash is that of all files.

use std::collections::BTreeSet;
use std::io::Read;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::conformance::builder::{BUILDERS, engines, name, place};
use crate::harness::{Builder, Finished, PROJECT, Repository, engine, path, program};

const DOCKERFILE: &str = "FROM scratch\nCOPY . /all\n";
const FILES: [&str; 14] = [
    ".env",
    "a.log",
    "b.md",
    "d.md",
    "keep.log",
    "src/.env",
    "src/main",
    "src/gen1/x",
    "src/deep/gen2",
    "sub/a.log",
    "sub/deep/kept",
    "sub/deep/lost",
    "sub/kept",
    "sub/out/x",
];

/// The files in `/all` of an image.
fn copied(mut archive: impl Read) -> BTreeSet<String> {
    let mut bytes = Vec::new();
    archive.read_to_end(&mut bytes).unwrap();
    let mut names = BTreeSet::new();
    let mut layers = BTreeSet::new();
    let mut members = std::collections::BTreeMap::new();
    for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let (name, mut content) = (entry.path().unwrap().display().to_string(), Vec::new());
        entry.read_to_end(&mut content).unwrap();
        members.insert(name, content);
    }
    let manifest: Value = serde_json::from_slice(&members["manifest.json"]).unwrap();
    layers.extend(manifest[0]["Layers"].as_array().unwrap().iter().map(|layer| layer.as_str().unwrap().to_owned()));
    for layer in layers {
        for entry in tar::Archive::new(members[&layer].as_slice()).entries().unwrap() {
            let entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            names
                .extend(name.strip_prefix("all/").filter(|_| entry.header().entry_type().is_file()).map(str::to_owned));
        }
    }
    names
}

fn repository(ignore: &str) -> Repository {
    let repository = Repository::bare("dockerignore", DOCKERFILE);
    for file in FILES {
        let file = repository.directory().join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, path(&file)).unwrap();
    }
    // Podman's own, which no other engine supports.
    std::fs::write(repository.directory().join(".containerignore"), "*\n!Dockerfile\n").unwrap();
    std::fs::write(repository.directory().join(".dockerignore"), ignore).unwrap();
    repository
}

fn dry_run(repository: &Repository, builder: Builder) -> Finished {
    let output = repository.root.path().join("out");
    let directory = repository.directory();
    let arguments = ["run", "--dry-run", "--context", path(&directory), "--output", path(&output)];
    let image = format!("dockerignore-{}", name(builder).to_lowercase().replace(' ', "-"));
    let choice = match builder {
        Builder::Docker => "classic",
        Builder::BuildKit => "buildkit",
        Builder::Podman => "auto",
    };
    let environment = [
        ("IMAGE_NAME", image),
        ("PROJECT", PROJECT.to_owned()),
        ("DOCKER_HOST", place(builder)),
        ("IMAGE_WORKER_BUILDER", choice.to_owned()),
    ];
    program(arguments, environment.map(|(name, value)| (name.to_owned(), value))).finish()
}

/// The files that the docker client and its engine take from the directory.
fn docker_build(repository: &Repository) -> BTreeSet<String> {
    let tag = format!("dockerignore-itself:{}", repository.root.path().file_name().unwrap().display()).to_lowercase();
    let docker = |arguments: &[&str]| {
        let mut docker = Command::new("docker");
        docker.args(arguments).env("DOCKER_HOST", place(Builder::Docker)).env("DOCKER_BUILDKIT", "0");
        let output = docker.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    docker(&["build", "--quiet", "--no-cache", "--tag", &tag, path(&repository.directory())]);
    let saved = docker(&["save", &tag]);
    docker(&["rmi", &tag]);
    copied(saved.as_slice())
}

#[test]
fn every_builder_gets_the_files_that_docker_build_takes() {
    if !engines() {
        return;
    }
    for (ignore, some, lost) in [
        ("# a comment\n**/.env\n *.log \n!keep.log\nsub/out/\n", "keep.log", "src/.env"),
        ("*\n!src\n!sub/kept\nsrc/**/gen?\n", "src/main", "src/deep/gen2"),
        ("/sub\n!sub/kept\n!/sub/deep/kept\n", "sub/deep/kept", "sub/deep/lost"),
        ("!keep.log\n*.log\nsub/./deep/../out\n**/de?p/l*\n", "sub/deep/kept", "keep.log"),
        ("Dockerfile\n.dockerignore\n[a-c]*.md\n", "d.md", "b.md"),
    ] {
        let repository = repository(ignore);
        let expected = docker_build(&repository);
        assert!(expected.contains(some) && !expected.contains(lost), "{ignore:?}: {expected:?}");
        let hash = repository.hash(image_worker::context::HashScheme::Tar);
        for builder in BUILDERS {
            let finished = dry_run(&repository, builder);
            finished.assert_succeeds();
            assert!(finished.stdout.trim().ends_with(&format!(":{hash}")), "the hash is that of all files");
            assert!(finished.stderr.contains(".dockerignore leaves "), "{}", finished.stderr);
            let mut expected = expected.clone();
            if builder == Builder::BuildKit {
                // It reads the Dockerfile from the context that it is sent.
                expected.insert("Dockerfile".to_owned());
            }
            let archive = std::fs::File::open(repository.root.path().join("out/image.tar")).unwrap();
            assert_eq!(copied(archive), expected, "{} with {ignore:?}", name(builder));
        }
    }
}

/// Where versions of Docker and Podman differ: BuildKit today keeps what an exception names below a directory that is listed.
#[test]
fn the_rules_are_not_those_of_an_engines_version() {
    if !engines() {
        return;
    }
    for (own, ignore) in [(".dockerignore", "*\n!**/kept\n"), ("Dockerfile.dockerignore", "*\n!**/kept\n")] {
        let repository = repository("sub\n");
        std::fs::write(repository.directory().join(own), ignore).unwrap();
        for builder in BUILDERS {
            let finished = dry_run(&repository, builder);
            finished.assert_succeeds();
            assert!(finished.stderr.contains(&format!("{own} leaves ")), "{}", finished.stderr);
            let archive = std::fs::File::open(repository.root.path().join("out/image.tar")).unwrap();
            let copied = copied(archive);
            let of_the_build = ["Dockerfile", ".dockerignore", "Dockerfile.dockerignore"];
            let files: Vec<_> = copied.iter().filter(|file| !of_the_build.contains(&file.as_str())).collect();
            assert_eq!(files, ["sub/deep/kept", "sub/kept"], "{} with {own}", name(builder));
        }
    }
}

#[test]
fn a_line_that_is_no_pattern_is_named() {
    if !engine() {
        return;
    }
    let repository = repository(".env\n[a-\n");
    let finished = dry_run(&repository, Builder::chosen());
    finished.assert_fails(10, &[".dockerignore in the context, line 2: \"[a-\" has a `[` without its `]`"]);
}
