//! The queue: creating artifacts, what a second call may do, and reading them back.

use serde_json::{Value, json};
use stand_in::{Claim, Options, RunState, StandIn, TaskSpec};

use super::{Caller, artifact_path, in_minutes, minutes, s3};

fn with_task() -> (StandIn, Claim, Caller) {
    let stand_in = StandIn::start(Options::default());
    let claim = stand_in.create_task(TaskSpec::scopes(["queue:get-artifact:*"]).expires_in(minutes(600)));
    let caller = Caller::new(&stand_in, &claim.credentials);
    (stand_in, claim, caller)
}

fn reference(expires: &str, url: &str) -> Value {
    json!({"storageType": "reference", "expires": expires, "contentType": "text/plain", "url": url})
}

fn link(expires: &str, artifact: &str) -> Value {
    json!({"storageType": "link", "expires": expires, "artifact": artifact})
}

#[tokio::test]
async fn an_s3_answer_has_the_urls_expiry() {
    let (stand_in, claim, caller) = with_task();
    for (name, bucket) in [("public/image.tar", "public-artifacts"), ("private/x", "private-artifacts")] {
        let got = caller.post(&artifact_path(&claim, name), s3(&in_minutes(60))).await.expect(200);
        let expires: jiff::Timestamp = got.body["expires"].as_str().unwrap().parse().unwrap();
        let life = expires.as_second() - jiff::Timestamp::now().as_second();
        assert!((44 * 60..=45 * 60).contains(&life), "{life}");
        let url = got.body["putUrl"].as_str().unwrap();
        assert!(url.starts_with(&format!("{}/{bucket}/{}/0/{name}?", stand_in.store_url(), claim.task_id)), "{url}");
        assert!(url.contains("X-Amz-Expires=2710&X-Amz-SignedHeaders=host&x-id=PutObject"), "{url}");
        let keys: Vec<&String> = got.body.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["storageType", "contentType", "expires", "putUrl"]);
    }
}

#[tokio::test]
async fn expiry_is_bounded_by_the_task_and_hardly_by_the_past() {
    let (stand_in, claim, caller) = with_task();
    let task = caller.get(&format!("/api/queue/v1/task/{}", claim.task_id)).await.expect(200).body;
    let task_expires = task["expires"].as_str().unwrap().to_owned();
    let table = [
        (task_expires, 200, ""),
        (in_minutes(601), 400, "after the task expiration"),
        (in_minutes(-10), 200, ""),
        (in_minutes(-16), 400, "Expires must be in the future"),
    ];
    for (index, (expires, status, message)) in table.into_iter().enumerate() {
        let got = caller.post(&artifact_path(&claim, &format!("public/{index}")), s3(&expires)).await.expect(status);
        assert!(got.message().contains(message), "{got:?}");
        assert_eq!(got.code(), if status == 400 { "InputError" } else { "" });
    }
    // The expired one is still listed, and cannot be downloaded.
    let base = format!("/api/queue/v1/task/{}", claim.task_id);
    caller.get(&format!("{base}/artifacts/public/2")).await.expect_error(410, "ResourceExpired", "expired");
    caller.get(&format!("{base}/artifact-info/public/2")).await.expect(200);
    drop(stand_in);
}

#[tokio::test]
async fn second_calls() {
    let (_stand_in, claim, caller) = with_task();
    let (early, later, latest) = (in_minutes(50), in_minutes(60), in_minutes(70));
    let other_type = json!({"storageType": "s3", "expires": latest, "contentType": "text/plain"});
    let object = json!({"storageType": "object", "expires": latest, "contentType": "application/x-tar"});
    let table = [
        (s3(&later), s3(&later), 200),
        (s3(&later), s3(&latest), 200),
        (s3(&later), s3(&early), 409),
        (s3(&later), other_type, 409),
        (s3(&later), object.clone(), 409),
        (object.clone(), s3(&latest), 409),
        (object.clone(), object, 500),
        (reference(&later, "http://a/"), reference(&later, "http://b/"), 200),
        (reference(&later, "http://a/"), link(&later, "public/x"), 200),
        (link(&later, "public/x"), link(&later, "public/y"), 409),
        (link(&later, "public/x"), reference(&later, "http://a/"), 409),
    ];
    for (index, (first, second, status)) in table.into_iter().enumerate() {
        let path = artifact_path(&claim, &format!("public/{index}"));
        caller.post(&path, first.clone()).await.expect(200);
        let got = caller.post(&path, second).await.expect(status);
        if status == 409 {
            let kept = "already exists with different properties, and none of the allowed exceptions apply: {";
            assert!(got.message().contains(kept), "{got:?}");
            assert!(got.message().contains(first["storageType"].as_str().unwrap()), "{got:?}");
        }
    }
}

