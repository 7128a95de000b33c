//! The engine that the program starts by itself, with the real Podman: as this user on this machine, and in the worker image,
//! in a container with as few privileges as can be. However the program ends, nothing of its engine is left.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Job, Program, Repository, docker, docker_output, engine, installed, is_on, path, program};

/// Steps that use what only some formats and isolations keep.
const STEPS: &str = "RUN /bin/busybox mkdir /kept && echo inside > /kept/file && /bin/busybox chown 33:44 /kept/file && \
    /bin/busybox chmod 0 /kept\nHEALTHCHECK CMD true\nONBUILD RUN later\n";

/// A step with a child in a session of its own, which no process waits for; neither ends by itself.
fn endless(seconds: &str) -> String {
    let sleep = format!("/bin/busybox sleep {seconds}");
    format!("RUN /bin/busybox setsid {sleep} & echo started; {sleep}; echo never\n")
}

/// A dry run with an engine of its own.
fn managed(repository: &Repository, more: &[(&str, &str)]) -> Program {
    let mut environment = vec![("PATH".to_owned(), std::env::var("PATH").unwrap_or_default())];
    environment.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    program(job(repository).iter().map(String::as_str), environment)
}

/// The arguments of a dry run with an engine of its own.
fn job(repository: &Repository) -> Vec<String> {
    let (directory, output) = (repository.directory(), output(repository));
    let arguments = ["run", "--dry-run", "--engine", "managed", "--project", "p", "--image-name", &repository.name];
    let places = ["--context", path(&directory), "--output", path(&output)];
    arguments.into_iter().chain(places).map(str::to_owned).collect()
}

fn output(repository: &Repository) -> PathBuf {
    repository.root.path().join("out")
}

/// What processes, mounts and directories there are of an engine in this place, or of a step with this mark.
fn left(place: &Path, mark: &str) -> Vec<String> {
    let mut left = Vec::new();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let words = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        let of_it = words.contains(path(place)) || (!mark.is_empty() && words.ends_with(&format!("sleep {mark} ")));
        if process.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()) && of_it {
            left.push(words);
        }
    }
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    left.extend(mounts.lines().filter(|mount| mount.contains(path(place))).map(str::to_owned));
    let directories = std::fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.path().join("engine"));
    left.extend(directories.filter(|engine| engine.exists()).map(|engine| engine.display().to_string()));
    left
}

fn assert_nothing_is_left(repository: &Repository, mark: &str) {
    assert_eq!(left(&output(repository), mark), [""; 0]);
}

