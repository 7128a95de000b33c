//! `decide` as decision tasks use it: graphs of each form on a laptop, bad ones, and the whole way with the real engine,
//! from a graph that names images to images that other tasks load.

pub(crate) mod fixture;
mod rebuild;

use serde_json::{Value, json};
use stand_in::Fault;

use crate::harness::{Finished, container_output, docker, engine, path, program};
use fixture::{Fixture, GIVEN, consumer, task_id};

/// A graph of the form of 2015 with one task, whose image is `image` in a template.
fn graph_of(image: &Value) -> Value {
    json!({ "tasks": [{ "taskId": task_id("build"), "task": { "payload": { "image": image } } }] })
}

fn template(image: &str) -> String {
    format!("{{{{#task_id_for_image}}}}{image}{{{{/task_id_for_image}}}}")
}

/// Decides without a deployment.
fn offline(fixture: &Fixture, name: &str, graph: &str, more: &[&str]) -> Finished {
    let file = fixture.root.path().join(name);
    std::fs::write(&file, graph).unwrap();
    let contexts = fixture.root.path().join("contexts");
    let root = fixture.root.path();
    let arguments = ["decide", path(&file), "--offline", "--root", path(root), "--contexts", path(&contexts)];
    let environment = [("PROJECT".to_owned(), "try".to_owned())];
    program(arguments.into_iter().chain(GIVEN).chain(more.iter().copied()), environment).finish()
}

#[test]
fn bad_graphs_name_the_task_and_the_place() {
    let fixture = Fixture::new();
    fixture.image("builder", "FROM scratch\n");
    fixture.image("a", "ARG DOCKER_IMAGE_PARENT=b\nFROM $DOCKER_IMAGE_PARENT\n");
    fixture.image("b", "ARG DOCKER_IMAGE_PARENT=a\nFROM $DOCKER_IMAGE_PARENT\n");
    let of = |image: &str| graph_of(&json!(image)).to_string();
    let task = task_id("build");
    let labels = json!({ "build": { "task": {}, "dependencies": {} } });
    let mut mixed = graph_of(&json!("x"));
    mixed["build"] = labels["build"].clone();
    let cases: [(String, &[&str]); 11] = [
        (of(&template("bilder")), &[&task, "/payload/image", "bilder", "builder"]),
        (of(&template("a")), &[&task, "/payload/image", "a -> b -> a"]),
        (of("{{#docker_image}}builder{{/docker_image}}"), &[&task, "/payload/image", "builder", "VERSION"]),
        (of("{{#task_id_for_imgae}}builder{{/task_id_for_imgae}}"), &[&task, "/payload/image", "task_id_for_image"]),
        (of("{#docker_imag}builder{/docker_imag}"), &[&task, "/payload/image", "docker_image"]),
        (of("{{#task_id_for_image}}builder"), &[&task, "/payload/image", "task_id_for_image"]),
        (of("{{#task_id_for_image}}Builder{{/task_id_for_image}}"), &[&task, "/payload/image", "Builder"]),
        (mixed.to_string(), &["mixes two forms", "build"]),
        (json!([1]).to_string(), &["the graph is neither"]),
        ("{\"tasks\": [}".to_owned(), &["graph", "line 1"]),
        ("tasks:\n- task:\n    image: {{#docker_image}}x{{/docker_image}}\n".to_owned(), &["line 3", "quote texts"]),
    ];
    for (graph, words) in cases {
        let decided = offline(&fixture, "graph", &graph, &[]);
        decided.assert_fails(2, words);
    }
    assert!(!fixture.root.path().join("contexts").exists(), "nothing is written for a bad graph");
}

