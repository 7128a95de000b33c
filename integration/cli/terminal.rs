//! Errors for a person at a terminal, and as JSON for a program. `script` is the terminal.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::commands::tree::sample;
use crate::harness::{installed, path, program};

type Variables<'a> = &'a [(&'a str, &'a str)];

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:9";

/// What a command shows at a terminal, and its exit code.
fn at_a_terminal(arguments: &[&str], environment: Variables) -> (i32, String) {
    let words = [env!("CARGO_BIN_EXE_image-worker")].into_iter().chain(arguments.iter().copied());
    let command: Vec<_> = words.map(|word| format!("'{word}'")).collect();
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--command", &command.join(" "), "/dev/null"]).stdin(Stdio::null());
    terminal.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("TERM", "xterm").env("SHELL", "/bin/sh");
    let output = terminal.envs(environment.iter().copied()).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap().replace("\r\n", "\n"))
}

/// An image archive that is cut in its first layer, plain and packed, in a directory.
fn cut_archives() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(100_000);
    header.set_mode(0o644);
    let mut tar = tar::Builder::new(Vec::new());
    // Nothing that can be packed.
    let mut state = 1_u32;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    let content: Vec<u8> = (0..100_000).map(|_| random()).collect();
    tar.append_data(&mut header, "layer.tar", content.as_slice()).unwrap();
    let tar = tar.into_inner().unwrap();
    let gzip = |bytes: &[u8]| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, bytes).unwrap();
        packed.finish().unwrap()
    };
    for (name, bytes) in [
        ("cut.tar", &tar[..20_000]),
        ("cut.tar.gz", &gzip(&tar)[..20_000]),
        ("cut.tar.zst", &zstd::encode_all(tar.as_slice(), 1).unwrap()[..20_000]),
        ("cut-then-packed.tar.gz", &gzip(&tar[..20_000])),
    ] {
        std::fs::write(directory.path().join(name), bytes).unwrap();
    }
    directory
}

#[test]
fn a_person_reads_what_is_wrong_the_causes_and_what_to_do() {
    if !installed("script") {
        return;
    }
    let (root, cut) = (sample(), cut_archives());
    let (root, cut) = (path(root.path()), path(cut.path()));
    let archive = |name: &str| format!("{cut}/{name}");
    let [plain, gzip, zstd, inside] = ["cut.tar", "cut.tar.gz", "cut.tar.zst", "cut-then-packed.tar.gz"].map(archive);
    let tc = ["--project", "try", "--root-url", NOWHERE];
    let lookup = [&["lookup", "builder", "--root", root], &tc[..]].concat();
    let cases: &[&[&str]] = &[
        &[],
        &["biuld"],
        &["run", "--buidler", "x"],
        &["run", "--dry-run"],
        &["hash", "buidler", "--root", root],
        &["hash", "nosuch", "--root", root],
        &["lookup", "builder", "--root", root],
        &lookup,
        &["decide", "nosuch.json"],
        &["why", "a", "b"],
        &["why", "a", "https://tc.example.com/tasks/groups/x"],
        &["push", "builder", "--root", root],
        &["check", "/nowhere/image.tar"],
        &["check", &plain],
        &["inspect", &plain],
        &["inspect", &gzip],
        &["inspect", &zstd],
        &["inspect", &inside],
    ];
    let environment = [("NO_COLOR", "1"), ("IMAGE_WORKER_TRIES", "1")];
    let mut all = Vec::new();
    for arguments in cases {
        let (code, shown) = at_a_terminal(arguments, &environment);
        // What stands before is the answer, or the help.
        let error = shown.find("error: ").map_or(shown.as_str(), |at| &shown[at..]);
        assert!(shown.contains("error: ") && !shown.contains("[taskcluster-image-build:"), "{shown}");
        all.push(format!("$ image-worker {}\n{error}{code}", arguments.join(" ")));
    }
    insta::assert_snapshot!(all.join("\n\n").replace(root, "[ROOT]").replace(cut, "[CUT]"));
}

#[test]
fn colours_are_for_a_persons_terminal_only() {
    if !installed("script") {
        return;
    }
    let arguments = ["decide", "nosuch.json"];
    let (code, shown) = at_a_terminal(&arguments, &[]);
    assert_eq!(code, 2);
    assert!(shown.starts_with("\u{1b}[1;31merror:\u{1b}[0m cannot read nosuch.json\n"), "{shown:?}");
    let (_, plain) = at_a_terminal(&arguments, &[("NO_COLOR", "1")]);
    assert!(plain.starts_with("error: cannot read nosuch.json\n") && !plain.contains('\u{1b}'), "{plain:?}");
    // Some workers give a task a terminal.
    let (_, task) = at_a_terminal(&arguments, &[("TASK_ID", "fN1SbArXTPSVFNUvaOlinQ"), ("RUN_ID", "0")]);
    assert!(task.starts_with("[taskcluster-image-build:error] configuration: cannot read nosuch.json; "), "{task:?}");
}

#[test]
fn a_program_reads_one_object() {
    let root = sample();
    let root = path(root.path());
    let flag = ["--log-format", "json"];
    let cases: &[(&[&str], Variables)] = &[
        (&["biuld", "--log-format=json"], &[]),
        (&[], &[("IMAGE_WORKER_LOG_FORMAT", "json")]),
        (&["run", flag[0], flag[1]], &[("IMAGE_NAME", "No Name")]),
        (&["why", "a", "b", flag[0], flag[1]], &[]),
        (&["decide", "nosuch.json", flag[0], flag[1]], &[]),
        (&["hash", "nosuch", "--root", root, flag[0], flag[1]], &[]),
        (&["run", "--config", "nosuch.toml", flag[0], flag[1]], &[]),
        (
            &["lookup", "builder", "--root", root, "--project", "try", "--root-url", NOWHERE, flag[0], flag[1]],
            &[("IMAGE_WORKER_TRIES", "1")],
        ),
    ];
    let mut all = Vec::new();
    for (arguments, environment) in cases {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let finished = program(arguments.iter().copied(), environment).finish();
        let objects: Vec<Value> = finished.stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let errors: Vec<_> = objects.iter().filter(|object| object["level"] == "ERROR").collect();
        let [error] = errors.as_slice() else { panic!("{arguments:?}: {}", finished.stderr) };
        assert_eq!(error["fields"]["exitCode"], finished.code, "{error}");
        assert_eq!(error["target"], "image_worker");
        assert!(error["timestamp"].as_str().unwrap().ends_with('Z'), "{error}");
        // Without a subcommand the help stands before it.
        assert!(arguments.is_empty() || objects.len() == finished.stderr.lines().count(), "{}", finished.stderr);
        all.push(format!("$ image-worker {}\n{:#}", arguments.join(" "), error["fields"]));
    }
    insta::assert_snapshot!(all.join("\n\n").replace(root, "[ROOT]"));
}
