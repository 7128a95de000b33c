//! A burst of starts whose image is there already, against services that fail for all of them at the same moment, again and
//! again: the retries must not come as one herd. Pauses are compared as the program chose them, which no slow machine changes;
//! of the times at which calls arrive, only what a slow machine cannot break.

use std::time::{Duration, Instant};

use regex::Regex;
use stand_in::{Claim, Fault, StandIn};

use super::indexed::{Indexed, LONG};
use super::section;
use crate::harness::{Finished, Job, PROJECT, Repository, document, program};

/// Starts in a test run; `IMAGE_WORKER_BURST` is another number, and 500 that of the page.
const STARTS: u32 = 40;

/// The pauses that would follow each failure of a call, in milliseconds, if they had no random part.
const PAUSES: [u64; 3] = [500, 1000, 2000];

/// What the storage answers as Retry-After, in seconds.
const RETRY_AFTER: u32 = 2;

/// A call and its retries: those that arrive after one common failure.
struct Round {
    what: String,
    /// Seconds after the failure, in order.
    arrivals: Vec<f64>,
}

impl Round {
    /// The most that arrive within a tenth of a second.
    fn most_at_once(&self) -> usize {
        let within = |from: &f64| self.arrivals.iter().filter(|at| (*from..*from + 0.1).contains(*at)).count();
        self.arrivals.iter().map(within).max().unwrap_or_default()
    }

    fn row(&self) -> String {
        let (first, last) = (self.arrivals[0], self.arrivals[self.arrivals.len() - 1]);
        format!("| {} | {} | {first:.2} to {last:.2} s | {} |", self.what, self.arrivals.len(), self.most_at_once())
    }
}

/// The rounds of a call that all make: after each of so many common failures. The last arrival of a round is its failure.
fn rounds(taskcluster: &StandIn, starts: usize, is_of: impl Fn(&str, &str) -> bool, pauses: &[String]) -> Vec<Round> {
    let mut arrivals: Vec<Instant> =
        taskcluster.calls().iter().filter(|call| is_of(&call.name, &call.path)).map(|call| call.arrived).collect();
    arrivals.sort();
    assert_eq!(arrivals.len(), starts * (pauses.len() + 1), "each call is made once, and once more after each failure");
    let groups: Vec<_> = arrivals.chunks(starts).collect();
    let round = |(group, what): (&[&[Instant]], &String)| {
        let failed = *group[0].last().unwrap();
        let arrivals = group[1].iter().map(|at| at.duration_since(failed).as_secs_f64()).collect();
        Round { what: what.clone(), arrivals }
    };
    groups.windows(2).zip(pauses).map(round).collect()
}

/// The pauses that the starts chose after a failure of this call, in seconds as they are logged.
fn chosen(starts: &[Finished], call: &str) -> Vec<Vec<f64>> {
    let line = Regex::new(&format!("{call} failed, trying again in ([0-9.]+) s")).unwrap();
    let of = |start: &Finished| line.captures_iter(&start.stderr).map(|found| found[1].parse().unwrap()).collect();
    starts.iter().map(of).collect()
}

/// Asserts that pauses are between two limits, in seconds, and that at most half of them are the same tenth of a second.
fn assert_spread(pauses: &[f64], least: f64, most: f64) {
    assert!(pauses.iter().all(|pause| (least - 0.051..=most + 0.051).contains(pause)), "{least} to {most}: {pauses:?}");
    let same = |one: &f64| pauses.iter().filter(|other| (*one - **other).abs() < 0.05).count();
    let largest = pauses.iter().map(same).max().unwrap_or_default();
    assert!(largest <= pauses.len() / 2, "{largest} of {} pauses are the same: {pauses:?}", pauses.len());
}

