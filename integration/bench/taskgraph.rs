//! Beside taskgraph's own Python, the real package, which scripts/taskgraph installs: the context hash, the packed context,
//! and an image of a task loaded into the engine. What its answers must be is compared elsewhere.

use std::process::Command;

use stand_in::{Options, StandIn, TaskSpec};
use tempfile::TempDir;

use super::contexts::repositories;
use super::data;
use super::measure::{Environment, ours, print_progress, run};
use super::place::Engine;
use super::scale::Scale;
use super::table::{Section, Table, Way};
use crate::harness::{Builder, Repository, path};

/// All three.
pub(super) fn section(scale: &Scale) -> Section {
    let (mut ratios, mut costs) = (Table::ratios(Way::Speed), Table::costs());
    for (number, (what, repository)) in repositories(scale).iter().enumerate() {
        let directory = repository.directory();
        let target = (number == 0).then_some(10.0);
        let (mine, its) = (repository.root.path().join("ours.tar.gz"), repository.root.path().join("its.tar.gz"));
        let hash: (&[&str], &[&str], _) = (&["hash", path(&directory)], &[], target);
        let context: (&[&str], &[&str], _) = (&["context", path(&directory), "-o", path(&mine)], &[path(&its)], None);
        for (arguments, more, target) in [hash, context] {
            let subcommand = arguments[0];
            let pair = |_| {
                let theirs = taskgraph(repository, subcommand, more);
                let (cost, finished) = ours(subcommand, arguments, &Environment::new());
                assert_eq!(finished.stdout.trim(), theirs.1, "another hash than taskgraph's");
                (cost.seconds, theirs.0)
            };
            let pairs: Vec<_> = (0..scale.rounds).map(pair).collect();
            ratios.ratio((&format!("`{subcommand}`, {what}"), "taskgraph"), &pairs, target);
        }
    }
    load(scale, &mut ratios, &mut costs);
    let words = format!(
        "taskgraph is called as its decision task calls it: `generate_context_hash`, `create_context_tar`, and \
         `load_image_by_task_id` of an artifact of the stand-in, an image of {} MiB as `public/image.tar.zst`. Of taskgraph \
         only the call is measured, not Python's start and the imports; of ours the whole command, which also verifies \
         what it loads.",
        scale.compressible
    );
    Section { words, tables: vec![ratios, costs] }
}

fn load(scale: &Scale, ratios: &mut Table, costs: &mut Table) {
    let engine = Engine::of(Builder::Docker);
    let directory = TempDir::with_prefix("bench-").unwrap();
    let image = engine.named("taskgraph");
    {
        let context = TempDir::with_prefix("bench-").unwrap();
        data::machine(&context.path().join("files.tar"), scale.compressible);
        std::fs::write(context.path().join("Dockerfile"), "FROM scratch\nADD files.tar /\n").unwrap();
        let built = engine.image("taskgraph", context.path());
        let out = directory.path().join("image.tar");
        let script = format!("tag=$1 out=$2\n{}\nzstd --quiet --rm -3 \"$out\"", engine.get_script());
        run(&script, &[&built.tag, path(&out)]);
    }
    let packed = std::fs::read(directory.path().join("image.tar.zst")).unwrap();
    let taskcluster = StandIn::start(Options::default());
    let task = taskcluster.create_task(TaskSpec::default()).task_id;
    taskcluster.put_artifact(&task, 0, "public/image.tar.zst", "application/zstd", None, &packed);
    let mut environment = engine.environment();
    environment.insert("TASKCLUSTER_ROOT_URL".to_owned(), taskcluster.root_url());
    let (mut pairs, mut spent) = (Vec::new(), Vec::new());
    for _ in 0..scale.rounds {
        image.remove();
        let (theirs, _) = call(&["load", &task, &image.tag], &environment);
        image.remove();
        let arguments = ["load", "--task-id", &task, "--tag", &image.tag];
        let (cost, _) = ours("load of a task's image", &arguments, &environment);
        pairs.push((cost.seconds, theirs));
        spent.push(cost);
    }
    let what = format!("`load --task-id`, {} MiB", scale.compressible);
    ratios.ratio((&what, "taskgraph"), &pairs, None);
    costs.cost(&what, &spent, None);
}

/// Seconds of a call of taskgraph's about an image directory, and its answer.
fn taskgraph(repository: &Repository, subcommand: &str, more: &[&str]) -> (f64, String) {
    let root = path(repository.root.path());
    let directory = format!("testing/docker/{}", repository.name);
    call(&[&[subcommand, root, &directory], more].concat(), &Environment::new())
}

fn call(arguments: &[&str], environment: &Environment) -> (f64, String) {
    run("sync", &[]);
    let mut command = Command::new("scripts/taskgraph");
    command.arg("integration/bench/of_taskgraph.py").args(arguments).envs(environment);
    let output = command.output().expect("scripts/taskgraph");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {stdout}{}", String::from_utf8_lossy(&output.stderr));
    let last = stdout.lines().last().unwrap_or_default();
    let (seconds, answer) = last.split_once(' ').unwrap_or_else(|| panic!("of_taskgraph.py prints: {stdout}"));
    let seconds = seconds.parse().unwrap();
    print_progress(&format!("taskgraph, {}", arguments[0]), seconds);
    (seconds, answer.to_owned())
}
