//! The engine dies: a daemon of the test's own is killed in the middle of what it does for the program, or hangs. The
//! program reports that it was the engine, publishes nothing, and the same run works when the engine is there again.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::dockerd::{Dockerd, unnamed};
use super::play::{ARTIFACT, assert_readable_from_the_task, follow_routes};
use super::{document, each, wanted};
use crate::harness::{Job, Program, Repository, path, program};

const HEADING: &str = "| the engine | while | builder | exit | index | started again | index then | the error line |\n\
                       | --- | --- | --- | --- | --- | --- | --- | --- |";

/// How large the image's file is where the engine is to be met while it moves it: that must take long enough.
const LARGE: u64 = 128 << 20;

/// So many bytes mean that something is under way.
const PROGRESS: u64 = 1 << 20;

/// How long the program may take to end when its engine is gone, or back: far below the limit of its cleaning.
const SOON: Duration = Duration::from_secs(45);

/// What the engine does when it is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum While {
    TakesContext,
    Copies,
    RunsStep,
    PreparesExport,
    SendsExport,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// The daemon is killed.
    Killed,
    /// The daemon gets a signal to end, and is started again; its socket is there all the time.
    Restarted,
    /// The daemon hangs, the program gets a signal to stop, and then the daemon goes on.
    Hangs,
    /// The daemon hangs, the program gets a signal to stop, and then the daemon is killed.
    HangsAndDies,
}

#[derive(Clone, Copy, Debug)]
struct Fault {
    how: How,
    at: While,
    builder: &'static str,
}

use How::{Hangs, HangsAndDies, Killed, Restarted};
use While::{Copies, PreparesExport, RunsStep, SendsExport, TakesContext};

fn faults() -> Vec<Fault> {
    let classic = |how, at| Fault { how, at, builder: "classic" };
    let killed = [TakesContext, Copies, RunsStep, PreparesExport, SendsExport].map(|at| classic(Killed, at));
    let hangs = [Restarted, Hangs, HangsAndDies].map(|how| classic(how, RunsStep));
    let buildkit = [Killed, Restarted].map(|how| Fault { how, at: RunsStep, builder: "buildkit" });
    killed.into_iter().chain(hangs).chain(buildkit).collect()
}

impl Fault {
    fn name(self) -> String {
        format!("{} | {} | {}", self.how.words(), self.at.words(), self.builder)
    }

    fn exit_code(self) -> i32 {
        if matches!(self.how, Killed | Restarted) { 30 } else { 143 }
    }
}

impl How {
    fn words(self) -> &'static str {
        match self {
            Killed => "is killed",
            Restarted => "gets SIGTERM, and is started again by systemd's socket",
            Hangs => "hangs; the program gets SIGTERM; the engine goes on",
            HangsAndDies => "hangs; the program gets SIGTERM; the engine is killed",
        }
    }
}

impl While {
    fn words(self) -> &'static str {
        match self {
            TakesContext => "it takes the context",
            Copies => "it copies a large file",
            RunsStep => "it runs a step",
            PreparesExport => "it prepares the export",
            SendsExport => "it sends the export",
        }
    }

    /// Whether the engine is there, or further, by what the program has logged and by what is on the disks.
    fn is_reached(self, log: &str, dockerd: &Dockerd, work: &Path) -> bool {
        match self {
            TakesContext => dockerd.unfinished("docker-builder") > PROGRESS,
            Copies => log.contains(" : COPY . /"),
            RunsStep => log.contains("build | sleeping"),
            PreparesExport => dockerd.unfinished("docker-export") > PROGRESS || unnamed(work) > 0,
            SendsExport => unnamed(work) > PROGRESS,
        }
    }

    /// Whether the engine was no further when it was met, by what the program has logged when all was over.
    fn was_met(self, log: &str) -> bool {
        let next = match self {
            TakesContext => "build | Step 1/",
            Copies => " : ARG PAUSE",
            RunsStep => " : CMD [",
            PreparesExport => "reading a body",
            SendsExport => "public/image.tar: ",
        };
        !log.contains(next)
    }
}

