//! What is published with an image: where it comes from and what is in it, against the engine's own list of its bases
//! and the list of packages of the image's own package manager.

use std::collections::BTreeSet;

use image_worker::net::Digest;
use serde_json::{Value, json};

use crate::harness::{Job, Repository, docker, docker_output, engine};

const PROVENANCE: &str = "public/image-build/provenance.json";
const SBOM: &str = "public/image-build/sbom.cdx.json";

fn artifact(job: &Job, name: &str) -> Value {
    let bytes = job.taskcluster.artifact_bytes(&job.claim.task_id, 0, name);
    serde_json::from_slice(&bytes.unwrap_or_else(|| panic!("no {name}"))).unwrap()
}

/// Whether debian:12 is there. Without it a test skips itself with a notice at home, and fails in CI.
fn debian() -> bool {
    let there = engine() && docker(&["image", "inspect", "debian:12"]).status.success();
    assert!(there || std::env::var_os("IMAGE_WORKER_NO_SKIP").is_none(), "no debian:12: run scripts/base-image");
    if !there {
        eprintln!("SKIPPED: no debian:12; run scripts/base-image");
    }
    there
}

#[test]
fn an_image_records_where_it_comes_from_and_what_is_in_it() {
    if !debian() {
        return;
    }
    let dockerfile = "\
        ARG VERSION=11\n\
        FROM debian:$VERSION AS made\n\
        ENV TEST=provenance\n\
        RUN echo made > /made\n\
        FROM scratch AS other\n\
        COPY --from=made /made /made\n\
        FROM made\n\
        COPY --from=other /made /again\n";
    let job = Job::new(&Repository::bare("provenance", dockerfile));
    let args = [("DOCKER_BUILD_ARGS", r#"{"VERSION": "12", "TOKEN": "nobody-may-see-this"}"#)];
    let finished = job.run_with(args.into_iter().chain([("DOCKER_BUILD_NETWORK", "none")]));
    finished.assert_succeeds();
    assert!(!finished.stderr.contains("does not say what"), "{}", finished.stderr);

    let provenance = artifact(&job, PROVENANCE);
    let archive = job.taskcluster.artifact_bytes(&job.claim.task_id, 0, "public/image.tar").unwrap();
    let image = job.taskcluster.index_entry(&job.routes()[2]).unwrap()["data"]["imageId"].clone();
    let subject = &provenance["subject"];
    assert_eq!(subject[0]["digest"]["sha256"], json!(Digest::of(&archive).to_string()));
    assert_eq!(subject[1]["digest"]["sha256"], json!(image.as_str().unwrap().trim_start_matches("sha256:")));

    let definition = &provenance["predicate"]["buildDefinition"];
    let external = &definition["externalParameters"];
    assert_eq!(external["context"]["hash"], json!(job.hash));
    assert_eq!(external["buildArgs"], json!(["TASKCLUSTER_ROOT_URL", "TOKEN", "VERSION"]));
    assert_eq!(external["network"], json!("none"));
    assert!(!provenance.to_string().contains("nobody-may-see-this"), "values of build arguments can be secrets");
    let version = docker_output(&["version", "--format", "{{.Server.Version}}"]);
    assert_eq!(definition["internalParameters"]["engine"]["version"], json!(version));
    let dependencies = definition["resolvedDependencies"].as_array().unwrap();
    let names: Vec<_> = dependencies.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["context", "debian:12"], "neither stages nor scratch");
    let id = docker_output(&["image", "inspect", "--format", "{{.Id}}", "debian:12"]);
    assert_eq!(dependencies[1]["annotations"]["imageId"], json!(id));

    let run = &provenance["predicate"]["runDetails"];
    let (root, task) = (job.taskcluster.root_url(), &job.claim.task_id);
    let definition = job.taskcluster.definition(task).unwrap();
    let pool = definition["taskQueueId"].as_str().unwrap().replace('/', "/worker-types/");
    assert_eq!(run["builder"]["id"], json!(format!("{root}/provisioners/{pool}")));
    assert_eq!(run["metadata"]["invocationId"], json!(format!("{root}/tasks/{task}/runs/0")));
    let moment = |name: &str| run["metadata"][name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(moment("startedOn") < moment("finishedOn"));

    let bytes = job.taskcluster.artifact_bytes(task, 0, SBOM).unwrap();
    assert_eq!(run["byproducts"][0]["name"], json!(SBOM));
    assert_eq!(run["byproducts"][0]["digest"]["sha256"], json!(Digest::of(&bytes).to_string()));
    let sbom = artifact(&job, SBOM);
    assert_eq!(sbom["metadata"]["component"]["bom-ref"], image);
    let components = sbom["components"].as_array().unwrap().iter().filter(|it| it["type"] == "library");
    let text = |it: &Value, key: &str| it[key].as_str().unwrap().to_owned();
    let listed: BTreeSet<_> = components.map(|it| (text(it, "name"), text(it, "version"))).collect();
    let query = ["dpkg-query", "--show", "--showformat", "${Package} ${Version} ${db:Status-Status}\\n"];
    let output = docker_output(&[&["run", "--rm", "--network", "none", "debian:12"][..], &query].concat());
    let installed = output.lines().filter_map(|line| line.strip_suffix(" installed")?.split_once(' '));
    let installed: BTreeSet<_> = installed.map(|(name, version)| (name.to_owned(), version.to_owned())).collect();
    assert!(installed.len() > 20, "{output}");
    assert_eq!(listed, installed);
}

/// `image_builder` fills in what no `ARG` line declares, and so does a run; the base is known by what came of it.
#[test]
fn a_base_is_known_that_an_undeclared_argument_names() {
    if !debian() {
        return;
    }
    let dockerfile = "ARG NOTE=`x`\nFROM debian:$VERSION\nENV TEST=undeclared\nRUN echo made > /made\n";
    let job = Job::new(&Repository::bare("undeclared", dockerfile));
    job.run().assert_fails(20, &["debian"]);
    let finished = job.run_with([("DOCKER_BUILD_ARGS", r#"{"VERSION": "12"}"#)]);
    finished.assert_succeeds();
    assert!(!finished.stderr.contains("does not say what"), "{}", finished.stderr);
    let provenance = artifact(&job, PROVENANCE);
    let definition = &provenance["predicate"]["buildDefinition"];
    assert_eq!(definition["externalParameters"]["context"]["hash"], json!(job.hash), "of the context as it came");
    assert_eq!(definition["resolvedDependencies"][1]["name"], json!("debian:12"));
}

/// An image whose provenance is not there whole is not indexed: the same rule as for the image.
#[test]
fn provenance_that_did_not_arrive_keeps_the_image_out_of_the_index() {
    let Some(job) = Job::ready("provenance-lost", "") else { return };
    let lost = stand_in::Fault::status("s3 PUT", 200).path("provenance.json").times(u32::MAX);
    job.taskcluster.fault(lost);
    job.run().assert_fails(30, &["provenance.json", "was uploaded, and is not there", "nothing was indexed"]);
    for route in job.routes() {
        assert_eq!(job.taskcluster.index_entry(&route), None, "{route}");
    }
    job.assert_engine_is_clean();
    // The next run of the task puts it right.
    job.taskcluster.clear_faults();
    job.run().assert_succeeds();
    assert!(job.taskcluster.index_entry(&job.routes()[2]).is_some());
    artifact(&job, PROVENANCE);
    assert_eq!(job.taskcluster.artifact_path(&job.claim.task_id, 0, SBOM), None, "busybox has no package manager");
}