#[test]
fn what_a_template_of_a_task_needs_and_does_not_know_is_named() {
    let fixture = Fixture::new();
    fixture.image("builder", "FROM scratch\n");
    let graph = graph_of(&json!(template("builder"))).to_string();
    offline(&fixture, "graph", &graph, &["--value", "worker_tpye=x"]).assert_fails(2, &["worker_tpye", "no such"]);
    offline(&fixture, "graph", &graph, &["--value", "hash=x"]).assert_fails(2, &["--value hash"]);
    offline(&fixture, "graph", &graph, &["--values", "{"]).assert_fails(2, &["--values"]);
    offline(&fixture, "graph", &graph, &["--task-template", "/nowhere"]).assert_fails(2, &["/nowhere"]);
}

#[test]
fn offline_dummies_stand_for_what_only_a_decision_task_knows() {
    let fixture = Fixture::new();
    fixture.image("builder", "FROM scratch\n");
    let (graph, contexts) = (fixture.root.path().join("graph.json"), fixture.root.path().join("contexts"));
    std::fs::write(&graph, graph_of(&json!(template("builder"))).to_string()).unwrap();
    let root = path(fixture.root.path());
    let decided =
        program(["decide", path(&graph), "--offline", "--root", root, "--contexts", path(&contexts)], []).finish();
    decided.assert_succeeds();
    let log = &decided.stderr;
    assert!(log.contains("1 image gets a task") && log.contains("image_worker_task_id, owner"), "{log}");
    let task = &serde_json::from_str::<Value>(&decided.stdout).unwrap()["tasks"][1]["task"];
    assert_eq!(
        (&task["workerType"], &task["provisionerId"]),
        (&json!("UNKNOWN-worker_type"), &json!("UNKNOWN-provisioner_id"))
    );
    assert_eq!(task["dependencies"], json!(["UNKNOWN-TASK-UNKNOWN-A", "UNKNOWN-TASK-UNKNOWN-Q"]));
    assert_eq!(task["metadata"]["owner"], "UNKNOWN-owner@example.invalid");
}

#[test]
fn a_project_of_geckos_kind_is_decided_as_it_is() {
    let fixture = Fixture::new();
    fixture.file("taskcluster/docker/debian-raw/Dockerfile", "# %ARG BASE_IMAGE\nFROM $BASE_IMAGE\n");
    fixture.file("taskcluster/docker/debian-base/Dockerfile", "FROM $DOCKER_IMAGE_PARENT\nARG DOCKER_IMAGE_PACKAGES\n");
    let kind = "kind-dependencies: [packages]\ntransforms: [own.transforms.docker_image:transforms]\ntasks:\n\
                \x20 raw: {symbol: I(r), definition: debian-raw, args: {BASE_IMAGE: 'debian:12'}, arch: arm64}\n\
                \x20 base: {symbol: I(b), definition: debian-base, parent: raw, packages: [deb12-b, deb12-a], run-on-repo-type: [git]}\n\
                \x20 own: {symbol: I(o), definition: debian-raw, args: {BASE_IMAGE: '{dockerhub:ubuntu:latest}'}}\n";
    fixture.file("taskcluster/kinds/docker-image/kind.yml", kind);
    let packages = |digest: &str| {
        let cached = json!({ "type": "packages.v1", "name": "deb12-a", "digest": digest });
        json!({ "label": "packages-deb12-a", "attributes": { "cached_task": cached }, "task": {} })
    };
    let decide = |digest: &str, more: &[&str]| {
        let user = json!({ "task": { "payload": { "image": template("base") } } });
        let mut graph =
            json!({ "build": user, "packages-deb12-a": packages(digest), "packages-deb12-b": { "task": {} } });
        if more.contains(&"--without") {
            graph.as_object_mut().unwrap().remove("packages-deb12-b");
        }
        let more: Vec<_> = more.iter().copied().filter(|it| *it != "--without").collect();
        let decided = offline(&fixture, "graph.json", &graph.to_string(), &more);
        decided.assert_succeeds();
        assert!(decided.stderr.contains("not run here: own.transforms.docker_image:transforms"), "{}", decided.stderr);
        serde_json::from_str::<Value>(&decided.stdout).unwrap()
    };
    let decided = decide("0", &["--value", "arm64:worker_type=images-aarch64"]);
    let (raw, base) = (&decided["docker-image-raw"], &decided["docker-image-base"]);
    assert_eq!(
        (&raw["task"]["workerType"], &raw["task"]["payload"]["env"]["TARGET_ARCH"]),
        (&json!("images-aarch64"), &json!("arm64"))
    );
    assert_eq!(
        (&base["task"]["workerType"], base["task"]["payload"]["env"].get("TARGET_ARCH")),
        (&json!("images"), Some(&json!("")))
    );
    let edges = json!({ "parent": "docker-image-raw", "deb12-b": "packages-deb12-b", "deb12-a": "packages-deb12-a" });
    assert_eq!(base["dependencies"], edges);
    let args = r#"{"DOCKER_IMAGE_PACKAGES":"<deb12-b> <deb12-a>"}"#;
    assert_eq!(base["task"]["payload"]["env"]["DOCKER_BUILD_ARGS"], json!({ "task-reference": args }));
    // Another package is another image, of the same context.
    let changed = &decide("1", &[])["docker-image-base"]["task"]["payload"]["env"];
    let env = &base["task"]["payload"]["env"];
    assert_eq!(changed["HASH"], env["HASH"]);
    assert_ne!(changed["INDEX_HASH"], env["INDEX_HASH"]);
    assert_eq!(decide("0", &["--without"])["docker-image-base"]["dependencies"], edges, "for a look");
    // What a transform of the project would have replaced.
    let words = ["image own", "line 2", "{dockerhub:ubuntu:latest}", "no image reference"];
    offline(&fixture, "graph.json", &graph_of(&json!(template("own"))).to_string(), &[]).assert_fails(2, &words);
    let tree = program(["tree", "--root", path(fixture.root.path())], []).finish();
    assert_eq!(tree.code, 10, "{}", tree.stderr);
    assert!(tree.stdout.contains("1 problem:\n- the Dockerfile of the image own: line 2: "), "{}", tree.stdout);
}

