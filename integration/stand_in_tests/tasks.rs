//! Tasks: making them, waiting for others, running again, and the end of their time.

use serde_json::{Value, json};

use super::{Caller, Got, in_minutes, minutes};
use crate::stand_in::{Options, RunState, StandIn, TaskSpec};

const A: &str = "fN1SbArXTPSVFNUvaOlinQ";
const B: &str = "ebDCb8RIRXyRsFOJKJGIwg";
const C: &str = "NiQoMpJIT5mCvDPsPHMBhw";
/// A group that is no task.
const GROUP: &str = "Wj3aMJvXRwe2zYbXkKQdCw";

fn start() -> (StandIn, Caller) {
    let stand_in = StandIn::start(Options::default());
    let caller = Caller::new(&stand_in, &stand_in.permanent_credentials(["*"]));
    (stand_in, caller)
}

fn path(task_id: &str) -> String {
    format!("/api/queue/v1/task/{task_id}")
}

/// A definition that the queue takes, with some properties changed; null takes one out.
fn definition(changes: Value) -> Value {
    let mut definition = json!({
        "taskQueueId": "pool/images",
        "schedulerId": "level-1",
        "taskGroupId": GROUP,
        "created": in_minutes(0),
        "deadline": in_minutes(60),
        "expires": in_minutes(600),
        "payload": {"command": ["image-worker", "run"]},
        "metadata": {"name": "x", "description": "y", "owner": "a@b.c", "source": "https://example.com/x"},
    });
    let Value::Object(changes) = changes else { panic!("not an object: {changes}") };
    let properties = definition.as_object_mut().unwrap();
    properties.extend(changes);
    properties.retain(|_, value| !value.is_null());
    definition
}

fn waiting_for(dependencies: &[&str]) -> Value {
    definition(json!({"dependencies": dependencies}))
}

fn states(stand_in: &StandIn) -> Vec<String> {
    [A, B, C].iter().filter_map(|task_id| Some(stand_in.status(task_id)?["state"].as_str()?.to_owned())).collect()
}

fn status(got: &Got) -> &Value {
    &got.body["status"]
}

#[tokio::test]
async fn a_definition_gets_its_defaults() {
    let (stand_in, caller) = start();
    let given = definition(json!({"schedulerId": null, "taskGroupId": null, "expires": null}));
    let got = caller.put(&path(A), given.clone()).await.expect(200);
    assert_eq!((&status(&got)["state"], &status(&got)["retriesLeft"]), (&json!("pending"), &json!(5)));
    assert_eq!(status(&got)["runs"][0]["reasonCreated"], "scheduled");
    let kept = caller.get(&path(A)).await.expect(200).body;
    for (name, default) in [
        ("provisionerId", json!("pool")),
        ("workerType", json!("images")),
        ("schedulerId", json!("-")),
        ("projectId", json!("none")),
        ("taskGroupId", json!(A)),
        ("requires", json!("all-completed")),
        ("priority", json!("lowest")),
        ("scopes", json!([])),
        ("extra", json!({})),
        ("payload", given["payload"].clone()),
    ] {
        assert_eq!(kept[name], default, "{name}");
    }
    let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(time(&kept["created"]).as_millisecond(), time(&given["created"]).as_millisecond());
    let life = time(&kept["expires"]).duration_since(time(&kept["deadline"])).as_hours();
    assert!((365 * 24..=366 * 24).contains(&life), "{life}");
    assert_eq!(stand_in.definition(A).unwrap(), kept);
}

