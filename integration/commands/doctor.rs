//! `doctor`: each thing that can be wrong is named with the exit code that `run` would have, and what does not apply is a note.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use jiff::SignedDuration;
use serde_json::Value;
use stand_in::{Fault, Options, StandIn, TaskSpec};

use crate::harness::{Finished, Job, PROJECT, Program, Repository, engine, path, program};

const IMAGE: &str = "doctor-image";

/// An engine's address where nobody listens.
const NOWHERE: &str = "unix:///nonexistent/docker.sock";

fn repository() -> Repository {
    Repository::bare(IMAGE, "FROM scratch\nCOPY Dockerfile /\n")
}

fn doctor<'a>(
    directory: &Path,
    arguments: &[&str],
    environment: impl IntoIterator<Item = (&'a str, String)>,
) -> Program {
    let environment: BTreeMap<_, _> = environment.into_iter().collect();
    let environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value));
    let mut program = program(["doctor"].into_iter().chain(arguments.iter().copied()), environment);
    program.command.current_dir(directory);
    program
}

/// The checks of one name: their states and messages.
fn checks(finished: &Finished, name: &str) -> Vec<(String, String)> {
    let document: Value = serde_json::from_str(&finished.stdout).unwrap_or_else(|_| panic!("{finished:?}"));
    let text = |check: &Value, key: &str| check[key].as_str().unwrap().to_owned();
    let checks = document["checks"].as_array().unwrap().iter().filter(|check| check["name"] == name);
    checks.map(|check| (text(check, "state"), text(check, "message"))).collect()
}

/// The one check of this name.
#[track_caller]
fn check(finished: &Finished, name: &str) -> (String, String) {
    let checks = checks(finished, name);
    assert_eq!(checks.len(), 1, "{name}: {checks:?}\n{}", finished.stdout);
    checks.into_iter().next().unwrap()
}

#[track_caller]
fn assert_is(finished: &Finished, name: &str, state: &str, words: &str) {
    let (found, message) = check(finished, name);
    assert!(found == state && message.contains(words), "{name}: {found}, {message}");
}

#[test]
fn all_is_well() {
    if !engine() {
        return;
    }
    let (repository, taskcluster) = (repository(), StandIn::start(Options::default()));
    let root_url = || [("TASKCLUSTER_ROOT_URL", taskcluster.root_url())];
    let finished = doctor(repository.root.path(), &[IMAGE], root_url()).finish();
    finished.assert_succeeds();
    let lines: Vec<_> =
        finished.stdout.lines().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>()).collect();
    for line in ["ok engine", "ok builder", "ok deployment", "ok clock", "note credentials", "ok index", "note git"] {
        let line: Vec<_> = line.split(' ').collect();
        assert!(lines.contains(&line), "{line:?} is not in\n{}", finished.stdout);
    }
    assert!(finished.stdout.contains("0 problems, "), "{}", finished.stdout);
    let hash = repository.hash(image_worker::context::HashScheme::Tar);
    let finished = doctor(repository.root.path(), &[IMAGE, "--json"], root_url()).finish();
    finished.assert_succeeds();
    assert_is(&finished, "images", "ok", &format!("{IMAGE} has 1 file of "));
    assert_is(&finished, "index", "ok", &format!("has no docker.images.v1.{PROJECT}.{IMAGE}.hash.{hash}"));
    let methods: Vec<_> = taskcluster.calls().into_iter().map(|call| call.method).collect();
    assert!(methods.iter().all(|method| method == "GET"), "{methods:?}");
}

#[test]
fn a_task_is_told_all_that_its_environment_lacks() {
    let directory = tempfile::tempdir().unwrap();
    let environment =
        [("DOCKER_HOST", NOWHERE.to_owned()), ("IMAGE_NAME", IMAGE.to_owned()), ("RUN_ID", "x".to_owned())];
    let finished = doctor(directory.path(), &["--task", "--json"], environment).finish();
    assert_eq!(finished.code, 2, "{}", finished.stderr);
    let environment = checks(&finished, "environment");
    for variable in ["TASKCLUSTER_ROOT_URL", "TASK_ID", "PROJECT", "HASH", "CONTEXT_TASK_ID", "PUSHDATE"] {
        let is_it = |(_, message): &&(String, String)| message.starts_with(&format!("{variable} is not set: "));
        assert_eq!(environment.iter().filter(is_it).count(), 1, "{variable}: {environment:?}");
    }
    assert!(environment.iter().any(|(_, message)| message.starts_with("RUN_ID: \"x\" is not a number")));
    // The first counts, and the others are not hidden by it.
    assert_is(&finished, "engine", "problem", "no such socket");
    assert!(finished.error_line().contains("problems; the first: "), "{}", finished.error_line());
}