#[test]
fn a_dockerfile_without_an_image_to_build_from_is_refused() {
    let fixture = Fixture::new();
    fixture.file("taskcluster/docker/child/Dockerfile", "FROM $DOCKER_IMAGE_PARENT\n");
    let kind = "tasks:\n  undefined: {}\n  bare: {}\n  none: {}\n  parent: {definition: undefined, args: {UNDEF: debian}}\n  \
                child: {parent: parent}\n";
    fixture.file("taskcluster/kinds/docker-image/kind.yml", kind);
    let cases = [
        ("undefined", "ARG UNDEF\nFROM $UNDEF\n", "line 2: `FROM $UNDEF` is empty"),
        ("bare", "RUN a\nFROM\n", "line 2: `FROM` names no image"),
        ("none", "# FROM a\nRUN a\n", "there is no FROM"),
    ];
    for (name, dockerfile, _) in cases {
        fixture.file(&format!("taskcluster/docker/{name}/Dockerfile"), dockerfile);
    }
    let tree = program(["tree", "--root", path(fixture.root.path())], []).finish();
    assert_eq!(tree.code, 10, "{}", tree.stderr);
    assert!(tree.stdout.contains("\n3 problems:\n"), "{}", tree.stdout);
    for (name, _, problem) in cases {
        let problem = format!("the Dockerfile of the image {name}: {problem}");
        assert!(tree.stdout.contains(&format!("\n- {problem}")), "{problem}\n{}", tree.stdout);
        let graph = graph_of(&json!(template(name))).to_string();
        offline(&fixture, "graph.json", &graph, &[]).assert_fails(2, &[&problem]);
    }
    // What is given by an entry, or by its parent, is there.
    let decided = offline(&fixture, "graph.json", &graph_of(&json!(template("child"))).to_string(), &["--json"]);
    decided.assert_succeeds();
    assert!(decided.stderr.contains("image child: not looked up, gets task"), "{}", decided.stderr);
}

