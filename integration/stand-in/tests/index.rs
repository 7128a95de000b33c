//! The index: ranks, expiry, namespaces and redirects.

use serde_json::{Value, json};
use stand_in::{Options, RunState, StandIn, TaskSpec};

use super::{Caller, in_minutes, minutes};

const A: &str = "fN1SbArXTPSVFNUvaOlinQ";
const B: &str = "ebDCb8RIRXyRsFOJKJGIwg";

fn start() -> (StandIn, Caller) {
    let stand_in = StandIn::start(Options::default());
    let caller = Caller::new(&stand_in, &stand_in.permanent_credentials(["index:*"]));
    (stand_in, caller)
}

fn path(namespace: &str) -> String {
    format!("/api/index/v1/task/{namespace}")
}

fn entry(task_id: &str, rank: impl Into<Value>, expires_in: i64) -> Value {
    json!({"taskId": task_id, "rank": rank.into(), "data": {"by": task_id}, "expires": in_minutes(expires_in)})
}

#[tokio::test]
async fn the_answer_is_the_entry_that_is_there_afterwards() {
    let (stand_in, caller) = start();
    // The rank before, the rank of the call, and who is there then.
    for (index, (before, after, winner)) in [(5, 4, A), (5, 5, B), (5, 6, B), (0, -1, A)].into_iter().enumerate() {
        let namespace = format!("docker.{index}");
        let got = caller.put(&path(&namespace), entry(A, before, 60)).await.expect(200).body;
        assert_eq!((&got["namespace"], &got["taskId"], &got["rank"]), (&json!(namespace), &json!(A), &json!(before)));
        let got = caller.put(&path(&namespace), entry(B, after, 30)).await.expect(200).body;
        assert_eq!(got["taskId"], winner, "{before} {after}");
        assert_eq!(got["data"], json!({"by": winner}));
        assert_eq!(caller.get(&path(&namespace)).await.expect(200).body, got);
        assert_eq!(stand_in.index_entry(&namespace), Some(got));
    }
}

#[tokio::test]
async fn ranks_that_the_database_cannot_hold() {
    let (stand_in, caller) = start();
    for rank in [json!(5.5), json!(1_449_664_496_000_u64), json!(1e15), json!(2_147_483_648_u64)] {
        let got = caller.put(&path("docker.x"), entry(A, rank, 60)).await;
        got.expect_error(500, "InternalServerError", "Internal Server Error, incidentId ");
    }
    for rank in [json!(2_147_483_647), json!(5.0), json!(-1)] {
        caller.put(&path(&format!("docker.{rank}").replace('-', "m")), entry(A, rank, 60)).await.expect(200);
    }
    let unranked = entry(A, "5", 60);
    caller.put(&path("docker.x"), unranked).await.expect_error(400, "InputValidationError", "rank must be number");
    assert_eq!(stand_in.index_entry("docker.x"), None);
}

#[tokio::test]
async fn an_expired_entry_is_not_found_and_still_blocks() {
    let (stand_in, caller) = start();
    caller.put(&path("docker.x"), entry(A, 5, 10)).await.expect(200);
    stand_in.advance(minutes(11));
    caller.get(&path("docker.x")).await.expect_error(404, "ResourceNotFound", "Indexed task not found");
    let got = caller.put(&path("docker.x"), entry(B, 4, 60)).await.expect(200).body;
    assert_eq!(got["taskId"], A);
    caller.get(&path("docker.x")).await.expect(404);
    caller.put(&path("docker.x"), entry(B, 5, 60)).await.expect(200);
    caller.get(&path("docker.x")).await.expect(200);
    // An expiry in the past is taken too.
    caller.put(&path("docker.y"), entry(A, 5, -60)).await.expect(200);
    caller.get(&path("docker.y")).await.expect(404);
}

