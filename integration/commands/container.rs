//! `load --run` and `shell` with the real engine: streams, exit codes, a terminal, a task's environment; and that no container
//! is left.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use stand_in::TaskSpec;

use crate::harness::{
    Finished, Job, Program, Repository, assert_engine_is_clean, docker, docker_output, engine, engine_place, installed,
    long_sleep, program,
};

const BUSYBOX: &str = "/bin/busybox";

/// An image in the engine, with busybox, and a command of its own.
struct Image {
    repository: Repository,
}

impl Image {
    /// None, with a notice, where no engine can build it.
    fn new(name: &str, steps: &str) -> Option<Self> {
        if !engine() {
            return None;
        }
        let image = Self { repository: Repository::new(name, steps) };
        image.program(&["build", name]).finish().assert_succeeds();
        Some(image)
    }

    fn tag(&self) -> String {
        format!("{}:latest", self.repository.name)
    }

    fn program(&self, arguments: &[&str]) -> Program {
        let mut program = program(arguments.iter().copied(), []);
        program.command.current_dir(self.repository.root.path());
        program
    }

    /// `load --run` of a script.
    fn script(&self, arguments: &[&str], script: &str) -> Program {
        let run = ["load", "--local", &self.tag(), "--run"];
        self.program(&[&run, arguments, &["--", BUSYBOX, "sh", "-c", script]].concat())
    }

    fn assert_no_container(&self) {
        assert!(!has_container(&self.repository.name, &["--all"]), "a container is left");
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        docker(&["rmi", &self.tag()]);
        // Podman keeps the images of a local build's steps, which are its cache; children go first.
        while let Some(step) = step_of(&self.repository.name) {
            if !docker(&["rmi", &step]).status.success() {
                return;
            }
        }
    }
}

/// An image without a name and without children that a step of an image's build has left.
fn step_of(name: &str) -> Option<String> {
    let dangling = docker_output(&["images", "--quiet", "--no-trunc", "--filter", "dangling=true"]);
    let is_of_it = |id: &&str| {
        // Another test can remove its own while we look.
        let env = docker(&["inspect", "--format", "{{.Config.Env}}", id]);
        String::from_utf8_lossy(&env.stdout).contains(&format!("TEST={name}"))
    };
    dangling.lines().find(is_of_it).map(str::to_owned)
}

/// Whether there is a container of an image. Podman has no such filter for docker's client.
fn has_container(name: &str, options: &[&str]) -> bool {
    let images = docker_output(&[&["ps", "--format", "{{.Image}}"], options].concat());
    images.lines().any(|image| image.split(':').next() == Some(name))
}

/// Runs the program with this input.
fn with_input(mut program: Program, input: &[u8]) -> Finished {
    let (reader, mut writer) = std::io::pipe().unwrap();
    program.command.stdin(reader);
    let input = input.to_vec();
    // On a thread of its own, as a pipe holds 64 KiB.
    let writing = std::thread::spawn(move || writer.write_all(&input));
    let finished = program.finish();
    writing.join().unwrap().unwrap();
    finished
}

#[test]
fn a_containers_streams_and_its_exit_code_are_the_programs() {
    let Some(image) = Image::new("container-streams", "CMD [\"/bin/busybox\", \"echo\", \"its own command\"]\n") else {
        return;
    };
    let own = image.program(&["load", "--local", &image.tag(), "--run"]).finish();
    own.assert_succeeds();
    assert_eq!(own.stdout, "its own command\n");

    let finished = image.script(&[], "echo out; echo err >&2; exit 7").finish();
    assert_eq!((finished.code, finished.stdout.as_str()), (7, "out\n"), "{}", finished.stderr);
    assert!(finished.stderr.lines().any(|line| line == "err"), "{}", finished.stderr);
    assert!(finished.stderr.contains("the container ended with exit code 7"), "{}", finished.stderr);
    assert!(!finished.stderr.contains("[taskcluster-image-build:error]"), "a command's failure is not the program's");

    // More than any buffer holds; and the end of the input is the container's, too.
    let input = vec![b'x'; 1_000_000];
    let counted = with_input(image.script(&[], "/bin/busybox wc -c"), &input);
    counted.assert_succeeds();
    assert_eq!(counted.stdout.trim(), "1000000");
    let echoed = with_input(image.script(&[], "/bin/busybox cat"), &input);
    assert!(echoed.stdout.as_bytes() == input, "{} bytes came back", echoed.stdout.len());
    image.assert_no_container();
}

