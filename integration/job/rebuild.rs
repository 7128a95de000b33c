//! A task that builds although the index has its image: `REBUILD` and `NEEDED_UNTIL`, as `decide` writes them. No start of it builds
//! what an earlier one has published.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use stand_in::{Claim, RunState, TaskSpec};

use crate::harness::{Finished, Job, RANK, Repository, program};

const ARTIFACT: &str = "public/image.tar";

/// Where no engine is: what has to be built fails.
const NO_ENGINE: (&str, &str) = ("DOCKER_HOST", "unix:///nonexistent.sock");

fn in_days(days: i64) -> String {
    format!("{:.3}", Timestamp::now() + SignedDuration::from_hours(24 * days))
}

/// An image task without an engine.
fn job(name: &str) -> Job {
    Job::new(&Repository::bare(name, &format!("FROM scratch\nENV TEST={name}\n")))
}

/// A completed task that has the job's image, and its entries in the index, which last for so many days.
fn indexed(job: &Job, routes: &[String], rank: i64, (artifact, entry): (i64, i64)) -> Claim {
    let data = json!({
        "artifact": ARTIFACT, "sha256": "ab".repeat(32), "size": 3, "imageId": "sha256:ab",
        "contextHash": job.hash, "runId": 0,
    });
    let routes: Vec<_> = routes.iter().map(|route| format!("index.{route}")).collect();
    let extra = json!({ "index": { "rank": rank, "data": data, "expires": in_days(entry) } });
    let spec = Job::spec(&job.name).property("routes", json!(routes)).property("extra", extra);
    let claim = job.taskcluster.create_task(spec.property("expires", in_days(artifact)));
    job.taskcluster.put_artifact(&claim.task_id, 0, ARTIFACT, "application/x-tar", None, b"tar");
    job.taskcluster.resolve(&claim.task_id, 0, RunState::Completed);
    claim
}

fn run(job: &Job, claim: &Claim, variables: &[(&str, &str)]) -> Finished {
    let mut environment = job.environment_of(claim);
    environment.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    program(["run"], environment).finish()
}

/// Runs a new task that expires in so many days.
fn run_new(job: &Job, days: i64, variables: &[(&str, &str)]) -> Finished {
    let spec: TaskSpec = Job::spec(&job.name).property("expires", in_days(days));
    run(job, &job.taskcluster.create_task(spec), variables)
}

fn task_of(entry: Option<Value>) -> Value {
    entry.unwrap_or_else(|| panic!("no entry"))["taskId"].clone()
}

#[test]
fn an_image_of_the_index_is_taken_by_the_rule_of_the_task() {
    let job = job("rebuild-rules");
    let [.., by_hash] = job.routes();
    let other = indexed(&job, &[by_hash], 1, (400, 400));
    let found = |finished: &Finished| {
        finished.assert_succeeds();
        assert!(finished.stderr.contains("has this image already"), "{}", finished.stderr);
    };
    found(&run_new(&job, 500, &[NO_ENGINE]));
    found(&run_new(&job, 500, &[NO_ENGINE, ("NEEDED_UNTIL", &in_days(300))]));
    // The task's own image would be gone before.
    found(&run_new(&job, 350, &[NO_ENGINE, ("NEEDED_UNTIL", &in_days(450))]));

    let words = format!("points at task {}", other.task_id);
    let cases = [
        (("NEEDED_UNTIL", in_days(450)), " until ".to_owned()),
        (("REBUILD", "1".to_owned()), ": the image is rebuilt".to_owned()),
    ];
    for ((variable, value), why) in cases {
        let built = run_new(&job, 500, &[NO_ENGINE, (variable, &value)]);
        built.assert_fails(30, &["nonexistent.sock"]);
        assert!(built.stderr.contains(&format!("{words}{why}")), "{}", built.stderr);
    }
    // The index forgets it before its artifact expires.
    let short = self::job("rebuild-entry");
    let [.., by_hash] = short.routes();
    indexed(&short, &[by_hash], 1, (600, 400));
    found(&run_new(&short, 600, &[NO_ENGINE]));
    run_new(&short, 600, &[NO_ENGINE, ("NEEDED_UNTIL", &in_days(450))]).assert_fails(30, &["nonexistent.sock"]);
}

#[test]
fn a_rerun_of_a_rebuild_finds_the_image_of_its_first_run() {
    let job = job("rebuild-rerun");
    let [latest, pushdate, by_hash] = job.routes();
    let own = indexed(&job, &[latest.clone(), pushdate.clone(), by_hash.clone()], RANK, (400, 400));
    let rerun = job.taskcluster.rerun(&own.task_id);
    let finished = run(&job, &rerun, &[NO_ENGINE, ("REBUILD", "1")]);
    finished.assert_succeeds();
    assert!(finished.stderr.contains(&format!("of task {}, run 0", own.task_id)), "{}", finished.stderr);
    assert_eq!(task_of(job.taskcluster.index_entry(&by_hash)), json!(own.task_id));

    // An entry of a newer push keeps it out of the hash route; or it was stopped before it inserted that one.
    for newer in [true, false] {
        let job = self::job(if newer { "rebuild-newer" } else { "rebuild-stopped" });
        let [_, pushdate, by_hash] = job.routes();
        let other = newer.then(|| indexed(&job, std::slice::from_ref(&by_hash), RANK + 1, (400, 400)).task_id);
        let own = indexed(&job, &[pushdate], RANK, (400, 400));
        let rerun = job.taskcluster.rerun(&own.task_id);
        run(&job, &rerun, &[NO_ENGINE, ("REBUILD", "1")]).assert_succeeds();
        assert_eq!(task_of(job.taskcluster.index_entry(&by_hash)), json!(other.unwrap_or(own.task_id)));
    }
}

#[test]
fn a_rebuild_builds_once_and_takes_the_routes() {
    let steps = "RUN cat /proc/sys/kernel/random/uuid > /unique\n";
    let Some(job) = Job::ready("rebuild-once", steps) else { return };
    job.run().assert_succeeds();
    let first = job.taskcluster.artifact_bytes(&job.claim.task_id, 0, ARTIFACT).unwrap();

    let claim = job.taskcluster.create_task(Job::spec(&job.name));
    let built = run(&job, &claim, &[("REBUILD", "1")]);
    built.assert_succeeds();
    assert!(built.stderr.contains("CACHE_FROM is not set: it is off, as an image that is rebuilt"), "{}", built.stderr);
    let second = job.taskcluster.artifact_bytes(&claim.task_id, 0, ARTIFACT).unwrap();
    assert!(first != second, "every step ran again");
    let entries = || job.routes().map(|route| job.taskcluster.index_entry(&route).unwrap());
    let indexed = entries();
    for entry in &indexed {
        assert_eq!((&entry["taskId"], &entry["rank"]), (&json!(claim.task_id), &json!(RANK)), "of the same push");
    }

    // The same run starts again, as after a worker's crash.
    let again = run(&job, &claim, &[("REBUILD", "1"), NO_ENGINE]);
    again.assert_succeeds();
    assert!(again.stderr.contains("nothing was built"), "{}", again.stderr);
    assert!(job.taskcluster.artifact_bytes(&claim.task_id, 0, ARTIFACT).unwrap() == second);
    assert_eq!(entries(), indexed);
    job.assert_engine_is_clean();
}
