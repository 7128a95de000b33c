//! Playing a case: a job of its own on a stand-in of its own, the fault, one run of the program, and then all that must
//! hold whatever happened.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use image_worker::net::Digest;
use regex::Regex;
use serde_json::{Value, json};
use stand_in::TaskSpec;

use super::places::{Case, End};
use crate::harness::archive::Archive;
use crate::harness::{Finished, Job, PROJECT, Repository, docker_output, program};

pub(super) const ARTIFACT: &str = "public/image.tar";

/// What came of a case.
pub(super) struct Played {
    struck: usize,
    exit: i32,
    /// The error line without what differs from run to run.
    line: String,
}

impl Played {
    pub(super) const HEADING: &str = "| call | storage | what befalls it | struck | exit | index | the error line |\n\
                                      | --- | --- | --- | --- | --- | --- | --- |";

    pub(super) fn row(&self, case: &Case) -> String {
        let Case { place, way, end, .. } = case;
        let Self { struck, exit, line } = self;
        format!(
            "| {} | {} | {} | {struck} | {exit} | {} | {line} |",
            place.title,
            place.storage,
            way.words(),
            words(*end)
        )
    }
}

fn words(end: End) -> String {
    match end {
        End::Complete => "complete".to_owned(),
        End::Partly(0) => "nothing".to_owned(),
        End::Partly(routes) => format!("the first {routes}"),
        End::Shared => "earlier; the task's artifact leads there".to_owned(),
        End::Copied => "earlier; the task's artifact is a copy".to_owned(),
        End::Earlier => "earlier".to_owned(),
    }
}

/// A job whose image is small, quickly built, and marked: with a label, by which all of it is found in the engine.
pub(super) fn job(name: &str, steps: &str) -> (Repository, Job) {
    job_from("scratch", name, steps)
}

pub(super) fn job_from(base: &str, name: &str, steps: &str) -> (Repository, Job) {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    // Unlike those of other checkouts' tests on the same engine, and always as long, as error lines are cut.
    let name = format!("{name}-{:07}-{:03}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let label = format!("FROM {base}\nLABEL image-worker-test={name}\nCOPY data /data\n{steps}");
    let repository = Repository::bare(&name, &label);
    std::fs::write(repository.directory().join("data"), incompressible(&name, 64 << 10)).unwrap();
    let job = Job::new(&repository);
    (repository, job)
}

/// Bytes that nothing can compress, the same for the same seed.
pub(super) fn incompressible(seed: &str, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 64);
    while bytes.len() < length {
        bytes.extend(
            Digest::of(format!("{seed}{}", bytes.len()).as_bytes()).to_string().bytes().map(|b| b.rotate_left(3)),
        );
    }
    bytes.truncate(length);
    bytes
}

/// A task with an image to build from, with so many bytes and the label too; no index has it.
pub(super) fn parent(job: &Job, bytes: usize) -> String {
    let env = json!({ "IMAGE_NAME": "base", "PROJECT": PROJECT, "HASH": job.hash });
    let spec = TaskSpec::default().property("payload", json!({ "env": env }));
    let task = job.taskcluster.create_task(spec).task_id;
    let mut image = Archive::empty(&job.name);
    image.add_layer("base", &incompressible(&task, bytes));
    job.taskcluster.put_artifact(&task, 0, ARTIFACT, "application/x-tar", None, &image.tar(None));
    task
}

/// Plays a case and asserts all that it expects.
pub(super) fn play(case: &Case) -> Played {
    let base = if case.place.parent { "$DOCKER_IMAGE_PARENT" } else { "scratch" };
    let (_repository, mut job) = job_from(base, "matrix", "");
    let mut earlier = "(no earlier task)".to_owned();
    if case.place.earlier {
        job.run().assert_succeeds();
        let next = job.taskcluster.create_task(Job::spec(&job.name));
        earlier = std::mem::replace(&mut job.claim, next).task_id;
        job.taskcluster.clear_calls();
    }
    job.taskcluster.fault(case.fault(&earlier));
    let mut environment = if case.needs_direct_calls() { job.signing_environment() } else { job.environment() };
    let mut set = |name: &str, value: &str| drop(environment.insert(name.to_owned(), value.to_owned()));
    if case.place.parent {
        set("PARENT_TASK_ID", &parent(&job, 64 << 10));
    }
    set("ARTIFACT_STORAGE", case.place.storage);
    set("IMAGE_WORKER_TRIES", "3");
    if case.hangs() {
        // Well above what a call takes on a busy machine.
        set("IMAGE_WORKER_CALL_TIMEOUT", "5");
        set("IMAGE_WORKER_SILENCE", "5");
    }
    let finished = program(["run"], environment).finish();
    let struck = job.taskcluster.calls().iter().filter(|call| call.fault.is_some()).count();
    job.taskcluster.clear_faults();

    assert_ne!(struck, 0, "the fault did not happen:\n{}", finished.stderr);
    assert_eq!(finished.code, case.exit, "{}", finished.stderr);
    let line = if finished.code == 0 {
        finished.assert_succeeds();
        assert_eq!(finished.stdout.trim(), job.tag());
        String::new()
    } else {
        assert_eq!(finished.stdout, "", "stdout is for answers");
        redact(&finished, &job, &earlier)
    };
    let led_to = follow_routes(&job);
    let own = Some(job.claim.task_id.clone());
    let theirs = Some(earlier);
    let expected = match case.end {
        End::Complete => [own.clone(), own.clone(), own.clone()],
        End::Partly(routes) => std::array::from_fn(|route| own.clone().filter(|_| route < routes)),
        End::Shared | End::Copied | End::Earlier => [theirs.clone(), theirs.clone(), theirs],
    };
    assert_eq!(led_to, expected, "where the routes lead; own task: {own:?}\n{}", finished.stderr);
    if finished.code == 0 {
        assert_readable_from_the_task(&job);
        let own = job.taskcluster.artifact_path(&job.claim.task_id, 0, ARTIFACT);
        assert_eq!(own.is_some(), case.end != End::Shared, "whether the task has an image of its own");
    }
    assert_engine_is_clean(&job.name);
    Played { struck, exit: finished.code, line }
}

