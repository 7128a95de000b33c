//! `history` against the stand-in: the pushes of an image in the index, page by page, and the documents of their builds.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use stand_in::{Fault, Options, RunState, StandIn, TaskSpec};
use tempfile::TempDir;

use crate::harness::{Finished, PROJECT, path, program};

const DOCUMENTS: [&str; 4] = ["layers.json", "perfherder-data-image-build.json", "provenance.json", "sbom.cdx.json"];

/// A deployment with pushes of an image.
struct Fixture {
    taskcluster: StandIn,
}

/// What a build has.
struct Built<'a> {
    context: &'a str,
    index: &'a str,
    revision: &'a str,
    size: u64,
    layers: usize,
    packages: &'a [(&'a str, &'a str)],
}

const FIRST: Built<'static> = Built {
    context: "aa",
    index: "aa",
    revision: "0123456789abcdef0123456789abcdef01234567",
    size: 4 << 20,
    layers: 2,
    packages: &[("curl", "1"), ("git", "1")],
};

impl Fixture {
    fn new() -> Self {
        Self { taskcluster: StandIn::start(Options::default()) }
    }

    /// A task that is indexed for these pushes, and was made for the first of them.
    fn task(&self, pushes: &[&str], env: &Value, data: &Value) -> String {
        let routes: Vec<_> = pushes.iter().map(|push| format!("index.{}", namespace(push))).collect();
        let source = format!(
            "https://hg.example.com/mozilla-central/file/{}/testing/docker/builder",
            env["REVISION"].as_str().unwrap_or("tip")
        );
        let task = TaskSpec::default()
            .property("routes", json!(routes))
            .property("payload", json!({ "env": env }))
            .property(
                "metadata",
                json!({ "name": "i", "description": "i", "owner": "nobody@example.com", "source": source }),
            )
            .property("extra", json!({ "index": { "rank": 1, "data": data, "expires": "2100-01-01T00:00:00.000Z" } }));
        let claim = self.taskcluster.create_task(task);
        self.taskcluster.resolve(&claim.task_id, 0, RunState::Completed);
        claim.task_id
    }

    /// The same with all documents that `run` publishes.
    fn build(&self, pushes: &[&str], built: &Built) -> String {
        let (context, index) = (built.context.repeat(32), built.index.repeat(32));
        let env = json!({ "HASH": context, "INDEX_HASH": index, "PUSHDATE": pushes[0], "REVISION": built.revision });
        let data = json!({
            "artifact": "public/image.tar", "sha256": "ab".repeat(32), "size": 7, "imageId": "sha256:0",
            "contextHash": context, "runId": 0,
        });
        let task = self.task(pushes, &env, &data);
        for (name, document) in DOCUMENTS.into_iter().zip(documents(built)) {
            self.put(&task, name, document.to_string().as_bytes());
        }
        task
    }

    fn put(&self, task: &str, name: &str, bytes: &[u8]) {
        let name = format!("public/image-build/{name}");
        self.taskcluster.put_artifact(task, 0, &name, "application/json", None, bytes);
    }

    fn history_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Finished {
        self.taskcluster.clear_calls();
        let root_url = self.taskcluster.root_url();
        let given = [("TASKCLUSTER_ROOT_URL", root_url.as_str()), ("IMAGE_WORKER_TRIES", "1")];
        let environment: BTreeMap<_, _> = given.iter().chain(environment).copied().collect();
        let environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        program(["history", "builder"].into_iter().chain(arguments.iter().copied()), environment).finish()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let finished = self.history_with(&[arguments, &["--json"]].concat(), &[]);
        finished.assert_succeeds();
        serde_json::from_str(&finished.stdout).unwrap()
    }

    /// How often each call was made.
    fn calls(&self) -> BTreeMap<String, usize> {
        let mut calls = BTreeMap::new();
        for call in self.taskcluster.calls() {
            *calls.entry(call.name).or_default() += 1;
        }
        calls
    }
}

/// The namespace of a push, `YYYYMMDDHHMMSS`.
fn namespace(push: &str) -> String {
    let (year, month, day, time) = (&push[..4], &push[4..6], &push[6..8], &push[8..]);
    format!("docker.images.v1.{PROJECT}.builder.pushdate.{year}.{month}-{day}-{time}")
}