#[test]
fn an_engine_that_dies_is_named_and_the_next_start_works() {
    match Dockerd::start() {
        Ok(dockerd) => dockerd.end(),
        Err(reason) => {
            assert!(std::env::var_os("IMAGE_WORKER_NO_SKIP").is_none(), "{reason}; run this as root");
            eprintln!("SKIPPED: {reason}");
            return;
        }
    }
    let faults: Vec<_> = faults().into_iter().filter(|fault| wanted(&fault.name())).collect();
    let mut lines = vec![HEADING.to_owned()];
    lines.extend(each(&faults, |fault| fault.name(), |fault| play(*fault)));
    document::section("engine", faults.len(), &lines);
}

/// Plays a case. On a busy machine a moment can be missed: then again, with more for the engine to do.
fn play(fault: Fault) -> String {
    let mut attempts = [1, 2, 4, 8].into_iter().map(|times| attempt(fault, times * LARGE));
    attempts.find_map(|row| row).unwrap_or_else(|| panic!("the engine was not met while {}", fault.at.words()))
}

/// Plays a case and asserts all that it expects; gives the row of the table, or none when the engine was further.
fn attempt(fault: Fault, large: u64) -> Option<String> {
    let mut dockerd = if fault.how == Restarted { Dockerd::start_activated() } else { Dockerd::start() }.unwrap();
    let work = TempDir::new().unwrap();
    let (large, pause) = if fault.at == RunsStep { (1, "987654") } else { (large, "0") };
    let job = job(large);
    let started = start(&job, &dockerd, work.path(), fault.builder, pause);
    let mut since = Instant::now();
    let engine = RefCell::new(&mut dockerd);
    let finished = started.finish_when(
        |log| fault.at.is_reached(log, &engine.borrow(), work.path()),
        |id| {
            inject(fault.how, &mut engine.borrow_mut(), id);
            since = Instant::now();
        },
    );
    let took = since.elapsed();
    if !fault.at.was_met(&finished.stderr) {
        eprintln!("the engine was not met while {}: trying again", fault.at.words());
        dockerd.end();
        return None;
    }
    assert!(took < SOON, "the program takes {} s to end:\n{}", took.as_secs(), finished.stderr);
    finished.assert_fails(fault.exit_code(), if fault.exit_code() == 30 { &["the engine "] } else { &["SIGTERM"] });
    job.assert_nothing_published();
    // The record of what could not be removed is in the engine, for the next start.
    assert_eq!(std::fs::read_dir(work.path()).unwrap().count(), 0, "something is left in the task's directory");
    let gone = finished.stderr.matches("what this build left in the engine stays there").count();
    let is_there = matches!(fault.how, Hangs | Restarted);
    assert_eq!(gone, usize::from(!is_there), "logged once, and only of an engine that is gone");

    if !is_there {
        dockerd.start_again().unwrap();
    }
    // What a killed daemon leaves is its own; a daemon that runs has nothing of ours.
    let before = contents(&dockerd);
    assert!(fault.how != Hangs || before.is_empty(), "images and containers are left: {before:?}");
    let again = start(&job, &dockerd, work.path(), fault.builder, "0").finish();
    again.assert_succeeds();
    let own = Some(job.claim.task_id.clone());
    assert_eq!(follow_routes(&job), [own.clone(), own.clone(), own]);
    assert_readable_from_the_task(&job);
    let after = contents(&dockerd);
    assert!(after.is_subset(&before), "images and containers are left: {:?}", after.difference(&before));
    let containers = dockerd.client_output(&["ps", "--all", "--quiet"]);
    assert!(!containers.is_empty() || after.is_empty(), "images that nothing uses are left: {after:?}");
    assert_eq!(std::fs::read_dir(work.path()).unwrap().count(), 0, "something is left");
    assert_runs(&job, &dockerd);
    dockerd.end();
    let (exit, line) = (finished.code, finished.error_line().trim_start_matches("[taskcluster-image-build:error] "));
    Some(format!("| {} | {exit} | nothing | {} | complete | {line} |", fault.name(), again.code))
}

