//! The same for those who look images up, or what became of them, and for a sheriff's rerun, whose calls a person signs.

use std::collections::BTreeSet;

use serde_json::json;
use stand_in::{RunState, TaskSpec};
use taskcluster::Credentials;

use super::listed::{Listed, Values, listed};
use super::{ARTIFACT, assert_same, closed, granted, small};
use crate::commands::decide::fixture::{GIVEN, task_id};
use crate::commands::replay::Scene;
use crate::harness::{Finished, Job, PROJECT, PUSHDATE, Repository, path, program};

/// A task that has the job's image, and is in the central project's index.
fn indexed(job: &Job) -> String {
    let data = json!({
        "artifact": ARTIFACT, "sha256": "ab".repeat(32), "size": 3, "imageId": "sha256:ab",
        "contextHash": job.hash, "runId": 0,
    });
    let route = format!("index.docker.images.v1.{PROJECT}.{}.hash.{}", job.name, job.hash);
    let spec = TaskSpec::default()
        .property("routes", json!([route]))
        .property("extra", json!({ "index": { "rank": 1, "data": data } }));
    let task = job.taskcluster.create_task(spec).task_id;
    job.taskcluster.put_artifact(&task, 0, ARTIFACT, "application/x-tar", None, b"tar");
    job.taskcluster.resolve(&task, 0, RunState::Completed);
    task
}

/// Runs a subcommand with credentials that have exactly these scopes.
fn run(job: &Job, repository: &Repository, arguments: &[&str], listed: &[Listed]) -> Finished {
    let client: Credentials = job.taskcluster.permanent_credentials(granted(listed));
    let environment = [
        ("TASKCLUSTER_ROOT_URL", job.taskcluster.root_url()),
        ("TASKCLUSTER_CLIENT_ID", client.client_id),
        ("TASKCLUSTER_ACCESS_TOKEN", client.access_token),
        ("PROJECT", "try".to_owned()),
        ("PUSHDATE", PUSHDATE.to_owned()),
        ("TASK_ID", task_id("decision")),
    ];
    let mut program = program(arguments.iter().copied(), environment.map(|(name, value)| (name.to_owned(), value)));
    program.command.current_dir(repository.root.path());
    job.taskcluster.clear_calls();
    program.finish()
}

#[test]
fn who_looks_images_up_needs_what_is_listed() {
    let repository = small("scopes-lookup");
    let job = Job::on(closed(), &repository);
    let task = indexed(&job);
    let namespaces = ["try", PROJECT].map(|project| format!("docker.images.v1.{project}.scopes-lookup"));
    let values = Values::from([
        ("<namespace>", namespaces.to_vec()),
        ("<hash>", vec![job.hash.clone()]),
        ("<imageTaskId>", vec![task.clone()]),
        ("<imageRunId>", vec!["0".to_owned()]),
        ("{{artifact_name}}", vec![ARTIFACT.to_owned()]),
    ]);
    let when = BTreeSet::from(["found"]);
    let of_lookup = listed("lookup", &when, &values);
    let looked = run(&job, &repository, &["lookup", "scopes-lookup"], &of_lookup);
    looked.assert_succeeds();
    assert_eq!(looked.stdout, format!("scopes-lookup {task}\n"));
    assert_same(&of_lookup, &job.taskcluster.calls());

    let image = "{{#task_id_for_image}}scopes-lookup{{/task_id_for_image}}";
    let graph = json!({ "tasks": [{ "taskId": task_id("test"), "task": { "payload": { "image": image } } }] });
    let root = repository.root.path();
    let (file, contexts) = (root.join("graph.json"), root.join("contexts"));
    std::fs::write(&file, graph.to_string()).unwrap();
    let of_decide = listed("decide", &when, &values);
    let arguments = [&["decide", path(&file), "--contexts", path(&contexts)][..], &GIVEN].concat();
    run(&job, &repository, &arguments, &of_decide).assert_succeeds();
    assert_same(&of_decide, &job.taskcluster.calls());

    // One after the other: each is missed, by name.
    for lacking in &of_lookup {
        let rest: Vec<_> = of_lookup.iter().filter(|it| it.scope != lacking.scope).cloned().collect();
        run(&job, &repository, &["lookup", "scopes-lookup"], &rest).assert_fails(31, &[&lacking.scope]);
    }
}

