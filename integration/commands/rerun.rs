//! `rerun`: its report about an image task for a sheriff, and what becomes of the new run. No worker is there: the tests
//! claim and resolve runs themselves.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};
use stand_in::{Fault, Options, RunState, StandIn, TaskSpec};
use taskcluster::Credentials;

use crate::commands::replay::Scene;
use crate::harness::{Finished, Program, program};

const ARTIFACT: &str = "public/image.tar";

/// An image task whose first run is over.
fn scene(state: RunState) -> Scene {
    let scene = Scene::new("rerun", "", &json!({}));
    scene.job.taskcluster.resolve(&scene.task.task_id, 0, state);
    scene
}

/// The program as a sheriff starts it, with credentials or without.
fn rerun(scene: &Scene, task: &str, arguments: &[&str], credentials: Option<&Credentials>) -> Program {
    let arguments = ["rerun", task, "--longest-pause", "1"].into_iter().chain(arguments.iter().copied());
    let mut environment = BTreeMap::from([("TASKCLUSTER_ROOT_URL".to_owned(), scene.job.taskcluster.root_url())]);
    if let Some(credentials) = credentials {
        environment.insert("TASKCLUSTER_CLIENT_ID".to_owned(), credentials.client_id.clone());
        environment.insert("TASKCLUSTER_ACCESS_TOKEN".to_owned(), credentials.access_token.clone());
    }
    program(arguments, environment)
}

fn sheriff(scene: &Scene) -> Credentials {
    scene.job.taskcluster.permanent_credentials(["queue:rerun-task:stand-in/*"])
}

/// Reruns the scene's task; a worker takes the new run, which ends like this.
fn rerun_ending(scene: &Scene, state: RunState) -> Finished {
    let task = &scene.task.task_id;
    let waits = rerun(scene, task, &["--yes"], Some(&sheriff(scene)));
    waits.finish_when(
        |log| log.contains("run 1: pending"),
        |_| {
            scene.job.taskcluster.claim(task);
            scene.job.taskcluster.resolve(task, 1, state);
        },
    )
}

fn calls(scene: &Scene, name: &str) -> usize {
    scene.job.taskcluster.calls().iter().filter(|call| call.name == name).count()
}

/// Another task that has the scene's image, and its route in the index.
fn image_elsewhere(scene: &Scene) -> String {
    let job = &scene.job;
    let [.., route] = job.routes();
    let data = json!({
        "artifact": ARTIFACT,
        "sha256": "ab".repeat(32),
        "size": 3,
        "imageId": "sha256:ab",
        "contextHash": job.hash,
        "runId": 0,
    });
    let spec = TaskSpec::default()
        .property("routes", json!([format!("index.{route}")]))
        .property("extra", json!({ "index": { "rank": 1, "data": data } }));
    let other = job.taskcluster.create_task(spec).task_id;
    job.taskcluster.put_artifact(&other, 0, ARTIFACT, "application/x-tar", None, b"tar");
    job.taskcluster.resolve(&other, 0, RunState::Completed);
    assert!(job.taskcluster.index_entry(&route).is_some());
    other
}

#[test]
fn a_lost_run_is_rerun_and_followed_to_its_end() {
    let scene = scene(RunState::Exception);
    let finished = rerun_ending(&scene, RunState::Completed);
    finished.assert_succeeds();
    let (task, root) = (&scene.task.task_id, scene.job.taskcluster.root_url());
    assert_eq!(finished.stdout, format!("{task} 1 completed\n"));
    let expected = [
        format!("task {task} builds image rerun for mozilla-central; state: exception"),
        "run 0: exception, internal-error, ".to_owned(),
        "deadline: in 2".to_owned(),
        "retries: 5 left".to_owned(),
        "rerun.tar.gz of task".to_owned(),
        "is there until 20".to_owned(),
        "has no image, or it has expired".to_owned(),
        "a rerun can help".to_owned(),
        format!("log: {root}/tasks/{task}/runs/1/logs/live/public/logs/live.log"),
        format!("run 1: completed; log: {root}/tasks/{task}/runs/1/logs/public/logs/live.log"),
    ];
    let mut rest = finished.stderr.as_str();
    for words in &expected {
        rest = rest.split_once(words).unwrap_or_else(|| panic!("{words:?} is not next in: {rest}")).1;
    }
}

