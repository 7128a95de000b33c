//! `--version` names the commit: the build script, compiled apart and run in checkouts of every kind.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{path, program};

const WHO: [&str; 4] = ["-c", "user.name=x", "-c", "user.email=x@example.com"];

fn git(directory: &Path, arguments: &[&str]) -> String {
    let git = Command::new("git").args(WHO).args(arguments).current_dir(directory).output().unwrap();
    assert!(git.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&git.stderr));
    String::from_utf8(git.stdout).unwrap().trim().to_owned()
}

fn commit(directory: &Path) -> String {
    git(directory, &["commit", "--quiet", "--allow-empty", "--message", "x"]);
    let commit = git(directory, &["log", "-1", "--abbrev=12", "--format=%h %cs"]);
    assert_eq!(commit.len(), "0123456789ab 2026-11-30".len());
    commit
}

/// The build script, which runs where the manifest is.
struct Script {
    program: PathBuf,
}

impl Script {
    /// The version that it gives a program with this manifest's directory, and the files that it watches.
    fn run(&self, directory: &Path, given: Option<&str>) -> (String, Vec<PathBuf>) {
        let mut command = Command::new(&self.program);
        command.current_dir(directory).env("CARGO_MANIFEST_DIR", directory).env("CARGO_PKG_VERSION", "1.2.3");
        let output = command.env("IMAGE_WORKER_COMMIT", given.unwrap_or_default()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8(output.stdout).unwrap();
        let version = lines.lines().find_map(|line| line.strip_prefix("cargo:rustc-env=IMAGE_WORKER_VERSION="));
        let watched = lines.lines().filter_map(|line| line.strip_prefix("cargo:rerun-if-changed="));
        let watched = watched.filter(|path| *path != "scripts/build.rs").map(|path| directory.join(path));
        (version.unwrap().to_owned(), watched.collect())
    }
}

#[test]
fn the_version_is_the_one_that_was_built_in() {
    let finished = program(["--version"], []).finish();
    finished.assert_succeeds();
    assert_eq!(finished.stdout, concat!("image-worker ", env!("IMAGE_WORKER_VERSION"), "\n"));
}

#[test]
fn the_commit_is_found_in_checkouts_of_every_kind() {
    let top = tempfile::tempdir().unwrap();
    let script = Script { program: top.path().join("script") };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/build.rs");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let built =
        Command::new(rustc).args(["--edition", "2024", "-o"]).arg(&script.program).arg(source).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));

    let plain = top.path().join("plain");
    std::fs::create_dir(&plain).unwrap();
    assert_eq!(script.run(&plain, None), ("1.2.3".to_owned(), Vec::new()));
    assert_eq!(script.run(&plain, Some("a release")).0, "1.2.3 (a release)");

    let checkout = top.path().join("checkout");
    git(top.path(), &["init", "--quiet", "--initial-branch", "main", path(&checkout)]);
    let first = commit(&checkout);
    let (version, watched) = script.run(&checkout, None);
    assert_eq!(version, format!("1.2.3 ({first})"));
    assert_eq!(watched, [".git/HEAD", ".git/refs/heads/main"].map(|file| checkout.join(file)));
    assert_eq!(script.run(&checkout, Some("given")).0, "1.2.3 (given)");
    // Sources that lie in another's checkout.
    let below = checkout.join("vendor");
    std::fs::create_dir(&below).unwrap();
    assert_eq!(script.run(&below, None).0, "1.2.3");

    let worktree = top.path().join("worktree");
    git(&checkout, &["worktree", "add", "--quiet", path(&worktree)]);
    let second = commit(&worktree);
    let (version, watched) = script.run(&worktree, None);
    assert_eq!(version, format!("1.2.3 ({second})"));
    assert!(watched.len() == 2 && watched.iter().all(|file| file.is_file()), "{watched:?}");

    // What is watched changes with the next commit, packed or not.
    for pack in [false, true] {
        if pack {
            git(&checkout, &["pack-refs", "--all"]);
        }
        let (_, watched) = script.run(&checkout, None);
        let contents = || watched.iter().map(|file| std::fs::read(file).unwrap()).collect::<Vec<_>>();
        let before = contents();
        commit(&checkout);
        assert_ne!(contents(), before, "packed: {pack}");
    }
    git(&checkout, &["checkout", "--quiet", "--detach"]);
    let detached = commit(&checkout);
    assert_eq!(script.run(&checkout, None).0, format!("1.2.3 ({detached})"));
}
