//! What the tests share: image directories, the real engine, and the real binary with nothing of this process's
//! environment. Every output of the program passes through here, is searched for secrets, and validated with its schema.

pub(crate) mod archive;
pub(crate) mod browser;
pub(crate) mod document;
pub(crate) mod engine_proxy;
pub(crate) mod generic_worker;
pub(crate) mod registry;
pub(crate) mod schemas;
pub(crate) mod terminal;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use image_worker::context::HashScheme;
use tempfile::TempDir;

use stand_in::{Claim, Options, StandIn, TaskSpec};

/// `YYYYMMDDHHMMSS` of the push that the tests' jobs belong to, and its rank.
pub(crate) const PUSHDATE: &str = "20151209123456";
pub(crate) const RANK: i64 = 1_449_664_496;
pub(crate) const PROJECT: &str = "mozilla-central";

/// What builds in the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Builder {
    /// Docker's classic builder.
    Docker,
    /// Docker's `BuildKit`.
    BuildKit,
    /// Podman's service.
    Podman,
}

/// What `IMAGE_WORKER_TEST_ENGINE` can be: the engine of `scripts/engine` (none is the machine's Docker), and its builder.
const ENGINES: [(&str, Option<&str>, Builder); 8] = [
    ("docker", None, Builder::Docker),
    ("buildkit", None, Builder::BuildKit),
    ("docker-28", Some("docker-28"), Builder::Docker),
    ("docker-28+buildkit", Some("docker-28"), Builder::BuildKit),
    ("docker-28-containerd", Some("docker-28-containerd"), Builder::Docker),
    ("docker-28-containerd+buildkit", Some("docker-28-containerd"), Builder::BuildKit),
    ("podman", Some("podman"), Builder::Podman),
    ("podman-5", Some("podman-5"), Builder::Podman),
];

/// The engine that the tests are to run on, and its builder.
fn chosen() -> (Option<&'static str>, Builder) {
    let named = std::env::var("IMAGE_WORKER_TEST_ENGINE").ok().filter(|name| !name.is_empty());
    let named = named.as_deref().unwrap_or("docker");
    let found = ENGINES.iter().find(|(name, ..)| *name == named);
    let (_, engine, builder) = found.unwrap_or_else(|| {
        panic!("IMAGE_WORKER_TEST_ENGINE is {named}, and none of {:?}", ENGINES.map(|(name, ..)| name))
    });
    (*engine, *builder)
}

impl Builder {
    /// The one that `IMAGE_WORKER_TEST_ENGINE` names; Docker's classic one where it is not set.
    pub(crate) fn chosen() -> Self {
        chosen().1
    }

    /// Whether the engine is Podman.
    pub(crate) fn is_podman() -> bool {
        Self::chosen() == Self::Podman
    }

    /// What is published beside an image without packages, in its order, which is that of the names too.
    pub(crate) fn documents() -> Vec<&'static str> {
        let all =
            ["layer-cache.json", "layers.json", "perfherder-data-image-build.json", "provenance.json", "report.html"];
        // Only Podman takes steps from images of their own.
        all[usize::from(!Self::is_podman())..].to_vec()
    }
}

/// A number of seconds, longer than any test, that no other command of the machine sleeps for: neither one of a test that runs
/// now, nor one that an earlier test has left. `which` is the caller's, below 10.
pub(crate) fn long_sleep(which: u32) -> String {
    format!("9{:07}{which}", std::process::id())
}

/// Whether the tests run on this engine of `scripts/engine`.
pub(crate) fn is_on(engine: &str) -> bool {
    chosen().0 == Some(engine)
}

