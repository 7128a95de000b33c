//! `decide` as task graphs grow, beside `jq` reading and printing the same graph, and with many files, beside `cat`; and what it costs
//! to start the program at all. What is decided is tested elsewhere.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use super::job::size;
use super::measure::{Cost, Environment, ours, print_progress, run, theirs};
use super::scale::Scale;
use super::table::{Section, Table, Way, wide};
use crate::commands::decide::fixture::GIVEN;
use crate::harness::{path, program};

/// Files of each image directory of the growing graphs, its Dockerfile included.
const FILES: u32 = 11;

/// A repository with a graph, and where `decide` writes.
struct Scene {
    directory: TempDir,
    images: u32,
    tasks: u32,
}

impl Scene {
    fn new(images: u32, tasks: u32, files: u32) -> Self {
        let scene = Self { directory: TempDir::with_prefix("bench-").unwrap(), images, tasks };
        let script = "python3 integration/bench/graph.py \"$@\"";
        run(script, &[path(&scene.root()), &images.to_string(), &tasks.to_string(), &files.to_string()]);
        scene
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("repository")
    }

    fn graph(&self) -> PathBuf {
        self.root().join("graph.json")
    }

    /// Measures `decide` without a deployment, which makes a task for every image.
    fn decide(&self) -> Cost {
        let (root, graph) = (self.root(), self.graph());
        let (out, contexts) = (self.directory.path().join("out.json"), self.directory.path().join("contexts"));
        let given = ["decide", path(&graph), "--offline", "--project", "try", "--root", path(&root)];
        let written = ["--contexts", path(&contexts), "--out", path(&out)];
        let arguments = [&given[..], &written, &GIVEN].concat();
        let (cost, _) = ours(&format!("decide, {} tasks", self.tasks), &arguments, &Environment::new());
        let decided: Value = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
        let there = decided["tasks"].as_array().map_or(0, Vec::len);
        assert_eq!(there, usize::try_from(self.tasks + self.images).unwrap(), "tasks in the graph");
        cost
    }

    /// Measures `tree`, which only hashes all images, as `decide` does with those that the index has.
    fn hash(&self) -> Cost {
        ours("tree", &["tree", "--root", path(&self.root())], &Environment::new()).0
    }
}

/// Measures a command of ours in turns with a shell script.
fn turns(rounds: usize, own: impl Fn() -> Cost, script: &str, argument: &Path) -> (Vec<Cost>, Vec<(f64, f64)>) {
    let turn = |_| {
        let theirs = theirs(script, script, &[path(argument)]);
        let cost = own();
        (cost, (cost.seconds, theirs))
    };
    (0..rounds).map(turn).unzip()
}

/// Graphs of growing size, and image directories with many files.
pub(super) fn section(scale: &Scale) -> Section {
    let (mut ratios, mut costs) = (Table::ratios(Way::Share), Table::costs());
    for tasks in scale.graphs {
        let scene = Scene::new(scale.graph_images, *tasks, FILES);
        let (spent, pairs) = turns(scale.rounds, || scene.decide(), "jq . \"$1\" >/dev/null", &scene.graph());
        let what = format!("{tasks} tasks, {:.1} MB", wide(size(&scene.graph())) / 1e6);
        ratios.ratio((&what, "`jq .`"), &pairs, None);
        costs.cost(&format!("`decide`, {what}"), &spent, None);
    }
    let scene = Scene::new(scale.graph_images, scale.graph_images, scale.graph_files / scale.graph_images);
    let (images, what) = (
        scene.root().join("taskcluster/docker"),
        format!("{} images, {} files", scale.graph_images, scale.graph_files),
    );
    let cat = "find \"$1\" -type f -exec cat {} + >/dev/null";
    let pack = "for image in \"$1\"/*; do tar --create \"$image\" 2>/dev/null | gzip -6 >\"$1.tar.gz\"; done";
    let (spent, pairs) = turns(scale.rounds, || scene.hash(), cat, &images);
    ratios.ratio((&format!("`tree`, {what}"), "`cat FILE…`"), &pairs, Some(2.0));
    costs.cost(&format!("`tree`, {what}"), &spent, None);
    let (spent, pairs) = turns(scale.rounds, || scene.decide(), pack, &images);
    ratios.ratio((&format!("`decide`, {what}"), "`tar \\| gzip -6` of each image"), &pairs, None);
    costs.cost(&format!("`decide`, {what}"), &spent, None);
    let words = format!(
        "{} image directories of eleven files, every fifth image built from the one before it; each task names two images, and \
         has some 2 KB. The time holds reading the graph, hashing all contexts, filling in, packing all contexts and writing \
         the graph; nothing is looked up (`docs/decision.md` has the time of a look-up). The last rows have as many images with {} files \
         in all: `tree` hashes all contexts, as `decide` does for images that the index has, and `decide` packs them too.",
        scale.graph_images, scale.graph_files
    );
    Section { words, tables: vec![ratios, costs] }
}

/// What everything that we do costs at least.
pub(super) fn start(scale: &Scale) -> Section {
    let version = || {
        let started = Instant::now();
        let finished = program(["--version"], []).finish();
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        started.elapsed().as_secs_f64()
    };
    let mut seconds: Vec<_> = (0..scale.starts).map(|_| version()).collect();
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    print_progress("--version", median);
    let mut figures = Table::figures();
    figures.figure("`image-worker --version`, median", median * 1000.0, "ms", 10.0);
    let bytes = size(env!("CARGO_BIN_EXE_image-worker").as_ref());
    figures.figure("the release binary", wide(bytes) / wide(1 << 20), "MiB", 24.0);
    let words = format!("The program's start, {} times, and its size.", scale.starts);
    Section { words, tables: vec![figures] }
}
