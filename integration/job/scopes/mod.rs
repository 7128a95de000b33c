//! Scopes: worker-config/scopes.yml against the scopes that the services demand of the program, call by call and name by name,
//! in a deployment where `anonymous` has none; and a job that lacks one, which ends before anything is built.

mod listed;
mod subcommands;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use stand_in::{Call, Claim, Options, RunState, StandIn, TaskSpec};

use crate::harness::{Builder, Finished, Job, PROJECT, Repository, engine, program};

use listed::{Listed, Values, listed};

const ARTIFACT: &str = "public/image.tar";
const SECRET: &str = "project/images/scopes";

/// A deployment where `anonymous` has no rights.
fn closed() -> StandIn {
    StandIn::start(Options { anonymous_scopes: Vec::new(), ..Options::default() })
}

/// An image in such a deployment, and the conditions of scopes.yml that its tasks meet.
struct Scene {
    job: Job,
    when: BTreeSet<&'static str>,
    values: Values,
    environment: BTreeMap<&'static str, String>,
    tasks: Cell<u32>,
}

/// A run of one of its tasks.
struct Try {
    claim: Claim,
    finished: Finished,
    calls: Vec<Call>,
}

/// How calls are signed.
#[derive(Clone, Copy, Debug)]
enum By {
    /// By taskcluster-proxy, which adds the right to create artifacts.
    Proxy,
    /// By a client that has the scopes and no more.
    Client,
}

