//! Artifacts in the object service, from createArtifact to the hashes of a download.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use stand_in::{Claim, Options, RunState, StandIn, TaskSpec};
use taskcluster::{ClientBuilder, Credentials, Object};

use super::{Caller, Got, artifact_path, in_minutes, minutes};

const HASH: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

fn with_task() -> (StandIn, Claim, Caller) {
    let stand_in = StandIn::start(Options::default());
    let claim = stand_in.create_task(TaskSpec::default().property("projectId", "releng"));
    let caller = Caller::new(&stand_in, &claim.credentials);
    (stand_in, claim, caller)
}

fn object(expires: &str) -> Value {
    json!({"storageType": "object", "expires": expires, "contentType": "application/x-tar"})
}

fn credentials(answer: &Value) -> Credentials {
    serde_json::from_value(answer["credentials"].clone()).unwrap()
}

fn call(what: &str, created: &Value) -> String {
    format!("/api/object/v1/{what}/{}", created["name"].as_str().unwrap().replace('/', "%2F"))
}

fn upload(created: &Value, proposed: &Value) -> Value {
    json!({
        "projectId": created["projectId"],
        "uploadId": created["uploadId"],
        "expires": created["expires"],
        "proposedUploadMethods": proposed,
    })
}

fn finish(created: &Value, hash: &str) -> Value {
    json!({"projectId": created["projectId"], "uploadId": created["uploadId"], "hashes": {"sha256": hash}})
}

#[tokio::test]
async fn an_object_artifact_from_beginning_to_end() {
    let (stand_in, claim, caller) = with_task();
    let path = artifact_path(&claim, "public/x");
    let created = caller.post(&path, object(&in_minutes(60))).await.expect(200).body;
    assert_eq!(created["name"], format!("t/{}/0/public/x", claim.task_id));
    assert_eq!(created["projectId"], "releng");
    let uploader = Caller::new(&stand_in, &credentials(&created));
    let client_id = &uploader.credentials.as_ref().unwrap().client_id;
    assert!(client_id.starts_with(&format!("artifact-upload/{}/0/on/", claim.task_id)), "{client_id}");
    let id = json!({"uploadId": created["uploadId"]});

    // Not finished: not there, though listed.
    let base = format!("/api/queue/v1/task/{}", claim.task_id);
    caller.get(&format!("{base}/artifact-info/public/x")).await.expect(404);
    caller.get(&format!("{base}/artifacts/public/x")).await.expect(404);
    assert_eq!(caller.get(&format!("{base}/artifacts")).await.body["artifacts"][0]["name"], "public/x");
    caller.put(&path, id.clone()).await.expect_error(400, "InputError", "Object storing artifact data does not exist");
    let other = json!({"uploadId": claim.task_id});
    caller.put(&path, other.clone()).await.expect_error(400, "InputError", "does not match");

    // A PUT with exactly the headers that were signed.
    let proposed = json!({"putUrl": {"contentType": "application/x-tar", "contentLength": 5}});
    let got = uploader.put(&call("upload", &created), upload(&created, &proposed)).await.expect(200).body;
    let method = &got["uploadMethod"]["putUrl"];
    let headers: BTreeMap<String, String> = serde_json::from_value(method["headers"].clone()).unwrap();
    let expected = [("Content-Encoding", "identity"), ("Content-Length", "5"), ("Content-Type", "application/x-tar")];
    assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    let put = async |content_type: &str, body: &'static str| {
        let request = uploader.http.put(method["url"].as_str().unwrap()).header("content-type", content_type);
        let request = request.header("content-encoding", "identity").body(body);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(put("text/plain", "hello").await, 403);
    assert_eq!(put("application/x-tar", "hello!").await, 403);
    assert_eq!(put("application/x-tar", "hello").await, 200);
    // The task's own credentials are not enough.
    caller.put(&call("upload", &created), upload(&created, &proposed)).await.expect(403);
    caller.post(&call("finish-upload", &created), finish(&created, HASH)).await.expect(403);
    uploader.post(&call("finish-upload", &created), finish(&created, HASH)).await.expect(200);
    caller.put(&path, id.clone()).await.expect(204);
    // Finished: the answer is the same for ever, also after the task.
    stand_in.resolve(&claim.task_id, 0, RunState::Completed);
    let got = caller.put(&path, other).await.expect(204);
    assert_eq!(got.text, "");
    assert_eq!(stand_in.artifact_bytes(&claim.task_id, 0, "public/x").unwrap(), b"hello");

    let url = caller.get(&format!("{base}/artifacts/public/x")).await.expect(303);
    assert_eq!(url.body["storageType"], "object");
    let read = Got::read(caller.http.get(url.header("location")).send().await.unwrap()).await.unwrap().expect(200);
    assert_eq!((read.header("content-type"), read.text.as_str()), ("application/x-tar", "hello"));

    let content = caller.get(&format!("{base}/artifact-content/public/x")).await.expect(200).body;
    let downloader = Caller::new(&stand_in, &credentials(&content));
    let accept = json!({"acceptDownloadMethods": {"getUrl": true}});
    let got = downloader.put(&call("start-download", &content), accept.clone()).await.expect(200).body;
    assert_eq!((&got["method"], &got["hashes"]), (&json!("getUrl"), &json!({"sha256": HASH})));
    let raw = format!("/api/object/v1/start-download/{}", content["name"].as_str().unwrap());
    downloader.put(&raw, accept).await.expect(200);
    let none = json!({"acceptDownloadMethods": {}});
    downloader.put(&raw, none).await.expect_error(406, "NoMatchingMethod", "getUrl");
}