#[test]
fn a_rerun_needs_what_is_listed() {
    let mut scene = Scene::new("scopes-rerun", "", &json!({}));
    let context = scene.job.environment()["CONTEXT_TASK_ID"].clone();
    // The same in a deployment where `anonymous` has no rights.
    let open = std::mem::replace(&mut scene.job.taskcluster, closed());
    let bytes = open.artifact_bytes(&context, 0, "public/docker-contexts/scopes-rerun.tar.gz").unwrap();
    let job = &scene.job;
    job.taskcluster.create_task(TaskSpec::default().task_id(&context));
    let name = "public/docker-contexts/scopes-rerun.tar.gz";
    job.taskcluster.put_artifact(&context, 0, name, "application/gzip", None, &bytes);
    let without = job.taskcluster.create_task(TaskSpec::default()).task_id;
    let spec = |context: &String| Scene::spec(job, &json!({ "CONTEXT_TASK_ID": context }));
    let lost = RunState::Exception;
    let cases = [
        (false, &context, false, lost),
        (false, &context, false, RunState::Failed),
        (true, &context, false, lost),
        (true, &without, true, lost),
    ];
    for (is_there, context, is_gone, ended) in cases {
        let task = job.taskcluster.create_task(spec(context)).task_id;
        job.taskcluster.resolve(&task, 0, ended);
        let mut values = Values::from([
            ("<taskId>", vec![task.clone()]),
            ("<taskGroupId>", vec![task.clone()]),
            ("<schedulerId>", vec!["stand-in".to_owned()]),
            ("<contextTaskId>", vec![context.clone()]),
            ("<hash>", vec![job.hash.clone()]),
            ("{{image_namespace}}", vec![job.namespace("").trim_end_matches('.').to_owned()]),
        ]);
        let mut when: BTreeSet<_> = is_gone.then_some("gone").into_iter().collect();
        when.extend((ended == RunState::Failed).then_some("failed"));
        if is_there {
            when.insert("found");
            values.insert("<imageTaskId>", vec![indexed(job)]);
            values.insert("<imageRunId>", vec!["0".to_owned()]);
        }
        let listed = listed("rerun", &when, &values);
        let client = job.taskcluster.permanent_credentials(granted(&listed));
        let environment = [
            ("TASKCLUSTER_ROOT_URL", job.taskcluster.root_url()),
            ("TASKCLUSTER_CLIENT_ID", client.client_id),
            ("TASKCLUSTER_ACCESS_TOKEN", client.access_token),
        ];
        job.taskcluster.clear_calls();
        let environment = environment.map(|(name, value)| (name.to_owned(), value));
        let finished = program(["rerun", &task, "--yes", "--no-follow"], environment).finish();
        finished.assert_succeeds();
        assert_eq!(finished.stdout, format!("{task} 1 pending\n"));
        assert_same(&listed, &job.taskcluster.calls());
    }
}

#[test]
fn who_asks_what_became_of_an_image_needs_what_is_listed() {
    let repository = small("scopes-history");
    let job = Job::on(closed(), &repository);
    let parent = job.taskcluster.create_task(TaskSpec::default()).task_id;
    let environment = job.environment();
    let env = json!({
        "IMAGE_NAME": job.name, "PROJECT": PROJECT, "HASH": job.hash, "PARENT_TASK_ID": parent,
        "CONTEXT_TASK_ID": environment["CONTEXT_TASK_ID"], "CONTEXT_PATH": environment["CONTEXT_PATH"],
    });
    let data = json!({
        "artifact": ARTIFACT, "sha256": "ab".repeat(32), "size": 3, "imageId": "sha256:ab",
        "contextHash": job.hash, "runId": 0,
    });
    let routes = ["latest", "pushdate.2015.12-09-123456"].map(|tail| format!("index.{}", job.namespace(tail)));
    let spec = TaskSpec::default()
        .property("routes", json!(routes))
        .property("payload", json!({ "env": env }))
        .property("extra", json!({ "index": { "rank": 1, "data": data } }));
    let task = job.taskcluster.create_task(spec).task_id;
    job.taskcluster.resolve(&task, 0, RunState::Completed);
    let mut values = Values::from([
        ("{{image_namespace}}", vec![job.namespace("").trim_end_matches('.').to_owned()]),
        ("<year>", vec!["2015".to_owned()]),
        ("<imageTaskId>", vec![task]),
        ("<parentTaskId>", vec![parent]),
        ("<contextTaskId>", vec![environment["CONTEXT_TASK_ID"].clone()]),
        ("{{context_path}}", vec![environment["CONTEXT_PATH"].clone()]),
    ]);
    let arguments = ["history", "scopes-history", "--project", PROJECT];
    let of_history = listed("history", &BTreeSet::new(), &values);
    run(&job, &repository, &arguments, &of_history).assert_succeeds();
    assert_same(&of_history, &job.taskcluster.calls());

    std::fs::write(repository.directory().join("Dockerfile"), "FROM scratch\nENV TEST=other\n").unwrap();
    let of_why = listed("why", &BTreeSet::from(["parent"]), &values);
    let why = ["why", "scopes-history", "--project", PROJECT];
    run(&job, &repository, &why, &of_why).assert_succeeds();
    assert_same(&of_why, &job.taskcluster.calls());

    // A context that is gone is asked about.
    let without = job.taskcluster.create_task(TaskSpec::default()).task_id;
    let env = json!({ "IMAGE_NAME": job.name, "PROJECT": PROJECT, "HASH": "ab".repeat(32), "CONTEXT_TASK_ID": without, "CONTEXT_PATH": "public/x.tar.gz" });
    let task = job.taskcluster.create_task(TaskSpec::default().property("payload", json!({ "env": env }))).task_id;
    values.insert("<imageTaskId>", vec![task.clone()]);
    values.insert("<contextTaskId>", vec![without]);
    values.insert("{{context_path}}", vec!["public/x.tar.gz".to_owned()]);
    let mut of_why = listed("why", &BTreeSet::from(["gone"]), &values);
    of_why.retain(|it| it.call != "index.findTask");
    run(&job, &repository, &["why", "scopes-history", "--task-id", &task], &of_why)
        .assert_fails(10, &["public/x.tar.gz"]);
    assert_same(&of_why, &job.taskcluster.calls());
}
