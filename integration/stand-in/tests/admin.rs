//! The admin endpoints, and the stand-in as a program's neighbour: all by plain HTTP.

use reqwest::Method;
use serde_json::{Value, json};
use stand_in::{ENDPOINTS, Options, StandIn, TaskSpec};
use taskcluster::Credentials;

use super::{Caller, in_minutes, s3};

#[tokio::test]
async fn a_shell_script_has_all_that_it_needs() {
    let dir = tempfile::tempdir().unwrap();
    let stand_in = StandIn::start(Options { dir: Some(dir.path().join("store")), ..Options::default() });
    let curl = Caller::anonymous(&stand_in.root_url());
    let spec = json!({"scopes": ["index:insert-task:docker.*"], "expires": in_minutes(90), "projectId": "releng"});
    let task = curl.post("/stand-in/tasks", spec).await.expect(200).body;
    let task_id = task["taskId"].as_str().unwrap();
    let credentials: Credentials = serde_json::from_value(task["credentials"].clone()).unwrap();
    let definition = curl.get(&format!("/api/queue/v1/task/{task_id}")).await.expect(200).body;
    assert_eq!((&definition["projectId"], &definition["routes"]), (&json!("releng"), &json!([])));

    let path = format!("/stand-in/artifacts/{task_id}/0/public/context.tar.gz");
    let put = curl.http.put(format!("{}{path}", curl.root)).header("content-type", "application/gzip").body("context");
    assert_eq!(put.send().await.unwrap().status().as_u16(), 200);
    let got = curl.get(&format!("/api/queue/v1/task/{task_id}/artifacts/public/context.tar.gz")).await.expect(303);
    let read = curl.http.get(got.header("location")).send().await.unwrap();
    assert_eq!(read.headers()["content-type"], "application/gzip");
    assert_eq!(read.text().await.unwrap(), "context");
    assert_eq!(std::fs::read_dir(dir.path().join("store")).unwrap().count(), 1);

    let proxy = Caller::anonymous(task["proxyUrl"].as_str().unwrap());
    let entry = json!({"taskId": task_id, "rank": 1, "data": {}, "expires": in_minutes(60)});
    proxy.put("/index/v1/task/docker.x", entry.clone()).await.expect(200);
    Caller::new(&stand_in, &credentials).put("/api/index/v1/task/docker.x", entry).await.expect(200);
    let index = curl.get("/stand-in/index").await.expect(200).body;
    assert_eq!((index.as_array().unwrap().len(), &index[0]["namespace"]), (1, &json!("docker.x")));

    let calls = curl.get("/stand-in/calls").await.expect(200).body;
    let names: Vec<&Value> = calls.as_array().unwrap().iter().map(|call| &call["name"]).collect();
    assert_eq!(names, ["task", "getLatestArtifact", "s3 GET", "insertTask", "insertTask"]);
    curl.send(Method::DELETE, "/stand-in/calls", None).await.expect(200);
    assert_eq!(curl.get("/stand-in/calls").await.body, json!([]));

    let path = format!("/stand-in/tasks/{task_id}");
    curl.post(&format!("{path}/resolve"), json!({"state": "failed"})).await.expect(200);
    curl.post(&format!("{path}/claim"), json!({})).await.expect(409);
    let again = curl.post(&format!("{path}/rerun"), json!({})).await.expect(200).body;
    assert_eq!((&again["taskId"], &again["runId"]), (&task["taskId"], &json!(1)));
    assert_eq!(curl.get(&path).await.expect(200).body["state"], "running");
}

#[tokio::test]
async fn the_help_names_what_there_is() {
    let stand_in = StandIn::start(Options::default());
    let curl = Caller::anonymous(&stand_in.root_url());
    let task_id = stand_in.create_task(TaskSpec::default()).task_id;
    let mut named = 0;
    for line in ENDPOINTS.lines() {
        let mut words = line.strip_prefix("  ").unwrap_or_default().split(' ');
        let Some(method) = words.next().and_then(|method| method.parse().ok()).filter(|_| !line.starts_with("   "))
        else {
            continue;
        };
        let path = words.next().unwrap().replace("TASK", &task_id).replace("RUN", "0");
        let got = curl.send(method, &format!("/stand-in/{path}"), Some(json!({}))).await;
        assert!(got.status != 404, "{line}: {got:?}");
        named += 1;
    }
    assert_eq!(named, 16);
    curl.get("/stand-in/nothing").await.expect(404);
}

