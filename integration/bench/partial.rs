//! `load` of a new version of an image, into an engine that has the version before, beside the whole load of the same image. The
//! versions are built and published by jobs on a stand-in.

use serde_json::Value;
use stand_in::{Options, StandIn};

use super::measure::{Cost, ours};
use super::place::{Engine, Image, random_step};
use super::scale::Scale;
use super::table::{Section, Table, Way, wide};
use crate::harness::{Builder, Job, Repository};

/// The most MiB that may be fetched for a layer of 50 MiB.
const FETCHED: f64 = 60.0;

/// On each kind of image store.
pub(super) fn section(scale: &Scale) -> Section {
    let versions = Versions::publish(scale);
    let (mut ratios, mut costs, mut fetches) = (Table::ratios(Way::Speed), Table::costs(), Table::figures());
    for engine in [Engine::of(Builder::Docker), Engine::containerd(), Engine::of(Builder::Podman)] {
        let [before, image] = ["partial-before", "partial"].map(|what| engine.named(what));
        let (mut pairs, mut spent, mut most) = (Vec::new(), Vec::new(), 0);
        for _ in 0..scale.rounds {
            let (whole, _) = versions.load(1, &image);
            image.remove();
            versions.load(0, &before);
            let (partial, bytes) = versions.load(1, &image);
            [&image, &before].into_iter().for_each(Image::remove);
            pairs.push((partial.seconds, whole.seconds));
            spent.push(partial);
            most = most.max(bytes);
        }
        let what = format!("`load`, {}", engine.name());
        ratios.ratio((&what, "`load` into an engine without any of it"), &pairs, Some(5.0));
        costs.cost(&what, &spent, None);
        fetches.figure(&format!("{what}: fetched"), wide(most) / f64::from(1 << 20), "MiB", FETCHED);
    }
    let words = format!(
        "An image of {} MiB in four layers that nothing can compress, and a fifth of {} MiB that differs from the version before. The engine \
         has that version, so that only the fifth layer is fetched, verified and loaded. The whole load is ours too.",
        scale.large_image, scale.changed
    );
    Section { words, tables: vec![ratios, costs, fetches] }
}

/// Two versions of an image, as tasks have published them.
struct Versions {
    taskcluster: StandIn,
    routes: Vec<String>,
}

impl Versions {
    fn publish(scale: &Scale) -> Self {
        let engine = Engine::of(Builder::Docker);
        let base = engine.random_image("partial-base", "scratch", scale.large_image);
        let mut taskcluster = StandIn::start(Options::default());
        let mut routes = Vec::new();
        for version in ["before", "now"] {
            let step = random_step(&format!("/{version}"), scale.changed);
            let repository =
                Repository::bare(&format!("bench-partial-{version}"), &format!("FROM {}\n{step}", base.tag));
            let job = Job::on(taskcluster, &repository);
            let environment = engine.environment().into_iter().chain(job.environment()).collect();
            ours(&format!("the version {version}"), &["run"], &environment);
            let [.., by_hash] = job.routes();
            routes.push(by_hash);
            taskcluster = job.taskcluster;
        }
        Self { taskcluster, routes }
    }

    /// Loads a version. Gives what it took, and the bytes that were fetched.
    fn load(&self, version: usize, image: &Image) -> (Cost, u64) {
        let mut environment = image.engine().environment();
        environment.insert("TASKCLUSTER_ROOT_URL".to_owned(), self.taskcluster.root_url());
        let arguments = ["load", "--index", &self.routes[version], "--tag", &image.tag, "--json"];
        let (cost, finished) = ours(&format!("load, {}", image.engine().name()), &arguments, &environment);
        let answer: Value = serde_json::from_str(&finished.stdout).expect("JSON");
        (cost, answer["fetched"].as_u64().expect("bytes"))
    }
}
