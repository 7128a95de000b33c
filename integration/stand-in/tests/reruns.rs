//! What becomes of tasks: run again by a sheriff or by the queue, too late, removed.

use serde_json::{Value, json};
use stand_in::{Options, RunState, StandIn, TaskSpec};
use taskcluster::{ClientBuilder, Index, Queue, err_status_code};

use super::tasks::{A, B, C, definition, path, start, states, status, waiting_for};
use super::{Caller, Got, in_minutes, minutes};

async fn rerun(caller: &Caller, task_id: &str) -> Got {
    caller.send(reqwest::Method::POST, &format!("{}/rerun", path(task_id)), None).await
}

#[tokio::test]
async fn what_a_rerun_does_in_each_state() {
    let (stand_in, caller) = start();
    rerun(&caller, A).await.expect_error(404, "ResourceNotFound", "Are you sure this task has been submitted before?");
    for (end, state) in
        [(RunState::Completed, "completed"), (RunState::Failed, "failed"), (RunState::Exception, "exception")]
    {
        let claim = stand_in.create_task(TaskSpec::default());
        // Pending and running stay what they are.
        assert_eq!(status(&rerun(&caller, &claim.task_id).await.expect(200))["state"], "running");
        stand_in.resolve(&claim.task_id, 0, end);
        for _ in 0..2 {
            let got = rerun(&caller, &claim.task_id).await.expect(200);
            let runs: Vec<&Value> = status(&got)["runs"].as_array().unwrap().iter().map(|run| &run["state"]).collect();
            assert_eq!((runs, &status(&got)["state"]), (vec![&json!(state), &json!("pending")], &json!("pending")));
            assert_eq!(status(&got)["runs"][1]["reasonCreated"], "rerun");
        }
    }
    // One that waits is made to run, whatever it waits for.
    caller.put(&path(A), definition(json!({}))).await.expect(200);
    caller.put(&path(B), waiting_for(&[A])).await.expect(200);
    let got = rerun(&caller, B).await.expect(200);
    assert_eq!(status(&got)["runs"][0]["reasonCreated"], "rerun");
    stand_in.resolve(A, 0, RunState::Completed);
    assert_eq!(stand_in.status(B).unwrap()["runs"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_cancelling_does_in_each_state_and_to_a_worker_that_goes_on() {
    let (stand_in, caller) = start();
    let cancel = async |task_id: &str| {
        caller.send(reqwest::Method::POST, &format!("{}/cancel", path(task_id)), None).await.expect(200)
    };
    let claim = stand_in.create_task(TaskSpec::default());
    let got = cancel(&claim.task_id).await;
    assert_eq!(status(&got)["state"], "exception");
    assert_eq!(status(&got)["runs"][0]["reasonResolved"], "canceled");
    // Its credentials go on working, and its artifacts are taken.
    let worker = Caller::new(&stand_in, &claim.credentials);
    worker.post(&super::artifact_path(&claim, "public/x"), super::s3(&in_minutes(60))).await.expect(200);
    // What is resolved stays as it is, and what waits gets a run that never was.
    let done = stand_in.create_task(TaskSpec::default());
    stand_in.resolve(&done.task_id, 0, RunState::Completed);
    assert_eq!(status(&cancel(&done.task_id).await)["state"], "completed");
    caller.put(&path(A), definition(json!({}))).await.expect(200);
    caller.put(&path(B), waiting_for(&[A])).await.expect(200);
    assert_eq!(status(&cancel(B).await)["runs"][0]["reasonCreated"], "exception");
    let nobody = Caller::new(&stand_in, &stand_in.permanent_credentials(["queue:cancel-task"]));
    nobody.send(reqwest::Method::POST, &format!("{}/cancel", path(A)), None).await.expect(403);
}

#[tokio::test]
async fn who_may_rerun() {
    let stand_in = StandIn::start(Options::default());
    let task_id = stand_in.create_pending_task(TaskSpec::default().property("projectId", "releng"));
    let group = format!("stand-in/{task_id}");
    for (scopes, code) in [
        (vec![format!("queue:rerun-task:{group}/{task_id}")], 200),
        (vec!["queue:rerun-task-in-project:releng".into()], 200),
        (vec!["queue:rerun-task".into(), format!("assume:scheduler-id:{group}")], 200),
        (vec!["queue:rerun-task-in-project:none".into()], 403),
        (vec!["queue:rerun-task".into()], 403),
        (vec![], 403),
    ] {
        let some = Caller::new(&stand_in, &stand_in.permanent_credentials(scopes));
        let got = rerun(&some, &task_id).await.expect(code);
        assert!(code == 200 || got.message().contains(&format!("queue:rerun-task:{group}/{task_id}")), "{got:?}");
    }
}

#[tokio::test]
async fn fifty_runs_are_enough() {
    let (stand_in, caller) = start();
    let claim = stand_in.create_task(TaskSpec::default());
    for run_id in 0..49 {
        stand_in.resolve(&claim.task_id, run_id, RunState::Failed);
        let got = rerun(&caller, &claim.task_id).await.expect(200);
        // 50 runs are reached with the retries too.
        assert_eq!(status(&got)["retriesLeft"], 5.min(48 - run_id), "{run_id}");
    }
    rerun(&caller, &claim.task_id).await.expect(200);
    stand_in.resolve(&claim.task_id, 49, RunState::Failed);
    let got = rerun(&caller, &claim.task_id).await;
    got.expect_error(409, "RequestConflict", "Maximum number of runs reached (50).");
}

#[tokio::test]
async fn after_the_deadline() {
    let (stand_in, caller) = start();
    let soon = definition(json!({"deadline": in_minutes(10)}));
    caller.put(&path(A), soon.clone()).await.expect(200);
    let waiting = definition(json!({"dependencies": [A], "deadline": in_minutes(10)}));
    caller.put(&path(B), waiting).await.expect(200);
    let patient = definition(json!({"dependencies": [A], "requires": "all-resolved"}));
    caller.put(&path(C), patient).await.expect(200);
    stand_in.claim(A);
    stand_in.advance(minutes(10));
    // The queue is a minute late, but not with reruns.
    assert_eq!(states(&stand_in), ["running", "unscheduled", "unscheduled"]);
    let deadline = stand_in.definition(A).unwrap()["deadline"].as_str().unwrap().to_owned();
    let refusal = format!("Task `{A}` can't be rescheduled past its deadline of {deadline}.");
    rerun(&caller, A).await.expect_error(409, "RequestConflict", &refusal);
    stand_in.advance(minutes(1));
    let got = caller.get(&format!("{}/status", path(B))).await.expect(200);
    let run = &status(&got)["runs"][0];
    assert_eq!((&run["reasonCreated"], &run["reasonResolved"]), (&json!("exception"), &json!("deadline-exceeded")));
    assert_eq!(states(&stand_in), ["exception", "exception", "pending"]);
    rerun(&caller, A).await.expect_error(409, "RequestConflict", &refusal);
    rerun(&caller, C).await.expect(200);
}

#[tokio::test]
async fn the_queues_own_retries() {
    let (stand_in, caller) = start();
    caller.put(&path(A), definition(json!({"retries": 2}))).await.expect(200);
    caller.put(&path(B), definition(json!({"dependencies": [A], "requires": "all-resolved"}))).await.expect(200);
    let ends = [("worker-shutdown", "retry"), ("intermittent-task", "task-retry"), ("claim-expired", "")];
    for (run_id, (reason, next)) in ends.into_iter().enumerate() {
        assert_eq!(states(&stand_in), ["pending", "unscheduled"]);
        let claim = stand_in.claim(A);
        stand_in.resolve_exception(A, claim.run_id, reason);
        let now = stand_in.status(A).unwrap();
        assert_eq!(now["runs"][run_id]["reasonResolved"], reason);
        assert_eq!(now["runs"][run_id + 1]["reasonCreated"].as_str().unwrap_or_default(), next);
        assert_eq!(now["retriesLeft"], 1_usize.saturating_sub(run_id));
    }
    assert_eq!(states(&stand_in), ["exception", "pending"]);
    // A rerun gives the retries back; other exceptions do not use them.
    assert_eq!(status(&rerun(&caller, A).await.expect(200))["retriesLeft"], 2);
    stand_in.claim(A);
    stand_in.resolve_exception(A, 3, "malformed-payload");
    assert_eq!(stand_in.status(A).unwrap()["runs"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn what_has_expired_goes_in_the_night() {
    let (stand_in, caller) = start();
    let spec = TaskSpec::default().property("routes", json!(["index.docker.x"])).expires_in(minutes(30));
    let claim = stand_in.create_task(spec);
    stand_in.put_artifact(&claim.task_id, 0, "public/x", "text/plain", None, b"hello");
    stand_in.resolve(&claim.task_id, 0, RunState::Completed);
    stand_in.advance(minutes(31));
    let info = format!("{}/artifact-info/public/x", path(&claim.task_id));
    let index = "/api/index/v1/tasks/docker";
    for path in [&path(&claim.task_id), &info, index] {
        caller.get(path).await.expect(200);
    }
    stand_in.purge();
    caller.get(&path(&claim.task_id)).await.expect_error(404, "ResourceNotFound", "has already been submitted?");
    caller.get(&info).await.expect(404);
    assert_eq!(caller.get(index).await.expect(200).body, json!({"tasks": []}));
    caller.get(&format!("{}/status", path(&claim.task_id))).await.expect_error(404, "ResourceNotFound", "exists?");
}

#[tokio::test]
async fn the_official_client_makes_these_calls() {
    let (stand_in, _) = start();
    let anonymous = ClientBuilder::new(stand_in.root_url());
    let queue = Queue::new(anonymous.clone().credentials(stand_in.permanent_credentials(["*"]))).unwrap();
    let wanted = definition(json!({"routes": ["index.docker.x"]}));
    let made = queue.createTask(A, &wanted).await.unwrap();
    assert_eq!(made["status"], stand_in.status(A).unwrap());
    let changed = queue.createTask(A, &definition(json!({"payload": {}}))).await.unwrap_err();
    assert_eq!(err_status_code(&changed).unwrap().as_u16(), 409);
    queue.createTask(B, &waiting_for(&[A])).await.unwrap();
    stand_in.claim(A);
    stand_in.put_artifact(A, 0, "public/image.tar", "application/x-tar", None, b"image");
    stand_in.resolve(A, 0, RunState::Completed);
    assert_eq!(queue.status(B).await.unwrap()["status"]["state"], "pending");
    assert_eq!(queue.latestArtifactInfo(A, "public/image.tar").await.unwrap()["name"], "public/image.tar");

    let index = Index::new(anonymous.clone()).unwrap();
    let found = index.findTasksAtIndex(&json!({"indexes": ["docker.x", "docker.y"]}), None, None).await.unwrap();
    assert_eq!((found["tasks"].as_array().unwrap().len(), &found["tasks"][0]["taskId"]), (1, &json!(A)));
    assert_eq!(queue.rerunTask(A).await.unwrap()["status"]["runs"][1]["state"], "pending");

    // It does not sign queries: pages are for those without credentials.
    let group = wanted["taskGroupId"].as_str().unwrap();
    let refused = queue.listTaskGroup(group, None, Some("1")).await.unwrap_err();
    assert_eq!(err_status_code(&refused).unwrap().as_u16(), 401);
    let queue = Queue::new(anonymous).unwrap();
    let page = queue.listTaskGroup(group, None, Some("1")).await.unwrap();
    let rest = queue.listTaskGroup(group, page["continuationToken"].as_str(), None).await.unwrap();
    let ids = [&page, &rest].map(|page| page["tasks"][0]["status"]["taskId"].as_str());
    assert_eq!(ids, [Some(B), Some(A)]);
}