impl Scene {
    fn new(job: Job, when: &[&'static str]) -> Self {
        let mut when: BTreeSet<_> = when.iter().copied().collect();
        if Builder::is_podman() {
            when.insert("podman");
        }
        let mut scene = Self { job, when, values: Values::new(), environment: BTreeMap::new(), tasks: Cell::default() };
        let path = scene.job.environment()["CONTEXT_PATH"].clone();
        let (hash, name) = (scene.job.hash.clone(), scene.job.name.clone());
        scene.is("{{context_path}}", path);
        scene.is("{{artifact_name}}", ARTIFACT);
        scene.is("{{image_namespace}}", format!("docker.images.v1.{PROJECT}.{name}"));
        scene.is("<hash>", hash);
        scene.is("<pushdate>", "2015.12-09-123456");
        scene.is("<projectId>", "none");
        scene
    }

    /// Sets what a placeholder stands for.
    fn is(&mut self, placeholder: &'static str, value: impl Into<String>) {
        self.values.insert(placeholder, vec![value.into()]);
    }

    fn set(&mut self, variable: &'static str, value: impl Into<String>) {
        self.environment.insert(variable, value.into());
    }

    /// Makes its tasks those of another project than the central one.
    fn for_try(&mut self) {
        let name = self.job.name.clone();
        self.when.insert("central");
        self.set("PROJECT", "try");
        self.is("{{image_namespace}}", format!("docker.images.v1.try.{name}"));
        self.is("<central namespace>", format!("docker.images.v1.{PROJECT}.{name}"));
    }

    /// Gives it a name that is not for everybody.
    fn rename_artifact(&mut self, name: &str) {
        self.set("ARTIFACT_NAME", name);
        self.is("{{artifact_name}}", name);
    }

    /// Puts the context where not everybody may read it.
    fn hide_context(&mut self) {
        let environment = self.job.environment();
        let (task, public) = (&environment["CONTEXT_TASK_ID"], &environment["CONTEXT_PATH"]);
        let bytes = self.job.taskcluster.artifact_bytes(task, 0, public).unwrap();
        let private = public.replace("public/", "private/");
        self.job.taskcluster.put_artifact(task, 0, &private, "application/gzip", None, &bytes);
        self.set("CONTEXT_PATH", private.as_str());
        self.is("{{context_path}}", private);
    }

    /// Builds it from the image of this task.
    fn has_parent(&mut self, parent: &Parent, known: bool) {
        self.when.extend(["parent", if known { "known" } else { "unknown" }]);
        self.set("PARENT_TASK_ID", parent.task.as_str());
        self.is("<parentTaskId>", parent.task.as_str());
        self.is("<parent namespace>", format!("docker.images.v1.{PROJECT}.{}", parent.name));
        self.is("<parentHash>", parent.hash.as_str());
        self.is("<parentArtifact>", ARTIFACT);
    }

    fn has_secret(&mut self) {
        self.when.insert("secret");
        self.job.taskcluster.put_secret(SECRET, json!({ "token": "hunter2-of-the-scopes" }));
        self.set("DOCKER_BUILD_SECRETS", format!(r#"{{"token":{{"taskcluster":"{SECRET}","key":"token"}}}}"#));
        self.is("<secret>", SECRET);
    }

    /// The id of its next task, and what scopes.yml lists for that.
    fn next(&self) -> (String, Vec<Listed>) {
        self.tasks.set(self.tasks.get() + 1);
        let task = format!("ScopesAAQAC{:010}A", self.tasks.get());
        let mut values = self.values.clone();
        values.insert("<taskId>", vec![task.clone()]);
        values.insert("<runId>", vec!["0".to_owned()]);
        let image = values["{{artifact_name}}"][0].clone();
        let mut artifacts = vec![image];
        if self.when.contains("built") {
            artifacts.extend(Builder::documents().iter().map(|name| format!("public/image-build/{name}")));
            artifacts.push("public/image-build/build.log".to_owned());
            artifacts.extend(self.when.contains("packages").then(|| "public/image-build/sbom.cdx.json".to_owned()));
        }
        values.insert("<artifact>", artifacts);
        (task, listed("run", &self.when, &values))
    }

    /// Runs a task that has exactly these scopes.
    fn run(&self, task: &str, scopes: &BTreeSet<String>, by: By) -> Try {
        let taskcluster = &self.job.taskcluster;
        let of_the_worker = format!("queue:create-artifact:{task}/0");
        let own = scopes.iter().filter(|scope| **scope != of_the_worker).cloned();
        let claim = taskcluster.create_task(TaskSpec::scopes(own).task_id(task));
        let mut environment = self.job.environment_of(&claim);
        environment.extend(self.environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        if let By::Client = by {
            let client = taskcluster.permanent_credentials(scopes.iter().cloned());
            environment.remove("TASKCLUSTER_PROXY_URL");
            environment.insert("TASKCLUSTER_CLIENT_ID".to_owned(), client.client_id);
            environment.insert("TASKCLUSTER_ACCESS_TOKEN".to_owned(), client.access_token);
        }
        taskcluster.clear_calls();
        let finished = program(["run"], environment).finish();
        Try { claim, finished, calls: taskcluster.calls() }
    }

    /// Runs a task that has exactly what scopes.yml lists, and asserts that exactly this was demanded.
    fn assert_listed(&self, by: By) -> Try {
        let (task, listed) = self.next();
        let played = self.run(&task, &granted(&listed), by);
        played.finished.assert_succeeds();
        assert_same(&listed, &played.calls);
        played
    }
}

/// The scopes that a task, or a client, is to be given; uploads through the object service have their own.
fn granted(listed: &[Listed]) -> BTreeSet<String> {
    listed.iter().filter(|it| it.granted_by != "queue").map(|it| it.scope.clone()).collect()
}

fn satisfies(given: &str, demanded: &str) -> bool {
    given == demanded || given.strip_suffix('*').is_some_and(|beginning| demanded.starts_with(beginning))
}

/// Asserts that each call demanded what is listed for it, and that nothing is listed that none demanded.
fn assert_same(listed: &[Listed], calls: &[Call]) {
    let mut demanded = BTreeSet::new();
    for call in calls {
        demanded.extend(
            call.required_scopes.iter().map(|scope| (format!("{}.{}", call.service, call.name), scope.clone())),
        );
    }
    let is_of = |it: &Listed, (call, scope): &(String, String)| it.call == *call && satisfies(&it.scope, scope);
    let unlisted: Vec<_> = demanded.iter().filter(|demand| !listed.iter().any(|it| is_of(it, demand))).collect();
    let idle: Vec<_> = listed.iter().filter(|it| !demanded.iter().any(|demand| is_of(it, demand))).collect();
    assert!(unlisted.is_empty() && idle.is_empty(), "not in scopes.yml: {unlisted:#?}\nnot demanded: {idle:#?}");
}

/// Another task's image.
struct Parent {
    task: String,
    name: String,
    hash: String,
}

/// A deployment with a task that has published an image, and a child's image directory.
fn child_and_parent(name: &str) -> (Job, Parent) {
    let base = format!("{name}-base");
    let mut parent = Job::on(closed(), &Repository::new(&base, &format!("RUN echo {name} > /inherited\n")));
    let env = json!({ "IMAGE_NAME": base, "PROJECT": PROJECT, "HASH": parent.hash });
    let spec = TaskSpec::scopes(["*"]).property("payload", json!({ "env": env }));
    parent.claim = parent.taskcluster.create_task(spec);
    parent.run().assert_succeeds();
    let Job { taskcluster, hash, claim, .. } = parent;
    let child = Repository::bare(name, &format!("FROM $DOCKER_IMAGE_PARENT\nENV TEST={name}\n"));
    (Job::on(taskcluster, &child), Parent { task: claim.task_id, name: base, hash })
}

/// A repository whose image is the smallest that every builder builds.
fn small(name: &str) -> Repository {
    Repository::bare(name, &format!("FROM scratch\nENV TEST={name}\nCOPY Dockerfile /\n"))
}

#[test]
fn an_image_that_is_built_needs_what_is_listed() {
    if !engine() {
        return;
    }
    let scene = Scene::new(Job::on(closed(), &small("scopes-s3")), &["built"]);
    let first = scene.assert_listed(By::Proxy);
    assert!(first.calls.iter().filter(|call| call.service != "s3").all(|call| call.via_proxy));
    let warning = "turns out to need it is not published: queue:get-artifact:public/image-build/sbom.cdx.json (queue.";
    assert!(first.finished.stderr.contains(warning), "{}", first.finished.stderr);

    let mut scene = Scene::new(Job::on(closed(), &small("scopes-object")), &["built", "object"]);
    scene.for_try();
    scene.set("ARTIFACT_STORAGE", "object");
    scene.assert_listed(By::Client);

    let packages =
        Repository::bare("scopes-private", "FROM scratch\nENV TEST=scopes-private\nCOPY status /var/lib/dpkg/status\n");
    let status = "Package: base-files\nStatus: install ok installed\nVersion: 12.4\nArchitecture: amd64\n";
    std::fs::write(packages.directory().join("status"), status).unwrap();
    let mut scene = Scene::new(Job::on(closed(), &packages), &["built", "packages"]);
    scene.rename_artifact("private/image.tar");
    scene.hide_context();
    if !Builder::is_podman() {
        scene.has_secret();
    }
    scene.assert_listed(By::Proxy);
}

#[test]
fn an_image_with_a_parent_needs_what_is_listed() {
    if !engine() {
        return;
    }
    let (job, parent) = child_and_parent("scopes-child");
    let mut scene = Scene::new(job, &["built"]);
    scene.has_parent(&parent, true);
    scene.assert_listed(By::Proxy);

    let (job, parent) = child_and_parent("scopes-orphan");
    let mut scene = Scene::new(job, &["built"]);
    scene.has_parent(&parent, false);
    // The same image, of a task that the index does not know.
    let archive = scene.job.taskcluster.artifact_bytes(&parent.task, 0, ARTIFACT).unwrap();
    let env = json!({ "IMAGE_NAME": parent.name, "PROJECT": PROJECT, "HASH": "ab".repeat(32) });
    let unknown = scene.job.taskcluster.create_task(TaskSpec::default().property("payload", json!({ "env": env })));
    scene.job.taskcluster.put_artifact(&unknown.task_id, 0, ARTIFACT, "application/x-tar", None, &archive);
    scene.has_parent(&Parent { task: unknown.task_id, hash: "ab".repeat(32), ..parent }, false);
    scene.assert_listed(By::Client);
}

/// Which takes fewer scopes than building it: no context, no documents, no hash route.
#[test]
fn an_image_that_is_there_needs_what_is_listed_and_no_more() {
    if !engine() {
        return;
    }
    let mut scene = Scene::new(Job::on(closed(), &small("scopes-found")), &["built"]);
    let Try { claim, .. } = scene.assert_listed(By::Proxy);
    scene.job.taskcluster.resolve(&claim.task_id, 0, RunState::Completed);
    scene.when = BTreeSet::from(["found"]);
    scene.for_try();
    scene.is("<imageTaskId>", claim.task_id.as_str());
    scene.is("<imageRunId>", "0");
    let copied = scene.assert_listed(By::Client);
    assert!(copied.finished.stderr.contains("of this task is a copy of that of"), "{}", copied.finished.stderr);

    // What is missing is reported here, too, before anything is copied.
    let (task, listed) = scene.next();
    let mut scopes = granted(&listed);
    let inserting = "index:insert-task:docker.images.v1.try.scopes-found.";
    assert!(scopes.remove(&format!("{inserting}*")));
    scopes.insert(format!("{inserting}latest"));
    let refused = scene.run(&task, &scopes, By::Client);
    refused.finished.assert_fails(31, &[&format!("{inserting}pushdate.2015.12-09-123456"), "worker-config/scopes.yml"]);
    assert!(refused.calls.iter().all(|call| call.name != "createArtifact" && call.name != "insertTask"));

    // What was found turns out to be of no use: it would have to be built.
    let stored = scene.job.taskcluster.artifact_path(&claim.task_id, 0, ARTIFACT).unwrap();
    let mut bytes = std::fs::read(&stored).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&stored, bytes).unwrap();
    let (task, listed) = scene.next();
    let refused = scene.run(&task, &granted(&listed), By::Client).finished;
    refused
        .assert_fails(31, &["5 scopes are missing", "queue:get-artifact:public/docker-contexts/scopes-found.tar.gz"]);
    assert!(refused.stderr.contains("and the index says"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("build |"), "{}", refused.stderr);
}

/// Each scope that a job with everything needs, one after the other: what is known of it at the start is reported then, and what
/// the definition of a parent decides before the build.
#[test]
fn a_job_that_lacks_a_scope_ends_before_anything_is_built() {
    if !engine() {
        return;
    }
    let (job, parent) = child_and_parent("scopes-lacking");
    let mut scene = Scene::new(job, &["built"]);
    scene.for_try();
    scene.rename_artifact("private/image.tar");
    scene.hide_context();
    if !Builder::is_podman() {
        scene.has_secret();
    }
    scene.has_parent(&parent, true);
    let own = scene.next().1;
    // Podman's scopes for documents that only some images have are warned of.
    let needed = |it: &Listed| !it.optional && !it.scope.ends_with("layer-cache.json");
    let count = granted(&own.into_iter().filter(needed).collect::<Vec<_>>()).len();
    assert!(count > 15, "{count}");
    for number in 0..count {
        let (task, listed) = scene.next();
        let all = granted(&listed);
        let required = granted(&listed.into_iter().filter(needed).collect::<Vec<_>>());
        let lacking = required.into_iter().nth(number).unwrap();
        let scopes = all.into_iter().filter(|scope| *scope != lacking).collect();
        // Through the proxy, unless it would add just this one.
        let by = if lacking.starts_with("queue:create-artifact:") { By::Client } else { By::Proxy };
        let Try { finished, calls, .. } = scene.run(&task, &scopes, by);
        let named = lacking.trim_end_matches('*');
        finished.assert_fails(31, &[named]);
        assert!(!finished.stderr.contains("build |"), "{}", finished.stderr);
        let made: BTreeSet<_> = calls.iter().map(|call| call.name.as_str()).collect();
        assert!(["createArtifact", "insertTask"].iter().all(|call| !made.contains(call)), "{lacking}: {made:?}");
        let of_the_parent = lacking.contains(&parent.name) || lacking.ends_with(ARTIFACT);
        if !of_the_parent {
            finished.assert_fails(31, &["add", "to the task's scopes, as worker-config/scopes.yml says"]);
            let allowed = ["currentScopes", "findTask", "listArtifacts", "task"];
            assert!(made.iter().all(|call| allowed.contains(call)), "{lacking}: nothing else is called: {made:?}");
            assert!(finished.stderr.contains(&format!("    | {named}")), "{}", finished.stderr);
        }
    }
    scene.job.assert_engine_is_clean();
}

/// All of them are named, with the calls that need them; the error line has space for the first.
#[test]
fn all_scopes_that_are_missing_are_named_at_once() {
    let scene = Scene::new(Job::on(closed(), &small("scopes-none")), &["built"]);
    let (task, listed) = scene.next();
    let Try { finished, .. } = scene.run(&task, &BTreeSet::from(["auth:current-scopes".to_owned()]), By::Client);
    finished
        .assert_fails(31, &["16 scopes are missing; add them to the task's scopes", &format!("queue:get-task:{task}")]);
    for it in listed.iter().filter(|it| !it.optional && !it.scope.ends_with('*') && it.call != "index.findTasksAtIndex")
    {
        let line = format!("    | {} ({})\n", it.scope, it.call);
        let is_perhaps = it.scope.ends_with("layer-cache.json");
        assert!(is_perhaps || finished.stderr.contains(&line), "{line} is not in:\n{}", finished.stderr);
    }
}

/// A star covers all that begins as it does; and what is only worth something is not waited for, nor needed.
#[test]
fn a_job_with_a_star_or_without_the_optional_scopes_is_done() {
    if !engine() {
        return;
    }
    let mut scene = Scene::new(Job::on(closed(), &small("scopes-star")), &["built"]);
    scene.for_try();
    scene.set("IMAGE_WORKER_FORCE", "1");
    let (task, _) = scene.next();
    scene.run(&task, &BTreeSet::from(["*".to_owned()]), By::Proxy).finished.assert_succeeds();

    let (task, listed) = scene.next();
    let required: Vec<_> = listed.into_iter().filter(|it| !it.optional).collect();
    let done = scene.run(&task, &granted(&required), By::Proxy).finished;
    done.assert_succeeds();
    assert!(done.stderr.contains("whether all scopes are there is not known"), "{}", done.stderr);
    assert!(done.stderr.contains("auth:current-scopes"), "{}", done.stderr);
}