#[tokio::test]
async fn namespaces() {
    let (stand_in, caller) = start();
    let long = |len: usize| format!("docker.{}", "x".repeat(len - 7));
    let table = [
        ("simple".to_owned(), 200),
        ("docker.a_b!c~d*e'f(g)h-i%25".to_owned(), 200),
        (long(255), 200),
        (long(256), 500),
        ("a..b".to_owned(), 400),
        ("a%3Ab".to_owned(), 400),
        ("a%2Bb".to_owned(), 400),
        ("a%20b".to_owned(), 400),
        ("a%2Fb".to_owned(), 400),
    ];
    for (namespace, status) in table {
        caller.put(&path(&namespace), entry(A, 1, 60)).await.expect(status);
    }
    let nowhere = caller.put(&path("a/b"), entry(A, 1, 60)).await.expect(404);
    assert_eq!(nowhere.body, json!({"error": "Not found"}));
    // What was too long is there, and stays in the way.
    assert!(stand_in.index_entry(&long(256)).is_some());
    caller.get(&path(&long(256))).await.expect_error(500, "InternalServerError", "");
    caller.get("/api/index/v1/tasks/docker").await.expect_error(500, "InternalServerError", "");
    caller.get(&path(&long(255))).await.expect(200);
}

#[tokio::test]
async fn anybody_may_look_and_few_may_insert() {
    let (stand_in, caller) = start();
    for namespace in ["docker.x", "docker.y"] {
        caller.put(&path(namespace), entry(A, 1, 60)).await.expect(200);
    }
    let anonymous = Caller::anonymous(&stand_in.root_url());
    anonymous.get(&path("docker.x")).await.expect(200);
    let wanted = json!({"indexes": ["docker.y", "docker.missing", "docker.x"]});
    let got = anonymous.post("/api/index/v1/tasks/indexes", wanted).await.expect(200).body;
    let found: Vec<&Value> = got["tasks"].as_array().unwrap().iter().map(|task| &task["namespace"]).collect();
    assert_eq!(found, ["docker.x", "docker.y"]);
    let some = Caller::new(&stand_in, &stand_in.permanent_credentials(["index:insert-task:docker.*"]));
    some.put(&path("other.x"), entry(A, 1, 60)).await.expect_error(403, "InsufficientScopes", "insert-task:other.x");
    some.send(reqwest::Method::DELETE, &path("docker.x"), None).await.expect(403);
    caller.send(reqwest::Method::DELETE, &path("docker.x"), None).await.expect(200);
    anonymous.get(&path("docker.x")).await.expect(404);

    let closed = StandIn::start(Options { anonymous_scopes: Vec::new(), ..Options::default() });
    Caller::anonymous(&closed.root_url()).get(&path("docker.x")).await.expect_error(403, "InsufficientScopes", "");
}

const INDEXES: &str = "/api/index/v1/tasks/indexes";

