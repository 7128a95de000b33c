//! `load --file` beside `docker load` of the same archive, into an engine that has nothing of it. Images of tasks are loaded
//! where taskgraph's are.

use tempfile::TempDir;

use super::measure::{ours, run, theirs};
use super::place::Engine;
use super::scale::Scale;
use super::table::{Section, Table, Way};
use crate::harness::{Builder, path};

pub(super) fn section(scale: &Scale) -> Section {
    let engine = Engine::of(Builder::Docker);
    let directory = TempDir::with_prefix("bench-").unwrap();
    let file = directory.path().join("image.tar");
    let image = engine.random_image("load", "scratch", scale.large_image);
    run(&format!("tag=$1 out=$2\n{}", engine.get_script()), &[&image.tag, path(&file)]);
    let (mut pairs, mut spent) = (Vec::new(), Vec::new());
    for _ in 0..scale.rounds {
        image.remove();
        let script = "docker --host \"$1\" load --quiet --input \"$2\"";
        let theirs = theirs("docker load", script, &[engine.host(), path(&file)]);
        image.remove();
        let (cost, _) = ours("load", &["load", "--file", path(&file)], &engine.environment());
        pairs.push((cost.seconds, theirs));
        spent.push(cost);
    }
    let (mut ratios, mut costs) = (Table::ratios(Way::Share), Table::costs());
    let what = format!("`load --file`, {} MiB", scale.large_image);
    ratios.ratio((&what, "`docker load`"), &pairs, Some(1.15));
    costs.cost(&what, &spent, None);
    let words = format!(
        "An archive of {} MiB that nothing can compress, in four layers, into {}, which has nothing of it. Ours \
         verifies each layer and the configuration.",
        scale.large_image,
        engine.name()
    );
    Section { words, tables: vec![ratios, costs] }
}
