//! The requests of each kind of run, counted from the calls that reach the stand-in, and the files that it moves. Which calls
//! they are, and why, is in docs/taskcluster.md.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;
use stand_in::{Call, StandIn, TaskSpec};

use super::indexed::{ARTIFACT, LONG, identify};
use super::{model, section};
use crate::commands::decide::fixture::{Fixture, consumer};
use crate::harness::{Builder, Job, PROJECT, Repository, docker_output, engine, program};

/// The images of the repository that `decide` looks up.
pub(super) const IMAGES: usize = 200;

/// The documents that a build publishes beside its image, and its log, together: the model counts with this size, in bytes.
pub(super) const DOCUMENTS: u64 = 1 << 20;

/// What a kind of run asks and moves.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    /// How often each call is made, by `SERVICE.CALL`; those of the storage are `storage GET` and `storage PUT`.
    pub(super) calls: BTreeMap<String, u64>,
    /// Whole images, up and down.
    pub(super) images_up: u64,
    pub(super) images_down: u64,
    /// The requests up to its first artifact: those of a build that come before it builds, and all that happen at once when many start.
    before_upload: u64,
}

impl Requests {
    /// Counts the calls so far, and forgets them.
    fn take(taskcluster: &StandIn) -> Self {
        let mut counted = Self::default();
        for call in taskcluster.calls() {
            assert!(call.status.is_some_and(|status| status < 500), "an undisturbed run: {call:?}");
            *counted.calls.entry(name(&call)).or_default() += 1;
            counted.before_upload += u64::from(!counted.calls.contains_key("queue.createArtifact"));
            if call.path.split('?').next().is_some_and(|path| path.ends_with(ARTIFACT)) {
                counted.images_up += u64::from(call.name == "s3 PUT");
                // Of an image that is only looked at, one byte is read.
                counted.images_down += u64::from(call.name == "s3 GET" && call.request["range"].is_null());
            }
        }
        taskcluster.clear_calls();
        counted
    }

    /// How many requests go to a service.
    pub(super) fn of_service(&self, service: &str) -> u64 {
        self.calls.iter().filter(|(name, _)| service_of(name) == service).map(|(_, times)| times).sum()
    }

    /// How often a call is made.
    pub(super) fn of_call(&self, name: &str) -> u64 {
        self.calls.get(name).copied().unwrap_or_default()
    }
}

/// The services that are asked, in the order of the page.
pub(super) const SERVICES: [&str; 4] = ["auth", "index", "queue", "storage"];

fn name(call: &Call) -> String {
    match call.name.strip_prefix("s3 ") {
        Some(method) => format!("storage {method}"),
        None => format!("{}.{}", call.service, call.name),
    }
}

fn service_of(name: &str) -> &str {
    name.split(['.', ' ']).next().unwrap_or(name)
}

/// The requests for `layers.json` of the newest image and of a parent: each is asked of the queue and of the storage.
const LAYER_LISTS: u64 = 4;

/// The kinds of runs, by the words of the page.
pub(super) const FIRST: &str = "builds, first of its name";
pub(super) const BUILDS: &str = "builds";
pub(super) const CHILD: &str = "builds on a parent";
pub(super) const FINDS: &str = "finds its image";
pub(super) const FINDS_ELSEWHERE: &str = "finds it in another project";
pub(super) const LOAD: &str = "`load NAME`";
pub(super) const LOAD_TASK: &str = "`load --task-id`";
pub(super) const DECIDE: &str = "`decide`, all there";
pub(super) const DECIDE_NONE: &str = "`decide`, none there";

/// A kind of run and its requests.
pub(super) type Kinds = Vec<(&'static str, Requests)>;

/// The requests of one kind.
pub(super) fn of<'k>(kinds: &'k Kinds, kind: &str) -> &'k Requests {
    &kinds.iter().find(|(name, _)| *name == kind).expect("a kind of run").1
}

/// An image of which every version is another context, with a step that stays.
fn image(name: &str, head: &str, version: u32) -> Repository {
    let shell = "SHELL [\"/bin/busybox\", \"sh\", \"-c\"]";
    let steps = format!("RUN echo {name} > /{name}\nRUN echo {version} > /version\n");
    if head.is_empty() {
        Repository::new(name, &steps)
    } else {
        Repository::bare(name, &format!("{head}{shell}\n{steps}"))
    }
}