fn documents(built: &Built) -> [Value; 4] {
    let layer =
        |number: usize| json!({ "diffId": format!("sha256:{number}"), "size": 1, "step": "RUN x", "base": false });
    let layers: Vec<_> = (0..built.layers).map(layer).collect();
    let package = |(name, version): &(&str, &str)| json!({ "type": "library", "name": name, "version": version, "purl": format!("pkg:deb/debian/{name}@{version}?arch=amd64") });
    let packages: Vec<_> = built.packages.iter().map(package).collect();
    [
        json!({ "imageId": "sha256:0", "size": built.size, "layers": layers }),
        json!({
            "framework": { "name": "build_metrics" },
            "suites": [{ "name": "image-build builder", "subtests": [{ "name": "in all", "value": 104.704, "unit": "s" }] }],
        }),
        json!({ "predicate": {
            "buildDefinition": { "externalParameters": {
                "context": { "hash": built.context.repeat(32) }, "indexHash": built.index.repeat(32),
            } },
            "runDetails": { "metadata": { "startedOn": "2015-12-09T12:00:00.000Z", "finishedOn": "2015-12-09T12:01:00.500Z" } },
        } }),
        json!({ "components": packages }),
    ]
}

#[test]
fn each_push_says_what_it_changed() {
    let fixture = Fixture::new();
    let grown = Built {
        context: "bb",
        index: "bb",
        size: 5 << 20,
        layers: 3,
        packages: &[("curl", "2"), ("git", "1"), ("jq", "1")],
        revision: "fedcba9876543210fedcba9876543210fedcba98",
    };
    let first = fixture.build(&["20151209123456", "20151210000000"], &FIRST);
    let second = fixture.build(&["20151211000000"], &grown);
    let third = fixture.build(&["20160101000000"], &Built { index: "cc", ..grown });
    let fourth = fixture.build(&["20160102000000"], &Built { index: "cc", size: 1 << 20, ..grown });
    let finished = fixture.history_with(&[], &[]);
    finished.assert_succeeds();
    let expected = "\
builder for mozilla-central: 5 pushes, 4 of which built it
sizes  ▆▆██▁  from 1.00 MiB to 5.00 MiB

push (UTC)           revision          size  difference  layers  packages  seconds  what changed
2016-01-02 00:00:00  fedcba987654  1.00 MiB   -4.00 MiB       3         3    104.7  built again
2016-01-01 00:00:00  fedcba987654  5.00 MiB         0 B       3         3    104.7  parent or arguments
2015-12-11 00:00:00  fedcba987654  5.00 MiB   +1.00 MiB       3         3    104.7  context; layers +1; packages +1 -0, 1 upgraded
2015-12-10 00:00:00                4.00 MiB                   2         2           same image
2015-12-09 12:34:56  0123456789ab  4.00 MiB                   2         2    104.7  the first push
";
    assert_eq!(finished.stdout, expected);
    let builds = 4;
    let made = [
        ("listNamespaces", 1),
        ("listTasks", 2),
        ("task", builds),
        ("getArtifact", 4 * builds),
        ("s3 GET", 4 * builds),
    ];
    assert_eq!(fixture.calls(), made.map(|(name, times)| (name.to_owned(), times)).into(), "each build is read once");

    let json = fixture.json(&["--limit", "3"]);
    assert_eq!((json["pushes"].as_array().unwrap().len(), &json["more"]), (3, &json!(true)));
    let tasks: Vec<_> = json["pushes"].as_array().unwrap().iter().map(|push| &push["taskId"]).collect();
    assert_eq!(tasks, [&json!(fourth), &json!(third), &json!(second)]);
    assert_eq!(json["pushes"][2]["change"]["size"], json!(1 << 20), "compared with a push that is not listed");
    assert_eq!(json["pushes"][2]["change"]["packages"], json!({ "added": 1, "removed": 0, "upgraded": 1 }));
    assert_eq!(json["pushes"][2]["route"], json!(format!("index.{}", namespace("20151211000000"))));
    assert_eq!(json["pushes"][2]["contextHash"], json!("bb".repeat(32)));

    let json = fixture.json(&["--since", "2015-12-10"]);
    let dates: Vec<_> = json["pushes"].as_array().unwrap().iter().map(|push| push["date"].as_str().unwrap()).collect();
    assert_eq!((dates.len(), dates[3], &json["more"]), (4, "2015-12-10T00:00:00Z", &json!(false)));
    assert_eq!(json["pushes"][3]["taskId"], json!(first));
    assert_eq!((&json["pushes"][3]["built"], &json["pushes"][3]["change"]["cause"]), (&json!(false), &json!("reused")));
    // The newest year is enough.
    fixture.json(&["--since", "2016-01-02"]);
    assert_eq!(fixture.calls()["listTasks"], 1);
}

