//! `rerun` of several tasks at once, of tasks named by URLs, and of tasks whose logs say why they failed.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use stand_in::{Fault, RunState};

use crate::commands::replay::Scene;
use crate::harness::{Finished, program};

const LOG: &str = "public/logs/live_backing.log";
const FAILED: &str = "build | Step 7/9 : RUN npm ci\n[taskcluster-image-build:error] build: step 7/9, RUN npm ci, failed with exit code 1; \
its last line: npm ERR! A complete log of this run; fix the Dockerfile, or what it fetches\n  the step's last lines:\n    | npm ERR! code EAI_AGAIN\n";

/// Puts a log there as a worker does, packed.
fn put_log(scene: &Scene, task: &str, log: &str) {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(log.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    scene.job.taskcluster.put_artifact(task, 0, LOG, "text/plain", Some("gzip"), &packed);
}

/// An image task of the scene, whose first run has ended so.
fn ended(scene: &Scene, state: RunState) -> String {
    let task = scene.job.taskcluster.create_task(Scene::spec(&scene.job, &json!({}))).task_id;
    scene.job.taskcluster.resolve(&task, 0, state);
    task
}

/// Looks at a task as somebody without credentials, who can rerun nothing.
fn look(scene: &Scene, arguments: &[&str], root_url: &str) -> Finished {
    let environment = [("TASKCLUSTER_ROOT_URL", root_url), ("IMAGE_WORKER_TRIES", "1")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    scene.job.taskcluster.clear_calls();
    program(["rerun", "--yes"].into_iter().chain(arguments.iter().copied()), environment).finish()
}

#[test]
fn the_log_of_a_failed_run_makes_the_verdict_exact() {
    let scene = Scene::new("rerun-log", "", &json!({}));
    let (task, root_url) = (ended(&scene, RunState::Failed), scene.job.taskcluster.root_url());
    let says = |words: &[&str]| {
        let looked = look(&scene, &[&task], &root_url);
        looked.assert_fails(2, &["TASKCLUSTER_CLIENT_ID"]);
        for words in words {
            assert!(looked.stderr.contains(words), "{words:?} is not in:\n{}", looked.stderr);
        }
    };
    let usual = "verdict: the task itself failed: after exit codes 2, 10, 20 and 32 a rerun only helps";
    says(&["log: there is no public/logs/live_backing.log of run 0, or it has expired", usual]);
    put_log(&scene, &task, "a log of another program\nbuild | [taskcluster-image-build:error] build: x\n");
    says(&["log: public/logs/live_backing.log of run 0 has no error line of image-worker", usual]);
    put_log(&scene, &task, FAILED);
    let network = "verdict: run 0 failed: step 7/9, RUN npm ci, failed with exit code 1: the network, by its last lines; a rerun may help";
    says(&["log: build: step 7/9, RUN npm ci, failed with exit code 1; its last line: npm ERR!", network]);
    put_log(&scene, &task, &FAILED.replace("EAI_AGAIN", "ERESOLVE"));
    says(&["failed with exit code 1: a rerun only helps if a download failed"]);
    scene.job.taskcluster.fault(Fault::status("getArtifact", 503));
    says(&["log: public/logs/live_backing.log of run 0 cannot be read: queue.getArtifact", "503", usual]);
    // A worker makes an exception of an exit code that is to be repeated; the queue repeats it no more.
    let spec = Scene::spec(&scene.job, &json!({})).property("retries", json!(0));
    let retried = scene.job.taskcluster.create_task(spec).task_id;
    scene.job.taskcluster.resolve_exception(&retried, 0, "intermittent-task");
    put_log(&scene, &retried, "[taskcluster-image-build:error] infra: no engine answers; start one\n");
    let looked = look(&scene, &[&retried, "--json"], &root_url);
    assert!(
        looked.stderr.contains("verdict: run 0 failed: no engine answers: a rerun helps when"),
        "{}",
        looked.stderr
    );
    let assessment: Value = serde_json::from_str(looked.stdout.lines().next().unwrap()).unwrap();
    let failure = json!({ "word": "infra", "message": "no engine answers; start one", "network": false });
    assert_eq!(assessment["failure"], failure);
}

#[test]
fn a_task_is_named_by_any_url_of_it_and_never_looked_for_elsewhere() {
    let scene = Scene::new("rerun-url", "", &json!({}));
    let (task, root_url) = (ended(&scene, RunState::Exception), scene.job.taskcluster.root_url());
    let page = format!("{root_url}/tasks/{task}/runs/0/logs/public/logs/live.log");
    let treeherder = format!("https://treeherder.example.com/jobs?repo=try&selectedTaskRun={task}.0");
    for (named, configured) in [(&page, ""), (&page, &root_url), (&treeherder, &root_url)] {
        let looked = look(&scene, &[named], configured);
        looked.assert_fails(2, &["TASKCLUSTER_CLIENT_ID"]);
        assert!(looked.stderr.contains(&format!("task {task} builds image rerun-url")), "{named}: {}", looked.stderr);
    }
    let elsewhere = page.replace(&root_url, "https://other.example.com");
    let words = ["TASKCLUSTER_ROOT_URL", &root_url, "https://other.example.com", &task];
    look(&scene, &[&elsewhere], &root_url).assert_fails(2, &words);
    look(&scene, &[&treeherder], "").assert_fails(2, &["TASKCLUSTER_ROOT_URL is not set"]);
    let group = format!("{root_url}/tasks/groups/{task}");
    look(&scene, &[&group], &root_url).assert_fails(2, &["of a task group"]);
    assert!(scene.job.taskcluster.calls().is_empty(), "nothing is sent to another deployment");
    // The others take the same.
    for subcommand in [&["replay"][..], &["load", "--task-id"]] {
        let environment = [("TASKCLUSTER_ROOT_URL".to_owned(), root_url.clone())];
        let arguments = subcommand.iter().copied().chain([elsewhere.as_str()]);
        program(arguments, environment).finish().assert_fails(2, &words);
    }
    assert!(scene.job.taskcluster.calls().is_empty());
}

#[test]
fn several_tasks_are_looked_at_and_each_is_rerun_that_can_be() {
    let scene = Scene::new("rerun-several", "", &json!({}));
    let taskcluster = &scene.job.taskcluster;
    let (good, bad) = (ended(&scene, RunState::Exception), ended(&scene, RunState::Exception));
    let late = Scene::spec(&scene.job, &json!({})).property("deadline", "2016-12-08T12:34:56.789Z");
    let late = taskcluster.create_pending_task(late);
    let sheriff = taskcluster.permanent_credentials(["queue:rerun-task:stand-in/*"]);
    let start = |tasks: &[&str], more: &[&str]| {
        let environment = [
            ("TASKCLUSTER_ROOT_URL", taskcluster.root_url()),
            ("TASKCLUSTER_CLIENT_ID", sheriff.client_id.clone()),
            ("TASKCLUSTER_ACCESS_TOKEN", sheriff.access_token.clone()),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value));
        let arguments = ["rerun", "--yes", "--longest-pause", "1"].into_iter().chain(tasks.iter().copied());
        program(arguments.chain(more.iter().copied()), environment)
    };
    let pending = |told: &str| [&good, &bad].iter().all(|task| told.contains(&format!("task {task}, run 1: pending")));
    let finished = start(&[&good, &late, &bad, &good], &[]).finish_when(pending, |_| {
        for (task, state) in [(&good, RunState::Completed), (&bad, RunState::Failed)] {
            taskcluster.claim(task);
            taskcluster.resolve(task, 1, state);
        }
    });
    assert_eq!(finished.stdout, format!("{good} 1 completed\n{late} - retrigger\n{bad} 1 failed\n"));
    assert_eq!(finished.code, 31, "the first that failed: {}", finished.stderr);
    assert!(finished.error_line().contains(&late), "{}", finished.error_line());
    assert!(finished.stderr.contains(&format!("warning: task {bad}: build: run 1 of task")), "{}", finished.stderr);

    let scripts = start(&[&bad, "fN1SbArXTPSVFNUvaOlinQ"], &["--json", "--no-follow"]).finish();
    assert_eq!(scripts.code, 2, "{}", scripts.stderr);
    let lines: Vec<Value> = scripts.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["verdict"]), (3, &json!("rerun")), "{}", scripts.stdout);
    assert_eq!(
        (&lines[1]["taskId"], &lines[1]["runId"], &lines[1]["state"]),
        (&json!(bad), &json!(2), &json!("pending"))
    );
    assert_eq!(lines[2]["taskId"], json!("fN1SbArXTPSVFNUvaOlinQ"));
    assert!(lines[2]["error"].as_str().unwrap().starts_with("configuration: "), "{}", scripts.stdout);
}
