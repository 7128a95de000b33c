//! SIGKILL, which leaves no time to clean up: at every stage, found by what the program has requested or logged, and at
//! random moments. A second start and a rerun must end as if nothing had happened, and leave nothing of the killed one.

use std::path::Path;
use std::time::{Duration, Instant};

use stand_in::{Claim, Fault};
use tempfile::TempDir;

use super::leftovers::records_of;
use super::play::{assert_engine_is_clean, assert_readable_from_the_task, follow_routes, follow_runs, job, job_from};
use super::{AT_ONCE, each};
use crate::harness::{Finished, Job, engine, path, program};

pub(super) const HEADING: &str = "| killed | storage | index then | second start | index then | rerun | index then |\n\
                                  | --- | --- | --- | --- | --- | --- | --- |";

/// A kill point.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kill {
    storage: &'static str,
    at: At,
    /// Exit code of the same run's second start.
    second: i32,
}

#[derive(Clone, Copy, Debug)]
enum At {
    /// While the program waits for an answer: call, part of its path, how many such calls come before.
    Before(&'static str, &'static str, u32),
    /// The same, but the service has done the work.
    After(&'static str, &'static str, u32),
    /// When the program has logged this.
    Logged(&'static str),
}

use At::{After, Before, Logged};

pub(super) fn kills() -> Vec<Kill> {
    let s3 = [
        Before("findTask", "", 0),
        Before("task", "", 0),
        Before("getLatestArtifact", "", 0),
        Before("s3 GET", "docker-contexts", 0),
        Logged("hash HASH (scheme tar), verified"),
        Logged("building IMAGE"),
        Logged("---> Running in"),
        Logged("built sha256:"),
        Logged("the image is read from the engine's storage"),
        Before("createArtifact", "build.log", 0),
        After("s3 PUT", "build.log", 0),
        Before("createArtifact", "image.tar", 0),
        After("createArtifact", "image.tar", 0),
        Before("s3 PUT", "image.tar", 0),
        After("s3 PUT", "image.tar", 0),
        After("createArtifact", "provenance.json", 0),
        After("s3 PUT", "provenance.json", 0),
        Before("getArtifact", "image.tar", 0),
        Before("s3 GET", "image.tar", 0),
        Before("insertTask", "", 0),
        After("insertTask", "", 0),
        Before("findTask", "", 1),
        After("insertTask", "", 1),
        After("insertTask", "", 2),
    ];
    // What was created through the object service can be neither created again nor gone on with by a second start of
    // the same run, unless it was indexed; a rerun, which is what workers do, can.
    let object = [
        (Before("createArtifact", "image.tar", 0), 0),
        (After("createArtifact", "build.log", 0), 0),
        (After("createArtifact", "image.tar", 0), 30),
        (After("createUpload", "image.tar", 0), 30),
        (After("s3 PUT", "image.tar", 0), 30),
        (After("finishUpload", "image.tar", 0), 30),
        (After("finishArtifact", "image.tar", 0), 30),
        (After("createArtifact", "provenance.json", 0), 30),
        (After("insertTask", "", 0), 0),
        (After("insertTask", "", 2), 0),
    ];
    let s3 = s3.into_iter().map(|at| Kill { storage: "s3", at, second: 0 });
    s3.chain(object.into_iter().map(|(at, second)| Kill { storage: "object", at, second })).collect()
}

impl Kill {
    pub(super) fn name(&self) -> String {
        let number = |before: u32| ["", ", the second", ", the third"][before as usize];
        match self.at {
            Before(call, part, before) => format!("before {call}{}{}", of(part), number(before)),
            After(call, part, before) => format!("after {call}{}{}", of(part), number(before)),
            Logged(words) => format!("when it says \"{words}\""),
        }
    }