/// Where an engine of `scripts/engine` is, or would be.
pub(crate) fn place_of(engine: &str) -> String {
    static PLACES: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    let find = || {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/engine");
        let output = Command::new(script).args([engine, "--place"]).output().expect("scripts/engine");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    PLACES.lock().unwrap().entry(engine.to_owned()).or_insert_with(find).clone()
}

/// Where the engine of the tests is, where it is not at its usual place.
pub(crate) fn engine_place() -> Option<String> {
    let usual = || std::env::var("DOCKER_HOST").ok().filter(|place| !place.is_empty());
    chosen().0.map(place_of).or_else(usual)
}

/// Whether the real engine answers. Without one a test skips itself with a notice at home, and fails in CI.
pub(crate) fn engine() -> bool {
    let there = docker(&["version"]).status.success();
    let start = ["scripts/engine", chosen().0.unwrap_or_default()].join(" ");
    let start = start.trim();
    assert!(there || std::env::var_os("IMAGE_WORKER_NO_SKIP").is_none(), "no engine answers: run {start}");
    if !there {
        eprintln!("SKIPPED: no engine answers; run {start}");
    }
    there
}

/// Whether a program of a Debian package is here. Without it a test skips itself with a notice at home, and fails in CI.
pub(crate) fn installed(program: &str) -> bool {
    let there = Command::new(program).arg("--version").stdin(Stdio::null()).output().is_ok();
    assert!(there || std::env::var_os("IMAGE_WORKER_NO_SKIP").is_none(), "no {program}: run scripts/test");
    if !there {
        eprintln!("SKIPPED: no {program}; run scripts/test");
    }
    there
}

/// Runs the docker client, which Podman understands too.
pub(crate) fn docker(arguments: &[&str]) -> Output {
    let place = engine_place().map(|place| ("DOCKER_HOST", place));
    let output = Command::new("docker").args(arguments).envs(place).stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("cannot run docker {arguments:?}: {error}; run scripts/test"))
}

/// How engines report, to a client that lists, loads or builds an image, that another test has just removed one: Podman 5
/// (`image` or `layer not known`), and Docker with the containerd image store. A repeated request succeeds.
const BUSY: [&str; 4] = ["not known", "content digest", "lease does not exist", "parent snapshot"];