/// Waits until nothing is left, as after a SIGKILL, when no process can wait for the supervisor.
fn wait_until_nothing_is_left(repository: &Repository, mark: &str) {
    let limit = Instant::now() + Duration::from_secs(30);
    while Instant::now() < limit && !left(&output(repository), mark).is_empty() {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_nothing_is_left(repository, mark);
}

fn is_at_the_step(log: &str) -> bool {
    log.contains("build | started")
}

fn signal(name: &str) -> impl FnOnce(u32) {
    move |process| assert!(Command::new("kill").args([name, &process.to_string()]).status().unwrap().success())
}

/// Asserts that `check` accepts an archive, that Docker loads it, and that it is the image of [`STEPS`].
fn assert_is_the_image(archive: &Path, name: &str) {
    let checked = program(["check", path(archive)], []).finish();
    checked.assert_succeeds();
    if !engine() {
        return;
    }
    let loaded = docker_output(&["load", "--quiet", "--input", path(archive)]);
    let tag = loaded.strip_prefix("Loaded image: ").unwrap_or_else(|| panic!("{loaded}")).to_owned();
    assert!(tag.starts_with(&format!("{name}:")), "{tag}");
    let config: Value =
        serde_json::from_str(&docker_output(&["inspect", "--format", "{{json .Config}}", &tag])).unwrap();
    let listing = docker_output(&["run", "--rm", "--network", "none", &tag, "/bin/busybox", "ls", "-ln", "/kept"]);
    docker_output(&["rmi", &tag]);
    assert_eq!(config["Healthcheck"]["Test"], serde_json::json!(["CMD-SHELL", "true"]));
    assert_eq!(config["OnBuild"], serde_json::json!(["RUN later"]));
    assert!(listing.contains(" 33 ") && listing.contains(" 44 "), "{listing}");
}

#[test]
fn a_job_has_an_engine_of_its_own() {
    if !installed("podman") {
        return;
    }
    let repository = Repository::new("managed-job", STEPS);
    let finished = managed(&repository, &[]).finish();
    finished.assert_succeeds();
    assert!(finished.stderr.contains("our own at unix://"), "{}", finished.stderr);
    assert_nothing_is_left(&repository, "");
    let mut names: Vec<_> =
        std::fs::read_dir(output(&repository)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let numbers = ["layer-cache.json", "layers.json", "perfherder-data-image-build.json"];
    let expected =
        [&[".gitignore", "build.log", "image.tar"][..], &numbers, &["provenance.json", "publish.json", "report.html"]]
            .concat();
    assert_eq!(names, expected);
    assert_is_the_image(&output(&repository).join("image.tar"), "managed-job");
}

#[test]
fn a_failing_step_is_logged_as_by_any_engine() {
    if !installed("podman") {
        return;
    }
    let repository = Repository::new("managed-failing", "RUN echo it is broken && exit 7\n");
    let finished = managed(&repository, &[]).finish();
    finished.assert_fails(20, &["step 5/5", "exit code 7", "its last line: it is broken"]);
    assert_nothing_is_left(&repository, "");
}

#[test]
fn a_managed_engine_takes_a_parent() {
    if !installed("podman") || !engine() {
        return;
    }
    let mut parent = Job::new(&Repository::new("managed-parent", "RUN echo managed-inherited > /inherited\n"));
    let env = serde_json::json!({ "IMAGE_NAME": "managed-parent", "HASH": parent.hash, "PROJECT": "mozilla-central" });
    let payload = serde_json::json!({ "env": env });
    parent.claim = parent.taskcluster.create_task(Job::spec("managed-parent").property("payload", payload));
    parent.run().assert_succeeds();
    let task = parent.claim.task_id;
    let child =
        "FROM $DOCKER_IMAGE_PARENT\nSHELL [\"/bin/busybox\", \"sh\", \"-c\"]\nRUN /bin/busybox cat /inherited\n";
    let job = Job::on(parent.taskcluster, &Repository::bare("managed-child", child));
    let path = std::env::var("PATH").unwrap_or_default();
    let finished =
        job.run_with([("PARENT_TASK_ID", task.as_str()), ("IMAGE_WORKER_ENGINE", "managed"), ("PATH", &path)]);
    finished.assert_succeeds();
    assert!(finished.stderr.contains("build | managed-inherited\n"), "{}", finished.stderr);
}

#[test]
fn a_stopped_program_takes_its_engine_along() {
    if !installed("podman") {
        return;
    }
    let repository = Repository::new("managed-stopped", &endless("86401"));
    let finished = managed(&repository, &[]).finish_when(is_at_the_step, signal("-TERM"));
    finished.assert_fails(143, &["SIGTERM while building"]);
    assert_nothing_is_left(&repository, "86401");
}

#[test]
fn a_killed_program_takes_its_engine_along() {
    if !installed("podman") {
        return;
    }
    let repository = Repository::new("managed-killed", &endless("86402"));
    let running = std::cell::RefCell::new(Vec::new());
    let ended = managed(&repository, &[]).kill_when(|log| {
        let reached = is_at_the_step(log);
        if reached {
            running.replace(left(&output(&repository), "86402"));
        }
        reached
    });
    assert_eq!(ended, None);
    assert!(running.borrow().len() > 3, "the supervisor, the service, a step and its child: {running:?}");
    wait_until_nothing_is_left(&repository, "86402");

    // What is left is files, which the next start there removes.
    std::fs::write(repository.directory().join("Dockerfile"), "FROM scratch\nCOPY busybox /bin/busybox\n").unwrap();
    managed(&repository, &[]).finish().assert_succeeds();
    let names = std::fs::read_dir(output(&repository)).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().starts_with(".image-worker-")));
}