#[test]
fn an_upload_from_the_storage_needs_the_engine_no_more() {
    let mut dockerd = match Dockerd::start() {
        Ok(dockerd) => dockerd,
        Err(reason) => {
            assert!(std::env::var_os("IMAGE_WORKER_NO_SKIP").is_none(), "{reason}; run this as root");
            eprintln!("SKIPPED: {reason}");
            return;
        }
    };
    let work = TempDir::new().unwrap();
    let job = job(LARGE);
    let (held, gate) = stand_in::Fault::held("s3 PUT");
    job.taskcluster.fault(held.path("image.tar"));
    let mut started = start(&job, &dockerd, work.path(), "classic", "0");
    started.command.env("EXPORT", "storage");
    let is_uploading = |_: &str| job.taskcluster.calls().iter().any(|call| call.fault.is_some());
    let finished = started.finish_when(is_uploading, |_| {
        dockerd.kill();
        gate.open();
    });
    finished.assert_succeeds();
    assert!(finished.stderr.contains("what this build left in the engine stays there"), "{}", finished.stderr);
    let own = Some(job.claim.task_id.clone());
    assert_eq!(follow_routes(&job), [own.clone(), own.clone(), own]);
    dockerd.start_again().unwrap();
    assert_runs(&job, &dockerd);
    dockerd.end();
}

/// A job whose image has a large file and a step that takes as long as a build argument sets.
fn job(large: u64) -> Job {
    let steps = "FROM scratch\nCOPY . /\nARG PAUSE\n\
                 RUN [\"/busybox\", \"sh\", \"-c\", \"echo sleeping; /busybox sleep $PAUSE\"]\n\
                 CMD [\"/busybox\", \"echo\", \"hello\"]\n";
    let repository = Repository::bare("engine", steps);
    std::fs::copy("/bin/busybox", repository.directory().join("busybox")).expect("busybox-static; run scripts/test");
    File::create(repository.directory().join("large")).unwrap().set_len(large).unwrap();
    Job::new(&repository)
}

fn start(job: &Job, dockerd: &Dockerd, work: &Path, builder: &str, pause: &str) -> Program {
    let mut environment = job.environment();
    let mut set = |name: &str, value: &str| drop(environment.insert(name.to_owned(), value.to_owned()));
    set("DOCKER_HOST", &dockerd.host());
    set("TASK_WORKDIR", path(work));
    set("IMAGE_WORKER_BUILDER", builder);
    // The daemon of the test has no network, which BuildKit requires.
    set("DOCKER_BUILD_NETWORK", "none");
    // The engine has no part in reading its storage.
    set("EXPORT", "engine");
    set("DOCKER_BUILD_ARGS", &format!("{{\"PAUSE\": \"{pause}\"}}"));
    program(["run"], environment)
}

fn inject(how: How, dockerd: &mut Dockerd, id: u32) {
    match how {
        Killed => return dockerd.kill(),
        Restarted => return dockerd.restart(),
        Hangs | HangsAndDies => {}
    }
    dockerd.stop();
    let talking = sockets(id);
    assert!(Command::new("kill").args(["-TERM", &id.to_string()]).status().unwrap().success());
    // It closes the build's connection in one direction.
    let limit = Instant::now() + SOON;
    while sockets(id) == talking {
        assert!(Instant::now() < limit, "the program does not listen");
        std::thread::sleep(Duration::from_millis(2));
    }
    if how == Hangs { dockerd.go_on() } else { dockerd.kill() }
}

/// The sockets that a process has open, and in which directions.
fn sockets(id: u32) -> BTreeSet<String> {
    let listing = Command::new("ss").args(["--unix", "--all", "--extended", "--processes"]).output().expect("ss");
    let listing = String::from_utf8(listing.stdout).unwrap();
    let ours = listing.lines().filter(|line| line.contains(&format!("pid={id},")));
    // Without how many bytes are under way.
    ours.map(|line| line.split_whitespace().skip(4).collect::<Vec<_>>().join(" ")).collect()
}

/// The ids of all images and containers in the engine.
fn contents(dockerd: &Dockerd) -> BTreeSet<String> {
    let images = dockerd.client_output(&["images", "--all", "--quiet", "--no-trunc"]);
    let containers = dockerd.client_output(&["ps", "--all", "--quiet", "--no-trunc"]);
    images.lines().chain(containers.lines()).map(str::to_owned).collect()
}

/// Asserts that the published image is whole: an engine loads and runs it.
fn assert_runs(job: &Job, dockerd: &Dockerd) {
    let archive = job.taskcluster.artifact_path(&job.claim.task_id, 0, ARTIFACT).expect("an image");
    let loaded = dockerd.client_output(&["load", "--input", path(&archive)]);
    assert!(loaded.ends_with(&format!("Loaded image: {}", job.tag())), "{loaded}");
    assert_eq!(dockerd.client_output(&["run", "--rm", "--network", "none", &job.tag()]), "hello");
}
