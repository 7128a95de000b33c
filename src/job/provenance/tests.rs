//! The statement for builds of each kind, and that it contains nothing private. `integration/` tests its publication.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::config::plan::ContextPlan;
use crate::context::ContextHash;
use crate::engine::{Base, BuildPlan, SecretSource, SecretSources};
use crate::image::{Compression, ForwardSummary};
use crate::net::{Digest, ImageId};
use crate::taskcluster::TaskRun;

const TASK: &str = "fN1SbArXTPSVFNUvaOlinQ";
const DECISION: &str = "AAAAAAAAQAqAAAAAAAAAAA";
const PARENT: &str = "BBBBBBBBQBqBBBBBBBBBBA";

fn hash(text: &str) -> ContextHash {
    ContextHash(Digest::of(text.as_bytes()))
}

fn plan(source: ContextSource, task: bool) -> Plan {
    let example = Plan::example(source);
    Plan {
        task: task.then(|| TaskRun { task_id: TASK.parse().unwrap(), run_id: 2 }),
        context: ContextPlan { hash: Some(hash("context")), ..example.context },
        build: BuildPlan {
            args: BTreeMap::from([("TOKEN".to_owned(), "hush".to_owned()), ("A".to_owned(), "b".to_owned())]),
            secrets: SecretSources(BTreeMap::from([("netrc".to_owned(), SecretSource::File { file: "/hush".into() })])),
            network: Some("host".to_owned()),
            ..BuildPlan::default()
        },
        parent: task.then(|| PARENT.parse().unwrap()),
        index_hash: task.then(|| hash("index")),
        reproducible: task.then_some(1_451_606_400),
        ..example
    }
}

fn base(reference: &str, digests: &[&str]) -> Base {
    Base {
        reference: reference.to_owned(),
        id: Some(ImageId::of(reference.as_bytes())),
        digests: digests.iter().map(|it| (*it).to_owned()).collect(),
        layers: vec![Digest::of(b"layer")],
        is_from: true,
    }
}

/// The statement as it is read by others, about an image of this plan.
fn document(plan: &Plan) -> Value {
    let parent_tag = plan.parent.as_ref().map(|task| plan.parent_tag(task));
    let registered = format!("debian@sha256:{}", Digest::of(b"manifest"));
    let found = parent_tag.iter().map(|tag| base(tag, &[])).chain([base("debian:12", &[&registered])]).collect();
    let parent = TaskImage {
        archive: ForwardSummary {
            image_id: ImageId::of(b"parent's configuration"),
            config: Vec::new(),
            layers: vec![Compression::Plain],
            tags: Vec::new(),
            repositories: true,
            packing: Compression::Plain,
            sha256: Digest::of(b"parent"),
            size: 1,
            skipped: 0,
        },
        artifact: "public/image.tar".parse().unwrap(),
        promised: true,
        hash: Some(hash("parent")),
    };
    let image = ImageFile { sha256: Digest::of(b"archive"), size: 7, image_id: ImageId::of(b"configuration") };
    let sbom = BuildDocument {
        what: "the list of packages",
        name: ArtifactName::sbom(),
        path: "sbom.cdx.json".into(),
        sha256: Digest::of(b"sbom"),
        size: 4,
        content_type: "application/vnd.cyclonedx+json",
    };
    let root_url = "https://tc.example.com/".parse().unwrap();
    let made = ProvenanceInput {
        plan,
        identity: &plan.identity(hash("context")).unwrap(),
        scheme: plan.context.scheme,
        root_url: plan.task.is_some().then_some(&root_url),
        worker_pool: plan.task.is_some().then_some("misc/images"),
        image: &image,
        besides: &[sbom],
        bases: &Bases { found, unknown: vec!["$NOBODY".to_owned()] },
        parent: plan.parent.is_some().then_some(&parent),
        cache: None,
        engine: &EngineInfo { name: "Docker", version: Some("20.10".to_owned()), api_version: None },
        builder: "classic",
        started: "2026-11-23T10:00:00Z".parse().unwrap(),
        finished: "2026-11-23T10:01:02.5Z".parse().unwrap(),
    };
    let directory = tempfile::tempdir().unwrap();
    let document = write(&made, directory.path()).unwrap();
    let text = std::fs::read(directory.path().join("provenance.json")).unwrap();
    assert_eq!((document.sha256, document.size), (Digest::of(&text), text.len() as u64));
    assert!(!String::from_utf8_lossy(&text).contains("hush"), "the value of a build argument");
    serde_json::from_slice(&text).unwrap()
}

fn of_artifact() -> Plan {
    let name = "public/docker-contexts/builder.tar.gz".parse().unwrap();
    plan(ContextSource::Artifact { task_id: DECISION.parse().unwrap(), name }, true)
}