#[test]
fn a_year_of_more_than_a_page_is_read_to_its_end() {
    let fixture = Fixture::new();
    let day = |number: usize| {
        format!("2015{:02}{:02}{:06}", 1 + number / 100, 1 + number % 28, 100 + number / 60 * 100 + number % 60)
    };
    let pushes: Vec<_> = (0..1_005).map(day).collect();
    let pushes: Vec<_> = pushes.iter().map(String::as_str).collect();
    fixture.build(&pushes, &FIRST);
    let newest = pushes.iter().max().unwrap();
    let newest = format!(
        "{}-{}-{} {}:{}:{}",
        &newest[..4],
        &newest[4..6],
        &newest[6..8],
        &newest[8..10],
        &newest[10..12],
        &newest[12..]
    );
    let check = |finished: Finished| {
        finished.assert_succeeds();
        assert!(
            finished.stdout.starts_with("builder for mozilla-central: 2 pushes, the newest of more, "),
            "{}",
            finished.stdout
        );
        let first = finished.stdout.lines().nth(4).unwrap();
        assert!(first.starts_with(&newest), "{first}");
        let calls = fixture.calls();
        assert_eq!((calls["listNamespaces"], calls["listTasks"], calls["getArtifact"]), (1, 2, 4));
    };
    check(fixture.history_with(&["--limit", "2"], &[]));

    // Signed: the second page is asked for by a URL that is signed with its query.
    let scopes = ["index:list-tasks:*", "index:list-namespaces:*", "queue:get-task:*", "queue:get-artifact:public/*"];
    let client = fixture.taskcluster.permanent_credentials(scopes);
    let signed =
        [("TASKCLUSTER_CLIENT_ID", client.client_id.as_str()), ("TASKCLUSTER_ACCESS_TOKEN", &client.access_token)];
    check(fixture.history_with(&["--limit", "2"], &signed));
    let calls = fixture.taskcluster.calls();
    let pages = calls.iter().filter(|call| call.name == "listTasks");
    assert!(pages.into_iter().all(|call| call.client_id.as_deref() == Some(client.client_id.as_str())), "{calls:#?}");

    fixture.taskcluster.fault(Fault::status("listTasks", 503).skip(1));
    fixture.history_with(&["--limit", "2"], &signed).assert_fails(30, &["index.listTasks", "503"]);
}

#[test]
fn two_hundred_builds_are_read_side_by_side() {
    let fixture = Fixture::new();
    for number in 0..200 {
        fixture.build(&[&format!("201512{:02}{:06}", 1 + number / 10, number % 10)], &FIRST);
    }
    // Long enough that calls that are made side by side are under way at the same time.
    fixture.taskcluster.set_delay(Duration::from_millis(20));
    let json = fixture.json(&["--limit", "200"]);
    assert_eq!((json["pushes"].as_array().unwrap().len(), &json["more"]), (200, &json!(false)));
    let made = [("listNamespaces", 1), ("listTasks", 1), ("task", 200), ("getArtifact", 800), ("s3 GET", 800)];
    assert_eq!(fixture.calls(), made.map(|(name, times)| (name.to_owned(), times)).into());
    let most = fixture.taskcluster.most_at_once();
    assert!((9..=30).contains(&most), "{most} calls were under way at once");
}