    /// The fault that holds the program at its point, if it waits for an answer there.
    fn hold(&self) -> Option<Fault> {
        match self.at {
            Before(call, part, before) => Some(Fault::hang(call).path(part).skip(before)),
            After(call, part, before) => Some(Fault::stall(call).path(part).skip(before)),
            Logged(_) => None,
        }
    }
}

fn of(part: &str) -> String {
    if part.is_empty() { String::new() } else { format!(" of {part}") }
}

/// Kills, starts again, reruns; asserts what must hold after each. Gives the row of the table.
pub(super) fn play(kill: &Kill) -> String {
    // A step with a command, so that there is a moment in which one runs.
    let steps = "COPY busybox /busybox\nRUN [\"/busybox\", \"sleep\", \"0.3\"]\n";
    let job = job_with_busybox("killed", steps);
    let work = TempDir::new().unwrap();
    let start = |claim: &Claim| {
        let mut environment = job.environment_of(claim);
        let mut set = |name: &str, value: &str| drop(environment.insert(name.to_owned(), value.to_owned()));
        set("ARTIFACT_STORAGE", kill.storage);
        set("IMAGE_WORKER_TRIES", "2");
        set("TASK_WORKDIR", path(work.path()));
        program(["run"], environment)
    };
    kill.hold().into_iter().for_each(|fault| job.taskcluster.fault(fault));
    let ended = start(&job.claim).kill_when(|log| match kill.at {
        Logged(words) => log.contains(&words.replace("IMAGE", &job.name).replace("HASH", &job.hash)),
        // The work of a call that never answers is done at once, but not in no time.
        Before(..) | After(..) => {
            let held = job.taskcluster.calls().iter().any(|call| call.fault.is_some());
            held && {
                std::thread::sleep(Duration::from_millis(50));
                true
            }
        }
    });
    assert_eq!(ended, None, "the program ended before it was killed");
    job.taskcluster.clear_faults();
    let first = index(&job);

    let second = start(&job.claim).finish();
    assert_eq!(second.code, kill.second, "{}", second.stderr);
    assert_nothing_is_left(&job, work.path(), &second);
    let then = index(&job);
    if second.code == 0 {
        assert_eq!(then, "complete");
        assert_readable_from_the_task(&job);
    } else {
        let built = second.stderr.contains("building ");
        assert!(!built, "built although it cannot be uploaded: {}", second.error_line());
    }

    let rerun = job.taskcluster.rerun(&job.claim.task_id);
    let third = start(&rerun).finish();
    third.assert_succeeds();
    let end = index(&job);
    assert_eq!(end, "complete");
    assert_readable_from_the_task(&job);
    assert_nothing_is_left(&job, work.path(), &third);
    format!("| {} | {} | {first} | {} | {then} | {} | {end} |", kill.name(), kill.storage, second.code, third.code)
}

pub(super) fn job_with_busybox(name: &str, steps: &str) -> Job {
    job_from_with_busybox("scratch", name, steps)
}

pub(super) fn job_from_with_busybox(base: &str, name: &str, steps: &str) -> Job {
    let (repository, _) = job_from(base, name, steps);
    std::fs::copy("/bin/busybox", repository.directory().join("busybox")).expect("busybox-static; run scripts/test");
    Job::new(&repository)
}

/// Asserts that a start has removed what the killed one left: images, containers, directories, files.
pub(super) fn assert_nothing_is_left(job: &Job, work: &Path, start: &Finished) {
    let left: Vec<_> = std::fs::read_dir(work).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "left in the task's directory: {left:?}\n{}", start.stderr);
    assert_engine_is_clean(&job.name);
    assert_eq!(records_of(job), [""; 0], "left in the engine\n{}", start.stderr);
}

/// How the index stands; all that it leads to is right.
fn index(job: &Job) -> String {
    match follow_routes(job).iter().flatten().count() {
        0 => "nothing".to_owned(),
        3 => "complete".to_owned(),
        routes => format!("the first {routes}"),
    }
}

/// A run that failed between two inserts and is started again must not put another image behind the first route, not
/// even when it fails again.
#[test]
fn a_second_start_leaves_what_is_indexed_as_it_is() {
    if !engine() {
        return;
    }
    let (_repository, job) = job("again", "");
    let fails = [("IMAGE_WORKER_TRIES", "1")];
    job.taskcluster.fault(Fault::status("insertTask", 500).skip(1));
    job.run_with(fails).assert_fails(30, &["pushdate"]);
    assert_eq!(index(&job), "the first 1");
    job.taskcluster.clear_calls();
    job.taskcluster.fault(Fault::status("insertTask", 500));
    job.run_with(fails).assert_fails(30, &["latest"]);
    assert_eq!(index(&job), "the first 1");
    let third = job.run_with(fails);
    third.assert_succeeds();
    assert!(third.stderr.contains("of an earlier start of this run has all its routes now"), "{}", third.stderr);
    assert_eq!(index(&job), "complete");
    assert!(job.call_names().iter().all(|call| call != "s3 PUT"), "it was uploaded again");
    assert_engine_is_clean(&job.name);
}

