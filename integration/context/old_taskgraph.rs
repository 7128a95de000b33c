//! Contexts that taskgraph before version 12 named: by the sha256 of the packed file, which is verified as it comes and
//! which no other program can compute.

use image_worker::net::Digest;
use serde_json::{Value, json};
use stand_in::{Options, StandIn, TaskSpec};

use crate::commands::replay::Scene;
use crate::harness::{Finished, Job, PROJECT, Repository, engine, path, program};

const STEPS: &str = "RUN echo from-an-old-taskgraph > /greeting\n";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

/// The image's provenance, as its task publishes it.
fn provenance(job: &Job) -> Value {
    let provenance = job.taskcluster.artifact_bytes(&job.claim.task_id, 0, "public/image-build/provenance.json");
    serde_json::from_slice(&provenance.unwrap()).unwrap()
}

/// With the environment of an old task, which has no scheme.
#[test]
fn a_packed_files_hash_is_verified_however_storage_sends_it() {
    if !engine() {
        return;
    }
    let repository = Repository::new("old-taskgraph", STEPS);
    let (context, tar_hash) = repository.context();
    let hash = Digest::of(&context).to_string();
    // docker-worker compresses whatever it uploads once more.
    for (sent, encoding) in [(context.clone(), None), (gzip(&context), Some("gzip")), (context.clone(), Some("gzip"))] {
        let job = Job::of(StandIn::start(Options::default()), &repository.name, &(context.clone(), hash.clone()));
        let decision = job.taskcluster.create_task(TaskSpec::default()).task_id;
        let name = "public/docker-contexts/old-taskgraph.tar.gz";
        job.taskcluster.put_artifact(&decision, 0, name, "application/gzip", encoding, &sent);
        let finished = job.run_with([("CONTEXT_TASK_ID", decision.as_str())]);
        finished.assert_succeeds();
        let line = format!("hash {hash} (scheme gz), verified: it is the hash of the packed file");
        assert!(finished.stderr.contains(&line), "{}", finished.stderr);
        assert_eq!(job.taskcluster.index_entry(&job.routes()[2]).unwrap()["data"]["contextHash"], json!(hash));
        let provenance = provenance(&job);
        let definition = &provenance["predicate"]["buildDefinition"];
        let context = &definition["externalParameters"]["context"];
        assert_eq!((&context["hash"], &context["scheme"]), (&json!(hash), &json!("gz")));
        let resolved = &definition["resolvedDependencies"][0];
        assert_eq!((&resolved["digest"]["sha256"], &resolved["mediaType"]), (&json!(hash), &json!("application/gzip")));
    }
    let job = Job::of(StandIn::start(Options::default()), &repository.name, &(context, hash.clone()));
    let wrong = job.run_with([("HASH", tar_hash.as_str()), ("HASH_SCHEME", "gz")]);
    wrong.assert_fails(10, &[&hash, &tar_hash, "scheme `gz`", "set HASH_SCHEME=tar"]);
    job.assert_engine_is_clean();
}

#[test]
fn an_old_task_is_replayed_and_its_context_compared() {
    if !engine() {
        return;
    }
    let repository = Repository::new("old-replay", STEPS);
    let (context, _) = repository.context();
    let hash = Digest::of(&context).to_string();
    let scene = Scene::new("old-replay", STEPS, &json!({ "HASH": hash }));
    let file = repository.root.path().join("packed.tar.gz");
    std::fs::write(&file, &context).unwrap();
    let replay = |more: &[&str]| -> Finished {
        let output = repository.root.path().join("out");
        let arguments = ["replay", &scene.task.task_id, "--output", path(&output)];
        let root_url = [("TASKCLUSTER_ROOT_URL".to_owned(), scene.job.taskcluster.root_url())];
        program(arguments.into_iter().chain(more.iter().copied()), root_url).finish()
    };
    let same = replay(&["--context", path(&file)]);
    same.assert_succeeds();
    assert!(same.stderr.contains(&format!("is still the task's context: hash {hash}")), "{}", same.stderr);
    let publish = std::fs::read(repository.root.path().join("out/publish.json")).unwrap();
    let publish: Value = serde_json::from_slice(&publish).unwrap();
    assert_eq!(publish["insertTask"][2]["payload"]["data"]["contextHash"], json!(hash));
    let directory = repository.directory();
    let other = replay(&["--context", path(&directory)]);
    other.assert_succeeds();
    assert!(other.stderr.contains("is not the task's context"), "{}", other.stderr);
    replay(&["--context", path(&directory), "--hash-scheme", "gz"]).assert_fails(2, &["HASH_SCHEME=gz", "--context"]);
    scene.job.assert_engine_is_clean();
}

#[test]
fn only_that_taskgraph_can_compute_such_a_hash() {
    let repository = Repository::bare("old-laptop", "FROM scratch\n");
    let (root, directory) = (repository.root.path(), repository.directory());
    let out = root.join("context.tar.gz");
    let cases: [&[&str]; 6] = [
        &["hash", path(&directory)],
        &["context", path(&directory), "-o", path(&out)],
        &["lookup", "old-laptop", "--root", path(root)],
        &["load", "old-laptop", "--root", path(root)],
        &["build", "old-laptop", "--root", path(root)],
        &["tree", "--root", path(root)],
    ];
    for arguments in cases {
        let environment = [("TASKCLUSTER_ROOT_URL".to_owned(), "http://127.0.0.1:1".to_owned())];
        let refused = program(arguments.iter().copied().chain(["--scheme", "gz"]), environment).finish();
        refused.assert_fails(2, &["--scheme", "only taskgraph before version 12 can compute it"]);
    }
    let dry = ["run", "--dry-run", "--context", path(&directory), "--hash-scheme", "gz"];
    let environment = [("IMAGE_NAME", "old-laptop"), ("PROJECT", PROJECT)];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    program(dry, environment).finish().assert_fails(2, &["--hash-scheme", "only taskgraph before version 12"]);
}
