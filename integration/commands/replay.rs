//! `replay`: the job of a task that exists, done again on another machine, from nothing but the task's definition.
//! The job itself is tested in `run` and `dry_run`.

use std::collections::BTreeMap;

use image_worker::config::replay::OF_THE_TASK;
use serde_json::{Value, json};
use stand_in::{Claim, RunState, TaskSpec};

use crate::harness::{
    Builder, Finished, Job, Repository, assert_engine_is_clean, client, container_output, docker, docker_output,
    engine, path, program,
};

const STEPS: &str = "ARG GREETING\nRUN echo $GREETING > /greeting\nCMD [\"/bin/busybox\", \"cat\", \"/greeting\"]\n";

/// A deployment with an image task as its definition has it, and the image directory that it comes from.
pub(crate) struct Scene {
    repository: Repository,
    pub(crate) job: Job,
    pub(crate) task: Claim,
}

impl Scene {
    pub(crate) fn new(name: &str, steps: &str, more: &Value) -> Self {
        let repository = Repository::new(name, steps);
        let job = Job::new(&repository);
        let task = job.taskcluster.create_task(Self::spec(&job, more));
        job.taskcluster.clear_calls();
        Self { repository, job, task }
    }

    /// What a decision task gives the queue.
    pub(crate) fn spec(job: &Job, more: &Value) -> TaskSpec {
        let mut env = json!(job.environment());
        for by_the_worker in ["TASK_ID", "RUN_ID", "TASKCLUSTER_ROOT_URL", "TASKCLUSTER_PROXY_URL"] {
            env.as_object_mut().unwrap().remove(by_the_worker);
        }
        env["DOCKER_BUILD_ARGS"] = json!(r#"{"GREETING": "hello-from-the-task"}"#);
        // Of the worker's machine, which this is not.
        env["DOCKER_HOST"] = json!("unix:///nonexistent.sock");
        env["MAX_RUN_TIME"] = json!("1");
        for (name, value) in more.as_object().unwrap() {
            env[name] = value.clone();
        }
        Job::spec(&job.name).property("payload", json!({ "env": env }))
    }

    fn replay(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Finished {
        self.replay_of(&self.task.task_id, arguments, environment)
    }

    /// Replays a task on a machine whose own environment has other settings for the job.
    fn replay_of(&self, task: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Finished {
        let output = self.repository.root.path().join("out");
        let arguments = ["replay", task, "--output", path(&output)].into_iter().chain(arguments.iter().copied());
        let root_url = self.job.taskcluster.root_url();
        let here = [("TASKCLUSTER_ROOT_URL", root_url.as_str()), ("PROJECT", "here"), ("HASH", "here")];
        let environment = here.iter().chain(environment).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        program(arguments, environment.collect::<BTreeMap<_, _>>()).finish()
    }

    fn published(&self) -> Value {
        let publish = std::fs::read_to_string(self.repository.root.path().join("out/publish.json")).unwrap();
        serde_json::from_str(&publish).unwrap()
    }
}

/// The credentials of a claimed task, as the environment has them.
fn credentials(claim: &Claim) -> [(&'static str, &str); 3] {
    let certificate = claim.credentials.certificate.as_deref().unwrap_or_default();
    [
        ("TASKCLUSTER_CLIENT_ID", &claim.credentials.client_id),
        ("TASKCLUSTER_ACCESS_TOKEN", &claim.credentials.access_token),
        ("TASKCLUSTER_CERTIFICATE", certificate),
    ]
}

#[test]
fn a_tasks_job_is_done_again_without_credentials() {
    if !engine() {
        return;
    }
    let past = json!({ "ARTIFACT_EXPIRES": "2016-12-08T12:34:56.789Z" });
    let scene = Scene::new("replay-dry", STEPS, &past);
    let finished = scene.replay(&[], &[]);
    finished.assert_succeeds();
    assert_eq!(finished.stdout.trim(), scene.job.tag());
    assert!(finished.stderr.contains("ARTIFACT_EXPIRES is past"), "{}", finished.stderr);
    let calls = scene.job.call_names();
    assert_eq!(
        calls,
        ["task", "findTasksAtIndex", "getLatestArtifact", "s3 GET"],
        "nothing else is requested, nothing is published"
    );
    let publish = scene.published();
    assert_eq!((&publish["taskId"], &publish["runId"]), (&json!(scene.task.task_id), &json!(0)));
    assert_eq!(
        publish["insertTask"][0]["namespace"],
        json!(scene.job.namespace("latest")),
        "not this machine's PROJECT"
    );
    let archive = scene.repository.root.path().join("out/image.tar");
    docker_output(&["load", "--input", path(&archive)]);
    let output = container_output(&[&scene.job.tag()]);
    docker_output(&["rmi", "--force", &scene.job.tag()]);
    assert_eq!(output, "hello-from-the-task", "the task's arguments");
    scene.job.assert_engine_is_clean();
}

#[test]
fn the_url_of_a_log_is_as_good_as_the_id_and_flags_win() {
    if !engine() {
        return;
    }
    let scene = Scene::new("replay-flags", STEPS, &json!({}));
    let root = scene.job.taskcluster.root_url();
    let log = format!("{root}/tasks/{}/runs/0/logs/public/logs/live.log#L1", scene.task.task_id);
    let more =
        ["--docker-build-args", r#"{"GREETING":"x"}"#, "--artifact-name", "public/image.tar.zst", "--project", "p"];
    scene.replay_of(&log, &more, &[]).assert_succeeds();
    let publish = scene.published();
    assert_eq!(publish["createArtifact"]["name"], json!("public/image.tar.zst"));
    assert_eq!(publish["insertTask"][0]["namespace"], json!("docker.images.v1.p.replay-flags.latest"));
    assert!(scene.repository.root.path().join("out/image.tar.zst").exists());
    scene.job.assert_engine_is_clean();
}

#[test]
fn what_is_no_image_task_is_refused_by_what_is_missing() {
    let scene = Scene::new("replay-refused", STEPS, &json!({}));
    let create = |spec: TaskSpec| scene.job.taskcluster.create_task(spec).task_id;
    let plain = create(TaskSpec::default());
    scene.replay_of(&plain, &[], &[]).assert_fails(2, &[&plain, "no IMAGE_NAME and no HASH"]);
    let without_hash = create(Scene::spec(&scene.job, &json!({ "HASH": "" })));
    scene.replay_of(&without_hash, &[], &[]).assert_fails(2, &[&without_hash, "has no HASH;"]);
    let unresolved = create(Scene::spec(&scene.job, &json!({ "CONTEXT_TASK_ID": { "task-reference": "<decision>" } })));
    scene.replay_of(&unresolved, &[], &[]).assert_fails(2, &["CONTEXT_TASK_ID", "task-reference"]);
    let half = create(Scene::spec(&scene.job, &json!({ "CONTEXT_TASK_ID": "<decision>" })));
    scene.replay_of(&half, &[], &[]).assert_fails(2, &[&format!("CONTEXT_TASK_ID of task {half}"), "<decision>"]);
    let unknown = "fN1SbArXTPSVFNUvaOlinQ";
    scene.replay_of(unknown, &[], &[]).assert_fails(2, &[unknown, "knows no task"]);
    scene.replay_of("nonsense", &[], &[]).assert_fails(2, &["nonsense"]);
    scene.replay(&[], &[("TASKCLUSTER_ROOT_URL", "")]).assert_fails(2, &["TASKCLUSTER_ROOT_URL"]);
    scene.replay(&["--publish", "by-mail"], &[]).assert_fails(2, &["--publish", "by-mail"]);
    scene.replay(&["--publish", "api", "--dry-run"], &[]).assert_fails(2, &["--publish and --dry-run"]);
}

#[test]
fn an_expired_context_is_replaced_by_a_directory_that_is_compared() {
    if !engine() {
        return;
    }
    let scene = Scene::new("replay-expired", STEPS, &json!({}));
    let old = json!("2016-12-08T12:34:56.789Z");
    let decision = scene.job.taskcluster.create_task(TaskSpec::default().property("expires", old)).task_id;
    let artifact = "public/docker-contexts/replay-expired.tar.gz";
    scene.job.taskcluster.put_artifact(&decision, 0, artifact, "application/gzip", None, b"");
    let spec = Scene::spec(&scene.job, &json!({ "CONTEXT_TASK_ID": decision }));
    let task = scene.job.taskcluster.create_task(spec).task_id;
    let gone = scene.replay_of(&task, &[], &[]);
    gone.assert_fails(
        10,
        &[
            "replay-expired.tar.gz of task",
            "expired at 2016-12-08T12:34:56Z",
            "check out https://example.com",
            "--context DIR",
        ],
    );

    let directory = scene.repository.directory();
    let same = scene.replay_of(&task, &["--context", path(&directory)], &[]);
    same.assert_succeeds();
    assert!(same.stderr.contains(&format!("is still the task's context: hash {}", scene.job.hash)), "{}", same.stderr);
    assert_eq!(same.stdout.trim(), scene.job.tag());

    std::fs::write(directory.join("more"), "of a later push").unwrap();
    let (_, hash) = scene.repository.context();
    let other = scene.replay_of(&task, &["--context", path(&directory)], &[]);
    other.assert_succeeds();
    let warning = format!("its hash is {hash}, the task's is {}", scene.job.hash);
    assert!(other.stderr.contains(&warning), "{}", other.stderr);
    assert_eq!(other.stdout.trim(), format!("replay-expired:{hash}"));

    // What is published must be what the task expects.
    let claim = scene.job.taskcluster.claim(&task);
    let publish = ["--publish", "api", "--context", path(&directory)];
    let refused = scene.replay_of(&task, &publish, &credentials(&claim));
    refused.assert_fails(10, &[&hash, &scene.job.hash]);
    scene.job.assert_engine_is_clean();
}

#[test]
fn publishing_is_for_running_tasks() {
    if !engine() {
        return;
    }
    let scene = Scene::new("replay-publish", STEPS, &json!({}));
    let Scene { job, task, .. } = &scene;
    let publish = ["--publish", "api"];
    // In the task itself, while it runs: by the run that the queue names.
    let finished = scene.replay(&publish, &credentials(task));
    finished.assert_succeeds();
    let [latest, ..] = job.routes();
    assert_eq!(job.taskcluster.index_entry(&latest).unwrap()["taskId"], json!(task.task_id));
    job.taskcluster.resolve(&task.task_id, 0, RunState::Completed);
    scene.replay(&publish, &credentials(task)).assert_fails(2, &[&task.task_id, "it is completed", "TASK_ID"]);

    // In a task of one's own, whatever became of the other.
    let own = job.taskcluster.create_task(Job::spec(&job.name));
    let run = own.run_id.to_string();
    let mut environment = vec![("TASK_ID", own.task_id.as_str()), ("RUN_ID", run.as_str())];
    environment.extend(credentials(&own));
    let arguments = ["--publish", "api", "--force"];
    scene.replay(&arguments, &environment).assert_succeeds();
    assert_eq!(job.taskcluster.index_entry(&latest).unwrap()["taskId"], json!(own.task_id));
    job.assert_engine_is_clean();
}

#[test]
fn a_failing_step_leaves_a_shell_where_it_is_wanted() {
    if !engine() {
        return;
    }
    let scene = Scene::new("replay-shell", "RUN echo before > /last-good\nRUN echo boom; exit 3\n", &json!({}));
    let tag = format!("image-worker-replay:{}", scene.task.task_id.trim_start_matches('-'));
    scene.replay(&[], &[]).assert_fails(20, &["exit code 3"]);
    assert_eq!(docker_output(&["images", "--quiet", &tag]), "", "only where it is wanted");

    // The second time there is one already.
    for _ in 0..2 {
        let finished = scene.replay(&["--shell"], &[]);
        finished.assert_fails(20, &["exit code 3"]);
        let client = client();
        let open = format!("    | {client} run -it --rm --entrypoint /bin/busybox {tag} sh\n");
        assert!(finished.stderr.contains(&open), "{}", finished.stderr);
        assert!(finished.stderr.contains(&format!("    | {client} rmi {tag}\n")), "{}", finished.stderr);
        let read = ["--entrypoint", "/bin/busybox", &tag, "cat", "/last-good"];
        assert_eq!(container_output(&read), "before");
    }
    docker_output(&["rmi", &tag]);
    scene.job.assert_engine_is_clean();

    let (root, directory) = (scene.repository.root.path(), scene.repository.directory());
    let arguments = ["run", "--dry-run", "--shell", "--context", path(&directory), "--output", path(root)];
    let environment = [("IMAGE_NAME", "replay-shell"), ("PROJECT", "try")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let finished = program(arguments, environment.clone()).finish();
    if Builder::chosen() == Builder::BuildKit {
        // A task's builder is the task's to choose, so that the replays above had the one that makes such images.
        finished.assert_fails(2, &["--shell", "which BuildKit does not make", "--builder"]);
    } else {
        finished.assert_fails(20, &["exit code 3"]);
        // A name of the run's own: there can be several at once.
        let remove = format!("{} rmi image-worker-replay:dry-run-", client());
        let tag = |run: &Finished| {
            let line = run.stderr.lines().find(|line| line.contains(&remove));
            line.unwrap_or_else(|| panic!("{}", run.stderr)).rsplit(' ').next().unwrap().to_owned()
        };
        let again = program(arguments, environment).finish();
        let tags = [tag(&finished), tag(&again)];
        assert_ne!(tags[0], tags[1]);
        for tag in &tags {
            assert!(docker(&["rmi", tag]).status.success());
        }
    }
    assert_engine_is_clean("replay-shell");

    let nothing = Scene::new("replay-nothing", "", &json!({}));
    std::fs::write(nothing.repository.directory().join("Dockerfile"), "FROM scratch\nCOPY nothing /\n").unwrap();
    let finished = nothing.replay(&["--shell", "--context", path(&nothing.repository.directory())], &[]);
    finished.assert_fails(20, &["COPY nothing"]);
    assert!(finished.stderr.contains("no step was done before the failure"), "{}", finished.stderr);
}

#[test]
fn all_settings_of_a_task_are_taken_from_the_task() {
    let task = std::fs::read_to_string("worker-config/task.yml").unwrap();
    let task: Value = serde_saphyr::from_str(&task).unwrap();
    let variables = task["payload"]["env"].as_object().unwrap().keys();
    // How long a machine may take is not the replaying one's limit.
    for variable in variables.filter(|variable| *variable != "MAX_RUN_TIME") {
        assert!(OF_THE_TASK.iter().any(|setting| setting.variable == variable), "{variable}: name it in OF_THE_TASK");
    }
}