#[test]
fn the_next_start_removes_an_engine_whose_supervisor_was_killed_too() {
    if !installed("podman") {
        return;
    }
    let repository = Repository::new("managed-orphan", &endless("86403"));
    let kill_both = |process: u32| {
        let supervisor = Command::new("pgrep").args(["--parent", &process.to_string()]).output().unwrap().stdout;
        let supervisor = String::from_utf8(supervisor).unwrap();
        let both = Command::new("kill").args(["-KILL", &process.to_string(), supervisor.trim()]).status().unwrap();
        assert!(both.success());
    };
    // As `kill_when` does, whatever is left behind: nothing removes it.
    let directory = tempfile::tempdir().unwrap();
    let mut command = managed(&repository, &[]).command;
    let log = std::fs::File::create(directory.path().join("log")).unwrap();
    let mut child = command.env("TMPDIR", directory.path()).stderr(log).stdout(Stdio::null()).spawn().unwrap();
    let limit = Instant::now() + Duration::from_mins(2);
    while !is_at_the_step(&std::fs::read_to_string(directory.path().join("log")).unwrap()) {
        assert!(Instant::now() < limit && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(2));
    }
    kill_both(child.id());
    child.wait().unwrap();
    assert!(left(&output(&repository), "").iter().any(|left| left.ends_with("/engine")), "its files are there");
    std::fs::write(repository.directory().join("Dockerfile"), "FROM scratch\nCOPY busybox /bin/busybox\n").unwrap();
    managed(&repository, &[]).finish().assert_succeeds();
    wait_until_nothing_is_left(&repository, "86403");
}

/// Where root may not raise its limits, as in most containers. The program runs in the Debian that Podman 5 is from.
#[test]
fn podman_5_gives_steps_the_limits_that_there_are() {
    if !is_on("podman-5") || !engine() {
        return;
    }
    let repository = Repository::new("managed-limits", "RUN echo \"files: $(ulimit -Hn)\"\n");
    let directory = repository.root.path();
    std::fs::copy(env!("CARGO_BIN_EXE_image-worker"), directory.join("image-worker")).unwrap();
    let engine_root = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/engine-root");
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-sys_resource", "--inh-caps=-sys_resource", "prlimit", "--nofile=1024:20000"]);
    command.arg(engine_root).arg(directory).arg(directory.join("image-worker")).args(job(&repository));
    let path = std::env::var_os("PATH").map(|path| ("PATH", path));
    let output = command.env_clear().envs(path).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && log.contains("build | files: 20000\n"), "{log}");
}

#[test]
fn what_a_managed_engine_cannot_do_is_refused() {
    let repository = Repository::new("managed-refused", "RUN true\n");
    let finished = managed(&repository, &[("PATH", "/nonexistent")]).finish();
    finished.assert_fails(2, &["no `podman` on PATH", "install it"]);
    if installed("podman") {
        let finished = managed(&repository, &[("DOCKER_BUILD_NETWORK", "none")]).finish();
        finished.assert_fails(2, &["DOCKER_BUILD_NETWORK=none", "set it to host"]);
    }
    let finished = managed(&repository, &[("IMAGE_WORKER_SHELL", "1")]).finish();
    finished.assert_fails(2, &["--shell", "name another with --engine"]);
    for subcommand in [&["build", "nosuch"][..], &["push", "nosuch"], &["load", "--file", "nosuch", "--tag", "a:b"]] {
        let finished = program(subcommand.iter().copied().chain(["--engine", "managed"]), []).finish();
        finished.assert_fails(2, &["gone with its job"]);
    }
}

/// The options of an unprivileged container in which a managed engine works; docs/engines.md has the reasons.
const FEWEST: [&str; 7] = [
    "--cap-drop=ALL",
    "--cap-add=SETUID",
    "--cap-add=SETGID",
    "--security-opt=seccomp=unconfined",
    "--user=1000",
    "--network=none",
    "--rm",
];

/// The worker image, made once; its name, or why there is none.
static WORKER_IMAGE: LazyLock<String> = LazyLock::new(|| worker_image("12"));