#[tokio::test]
async fn an_upload_is_locked_by_its_first_words() {
    let (stand_in, claim, caller) = with_task();
    let created = caller.post(&artifact_path(&claim, "public/x"), object(&in_minutes(60))).await.expect(200).body;
    let uploader = Caller::new(&stand_in, &credentials(&created));
    let path = call("upload", &created);
    let with = |name: &str, value: Value| {
        let mut body = upload(&created, &json!({}));
        body[name] = value;
        body
    };
    let got = uploader.put(&path, upload(&created, &json!({}))).await.expect(200).body;
    assert_eq!(got["uploadMethod"], json!({}));
    let table = [
        ("expires", json!(in_minutes(59)), 409, "Object already exists"),
        ("uploadId", json!(claim.task_id), 409, "Object already exists"),
        ("projectId", json!("other"), 403, "object:upload:other:"),
        ("surprise", json!(1), 400, "additional properties"),
    ];
    for (name, value, status, message) in table {
        let got = uploader.put(&path, with(name, value)).await.expect(status);
        assert!(got.message().contains(message), "{got:?}");
    }
    let raw = format!("/api/object/v1/upload/{}", created["name"].as_str().unwrap());
    assert_eq!(uploader.put(&raw, upload(&created, &json!({}))).await.expect(404).body, json!({"error": "Not found"}));

    let finish_path = call("finish-upload", &created);
    let wrong_id = json!({"projectId": "releng", "uploadId": claim.task_id});
    uploader.post(&finish_path, wrong_id).await.expect_error(409, "RequestConflict", "does not have uploadId");
    uploader.post(&finish_path, finish(&created, HASH)).await.expect(200);
    uploader.post(&finish_path, finish(&created, HASH)).await.expect(200);
    let other = HASH.replace('2', "3");
    uploader.post(&finish_path, finish(&created, &other)).await.expect_error(
        409,
        "RequestConflict",
        "already finished",
    );
    uploader.put(&path, upload(&created, &json!({}))).await.expect_error(409, "RequestConflict", "already exists");
}

#[tokio::test]
async fn nobody_checks_that_the_data_is_there() {
    let (stand_in, claim, caller) = with_task();
    let path = artifact_path(&claim, "public/x");
    let created = caller.post(&path, object(&in_minutes(60))).await.expect(200).body;
    let uploader = Caller::new(&stand_in, &credentials(&created));
    uploader.post(&call("finish-upload", &created), finish(&created, HASH)).await.expect(200);
    caller.put(&path, json!({"uploadId": created["uploadId"]})).await.expect(204);
    let got = caller.get(&path).await.expect(303);
    let read = caller.http.get(got.header("location")).send().await.unwrap();
    assert!(Got::read(read).await.unwrap().expect(404).text.contains("<Code>NoSuchKey</Code>"));
}

#[tokio::test]
async fn a_repeated_create_is_an_internal_error_for_ever() {
    let (stand_in, claim, caller) = with_task();
    let path = artifact_path(&claim, "public/x");
    let body = object(&in_minutes(60));
    let created = caller.post(&path, body.clone()).await.expect(200).body;
    caller.post(&path, body.clone()).await.expect_error(500, "InternalServerError", "");
    let uploader = Caller::new(&stand_in, &credentials(&created));
    uploader.post(&call("finish-upload", &created), finish(&created, HASH)).await.expect(200);
    caller.put(&path, json!({"uploadId": created["uploadId"]})).await.expect(204);
    caller.post(&path, body.clone()).await.expect_error(500, "InternalServerError", "");
    caller.post(&artifact_path(&claim, "public/y"), body).await.expect(200);
}