#[test]
fn a_task_without_scopes_is_refused_as_run_refuses_it() {
    let repository = repository();
    let mut job = Job::on(StandIn::start(Options::default()), &repository);
    let examine = |job: &Job| {
        let environment = job.environment();
        let environment = environment.iter().map(|(name, value)| (name.as_str(), value.clone()));
        let nowhere = [("DOCKER_HOST", NOWHERE.to_owned())];
        doctor(repository.root.path(), &["--task", "--json"], environment.chain(nowhere)).finish()
    };
    let finished = examine(&job);
    assert_is(&finished, "environment", "ok", IMAGE);
    assert_is(&finished, "credentials", "ok", "taskcluster-proxy");
    assert_is(&finished, "scopes", "ok", &format!("to publish {IMAGE} for {PROJECT}"));
    job.claim = job.taskcluster.create_task(TaskSpec::default());
    let finished = examine(&job);
    assert_is(&finished, "scopes", "problem", &format!("index:insert-task:docker.images.v1.{PROJECT}.{IMAGE}.latest"));
    // Here the engine is the first problem: without that it is the scopes.
    assert_eq!(finished.code, 30, "{}", finished.stderr);
    if engine() {
        let environment = job.environment();
        let environment = environment.iter().map(|(name, value)| (name.as_str(), value.clone()));
        let finished = doctor(repository.root.path(), &["--task"], environment).finish();
        assert_eq!(finished.code, 31, "{}", finished.stderr);
        assert!(finished.error_line().contains("refused: 3 scopes are missing"), "{}", finished.error_line());
    }
}

/// What `doctor NAME` says with credentials of this stand-in.
fn with_credentials(taskcluster: &StandIn, (id, token, certificate): (&str, &str, &str)) -> Finished {
    let repository = repository();
    let environment = [
        ("TASKCLUSTER_ROOT_URL", taskcluster.root_url()),
        ("TASKCLUSTER_CLIENT_ID", id.to_owned()),
        ("TASKCLUSTER_ACCESS_TOKEN", token.to_owned()),
        ("TASKCLUSTER_CERTIFICATE", certificate.to_owned()),
        ("DOCKER_HOST", NOWHERE.to_owned()),
    ];
    doctor(repository.root.path(), &[IMAGE, "--json"], environment).finish()
}

#[test]
fn a_persons_credentials_are_looked_at_and_need_no_scopes_of_a_task() {
    let taskcluster = StandIn::start(Options::default());
    let insert = format!("index:insert-task:docker.images.v1.{PROJECT}.{IMAGE}.*");
    for (scopes, state, words) in
        [(Vec::new(), "note", "a task needs 3 scopes to publish"), (vec![insert], "ok", "all there to publish")]
    {
        let credentials = taskcluster.permanent_credentials(scopes);
        let (id, token) = (credentials.client_id.as_str(), credentials.access_token.as_str());
        let finished = with_credentials(&taskcluster, (id, token, ""));
        assert_is(&finished, "credentials", "ok", "without an end");
        assert_is(&finished, "scopes", state, words);
        let (_, message) = check(&finished, "scopes");
        assert!(!message.contains("queue:create-artifact"), "{message}");
        assert_eq!(finished.code, 30, "only the engine is missing: {}", finished.stdout);
    }
    // Nobody has this token.
    let credentials = taskcluster.permanent_credentials([""; 0]);
    let finished = with_credentials(&taskcluster, (&credentials.client_id, &"0".repeat(44), ""));
    assert_is(&finished, "credentials", "problem", "401");
}

#[test]
fn expired_credentials_are_named_with_their_end() {
    let taskcluster = StandIn::start(Options::default());
    let claim = taskcluster.create_task(TaskSpec::default());
    let certificate = claim.credentials.certificate.clone().unwrap();
    let (id, token) = (claim.credentials.client_id.as_str(), claim.credentials.access_token.as_str());
    let finished = with_credentials(&taskcluster, (id, token, &certificate));
    assert_is(&finished, "credentials", "warning", "only until ");
    let mut old: Value = serde_json::from_str(&certificate).unwrap();
    old["expiry"] = 1_449_664_496_000_i64.into();
    let finished = with_credentials(&taskcluster, (id, token, &old.to_string()));
    assert_is(&finished, "credentials", "problem", "have expired at 2015-12-09T12:34:56Z");
    assert_eq!(checks(&finished, "scopes"), []);
}