/// What the docker client prints, when it must succeed.
pub(crate) fn docker_output(arguments: &[&str]) -> String {
    let limit = Instant::now() + Duration::from_secs(30);
    loop {
        let output = docker(arguments);
        if output.status.success() {
            return String::from_utf8_lossy(&output.stdout).trim().to_owned();
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        // `docker system df` reports it with these words only.
        let is_busy =
            BUSY.iter().any(|words| stderr.contains(words)) || arguments[0] == "system" && stderr.contains("not found");
        assert!(is_busy && Instant::now() < limit, "docker {arguments:?}: {stderr}");
    }
}

/// What Podman's own client prints, when it must succeed: for what Podman does not do for docker's.
pub(crate) fn podman_output(arguments: &[&str]) -> String {
    let place = engine_place().unwrap_or_default();
    let output = Command::new("podman").args(["--url", &place]).args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run podman {arguments:?}: {error}; run scripts/test"));
    assert!(output.status.success(), "podman {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// An image's names as people write them: Podman writes them out, with `localhost/` where it has loaded them.
pub(crate) fn names_of(image: &str) -> Vec<String> {
    let names = docker_output(&["image", "inspect", "--format", "{{range .RepoTags}}{{.}} {{end}}", image]);
    let prefixes = if Builder::is_podman() { &["localhost/", "docker.io/library/", "docker.io/"][..] } else { &[] };
    let bare = |name: &str| prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name).to_owned();
    names.split_whitespace().map(bare).collect()
}

/// How the commands begin that the program prints for people.
pub(crate) fn client() -> String {
    match (Builder::is_podman(), engine_place()) {
        (true, place) => format!("podman --url {}", place.unwrap_or_default()),
        (false, Some(place)) if place != "unix:///var/run/docker.sock" => format!("docker --host {place}"),
        (false, _) => "docker".to_owned(),
    }
}

/// How a build's output begins, of an image of [`Repository::new`] with so many steps.
pub(crate) fn first_step(of: u32) -> String {
    match Builder::chosen() {
        Builder::Docker => format!("Step 1/{of} : FROM scratch\n"),
        // It counts what it does, and settings are no steps to it.
        Builder::BuildKit => "Step 1/".to_owned(),
        Builder::Podman => format!("STEP 1/{of}: FROM scratch\n"),
    }
}

/// What a container prints that is started with these arguments, without a network, when it must succeed.
pub(crate) fn container_output(arguments: &[&str]) -> String {
    let network = ["--network", "none"];
    if !Builder::is_podman() {
        return docker_output(&[&["run", "--rm"], &network[..], arguments].concat());
    }
    // Podman 4.3 answers 409 when a docker client attaches to a container; and it wants more files and processes than a
    // virtual machine may allow. A limit of processes is for those machines only that have version 2 of cgroups.
    let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--pids-limit", "0"];
    // Its own client misses what a container prints before the client has attached: the log has it all.
    let container = podman_output(&[&["run", "--detach"], &network[..], &limits, arguments].concat());
    let code = podman_output(&["wait", &container]);
    let printed = podman_output(&["logs", &container]);
    podman_output(&["rm", "--force", &container]);
    assert_eq!(code, "0", "{arguments:?}: {printed}");
    printed
}

/// The processes of Podman's service, of whatever generation, whose command line has this mark.
pub(crate) fn podmans_commands(mark: &str) -> Vec<u32> {
    let read = |id: u32, file: &str| std::fs::read(format!("/proc/{id}/{file}")).unwrap_or_default();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).replace('\0', " ");
    let parent = |id: u32| -> Option<u32> {
        let status = text(read(id, "status"));
        status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
    };
    let service = engine_place().unwrap_or_default();
    let is_podmans = |id: u32| {
        let ancestors = std::iter::successors(Some(id), |id| parent(*id).filter(|id| *id != 0));
        ancestors.skip(1).any(|id| text(read(id, "cmdline")).trim_end().ends_with(&service))
    };
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    all.filter(|id| text(read(*id, "cmdline")).contains(mark) && is_podmans(*id)).collect()
}

/// Ends a step's command that goes on although its build was cancelled, as Podman leaves it. Gives whether there was one.
pub(crate) fn end_podmans_command(mark: &str) -> bool {
    let commands: Vec<_> = podmans_commands(mark).iter().map(u32::to_string).collect();
    // The first of them is the first process of the container, and takes the others with it.
    !commands.is_empty() && Command::new("kill").arg("-KILL").args(commands).status().is_ok()
}

/// A repository with one image directory.
pub(crate) struct Repository {
    pub(crate) root: TempDir,
    pub(crate) name: String,
}

impl Repository {
    /// An image on an empty base, with busybox, whose `Dockerfile` goes on with `steps`. The name makes it unlike
    /// all other tests' images, so that tests do not share layers.
    pub(crate) fn new(name: &str, steps: &str) -> Self {
        let unique = format!("FROM scratch\nENV TEST={name}\n");
        let busybox = "COPY busybox /bin/busybox\nSHELL [\"/bin/busybox\", \"sh\", \"-c\"]\n";
        let repository = Self::bare(name, &format!("{unique}{busybox}{steps}"));
        let busybox = std::fs::copy("/bin/busybox", repository.directory().join("busybox"));
        busybox.expect("busybox-static; run scripts/test");
        repository
    }

    /// An image directory with nothing but a `Dockerfile`.
    pub(crate) fn bare(name: &str, dockerfile: &str) -> Self {
        let root = TempDir::with_prefix("repository-").unwrap();
        let repository = Self { root, name: name.to_owned() };
        std::fs::create_dir_all(repository.directory()).unwrap();
        std::fs::create_dir(repository.root.path().join(".hg")).unwrap();
        std::fs::write(repository.directory().join("Dockerfile"), dockerfile).unwrap();
        repository
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.root.path().join("testing/docker").join(&self.name)
    }

    /// The context as the decision task packs it, and its hash, by the program itself.
    pub(crate) fn context(&self) -> (Vec<u8>, String) {
        let file = self.root.path().join("context.tar.gz");
        let packed = program(["context", path(&self.directory()), "-o", path(&file)], []).finish();
        assert_eq!(packed.code, 0, "{}", packed.stderr);
        (std::fs::read(file).unwrap(), packed.stdout.trim().to_owned())
    }

    pub(crate) fn hash(&self, scheme: HashScheme) -> String {
        let hash = program(["hash", path(&self.directory()), "--scheme", &scheme.to_string()], []).finish();
        assert_eq!(hash.code, 0, "{}", hash.stderr);
        hash.stdout.trim().to_owned()
    }
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// An image task, ready to run: a deployment, a decision task with the context, an image task that is claimed.
pub(crate) struct Job {
    pub(crate) taskcluster: StandIn,
    pub(crate) name: String,
    pub(crate) hash: String,
    pub(crate) claim: Claim,
    decision: Claim,
}

impl Job {
    pub(crate) fn new(repository: &Repository) -> Self {
        Self::on(StandIn::start(Options::default()), repository)
    }

    /// An image task of an image of [`Repository::new`]; none, with a notice, where no engine can build it.
    pub(crate) fn ready(name: &str, steps: &str) -> Option<Self> {
        engine().then(|| Self::new(&Repository::new(name, steps)))
    }

    pub(crate) fn on(taskcluster: StandIn, repository: &Repository) -> Self {
        Self::of(taskcluster, &repository.name, &repository.context())
    }

    /// An image task of a context that is packed already, with its hash.
    pub(crate) fn of(taskcluster: StandIn, name: &str, (context, hash): &(Vec<u8>, String)) -> Self {
        let decision = taskcluster.create_task(TaskSpec::default());
        let artifact = format!("public/docker-contexts/{name}.tar.gz");
        taskcluster.put_artifact(&decision.task_id, 0, &artifact, "application/gzip", None, context);
        let claim = taskcluster.create_task(Self::spec(name));
        taskcluster.clear_calls();
        Self { taskcluster, name: name.to_owned(), hash: hash.clone(), claim, decision }
    }

    /// An image task of this image, with the scopes that worker-config/task.yml gives it.
    pub(crate) fn spec(name: &str) -> TaskSpec {
        TaskSpec::scopes([format!("index:insert-task:docker.images.v1.{PROJECT}.{name}.*")])
    }

    /// The environment of the task, behind taskcluster-proxy.
    pub(crate) fn environment(&self) -> BTreeMap<String, String> {
        self.environment_of(&self.claim)
    }

    pub(crate) fn environment_of(&self, claim: &Claim) -> BTreeMap<String, String> {
        let pairs = [
            ("TASKCLUSTER_ROOT_URL", self.taskcluster.root_url()),
            ("TASKCLUSTER_PROXY_URL", self.taskcluster.proxy_url(claim)),
            ("TASK_ID", claim.task_id.clone()),
            ("RUN_ID", claim.run_id.to_string()),
            ("IMAGE_NAME", self.name.clone()),
            ("PROJECT", PROJECT.to_owned()),
            ("HASH", self.hash.clone()),
            ("CONTEXT_TASK_ID", self.decision.task_id.clone()),
            ("CONTEXT_PATH", format!("public/docker-contexts/{}.tar.gz", self.name)),
            ("PUSHDATE", PUSHDATE.to_owned()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// The environment of the task without a proxy: its credentials sign the calls.
    pub(crate) fn signing_environment(&self) -> BTreeMap<String, String> {
        let mut environment = self.environment();
        environment.remove("TASKCLUSTER_PROXY_URL");
        let credentials = self.claim.credentials.clone();
        let certificate = credentials.certificate.unwrap_or_default();
        environment.insert("TASKCLUSTER_CLIENT_ID".to_owned(), credentials.client_id);
        environment.insert("TASKCLUSTER_ACCESS_TOKEN".to_owned(), credentials.access_token);
        environment.insert("TASKCLUSTER_CERTIFICATE".to_owned(), certificate);
        environment
    }

    pub(crate) fn run(&self) -> Finished {
        self.run_with([])
    }

    /// Runs the job with some variables changed; an empty value takes a variable away.
    pub(crate) fn run_with<'a>(&self, changes: impl IntoIterator<Item = (&'a str, &'a str)>) -> Finished {
        let mut environment = self.environment();
        for (name, value) in changes {
            environment.insert(name.to_owned(), value.to_owned());
        }
        let (task_id, run_id) = (environment["TASK_ID"].clone(), environment["RUN_ID"].parse());
        let finished = program(["run"], environment).finish();
        if let (0, Ok(run_id)) = (finished.code, run_id) {
            schemas::check_published(&self.taskcluster, &task_id, run_id, &self.routes());
        }
        finished
    }

    pub(crate) fn namespace(&self, tail: &str) -> String {
        format!("docker.images.v1.{PROJECT}.{}.{tail}", self.name)
    }

    /// The three routes, in the order in which they are inserted.
    pub(crate) fn routes(&self) -> [String; 3] {
        let hash = format!("hash.{}", self.hash);
        ["latest", "pushdate.2015.12-09-123456", &hash].map(|tail| self.namespace(tail))
    }

    pub(crate) fn tag(&self) -> String {
        format!("{}:{}", self.name, self.hash)
    }

    /// The names of the calls so far, without those to the proxy, in order.
    pub(crate) fn call_names(&self) -> Vec<String> {
        self.taskcluster.calls().into_iter().filter(|call| call.service != "proxy").map(|call| call.name).collect()
    }

    /// Asserts that nothing was published: no artifact, no route.
    pub(crate) fn assert_nothing_published(&self) {
        for route in self.routes() {
            assert_eq!(self.taskcluster.index_entry(&route), None, "{route}");
        }
        let artifact = self.taskcluster.artifact_path(&self.claim.task_id, self.claim.run_id, "public/image.tar");
        assert_eq!(artifact, None);
    }

    /// Asserts that the engine has nothing of this image: no tag, and no image or container with its label.
    pub(crate) fn assert_engine_is_clean(&self) {
        assert_engine_is_clean(&self.name);
    }
}

/// Asserts that the engine has nothing of an image of [`Repository::new`]: no tag, no step, no container.
pub(crate) fn assert_engine_is_clean(name: &str) {
    assert_eq!(docker_output(&["images", "--quiet", name]), "", "the tag is left");
    let marked = format!("TEST={name}");
    let step = || {
        let all = docker_output(&["images", "--all", "--quiet", "--no-trunc", "--filter", "dangling=true"]);
        // Another test can remove its own while we look.
        let env = |id: &str| docker(&["inspect", "--format", "{{.Config.Env}}", id]).stdout;
        all.lines().find(|id| String::from_utf8_lossy(&env(id)).contains(&marked)).map(str::to_owned)
    };
    // What a killed run has left, the start of another test can be removing just now.
    let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
    while step().is_some() && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    assert_eq!(step(), None, "the step is left");
    let containers = docker_output(&["ps", "--all", "--quiet", "--no-trunc"]);
    for id in containers.lines() {
        let env = docker(&["inspect", "--format", "{{.Config.Env}}", id]);
        assert!(!String::from_utf8_lossy(&env.stdout).contains(&marked), "the container {id} is left");
    }
}

/// The program, about to run with this environment and nothing else.
pub(crate) fn program<'a>(
    arguments: impl IntoIterator<Item = &'a str>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Program {
    let mut command = Command::new(env!("CARGO_BIN_EXE_image-worker"));
    let environment: BTreeMap<_, _> = environment.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    // A temporary directory of its own, so that what is left in it is this run's.
    let temporary = TempDir::with_prefix("image-worker-test-").unwrap();
    command.args(arguments).env_clear().env("TMPDIR", temporary.path()).stdin(Stdio::null());
    let builder = match chosen() {
        (_, Builder::BuildKit) => Some("buildkit"),
        // BuildKit is the usual one of newer Dockers.
        (Some(_), Builder::Docker) => Some("classic"),
        (None, Builder::Docker) | (_, Builder::Podman) => None,
    };
    let builder = builder.map(|builder| ("IMAGE_WORKER_BUILDER", builder));
    command.envs(engine_place().map(|place| ("DOCKER_HOST", place))).envs(builder).envs(&environment);
    let secrets = ["TASKCLUSTER_ACCESS_TOKEN", "TASKCLUSTER_CERTIFICATE"];
    let secrets = secrets.iter().filter_map(|name| environment.get(*name).cloned()).collect();
    Program { command, secrets, temporary }
}

pub(crate) struct Program {
    pub(crate) command: Command,
    secrets: Vec<String>,
    temporary: TempDir,
}

/// A run of the program that is over.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The memory that a running process has now, in KiB, without that of the files that it maps: a debug build's own file is large.
pub(crate) fn resident(id: u32) -> Option<usize> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

impl Program {
    /// Runs the program to its end, and looks for what must never be: secrets in its output, files left behind.
    pub(crate) fn finish(mut self) -> Finished {
        let output = self.command.output().expect("the program");
        self.check(output)
    }

    /// Starts the program, calls `meanwhile` with its process id, and waits for its end. A test that fails meanwhile kills it.
    pub(crate) fn finish_with(mut self, meanwhile: impl FnOnce(u32)) -> Finished {
        let mut child = self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program");
        let id = child.id();
        if let Err(failed) = std::panic::catch_unwind(AssertUnwindSafe(|| meanwhile(id))) {
            child.kill().unwrap();
            child.wait().unwrap();
            std::panic::resume_unwind(failed);
        }
        let output = child.wait_with_output().expect("the program's output");
        self.check(output)
    }

    /// Kills the program as soon as `reached` is true of its stderr so far, which is polled. What it leaves behind is
    /// not checked. Gives its exit code if it ends before that.
    pub(crate) fn kill_when(mut self, reached: impl FnMut(&str) -> bool) -> Option<i32> {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut child = self.command.stdout(Stdio::null()).stderr(log.reopen().unwrap()).spawn().expect("the program");
        if let Some(ended) = ended_before(&mut child, log.path(), reached) {
            return ended.code();
        }
        child.kill().unwrap();
        child.wait().unwrap().code()
    }

    /// Calls `then` with the program's process id as soon as `reached` is true of its stderr so far, which is polled, and
    /// waits for its end, which must not come before.
    pub(crate) fn finish_when(mut self, reached: impl FnMut(&str) -> bool, then: impl FnOnce(u32)) -> Finished {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut child = self.command.stdout(Stdio::piped()).stderr(log.reopen().unwrap()).spawn().expect("the program");
        let ended = ended_before(&mut child, log.path(), reached);
        assert_eq!(ended, None, "it ended before what we wait for:\n{}", read(log.path()));
        then(child.id());
        let output = child.wait_with_output().expect("the program's output");
        self.check(Output { stderr: read(log.path()).into_bytes(), ..output })
    }

    fn check(self, output: Output) -> Finished {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        for secret in self.secrets.iter().map(String::as_str).chain(["X-Amz-Signature=", "X-Amz-Credential=", "bewit="])
        {
            assert!(!stdout.contains(secret) && !stderr.contains(secret), "a secret was printed: {stderr}");
        }
        assert!(!stderr.contains('\r') && !stderr.contains('\u{1b}'), "control characters in a log: {stderr}");
        schemas::check(&self.command, output.status.code(), &stdout, &stderr);
        let left: Vec<_> =
            std::fs::read_dir(self.temporary.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "temporary files are left: {left:?}");
        Finished { code: output.status.code().unwrap_or(-1), stdout, stderr }
    }
}

fn read(log: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(log).unwrap()).into_owned()
}

/// Waits until `reached` is true of the log; gives the program's end if it comes before that.
fn ended_before(child: &mut Child, log: &Path, mut reached: impl FnMut(&str) -> bool) -> Option<ExitStatus> {
    let limit = Instant::now() + Duration::from_mins(2);
    while !reached(&read(log)) {
        if let Some(ended) = child.try_wait().unwrap() {
            return Some(ended);
        }
        if Instant::now() >= limit {
            child.kill().unwrap();
            panic!("what we wait for does not happen:\n{}", read(log));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    None
}

impl Finished {
    /// The one error line, which every failure has exactly once.
    pub(crate) fn error_line(&self) -> &str {
        let lines: Vec<_> =
            self.stderr.lines().filter(|line| line.starts_with("[taskcluster-image-build:error] ")).collect();
        assert_eq!(lines.len(), 1, "expected one error line in:\n{}", self.stderr);
        assert!(lines[0].chars().count() <= 480, "{}", lines[0]);
        let category = lines[0].split(' ').nth(1).unwrap_or_default();
        let expected = match self.code {
            1 => "bug:",
            2 => "configuration:",
            10 => "context:",
            20 => "build:",
            30 => "infra:",
            31 => "refused:",
            32 | 129 | 130 | 143 => "stopped:",
            code => panic!("no failure has the exit code {code}:\n{}", self.stderr),
        };
        assert_eq!(category, expected, "{}", lines[0]);
        lines[0]
    }

    /// Asserts the exit code, and that the error line has all of `words`.
    pub(crate) fn assert_fails(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{}", self.stderr);
        for word in words {
            assert!(self.error_line().contains(word), "{word:?} is not in: {}", self.error_line());
        }
        assert_eq!(self.stdout, "", "stdout is for answers");
    }

    pub(crate) fn assert_succeeds(&self) {
        assert_eq!(self.code, 0, "{}", self.stderr);
        assert!(!self.stderr.contains("[taskcluster-image-build:error]"), "{}", self.stderr);
    }
}