/// The worker image of a release of Debian; its name.
fn worker_image(debian: &str) -> String {
    let tag = format!("image-worker-test:worker-{debian}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let based = Command::new(root.join("scripts/base-image")).arg(format!("debian:{debian}")).output().unwrap();
    assert!(based.status.success(), "{}", String::from_utf8_lossy(&based.stderr));
    // The tested program is mounted over the one in it: a debug build is too large for the image's limit.
    let arguments = ["--debian", debian, "--binary", "/bin/busybox", &tag];
    let made = Command::new(root.join("scripts/worker-image")).args(arguments).output().expect("scripts/worker-image");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    tag
}

/// Runs the program in a container with these options, which writes into `out`.
fn contained(repository: &Repository, image: &str, options: &[&str]) -> Output {
    let volume = |from: &Path, to: &str| format!("--volume={}:{to}", from.display());
    let binary = volume(Path::new(env!("CARGO_BIN_EXE_image-worker")), "/usr/local/bin/image-worker:ro");
    let repository_there = volume(repository.root.path(), "/repository:ro");
    let context = format!("/repository/testing/docker/{}", repository.name);
    let job = ["run", "--dry-run", "--context", &context, "--image-name", &repository.name, "--project=p"];
    let name = format!("image-worker-test-{}", repository.name);
    let out = output(repository);
    std::fs::create_dir_all(&out).unwrap();
    let writable = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&out, writable).unwrap();
    for directory in [repository.root.path().to_owned(), repository.directory()] {
        std::fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let arguments: Vec<&str> = [&["run", "--name", &name, &binary, &repository_there][..], options].concat();
    let volume = volume(&out, "/out");
    let arguments = [&arguments[..], &[&volume, image], &job[..], &["--output=/out"]].concat();
    docker(&arguments)
}

#[test]
fn an_unprivileged_container_builds() {
    if !engine() {
        return;
    }
    assert_builds("managed-contained", &WORKER_IMAGE, "Podman 4.");
}

#[test]
fn so_does_one_with_podman_5() {
    if !engine() {
        return;
    }
    assert_builds("managed-contained-13", &worker_image("13"), "Podman 5.");
}

/// Asserts that an unprivileged container of a worker image builds, with this Podman.
fn assert_builds(name: &str, image: &str, podman: &str) {
    let repository = Repository::new(name, STEPS);
    let ended = contained(&repository, image, &FEWEST);
    let log = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success(), "{log}");
    assert!(log.contains("no engine answers") && log.contains("our own at unix://"), "{log}");
    assert!(log.contains(podman), "{log}");
    assert_is_the_image(&output(&repository).join("image.tar"), name);
    assert_nothing_is_left(&repository, "");
}

#[test]
fn without_an_option_a_container_gets_an_error_that_names_it() {
    if !engine() {
        return;
    }
    for (number, taken, given, words) in [
        (1, "--security-opt=seccomp=unconfined", "--rm", "--security-opt seccomp=unconfined"),
        (2, "--cap-add=SETUID", "--rm", "--cap-add SETUID --cap-add SETGID"),
        (3, "--rm", "--security-opt=no-new-privileges", "without --security-opt no-new-privileges"),
        (4, "--user=1000", "--user=1001", "the line `1001:100000:65536`"),
    ] {
        let repository = Repository::new(&format!("managed-lacking-{number}"), "RUN true\n");
        let mut options: Vec<_> = FEWEST.into_iter().filter(|option| *option != taken && *option != "--rm").collect();
        options.push("--rm");
        options.extend((given != "--rm").then_some(given));
        let finished = contained(&repository, &WORKER_IMAGE, &options);
        let log = String::from_utf8_lossy(&finished.stderr).into_owned();
        assert_eq!(finished.status.code(), Some(30), "{log}");
        let line =
            log.lines().find(|line| line.starts_with("[taskcluster-image-build:error] ")).expect("an error line");
        assert!(line.contains(words), "{line}");
    }
}

/// What the error line names is what was missing, and nothing else was. docs/engines.md has the reasons.
#[test]
fn a_default_container_needs_the_one_option_of_the_error() {
    if !engine() {
        return;
    }
    for user in ["--user=0", "--user=1000"] {
        let repository = Repository::new(&format!("managed-default{}", user.replace("--user=", "-")), "RUN true\n");
        let default = [user, "--network=none", "--rm"];
        let finished = contained(&repository, &WORKER_IMAGE, &default);
        let log = String::from_utf8_lossy(&finished.stderr).into_owned();
        assert_eq!(finished.status.code(), Some(30), "{log}");
        let line = log.lines().find(|line| line.starts_with("[taskcluster-image-build:error] ")).expect(&log);
        let option = "--security-opt seccomp=unconfined";
        assert!(line.contains(option), "{line}");

        let given = option.replace(' ', "=");
        let finished = contained(&repository, &WORKER_IMAGE, &[&default[..], &[given.as_str()]].concat());
        assert!(finished.status.success(), "{}", String::from_utf8_lossy(&finished.stderr));
    }
}
