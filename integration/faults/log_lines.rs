//! What others print into the program's log: engines, services and servers that write line breaks, control characters or the
//! request's own secrets into their answers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::{Finished, program};

/// A line that Treeherder would show as an error of the job.
const FORGED: &str = "[taskcluster-image-build:error] build: forged";

/// A server that answers each request with what `answer` makes of it, until the test ends.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
}

/// What a server answers.
pub(crate) enum Answer {
    /// A status and a body.
    Whole(u16, String),
    /// These bytes, and then nothing more until the client hangs up.
    Half(Vec<u8>),
    /// These bytes, and the end of the connection.
    Raw(Vec<u8>),
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (connection, answer) = (connection.unwrap(), answer.clone());
                // A client that hangs up is no failure of the test.
                std::thread::spawn(move || drop(reply(connection, &*answer)));
            }
        });
        Self { address }
    }

    /// An engine of this version, which has no image, and at `/context` whatever `context` answers.
    pub(crate) fn engine(version: &str, context: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let version = json!({"Version": version, "ApiVersion": "1.41", "MinAPIVersion": "1.12", "Components": []});
        Self::start(move |request| {
            if request.contains("/context") {
                context(request)
            } else if request.contains("/version") {
                Answer::Whole(200, version.to_string())
            } else {
                Answer::Whole(500, "{}".to_owned())
            }
        })
    }
}

fn reply(mut connection: TcpStream, answer: &impl Fn(&str) -> Answer) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = connection.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..read]);
    }
    match answer(&String::from_utf8_lossy(&request)) {
        Answer::Whole(status, body) => {
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            connection.write_all((head + &body).as_bytes())
        }
        Answer::Raw(bytes) => connection.write_all(&bytes),
        Answer::Half(bytes) => {
            connection.write_all(&bytes)?;
            connection.read_to_end(&mut Vec::new()).map(drop)
        }
    }
}

/// The variables of a dry run whose context is at `url`.
pub(crate) fn dry_run<'v>(url: &'v str, args: &'v str) -> Vec<(&'v str, &'v str)> {
    vec![
        ("IMAGE_NAME", "echo"),
        ("PROJECT", "try"),
        ("IMAGE_WORKER_CONTEXT", url),
        ("DOCKER_BUILD_ARGS", args),
        ("IMAGE_WORKER_TRIES", "1"),
        ("IMAGE_WORKER_VERBOSE", "1"),
    ]
}

/// A run that connects to the engine at `engine`, and ends there.
fn load_with(engine: &str, changes: &[(&str, &str)]) -> Finished {
    let archive = tempfile::NamedTempFile::new().unwrap();
    run_with(&["load", "--file", archive.path().to_str().unwrap()], engine, changes)
}

pub(crate) fn run_with(arguments: &[&str], engine: &str, changes: &[(&str, &str)]) -> Finished {
    let variables = changes.iter().copied().chain([("DOCKER_HOST", engine)]);
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    program(arguments.iter().copied(), variables).finish()
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
    let engine = Server::engine(&version, |_| Answer::Whole(404, String::new()));
    let finished = load_with(&format!("tcp://{}", engine.address), &[]);
    assert_own_lines(&finished);
    assert!(finished.stderr.contains("20.10\\n[taskcluster-image-build:error]"), "{}", finished.stderr);

    let finished = load_with(&format!("tcp://{}", engine.address), &[("IMAGE_WORKER_LOG_FORMAT", "json")]);
    let events: Vec<Value> = finished.stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let logged = events.iter().find(|event| event["fields"]["message"].as_str().unwrap().contains("20.10\\n"));
    assert!(logged.is_some_and(|event| event["level"] == "INFO"), "{}", finished.stderr);
    assert!(!finished.stderr.contains(['\u{9b}', '\u{202e}', '\u{2028}']), "{}", finished.stderr);
}

#[test]
fn an_engines_error_forges_no_line() {
    let answer = json!({"message": format!("no\n{FORGED}\n\r{FORGED}\u{1b}[1A")}).to_string();
    let engine = Server::start(move |_| Answer::Whole(500, answer.clone()));
    assert_own_lines(&load_with(&format!("tcp://{}", engine.address), &[]));
}

#[test]
fn a_server_that_repeats_the_request_leaks_no_secret() {
    let server = Server::engine("20.10", |request| Answer::Whole(403, format!("denied: {request}")));
    let (engine, out) = (format!("tcp://{}", server.address), tempfile::tempdir().unwrap());
    let url = format!(
        "http://me:context-pw@{}/context.tar.gz?X-Amz-Credential=AKIDEXAMPLE%2Fus-west-2&X-Amz-Signature=0badcafe0badcafe",
        server.address
    );
    let args = r#"{"PIP_INDEX_URL": "https://me:index-pw@pypi.example.com/", "NPM_AUTH": "npm-value"}"#;
    let mut variables = dry_run(&url, args);
    variables.push(("IMAGE_WORKER_OUTPUT", out.path().to_str().unwrap()));
    let finished = run_with(&["run", "--dry-run"], &engine, &variables);
    finished.assert_fails(31, &["denied: GET /context.tar.gz?[hidden]"]);
    // An engine's address has no user.
    let refused = run_with(&["run", "--dry-run"], &format!("tcp://u:PW@{}", server.address), &variables);
    refused.assert_fails(2, &["DOCKER_HOST", "without a user"]);
    assert!(!refused.stderr.contains("PW"), "{}", refused.stderr);
    // The last is me:context-pw.
    for secret in ["context-pw", "AKIDEXAMPLE", "0badcafe", "index-pw", "npm-value", "bWU6Y29udGV4dC1wdw"] {
        assert!(!finished.stderr.contains(secret), "{secret} is in:\n{}", finished.stderr);
    }
    for name in ["NPM_AUTH", "PIP_INDEX_URL"] {
        let warning = format!("warning: the build argument {name} looks like a secret");
        assert!(finished.stderr.contains(&warning) && finished.stderr.contains("--secret"), "{}", finished.stderr);
    }
    variables.push(("IMAGE_WORKER_DENY_SECRET_ARGS", "1"));
    let finished = run_with(&["run", "--dry-run"], &engine, &variables);
    finished.assert_fails(2, &["NPM_AUTH", "--secret", "--deny-secret-args"]);
}
