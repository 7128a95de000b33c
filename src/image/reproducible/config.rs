//! Rewrites an image's configuration without the engine's own data and the build time. The settings of the Dockerfile stay.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::net::Digest;

/// Fields about the build, which no consumer needs.
const OF_THE_BUILD: [&str; 4] = ["container", "container_config", "docker_version", "parent"];
/// Fields about the container of the last step, which a Dockerfile cannot set.
const OF_THE_CONTAINER: [&str; 3] = ["Domainname", "Hostname", "Image"];
/// Podman's own label: it contains Podman's version, so that images would differ between machines.
const OF_THE_ENGINE: &str = "io.buildah.version";
/// A word with this many hexadecimal digits in a comment is an id: engines shorten ids to twelve digits.
const SHORT_ID: usize = 12;

/// The rewritten configuration, for layers with these ids.
pub(super) fn rewrite(config: &[u8], epoch: Timestamp, layers: &[Digest]) -> Result<Vec<u8>, String> {
    let mut value: Value = serde_json::from_slice(config).map_err(|error| format!("it is no JSON: {error}"))?;
    let Some(root) = value.as_object_mut() else { return Err("it is no object".to_owned()) };
    root.retain(|key, _| !OF_THE_BUILD.contains(&key.as_str()) && !key.starts_with("moby.buildkit."));
    root.insert("created".to_owned(), epoch.to_string().into());
    if let Some(config) = root.get_mut("config").and_then(Value::as_object_mut) {
        remove_container_fields(config);
    }
    for step in root.get_mut("history").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(step) = step.as_object_mut() {
            clamp_step(step, epoch);
        }
    }
    let Some(rootfs) = root.get_mut("rootfs").and_then(Value::as_object_mut) else {
        return Err("it has no rootfs".to_owned());
    };
    let ids: Vec<_> = layers.iter().map(|layer| layer.prefixed()).collect();
    rootfs.insert("diff_ids".to_owned(), ids.into());
    value.sort_all_objects();
    serde_json::to_vec(&value).map_err(|error| error.to_string())
}

fn remove_container_fields(config: &mut Map<String, Value>) {
    config.retain(|key, value| !OF_THE_CONTAINER.contains(&key.as_str()) && !is_empty(value));
    if let Some(labels) = config.get_mut("Labels").and_then(Value::as_object_mut)
        && labels.remove(OF_THE_ENGINE).is_some()
        && labels.is_empty()
    {
        config.remove("Labels");
    }
}

/// Whether a setting means the same as if it were missing: engines differ in whether they write such settings.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(is) => !is,
        Value::Number(_) => false,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

fn clamp_step(step: &mut Map<String, Value>, epoch: Timestamp) {
    if let Some(created) = step.get_mut("created") {
        let early = created.as_str().and_then(|text| text.parse::<Timestamp>().ok()).is_some_and(|time| time <= epoch);
        if !early {
            *created = epoch.to_string().into();
        }
    }
    let names_an_id = |text: &str| {
        let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
        words.any(|word| word.len() >= SHORT_ID && word.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    if step.get("comment").and_then(Value::as_str).is_some_and(names_an_id) {
        step.remove("comment");
    }
}

/// Whether the label shows that Podman or buildah built the image.
pub(super) fn is_by_podman(config: &[u8]) -> bool {
    serde_json::from_slice(config).is_ok_and(|value: Value| value["config"]["Labels"][OF_THE_ENGINE].is_string())
}

/// For each layer, whether a RUN step made it; `None` if the history does not match the layers.
pub(super) fn run_steps(config: &[u8], layers: usize) -> Option<Vec<bool>> {
    let value: Value = serde_json::from_slice(config).ok()?;
    let steps = value["history"].as_array()?.iter().filter(|step| step["empty_layer"] != true);
    let runs: Vec<_> = steps.map(is_run).collect();
    (runs.len() == layers).then_some(runs)
}

/// `BuildKit` writes `RUN`; others write the command, and mark other instructions with `#(nop)`.
fn is_run(step: &Value) -> bool {
    let Some(by) = step["created_by"].as_str() else { return false };
    let buildkit = step["comment"].as_str().is_some_and(|comment| comment.starts_with("buildkit"));
    if buildkit { by.starts_with("RUN ") } else { !by.is_empty() && !by.contains("#(nop)") }
}