/// Starts them all at once, and waits for their ends.
fn start(job: &Job, claims: &[Claim]) -> Vec<Finished> {
    let programs = claims.iter().map(|claim| {
        let mut environment = job.environment_of(claim);
        // A call waits until all the others have been made.
        for name in ["IMAGE_WORKER_CALL_TIMEOUT", "IMAGE_WORKER_SILENCE"] {
            environment.insert(name.to_owned(), "300".to_owned());
        }
        program(["run"], environment)
    });
    let programs: Vec<_> = programs.collect();
    std::thread::scope(|threads| {
        let running: Vec<_> = programs.into_iter().map(|program| threads.spawn(|| program.finish())).collect();
        running.into_iter().map(|running| running.join().expect("a start that ends")).collect()
    })
}

#[test]
fn a_burst_of_starts_is_no_herd_when_services_fail() {
    let asked = std::env::var("IMAGE_WORKER_BURST").ok();
    let starts = asked.as_deref().map_or(STARTS, |number| number.parse().expect("IMAGE_WORKER_BURST is a number"));
    let job = Job::new(&Repository::bare("scale-burst", "FROM scratch\n"));
    let taskcluster = &job.taskcluster;
    let image = Indexed { name: job.name.clone(), hash: job.hash.clone(), context: job.hash.clone() };
    image.publish(taskcluster, PROJECT, LONG);
    let claims: Vec<_> = (0..starts).map(|_| taskcluster.create_task(Job::spec(&job.name))).collect();
    taskcluster.set_delay(Duration::from_millis(50));
    taskcluster.clear_calls();
    // Each answers all starts at the same moment, as a service does that is restarted: the worst that can happen.
    for _ in PAUSES {
        taskcluster.fault(Fault::status("findTask", 503).path(".hash.").times(starts).together());
    }
    taskcluster.fault(Fault::status("s3 GET", 429).retry_after(RETRY_AFTER).times(starts).together());
    let ended = start(&job, &claims);
    for end in &ended {
        end.assert_succeeds();
        assert!(end.stderr.contains("nothing was built"), "{}", end.stderr);
    }

    // All pauses as they were chosen: half of the usual one to one and a half; never before a Retry-After.
    let calls = chosen(&ended, "index.findTask");
    assert!(calls.iter().all(|pauses| pauses.len() == PAUSES.len()), "as many retries as failures: {calls:?}");
    for (number, usual) in PAUSES.iter().enumerate() {
        let usual = Duration::from_millis(*usual).as_secs_f64();
        let pauses: Vec<_> = calls.iter().map(|pauses| pauses[number]).collect();
        assert_spread(&pauses, usual / 2.0, usual * 1.5);
    }
    let looks: Vec<_> = chosen(&ended, "looking at the artifact").concat();
    assert_eq!(looks.len(), ended.len());
    let after = f64::from(RETRY_AFTER);
    assert_spread(&looks, after, after * 1.5);

    // The calls as they arrived.
    let starts = ended.len();
    let usual: Vec<_> = PAUSES
        .iter()
        .map(|pause| format!("`findTask`, 503; {} s", Duration::from_millis(*pause).as_secs_f64()))
        .collect();
    let is_look_up = |name: &str, path: &str| name == "findTask" && path.contains(".hash.");
    let mut all = rounds(taskcluster, starts, is_look_up, &usual);
    let last = all.last().unwrap();
    assert!(last.most_at_once() <= starts / 2, "without a random part all come at once: {:?}", last.arrivals);
    let stored = format!("storage GET, 429 with `Retry-After: {RETRY_AFTER}`; {RETRY_AFTER} s");
    all.extend(rounds(taskcluster, starts, |name, _| name == "s3 GET", &[stored]));
    assert!(all.last().unwrap().arrivals[0] >= after, "nobody comes before the time that the server names");
    if asked.is_some() && document::is_written() {
        let heading =
            "| a common failure; the pause without a random part | retries | they arrive after | most in 0.1 s |";
        let mut lines = vec![heading.to_owned(), "| --- | ---: | --- | ---: |".to_owned()];
        lines.extend(all.iter().map(Round::row));
        let total = taskcluster.calls().len();
        let most = taskcluster.most_at_once();
        let words = format!(
            "{starts} starts; {total} requests in total, at most {most} under way at once, with those that wait for a common failure."
        );
        section("burst", &[&[words, String::new()], &lines[..]].concat());
    }
}