#[tokio::test]
async fn a_length_is_kept_from_the_first_call() {
    let (_stand_in, claim, caller) = with_task();
    let path = artifact_path(&claim, "public/x");
    let with_length = |length: Value| {
        let mut body = s3(&in_minutes(60));
        body["contentLength"] = length;
        body
    };
    caller.post(&path, with_length(json!(0))).await.expect(200);
    caller.post(&path, with_length(json!(5))).await.expect(200);
    caller.post(&path, with_length(json!(-1))).await.expect_error(400, "InputValidationError", "contentLength");
    let info = caller.get(&format!("/api/queue/v1/task/{}/artifact-info/public/x", claim.task_id)).await.expect(200);
    assert_eq!(info.body["contentLength"], 0);
    assert_eq!((&info.body["name"], &info.body["storageType"]), (&json!("public/x"), &json!("s3")));
}

#[tokio::test]
async fn malformed_requests() {
    let (stand_in, claim, caller) = with_task();
    let path = artifact_path(&claim, "public/x");
    let mut unknown = s3(&in_minutes(60));
    unknown["surprise"] = json!(1);
    let mut no_type = s3(&in_minutes(60));
    no_type.as_object_mut().unwrap().remove("contentType");
    let mut sized_link = link(&in_minutes(60), "x");
    sized_link["contentLength"] = json!(1);
    for body in [unknown, no_type, sized_link, s3("tomorrow"), json!({}), json!([])] {
        caller.post(&path, body).await.expect_error(400, "InputValidationError", "Schema Validation Failed");
    }
    let everybody = stand_in.permanent_credentials(["queue:*"]);
    let everybody = Caller::new(&stand_in, &everybody);
    let table = [
        ("not-a-slugid/runs/0/artifacts/x", 400, "InvalidRequestArguments", "taskId"),
        ("fN1SbArXTPSVFNUvaOlinQ/runs/0/artifacts/x", 400, "InputError", "Task not found"),
        (&format!("{}/runs/7/artifacts/x", claim.task_id), 400, "InputError", "Run not found"),
        (&format!("{}/runs/0/artifacts/%C3%BC", claim.task_id), 400, "InvalidRequestArguments", "name"),
        (&format!("{}/runs/0/artifacts/", claim.task_id), 400, "InvalidRequestArguments", "name"),
    ];
    for (path, status, code, message) in table {
        let got = everybody.post(&format!("/api/queue/v1/task/{path}"), s3(&in_minutes(60))).await;
        got.expect_error(status, code, message);
    }
    // Scopes come first.
    let other = "/api/queue/v1/task/fN1SbArXTPSVFNUvaOlinQ/runs/0/artifacts/x";
    let missing = "missing the following scopes:\n\n```\nqueue:create-artifact:fN1SbArXTPSVFNUvaOlinQ/0";
    caller.post(other, json!({})).await.expect_error(403, "InsufficientScopes", missing);
    let nowhere = everybody.get("/api/queue/v1/nothing").await.expect(404);
    assert_eq!(nowhere.body, json!({"error": "Not found"}));
}

#[tokio::test]
async fn run_states() {
    let (stand_in, claim, caller) = with_task();
    let create = async |name: &str| caller.post(&artifact_path(&claim, name), s3(&in_minutes(60))).await;
    stand_in.resolve(&claim.task_id, 0, RunState::Exception);
    stand_in.advance(minutes(20));
    create("public/late").await.expect(200);
    for state in [RunState::Completed, RunState::Failed] {
        stand_in.resolve(&claim.task_id, 0, state);
        create("public/later").await.expect_error(409, "RequestConflict", "after it is resolved, unless");
    }
    // Finished with its exception for too long.
    let claim = stand_in.rerun(&claim.task_id);
    stand_in.resolve(&claim.task_id, 1, RunState::Exception);
    let caller = Caller::new(&stand_in, &stand_in.permanent_credentials(["queue:create-artifact:*"]));
    stand_in.advance(minutes(24));
    caller.post(&artifact_path(&claim, "public/a"), s3(&in_minutes(60))).await.expect(200);
    stand_in.advance(minutes(2));
    caller.post(&artifact_path(&claim, "public/b"), s3(&in_minutes(60))).await.expect(409);

    let pending = stand_in.create_pending_task(TaskSpec::default().task_id("fN1SbArXTPSVFNUvaOlinQ"));
    let path = format!("/api/queue/v1/task/{pending}/runs/0/artifacts/x");
    caller.post(&path, s3(&in_minutes(60))).await.expect_error(400, "InputError", "Run was not claimed by a worker");
}