#[test]
fn entries_with_names_that_no_image_can_have_are_named() {
    let fixture = Fixture::new();
    fixture.file("taskcluster/docker/shared/Dockerfile", "FROM debian:12\n");
    let kind = "tasks:\n  good: {definition: shared}\n  Big Image: {definition: shared}\n  Upper: {}\n";
    fixture.file("taskcluster/kinds/docker-image/kind.yml", kind);
    fixture.file("taskcluster/docker/Upper/Dockerfile", "FROM debian:12\n");
    let root = path(fixture.root.path());
    let tree = program(["tree", "--root", root], []).finish();
    let rule = "is not an image name: expected lower-case letters and digits";
    for name in ["Big Image", "Upper"] {
        let problem = format!("- taskcluster/kinds/docker-image/kind.yml: {name:?} {rule}");
        assert!(tree.code == 10 && tree.stdout.contains(&problem), "{problem}\n{}", tree.stdout);
        let hash = program(["hash", name, "--root", root], []).finish();
        hash.assert_fails(2, &[&format!("{name:?} {rule}"), "rename it in taskcluster/kinds/docker-image/kind.yml"]);
    }
    assert!(tree.stdout.contains("\n2 problems:\n") && !tree.stdout.contains("hint"), "{}", tree.stdout);
    // A definition of nothing else is no image either.
    fixture.file("taskcluster/kinds/docker-image/kind.yml", &kind.replace("  good: {definition: shared}\n", ""));
    let tree = program(["tree", "--root", root], []).finish();
    assert!(tree.stdout.contains("\n2 problems:\n") && !tree.stdout.contains("nobody builds"), "{}", tree.stdout);
}

#[test]
fn equal_keys_in_a_kind_are_taken_as_taskgraph_takes_them() {
    let fixture = Fixture::new();
    fixture.file("taskcluster/docker/i/Dockerfile", "FROM debian:12\n");
    let place = "taskcluster/kinds/docker-image/kind.yml";
    fixture.file(place, "tasks:\n  i: {symbol: a}\n  i: {symbol: b}\n");
    let root = path(fixture.root.path());
    let tree = program(["tree", "--root", root, "--json"], []).finish();
    tree.assert_succeeds();
    let report: Value = serde_json::from_str(&tree.stdout).unwrap();
    assert_eq!(report["images"][0]["symbol"], "b");
    assert!(
        tree.stderr.contains(&format!("{place}, line 3, ")) && tree.stderr.contains("the last one counts"),
        "{}",
        tree.stderr
    );
    fixture.file(place, "tasks:\n  i: {symbol: [}\n");
    program(["tree", "--root", root], [])
        .finish()
        .assert_fails(2, &[place, "line 2, column", "correct the YAML there"]);
}

#[test]
fn a_repository_with_an_old_taskgraph_gets_the_release_that_agrees() {
    let fixture = Fixture::new();
    fixture.image("builder", "FROM scratch\n");
    fixture.image("other", "FROM scratch\n# another\n");
    fixture.file("taskcluster/requirements.txt", "taskcluster-taskgraph==11.2.4 \\\n    --hash=sha256:00\n");
    let graph = graph_of(&json!([template("builder"), template("other")])).to_string();
    let about = ["owner=a@example.com", "source=https://example.com", "revision=abcdef", "scheduler_id=x"];
    let values: Vec<_> = about.iter().flat_map(|value| ["--value", value]).collect();
    let decided = offline(&fixture, "graph.json", &graph, &values);
    decided.assert_succeeds();
    let warning = "taskcluster/requirements.txt pins taskgraph 11.2.4";
    assert_eq!(decided.stderr.matches(warning).count(), 1, "{}", decided.stderr);
    assert!(decided.stderr.contains("taskgraph 12 and later"), "{}", decided.stderr);
    let decided = offline(&fixture, "graph.json", &graph_of(&json!("debian:12")).to_string(), &[]);
    assert!(!decided.stderr.contains("pins taskgraph"), "no image, no hash: {}", decided.stderr);
}

