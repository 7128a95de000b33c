//! `tree` on a sample of real trees' habits: eleven images in three generations, and the hashes that `hash` and `decide`
//! give them too.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Finished, path, program};

/// The task images that are built from `tools`.
const OF_TOOLS: [&str; 5] = ["builder", "builder-docs", "builder-gtk", "tester", "tester-gpu"];
const TASK_IMAGES: [&str; 8] =
    ["builder", "builder-docs", "builder-gtk", "lint", "lint-js", "tester", "tester-gpu", "tools"];

/// A copy of the sample, to be changed.
pub(crate) fn sample() -> TempDir {
    let root = TempDir::with_prefix("repository-").unwrap();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/fixtures/images"), root.path());
    root
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            copy(&from, &to);
            continue;
        }
        std::fs::copy(&from, &to).unwrap();
        // Whatever the umask of this checkout: permissions are in the hash.
        let mode = if to.ends_with("decide.sh") { 0o755 } else { 0o644 };
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn tree(root: &Path, more: &[&str]) -> Finished {
    program(["tree", "--root", path(root)].into_iter().chain(more.iter().copied()), []).finish()
}

/// The images as `tree --json` has them, by name.
fn images(root: &Path) -> BTreeMap<String, Value> {
    let finished = tree(root, &["--json"]);
    finished.assert_succeeds();
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    let images = report["images"].as_array().unwrap().iter();
    images.map(|image| (image["name"].as_str().unwrap().to_owned(), image.clone())).collect()
}

/// The report of `decide` about the sample's task images, by name, in its order.
fn decided(root: &Path) -> Vec<(String, Value)> {
    let last = ["builder-docs", "builder-gtk", "tester-gpu", "lint-js"];
    let template = |name: &str| format!("{{{{#task_id_for_image}}}}{name}{{{{/task_id_for_image}}}}");
    let decision = "{{#docker_image}}decision{{/docker_image}}";
    let payload = json!({ "images": last.map(template), "first": decision });
    let graph = json!({ "tasks": [{ "taskId": "YZXRUnMrR5SNKzLUaTbZEA", "task": { "payload": payload } }] });
    let file = root.join("graph.json");
    std::fs::write(&file, graph.to_string()).unwrap();
    let sha256 = "0".repeat(64);
    let mut values: BTreeMap<_, _> =
        ["owner", "scheduler_id", "provisioner_id", "worker_type"].map(|it| (it, "x")).into();
    values.extend([("source", "https://example.com/"), ("revision", "0123456789abcdef0123456789abcdef01234567")]);
    values.extend([("image_worker_task_id", "fN1SbArXTPSVFNUvaOlinQ"), ("image_worker_sha256", &sha256)]);
    let (contexts, values) = (root.join("contexts"), json!(values).to_string());
    let arguments = ["decide", path(&file), "--root", path(root), "--contexts", path(&contexts), "--offline", "--json"];
    let decided = program(arguments.into_iter().chain(["--project", "try", "--values", &values]), []).finish();
    decided.assert_succeeds();
    let decided: Value = serde_json::from_str(&decided.stdout).unwrap();
    assert_eq!(decided["references"], json!({ "decision": "registry.example.com/ci/decision:0.3.1" }));
    let images = decided["images"].as_array().unwrap().iter();
    images.map(|image| (image["name"].as_str().unwrap().to_owned(), image.clone())).collect()
}

#[test]
fn three_generations_have_the_hashes_that_everybody_gives_them() {
    let root = sample();
    let images = images(root.path());
    assert_eq!(images.len(), 11);
    for (name, image) in &images {
        let directory = root.path().join(image["directory"].as_str().unwrap());
        let hash = program(["hash", path(&directory), "--root", path(root.path())], []).finish();
        assert_eq!(image["contextHash"], hash.stdout.trim(), "{name}: {}", hash.stderr);
    }
    let decided = decided(root.path());
    let names: BTreeSet<_> = decided.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, TASK_IMAGES.into());
    for (name, image) in decided {
        assert_eq!((&images[&name]["contextHash"], &images[&name]["hash"]), (&image["contextHash"], &image["hash"]));
        assert_eq!(images[&name]["kind"], "task", "{name}");
    }
    // A root that is relative to the current directory is the same.
    let mut here = program(["tree", "--root", ".", "--json"], []);
    here.command.current_dir(root.path());
    let here: Value = serde_json::from_str(&here.finish().stdout).unwrap();
    assert_eq!(here["images"].as_array().unwrap(), &images.into_values().collect::<Vec<_>>());
}