fn namespaces_of(page: &Value) -> Vec<&str> {
    page["tasks"].as_array().unwrap().iter().map(|task| task["namespace"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn many_namespaces_in_one_call() {
    let (stand_in, caller) = start();
    let anonymous = Caller::anonymous(&stand_in.root_url());
    caller.put(&path("docker.short"), entry(A, 1, 10)).await.expect(200);
    caller.put(&path("docker.long"), entry(B, 2, 60)).await.expect(200);
    caller.put(&path("undotted"), entry(B, 2, 60)).await.expect(200);
    let wanted = json!({"indexes": ["undotted", "docker.short", "docker.missing", "docker.long", "no namespace!"]});
    let got = anonymous.post(INDEXES, wanted.clone()).await.expect(200).body;
    assert_eq!(namespaces_of(&got), ["docker.long", "docker.short"]);
    assert_eq!(got["tasks"][0], anonymous.get(&path("docker.long")).await.expect(200).body);
    assert!(got.get("continuationToken").is_none(), "{got}");
    // findTask no longer finds it, and this call does.
    stand_in.advance(minutes(11));
    anonymous.get(&path("docker.short")).await.expect(404);
    let got = anonymous.post(INDEXES, wanted).await.expect(200).body;
    assert_eq!(namespaces_of(&got), ["docker.long", "docker.short"]);

    let nothing = json!({"tasks": []});
    for empty in [json!({}), json!({"indexes": []}), json!({"indexes": ["docker.missing"]})] {
        assert_eq!(anonymous.post(INDEXES, empty).await.expect(200).body, nothing);
    }
    let twice = json!({"indexes": ["docker.long", "docker.long"]});
    anonymous.post(INDEXES, twice).await.expect_error(500, "InternalServerError", "");
    for bad in [json!({"indexes": "docker.x"}), json!({"indexes": [1]}), json!({"index": []})] {
        anonymous.post(INDEXES, bad).await.expect_error(400, "InputValidationError", "");
    }
}

#[tokio::test]
async fn every_namespace_of_a_call_needs_its_scope() {
    let stand_in = StandIn::start(Options { anonymous_scopes: Vec::new(), ..Options::default() });
    let some = Caller::new(&stand_in, &stand_in.permanent_credentials(["index:find-task:docker.a.*"]));
    some.post(INDEXES, json!({"indexes": ["docker.a.x", "docker.a.y"]})).await.expect(200);
    let mixed = json!({"indexes": ["docker.a.x", "docker.b.x"]});
    let got = some.post(INDEXES, mixed).await.expect_error(403, "InsufficientScopes", "index:find-task:docker.b.x");
    assert!(!got.missing_scopes().contains("docker.a.x"), "{got:?}");
}

#[tokio::test]
async fn a_thousand_entries_are_one_page() {
    let (stand_in, caller) = start();
    let indexes: Vec<String> = (0..1001).map(|number| format!("docker.{number:04}")).collect();
    let claim = stand_in.create_task(TaskSpec::default().property(
        "routes",
        indexes.iter().map(|namespace| Value::from(format!("index.{namespace}"))).collect::<Vec<_>>(),
    ));
    stand_in.resolve(&claim.task_id, 0, RunState::Completed);
    let wanted = json!({"indexes": indexes});
    let first = caller.post(INDEXES, wanted.clone()).await.expect(200).body;
    let token = first["continuationToken"].as_str().unwrap();
    let second = caller.post(&format!("{INDEXES}?continuationToken={token}"), wanted.clone()).await.expect(200).body;
    assert_eq!((namespaces_of(&first).len(), namespaces_of(&second)), (1000, vec!["docker.1000"]));
    assert!(second.get("continuationToken").is_none());

    let short = caller.post(&format!("{INDEXES}?limit=2"), wanted.clone()).await.expect(200).body;
    assert_eq!(namespaces_of(&short), ["docker.0000", "docker.0001"]);
    let bad = caller.post(&format!("{INDEXES}?continuationToken=a-b"), wanted.clone()).await;
    bad.expect_error(400, "InputError", "Invalid continuation token");
    let unknown = caller.post(&format!("{INDEXES}?limit=1&continuationToken=abc"), wanted.clone()).await.expect(200);
    assert_eq!(namespaces_of(&unknown.body), ["docker.0000"]);
    caller.post(&format!("{INDEXES}?limit=0"), wanted).await.expect_error(500, "InternalServerError", "");
    let listed = caller.get("/api/index/v1/tasks/docker?limit=1").await.expect(200).body;
    assert_eq!((namespaces_of(&listed), listed["continuationToken"].is_string()), (vec!["docker.0000"], true));
}

#[tokio::test]
async fn what_is_below_a_namespace_is_listed_page_by_page_until_it_expires() {
    let (stand_in, caller) = start();
    let anonymous = Caller::anonymous(&stand_in.root_url());
    let entries = [("docker.a.2015.x", 10), ("docker.a.2015.y", 60), ("docker.a.2014.x", 10), ("docker.b", 60)];
    for (namespace, minutes) in entries.into_iter().chain([("docker.a", 60), ("docker.a2.2013.x", 60)]) {
        caller.put(&path(namespace), entry(A, 1, minutes)).await.expect(200);
    }
    let names = |page: &Value| -> Vec<String> {
        let rows = page["namespaces"].as_array().unwrap();
        rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
    };
    let list = "/api/index/v1/namespaces/docker.a";
    let got = anonymous.get(list).await.expect(200).body;
    assert_eq!(
        (names(&got), &got["namespaces"][1]["namespace"]),
        (vec!["2014".into(), "2015".into()], &json!("docker.a.2015"))
    );
    let first = anonymous.get(&format!("{list}?limit=1")).await.expect(200).body;
    let token = first["continuationToken"].as_str().unwrap();
    let second = anonymous.get(&format!("{list}?limit=1&continuationToken={token}")).await.expect(200).body;
    assert_eq!((names(&first), names(&second)), (vec!["2014".into()], vec!["2015".into()]));
    assert!(second.get("continuationToken").is_none(), "{second}");
    assert_eq!(names(&anonymous.get("/api/index/v1/namespaces/docker.none").await.expect(200).body), [""; 0]);
    stand_in.advance(minutes(11));
    assert_eq!(names(&anonymous.get(list).await.expect(200).body), ["2015"]);
    let tasks = anonymous.get("/api/index/v1/tasks/docker.a.2015").await.expect(200).body;
    assert_eq!(namespaces_of(&tasks), ["docker.a.2015.y"], "the expired one is not listed");

    let closed = StandIn::start(Options { anonymous_scopes: Vec::new(), ..Options::default() });
    let nobody = Caller::anonymous(&closed.root_url());
    nobody.get(list).await.expect_error(403, "InsufficientScopes", "index:list-namespaces:docker.a");
}

#[tokio::test]
async fn an_artifact_is_found_through_the_index() {
    let (stand_in, caller) = start();
    let claim = stand_in.create_task(TaskSpec::default());
    stand_in.put_artifact(&claim.task_id, 0, "public/image.tar", "application/x-tar", None, b"image");
    caller.put(&path("docker.x"), entry(&claim.task_id, 1, 60)).await.expect(200);
    let anonymous = Caller::anonymous(&stand_in.root_url());
    let got = anonymous.get(&path("docker.x/artifacts/public/image.tar")).await.expect(303);
    assert!(got.header("content-type").starts_with("text/plain"), "{got:?}");
    let queue = got.header("location").strip_prefix(&stand_in.root_url()).unwrap().to_owned();
    assert!(queue.contains("/artifacts/public%2Fimage.tar?bewit="), "{queue}");
    let store = anonymous.get(&queue).await.expect(303);
    assert_eq!(reqwest::get(store.header("location")).await.unwrap().text().await.unwrap(), "image");
    assert!(stand_in.calls().iter().any(|call| call.path.ends_with("image.tar?bewit=…")));
    // The bewit is for this path, and for a quarter of an hour.
    let other = queue.replace("image.tar", "other.tar");
    anonymous.get(&other).await.expect_error(401, "AuthenticationFailed", "Unauthorized: Bad mac");
    stand_in.advance(minutes(16));
    anonymous.get(&queue).await.expect_error(401, "AuthenticationFailed", "Unauthorized: Access expired");
    anonymous.get(&path("docker.y/artifacts/public/image.tar")).await.expect(404);
}

#[test]
fn a_completed_tasks_routes_are_indexed() {
    let stand_in = StandIn::start(Options::default());
    let spec = TaskSpec::default()
        .property("routes", json!(["index.docker.x", "notify.email.a@b.c"]))
        .property("extra", json!({"index": {"rank": 7, "data": {"a": 1}}}));
    let claim = stand_in.create_task(spec.clone());
    stand_in.resolve(&claim.task_id, 0, RunState::Failed);
    assert_eq!(stand_in.index_entry("docker.x"), None);
    let claim = stand_in.create_task(spec);
    stand_in.resolve(&claim.task_id, 0, RunState::Completed);
    let entry = stand_in.index_entry("docker.x").unwrap();
    assert_eq!((&entry["taskId"], &entry["rank"], &entry["data"]["a"]), (&json!(claim.task_id), &json!(7), &json!(1)));
}

#[test]
fn what_the_index_does_not_like_of_a_completed_task_it_drops() {
    let stand_in = StandIn::start(Options::default());
    let indexed = |routes: Value, index: Value| {
        let spec = TaskSpec::default().property("routes", routes).property("extra", json!({ "index": index }));
        let claim = stand_in.create_task(spec);
        stand_in.resolve(&claim.task_id, 0, RunState::Completed);
        let entry = stand_in.index_entry("docker.y");
        (
            entry.as_ref().is_some_and(|entry| entry["taskId"] == claim.task_id),
            entry.unwrap_or_default()["rank"].clone(),
        )
    };
    let good = json!(["index.docker..x", "index.docker/x", "index.docker.y"]);
    for bad in
        [json!({ "rank": "7" }), json!({ "rank": null }), json!({ "rank": 7, "data": "x" }), json!({ "rank": 5.5 })]
    {
        assert_eq!(indexed(good.clone(), bad.clone()), (false, Value::Null), "{bad}");
    }
    assert_eq!(indexed(good.clone(), json!({})), (true, json!(0)));
    assert_eq!(indexed(good.clone(), json!({ "rank": 7 })), (true, json!(7)));
    assert_eq!(indexed(good, json!({ "rank": 6 })), (false, json!(7)), "a lower rank changes nothing");
    assert_eq!((stand_in.index_entry("docker..x"), stand_in.index_entry("docker/x")), (None, None));
}
