//! The layer cache with the real engine: steps are taken from the newest indexed image, and whatever is wrong with that image
//! costs its time and nothing else. A step that makes a value of its own proves where it came from.

use std::collections::BTreeMap;
use std::io::Write as _;

use serde_json::{Value, json};
use stand_in::{Fault, TaskSpec};

use crate::harness::engine_proxy::EngineProxy;
use crate::harness::{
    Builder, Finished, Job, PROJECT, Repository, assert_engine_is_clean, container_output, docker, docker_output,
    engine, is_on, path, program,
};

const ARTIFACT: &str = "public/image.tar";
const LAYERS: &str = "public/image-build/layers.json";
const STEPS: &str = "public/image-build/layer-cache.json";

/// Clears BuildKit's own cache of an image's commands, so that the steps can only come from the image.
fn clear_build_cache(name: &str) {
    if Builder::chosen() != Builder::BuildKit {
        return;
    }
    // What is on top of others goes first.
    loop {
        let all: Value =
            serde_json::from_str(&docker_output(&["system", "df", "-v", "--format", "{{json .BuildCache}}"])).unwrap();
        let of_image = |record: &&Value| record["Description"].as_str().is_some_and(|text| text.contains(name));
        let ids: Vec<_> =
            all.as_array().unwrap().iter().filter(of_image).map(|it| it["ID"].as_str().unwrap()).collect();
        let before = ids.len();
        for id in ids {
            docker_output(&["builder", "prune", "--all", "--force", "--filter", &format!("id={id}")]);
        }
        let after: Value =
            serde_json::from_str(&docker_output(&["system", "df", "-v", "--format", "{{json .BuildCache}}"])).unwrap();
        let left = after.as_array().unwrap().iter().filter(of_image).count();
        if left == 0 {
            return;
        }
        assert!(left < before, "BuildKit keeps {left} of {name}");
    }
}

/// Whether the classic builder has images in containerd's store, from which it cannot take steps.
fn is_classic_on_containerd() -> bool {
    is_on("docker-28-containerd") && Builder::chosen() == Builder::Docker
}

/// Whether there is an engine, and it takes steps from images.
fn caches() -> bool {
    engine() && !is_classic_on_containerd()
}

/// An image whose first steps make a value that no other build makes, and whose last one is this.
fn image(name: &str, last: &str) -> Repository {
    let unique = format!("RUN : {name}; cat /proc/sys/kernel/random/uuid > /unique\nENV LATER=1\n");
    let prints = "CMD [\"/bin/busybox\", \"cat\", \"/unique\", \"/last\"]\n";
    Repository::new(name, &format!("ARG WORD=none\n{unique}RUN : {name}; echo {last} > /last\n{prints}"))
}

/// The variables of a job whose image is to be a cache: the BuildKit of Docker 20.10 keeps no records without them.
fn cache_variables() -> Vec<(&'static str, &'static str)> {
    let is_newer = is_on("docker-28") || is_on("docker-28-containerd");
    (Builder::chosen() == Builder::BuildKit && !is_newer).then_some(("CACHE_FROM", "latest")).into_iter().collect()
}

/// A job's environment with these variables.
fn with_cache(environment: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let added = cache_variables().into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    environment.into_iter().chain(added).collect()
}

/// A job that another one of the same image comes before, which has published.
fn after_another(name: &str) -> Option<Job> {
    if !caches() {
        return None;
    }
    let first = Job::new(&image(name, "first"));
    first.run_with(cache_variables()).assert_succeeds();
    first.assert_engine_is_clean();
    clear_build_cache(name);
    Some(Job::on(first.taskcluster, &image(name, "second")))
}

/// What an image prints that a job has published: its unique value, and what its last step wrote.
fn printed(job: &Job, task: &str) -> (String, String) {
    let archive = job.taskcluster.artifact_path(task, 0, ARTIFACT).expect("the image");
    let loaded = docker_output(&["load", "--input", path(&archive)]);
    let tag = loaded.trim_start_matches("Loaded image: ").to_owned();
    let output = container_output(&[&tag]);
    docker_output(&["rmi", "--force", &tag]);
    let (unique, last) = output.split_once('\n').expect("two lines");
    assert_eq!(unique.len(), 36, "{output}");
    (unique.to_owned(), last.trim().to_owned())
}

