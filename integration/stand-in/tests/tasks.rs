//! Making tasks: definitions, scopes, dependencies and groups. What becomes of tasks is in `reruns`.

use serde_json::{Value, json};
use stand_in::{Options, RunState, StandIn, TaskSpec};

use super::{Caller, Got, in_minutes};

pub(super) const A: &str = "fN1SbArXTPSVFNUvaOlinQ";
pub(super) const B: &str = "ebDCb8RIRXyRsFOJKJGIwg";
pub(super) const C: &str = "NiQoMpJIT5mCvDPsPHMBhw";
/// A group that is no task.
const GROUP: &str = "Wj3aMJvXRwe2zYbXkKQdCw";

pub(super) fn start() -> (StandIn, Caller) {
    let stand_in = StandIn::start(Options::default());
    let caller = Caller::new(&stand_in, &stand_in.permanent_credentials(["*"]));
    (stand_in, caller)
}

pub(super) fn path(task_id: &str) -> String {
    format!("/api/queue/v1/task/{task_id}")
}

/// A definition that the queue takes, with some properties changed; null takes one out.
pub(super) fn definition(changes: Value) -> Value {
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

pub(super) fn waiting_for(dependencies: &[&str]) -> Value {
    definition(json!({"dependencies": dependencies}))
}

pub(super) fn states(stand_in: &StandIn) -> Vec<String> {
    [A, B, C].iter().filter_map(|task_id| Some(stand_in.status(task_id)?["state"].as_str()?.to_owned())).collect()
}

pub(super) fn status(got: &Got) -> &Value {
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
    // It runs by now, as the answer shows.
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