#[tokio::test]
async fn finishing_is_for_objects() {
    let (_stand_in, claim, caller) = with_task();
    let path = artifact_path(&claim, "public/x");
    let id = json!({"uploadId": "fN1SbArXTPSVFNUvaOlinQ"});
    caller.put(&path, id.clone()).await.expect_error(404, "ResourceNotFound", "not found");
    caller.post(&path, s3(&in_minutes(60))).await.expect(200);
    caller.put(&path, id).await.expect_error(400, "InputError", "Only object artifacts can be finished");
    caller.put(&path, json!({})).await.expect_error(400, "InputValidationError", "uploadId");
}

#[tokio::test]
async fn every_storage_type_can_be_read() {
    let (stand_in, claim, caller) = with_task();
    let expires = in_minutes(60);
    stand_in.put_artifact(&claim.task_id, 0, "public/s3", "text/plain", None, b"hello");
    let error = json!({
        "storageType": "error", "expires": expires, "reason": "file-missing-on-worker", "message": "no such file",
    });
    for (name, body) in [
        ("public/reference", reference(&expires, "http://example.com/x")),
        ("public/link", link(&expires, "public/s3")),
        ("public/private-link", link(&expires, "private/x")),
        ("public/a", link(&expires, "public/b")),
        ("public/b", link(&expires, "public/a")),
        ("public/error", error),
        ("private/x", s3(&expires)),
    ] {
        let got = caller.post(&artifact_path(&claim, name), body).await.expect(200);
        assert!(name == "private/x" || got.body.as_object().unwrap().len() == 1, "{got:?}");
    }
    let anonymous = Caller::anonymous(&stand_in.root_url());
    let base = format!("/api/queue/v1/task/{}", claim.task_id);
    let table = [
        ("public/s3", 303, "s3"),
        ("public%2Fs3", 303, "s3"),
        ("public/reference", 303, "reference"),
        ("public/link", 303, "s3"),
        ("public/private-link", 403, ""),
        ("public/a", 400, ""),
        ("public/error", 424, "error"),
        ("private/x", 403, ""),
        ("public/nothing", 404, ""),
    ];
    for (name, status, storage_type) in table {
        for place in [format!("{base}/artifacts/{name}"), format!("{base}/runs/0/artifacts/{name}")] {
            let got = anonymous.get(&place).await.expect(status);
            assert_eq!(got.header("x-taskcluster-artifact-storage-type"), storage_type, "{place}");
            assert_eq!(got.header("location"), got.body["url"].as_str().unwrap_or(""), "{place}");
            assert!(got.header("cache-control").contains("no-store"));
            let head = anonymous.send(reqwest::Method::HEAD, &place, None).await.expect(status);
            assert_eq!((head.header("location").is_empty(), head.text.as_str()), (status != 303, ""));
        }
    }
    let content = |got: super::Got| got.expect(200).body;
    let got = content(anonymous.get(&format!("{base}/artifact-content/public/link")).await);
    assert!(got["url"].as_str().unwrap().ends_with("/0/public/s3"), "{got}");
    let got = content(anonymous.get(&format!("{base}/runs/0/artifact-content/public/error")).await);
    assert_eq!(got, json!({"storageType": "error", "reason": "file-missing-on-worker", "message": "no such file"}));
    let got = content(caller.get(&format!("{base}/artifact-content/private/x")).await);
    assert!(got["url"].as_str().unwrap().contains("X-Amz-Expires=1800&"), "{got}");
    let missing = anonymous.get("/api/queue/v1/task/fN1SbArXTPSVFNUvaOlinQ/artifacts/public/x").await;
    missing.expect_error(404, "ResourceNotFound", "Task not found");
}

