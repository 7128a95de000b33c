//! taskcluster-proxy: the task's scopes without credentials, everything else untouched.

use std::time::Duration;

use serde_json::json;
use stand_in::{Fault, Options, StandIn, TaskSpec};

use super::{Caller, artifact_path, in_minutes, minutes, s3};

#[tokio::test]
async fn calls_are_made_in_the_tasks_name() {
    let stand_in = StandIn::start(Options::default());
    let claim = stand_in.create_task(TaskSpec::scopes(["index:insert-task:docker.*"]));
    let proxy = Caller::anonymous(&stand_in.proxy_url(&claim));
    assert_eq!(stand_in.proxy_url(&claim), proxy.root);
    let got = proxy.post(&artifact_path(&claim, "public/x"), s3(&in_minutes(60))).await.expect(200);
    // Answers name the real hosts, not the proxy's.
    assert!(got.body["putUrl"].as_str().unwrap().starts_with(&stand_in.store_url()), "{got:?}");
    let short = artifact_path(&claim, "public/y").replace("/api", "");
    let got = proxy.post(&short, s3(&in_minutes(60))).await.expect(200);
    assert_eq!(got.header("x-taskcluster-endpoint"), format!("{}/api{short}", stand_in.root_url()));

    let entry = json!({"taskId": claim.task_id, "rank": 1, "data": {}, "expires": in_minutes(60)});
    proxy.put("/api/index/v1/task/docker.x", entry.clone()).await.expect(200);
    proxy.put("/index/v1/task/docker.x", entry.clone()).await.expect(200);
    let id = &claim.credentials.client_id;
    let missing = format!("Client ID {id} does not have sufficient scopes");
    proxy.put("/index/v1/task/other.x", entry).await.expect_error(403, "InsufficientScopes", &missing);
    let other = stand_in.create_task(TaskSpec::default());
    proxy.post(&artifact_path(&other, "public/x"), s3(&in_minutes(60))).await.expect(403);

    let got = proxy.get(&format!("/queue/v1/task/{}/artifacts/public%2Fx", claim.task_id)).await.expect(303);
    assert!(got.header("location").starts_with(&stand_in.store_url()), "{got:?}");
    proxy.get(&format!("/queue/v1/task/{}/artifacts?limit=1", claim.task_id)).await.expect(200);
    proxy.get("/queue/v1/nothing").await.expect(404);
    proxy.get("/api/queue").await.expect(404);
    assert!(proxy.try_send(reqwest::Method::GET, "/foo", None).await.is_err());

    let call = &stand_in.calls()[0];
    assert!(call.via_proxy);
    assert_eq!(call.client_id.as_ref(), Some(id));
}

#[tokio::test]
async fn the_callers_own_credentials_do_not_matter() {
    let stand_in = StandIn::start(Options::default());
    let claim = stand_in.create_task(TaskSpec::default());
    let everything = stand_in.permanent_credentials(["*"]);
    let mut caller = Caller::new(&stand_in, &everything);
    caller.root = stand_in.proxy_url(&claim);
    let path = format!("/queue/v1/task/{}/rerun", claim.task_id);
    caller.post(&path, json!({})).await.expect_error(403, "InsufficientScopes", &claim.credentials.client_id);
    // The worker keeps the proxy's credentials fresh.
    stand_in.advance(minutes(60));
    let create = artifact_path(&claim, "public/x");
    caller.post(&create, s3(&in_minutes(120))).await.expect(200);
}

#[tokio::test]
async fn server_errors_are_tried_again_for_a_while() {
    let retry_time = Duration::from_secs(1);
    let stand_in = StandIn::start(Options { proxy_retry_time: retry_time, ..Options::default() });
    let claim = stand_in.create_task(TaskSpec::default());
    let proxy = Caller::anonymous(&stand_in.proxy_url(&claim));
    let path = artifact_path(&claim, "public/x");
    stand_in.fault(Fault::status("createArtifact", 503).times(2));
    proxy.post(&path, s3(&in_minutes(60))).await.expect(200);
    assert_eq!(stand_in.calls().len(), 3);
    stand_in.fault(Fault::status("createArtifact", 500).times(u32::MAX));
    proxy.post(&path, s3(&in_minutes(60))).await.expect(500);
    stand_in.clear_calls();
    proxy.post(&path, json!({})).await.expect(500);
    assert!(stand_in.calls().len() > 2);
}
