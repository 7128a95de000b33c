//! The layer cache: a push that changes only the last step of an image with an expensive one, built with the image of the
//! push before it and without. What makes a cache hit is tested elsewhere.

use std::cell::RefCell;
use std::collections::BTreeSet;

use regex::Regex;
use serde_json::Value;
use stand_in::{Options, StandIn};

use super::measure::{Cost, Environment, ours};
use super::place::Engine;
use super::scale::Scale;
use super::table::{Section, Table, Way};
use crate::harness::{Builder, Job, Repository};

/// More than there are steps.
const DEEPEST: u32 = 8;

/// On all three builders.
pub(super) fn section(scale: &Scale) -> Section {
    let (mut ratios, mut costs) = (Table::ratios(Way::Speed), Table::costs());
    for builder in [Builder::Docker, Builder::BuildKit, Builder::Podman] {
        let engine = Engine::of(builder);
        let image = Pushed::new(&engine, scale);
        image.push("0", "latest");
        let (mut pairs, mut spent, mut steps) = (Vec::new(), Vec::new(), String::new());
        for round in 1..=scale.rounds {
            let without = image.push(&format!("{round} without"), "off");
            let with = image.push(&format!("{round} with"), "latest");
            let (cached, of) = with.1.expect("the log has how many steps came from the cache");
            assert!(cached > 0, "none of {of} steps came from the cache");
            steps = format!("{cached} of {of}");
            let (with, without) = (with.0, without.0);
            pairs.push((with.seconds, without.seconds));
            spent.push(with);
        }
        let what = format!("`CACHE_FROM=latest`, {}, {steps} steps from the cache", engine.name());
        ratios.ratio((&what, "`CACHE_FROM=off`"), &pairs, Some(5.0));
        costs.cost(&what, &spent, None);
    }
    let words = format!(
        "Whole jobs of one image on a stand-in, push after push: an early step makes {} MiB and reads them {} times, the last \
         one copies a file that each push changes. With `latest` the image of the push before is downloaded, verified \
         and loaded. Each job removes its image from the engine, so that nothing of another push is there; of BuildKit's own \
         cache the records of all these steps, which have a file name of their own, are removed before each job.",
        scale.step, scale.step_reads
    );
    Section { words, tables: vec![ratios, costs] }
}

/// An image that is pushed again and again.
struct Pushed<'e> {
    engine: &'e Engine,
    /// Where is pushed what is built with a cache, and what is built without: only a build with a cache leaves one.
    with: RefCell<Option<StandIn>>,
    without: RefCell<Option<StandIn>>,
    repository: Repository,
    /// In the description of each step's record in `BuildKit`'s cache.
    mark: String,
}

impl<'e> Pushed<'e> {
    fn new(engine: &'e Engine, scale: &Scale) -> Self {
        let mark = format!("bench-cache-{}", std::process::id());
        let dockerfile = format!(
            "FROM scratch\nCOPY {mark} /bin/busybox\nRUN [\"/bin/busybox\", \"sh\", \"-c\", \"\
             /bin/busybox dd if=/dev/urandom of=/{mark} bs=1M count={}; \
             for i in $(/bin/busybox seq {}); do /bin/busybox sha256sum /{mark}; done\"]\nCOPY {mark}-last /last\n",
            scale.step, scale.step_reads
        );
        let repository = Repository::bare("bench-cache", &dockerfile);
        let busybox = std::fs::copy("/bin/busybox", repository.directory().join(&mark));
        busybox.expect("busybox-static; run scripts/packages");
        let taskcluster = || RefCell::new(Some(StandIn::start(Options::default())));
        Self { engine, with: taskcluster(), without: taskcluster(), repository, mark }
    }

    /// Changes the last step's file, and lets a task build and publish. Gives what it took, and how many steps of how many
    /// came from the cache.
    fn push(&self, last: &str, cache: &str) -> (Cost, Option<(u32, u32)>) {
        std::fs::write(self.repository.directory().join(format!("{}-last", self.mark)), last).unwrap();
        self.clear_cache();
        let stand_in = if cache == "latest" { &self.with } else { &self.without };
        let taskcluster = stand_in.take().expect("a stand-in");
        let job = Job::on(taskcluster, &self.repository);
        let mut environment: Environment = self.engine.environment();
        environment.extend(job.environment());
        environment.insert("CACHE_FROM".to_owned(), cache.to_owned());
        let what = format!("push {last}, CACHE_FROM={cache}, {}", self.engine.name());
        let (cost, finished) = ours(&what, &["run"], &environment);
        stand_in.replace(Some(job.taskcluster));
        let line = Regex::new(r"(\d+) of (\d+) steps from the cache").unwrap();
        let steps = line.captures(&finished.stderr);
        (cost, steps.map(|steps| (steps[1].parse().unwrap(), steps[2].parse().unwrap())))
    }

    /// Takes our steps out of `BuildKit`'s cache, one by one: others build there too.
    fn clear_cache(&self) {
        if self.engine.builder != Builder::BuildKit {
            return;
        }
        // A record that others stand on cannot go before them: the last ones first, look after look.
        for _ in 0..DEEPEST {
            let used: Value = serde_json::from_str(&self.engine.get("/system/df")).expect("JSON");
            let records = used["BuildCache"].as_array().cloned().unwrap_or_default();
            let text = |record: &Value, key: &str| record[key].as_str().unwrap_or_default().to_owned();
            let marked = |record: &&Value| text(record, "Description").contains(&self.mark);
            let mut ours: BTreeSet<_> = records.iter().filter(marked).map(|record| text(record, "ID")).collect();
            if ours.is_empty() {
                return;
            }
            // And what stands on our steps.
            for _ in 0..DEEPEST {
                let above = records.iter().filter(|record| ours.contains(&text(record, "Parent")));
                let above: Vec<_> = above.map(|record| text(record, "ID")).collect();
                ours.extend(above);
            }
            let parents: BTreeSet<_> = records.iter().map(|record| text(record, "Parent")).collect();
            for id in ours.difference(&parents) {
                self.engine.post(&format!("/build/prune?all=1&filters=%7B%22id%22:%5B%22{id}%22%5D%7D"));
            }
        }
        panic!("records of {} stay in BuildKit's cache", self.mark);
    }
}

impl Drop for Pushed<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.clear_cache();
        }
    }
}
