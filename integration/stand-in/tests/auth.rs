//! Hawk, certificates and scopes, as the auth service checks them.

use jiff::SignedDuration;
use reqwest::Method;
use serde_json::{Value, json};
use stand_in::{Claim, Options, RunState, StandIn, TaskSpec};
use taskcluster::{ClientBuilder, Index, Queue};

use super::{Caller, Got, artifact_path, in_minutes, minutes, s3};

fn with_task() -> (StandIn, Claim) {
    let stand_in = StandIn::start(Options::default());
    let claim = stand_in.create_task(TaskSpec::scopes(["index:insert-task:docker.images.*"]));
    (stand_in, claim)
}

fn entry(claim: &Claim) -> Value {
    json!({"taskId": claim.task_id, "rank": 1, "data": {}, "expires": in_minutes(60)})
}

const INSERT: &str = "/api/index/v1/task/docker.images.v1.try.builder.latest";

#[tokio::test]
async fn the_official_client_is_understood() {
    let (stand_in, claim) = with_task();
    let builder = ClientBuilder::new(stand_in.root_url()).credentials(claim.credentials.clone());
    let queue = Queue::new(builder.clone()).unwrap();
    let created = queue.createArtifact(&claim.task_id, "0", "public/image.tar", &s3(&in_minutes(60))).await.unwrap();
    assert_eq!(created["storageType"], "s3");
    let index = Index::new(builder).unwrap();
    let inserted = index.insertTask("docker.images.v1.try.builder.latest", &entry(&claim)).await.unwrap();
    assert_eq!(inserted["taskId"], claim.task_id);
    let missing = index.findTask("docker.images.v1.try.builder.other").await.unwrap_err();
    assert_eq!(taskcluster::err_status_code(&missing).unwrap().as_u16(), 404);

    // It signs paths without their query, which the services refuse.
    let listed = queue.listLatestArtifacts(&claim.task_id, None, Some("1")).await.unwrap_err();
    assert!(format!("{listed:#}").contains("Unauthorized: Bad mac"), "{listed:#}");
    let path = format!("/api/queue/v1/task/{}/artifacts?limit=1", claim.task_id);
    Caller::new(&stand_in, &claim.credentials).get(&path).await.expect(200);
    Caller::anonymous(&stand_in.root_url()).get(&path).await.expect(200);

    let names: Vec<String> = stand_in.calls().into_iter().map(|call| call.name).collect();
    assert_eq!(names[..3], ["createArtifact", "insertTask", "findTask"]);
    let first = &stand_in.calls()[0];
    assert_eq!(first.client_id.as_deref(), Some(claim.credentials.client_id.as_str()));
    assert_eq!((first.status, &first.request["storageType"]), (Some(200), &json!("s3")));
}

#[tokio::test]
async fn bad_credentials() {
    let (stand_in, claim) = with_task();
    let body = || entry(&claim);
    let mut caller = Caller::new(&stand_in, &claim.credentials);
    let credentials = |caller: &mut Caller| caller.credentials = Some(claim.credentials.clone());

    caller.credentials.as_mut().unwrap().access_token = "wrong".into();
    caller.put(INSERT, body()).await.expect_error(401, "AuthenticationFailed", "Unauthorized: Bad mac");
    credentials(&mut caller);
    caller.credentials.as_mut().unwrap().certificate = None;
    let not_found = format!("Client with clientId '{}' not found", claim.credentials.client_id);
    caller.put(INSERT, body()).await.expect_error(401, "AuthenticationFailed", &not_found);
    credentials(&mut caller);
    caller.credentials.as_mut().unwrap().client_id = "somebody-else".into();
    caller.put(INSERT, body()).await.expect_error(401, "AuthenticationFailed", "signature is not valid");
    credentials(&mut caller);
    // More scopes than were signed.
    let certificate = claim.credentials.certificate.clone().unwrap().replace("docker.images.*", "*");
    caller.credentials.as_mut().unwrap().certificate = Some(certificate);
    caller.put(INSERT, body()).await.expect_error(401, "AuthenticationFailed", "signature is not valid");

    let anonymous = Caller::anonymous(&stand_in.root_url());
    anonymous.put(INSERT, body()).await.expect_error(403, "InsufficientScopes", "requires Taskcluster credentials");
}