#[tokio::test]
async fn definitions_that_the_queue_refuses() {
    let (stand_in, caller) = start();
    let long = "x".repeat(250);
    let schema = [
        json!({"created": null}),
        json!({"payload": null}),
        json!({"payload": []}),
        json!({"surprise": 1}),
        json!({"deadline": "tomorrow"}),
        json!({"retries": 50}),
        json!({"retries": 1.5}),
        json!({"priority": "urgent"}),
        json!({"requires": "all"}),
        json!({"dependencies": ["not-a-slugid"]}),
        json!({"dependencies": [A, A]}),
        json!({"routes": [long]}),
        json!({"routes": [""]}),
        json!({"routes": vec!["x"; 2]}),
        json!({"routes": (0..65).map(|n| n.to_string()).collect::<Vec<_>>()}),
        json!({"scopes": [1]}),
        json!({"schedulerId": ""}),
        json!({"schedulerId": "a.b"}),
        json!({"workerType": "Upper"}),
        json!({"taskQueueId": "pool"}),
        json!({"taskGroupId": "group"}),
        json!({"tags": {"a": 1}}),
        json!({"metadata": {"name": "x", "description": "y", "owner": "a@b.c"}}),
        json!({"metadata": {"name": "x", "description": "y", "owner": "a@b.c", "source": "javascript:x"}}),
    ];
    for changes in schema {
        let got = caller.put(&path(A), definition(changes.clone())).await;
        got.expect_error(400, "InputValidationError", "Schema Validation Failed");
    }
    let dates = [
        (json!({"created": in_minutes(-16)}), "`created` cannot be in the past (max 15min drift)"),
        (json!({"created": in_minutes(16)}), "`created` cannot be in the future (max 15min drift)"),
        (json!({"created": in_minutes(10), "deadline": in_minutes(9)}), "`deadline` cannot be later than `created`"),
        (json!({"created": in_minutes(-10), "deadline": in_minutes(-5)}), "`deadline` cannot be in the past"),
        (json!({"deadline": in_minutes(5 * 24 * 60 + 16)}), "`deadline` cannot be more than 5 days into the future"),
        (json!({"expires": in_minutes(59)}), "`expires` cannot be before `deadline`"),
        (json!({"scopes": ["a**"]}), "scopes must not end with `**`"),
        (json!({"taskQueueId": null}), "at least a provisionerId and a workerType or a taskQueueId must be provided"),
        (json!({"provisionerId": "other", "workerType": "images"}), "taskQueueId must match"),
    ];
    for (changes, message) in dates {
        caller.put(&path(A), definition(changes)).await.expect_error(400, "InputError", message);
    }
    caller.put(&path("x"), definition(json!({}))).await.expect_error(400, "InvalidRequestArguments", "taskId");
    assert_eq!(stand_in.status(A), None);
    assert!(stand_in.submit(A, &json!({})).unwrap_err().contains("Schema Validation Failed"));
    for (task_id, fine) in [
        (A, json!({"created": in_minutes(-14)})),
        (B, json!({"deadline": in_minutes(5 * 24 * 60), "expires": null})),
        (C, json!({"provisionerId": "pool", "workerType": "images", "taskQueueId": null})),
    ] {
        caller.put(&path(task_id), definition(fine)).await.expect(200);
    }
}

#[tokio::test]
async fn every_part_of_a_definition_has_its_scope() {
    let stand_in = StandIn::start(Options::default());
    let wanted = definition(json!({
        "scopes": ["index:insert-task:docker.*"],
        "routes": ["index.docker.x"],
        "projectId": "releng",
        "priority": "low",
    }));
    let all = [
        "index:insert-task:docker.*",
        "queue:route:index.docker.*",
        "queue:create-task:project:releng",
        "queue:scheduler-id:level-1",
        "queue:create-task:low:pool/images",
    ];
    for without in 0..all.len() {
        let scopes = all.iter().enumerate().filter(|(index, _)| *index != without).map(|(_, scope)| *scope);
        let some = Caller::new(&stand_in, &stand_in.permanent_credentials(scopes));
        let missing = all[without].replace("queue:route:index.docker.*", "queue:route:index.docker.x");
        let got = some.put(&path(A), wanted.clone()).await.expect_error(403, "InsufficientScopes", &missing);
        let others = all.iter().filter(|scope| **scope != all[without]);
        assert!(others.into_iter().all(|scope| !got.missing_scopes().contains(scope)), "{got:?}");
    }
    Caller::anonymous(&stand_in.root_url()).put(&path(A), wanted.clone()).await.expect(403);
    // A higher priority's scope is good for a lower one; a lower one's is not.
    for (priority, status) in [("very-low", 403), ("medium", 200)] {
        let scope = format!("queue:create-task:{priority}:pool/*");
        let scopes = all[..4].iter().map(|scope| (*scope).to_owned()).chain([scope]);
        let some = Caller::new(&stand_in, &stand_in.permanent_credentials(scopes));
        some.put(&path(A), wanted.clone()).await.expect(status);
    }
}