#[test]
fn a_build_that_lacks_documents_or_has_wrong_ones_is_shown_as_far_as_it_is_known() {
    let fixture = Fixture::new();
    fixture.build(&["20151209000000"], &FIRST);
    // Of another program: its entries have no data.
    let other = fixture.task(&["20151210000000"], &json!({}), &json!({}));
    let wrong = fixture.build(&["20151211000000"], &FIRST);
    fixture.put(&wrong, "layers.json", b"<html>\x1b[2K");
    fixture.put(&wrong, "perfherder-data-image-build.json", br#"{"suites": 7}"#);
    fixture.put(&wrong, "provenance.json", &b" ".repeat((1 << 20) + 1));
    let gone = fixture.build(&["20151212000000"], &FIRST);
    // The queue never learns that nothing was uploaded.
    fixture.taskcluster.fault(Fault::status("s3 GET", 404).path(&gone).times(u32::MAX));
    let finished = fixture.history_with(&["--json"], &[]);
    finished.assert_succeeds();
    let json: Value = serde_json::from_str(&finished.stdout).unwrap();
    let facts = |number: usize, name: &str| &json["pushes"][number][name];
    assert_eq!(facts(0, "missing"), &json!(DOCUMENTS));
    assert_eq!((facts(0, "size"), facts(0, "contextHash")), (&json!(null), &json!("aa".repeat(32))));
    let notes: Vec<_> = facts(1, "notes").as_array().unwrap().iter().map(|note| note.as_str().unwrap()).collect();
    assert_eq!(notes.len(), 3, "{notes:?}");
    for (note, words) in
        notes.iter().zip(["is not such a document", "is not such a document", "has more than 1.00 MiB"])
    {
        assert!(note.contains(words), "{note}");
    }
    assert_eq!((facts(1, "packages"), facts(1, "size")), (&json!(2), &json!(null)));
    assert!(finished.stderr.contains(&format!("warning: task {wrong}: layers.json: ")), "{}", finished.stderr);
    assert_eq!(
        (facts(2, "taskId"), facts(2, "runId"), facts(2, "contextHash")),
        (&json!(other), &json!(null), &json!(null))
    );
    assert_eq!((facts(2, "missing"), facts(2, "built")), (&json!(DOCUMENTS), &json!(true)));
    assert_eq!(facts(2, "change")["cause"], json!("unknown"));
    assert!(finished.stderr.contains("2 builds without some of the documents"), "{}", finished.stderr);

    let table = fixture.history_with(&[], &[]);
    table.assert_succeeds();
    assert!(table.stdout.contains("2015-12-10 00:00:00  ?"), "{}", table.stdout);
}

#[test]
fn a_page_is_written_whole_and_loads_nothing() {
    let fixture = Fixture::new();
    let hostile = Built { packages: &[("</table><script>alert(1)</script>", "1")], ..FIRST };
    fixture.build(&["20151209000000"], &hostile);
    fixture.build(&["20151210000000"], &Built { size: 9 << 20, context: "bb", ..FIRST });
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("builder.html");
    let finished = fixture.history_with(&["--html", path(&file)], &[]);
    finished.assert_succeeds();
    assert!(finished.stdout.contains("2015-12-10") && finished.stderr.contains("wrote "), "{}", finished.stderr);
    let page = std::fs::read_to_string(&file).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    assert_eq!(
        (page.matches("<svg").count(), page.matches("<circle").count(), page.matches("<tr id=").count()),
        (2, 4, 2)
    );
    assert!(!page.contains("<script") && !page.contains("src="), "{page}");
    let names: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["builder.html"]);
    let nowhere = directory.path().join("none/builder.html");
    fixture.history_with(&["--html", path(&nowhere)], &[]).assert_fails(2, &["cannot write", "no such directory"]);
}

#[test]
fn what_cannot_be_listed_is_an_error_with_a_way_out() {
    let fixture = Fixture::new();
    fixture.build(&["20151209000000"], &FIRST);
    fixture.history_with(&["--project", "try"], &[]).assert_fails(10, &["no push of builder for try", "--project"]);
    let late = fixture.history_with(&["--since", "2015-12-10"], &[]);
    late.assert_fails(10, &["for mozilla-central since 2015-12-10T00:00:00Z", "--since"]);
    fixture.history_with(&["--since", "yesterday"], &[]).assert_fails(2, &["--since", "YYYY-MM-DD"]);
    fixture.history_with(&["--limit", "0"], &[]).assert_fails(2, &["--limit"]);
    fixture.history_with(&["--index", "nonsense"], &[]).assert_fails(2, &["--index"]);
    fixture.history_with(&[], &[("TASKCLUSTER_ROOT_URL", "")]).assert_fails(2, &["TASKCLUSTER_ROOT_URL is not set"]);
    fixture.taskcluster.fault(Fault::status("listNamespaces", 503));
    fixture.history_with(&[], &[]).assert_fails(30, &["index.listNamespaces", "503"]);
}