#[test]
fn a_graph_without_images_stays_as_it_is() {
    let fixture = Fixture::new();
    fixture.image("builder", "FROM scratch\n");
    let graph = graph_of(&json!("debian:12"));
    let decided = offline(&fixture, "graph.json", &graph.to_string(), &[]);
    decided.assert_succeeds();
    assert_eq!(serde_json::from_str::<Value>(&decided.stdout).unwrap(), graph);
    assert!(!fixture.root.path().join("contexts").exists());
}

#[test]
fn contexts_that_are_packed_at_once_stay_out_of_each_others_way() {
    let fixture = Fixture::new();
    let names: Vec<_> = (0..40).map(|number| format!("i{number}")).collect();
    for name in &names {
        fixture.image(name, &format!("FROM scratch\n# {name}\n"));
    }
    let templates: Vec<_> = names.iter().map(|name| template(name)).collect();
    let decided = offline(&fixture, "graph.json", &graph_of(&json!(templates)).to_string(), &[]);
    decided.assert_succeeds();
    assert!(!decided.stderr.contains("had left"), "{}", decided.stderr);
    let contexts = std::fs::read_dir(fixture.root.path().join("contexts")).unwrap();
    assert_eq!(contexts.count(), names.len(), "and nothing is left beside them");
}

#[test]
fn all_that_decide_lacks_is_named_at_once() {
    let fixture = Fixture::new();
    let root = ["TASKCLUSTER_ROOT_URL".to_owned()].map(|name| (name, fixture.taskcluster.root_url()));
    let decide = |environment: &[(String, String)]| {
        let graph = fixture.root.path().join("graph.json");
        std::fs::write(&graph, "{}").unwrap();
        let arguments = ["decide", path(&graph), "--root", path(fixture.root.path())];
        program(arguments, environment.iter().cloned()).finish()
    };
    decide(&root).assert_fails(2, &["3 problems", "PROJECT", "PUSHDATE", "IMAGE_WORKER_DECISION_TASK"]);
    decide(&[]).assert_fails(2, &["4 problems", "TASKCLUSTER_ROOT_URL", "PROJECT"]);
}

#[test]
fn what_is_wrong_with_a_context_is_said_first_whatever_the_index_says() {
    let fixture = Fixture::new();
    fixture.image("a", "FROM scratch\n");
    fixture.image("z", "FROM scratch\n");
    let link = fixture.root.path().join("testing/docker/z/link");
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    fixture.taskcluster.fault(Fault::status("findTasksAtIndex", 403).times(u32::MAX));
    let graph = fixture.root.path().join("graph.json");
    std::fs::write(&graph, graph_of(&json!([template("a"), template("z")])).to_string()).unwrap();
    let decide = || {
        let arguments = ["decide", path(&graph), "--root", path(fixture.root.path())];
        let environment = [
            ("TASKCLUSTER_ROOT_URL", fixture.taskcluster.root_url()),
            ("TASK_ID", task_id("decision")),
            ("PROJECT", "try".to_owned()),
            ("PUSHDATE", "20261123070000".to_owned()),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value));
        program(arguments.into_iter().chain(GIVEN), environment).finish()
    };
    decide().assert_fails(10, &["testing/docker/z/link"]);
    std::fs::remove_file(&link).unwrap();
    decide().assert_fails(31, &["findTasksAtIndex"]);
}