#[test]
fn how_the_run_ends_is_the_exit_code() {
    let failing = scene(RunState::Failed);
    let failed = rerun_ending(&failing, RunState::Failed);
    failed.assert_fails(20, &["run 1 of task", "failed", "/runs/1/logs/public/logs/live.log"]);
    assert!(failed.stderr.contains("read the log first"), "{}", failed.stderr);
    rerun_ending(&scene(RunState::Exception), RunState::Exception).assert_fails(30, &["exception", "internal-error"]);
}

#[test]
fn a_run_that_the_queue_repeats_is_followed_further() {
    let scene = scene(RunState::Exception);
    let (task, taskcluster) = (&scene.task.task_id, &scene.job.taskcluster);
    let waits = rerun(&scene, task, &["--yes"], Some(&sheriff(&scene)));
    let finished = waits.finish_when(
        |log| log.contains("run 1: pending"),
        |_| {
            taskcluster.claim(task);
            taskcluster.resolve_exception(task, 1, "worker-shutdown");
            taskcluster.claim(task);
            taskcluster.resolve(task, 2, RunState::Completed);
        },
    );
    finished.assert_succeeds();
    assert_eq!(finished.stdout, format!("{task} 2 completed\n"));
}

#[test]
fn a_rerun_that_cannot_work_is_not_requested() {
    let scene = scene(RunState::Exception);
    let taskcluster = &scene.job.taskcluster;
    let sheriff = sheriff(&scene);
    let lost = |spec: TaskSpec| {
        let task = taskcluster.create_task(spec).task_id;
        taskcluster.resolve(&task, 0, RunState::Exception);
        task
    };
    let yes = |task: &str| rerun(&scene, task, &["--yes"], Some(&sheriff)).finish();
    let late = Scene::spec(&scene.job, &json!({})).property("deadline", "2016-12-08T12:34:56.789Z");
    let late = taskcluster.create_pending_task(late);
    yes(&late).assert_fails(31, &[&late, "deadline has passed", "409", "retrigger"]);

    let old = TaskSpec::default().property("expires", "2016-12-08T12:34:56.789Z");
    let decision = taskcluster.create_task(old).task_id;
    let empty = taskcluster.create_task(TaskSpec::default()).task_id;
    let cases = [
        (decision.as_str(), "expired at 2016-12-08T12:34:56Z"),
        (empty.as_str(), "is not in the task's latest run"),
        ("fN1SbArXTPSVFNUvaOlinQ", "forgotten"),
    ];
    for (decision, why) in cases {
        let task = lost(Scene::spec(&scene.job, &json!({ "CONTEXT_TASK_ID": decision })));
        yes(&task).assert_fails(10, &[&task, why, "new decision task"]);
    }
    let wrong = lost(Scene::spec(&scene.job, &json!({ "HASH": "nonsense" })));
    yes(&wrong).assert_fails(2, &[&format!("HASH of task {wrong}"), "nonsense"]);
    yes(&decision).assert_fails(2, &[&decision, "no image task"]);
    yes("fN1SbArXTPSVFNUvaOlinQ").assert_fails(2, &["knows no task"]);
    assert_eq!(calls(&scene, "rerunTask"), 0);
}