/// Runs a job, and counts.
fn run(job: &Job, changes: &[(&str, &str)]) -> Requests {
    job.taskcluster.clear_calls();
    let mut environment = job.environment();
    environment.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    program(["run"], environment).finish().assert_succeeds();
    let requests = Requests::take(&job.taskcluster);
    job.assert_engine_is_clean();
    requests
}

/// A job of another version of an image, in the same deployment.
fn next_version(job: Job, head: &str, version: u32) -> Job {
    let name = job.name.clone();
    Job::on(job.taskcluster, &image(&name, head, version))
}

/// The image tasks, one after the other in one deployment; and the job that the last one is of.
fn image_tasks() -> (Kinds, Job) {
    let mut kinds = Kinds::new();
    let mut job = Job::new(&image("scale-base", "", 1));
    kinds.push((FIRST, run(&job, &[])));
    job = next_version(job, "", 2);
    let env = json!({ "IMAGE_NAME": job.name, "PROJECT": PROJECT, "HASH": job.hash, "INDEX": "", "INDEX_HASH": "" });
    job.claim = job.taskcluster.create_task(Job::spec(&job.name).property("payload", json!({ "env": env })));
    kinds.push((BUILDS, run(&job, &[])));
    let parent = job.claim.task_id.clone();
    assert_documents_are_small(&job);

    job.claim = job.taskcluster.create_task(Job::spec(&job.name));
    kinds.push((FINDS, run(&job, &[])));
    let scope = format!("index:insert-task:docker.images.v1.try.{}.*", job.name);
    job.claim = job.taskcluster.create_task(TaskSpec::scopes([scope]));
    kinds.push((FINDS_ELSEWHERE, run(&job, &[("PROJECT", "try")])));

    let head = "FROM $DOCKER_IMAGE_PARENT\nENV TEST=scale-child\n";
    let mut child = Job::on(job.taskcluster, &image("scale-child", head, 1));
    run(&child, &[("PARENT_TASK_ID", &parent)]);
    child = next_version(child, head, 2);
    kinds.insert(2, (CHILD, run(&child, &[("PARENT_TASK_ID", &parent)])));
    (kinds, child)
}

fn assert_documents_are_small(job: &Job) {
    let created: BTreeSet<_> = Builder::documents().into_iter().chain(["build.log"]).collect();
    let size = |name: &&str| {
        let path = job.taskcluster.artifact_path(&job.claim.task_id, 0, &format!("public/image-build/{name}"));
        std::fs::metadata(path.unwrap_or_else(|| panic!("{name}"))).unwrap().len()
    };
    let size: u64 = created.iter().map(size).sum();
    assert!(size <= DOCUMENTS, "the documents of a small image have {size} bytes");
}

/// What consumers ask, of the image of a job that has published.
fn loads(job: &Job) -> Kinds {
    let root = Repository::bare("scale-unused", "FROM scratch\n");
    // The parent's second version is the one that the index has.
    let base = image("scale-base", "", 2);
    let mut kinds = Kinds::new();
    let parent = job.taskcluster.index_entry(&format!("docker.images.v1.{PROJECT}.scale-base.latest")).unwrap();
    let task = parent["taskId"].as_str().unwrap().to_owned();
    let ways = [(LOAD, vec!["scale-base"], &base.root), (LOAD_TASK, vec!["--task-id", &task], &root.root)];
    for (kind, arguments, directory) in ways {
        job.taskcluster.clear_calls();
        let environment = [("TASKCLUSTER_ROOT_URL", job.taskcluster.root_url()), ("PROJECT", PROJECT.to_owned())];
        let environment = environment.map(|(name, value)| (name.to_owned(), value));
        let mut load = program(std::iter::once("load").chain(arguments), environment);
        load.command.current_dir(directory.path());
        let loaded = load.finish();
        loaded.assert_succeeds();
        kinds.push((kind, Requests::take(&job.taskcluster)));
        docker_output(&["rmi", loaded.stdout.trim()]);
    }
    kinds
}