/// A task graph by hand: what `decide` writes goes in, and a worker goes through it.
#[tokio::test]
async fn tasks_are_made_and_moved_from_outside() {
    let stand_in = StandIn::start(Options::default());
    let curl = Caller::anonymous(&stand_in.root_url());
    let decision = curl.post("/stand-in/tasks", json!({"projectId": "releng"})).await.expect(200).body;
    let decision = decision["taskId"].as_str().unwrap();
    let definition = json!({
        "provisionerId": "pool", "workerType": "images", "schedulerId": "stand-in", "taskGroupId": decision,
        "dependencies": [decision], "created": in_minutes(0), "deadline": in_minutes(60), "retries": 1,
        "payload": {},
        "metadata": {"name": "image", "description": "", "owner": "a@b.c", "source": "https://example.com/"},
    });
    let path = "/stand-in/tasks/fN1SbArXTPSVFNUvaOlinQ";
    let made = curl.put(path, definition.clone()).await.expect(200).body;
    assert_eq!((&made["state"], &made["taskGroupId"]), (&json!("unscheduled"), &json!(decision)));
    let mut other = definition.clone();
    other["schedulerId"] = json!("other");
    for (path, definition, status, message) in [
        (path, json!({}), 400, "must have required property 'deadline'"),
        (path, other, 409, "contains tasks with a schedulerId other"),
        ("/stand-in/tasks/x", definition, 400, "x is no slugid"),
    ] {
        let got = curl.put(path, definition).await.expect(status);
        assert!(got.text.contains(message), "{got:?}");
    }
    let waits = curl.post(&format!("{path}/claim"), json!({})).await.expect(409).text;
    assert_eq!(waits, format!("task fN1SbArXTPSVFNUvaOlinQ waits for {{\"{decision}\"}}"));
    curl.post(&format!("{path}/resolve"), json!({"state": "failed"})).await.expect(404);
    curl.post(&format!("/stand-in/tasks/{decision}/resolve"), json!({"state": "completed"})).await.expect(200);

    let list = curl.get("/stand-in/tasks").await.expect(200).body;
    let image = list.as_array().unwrap().iter().find(|task| task["name"] == "image").unwrap();
    assert_eq!((&image["state"], &image["waitsFor"]), (&json!("pending"), &json!([])));
    for (run_id, end, state) in [
        (0, json!({"state": "exception", "reason": "intermittent-task"}), "pending"),
        (1, json!({"state": "failed"}), "failed"),
    ] {
        assert_eq!(curl.post(&format!("{path}/claim"), json!({})).await.expect(200).body["runId"], run_id);
        assert_eq!(curl.post(&format!("{path}/resolve"), end).await.expect(200).body["state"], state);
    }
    for bad in [json!({"state": "pending"}), json!({"state": "exception", "reason": "tired"}), json!({})] {
        curl.post(&format!("{path}/resolve"), bad).await.expect(400);
    }
    curl.post("/stand-in/delay", json!({"milliseconds": 1})).await.expect(200);
    curl.post("/stand-in/advance", json!({"seconds": u64::MAX})).await.expect(400);
    curl.post("/stand-in/advance", json!({"seconds": 3_000_000})).await.expect(200);
    curl.post("/stand-in/purge", json!({})).await.expect(200);
    curl.get(&format!("/stand-in/tasks/{decision}")).await.expect(404);
    // Its expiry is a year after its deadline.
    curl.get(path).await.expect(200);
}

#[tokio::test]
async fn faults_time_and_credentials_too() {
    let stand_in = StandIn::start(Options::default());
    let curl = Caller::anonymous(&stand_in.root_url());
    let task = curl.post("/stand-in/tasks", json!({"unclaimed": true})).await.expect(200).body;
    let path = format!("/api/queue/v1/task/{}", task["taskId"].as_str().unwrap());
    for (fault, status) in [
        (json!({"call": "task", "kind": "status", "status": 503, "retry_after": 3, "body": "no"}), Some(503)),
        (json!({"call": "task", "kind": "drop"}), None),
        (json!({"call": "task", "kind": "delay", "milliseconds": 1}), Some(200)),
    ] {
        curl.post("/stand-in/faults", fault).await.expect(200);
        let got = curl.try_send(Method::GET, &path, None).await;
        assert_eq!(got.ok().map(|got| got.status), status);
    }
    for bad in [json!({"call": "task"}), json!({"call": "task", "kind": "status"}), json!({"kind": "drop"})] {
        curl.post("/stand-in/faults", bad).await.expect(400);
    }
    let made = curl.post("/stand-in/credentials", json!({"scopes": ["queue:*"]})).await.expect(200).body;
    let credentials: Credentials = serde_json::from_value(made).unwrap();
    let caller = Caller::new(&stand_in, &credentials);
    curl.post(&format!("/stand-in/tasks/{}/claim", task["taskId"].as_str().unwrap()), json!({})).await.expect(200);
    let create = format!("{path}/runs/0/artifacts/public/x");
    caller.post(&create, s3(&in_minutes(60))).await.expect(200);
    curl.post("/stand-in/advance", json!({"seconds": 3700})).await.expect(200);
    caller.get(&create).await.expect(410);

    for (method, path, status) in [
        (Method::GET, "/stand-in/nothing", 404),
        (Method::POST, "/stand-in/tasks/fN1SbArXTPSVFNUvaOlinQ/rerun", 404),
        (Method::PUT, "/stand-in/artifacts/fN1SbArXTPSVFNUvaOlinQ/0/public/x", 404),
        (Method::PUT, "/stand-in/artifacts/fN1SbArXTPSVFNUvaOlinQ/x/public/x", 400),
    ] {
        curl.send(method, path, None).await.expect(status);
    }
}