#[test]
fn a_taskgraph_projects_kind_gives_names_parents_arguments_and_symbols() {
    let fixture = Fixture::new();
    fixture.file("taskcluster/docker/shared/Dockerfile", "FROM scratch\n# %ARG FLAVOUR\nENV FLAVOUR=$FLAVOUR\n");
    fixture.file("taskcluster/docker/child/Dockerfile", "ARG DOCKER_IMAGE_PARENT\nFROM $DOCKER_IMAGE_PARENT\n");
    let kind = "tasks:\n  base:\n    definition: shared\n    symbol: I(b)\n    args: {FLAVOUR: sweet}\n  child:\n    parent: base\n";
    fixture.file("taskcluster/kinds/docker-image/kind.yml", kind);
    let kind = fixture.root.path().join("taskcluster/kinds/docker-image/kind.yml");
    let graph = json!({ "build": {
        "label": "build", "kind": "build", "attributes": {}, "dependencies": {}, "optimization": null,
        "task": { "payload": { "image": { "taskId": template("child") } },
                  "metadata": { "owner": "a@example.com", "source": "https://example.com" },
                  "schedulerId": "x-level-1", "routes": ["tc-treeherder.v2.try.abcdef.1"],
                  "deadline": { "relative-datestamp": "1 day" } },
    } });
    let decided = offline(&fixture, "graph.json", &graph.to_string(), &["--kind", path(&kind)]);
    decided.assert_succeeds();
    let decided: Value = serde_json::from_str(&decided.stdout).unwrap();
    let at = |pointer: &str| decided.pointer(pointer).cloned().unwrap_or_default();
    assert_eq!(at("/build/task/payload/image/taskId"), json!({ "task-reference": "<docker-image-child>" }));
    assert_eq!(at("/build/dependencies"), json!({ "docker-image-child": "docker-image-child" }));
    assert_eq!(at("/docker-image-child/dependencies"), json!({ "parent": "docker-image-base" }));
    let env = "/docker-image-child/task/payload/env";
    assert_eq!(at(&format!("{env}/PARENT_TASK_ID")), json!({ "task-reference": "<parent>" }));
    assert_ne!(at(&format!("{env}/INDEX_HASH")), json!(""), "a parent's change must rebuild it");
    assert_eq!(at("/docker-image-base/task/extra/treeherder/symbol"), json!("b"));
    let args = at("/docker-image-base/task/payload/env/DOCKER_BUILD_ARGS");
    assert_eq!(args, json!("{\"FLAVOUR\":\"sweet\"}"));
    for name in ["base", "child"] {
        assert!(fixture.root.path().join(format!("contexts/{name}.tar.gz")).exists());
    }
}

#[test]
fn images_are_decided_built_found_again_and_rebuilt_with_their_descendants() {
    if !engine() {
        return;
    }
    let fixture = Fixture::new();
    fixture.six_images();
    // What others have built before: one image on central, one in the own project.
    fixture.decide_and_run("mozilla-central", &[consumer("before", &["shared"], &[])]);
    fixture.decide_and_run("try", &[consumer("earlier", &["own"], &[])]);

    let tasks = [
        consumer("build", &["fresh", "child-of-fresh"], &["tooling"]),
        consumer("test", &["child-of-shared", "own"], &[]),
        consumer("lint", &["shared", "fresh"], &[]),
    ];
    let first = fixture.decide_and_run("try", &tasks);
    assert_eq!(first.made, ["child-of-fresh", "child-of-shared", "fresh"]);
    assert_eq!(first.graph["tasks"][0]["task"]["payload"]["registry"], json!(["example/tooling:1.0"]));
    // The tasks that wait for an image have it, and it is as its Dockerfile and its parent's describe it.
    for (image, made_by) in
        [("child-of-fresh", "fresh\nchild-of-fresh"), ("child-of-shared", "shared\nchild-of-shared")]
    {
        let tag = fixture.load(&first, image);
        assert_eq!(container_output(&[&tag]), made_by);
        assert!(docker(&["rmi", &tag]).status.success());
    }

    let again = fixture.decide_and_run("try", &tasks);
    assert_eq!(again.made, [""; 0], "everything is there");
    assert_eq!(again.task_ids, first.task_ids, "and leads to the same tasks");

    fixture.append("fresh", "ENV CHANGED=1\n");
    let changed = fixture.decide("try", &tasks);
    assert_eq!(changed.made, ["child-of-fresh", "fresh"], "an image and what is built from it");
    assert_eq!(changed.task_ids["child-of-shared"], first.task_ids["child-of-shared"]);
    fixture.append("shared", "ENV CHANGED=1\n");
    assert_eq!(fixture.decide("try", &tasks).made, ["child-of-fresh", "child-of-shared", "fresh", "shared"]);
}