#[test]
fn a_task_says_what_went_in_and_who_made_it() {
    let document = document(&of_artifact());
    assert_eq!(document["subject"][0]["name"], "public/image.tar");
    assert_eq!(document["subject"][0]["digest"], json!({ "sha256": Digest::of(b"archive").to_string() }));
    assert_eq!(document["subject"][1]["name"], format!("builder:{}", hash("index")));
    assert_eq!(document["subject"][1]["digest"], json!({ "sha256": Digest::of(b"configuration").to_string() }));
    let definition = &document["predicate"]["buildDefinition"];
    let external = json!({
        "image": "builder",
        "project": "try",
        "context": {
            "hash": hash("context").to_string(),
            "scheme": "tar",
            "source": { "artifact": { "taskId": DECISION, "name": "public/docker-contexts/builder.tar.gz" } },
        },
        "indexHash": hash("index").to_string(),
        "parent": { "taskId": PARENT, "artifact": "public/image.tar", "indexHash": hash("parent").to_string() },
        "buildArgs": ["A", "TOKEN"],
        "buildSecrets": ["netrc"],
        "network": "host",
        "builder": "auto",
        "reproducible": 1_451_606_400,
        "artifact": "public/image.tar",
    });
    assert_eq!(definition["externalParameters"], external);
    let internal = json!({
        "engine": { "name": "Docker", "version": "20.10", "apiVersion": null },
        "builder": "classic",
        "imageWorker": env!("CARGO_PKG_VERSION"),
    });
    assert_eq!(definition["internalParameters"], internal);
    let queue = "https://tc.example.com/api/queue/v1/task";
    let dependencies = json!([
        {
            "name": "context",
            "uri": format!("{queue}/{DECISION}/artifacts/public/docker-contexts/builder.tar.gz"),
            "digest": { "sha256": hash("context").to_string() },
            "mediaType": "application/x-tar",
        },
        {
            "name": "parent",
            "uri": format!("{queue}/{PARENT}/artifacts/public/image.tar"),
            "digest": { "sha256": Digest::of(b"parent").to_string() },
            "annotations": {
                "comparedWith": "index",
                "imageId": format!("sha256:{}", Digest::of(b"parent's configuration")),
            },
        },
        {
            "name": "debian:12",
            "uri": format!("pkg:docker/debian@sha256:{}", Digest::of(b"manifest")),
            "digest": { "sha256": Digest::of(b"manifest").to_string() },
            "annotations": {
                "digests": [format!("debian@sha256:{}", Digest::of(b"manifest"))],
                "from": true,
                "imageId": format!("sha256:{}", Digest::of(b"debian:12")),
            },
        },
        { "name": "$NOBODY", "annotations": { "resolved": false } },
    ]);
    assert_eq!(definition["resolvedDependencies"], dependencies, "the parent once, though it is a base, too");
    let run = json!({
        "builder": {
            "id": "https://tc.example.com/provisioners/misc/worker-types/images",
            "version": { "image-worker": env!("CARGO_PKG_VERSION") },
        },
        "metadata": {
            "invocationId": format!("https://tc.example.com/tasks/{TASK}/runs/2"),
            "startedOn": "2026-11-23T10:00:00.000Z",
            "finishedOn": "2026-11-23T10:01:02.500Z",
        },
        "byproducts": [{
            "name": "public/image-build/sbom.cdx.json",
            "digest": { "sha256": Digest::of(b"sbom").to_string() },
            "mediaType": "application/vnd.cyclonedx+json",
        }],
    });
    assert_eq!(document["predicate"]["runDetails"], run);
}

/// The requirements of <https://slsa.dev/spec/v1.0/provenance> and <https://github.com/in-toto/attestation> for every build.
#[test]
fn what_the_specifications_require_is_always_there() {
    let directory = ContextSource::Directory {
        checkout: Path::new("/home/me/tree").into(),
        directory: "/home/me/tree/docker/x".into(),
        args: BTreeMap::new(),
    };
    let url = "https://me:pw@example.com/x.tar.gz?X-Amz-Signature=1".parse().unwrap();
    let plans = [
        of_artifact(),
        plan(directory, false),
        plan(ContextSource::File("/home/me/x.tar".into()), false),
        plan(ContextSource::Url(url), false),
    ];
    for plan in &plans {
        let document = document(plan);
        assert_eq!(document["_type"], "https://in-toto.io/Statement/v1");
        assert_eq!(document["predicateType"], "https://slsa.dev/provenance/v1");
        let is_uri = |value: &Value| value.as_str().is_some_and(|text| text.starts_with("https://"));
        let predicate = &document["predicate"];
        assert!(is_uri(&predicate["buildDefinition"]["buildType"]));
        assert!(is_uri(&predicate["runDetails"]["builder"]["id"]));
        assert!(predicate["buildDefinition"]["externalParameters"].is_object());
        let subjects = document["subject"].as_array().unwrap();
        let names: std::collections::BTreeSet<_> = subjects.iter().map(|it| it["name"].as_str().unwrap()).collect();
        assert_eq!(names.len(), subjects.len(), "names of subjects are unique");
        for subject in subjects {
            assert_eq!(
                subject["digest"]["sha256"].as_str().unwrap().len(),
                64,
                "a subject is identified by its digest"
            );
        }
        for dependency in predicate["buildDefinition"]["resolvedDependencies"].as_array().unwrap() {
            let one = ["uri", "digest", "name"].iter().any(|key| !dependency[*key].is_null());
            assert!(one, "a descriptor has at least one of these");
        }
        let text = document.to_string();
        for private in ["/home/me", "Signature", "me:pw"] {
            assert!(!text.contains(private), "{private} in {text}");
        }
    }
    let source = |number: usize| {
        document(&plans[number])["predicate"]["buildDefinition"]["externalParameters"]["context"]["source"].clone()
    };
    assert_eq!(source(1), json!({ "directory": "docker/x" }));
    assert_eq!(source(2), json!({ "file": "x.tar" }));
    assert_eq!(source(3), json!({ "url": "https://example.com/x.tar.gz" }));
}