/// What a decision asks about a tree of [`IMAGES`] images, where services take their time.
fn decisions() -> Kinds {
    let fixture = Fixture::new();
    let names: Vec<_> = (0..IMAGES).map(|number| format!("image-{number}")).collect();
    for name in &names {
        fixture.image(name, &format!("FROM scratch\nENV NAME={name}\n"));
    }
    let each: Vec<_> = names.iter().map(String::as_str).collect();
    let tasks: Vec<_> =
        each.chunks(10).enumerate().map(|(number, names)| consumer(&format!("task-{number}"), names, &[])).collect();
    fixture.taskcluster.set_delay(Duration::from_millis(20));
    fixture.taskcluster.clear_calls();
    let none = fixture.decide("try", &tasks);
    assert_eq!(none.made.len(), IMAGES);
    let none = Requests::take(&fixture.taskcluster);

    let identified = identify(&fixture, &names);
    for image in identified.values() {
        image.publish(&fixture.taskcluster, PROJECT, LONG);
    }
    fixture.taskcluster.clear_calls();
    let all = fixture.decide("try", &tasks);
    assert_eq!(all.made.len(), 0);
    let most = fixture.taskcluster.most_at_once();
    assert!(most <= 32, "{most} calls were under way at once");
    vec![(DECIDE, Requests::take(&fixture.taskcluster)), (DECIDE_NONE, none)]
}

/// The table of calls, and the sums for each service.
fn table(kinds: &Kinds) -> Vec<String> {
    let calls: BTreeSet<_> = kinds.iter().flat_map(|(_, requests)| requests.calls.keys()).collect();
    let row = |name: &str, of: &dyn Fn(&Requests) -> u64| {
        let numbers: Vec<_> = kinds.iter().map(|(_, requests)| of(requests)).collect();
        let shown = numbers.iter().map(|times| if *times == 0 { String::new() } else { times.to_string() });
        format!("| {name} | {} |", shown.collect::<Vec<_>>().join(" | "))
    };
    let names: Vec<_> = kinds.iter().map(|(name, _)| *name).collect();
    let mut lines = vec![format!("| | {} |", names.join(" | ")), format!("| --- |{}", " ---: |".repeat(kinds.len()))];
    lines.extend(calls.iter().map(|call| row(call, &|requests| requests.of_call(call))));
    lines.extend(SERVICES.iter().map(|service| row(&format!("**{service}**"), &|it| it.of_service(service))));
    lines.push(row("whole images up", &|requests| requests.images_up));
    lines.push(row("whole images down", &|requests| requests.images_down));
    lines
}

#[test]
fn each_kind_of_run_makes_these_requests() {
    // The calls are the same on every engine; Podman publishes one document more.
    if Builder::chosen() != Builder::Docker || !engine() {
        return;
    }
    let (mut kinds, job) = image_tasks();
    kinds.extend(loads(&job));
    kinds.extend(decisions());
    for (kind, requests) in &kinds {
        let known: u64 = SERVICES.iter().map(|service| requests.of_service(service)).sum();
        assert_eq!(known, requests.calls.values().sum::<u64>(), "{kind} asks another service: {requests:?}");
    }
    let finds: u64 = of(&kinds, FINDS).calls.values().sum();
    for kind in [FIRST, BUILDS, CHILD] {
        let before = of(&kinds, kind).before_upload;
        assert!(
            before <= finds + LAYER_LISTS,
            "{kind} makes {before} requests before it builds, and {finds} one that finds its image"
        );
    }
    let decide = of(&kinds, DECIDE);
    let batches = (IMAGES as u64).div_ceil(32);
    assert_eq!(decide.of_service("index"), batches, "one call for 32 images, in both projects");
    assert_eq!((decide.of_service("queue"), decide.of_service("storage")), (3 * IMAGES as u64, IMAGES as u64));
    assert_eq!(of(&kinds, DECIDE_NONE).calls.values().sum::<u64>(), batches);
    section("requests", &table(&kinds));
    section("model", &model::requests(&kinds));
    section("bytes", &model::bytes(&kinds));
}