#[test]
fn a_container_has_the_volumes_the_variables_and_the_user_that_are_given() {
    let Some(image) = Image::new("container-given", "ENV OF=image\n") else { return };
    std::fs::write(image.repository.root.path().join("note"), "a file of this machine").unwrap();
    let script = "/bin/busybox cat /here/note; echo \" $OF $MORE\"; /bin/busybox id -u; echo x > /here/note";
    let given = ["--volume", ".:/here:ro", "--env", "OF=user", "--env", "MORE=a=b", "--user", "1234"];
    let finished = image.script(&given, script).finish();
    assert_eq!(finished.stdout, "a file of this machine user a=b\n1234\n", "{}", finished.stderr);
    assert_ne!(finished.code, 0, "the volume is for reading only");

    image.program(&["load", "--local", &image.tag(), "--env", "A=b"]).finish().assert_fails(2, &["--env", "add --run"]);
    let command = image.program(&["load", "--local", &image.tag(), "--", "true"]).finish();
    command.assert_fails(2, &["--run"]);
    image.script(&["--json"], "true").finish().assert_fails(2, &["--json and --run"]);
    image.script(&["--volume", "here"], "true").finish().assert_fails(2, &["FROM:PATH"]);
    image.program(&["load"]).finish().assert_fails(2, &["no image is named", "--task"]);
    let missing = image.program(&["shell", "--local", "container-missing:1"]).finish();
    missing.assert_fails(10, &["the engine has no image container-missing:1"]);
    image.assert_no_container();
}

#[test]
fn a_program_that_is_not_there_leaves_no_container() {
    let Some(image) = Image::new("container-nothing", "") else { return };
    let finished = image.program(&["load", "--local", &image.tag(), "--run", "--", "/no/such/program"]).finish();
    // Engines differ in whose fault they say it is.
    assert!([2, 30].contains(&finished.code), "{}", finished.stderr);
    assert!(finished.error_line().contains("the container"), "{}", finished.error_line());
    image.assert_no_container();
}

#[test]
fn a_signal_removes_the_container() {
    let Some(image) = Image::new("container-signal", "") else { return };
    for (signal, code) in [("-TERM", 143), ("-INT", 130)] {
        let finished = image.script(&[], &format!("echo begun; /bin/busybox sleep {}", long_sleep(7)));
        let finished = finished.finish_with(|id| {
            let limit = Instant::now() + Duration::from_mins(2);
            while !has_container(&image.repository.name, &[]) {
                assert!(Instant::now() < limit, "no container runs");
                std::thread::sleep(Duration::from_millis(20));
            }
            assert!(Command::new("kill").args([signal, &id.to_string()]).status().unwrap().success());
        });
        assert_eq!(finished.code, code, "{}", finished.stderr);
        assert!(finished.error_line().contains("while the container runs"), "{}", finished.error_line());
        image.assert_no_container();
    }
}