#[test]
fn nothing_is_done_without_yes_or_without_the_scope() {
    let scene = scene(RunState::Exception);
    let task = &scene.task.task_id;
    let sheriff = sheriff(&scene);
    let unconfirmed = rerun(&scene, task, &[], Some(&sheriff)).finish();
    unconfirmed.assert_fails(2, &["IMAGE_WORKER_YES", "--yes"]);
    rerun(&scene, task, &["--yes"], None).finish().assert_fails(2, &["TASKCLUSTER_CLIENT_ID", "queue:rerun-task"]);
    assert_eq!(calls(&scene, "rerunTask"), 0);
    let nobody = scene.job.taskcluster.permanent_credentials(["queue:rerun-task:other/*"]);
    let refused = rerun(&scene, task, &["--yes"], Some(&nobody)).finish();
    refused.assert_fails(31, &["queue.rerunTask", &format!("queue:rerun-task:stand-in/{task}/{task}")]);
}

#[test]
fn an_image_that_is_there_needs_no_rerun_unless_the_task_is_red() {
    let done = scene(RunState::Completed);
    let other = image_elsewhere(&done);
    let finished = rerun(&done, &done.task.task_id, &["--yes"], None).finish();
    finished.assert_succeeds();
    assert_eq!(finished.stdout, format!("{} 0 completed\n", done.task.task_id));
    assert!(finished.stderr.contains(&format!("has the image, of task {other}")), "{}", finished.stderr);
    assert!(finished.stderr.contains("verdict: it is done"), "{}", finished.stderr);
    assert_eq!(calls(&done, "rerunTask"), 0);

    let red = scene(RunState::Failed);
    image_elsewhere(&red);
    let finished = rerun_ending(&red, RunState::Completed);
    finished.assert_succeeds();
    assert!(finished.stderr.contains("ends at once, green"), "{}", finished.stderr);
}

#[test]
fn an_image_that_a_tasks_routes_have_indexed_is_found() {
    let scene = Scene::new("rerun-routes", "", &json!({}));
    let (job, taskcluster) = (&scene.job, &scene.job.taskcluster);
    let [.., ours] = job.routes();
    // As `worker-config/task-payload.yml` has it, and as taskgraph does.
    let of_taskgraph = format!("project.cache.level-3.docker-images.v2.{}.hash.{}", job.name, job.hash);
    for route in [&ours, &of_taskgraph] {
        let spec = Scene::spec(job, &json!({})).property("routes", json!([format!("index.{route}")]));
        let task = taskcluster.create_task(spec).task_id;
        taskcluster.put_artifact(&task, 0, ARTIFACT, "application/x-tar", None, b"tar");
        taskcluster.resolve(&task, 0, RunState::Completed);
        assert!(taskcluster.index_entry(route).is_some());
        let finished = rerun(&scene, &task, &["--yes"], None).finish();
        finished.assert_succeeds();
        let found = format!("index: {route} has the image, of task {task}, run 0, by that task's routes\n");
        assert!(finished.stderr.contains(&found), "{}", finished.stderr);
        assert!(finished.stderr.contains("verdict: it is done, and its image is there"), "{}", finished.stderr);
        assert_eq!(calls(&scene, "rerunTask"), 0);
    }
    // A run would build it all the same.
    taskcluster.resolve(&scene.task.task_id, 0, RunState::Failed);
    let red = rerun_ending(&scene, RunState::Completed);
    red.assert_succeeds();
    assert!(red.stderr.contains(&format!("index: {ours} has the image, of task ")), "{}", red.stderr);
    assert!(red.stderr.contains("verdict: the task itself failed"), "{}", red.stderr);
    assert!(red.stderr.contains("log of run 0: http"), "{}", red.stderr);
    // A task without the artifact has no image.
    let empty = Scene::spec(job, &json!({})).property("routes", json!([format!("index.{ours}")]));
    let empty = taskcluster.create_task(empty).task_id;
    taskcluster.resolve(&empty, 0, RunState::Completed);
    let finished = rerun(&scene, &empty, &["--yes", "--no-follow"], Some(&sheriff(&scene))).finish();
    finished.assert_succeeds();
    assert!(finished.stderr.contains(&format!("index: {ours} has no image, or it has expired")), "{}", finished.stderr);
}

