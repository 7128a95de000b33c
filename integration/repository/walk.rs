//! The walk for people who add an image, docs/adding-an-image.md: its lines are run as written, and what it shows is
//! what the program prints.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{docker, docker_output, engine, program};

/// The lines of the document's first block of commands below a heading.
fn block(heading: &str) -> Vec<String> {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/adding-an-image.md");
    let document = std::fs::read_to_string(document).unwrap();
    let below = document.lines().skip_while(|line| *line != heading).skip_while(|line| !line.starts_with("    "));
    let block = below.take_while(|line| line.is_empty() || line.starts_with("    "));
    let mut lines: Vec<_> = block.map(|line| line.strip_prefix("    ").unwrap_or(line).to_owned()).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

#[test]
fn ten_lines_lead_from_an_empty_directory_to_ci() {
    let lines = block("## Ten lines");
    assert_eq!(lines.len(), 10, "{lines:#?}");
    let Some((push, lines)) = lines.split_last() else { return };
    assert!(push.starts_with("git add "), "the last line is for people: {push}");
    if !engine() {
        return;
    }
    if docker_output(&["images", "--quiet", "debian:12"]).is_empty() {
        assert!(std::env::var_os("IMAGE_WORKER_NO_SKIP").is_none(), "no debian:12: run scripts/base-image");
        eprintln!("SKIPPED: no debian:12; run scripts/base-image");
        return;
    }
    let checkout = TempDir::with_prefix("checkout-").unwrap();
    std::fs::create_dir(checkout.path().join(".git")).unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_image-worker")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut outputs = Vec::new();
    for line in lines {
        let mut shell = Command::new("sh");
        shell.args(["-e", "-c", line]).current_dir(checkout.path()).stdin(Stdio::null());
        // A fresh shell has nothing that the lines could need besides, but the way to the engine of these tests.
        let kept =
            ["HOME", "TMPDIR", "DOCKER_HOST"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        shell.env_clear().envs(kept).env("PATH", &path);
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
        outputs.push(String::from_utf8(output.stdout).unwrap());
    }
    assert!(docker(&["rmi", &format!("greeter:{}", outputs[3].trim())]).status.success());
    assert!(outputs[2].contains("\ngreeter  task "), "tree: {}", outputs[2]);
    assert_eq!(outputs[6], "hello\n", "the container");
    let graph: Value = serde_json::from_str(&outputs[8]).unwrap();
    let tasks = graph["tasks"].as_array().unwrap();
    assert_eq!(tasks[0]["task"]["image"], tasks[1]["taskId"], "the image's task is put in: {graph}");
    assert_eq!(tasks[1]["task"]["payload"]["env"]["HASH"], outputs[3].trim(), "{graph}");
}

#[test]
fn the_drawing_in_the_document_is_the_programs() {
    let root = crate::commands::tree::sample();
    let mut here = program(["tree", "--root", "."], []);
    here.command.current_dir(root.path());
    let lines = block("## All images at a glance");
    assert_eq!(lines[0], "$ image-worker tree");
    assert_eq!(here.finish().stdout.lines().collect::<Vec<_>>(), lines[1..]);
}
