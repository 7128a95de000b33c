//! What others say in the program's log: engines, services and servers that write line breaks, control characters or the
//! request's own secrets into their answers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use serde_json::{Value, json};

use crate::harness::{Finished, program};

/// A line that Treeherder would show as an error of the job.
const FORGED: &str = "[taskcluster-image-build:error] build: forged";

/// A server that answers each request with what `answer` makes of it, until the test ends.
struct Server {
    address: SocketAddr,
}

impl Server {
    fn start(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                // A client that hangs up is no failure of the test.
                let _ = reply(connection.unwrap(), &answer);
            }
        });
        Self { address }
    }

    /// An engine of this version, which knows no image.
    fn engine(version: &str) -> Self {
        let version = json!({"Version": version, "ApiVersion": "1.41", "MinAPIVersion": "1.12", "Components": []});
        Self::start(move |request| {
            if request.contains("/version") { (200, version.to_string()) } else { (500, "{}".to_owned()) }
        })
    }
}

fn reply(mut connection: TcpStream, answer: &impl Fn(&str) -> (u16, String)) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = connection.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..read]);
    }
    let (status, body) = answer(&String::from_utf8_lossy(&request));
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    connection.write_all(head.as_bytes())?;
    connection.write_all(body.as_bytes())
}

/// A run that asks the engine at `engine`, and ends there.
fn load_with(engine: &str, changes: &[(&str, &str)]) -> Finished {
    let archive = tempfile::NamedTempFile::new().unwrap();
    let variables = changes.iter().copied().chain([("DOCKER_HOST", engine)]);
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    program(["load", "--file", archive.path().to_str().unwrap()], variables).finish()
}

/// Asserts that no line of the log is anybody else's.
fn assert_own_lines(finished: &Finished) {
    finished.error_line();
    for line in finished.stderr.lines() {
        let own = ["[image-worker ", "[taskcluster-image-build:error] ", "  because: ", "    | ", "build | "];
        assert!(own.iter().any(|begin| line.starts_with(begin)) && !line.starts_with(FORGED), "{line:?}");
        assert!(!line.chars().any(|it| it.is_control() || it == '\u{202e}'), "{line:?}");
    }
}

#[test]
fn an_engines_version_forges_no_line() {
    let version = format!("20.10\n{FORGED}\r\u{1b}[31m\u{9b}2K\u{202e}\u{2028}{FORGED}");
    let engine = Server::engine(&version);
    let finished = load_with(&format!("tcp://{}", engine.address), &[]);
    assert_own_lines(&finished);
    assert!(finished.stderr.contains("20.10\\n[taskcluster-image-build:error]"), "{}", finished.stderr);

    let finished = load_with(&format!("tcp://{}", engine.address), &[("IMAGE_WORKER_LOG_FORMAT", "json")]);
    let events: Vec<Value> = finished.stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let told = events.iter().find(|event| event["fields"]["message"].as_str().unwrap().contains("20.10\\n"));
    assert!(told.is_some_and(|event| event["level"] == "INFO"), "{}", finished.stderr);
    assert!(!finished.stderr.contains(['\u{9b}', '\u{202e}', '\u{2028}']), "{}", finished.stderr);
}

#[test]
fn an_engines_error_forges_no_line() {
    let answer = json!({"message": format!("no\n{FORGED}\n\r{FORGED}\u{1b}[1A")}).to_string();
    let engine = Server::start(move |_| (500, answer.clone()));
    assert_own_lines(&load_with(&format!("tcp://{}", engine.address), &[]));
}