#[tokio::test]
async fn an_object_with_a_length_is_finished_with_an_error() {
    let (stand_in, claim, caller) = with_task();
    let path = artifact_path(&claim, "public/x");
    let mut body = object(&in_minutes(60));
    body["contentLength"] = json!(5);
    let created = caller.post(&path, body).await.expect(200).body;
    let uploader = Caller::new(&stand_in, &credentials(&created));
    uploader.post(&call("finish-upload", &created), finish(&created, HASH)).await.expect(200);
    for _ in 0..2 {
        let got = caller.put(&path, json!({"uploadId": created["uploadId"]})).await;
        got.expect_error(500, "InternalServerError", "must NOT have additional properties: contentLength");
    }
    caller.get(&path).await.expect(303);
}

#[tokio::test]
async fn the_official_upload_client_works_inline_and_by_url() {
    let (stand_in, claim, caller) = with_task();
    let large: &'static [u8] = Box::leak(vec![7; 100_000].into_boxed_slice());
    for (name, data) in [("public/small", &b"hello"[..]), ("public/large", large)] {
        let path = artifact_path(&claim, name);
        let created = caller.post(&path, object(&in_minutes(60))).await.expect(200).body;
        let client = ClientBuilder::new(stand_in.root_url()).credentials(credentials(&created));
        let service = Object::new(client).unwrap();
        let put = if data.len() > 8192 {
            json!({"putUrl": {"contentType": "x/y", "contentLength": data.len()}})
        } else {
            let encoded = STANDARD.encode(data);
            // Inline wins where both are proposed.
            let url = json!({"contentType": "x/y", "contentLength": data.len()});
            json!({"dataInline": {"contentType": "x/y", "objectData": encoded}, "putUrl": url})
        };
        let object_name = created["name"].as_str().unwrap();
        let got = service.createUpload(object_name, &upload(&created, &put)).await.unwrap();
        if let Some(url) = got["uploadMethod"]["putUrl"]["url"].as_str() {
            let request = caller.http.put(url).header("content-type", "x/y").body(data);
            assert_eq!(request.send().await.unwrap().status().as_u16(), 200);
        } else {
            assert_eq!(got["uploadMethod"], json!({"dataInline": true}));
        }
        service.finishUpload(object_name, &finish(&created, HASH)).await.unwrap();
        caller.put(&path, json!({"uploadId": created["uploadId"]})).await.expect(204);
        assert_eq!(stand_in.artifact_bytes(&claim.task_id, 0, name).unwrap(), data);
    }
    let too_much = json!({"dataInline": {"contentType": "x/y", "objectData": "A".repeat(10_927)}});
    let created = caller.post(&artifact_path(&claim, "public/y"), object(&in_minutes(60))).await.expect(200).body;
    let uploader = Caller::new(&stand_in, &credentials(&created));
    let got = uploader.put(&call("upload", &created), upload(&created, &too_much)).await;
    got.expect_error(400, "InputValidationError", "objectData");
}

#[tokio::test]
async fn upload_credentials_end_with_the_artifact() {
    let (stand_in, claim, caller) = with_task();
    let created = caller.post(&artifact_path(&claim, "public/x"), object(&in_minutes(10))).await.expect(200).body;
    let uploader = Caller::new(&stand_in, &credentials(&created));
    stand_in.advance(minutes(16));
    let got = uploader.put(&call("upload", &created), upload(&created, &json!({}))).await;
    got.expect_error(401, "AuthenticationFailed", "ext.certificate.expiry < now");
}

#[tokio::test]
async fn a_deployment_may_lack_one_kind_of_storage() {
    let without_object = Options { object_service: false, ..Options::default() };
    let without_s3 = Options { s3: false, ..Options::default() };
    for (options, storage_type, status) in
        [(without_object.clone(), "object", 500), (without_object, "s3", 200), (without_s3, "s3", 500)]
    {
        let stand_in = StandIn::start(options);
        let claim = stand_in.create_task(TaskSpec::default());
        let mut body = object(&in_minutes(60));
        body["storageType"] = json!(storage_type);
        Caller::new(&stand_in, &claim.credentials).post(&artifact_path(&claim, "public/x"), body).await.expect(status);
    }
}
