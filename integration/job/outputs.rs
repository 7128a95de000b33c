//! Where the program writes to, and what it reads from, when that is no plain file or the other end is gone: pipes, devices,
//! terminals that are closed, servers that hang up.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::faults::log_lines::{Answer, Server, dry_run, run_with};
use crate::harness::{Repository, installed, path, program};

fn here(arguments: &[&str]) -> crate::harness::Program {
    program(arguments.iter().copied(), [])
}

fn mkfifo(place: &Path) {
    assert!(Command::new("mkfifo").arg(place).status().unwrap().success());
}

#[test]
fn who_closes_the_pipe_has_read_enough() {
    let repository = Repository::new("outputs-pipe", "");
    for arguments in [&["tree", "--json", "--root"][..], &["tree", "--root"]] {
        let mut program = here(&[arguments, &[path(repository.root.path())]].concat());
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        program.command.stdout(writer);
        program.finish().assert_succeeds();
    }
}

#[test]
fn a_place_where_nothing_can_be_written_is_named_in_the_error() {
    let repository = Repository::new("outputs-place", "");
    let (root, image) = (path(repository.root.path()).to_owned(), path(&repository.directory()).to_owned());
    let context = |out: &str| here(&["context", "--root", &root, "--out", out, &image]).finish();
    context(&format!("{root}/nosuch/c.tar.gz")).assert_fails(2, &["nosuch/c.tar.gz: no such directory"]);
    context(&root).assert_fails(2, &["it is a directory"]);
    let pipe = repository.root.path().join("pipe");
    mkfifo(&pipe);
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::read(pipe).unwrap()
    });
    context(path(&pipe)).assert_succeeds();
    assert_eq!(reader.join().unwrap()[..2], [0x1f, 0x8b], "the pipe's reader has the context");
    assert!(!pipe.is_file(), "the pipe is still there");
}

#[test]
fn a_pipe_in_the_place_of_a_dockerfile_does_not_stop_anybody() {
    for file in ["Dockerfile", "VERSION"] {
        let repository = Repository::new("outputs-fifo", "");
        let place = repository.directory().join(file);
        // There is none of the other.
        let _ = std::fs::remove_file(&place);
        mkfifo(&place);
        let root = path(repository.root.path()).to_owned();
        let finished = here(&["hash", "--root", &root, path(&repository.directory())]).finish();
        finished.assert_fails(10, &[file, "named pipe"]);
        let graph = repository.root.path().join("graph.json");
        let image = "{{#task_id_for_image}}outputs-fifo{{/task_id_for_image}}";
        let task =
            serde_json::json!({ "name": "a", "payload": { "image": { "type": "task-image", "taskId": image } } });
        std::fs::write(
            &graph,
            serde_json::json!({ "tasks": [{ "taskId": "fN1SbArXTPSVFNUvaOlinQ", "task": task }] }).to_string(),
        )
        .unwrap();
        let contexts = path(&repository.root.path().join("contexts")).to_owned();
        let variables = [("PROJECT", "try"), ("PUSHDATE", "20151209123456"), ("TASK_ID", "fN1SbArXTPSVFNUvaOlinQ")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let decide = ["decide", "--offline", "--root", &root, "--contexts", &contexts, path(&graph)];
        let decided = program(decide, variables).finish();
        assert_ne!(decided.code, 0, "{}", decided.stderr);
        assert!(decided.error_line().contains(file), "{}", decided.stderr);
    }
}

#[test]
fn a_context_that_is_cut_without_a_word_is_the_networks_fault() {
    let (context, _) = Repository::new("outputs-cut", "").context();
    let half = [b"HTTP/1.0 200 OK\r\n\r\n", &context[..context.len() / 2]].concat();
    let server = Server::engine("20.10", move |_| Answer::Raw(half.clone()));
    let out = tempfile::tempdir().unwrap();
    let url = format!("http://{}/context.tar.gz", server.address);
    let mut variables = dry_run(&url, "{}");
    variables.push(("IMAGE_WORKER_OUTPUT", path(out.path())));
    let finished = run_with(&["run", "--dry-run"], &format!("tcp://{}", server.address), &variables);
    finished.assert_fails(30, &["the connection ended within the file"]);
}

#[test]
fn a_stop_during_a_download_is_one_line_and_no_panic() {
    let server = Server::engine("20.10", |_| {
        Answer::Half(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhalf of it".to_vec())
    });
    let (engine, url) = (format!("tcp://{}", server.address), format!("http://{}/context.tar.gz", server.address));
    let out = tempfile::tempdir().unwrap();
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)].repeat(3) {
        let variables = dry_run(&url, "{}").into_iter().chain([("IMAGE_WORKER_OUTPUT", path(out.path()))]);
        let variables = variables.chain([("DOCKER_HOST", engine.as_str())]);
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let finished = program(["run", "--dry-run"], variables).finish_when(
            |log| log.contains("the context needs"),
            |id| {
                assert!(
                    Command::new("kill").args([&format!("-{signal}"), &id.to_string()]).status().unwrap().success()
                );
            },
        );
        finished.assert_fails(code, &["fetching the context"]);
        assert!(!finished.stderr.contains("panic") && !finished.stderr.contains("bug:"), "{}", finished.stderr);
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0, "something is left");
    }
}

#[test]
fn a_terminal_that_is_closed_ends_the_job_and_leaves_nothing() {
    if !installed("script") {
        return;
    }
    let server = Server::engine("20.10", |_| {
        Answer::Half(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhalf of it".to_vec())
    });
    let (engine, url) = (format!("tcp://{}", server.address), format!("http://{}/context.tar.gz", server.address));
    let directory = tempfile::tempdir().unwrap();
    let (out, work, code) =
        (directory.path().join("out"), directory.path().join("work"), directory.path().join("code"));
    std::fs::create_dir_all(&work).unwrap();
    // The shell stays to report how the program ended; the signal is for the first process of a terminal, which passes it on.
    let command = format!(
        "trap 'kill -HUP $child' HUP; {} run --dry-run & child=$!; wait $child; code=$?; \
         while kill -0 $child 2>/dev/null; do wait $child; code=$?; done; echo $code >{}",
        env!("CARGO_BIN_EXE_image-worker"),
        path(&code)
    );
    // A shell cannot trap a signal that was ignored when it began, as under nohup.
    let mut terminal = Command::new("env");
    terminal.args(["--default-signal=HUP", "script", "--quiet", "--command", &command, "/dev/null"]);
    terminal.env("TERM", "xterm").env("TMPDIR", &work);
    terminal
        .envs(dry_run(&url, "{}"))
        .env("IMAGE_WORKER_OUTPUT", &out)
        .env("DOCKER_HOST", &engine)
        .env("SHELL", "/bin/sh");
    let mut terminal = terminal.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut shown, mut buffer) = (Vec::new(), [0; 1024]);
    let mut screen = terminal.stdout.take().unwrap();
    while !String::from_utf8_lossy(&shown).contains(" left") {
        let read = screen.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "it ended: {}", String::from_utf8_lossy(&shown));
        shown.extend_from_slice(&buffer[..read]);
    }
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    let limit = Instant::now() + Duration::from_mins(1);
    let ended = loop {
        match std::fs::read_to_string(&code) {
            Ok(text) if text.ends_with('\n') => break text,
            _ => assert!(Instant::now() < limit, "it does not end"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(ended, "129\n");
    for place in [&work, &out] {
        let left: Vec<_> = std::fs::read_dir(place).into_iter().flatten().map(|it| it.unwrap().path()).collect();
        assert!(left.is_empty(), "left: {left:?}");
    }
}