/// The task that the newest image is of.
fn newest(job: &Job) -> String {
    let entry = job.taskcluster.index_entry(&job.namespace("latest")).expect("the newest image");
    entry["taskId"].as_str().unwrap().to_owned()
}

/// Runs a job after another, and asserts whether its steps come from the other's image.
fn run_after(job: &Job, variables: &[(&str, &str)], cached: bool) -> Finished {
    let before = newest(job);
    // Without the variables, the default is what is tested.
    let usual = if cached { cache_variables() } else { Vec::new() };
    let finished = job.run_with(usual.into_iter().chain(variables.iter().copied()));
    finished.assert_succeeds();
    job.assert_engine_is_clean();
    let ((old, first), (new, second)) = (printed(job, &before), printed(job, &job.claim.task_id));
    assert_eq!((first.as_str(), second.as_str()), ("first", "second"));
    assert_eq!(old == new, cached, "{}", finished.stderr);
    finished
}

/// What went into the image, by its provenance.
fn ingredients(job: &Job) -> Vec<Value> {
    let task = &job.claim.task_id;
    let text = job.taskcluster.artifact_bytes(task, 0, "public/image-build/provenance.json").expect("the provenance");
    let provenance: Value = serde_json::from_slice(&text).unwrap();
    provenance["predicate"]["buildDefinition"]["resolvedDependencies"].as_array().unwrap().clone()
}

#[test]
fn steps_come_from_an_image_that_the_engine_has() {
    let Some(job) = after_another("cache-present") else { return };
    let archive = job.taskcluster.artifact_path(&newest(&job), 0, "public/image.tar").expect("the newest image");
    let kept = "image-worker-test-cache-kept:1";
    program(["load", "--file", path(&archive), "--tag", kept], []).finish().assert_succeeds();
    let finished = run_after(&job, &[], true);
    docker_output(&["rmi", kept]);
    // Podman needs the images of the steps, too, which come only with the whole archive.
    let is_partial = finished.stderr.contains("the engine has the other layers");
    assert_eq!(is_partial, !Builder::is_podman(), "{}", finished.stderr);
}

#[test]
fn steps_come_from_the_newest_image() {
    let Some(job) = after_another("cache-latest") else { return };
    let (before, entry) = (newest(&job), job.taskcluster.index_entry(&job.namespace("latest")).unwrap());
    let finished = run_after(&job, &[], true);
    let line = format!("steps from the cache of task {before}, run 0, for {PROJECT}");
    assert!(finished.stderr.contains(&line), "{}", finished.stderr);
    assert!(finished.stderr.contains("as the index has it"), "{}", finished.stderr);
    assert!(!docker(&["image", "inspect", entry["data"]["imageId"].as_str().unwrap()]).status.success(), "it is left");

    let all = ingredients(&job);
    assert_eq!(all.iter().map(|it| &it["name"]).collect::<Vec<_>>(), ["context", "layer cache"]);
    assert_eq!(all[1]["digest"]["sha256"], entry["data"]["sha256"]);
    assert_eq!(all[1]["annotations"]["imageId"], entry["data"]["imageId"]);

    // A third takes from the second what the second took from the first.
    clear_build_cache("cache-latest");
    let third = Job::on(job.taskcluster, &image("cache-latest", "third"));
    let second = newest(&third);
    third.run_with(cache_variables()).assert_succeeds();
    assert_eq!(printed(&third, &second).0, printed(&third, &third.claim.task_id).0);
    third.assert_engine_is_clean();
}

/// Of an image that is to be looked for in a registry it must be this machine's: a public one would get a name of ours.
#[test]
fn where_the_classic_builder_cannot_take_steps_it_builds_without() {
    if !engine() || !is_classic_on_containerd() {
        return;
    }
    let first = Job::new(&image("cache-classic", "first"));
    first.run_with(cache_variables()).assert_succeeds();
    let second = Job::on(first.taskcluster, &image("cache-classic", "second"));
    let finished = second.run_with(cache_variables());
    finished.assert_succeeds();
    assert!(
        finished.stderr.contains("building without a layer cache: Docker's classic builder"),
        "{}",
        finished.stderr
    );
    second.assert_engine_is_clean();
}