#[test]
fn a_grandparents_change_is_its_descendants_and_nobody_elses() {
    let root = sample();
    let before = images(root.path());
    std::fs::write(root.path().join("testing/docker/tools/more"), "").unwrap();
    let after = images(root.path());
    let changed = |which: &str| -> Vec<_> {
        after.keys().map(String::as_str).filter(|name| before[*name][which] != after[*name][which]).collect()
    };
    assert_eq!(changed("contextHash"), ["tools"]);
    assert_eq!(changed("hash"), [&OF_TOOLS[..], &["tools"]].concat());
}

#[test]
fn a_sound_tree_is_drawn_with_hints_and_exit_code_0() {
    let root = sample();
    let drawn = tree(root.path(), &[]);
    drawn.assert_succeeds();
    assert_eq!(drawn.stderr, "");
    insta::assert_snapshot!(drawn.stdout);

    let graph = tree(root.path(), &["--dot"]);
    graph.assert_succeeds();
    insta::assert_snapshot!("the_graph_of_a_sound_tree", graph.stdout);
    assert!(graph.stderr.contains("hint: the image lint-js has a system-setup.sh"), "{}", graph.stderr);
}

#[test]
fn problems_are_an_answer_and_exit_code_10() {
    let root = sample();
    let images = root.path().join("testing/docker");
    std::fs::write(images.join("base/VERSION"), "1.3.0\n").unwrap();
    std::fs::write(images.join("fonts/VERSION"), "").unwrap();
    std::fs::create_dir(images.join("not-an-image")).unwrap();
    std::fs::create_dir(images.join("New")).unwrap();
    std::fs::write(images.join("New/Dockerfile"), "FROM debian:12\n").unwrap();
    let first = "first, testing/docker/New: ";
    for form in [&[][..], &["--json"], &["--dot"]] {
        let finished = tree(root.path(), form);
        assert_eq!(finished.code, 10, "{}", finished.stderr);
        assert!(finished.error_line().contains("testing/docker has 4 problems; first, "), "{}", finished.error_line());
        assert!(finished.error_line().contains(first), "{}", finished.error_line());
        // The graph has no place for them.
        let output = if form == ["--dot"] { &finished.stderr } else { &finished.stdout };
        let json = |text: &str| json!(text).to_string().trim_matches('"').to_owned();
        for problem in [
            "testing/docker/fonts/VERSION holds \"\", which is not a tag",
            "the Dockerfile of the image lint: `FROM quay.io/example/base:1.2.0` names the version 1.2.0, but VERSION has 1.3.0",
            "the Dockerfile of the image decision: `FROM quay.io/example/base:1.2.0` names",
        ] {
            let problem = if form == ["--json"] { json(problem) } else { problem.to_owned() };
            assert!(output.contains(&problem), "{problem}\n{output}");
        }
    }
    let graph = tree(root.path(), &["--dot"]).stdout;
    assert!(graph.contains("  \"base\" -> \"lint\" [style=solid, color=red];\n"), "{graph}");
}

#[test]
fn wrong_usage_is_no_answer() {
    let root = sample();
    tree(root.path(), &["--json", "--dot"]).assert_fails(2, &["--json and --dot"]);
    tree(root.path(), &["--images-dir", "nowhere"]).assert_fails(2, &["cannot read", "nowhere"]);
    let kind: PathBuf = root.path().join("kind.yml");
    std::fs::write(&kind, "loader: taskgraph.loader.transform:loader\n").unwrap();
    let kind = ["--images-dir", "testing/docker", "--kind", path(&kind)];
    tree(root.path(), &kind).assert_fails(2, &["kind.yml has no `tasks`"]);
    std::fs::create_dir_all(root.path().join("taskcluster/docker")).unwrap();
    tree(root.path(), &[]).assert_fails(2, &["testing/docker and taskcluster/docker", "--images-dir"]);
}
