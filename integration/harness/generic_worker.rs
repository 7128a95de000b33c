//! A worker as generic-worker is one, as far as image tasks go: it runs the command of a task's payload in a directory of
//! its own, uploads what the payload declares, writes the chain of trust, and resolves the run by the first thing that went
//! wrong. Mounts are not unpacked: the program is the tests' own. The chain of trust is not signed, which is the worker's part.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use image_worker::net::Digest;
use jiff::Timestamp;
use serde_json::{Value, json};
use stand_in::{Claim, RunState, StandIn};
use tempfile::TempDir;
use tokio::runtime::Builder;

use crate::harness::{Finished, program};

/// The chain of trust's record of a run's artifacts.
pub(crate) const CHAIN_OF_TRUST: &str = "public/chain-of-trust.json";

/// Why a run is not completed.
enum Problem {
    Failed,
    Exception(&'static str),
}

/// Runs a pending task to its end.
pub(crate) fn work(taskcluster: &StandIn, task_id: &str) -> Finished {
    work_while(taskcluster, task_id, || {})
}

/// The same; `meanwhile` is called when the command has ended. The worker does not learn what happens in the queue then.
pub(crate) fn work_while(taskcluster: &StandIn, task_id: &str, meanwhile: impl FnOnce()) -> Finished {
    let claim = taskcluster.claim(task_id);
    let definition = taskcluster.definition(task_id).unwrap();
    let directory = TempDir::with_prefix("task-").unwrap();
    let finished = command(taskcluster, &claim, &definition["payload"], directory.path());
    let mut problems = Vec::new();
    if let Ok(code @ 1..) = u8::try_from(finished.code) {
        let retry = definition["payload"]["onExitStatus"]["retry"].as_array().unwrap().contains(&json!(code));
        problems.push(if retry { Problem::Exception("intermittent-task") } else { Problem::Failed });
    } else {
        assert_eq!(finished.code, 0, "{}", finished.stderr);
    }
    meanwhile();
    let mut uploads = Uploads { proxy: taskcluster.proxy_url(&claim), claim: &claim, hashes: BTreeMap::new() };
    for artifact in definition["payload"]["artifacts"].as_array().into_iter().flatten() {
        problems.extend(uploads.declared(&definition, artifact, directory.path()));
    }
    if definition["payload"]["features"]["chainOfTrust"] == true {
        uploads.chain_of_trust(&definition, &finished.stderr);
    }
    // The queue takes no report about a run that is over already.
    if taskcluster.status(task_id).unwrap()["state"] == "running" {
        match problems.first() {
            None => taskcluster.resolve(task_id, claim.run_id, RunState::Completed),
            Some(Problem::Failed) => taskcluster.resolve(task_id, claim.run_id, RunState::Failed),
            Some(Problem::Exception(reason)) => taskcluster.resolve_exception(task_id, claim.run_id, reason),
        }
    }
    finished
}

fn command(taskcluster: &StandIn, claim: &Claim, payload: &Value, directory: &Path) -> Finished {
    let command: Vec<_> = payload["command"][0].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    let mounted = format!("{}/image-worker", payload["mounts"][0]["directory"].as_str().unwrap());
    assert_eq!(command[0], mounted, "the program is where it is mounted");
    let env = payload["env"].as_object().unwrap();
    let env = env.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()));
    let mut own = vec![
        ("TASKCLUSTER_ROOT_URL", taskcluster.root_url()),
        ("TASK_ID", claim.task_id.clone()),
        ("RUN_ID", claim.run_id.to_string()),
    ];
    if payload["features"]["taskclusterProxy"] == true {
        own.push(("TASKCLUSTER_PROXY_URL", taskcluster.proxy_url(claim)));
    }
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
    let mut program = program(command[1..].iter().copied(), env.chain(own));
    program.command.current_dir(directory);
    program.finish()
}

/// The artifacts of a run.
struct Uploads<'a> {
    proxy: String,
    claim: &'a Claim,
    /// The sha256 of each that has been uploaded, before it was packed.
    hashes: BTreeMap<String, Value>,
}

impl Uploads<'_> {
    /// Uploads a declared file; one that is missing becomes an error artifact, and fails the task unless it is optional.
    fn declared(&mut self, task: &Value, artifact: &Value, directory: &Path) -> Option<Problem> {
        let text = |name: &str| artifact[name].as_str();
        let (name, path) = (text("name").unwrap(), text("path").unwrap());
        let time = |value: &Value| value.as_str().unwrap().parse::<Timestamp>().unwrap();
        let expires = time(&artifact["expires"]);
        if expires < time(&task["deadline"]) || expires > time(&task["expires"]) {
            return Some(Problem::Exception("malformed-payload"));
        }
        let Ok(bytes) = std::fs::read(directory.join(path)) else {
            let message = format!("Could not read file '{path}'");
            let error = json!({
                "storageType": "error", "reason": "file-missing-on-worker", "message": message, "expires": artifact["expires"],
            });
            self.create(name, &error);
            return (artifact["optional"] != true).then_some(Problem::Failed);
        };
        let is_packed = Path::new(path).extension().is_some_and(|ending| ending == "zst");
        let packed = text("contentEncoding").unwrap_or(if is_packed { "identity" } else { "gzip" });
        let content_type = text("contentType").unwrap_or("application/octet-stream");
        self.upload(name, &bytes, content_type, packed == "gzip", &artifact["expires"]);
        None
    }

    fn chain_of_trust(&mut self, task: &Value, log: &str) {
        let text = "text/plain; charset=utf-8";
        self.upload("public/logs/certified.log", log.as_bytes(), text, true, &task["expires"]);
        let certificate = json!({
            "chainOfTrustVersion": 1,
            "artifacts": self.hashes,
            "task": task,
            "taskId": self.claim.task_id,
            "runId": self.claim.run_id,
        });
        self.upload(CHAIN_OF_TRUST, certificate.to_string().as_bytes(), text, false, &task["expires"]);
    }

    fn upload(&mut self, name: &str, bytes: &[u8], content_type: &str, gzip: bool, expires: &Value) {
        self.hashes.insert(name.to_owned(), json!({ "sha256": Digest::of(bytes) }));
        let request = json!({
            "storageType": "s3", "contentType": content_type, "contentLength": bytes.len(), "expires": expires,
        });
        let url = self.create(name, &request)["putUrl"].as_str().unwrap().to_owned();
        let put = client().put(url).header("content-type", content_type);
        let put = if gzip {
            let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
            packed.write_all(bytes).unwrap();
            put.header("content-encoding", "gzip").body(packed.finish().unwrap())
        } else {
            put.body(bytes.to_vec())
        };
        send(put);
    }

    fn create(&self, name: &str, request: &Value) -> Value {
        let Claim { task_id, run_id, .. } = self.claim;
        let url = format!("{}/api/queue/v1/task/{task_id}/runs/{run_id}/artifacts/{name}", self.proxy);
        serde_json::from_str(&send(client().post(url).json(request))).unwrap()
    }
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

fn send(request: reqwest::RequestBuilder) -> String {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{status}: {text}");
        text
    })
}