#[test]
fn no_other_machine_gets_a_request_for_the_image() {
    let Some(job) = after_another("cache-asked") else { return };
    let proxy = EngineProxy::start("/build?", |client| {
        let answer = r#"{"errorDetail":{"message":"not built"},"error":"not built"}"#;
        write!(client, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len())
    });
    job.run_with(cache_variables().into_iter().chain([("DOCKER_HOST", proxy.place().as_str())]))
        .assert_fails(20, &["not built"]);
    let [request] = &proxy.requests()[..] else { panic!("{:?}", proxy.requests()) };
    let offered = request.split_once("cachefrom=%5B%22").map(|(_, rest)| rest.split("%22%5D").next().unwrap());
    let in_registry = Builder::chosen() == Builder::BuildKit && is_on("docker-28-containerd");
    let is_here = |name: &str| if in_registry { name.starts_with("127.0.0.1%3A") } else { !name.contains('.') };
    // Podman looks among the images that it has, without a list of them.
    assert!(offered.map_or(Builder::is_podman(), is_here), "{request}");
}

#[test]
fn an_image_whose_every_step_is_there_is_the_same_and_leaves_nothing() {
    if !caches() {
        return;
    }
    let first = Job::new(&image("cache-same", "same"));
    first.run_with(cache_variables()).assert_succeeds();
    clear_build_cache("cache-same");
    // A file that no step looks at: another context, the same image.
    let repository = image("cache-same", "same");
    std::fs::write(repository.directory().join("README"), "unused\n").unwrap();
    let second = Job::on(first.taskcluster, &repository);
    let before = newest(&second);
    second.run_with(cache_variables()).assert_succeeds();
    assert_eq!(printed(&second, &before), printed(&second, &second.claim.task_id));
    second.assert_engine_is_clean();
}

/// How many of how many steps a run took from the image of a task, by its log.
fn steps_from(finished: &Finished, task: &str) -> (u32, u32) {
    let (before, _) = finished.stderr.split_once(&format!(" steps from the cache of task {task},")).expect("a cache");
    let mut words = before.rsplit(' ').map(str::parse);
    let (Some(Ok(all)), Some(Err(_)), Some(Ok(cached))) = (words.next(), words.next(), words.next()) else {
        panic!("{}", finished.stderr)
    };
    (cached, all)
}

#[test]
fn ten_builds_in_a_row_take_all_steps_that_have_not_changed() {
    if !caches() {
        return;
    }
    let name = "cache-row";
    let mut job = Job::new(&image(name, "0"));
    job.run_with(cache_variables()).assert_succeeds();
    let mut unique = printed(&job, &job.claim.task_id).0;
    let mut builds = Vec::new();
    for build in 1..=10 {
        clear_build_cache(name);
        // In every third nothing has changed that a step looks at.
        let last = build - u32::from(build % 3 == 0);
        let repository = image(name, &last.to_string());
        std::fs::write(repository.directory().join("README"), build.to_string()).unwrap();
        let before = newest(&job);
        job = Job::on(job.taskcluster, &repository);
        let finished = job.run_with(cache_variables());
        finished.assert_succeeds();
        let (from, written) = printed(&job, &job.claim.task_id);
        assert_eq!(written, last.to_string());
        builds.push((from == unique, steps_from(&finished, &before)));
        unique = from;
    }
    job.assert_engine_is_clean();
    // BuildKit does not always report the same number of steps.
    let (_, (some, _)) = builds[0];
    let is_hit = |(number, (same, (cached, _))): (usize, &(bool, (u32, u32)))| {
        *same && *cached >= some + u32::from(number % 3 == 2)
    };
    let hits = builds.iter().enumerate().filter(|build| is_hit(*build)).count();
    eprintln!("{hits} of 10 builds took their steps from the one before: {builds:?}");
    assert_eq!(hits, 10, "{builds:?}");
}