#[tokio::test]
async fn names_that_upload_and_cannot_be_read() {
    let (stand_in, claim, caller) = with_task();
    let table = [("a//b", 404), ("a/./b", 404), ("a/../b", 404), ("a\\b", 404), ("a%20b", 404), ("50%", 500)];
    let table = table.into_iter().chain([("a{b}", 500), ("a b?c#d;e", 200), ("a,b&c:d@e$", 200)]);
    for (name, status) in table {
        let encoded = name.bytes().fold("public%2F".to_owned(), |path, byte| format!("{path}%{byte:02X}"));
        let path = format!("/api/queue/v1/task/{}/runs/0/artifacts/{encoded}", claim.task_id);
        let put_url = caller.post(&path, s3(&in_minutes(60))).await.expect(200).body["putUrl"].clone();
        let put = caller.http.put(put_url.as_str().unwrap()).body("hello").send().await.unwrap();
        // Rust's URLs resolve dots before they are sent, so that the signature no longer fits.
        let uploaded = if name.starts_with("a/.") { 403 } else { 200 };
        assert_eq!(put.status().as_u16(), uploaded, "{name}");
        let got = caller.get(&path).await;
        if status == 500 {
            got.expect_error(500, "InternalServerError", "");
            continue;
        }
        let read = caller.http.get(got.expect(303).header("location")).send().await.unwrap();
        assert_eq!(read.status().as_u16(), status, "{name}");
        let stored = stand_in.artifact_bytes(&claim.task_id, 0, &format!("public/{name}"));
        assert_eq!(stored.is_some(), uploaded == 200, "{name}");
    }
}

#[tokio::test]
async fn latest_is_the_last_run_even_without_artifacts() {
    let (stand_in, claim, caller) = with_task();
    stand_in.put_artifact(&claim.task_id, 0, "public/x", "text/plain", None, b"hello");
    let base = format!("/api/queue/v1/task/{}", claim.task_id);
    stand_in.rerun(&claim.task_id);
    caller.get(&format!("{base}/artifacts/public/x")).await.expect_error(404, "ResourceNotFound", "Artifact not found");
    assert_eq!(caller.get(&format!("{base}/artifacts")).await.expect(200).body, json!({"artifacts": []}));
    caller.get(&format!("{base}/runs/0/artifacts/public/x")).await.expect(303);
    caller.get(&format!("{base}/runs/2/artifacts")).await.expect_error(404, "ResourceNotFound", "no run");
    let status = caller.get(&format!("{base}/status")).await.expect(200).body;
    let found: Vec<&Value> = status["status"]["runs"].as_array().unwrap().iter().map(|run| &run["state"]).collect();
    assert_eq!(found, ["failed", "running"]);
}

#[tokio::test]
async fn what_is_known_about_an_artifact() {
    let (stand_in, claim, caller) = with_task();
    let (anonymous, expires) = (Caller::anonymous(&stand_in.root_url()), in_minutes(60));
    let object = json!({"storageType": "object", "expires": expires, "contentType": "application/x-tar"});
    for (name, body) in [
        ("public/x", s3(&expires)),
        ("private/x", s3(&expires)),
        ("public/link", link(&expires, "public/x")),
        ("public/unfinished", object),
    ] {
        caller.post(&artifact_path(&claim, name), body).await.expect(200);
    }
    let base = format!("/api/queue/v1/task/{}", claim.task_id);
    let table = [
        ("public/x", Ok("s3")),
        // What it holds is private, that it is there is not.
        ("private/x", Ok("s3")),
        ("public/link", Ok("link")),
        ("public/unfinished", Err("Artifact not found")),
        ("public/nothing", Err("Artifact not found")),
    ];
    for (name, wanted) in table {
        for place in [format!("{base}/artifact-info/{name}"), format!("{base}/runs/0/artifact-info/{name}")] {
            let got = anonymous.get(&place).await;
            match wanted {
                Ok(storage_type) => {
                    let got = got.expect(200).body;
                    assert_eq!((&got["name"], &got["storageType"]), (&json!(name), &json!(storage_type)), "{place}");
                    let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
                    assert_eq!(time(&got["expires"]).as_millisecond(), time(&json!(expires)).as_millisecond());
                    let keys: Vec<&String> = got.as_object().unwrap().keys().collect();
                    assert_eq!(keys, ["storageType", "name", "expires", "contentType"]);
                }
                Err(message) => drop(got.expect_error(404, "ResourceNotFound", message)),
            }
        }
    }
    // The latest run has none of them.
    stand_in.rerun(&claim.task_id);
    anonymous.get(&format!("{base}/artifact-info/public/x")).await.expect(404);
    anonymous.get(&format!("{base}/runs/0/artifact-info/public/x")).await.expect(200);
    anonymous.get(&format!("{base}/runs/7/artifact-info/public/x")).await.expect(404);
    let missing = anonymous.get("/api/queue/v1/task/fN1SbArXTPSVFNUvaOlinQ/artifact-info/public/x").await;
    missing.expect_error(404, "ResourceNotFound", "Task not found");

    let closed = StandIn::start(Options { anonymous_scopes: Vec::new(), ..Options::default() });
    let task_id = closed.create_task(TaskSpec::default()).task_id;
    let refused = Caller::anonymous(&closed.root_url());
    let refused = refused.get(&format!("/api/queue/v1/task/{task_id}/runs/0/artifact-info/public/x")).await;
    refused.expect_error(403, "InsufficientScopes", &format!("queue:list-artifacts:{task_id}:0"));
}