/// Runs a command line on a terminal, with this typed into it.
fn at_terminal(directory: &Path, command: &str, typed: &str) -> Output {
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", command, "/dev/null"]).current_dir(directory);
    script.envs(engine_place().map(|place| ("DOCKER_HOST", place)));
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_shell_has_a_terminal_of_the_same_size() {
    // util-linux's, and a terminal can only be had with it.
    if !installed("script") {
        return;
    }
    let Some(image) = Image::new("container-terminal", "ENTRYPOINT [\"/bin/busybox\", \"false\"]\n") else { return };
    let directory = image.repository.root.path();
    let program = env!("CARGO_BIN_EXE_image-worker");
    let shell = format!("stty rows 33 cols 111; exec {program} shell --local {}", image.tag());
    // The size comes when the container runs already.
    let typed = "until [ \"$(/bin/busybox stty size)\" = '33 111' ]; do :; done; echo a $((20 + 3)) b; exit 5\n";
    let output = at_terminal(directory, &shell, typed);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("a 23 b"), "{printed}");
    assert_eq!(output.status.code(), Some(5), "{printed}");
    image.assert_no_container();

    // A control character is the container's, and this terminal is as before.
    let command = format!(
        "stty rows 33 cols 111; {program} load --local {} --run --env ENTRY=x -- 2>&1; stty -a | grep -o ' icanon'",
        image.tag()
    );
    let output = at_terminal(directory, &command, "");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("the container ended with exit code 1") && printed.contains(" icanon"), "{printed}");
    image.assert_no_container();
}

#[test]
fn a_shell_without_a_terminal_reads_its_commands() {
    let Some(image) = Image::new("container-shell", "ENTRYPOINT [\"/bin/busybox\", \"false\"]\n") else { return };
    let shell = image.program(&["shell", "--local", &image.tag(), "--env", "WORD=hello"]);
    let finished = with_input(shell, b"echo $WORD\nexit 3\n");
    assert_eq!((finished.code, finished.stdout.as_str()), (3, "hello\n"), "{}", finished.stderr);
    image.assert_no_container();
}

#[test]
fn a_tasks_container_has_its_image_its_environment_and_its_command() {
    let name = "container-task";
    let Some(job) = Job::ready(name, "ENV OF=image\n") else { return };
    job.run().assert_succeeds();
    let image = json!({ "type": "task-image", "taskId": job.claim.task_id, "path": "public/image.tar" });
    let script = "echo $OF $TASK_ID $TASKCLUSTER_CACHES; exit 4";
    let payload = json!({
        "image": image,
        "env": { "OF": "task", "TASKCLUSTER_CACHES": "/cache" },
        "command": [BUSYBOX, "sh", "-c", script],
    });
    let task = job.taskcluster.create_task(TaskSpec::default().property("payload", payload)).task_id;
    let root_url = job.taskcluster.root_url();
    let environment = || [("TASKCLUSTER_ROOT_URL".to_owned(), root_url.clone())];
    let as_task = |arguments: &[&str]| program(arguments.iter().copied(), environment());

    let loaded = as_task(&["load", "--task", &task]).finish();
    loaded.assert_succeeds();
    let tag = loaded.stdout.trim().to_owned();
    assert_eq!(tag, job.tag());
    let run = as_task(&["load", "--task", &task, "--run"]).finish();
    assert_eq!((run.code, run.stdout.as_str()), (4, &*format!("task {task}\n")), "{}", run.stderr);
    // The task's page, and another image with the same environment.
    let page = format!("{root_url}/tasks/{task}");
    let other = program(["load", "--local", &tag, "--task", &page, "--run", "--env", "OF=user"], []).finish();
    assert_eq!((other.code, other.stdout.as_str()), (4, &*format!("user {task}\n")), "{}", other.stderr);
    let shell = with_input(as_task(&["shell", "--task", &task]), b"echo \"$OF\"\n");
    shell.assert_succeeds();
    assert_eq!(shell.stdout, "task\n");
    assert!(shell.stderr.contains(&format!("the task's command: {BUSYBOX} sh -c '{script}'")), "{}", shell.stderr);

    let without = job.taskcluster.create_task(TaskSpec::default().property("payload", json!({}))).task_id;
    as_task(&["shell", "--task", &without]).finish().assert_fails(2, &["runs in no image", "--task"]);
    let unknown = "AAAAAAAAQAqAAAAAAAAAAA";
    as_task(&["shell", "--task", unknown]).finish().assert_fails(2, &["knows no task", unknown]);
    docker_output(&["rmi", &tag]);
    assert_engine_is_clean(name);
}