#[tokio::test]
async fn the_same_task_can_be_created_twice_and_no_other_in_its_place() {
    let (stand_in, caller) = start();
    let wanted = definition(json!({}));
    let first = caller.put(&path(A), wanted.clone()).await.expect(200);
    assert_eq!(caller.put(&path(A), wanted.clone()).await.expect(200).body, first.body);
    let mut spelled = wanted.clone();
    spelled["provisionerId"] = json!("pool");
    spelled["workerType"] = json!("images");
    spelled["retries"] = json!(5);
    caller.put(&path(A), spelled).await.expect(200);
    let other = "taskId `fN1SbArXTPSVFNUvaOlinQ` already used by another task.";
    for change in [json!({"payload": {}}), json!({"retries": 4}), json!({"expires": in_minutes(601)})] {
        let mut changed = wanted.clone();
        changed.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        caller.put(&path(A), changed).await.expect_error(409, "RequestConflict", other);
    }
    // It runs by now: the answer says so.
    stand_in.claim(A);
    let again = caller.put(&path(A), wanted).await.expect(200);
    assert_eq!((&status(&again)["state"], status(&again)["runs"].as_array().unwrap().len()), (&json!("running"), 1));
}

#[tokio::test]
async fn a_task_waits_for_its_dependencies() {
    let (stand_in, caller) = start();
    let missing = caller.put(&path(C), waiting_for(&[A, B])).await;
    let missing = missing.expect_error(400, "InputError", "`task.dependencies` references non-existing tasks: \n * ");
    assert!([A, B].iter().all(|task_id| missing.message().contains(task_id)), "{missing:?}");
    caller.get(&path(C)).await.expect(404);
    for task_id in [A, B] {
        caller.put(&path(task_id), definition(json!({}))).await.expect(200);
    }
    let got = caller.put(&path(C), waiting_for(&[A, B])).await.expect(200);
    assert_eq!((&status(&got)["state"], &status(&got)["runs"]), (&json!("unscheduled"), &json!([])));
    assert_eq!(stand_in.pending_tasks().len(), 2);
    caller.get(&format!("{}/artifacts", path(C))).await.expect_error(404, "ResourceNotFound", "doesn't have any runs");
    for task_id in [A, B] {
        assert_eq!(stand_in.status(C).unwrap()["state"], "unscheduled");
        let claim = stand_in.claim(task_id);
        stand_in.resolve(task_id, claim.run_id, RunState::Completed);
    }
    assert_eq!(states(&stand_in), ["completed", "completed", "pending"]);
    assert_eq!(stand_in.pending_tasks(), [C]);
    assert_eq!(stand_in.claim(C).run_id, 0);
}

#[tokio::test]
async fn what_a_dependency_that_fails_means() {
    for (requires, end, after) in [
        ("all-completed", RunState::Failed, "unscheduled"),
        ("all-completed", RunState::Exception, "unscheduled"),
        ("all-resolved", RunState::Failed, "pending"),
        ("all-resolved", RunState::Exception, "pending"),
        ("all-resolved", RunState::Completed, "pending"),
    ] {
        let (stand_in, caller) = start();
        caller.put(&path(A), definition(json!({}))).await.expect(200);
        let dependent = definition(json!({"dependencies": [A], "requires": requires}));
        caller.put(&path(B), dependent.clone()).await.expect(200);
        stand_in.claim(A);
        stand_in.resolve(A, 0, end);
        // One that comes afterwards is treated alike.
        caller.put(&path(C), dependent).await.expect(200);
        assert_eq!(states(&stand_in)[1..], [after, after], "{requires} {end:?}");
        // A rerun that goes well lets them go.
        if after == "unscheduled" {
            let claim = stand_in.rerun(A);
            stand_in.resolve(A, claim.run_id, RunState::Completed);
            assert_eq!(states(&stand_in), ["completed", "pending", "pending"]);
        }
    }
}

