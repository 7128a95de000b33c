//! What `decide` makes of images that have expired, in a tree of images that are built from each other: the tasks that it adds,
//! how many of them build at once, and what waits for them. Builds are not made here, only what they leave in the index.

use std::collections::BTreeMap;

use serde_json::Value;
use stand_in::RunState;

use super::indexed::{GONE, Indexed, LONG, identify, put_image};
use super::section;
use crate::commands::decide::fixture::{Decided, Fixture, consumer};
use crate::harness::{PROJECT, generic_worker};

/// Images built from the root, and images built from each of those.
const MIDDLES: usize = 4;
const LEAVES: usize = 3;
/// Tasks that use each leaf.
const CONSUMERS: usize = 3;

/// A tree of images, and a deployment.
struct Images {
    fixture: Fixture,
    indexed: BTreeMap<String, Indexed>,
}

fn leaves() -> Vec<String> {
    (0..MIDDLES).flat_map(|middle| (0..LEAVES).map(move |leaf| format!("leaf-{middle}-{leaf}"))).collect()
}

fn all() -> Vec<String> {
    let middles = (0..MIDDLES).map(|middle| format!("middle-{middle}"));
    std::iter::once("root".to_owned()).chain(middles).chain(leaves()).collect()
}

impl Images {
    /// All images are published by one push, of the central project. The index has forgotten some of them by now.
    fn new(days: i64, gone: &[&str]) -> Self {
        let fixture = Fixture::new();
        fixture.image("root", "FROM scratch\n");
        let child = |name: &str, parent: &str| {
            let head = format!("ARG DOCKER_IMAGE_PARENT={parent}\nFROM $DOCKER_IMAGE_PARENT\n");
            fixture.image(name, &format!("{head}ENV NAME={name}\n"));
        };
        for middle in 0..MIDDLES {
            child(&format!("middle-{middle}"), "root");
            (0..LEAVES).for_each(|leaf| child(&format!("leaf-{middle}-{leaf}"), &format!("middle-{middle}")));
        }
        let indexed = identify(&fixture, &all());
        for (name, image) in &indexed {
            let days = if gone.contains(&name.as_str()) { GONE } else { days };
            image.publish(&fixture.taskcluster, PROJECT, days);
        }
        Self { fixture, indexed }
    }

    /// The tasks of a push: each leaf has its consumers, and so has the root, where it is named.
    fn tasks(root: bool) -> Vec<Value> {
        let named = leaves().into_iter().chain(root.then(|| "root".to_owned()));
        let of =
            |image: String| (0..CONSUMERS).map(move |number| consumer(&format!("{image}-{number}"), &[&image], &[]));
        named.flat_map(of).collect()
    }

    /// How many of a push's own tasks wait for an image.
    fn waiting(&self, push: &Decided) -> usize {
        let tasks = push.graph["tasks"].as_array().unwrap().iter().filter(|task| !is_image_task(&task["task"]));
        let state = |task: &Value| self.fixture.taskcluster.status(task["taskId"].as_str().unwrap()).unwrap();
        tasks.filter(|task| state(task)["state"] == "unscheduled").count()
    }

    /// Lets all image tasks of these pushes build that can, then those that waited for them, and so on. Gives how many did at once.
    fn build(&self, pushes: &[Decided]) -> Vec<usize> {
        let mut waves = Vec::new();
        loop {
            let ready = self.ready(pushes);
            if ready.is_empty() {
                return waves;
            }
            waves.push(ready.len());
            for task in &ready {
                let name = self.fixture.taskcluster.definition(task).unwrap()["payload"]["env"]["IMAGE_NAME"].clone();
                let claim = self.fixture.taskcluster.claim(task);
                put_image(&self.fixture.taskcluster, task);
                self.indexed[name.as_str().unwrap()].publish(&self.fixture.taskcluster, PROJECT, LONG);
                self.fixture.taskcluster.resolve(task, claim.run_id, RunState::Completed);
            }
        }
    }

    /// The image tasks of these pushes that a worker could claim now.
    fn ready(&self, pushes: &[Decided]) -> Vec<String> {
        let tasks = pushes.iter().flat_map(|push| push.graph["tasks"].as_array().unwrap());
        let image_tasks = tasks.filter(|task| is_image_task(&task["task"]));
        let ids: Vec<_> = image_tasks.map(|task| task["taskId"].as_str().unwrap()).collect();
        self.fixture.taskcluster.pending_tasks().into_iter().filter(|task| ids.contains(&task.as_str())).collect()
    }
}

fn is_image_task(definition: &Value) -> bool {
    definition["payload"]["env"].is_object()
}