/// Follows each route as a consumer does. Asserts that what is there is what the index has; gives the tasks.
pub(super) fn follow_routes(job: &Job) -> [Option<String>; 3] {
    follow(job, |route, _| format!("/index/v1/task/{route}/artifacts/{ARTIFACT}"))
}

/// The same by the run that the entry names. As soon as a task is rerun, Taskcluster's short ways to its artifacts lead to
/// the new run, which has none before it is done.
pub(super) fn follow_runs(job: &Job) -> [Option<String>; 3] {
    follow(job, |_, entry| {
        let task = entry["taskId"].as_str().unwrap();
        format!("/queue/v1/task/{task}/runs/{}/artifacts/{ARTIFACT}", entry["data"]["runId"])
    })
}

fn follow(job: &Job, way: impl Fn(&str, &Value) -> String) -> [Option<String>; 3] {
    job.routes().map(|route| {
        let entry = job.taskcluster.index_entry(&route)?;
        let url = format!("{}/api{}", job.taskcluster.root_url(), way(&route, &entry));
        let bytes = download(&url).unwrap_or_else(|error| panic!("{route} leads to nothing: {error}"));
        let data = &entry["data"];
        assert_eq!(data["size"], json!(bytes.len()), "{route} leads to an image of another size");
        assert_eq!(data["sha256"], json!(Digest::of(&bytes).to_string()), "{route} leads to another image");
        assert_eq!(data["contextHash"], json!(job.hash), "{route}");
        Some(entry["taskId"].as_str().unwrap().to_owned())
    })
}

/// A task that depends on this one reads the image from it, not through the index: it must be the indexed one.
pub(super) fn assert_readable_from_the_task(job: &Job) {
    let task = &job.claim.task_id;
    let url = format!("{}/api/queue/v1/task/{task}/artifacts/{ARTIFACT}", job.taskcluster.root_url());
    let bytes = download(&url).unwrap_or_else(|error| panic!("the task has no image: {error}"));
    let indexed = job.taskcluster.index_entry(&job.routes()[2]).expect("the hash route");
    assert_eq!(indexed["data"]["sha256"], json!(Digest::of(&bytes).to_string()), "the task leads to another image");
}

fn download(url: &str) -> Result<Vec<u8>, String> {
    let output = Command::new("curl").args(["--silent", "--show-error", "--fail", "--location", url]).output().unwrap();
    if output.status.success() { Ok(output.stdout) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

pub(super) fn assert_engine_is_clean(name: &str) {
    let label = format!("label=image-worker-test={name}");
    let images = docker_output(&["images", "--all", "--quiet", "--filter", &label]);
    let containers = docker_output(&["ps", "--all", "--quiet", "--filter", &label]);
    let history = images.lines().map(|id| docker_output(&["history", "--format", "{{.CreatedAt}} {{.CreatedBy}}", id]));
    let states = containers.lines().map(|id| docker_output(&["inspect", "--format", "{{json .State}}", id]));
    let left: Vec<_> = history.chain(states).collect();
    assert_eq!((images.as_str(), containers.as_str()), ("", ""), "images and containers that are left: {left:#?}");
}

/// The error line without what differs from run to run.
fn redact(finished: &Finished, job: &Job, earlier: &str) -> String {
    let line = finished.error_line().trim_start_matches("[taskcluster-image-build:error] ");
    let line = line.replace(&job.claim.task_id, "TASK").replace(earlier, "EARLIER").replace(&job.hash, "HASH");
    let line = line.replace(&job.name, "IMAGE").replace('|', "\\|");
    let patterns = [
        (r"127\.0\.0\.1:\d+", "HOST"),
        (r"\b[0-9a-f]{64}\b", "SHA256"),
        (r"\b\d+ (bytes|were)", "N $1"),
        (r"\b[A-Za-z0-9_-]{21}[AQgw]\b", "TASK"),
        (r"\.\.\.$|…$", "…"),
        // What a wrong byte breaks first (gzip, tar, a name, the hash) depends on what is compressed where it is.
        (r"^context: .* \(context from", "context: what the wrong byte broke (context from"),
    ];
    let line = patterns
        .iter()
        .fold(line, |line, (pattern, with)| Regex::new(pattern).unwrap().replace_all(&line, *with).into_owned());
    line.replace('<', "&lt;")
}
