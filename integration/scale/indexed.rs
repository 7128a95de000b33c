//! Images that the index has, without an engine: entries and artifacts as `run` leaves them behind, of bytes that no engine has to
//! load.

use std::collections::BTreeMap;

use image_worker::net::Digest;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use stand_in::{RunState, StandIn, TaskSpec};

use crate::commands::decide::fixture::Fixture;
use crate::harness::{path, program};

pub(super) const ARTIFACT: &str = "public/image.tar";
/// Days until what no test outlives expires.
pub(super) const LONG: i64 = 400;
/// Days since an entry has expired that the index still has.
pub(super) const GONE: i64 = -1;
const IMAGE: &[u8] = b"an image, as far as a look-up can tell";

/// What an image is called in the index.
#[derive(Clone, Debug)]
pub(super) struct Indexed {
    pub(super) name: String,
    /// In its `.hash.` route.
    pub(super) hash: String,
    /// Of its context.
    pub(super) context: String,
}

impl Indexed {
    fn namespace(&self, project: &str) -> String {
        format!("docker.images.v1.{project}.{}.hash.{}", self.name, self.hash)
    }

    /// Makes a task that has the image, and its entry. Both expire in so many days.
    pub(super) fn publish(&self, taskcluster: &StandIn, project: &str, days: i64) {
        let expires = format!("{:.3}", Timestamp::now() + SignedDuration::from_hours(24 * days));
        let data = json!({
            "artifact": ARTIFACT,
            "sha256": Digest::of(IMAGE),
            "size": IMAGE.len(),
            "imageId": "sha256:0",
            "contextHash": self.context,
            "runId": 0,
        });
        // Of an expired image the task is not looked at.
        let task =
            if days > 0 { TaskSpec::default().property("expires", expires.clone()) } else { TaskSpec::default() };
        let spec = task
            .property("routes", json!([format!("index.{}", self.namespace(project))]))
            .property("extra", json!({ "index": { "rank": 1, "data": data, "expires": expires } }));
        let task = taskcluster.create_task(spec).task_id;
        put_image(taskcluster, &task);
        taskcluster.resolve(&task, 0, RunState::Completed);
    }
}

/// Gives the first run of a task an image.
pub(super) fn put_image(taskcluster: &StandIn, task: &str) {
    taskcluster.put_artifact(task, 0, ARTIFACT, "application/x-tar", None, IMAGE);
}

/// The images of a repository, by their names.
pub(super) fn identify(fixture: &Fixture, names: &[String]) -> BTreeMap<String, Indexed> {
    let root = path(fixture.root.path());
    let arguments = ["lookup", "--json", "--root", root].into_iter().chain(names.iter().map(String::as_str));
    let finished = program(arguments, [("TASKCLUSTER_ROOT_URL".to_owned(), fixture.taskcluster.root_url())]).finish();
    finished.assert_succeeds();
    let answer: Value = serde_json::from_str(&finished.stdout).unwrap();
    let text = |image: &Value, key: &str| image[key].as_str().unwrap().to_owned();
    let indexed = |image: &Value| Indexed {
        name: text(image, "name"),
        hash: text(image, "hash"),
        context: text(image, "contextHash"),
    };
    answer.as_array().unwrap().iter().map(|image| (text(image, "name"), indexed(image))).collect()
}
