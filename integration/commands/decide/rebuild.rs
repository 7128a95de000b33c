//! `decide --rebuild` and `--renew-within`: images that the index has get a task, which builds them.

use serde_json::{Value, json};

use super::fixture::{Decided, Fixture, consumer};
use super::{graph_of, offline, template};
use crate::harness::engine;

/// The task of an image in a graph.
fn image_task<'g>(graph: &'g Value, image: &str) -> &'g Value {
    let is_of = |task: &&Value| task["task"]["payload"]["env"]["IMAGE_NAME"] == image;
    graph["tasks"].as_array().unwrap().iter().find(is_of).unwrap_or_else(|| panic!("no task of {image} in {graph}"))
}

#[test]
fn images_that_have_no_place_in_the_graph_are_not_rebuilt() {
    let fixture = Fixture::new();
    fixture.image("builder", "FROM scratch\n");
    fixture.image("other", "FROM scratch\n# other\n");
    let graph = graph_of(&json!(template("builder"))).to_string();
    offline(&fixture, "graph", &graph, &["--rebuild", "bilder"]).assert_fails(2, &["bilder", "builder"]);
    let words = ["--rebuild other", "no task of the graph uses this image"];
    offline(&fixture, "graph", &graph, &["--rebuild", "other"]).assert_fails(2, &words);
    offline(&fixture, "graph", &graph, &["--renew-within", "soon"]).assert_fails(2, &["--renew-within: \"soon\""]);
    let decided = offline(&fixture, "graph", &graph, &["--rebuild", "builder"]);
    decided.assert_succeeds();
    let graph: Value = serde_json::from_str(&decided.stdout).unwrap();
    assert_eq!(image_task(&graph, "builder")["task"]["payload"]["env"]["REBUILD"], "1");
}

#[test]
fn an_image_is_rebuilt_with_those_of_its_children_that_are_named() {
    if !engine() {
        return;
    }
    let fixture = Fixture::new();
    fixture.busybox_image("base", "RUN echo base > /made-by\n");
    fixture.image("child", "ARG DOCKER_IMAGE_PARENT=base\nFROM $DOCKER_IMAGE_PARENT\nRUN echo child >> /made-by\n");
    let tasks = [consumer("test", &["child"], &[])];
    let first = fixture.decide_and_run("try", &tasks);
    assert_eq!(first.made, ["base", "child"]);

    // The parent alone: the graph's tasks do not use it themselves.
    fixture.more.set(&["--rebuild", "base"]);
    let parent = fixture.decide("try", &tasks);
    assert_eq!((parent.made, &parent.task_ids["child"]), (vec!["base".to_owned()], &first.task_ids["child"]));
    assert!(parent.stderr.contains("child is built from base, and stays as it is"), "{}", parent.stderr);

    fixture.more.set(&["--rebuild", "base", "--rebuild", "child"]);
    let both = fixture.decide_and_run("try", &tasks);
    assert_eq!(both.made, ["base", "child"]);
    assert_ne!(both.task_ids, first.task_ids);
    let child = image_task(&both.graph, "child");
    assert_eq!(child["task"]["payload"]["env"]["PARENT_TASK_ID"], both.task_ids["base"]);
    let test = &both.graph["tasks"][0]["task"]["dependencies"];
    assert_eq!(test, &json!([both.task_ids["child"]]), "the tasks use the new image");
    for task in [&both.task_ids["base"], &both.task_ids["child"]] {
        assert!(fixture.is_built(task), "{task} found an image, and built none");
    }

    fixture.more.set(&[]);
    let after = fixture.decide("try", &tasks);
    assert_eq!(
        (after.made.len(), &after.task_ids["child"]),
        (0, &both.task_ids["child"]),
        "the index has the new ones"
    );
}

#[test]
fn an_image_that_expires_soon_is_built_for_later_pushes_and_once() {
    if !engine() {
        return;
    }
    let fixture = Fixture::new();
    fixture.busybox_image("builder", "RUN echo builder > /made-by\n");
    let tasks = [consumer("test", &["builder"], &[])];
    let first = fixture.decide_and_run("try", &tasks);
    // It would live no longer than the one that is there.
    fixture.more.set(&["--renew-within", "200h"]);
    let short = fixture.decide("try", &tasks);
    assert_eq!(short.made, [""; 0]);
    assert!(short.stderr.contains("builder is not renewed: a new image would expire"), "{}", short.stderr);

    fixture.hours.set(300);
    // Two pushes, before the image of either is there.
    let (one, other) = (fixture.decide_and_create("try", &tasks), fixture.decide_and_create("try", &tasks));
    for push in [&one, &other] {
        assert_eq!((&push.made, &push.task_ids), (&vec!["builder".to_owned()], &first.task_ids), "{}", push.stderr);
        let test = &push.graph["tasks"][0]["task"]["dependencies"];
        assert_eq!(test, &json!([first.task_ids["builder"]]), "nobody waits for the new image");
    }
    fixture.work_all();
    let built = |push: &Decided| fixture.is_built(image_task(&push.graph, "builder")["taskId"].as_str().unwrap());
    assert_ne!(built(&one), built(&other), "the second finds what the first has built");

    let after = fixture.decide("try", &tasks);
    assert_eq!(after.made, [""; 0], "the new one lasts longer");
    assert_ne!(after.task_ids, first.task_ids);
}
