//! `decide` as task graphs grow, beside `jq` reading and printing the same graph; and what it costs to start the program at
//! all. What is decided is tested elsewhere.

use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use super::job::size;
use super::measure::{Environment, ours, print_progress, run, theirs};
use super::scale::Scale;
use super::table::{Section, Table, Way, wide};
use crate::commands::decide::fixture::GIVEN;
use crate::harness::{path, program};

/// Graphs of growing size.
pub(super) fn section(scale: &Scale) -> Section {
    let (mut ratios, mut costs) = (Table::ratios(Way::Share), Table::costs());
    for tasks in scale.graphs {
        let directory = TempDir::with_prefix("bench-").unwrap();
        let root = directory.path().join("repository");
        let script = "python3 integration/bench/graph.py \"$1\" \"$2\" \"$3\"";
        run(script, &[path(&root), &scale.graph_images.to_string(), &tasks.to_string()]);
        let (graph, out, contexts) =
            (root.join("graph.json"), directory.path().join("out.json"), directory.path().join("contexts"));
        let given = [
            "decide",
            path(&graph),
            "--offline",
            "--project",
            "try",
            "--root",
            path(&root),
            "--contexts",
            path(&contexts),
            "--out",
            path(&out),
        ];
        let arguments = [&given[..], &GIVEN].concat();
        let (mut pairs, mut spent) = (Vec::new(), Vec::new());
        for _ in 0..scale.rounds {
            let theirs = theirs("jq", "jq . \"$1\" >/dev/null", &[path(&graph)]);
            let (cost, _) = ours(&format!("decide, {tasks} tasks"), &arguments, &Environment::new());
            pairs.push((cost.seconds, theirs));
            spent.push(cost);
        }
        let decided: Value = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
        let there = decided["tasks"].as_array().map_or(0, Vec::len);
        assert_eq!(there, usize::try_from(tasks + scale.graph_images).unwrap(), "tasks in the graph");
        let what = format!("{tasks} tasks, {:.1} MB", wide(size(&graph)) / 1e6);
        ratios.ratio((&what, "`jq .`"), &pairs, None);
        costs.cost(&format!("`decide`, {what}"), &spent, None);
    }
    let words = format!(
        "{} image directories of eleven files, every fifth image built from the one before it; each task names two images, and \
         has some 2 KB. The time holds reading the graph, hashing all contexts, filling in, packing all contexts and writing \
         the graph; nothing is looked up (`docs/decision.md` has the time of a look-up).",
        scale.graph_images
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