/// For scripts/kill-and-restart, which sets how often, and from which seed.
#[test]
#[ignore = "takes minutes; scripts/kill-and-restart runs it"]
fn kill_and_restart() {
    assert!(engine(), "no engine answers: run scripts/engine");
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().expect(name));
    let (count, seed) = (number("KILL_COUNT", 20), number("KILL_SEED", 1));
    // How long a run takes that is not killed, in parallel with others; the others are killed before that.
    let undisturbed: Vec<_> = (0..18).collect();
    let whole = each(&undisturbed, ToString::to_string, |_| undisturbed_run()).into_iter().sum::<Duration>() / 18;
    println!("{count} runs, seed {seed}, killed within {} ms", whole.as_millis());
    let started = Instant::now();
    let runs: Vec<u64> = (0..count).collect();
    let finished = each(&runs, |run| format!("run {run} of seed {seed}"), |run| kill_somewhen(seed, *run, whole));
    let took = started.elapsed();
    // What one start has found another may be removing at this moment: the last start of all finds the rest.
    undisturbed_run();
    for run in &finished {
        assert_engine_is_clean(&run.name);
    }
    let killed: Vec<_> = finished.iter().flat_map(|run| &run.kills).collect();
    let found = |routes: &[usize]| killed.iter().filter(|found| routes.contains(found)).count();
    println!(
        "{count} of {count} runs ended with a right index and left nothing: {} kills ({} before the first route was there, {} between the \
         first and the last, {} after it), {} starts, seed {seed}, {AT_ONCE} at a time, {} s; a third each killed only, with the folder \
         removed, and cancelled",
        killed.len(),
        found(&[0]),
        found(&[1, 2]),
        found(&[3]),
        finished.iter().map(|run| run.starts).sum::<u32>(),
        took.as_secs()
    );
}

/// How many calls a run makes, about.
const CALLS: u64 = 30;

fn undisturbed_run() -> Duration {
    let (_repository, job) = job("measured", "");
    let started = Instant::now();
    job.run().assert_succeeds();
    assert_engine_is_clean(&job.name);
    started.elapsed()
}

/// What happens to a job that is killed somewhen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is killed, and started again in the same directory.
    Killed,
    /// The same, but the worker removes the directory, and the next start has another.
    DirectoryRemoved,
    /// The queue cancels the task; the worker notices, and kills it. The next start is of another task.
    Cancelled,
}

/// Kills a job up to three times, each at a random moment, and starts it again until it succeeds: the same run, a rerun, or
/// another task. Half of the moments are spread over the time that a run takes, most of which is the build; the others over its
/// calls, most of which publish. Gives how many routes there were after each kill, and the number of starts.
fn kill_somewhen(seed: u64, run: u64, whole: Duration) -> Somewhen {
    let mut random = Random(seed.wrapping_mul(1_000_003).wrapping_add(run));
    let fate = [Fate::Killed, Fate::DirectoryRemoved, Fate::Cancelled][usize::try_from(run % 3).unwrap()];
    let (_repository, mut job) = job("somewhen", "");
    let mut work = TempDir::new().unwrap();
    let start = |job: &Job, work: &Path| {
        let directory = ("TASK_WORKDIR".to_owned(), path(work).to_owned());
        program(["run"], job.environment().into_iter().chain([directory]))
    };
    let (mut kills, mut starts) = (Vec::new(), 0);
    for _ in 0..=random.below(3) {
        starts += 1;
        let moment = Duration::from_millis(random.below(u64::try_from(whole.as_millis()).unwrap() * 5 / 4));
        let (by_calls, calls) = (random.below(2) == 0, usize::try_from(random.below(CALLS)).unwrap());
        let a_little = Duration::from_millis(random.below(20));
        let notices = Duration::from_millis(random.below(200));
        job.taskcluster.clear_calls();
        let (started, mut called, mut cancelled) = (Instant::now(), None, None);
        let reached = |_: &str| {
            if let Some(cancelled) = cancelled {
                return Instant::elapsed(&cancelled) >= notices;
            }
            if by_calls && called.is_none() && job.taskcluster.calls().len() > calls {
                called = Some(Instant::now());
            }
            let reached = if by_calls {
                called.is_some_and(|called| Instant::elapsed(&called) >= a_little)
            } else {
                started.elapsed() >= moment
            };
            if reached && fate == Fate::Cancelled {
                job.taskcluster.cancel(&job.claim.task_id);
                cancelled = Some(Instant::now());
                return false;
            }
            reached
        };
        match start(&job, work.path()).kill_when(reached) {
            None => kills.push(follow_runs(&job).iter().flatten().count()),
            Some(0) if cancelled.is_none() => break,
            // It has published before it was cancelled, or has noticed.
            Some(0 | 31) if cancelled.is_some() => {}
            Some(code) => panic!("exit {code} without a fault"),
        }
        if fate != Fate::Killed {
            work = TempDir::new().unwrap();
        }
        if fate == Fate::Cancelled {
            job.claim = job.taskcluster.create_task(Job::spec(&job.name));
        } else if random.below(2) == 0 {
            job.claim = job.taskcluster.rerun(&job.claim.task_id);
        }
    }
    starts += 1;
    let last = start(&job, work.path()).finish();
    last.assert_succeeds();
    assert!(follow_routes(&job).iter().all(Option::is_some), "a route is missing");
    assert_readable_from_the_task(&job);
    assert_eq!(std::fs::read_dir(work.path()).unwrap().count(), 0, "something is left in the task's directory");
    Somewhen { name: job.name.clone(), kills, starts }
}

/// What came of a job that was killed somewhen.
struct Somewhen {
    name: String,
    kills: Vec<usize>,
    starts: u32,
}

/// `SplitMix64`: the same moments for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }
}