#[tokio::test]
async fn missing_scopes_are_named() {
    let (stand_in, claim) = with_task();
    let caller = Caller::new(&stand_in, &claim.credentials);
    let got = caller.put("/api/index/v1/task/other.place", entry(&claim)).await.expect(403);
    let id = &claim.credentials.client_id;
    assert_eq!(
        got.message().split("\n```\n").collect::<Vec<_>>()[..1],
        [format!("Client ID {id} does not have sufficient scopes and is missing the following scopes:\n")]
    );
    assert!(got.message().contains("\n\n```\nindex:insert-task:other.place\n```"), "{got:?}");
    assert_eq!(got.body["requestInfo"]["method"], "insertTask");
    assert_eq!(got.body["requestInfo"]["params"], json!({"namespace": "other.place"}));
    assert_eq!(got.body["requestInfo"]["payload"]["rank"], 1);

    let mut limited = Caller::new(&stand_in, &claim.credentials);
    limited.authorized_scopes = Some(vec!["queue:create-artifact:x".into()]);
    limited.put(INSERT, entry(&claim)).await.expect_error(401, "AuthenticationFailed", "authorizedScopes");
    limited.authorized_scopes = Some(vec!["index:insert-task:docker.images.v1.*".into()]);
    limited.put(INSERT, entry(&claim)).await.expect(200);
    limited.post(&artifact_path(&claim, "public/x"), s3(&in_minutes(60))).await.expect(403);
}

#[tokio::test]
async fn task_credentials_live_until_five_minutes_after_the_claim() {
    let (stand_in, claim) = with_task();
    let caller = Caller::new(&stand_in, &claim.credentials);
    stand_in.advance(minutes(24));
    caller.put(INSERT, entry(&claim)).await.expect(200);
    stand_in.advance(minutes(2));
    let got = caller.put(INSERT, entry(&claim)).await;
    got.expect_error(401, "AuthenticationFailed", "ext.certificate.expiry < now");
    // A reclaim gives new ones.
    let fresh = stand_in.claim(&claim.task_id);
    Caller::new(&stand_in, &fresh.credentials).put(INSERT, entry(&claim)).await.expect(200);
}

#[tokio::test]
async fn old_credentials_outlive_the_run() {
    let (stand_in, claim) = with_task();
    stand_in.claim(&claim.task_id);
    let caller = Caller::new(&stand_in, &claim.credentials);
    caller.put(INSERT, entry(&claim)).await.expect(200);
    stand_in.resolve(&claim.task_id, 0, RunState::Completed);
    caller.put(INSERT, entry(&claim)).await.expect(200);
}

#[tokio::test]
async fn clocks_may_differ_by_a_quarter_of_an_hour() {
    let (stand_in, claim) = with_task();
    let caller = Caller::new(&stand_in, &claim.credentials);
    for (minutes, status) in [(10, 200), (-10, 200), (20, 401), (-20, 401)] {
        stand_in.set_skew(SignedDuration::from_mins(minutes));
        let got = caller.put(INSERT, entry(&claim)).await.expect(status);
        assert_eq!(got.message() == "Unauthorized: Stale timestamp", status == 401, "{got:?}");
    }
}