/// What came of a case.
#[derive(Debug, PartialEq)]
struct Outcome {
    added: usize,
    waves: Vec<usize>,
    waiting: usize,
}

fn play(images: &Images, root: bool, pushes: usize) -> Outcome {
    let tasks = Images::tasks(root);
    let pushes: Vec<_> = (0..pushes).map(|_| images.fixture.decide_and_create(PROJECT, &tasks)).collect();
    let added = pushes.iter().map(|push| push.made.len()).sum();
    let waiting = pushes.iter().map(|push| images.waiting(push)).sum();
    let waves = images.build(&pushes);
    assert_eq!(waves.iter().sum::<usize>(), added, "every image task becomes ready");
    let after = images.fixture.decide(PROJECT, &tasks);
    assert_eq!(after.made, [""; 0], "the next push finds everything");
    Outcome { added, waves, waiting }
}

#[test]
fn an_expired_root_costs_no_more_than_it_must() {
    let names = all();
    let everything: Vec<_> = names.iter().map(String::as_str).collect();
    let line = ["root", "middle-0", "leaf-0-0"];
    let (leaves, consumers) = (MIDDLES * LEAVES, MIDDLES * LEAVES * CONSUMERS);
    let outcome = |added, waves: &[usize], waiting| Outcome { added, waves: waves.to_vec(), waiting };
    let gone = |names: &[&str]| Images::new(LONG, names);
    let changed = || {
        let mut images = gone(&[]);
        images.fixture.image("root", "FROM scratch\nENV CHANGED=1\n");
        images.indexed = identify(&images.fixture, &all());
        images
    };
    let renewing = || {
        let images = Images::new(3, &[]);
        images.fixture.more.set(&["--renew-within", "7d"]);
        images.fixture.hours.set(300);
        images
    };
    let whole = [1, MIDDLES, leaves];
    let cases = [
        ("nothing has expired", gone(&[]), true, 1, outcome(0, &[], 0)),
        ("the root has expired", gone(&line[..1]), false, 1, outcome(0, &[], 0)),
        ("the root has expired, and a task uses it, too", gone(&line[..1]), true, 1, outcome(1, &[1], CONSUMERS)),
        ("the root and one leaf have expired", gone(&[line[0], line[2]]), false, 1, outcome(1, &[1], CONSUMERS)),
        (
            "the root, one image built from it and one leaf of that have expired",
            gone(&line),
            false,
            1,
            outcome(3, &[1, 1, 1], CONSUMERS),
        ),
        ("all have expired", gone(&everything), false, 1, outcome(names.len(), &whole, consumers)),
        ("the root's `Dockerfile` has changed", changed(), false, 1, outcome(names.len(), &whole, consumers)),
        (
            "all have expired; three pushes before the first image is there",
            gone(&everything),
            false,
            3,
            outcome(3 * names.len(), &whole.map(|builds| 3 * builds), 3 * consumers),
        ),
        ("all expire in three days; `--renew-within 7d`", renewing(), false, 1, outcome(leaves, &[leaves], 0)),
    ];
    let mut lines = vec![
        "| what has happened | image tasks added | that can build at once | tasks that wait |".to_owned(),
        "| --- | ---: | --- | ---: |".to_owned(),
    ];
    for (what, images, root, pushes, expected) in cases {
        let played = play(&images, root, pushes);
        assert_eq!(played, expected, "{what}");
        let waves: Vec<_> = played.waves.iter().map(usize::to_string).collect();
        let waves = if waves.is_empty() { "–".to_owned() } else { waves.join(", then ") };
        lines.push(format!("| {what} | {} | {waves} | {} |", played.added, played.waiting));
    }
    section("expiry", &lines);
}

#[test]
fn the_image_tasks_of_a_later_push_find_what_an_earlier_one_has_built() {
    let names = all();
    let images = Images::new(LONG, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let tasks = Images::tasks(false);
    // Both are decided about before the first image is there.
    let pushes = [(); 2].map(|()| images.fixture.decide_and_create(PROJECT, &tasks));
    let [earlier, later] = pushes.each_ref().map(std::slice::from_ref);
    assert_eq!(images.build(earlier).iter().sum::<usize>(), names.len());
    let mut found = 0;
    while let Some(task) = images.ready(later).first() {
        let finished = generic_worker::work(&images.fixture.taskcluster, task);
        finished.assert_succeeds();
        assert!(finished.stderr.contains("nothing was built"), "{}", finished.stderr);
        found += 1;
    }
    assert_eq!(found, names.len(), "every image task becomes ready");
    assert_eq!(images.waiting(&later[0]), 0);
}