#[test]
fn the_central_project_helps_where_the_own_one_has_nothing_and_nobody_else_does() {
    let Some(job) = after_another("cache-central") else { return };
    let projects = |project: &str, central: &str| {
        let index = format!("index:insert-task:docker.images.v1.{project}.cache-central.*");
        let claim = job.taskcluster.create_task(TaskSpec::scopes([index]));
        let mut environment = with_cache(job.environment_of(&claim));
        environment.insert("PROJECT".to_owned(), project.to_owned());
        environment.insert("IMAGE_WORKER_CENTRAL".to_owned(), central.to_owned());
        let finished = program(["run"], environment).finish();
        finished.assert_succeeds();
        (claim.task_id, finished)
    };
    let before = newest(&job);
    let (stranger, finished) = projects("elsewhere", "nowhere");
    assert!(finished.stderr.contains("without a layer cache: no image of this name is known"), "{}", finished.stderr);
    assert_ne!(printed(&job, &stranger).0, printed(&job, &before).0);
    clear_build_cache("cache-central");
    let (of_try, finished) = projects("try", PROJECT);
    assert!(finished.stderr.contains(&format!("from the cache of task {before}")), "{}", finished.stderr);
    assert_eq!(printed(&job, &of_try).0, printed(&job, &before).0);
    job.assert_engine_is_clean();
}

#[test]
fn who_wants_no_cache_gets_none() {
    let Some(job) = after_another("cache-off") else { return };
    let finished = run_after(&job, &[("CACHE_FROM", "off")], false);
    assert!(!finished.stderr.contains("layer cache"), "{}", finished.stderr);
    assert_eq!(ingredients(&job).len(), 1);
    // An image that no later build may take steps from does not name them.
    assert_eq!(job.taskcluster.artifact_path(&job.claim.task_id, 0, STEPS), None);

    for variable in ["IMAGE_WORKER_FORCE", "IMAGE_WORKER_REPRODUCIBLE"] {
        let job = after_another(&variable.to_lowercase().replace("image_worker_", "cache-off-")).unwrap();
        let finished = run_after(&job, &[(variable, "1")], false);
        assert!(finished.stderr.contains("CACHE_FROM is not set: it is off, as "), "{}", finished.stderr);
    }
    let job = after_another("cache-off-not").unwrap();
    run_after(&job, &[("IMAGE_WORKER_FORCE", "1"), ("CACHE_FROM", "latest")], true);
}

#[test]
fn a_cache_that_cannot_be_loaded_costs_nothing_but_its_time() {
    let Some(job) = after_another("cache-gone") else { return };
    let before = newest(&job);
    let whole = job.taskcluster.artifact_bytes(&before, 0, ARTIFACT).unwrap();
    // Another image of the engine has the first layer, which is not read then.
    let layers = job.taskcluster.artifact_bytes(&before, 0, LAYERS).unwrap();
    let first = serde_json::from_slice::<Value>(&layers).unwrap()["layers"][0].clone();
    let [offset, size] = ["offset", "size"].map(|name| usize::try_from(first[name].as_u64().unwrap()).unwrap());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &whole[offset..offset + size]).unwrap();
    let below = "below-cache-gone:1";
    docker_output(&["import", path(file.path()), below]);
    let put = |bytes: &[u8]| job.taskcluster.put_artifact(&before, 0, ARTIFACT, "application/x-tar", None, bytes);
    let run_without = |fault: Option<Fault>, words: &str| {
        if let Some(fault) = fault {
            job.taskcluster.fault(fault);
        }
        // A dry run publishes nothing that the next would find.
        let out = tempfile::tempdir().unwrap();
        let mut environment = with_cache(job.environment());
        environment.insert("IMAGE_WORKER_TRIES".to_owned(), "2".to_owned());
        let finished = program(["run", "--dry-run", "--output", path(out.path())], environment).finish();
        finished.assert_succeeds();
        assert!(finished.stderr.contains(words), "{words:?} is not in:\n{}", finished.stderr);
        assert!(!finished.stderr.contains("from the cache of"), "{}", finished.stderr);
        job.assert_engine_is_clean();
        job.taskcluster.clear_faults();
    };
    let own = whole.windows(7).position(|window| window == b"unique\0").unwrap();
    let mut wrong = whole.clone();
    wrong[own] ^= 1;
    put(&wrong);
    run_without(None, "building without a layer cache: the image archive has sha256");
    put(&whole[..own]);
    run_without(None, "building without a layer cache: the image archive is truncated at");
    put(&whole);
    let gone = "building without a layer cache: ";
    run_without(Some(Fault::status("getArtifact", 404).times(u32::MAX)), gone);
    run_without(Some(Fault::status("getArtifact", 500).times(u32::MAX)), gone);
    run_without(
        Some(Fault::status("findTasksAtIndex", 500).times(u32::MAX)),
        "the newest image of this name is not known",
    );

    // And with nothing in the way the same dry run takes the steps.
    let out = tempfile::tempdir().unwrap();
    let finished = program(["run", "--dry-run", "--output", path(out.path())], with_cache(job.environment())).finish();
    finished.assert_succeeds();
    assert!(finished.stderr.contains(&format!("from the cache of task {before}")), "{}", finished.stderr);
    job.assert_engine_is_clean();
    let read_in_parts = finished.stderr.contains("the engine has 1 of 3 layers");
    assert_eq!(read_in_parts, !Builder::is_podman(), "{}", finished.stderr);
    docker_output(&["rmi", below]);
}