#[tokio::test]
async fn dependencies_must_outlive_the_deadline() {
    let (stand_in, caller) = start();
    let short = definition(json!({"deadline": in_minutes(10), "expires": in_minutes(20)}));
    caller.put(&path(A), short).await.expect(200);
    let got = caller.put(&path(B), waiting_for(&[A])).await;
    let got = got.expect_error(400, "InputError", "references tasks that expires\nbefore `task.deadline`");
    assert!(got.message().contains(&format!(" * {A},")), "{got:?}");
    assert_eq!(stand_in.status(B), None);
    // A task may wait for itself.
    caller.put(&path(C), waiting_for(&[C])).await.expect(200);
    assert_eq!(stand_in.status(C).unwrap()["state"], "unscheduled");
}

#[tokio::test]
async fn a_group_has_one_scheduler() {
    let (stand_in, caller) = start();
    caller.put(&path(A), definition(json!({}))).await.expect(200);
    let other = definition(json!({"schedulerId": "level-3"}));
    let got = caller.put(&path(B), other).await;
    got.expect_error(409, "RequestConflict", &format!("Task group `{GROUP}` contains tasks with a schedulerId other"));
    assert_eq!(stand_in.status(B), None);
}

#[tokio::test]
async fn a_group_is_listed_in_pages() {
    let (stand_in, caller) = start();
    let anonymous = Caller::anonymous(&stand_in.root_url());
    let list = format!("/api/queue/v1/task-group/{GROUP}/list");
    anonymous.get(&list).await.expect_error(404, "ResourceNotFound", "No task-group with taskGroupId");
    for task_id in [A, B, C] {
        caller.put(&path(task_id), definition(json!({}))).await.expect(200);
    }
    stand_in.create_task(TaskSpec::default());
    let ids = |page: &Value| -> Vec<String> {
        let tasks = page["tasks"].as_array().unwrap().iter();
        tasks.map(|task| task["status"]["taskId"].as_str().unwrap().to_owned()).collect()
    };
    let whole = anonymous.get(&list).await.expect(200).body;
    assert_eq!((ids(&whole), &whole["schedulerId"]), (vec![C.into(), B.into(), A.into()], &json!("level-1")));
    assert!(whole.get("continuationToken").is_none() && whole["expires"].is_string(), "{whole}");
    assert_eq!(whole["tasks"][2]["task"], caller.get(&path(A)).await.expect(200).body);
    assert_eq!(whole["tasks"][2]["status"], stand_in.status(A).unwrap());

    let first = anonymous.get(&format!("{list}?limit=2")).await.expect(200).body;
    let token = first["continuationToken"].as_str().unwrap();
    let second = anonymous.get(&format!("{list}?limit=2&continuationToken={token}")).await.expect(200).body;
    assert_eq!((ids(&first).len(), ids(&second)), (2, vec![A.to_owned()]));
    assert!(second.get("continuationToken").is_none());
    let none = anonymous.get(&format!("{list}?limit=0")).await.expect(200).body;
    assert!(ids(&none).is_empty() && none.get("continuationToken").is_none(), "{none}");
    anonymous.get("/api/queue/v1/task-group/x/list").await.expect_error(400, "InvalidRequestArguments", "taskGroupId");
    let closed = StandIn::start(Options { anonymous_scopes: Vec::new(), ..Options::default() });
    let refused = Caller::anonymous(&closed.root_url()).get(&list).await;
    refused.expect_error(403, "InsufficientScopes", &format!("queue:list-task-group:{GROUP}"));
}

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