#[tokio::test]
async fn lists_come_in_pages() {
    let (stand_in, claim, caller) = with_task();
    let base = format!("/api/queue/v1/task/{}/artifacts", claim.task_id);
    caller.get(&format!("{base}?limit=0")).await.expect(200);
    for name in ["public/a", "public/b", "public/c"] {
        stand_in.put_artifact(&claim.task_id, 0, name, "text/plain", None, b"");
    }
    let first = caller.get(&format!("{base}?limit=2")).await.expect(200).body;
    let token = first["continuationToken"].as_str().unwrap();
    let second = caller.get(&format!("{base}?limit=2&continuationToken={token}")).await.expect(200).body;
    let names = |page: &Value| -> Vec<String> {
        page["artifacts"].as_array().unwrap().iter().map(|a| a["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((names(&first), names(&second)), (vec!["public/a".into(), "public/b".into()], vec!["public/c".into()]));
    assert!(second.get("continuationToken").is_none());
    caller.get(&format!("{base}?limit=0")).await.expect_error(500, "InternalServerError", "");
    caller.get(&format!("{base}?page=1")).await.expect_error(400, "InvalidRequestArguments", "page is not supported");
    caller.get(&format!("{base}?limit=x")).await.expect_error(400, "InvalidRequestArguments", "limit");
}

#[tokio::test]
async fn a_sheriff_reruns_a_task() {
    let (stand_in, claim, caller) = with_task();
    let path = format!("/api/queue/v1/task/{}/rerun", claim.task_id);
    caller.post(&path, json!({})).await.expect_error(403, "InsufficientScopes", "queue:rerun-task:stand-in/");
    for scope in
        [format!("queue:rerun-task:stand-in/{0}/{0}", claim.task_id), "queue:rerun-task-in-project:none".into()]
    {
        let sheriff = Caller::new(&stand_in, &stand_in.permanent_credentials([scope]));
        // While it runs, nothing happens.
        let got = sheriff.send(reqwest::Method::POST, &path, None).await.expect(200);
        assert_eq!(got.body["status"]["state"], "running");
        let run = got.body["status"]["runs"].as_array().unwrap().len();
        stand_in.resolve(&claim.task_id, u32::try_from(run - 1).unwrap(), RunState::Failed);
        let got = sheriff.send(reqwest::Method::POST, &path, None).await.expect(200);
        assert_eq!(got.body["status"]["state"], "pending");
        assert_eq!(got.body["status"]["runs"][run]["reasonCreated"], "rerun");
        stand_in.claim(&claim.task_id);
    }
    stand_in.resolve(&claim.task_id, 2, RunState::Failed);
    stand_in.advance(minutes(25 * 60));
    let sheriff = Caller::new(&stand_in, &stand_in.permanent_credentials(["queue:rerun-task-in-project:none"]));
    sheriff.send(reqwest::Method::POST, &path, None).await.expect_error(409, "RequestConflict", "deadline");
}