#[test]
fn scripts_get_a_line_about_the_assessment_and_one_about_the_run() {
    let scene = scene(RunState::Exception);
    let task = &scene.task.task_id;
    let finished = rerun(&scene, task, &["--yes", "--json", "--no-follow"], Some(&sheriff(&scene))).finish();
    finished.assert_succeeds();
    let lines: Vec<Value> = finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{}", finished.stdout);
    assert_eq!((&lines[0]["verdict"], &lines[0]["taskId"]), (&json!("rerun"), &json!(task)));
    assert_eq!((&lines[0]["deadlinePassed"], &lines[0]["retriesLeft"]), (&json!(false), &json!(5)));
    assert_eq!((&lines[0]["context"]["gone"], &lines[0]["imageAt"]), (&json!(false), &json!(null)));
    assert_eq!(lines[0]["runs"][0]["reasonResolved"], json!("internal-error"));
    assert_eq!(lines[1], json!({ "taskId": task, "runId": 1, "state": "pending", "reasonCreated": "rerun" }));
    assert_eq!(lines[0]["failure"], json!(null));

    // A script that only looks: the assessment is printed, and nothing is done.
    let looked = rerun(&scene, task, &["--json", "--no-follow"], None).finish();
    looked.assert_succeeds();
    let first: Value = serde_json::from_str(looked.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(first["verdict"], json!("under-way"));
    assert_eq!(calls(&scene, "rerunTask"), 1);
}

#[test]
fn a_signal_ends_the_following_and_not_the_run() {
    let scene = Scene::new("rerun-signal", "", &json!({}));
    let follows = rerun(&scene, &scene.task.task_id, &[], None);
    let finished = follows.finish_when(
        |log| log.contains("run 0: running; log: "),
        |process| {
            let killed = Command::new("kill").args(["-INT", &process.to_string()]).status().unwrap();
            assert!(killed.success());
        },
    );
    finished.assert_fails(130, &["following the run, which goes on"]);
    assert!(finished.stderr.contains("a run is under way already"), "{}", finished.stderr);
}

#[test]
fn unavailable_services_are_no_verdict_and_a_lost_answer_makes_no_second_run() {
    let scene = scene(RunState::Exception);
    let (task, taskcluster) = (&scene.task.task_id, &scene.job.taskcluster);
    let sheriff = sheriff(&scene);
    for call in ["task", "status", "latestArtifactInfo", "findTask"] {
        taskcluster.fault(Fault::status(call, 503));
        let finished = rerun(&scene, task, &["--yes", "--tries", "1"], Some(&sheriff)).finish();
        finished.assert_fails(30, &[call, "503"]);
        assert!(!finished.stderr.contains("verdict"), "{call}: {}", finished.stderr);
        taskcluster.clear_faults();
    }
    assert_eq!(calls(&scene, "rerunTask"), 0);
    taskcluster.fault(Fault::reply_lost("rerunTask"));
    let finished = rerun(&scene, task, &["--yes", "--no-follow"], Some(&sheriff)).finish();
    finished.assert_succeeds();
    assert_eq!(finished.stdout, format!("{task} 1 pending\n"));
    assert_eq!(calls(&scene, "rerunTask"), 2);
}

#[test]
fn without_scopes_the_verdict_is_still_given() {
    let open = Scene::new("rerun-closed", "", &json!({}));
    let anonymous_scopes = ["queue:get-task:*", "queue:status:*", "index:find-task:*"].map(str::to_owned).to_vec();
    let closed = StandIn::start(Options { anonymous_scopes, ..Options::default() });
    let task = closed.create_task(Scene::spec(&open.job, &json!({}))).task_id;
    closed.resolve(&task, 0, RunState::Exception);
    let environment = [("TASKCLUSTER_ROOT_URL".to_owned(), closed.root_url())];
    let finished = program(["rerun", &task, "--yes"], environment).finish();
    finished.assert_fails(2, &["TASKCLUSTER_CLIENT_ID"]);
    assert!(finished.stderr.contains("may be there: the credentials do not allow to ask"), "{}", finished.stderr);
}
