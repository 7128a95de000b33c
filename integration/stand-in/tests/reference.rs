//! Taskcluster's own reference (schemas/README.md): every call of it is answered, and what does not match its schemas is
//! refused in the services' words, the stand-in's own responses too.

use reqwest::Method;
use serde_json::{Value, json};
use stand_in::TaskSpec;

use super::tasks::{A, definition, path, start};
use super::{Caller, artifact_path, in_minutes};

#[tokio::test]
async fn every_call_of_the_reference_is_answered() {
    let reference: Value = serde_json::from_str(include_str!("../schemas/references.json")).unwrap();
    let (stand_in, caller) = start();
    let mut calls = 0;
    for api in reference.as_array().unwrap().iter().map(|file| &file["content"]) {
        for entry in api["entries"].as_array().map_or(&[][..], Vec::as_slice) {
            let text = |name: &str| entry[name].as_str().unwrap();
            let route =
                ["<taskId>", "<taskGroupId>"].iter().fold(text("route").to_owned(), |route, id| route.replace(id, A));
            let route =
                ["<name>", "<namespace>", "<indexPath>"].iter().fold(route, |route, name| route.replace(name, "a.b"));
            let path = format!("/api/{}/v1{}", api["serviceName"].as_str().unwrap(), route.replace("<runId>", "0"));
            let method: Method = text("method").to_uppercase().parse().unwrap();
            let got = caller.send(method, &path, entry.get("input").map(|_| json!({"surprise": 1}))).await;
            assert_ne!(got.body, json!({"error": "Not found"}), "{path}: a route is missing");
            if entry.get("input").is_some() {
                let got = got.expect_error(
                    400,
                    "InputValidationError",
                    "data must NOT have additional properties: \"surprise\"",
                );
                assert_eq!(got.body["requestInfo"]["method"], entry["name"]);
            }
            assert_eq!(stand_in.calls().last().unwrap().name, text("name"));
            // A method that no call has there is no route either.
            let other = caller.send(Method::PATCH, &path, None).await.expect(404);
            assert_eq!(other.body, json!({"error": "Not found"}));
            calls += 1;
        }
    }
    assert!(calls > 30, "{calls}");
}

#[tokio::test]
async fn requests_are_refused_in_the_words_of_the_services() {
    let (stand_in, caller) = start();
    let claim = stand_in.create_task(TaskSpec::default());
    let artifact = artifact_path(&claim, "public/x");
    let got = caller.put(&artifact, json!({"uploadId": "x"})).await.expect(400);
    let pattern = "^[A-Za-z0-9_-]{8}[Q-T][A-Za-z0-9_-][CGKOSWaeimquy26-][A-Za-z0-9_-]{10}[AQgw]$";
    let root = stand_in.root_url();
    assert_eq!(
        got.message(),
        format!(
            "\nSchema Validation Failed!\nRejecting Schema: \n{root}/schemas/queue/v1/finish-artifact-request.json#\nErrors:\n  \
             * data/uploadId must match pattern \"{pattern}\""
        )
    );
    // Each of these was taken for right when the schemas were written by hand.
    let annotated = format!("{}[UTC]", in_minutes(60));
    for (changes, message) in [
        (json!({"scopes": ["ü"]}), "data/scopes/0 must match pattern"),
        (json!({"payload": null}), "data/payload must be object"),
        (json!({"deadline": annotated}), "data/deadline must match format \"date-time\""),
    ] {
        caller.put(&path(A), definition(changes)).await.expect_error(400, "InputValidationError", message);
    }
    let reference = json!({
        "storageType": "reference", "expires": in_minutes(60), "contentType": "text/plain", "url": "http://example.com/a b",
    });
    let got = caller.post(&artifact, reference).await.expect_error(
        400,
        "InputValidationError",
        "data/url must match format \"uri\"",
    );
    // All alternatives complain, and then the choice between them.
    assert!(got.message().contains("data must have required property 'artifact'"), "{got:?}");
    assert!(got.message().ends_with("\n  * data must match exactly one schema in oneOf"), "{got:?}");
}

#[tokio::test]
async fn a_response_that_the_reference_does_not_allow_is_an_error_of_the_stand_in() {
    let (stand_in, caller) = start();
    // A test can make tasks that createTask would refuse.
    let task_id = stand_in.create_pending_task(TaskSpec::default().property("surprise", 1));
    let got =
        caller.get(&path(&task_id)).await.expect_error(500, "InternalServerError", "Output schema validation error: ");
    assert!(
        got.message().contains("/schemas/queue/v1/task.json#\nErrors:\n  * data must NOT have additional"),
        "{got:?}"
    );
    caller.get(&format!("{}/status", path(&task_id))).await.expect(200);
    Caller::anonymous(&stand_in.root_url()).get(&path(&task_id)).await.expect(500);
}