#[test]
fn a_build_that_fails_on_steps_of_another_day_is_built_again() {
    if !caches() {
        return;
    }
    let name = "cache-stale";
    let first = Job::new(&image(name, "first"));
    let build = |job: &Job, word: &str| {
        let args = json!({ "WORD": word }).to_string();
        job.run_with(cache_variables().into_iter().chain([("DOCKER_BUILD_ARGS", args.as_str())]))
    };
    build(&first, "yesterday").assert_succeeds();
    let old = printed(&first, &first.claim.task_id).0;
    // A step of today does not go with what was made yesterday.
    let fresh = format!(
        "ARG WORD=none\nRUN : {name}; cat /proc/sys/kernel/random/uuid > /unique\nENV LATER=1\nRUN ! grep {old} /unique\n"
    );
    let job = Job::on(first.taskcluster, &Repository::new(name, &fresh));
    let finished = build(&job, "yesterday");
    finished.assert_succeeds();
    assert!(finished.stderr.contains("which may be why: building again without it"), "{}", finished.stderr);
    job.assert_engine_is_clean();

    // What is wrong without a cache, too, is reported once.
    let broken = fresh.replace("! grep", "grep nothing");
    let job = Job::on(job.taskcluster, &Repository::new(name, &broken));
    build(&job, "yesterday").assert_fails(20, &["RUN grep nothing"]);
    job.assert_engine_is_clean();
}

#[test]
fn a_run_that_is_killed_with_a_cache_leaves_nothing_for_long() {
    if !caches() {
        return;
    }
    let name = "cache-killed";
    let first = Job::new(&image(name, "first"));
    first.run_with(cache_variables()).assert_succeeds();
    let unique = format!("ARG WORD=none\nRUN : {name}; cat /proc/sys/kernel/random/uuid > /unique\nENV LATER=1\n");
    // BuildKit's own cache may have the step of an earlier test.
    let waits = format!("RUN : {}; echo waiting && sleep 3\n", std::process::id());
    let job = Job::on(first.taskcluster, &Repository::new(name, &(unique + &waits)));
    let work = tempfile::tempdir().unwrap();
    let mut environment = with_cache(job.environment());
    environment.insert("TASK_WORKDIR".to_owned(), path(work.path()).to_owned());
    let killed = program(["run"], environment.clone()).kill_when(|stderr| stderr.contains("build | waiting"));
    assert_eq!(killed, None, "it is killed");
    let finished = program(["run"], environment).finish();
    finished.assert_succeeds();
    // Any start removes what killed runs have left: this one, or another test's before it.
    assert_engine_is_clean(name);
}
