//! Completion as bash does it: the script is sourced by a real bash, and its function called as bash calls it.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{Repository, path, program};

/// Calls the function that is registered for the program, with the words that are typed so far.
const COMPLETE: &str = r#"
source "$1"; shift
[[ $(complete -p image-worker) =~ -F\ ([^ ]+) ]] || exit 1
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
"${BASH_REMATCH[1]}" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\n' "${COMPREPLY[@]}"
"#;

#[test]
fn bash_completes_subcommands_and_what_they_take() {
    let script = program(["completions", "bash"], []).finish();
    script.assert_succeeds();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, &script.stdout).unwrap();
    let checkout = Repository::bare("builder", "FROM scratch\n");
    let lint = checkout.directory().with_file_name("lint");
    std::fs::create_dir(&lint).unwrap();
    std::fs::write(lint.join("Dockerfile"), "FROM scratch\n").unwrap();
    // The script calls the program that is on PATH.
    let program = Path::new(env!("CARGO_BIN_EXE_image-worker")).parent().unwrap();
    let search = format!("{}:/usr/bin:/bin", path(program));
    let complete = |typed: &[&str]| {
        let mut bash = Command::new("bash");
        bash.current_dir(checkout.root.path()).env("PATH", &search).env("PROJECT", "try");
        bash.args(["--norc", "-c", COMPLETE, "bash", path(file.path())]).args(typed).stdin(Stdio::null());
        let output = bash.output().unwrap();
        assert!(output.status.success(), "{typed:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    for (typed, expected) in [
        (&["image-worker", "re"][..], &["replay", "rerun"][..]),
        (&["image-worker", "run", "--dry"], &["--dry-run"]),
        (&["image-worker", "run", "--dry-run", "--outp"], &["--output"]),
        (&["image-worker", "--json", "hash", "--sch"], &["--scheme"]),
        (&["/usr/bin/image-worker", "decide", "--off"], &["--offline"]),
        (&["image-worker", "completions", "z"], &["zsh"]),
        (&["image-worker", "man", "rep"], &["replay"]),
        (&["image-worker", "build", "bu"], &["builder"]),
        (&["image-worker", "build", "builder", "l"], &["lint"]),
        (&["image-worker", "hash", "testing/docker/li"], &["testing/docker/lint/"]),
        (&["image-worker", "init", "bu"], &[]),
        (&["image-worker", "build", "--engine", ""], &["auto", "docker", "podman", "managed"]),
        (&["image-worker", "build", "--engine", "po"], &["podman"]),
        (&["image-worker", "lookup", "--project", ""], &["try", "mozilla-central"]),
        (&["image-worker", "tree", "--root", "test"], &["testing/"]),
    ] {
        assert_eq!(complete(typed), expected, "{typed:?}");
    }
}

#[test]
fn each_shell_has_its_script() {
    for (shell, words) in [
        ("bash", "complete -o nospace -o bashdefault"),
        ("zsh", "#compdef image-worker"),
        ("fish", "complete --keep-order --exclusive --command image-worker"),
    ] {
        let script = program(["completions", shell], []).finish();
        script.assert_succeeds();
        assert!(script.stdout.contains(words) && script.stdout.contains("IMAGE_WORKER_COMPLETE"), "{}", script.stdout);
    }
}

#[test]
fn the_variable_of_the_scripts_alone_completes_nothing() {
    let variable = || [("IMAGE_WORKER_COMPLETE".to_owned(), "bash".to_owned())];
    program(["hash"], variable()).finish().assert_fails(2, &["[taskcluster-image-build:error] configuration: "]);
    let run = program(["load", "x", "--run", "--", "make"], variable()).finish();
    assert!(run.code != 0 && run.stderr.contains("[taskcluster-image-build:error] "), "{}", run.stderr);
}

#[test]
fn each_subcommand_has_its_manual_page() {
    let page = |arguments: &[&str]| {
        let finished = program(arguments.iter().copied(), []).finish();
        finished.assert_succeeds();
        finished.stdout
    };
    let whole = page(&["man"]);
    assert!(whole.contains(".TH image-worker 1 ") && whole.contains("image\\-worker\\-run(1)"), "{whole}");
    let run = page(&["man", "run"]);
    let version = env!("IMAGE_WORKER_VERSION");
    let (version, commit) = version.split_once(" (").unwrap_or((version, ""));
    let date = commit.trim_end_matches(')').split(' ').next_back().unwrap();
    assert!(run.contains(&format!(".TH image-worker-run 1 {date} \"image-worker {version}\"")), "{run}");
    // Also of what -h leaves out.
    assert!(page(&["man", "shell"]).contains("A variable in its environment"));
    assert!(run.contains("\\fB\\-\\-dry\\-run\\fR") && run.contains("TASKCLUSTER_ROOT_URL"), "{run}");
    assert_eq!(program(["man", "nosuch"], []).finish().code, 2);
}