#[test]
fn a_wrong_clock_is_told_from_the_date_of_the_answer() {
    let (repository, taskcluster) = (repository(), StandIn::start(Options::default()));
    let examine = || {
        let environment = [("TASKCLUSTER_ROOT_URL", taskcluster.root_url()), ("DOCKER_HOST", NOWHERE.to_owned())];
        doctor(repository.root.path(), &["--json"], environment).finish()
    };
    assert_is(&examine(), "clock", "ok", "within 60 s");
    taskcluster.set_skew(SignedDuration::from_mins(5));
    assert_is(&examine(), "clock", "warning", "s behind the deployment's");
    taskcluster.set_skew(SignedDuration::from_hours(-2));
    assert_is(
        &examine(),
        "clock",
        "problem",
        "s ahead of the deployment's, and signed calls are refused from 900 s on",
    );
}

#[test]
fn a_deployment_that_does_not_answer_is_a_result() {
    let (repository, taskcluster) = (repository(), StandIn::start(Options::default()));
    let examine = |root_url: String, more: &[(&'static str, &str)]| {
        let environment = [("TASKCLUSTER_ROOT_URL", root_url), ("DOCKER_HOST", NOWHERE.to_owned())];
        let more = more.iter().map(|(name, value)| (*name, (*value).to_owned()));
        doctor(repository.root.path(), &["--json"], environment.into_iter().chain(more)).finish()
    };
    let finished = examine("http://127.0.0.1:9".to_owned(), &[]);
    assert_is(&finished, "deployment", "problem", "no answer");
    taskcluster.fault(Fault::hang("ping"));
    let finished = examine(taskcluster.root_url(), &[("IMAGE_WORKER_CALL_TIMEOUT", "1")]);
    assert_is(&finished, "deployment", "problem", "no answer within 1 s");
    // A web server that is something else.
    let finished = examine(format!("{}/elsewhere", taskcluster.root_url()), &[]);
    assert_is(&finished, "deployment", "problem", "is TASKCLUSTER_ROOT_URL right?");
    assert_eq!(checks(&finished, "index"), []);
}

#[test]
fn an_engine_that_may_not_be_used_is_named_with_its_group() {
    let repository = repository();
    let socket = repository.root.path().join("docker.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o000)).unwrap();
    let host = [("DOCKER_HOST", format!("unix://{}", path(&socket)))];
    let mut program = doctor(repository.root.path(), &["--json"], host);
    // Root may use every socket, unless it has not got this right.
    if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.arg("--bounding-set=-dac_override,-dac_read_search").arg(program.command.get_program());
        command.args(program.command.get_args()).env_clear().current_dir(repository.root.path());
        command.envs(program.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        program.command = command;
    }
    let finished = program.finish();
    assert_eq!(finished.code, 31, "{}", finished.stderr);
    let engine = checks(&finished, "engine");
    assert_eq!(engine[0].0, "problem");
    assert!(engine[0].1.contains("join the group "), "{engine:?}");
    assert!(finished.error_line().contains("refused: no permission for "), "{}", finished.error_line());
}

#[test]
fn what_is_wrong_with_the_images_is_told_as_tree_tells_it() {
    let repository = Repository::bare(IMAGE, "# %include nowhere/file\nFROM scratch\n");
    let other = repository.directory().with_file_name("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("Dockerfile"), "FROM scratch\nCOPY Dockerfile /\n").unwrap();
    let nowhere = || [("DOCKER_HOST", NOWHERE.to_owned())];
    for arguments in [&["--json"][..], &[IMAGE, "--json"]] {
        let finished = doctor(repository.root.path(), arguments, nowhere()).finish();
        assert_is(&finished, "images", "problem", "nowhere/file");
    }
    let finished = doctor(repository.root.path(), &["other", "--json"], nowhere()).finish();
    assert_is(&finished, "images", "ok", "other has 1 file");
    let finished = doctor(repository.root.path(), &["nosuch", "--json"], nowhere()).finish();
    assert_is(&finished, "images", "problem", "unknown image nosuch");
    assert_is(&finished, "deployment", "note", "TASKCLUSTER_ROOT_URL is not set");
    let outside = tempfile::tempdir().unwrap();
    let finished = doctor(outside.path(), &["--json"], nowhere()).finish();
    assert_is(&finished, "images", "note", "in no checkout");
}