#[tokio::test]
async fn a_signature_covers_the_body_and_can_be_used_twice() {
    let (stand_in, claim) = with_task();
    let caller = Caller::new(&stand_in, &claim.credentials);
    let url = format!("{}{INSERT}", stand_in.root_url()).parse().unwrap();
    let body = entry(&claim).to_string();
    let header = caller.authorization(&Method::PUT, &url, Some(&body)).unwrap();
    let send = async |body: String, content_type: Option<&str>| {
        let mut request = caller.http.put(url.clone()).header("authorization", &header).body(body);
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        Got::read(request.send().await.unwrap()).await.unwrap()
    };
    let json = Some("application/json");
    send(body.clone(), json).await.expect(200);
    send(body.clone(), json).await.expect(200);
    send(body.clone(), Some("application/json; charset=utf-8")).await.expect(200);
    send(format!("{body} "), json).await.expect_error(401, "AuthenticationFailed", "Invalid payload hash");
    send(body, Some("text/plain")).await.expect_error(401, "AuthenticationFailed", "Invalid payload hash");
}

#[tokio::test]
async fn json_must_be_called_json() {
    let (stand_in, claim) = with_task();
    let proxy = format!("{}{INSERT}", stand_in.proxy_url(&claim));
    let http = reqwest::Client::new();
    for (content_type, code) in [("text/plain", "MalformedPayload"), ("application/json", "InputValidationError")] {
        let request = http.put(&proxy).header("content-type", content_type).body("{}");
        let got = Got::read(request.send().await.unwrap()).await.unwrap();
        got.expect_error(400, code, "");
    }
    let got = Got::read(http.put(&proxy).body("{}").send().await.unwrap()).await.unwrap();
    got.expect_error(400, "MalformedPayload", "content-type: application/json");
    let request = http.put(&proxy).header("content-type", "application/json").body("{");
    let got = Got::read(request.send().await.unwrap()).await.unwrap();
    got.expect_error(400, "MalformedPayload", "Failed to parse JSON");
}

#[tokio::test]
async fn callers_get_their_scopes() {
    const CURRENT: &str = "/api/auth/v1/scopes/current";
    let anonymous_scopes = ["auth:current-scopes", "queue:get-artifact:public/*"].map(str::to_owned).to_vec();
    let stand_in = StandIn::start(Options { anonymous_scopes, ..Options::default() });
    let claim = stand_in.create_task(TaskSpec::scopes(["queue:get-artifact:public/x", "index:insert-task:docker.*"]));
    let everybody = ["assume:anonymous", "auth:current-scopes"];
    // Of two scopes one of which satisfies the other, the larger; in order.
    let own = |scopes: &[&str]| {
        let mut all = [&everybody[..], scopes].concat();
        all.sort_unstable();
        json!({ "scopes": all })
    };
    let public = "queue:get-artifact:public/*";
    let of_run = |what: &str| format!("queue:{what}:{}/0", claim.task_id);
    let [create, reclaim, resolve] = ["create-artifact", "reclaim-task", "resolve-task"].map(of_run);
    let anybody = Caller::anonymous(&stand_in.root_url()).get(CURRENT).await.expect(200);
    assert_eq!(anybody.body, own(&[public]));
    let signed = Caller::new(&stand_in, &claim.credentials).get(CURRENT).await.expect(200);
    assert_eq!(signed.body, own(&[public, "index:insert-task:docker.*", &create, &reclaim, &resolve]));
    let proxy = Caller::anonymous(&stand_in.proxy_url(&claim));
    let proxied = proxy.get(CURRENT).await.expect(200);
    assert_eq!(proxied.body, own(&[public, "index:insert-task:docker.*", &create]));
    assert_eq!(proxy.get("/auth/v1/scopes/current").await.expect(200).body, proxied.body);
    let star = stand_in.permanent_credentials(["*"]);
    let star = Caller::new(&stand_in, &star).get(CURRENT).await.expect(200);
    assert_eq!(star.body, json!({ "scopes": ["*"] }));
    assert_eq!(stand_in.calls()[0].required_scopes, ["auth:current-scopes"]);

    let closed = StandIn::start(Options { anonymous_scopes: Vec::new(), ..Options::default() });
    let refused = Caller::new(&closed, &closed.permanent_credentials(["queue:*"])).get(CURRENT).await;
    refused.expect_error(403, "InsufficientScopes", "auth:current-scopes");
}
