//! The parts of the documents beside an image that a history shows. They come from other tasks, so that what is too large or of
//! another shape is an error.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::context::ContextHash;
use crate::taskcluster::PushDate;

/// Of `perfherder-data-image-build.json`: the numbers of the build by their names.
#[derive(Debug, Deserialize)]
pub(super) struct Metrics {
    suites: Vec<Suite>,
}

#[derive(Debug, Deserialize)]
struct Suite {
    subtests: Vec<Subtest>,
}

#[derive(Debug, Deserialize)]
struct Subtest {
    name: String,
    value: f64,
}

impl Metrics {
    /// How long the whole run took, in seconds.
    pub(super) fn seconds(&self) -> Option<f64> {
        let all = self.suites.iter().flat_map(|suite| &suite.subtests);
        all.into_iter()
            .find(|it| it.name == "in all")
            .map(|it| it.value)
            .filter(|value| value.is_finite() && *value >= 0.0)
    }
}

/// Of `provenance.json`.
#[derive(Debug, Deserialize)]
pub(super) struct Provenance {
    predicate: Predicate,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Predicate {
    build_definition: BuildDefinition,
    run_details: RunDetails,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BuildDefinition {
    external_parameters: Parameters,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    context: Context,
    index_hash: ContextHash,
}

#[derive(Debug, Deserialize)]
struct Context {
    hash: ContextHash,
}

#[derive(Debug, Deserialize)]
struct RunDetails {
    metadata: Metadata,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    started_on: Timestamp,
    finished_on: Timestamp,
}

impl Provenance {
    /// The hash of the context.
    pub(super) fn context_hash(&self) -> ContextHash {
        self.predicate.build_definition.external_parameters.context.hash
    }

    /// The hash in the `.hash.` route.
    pub(super) fn index_hash(&self) -> ContextHash {
        self.predicate.build_definition.external_parameters.index_hash
    }

    /// From the start of the run until the image was complete, in seconds.
    pub(super) fn seconds(&self) -> Option<f64> {
        let Metadata { started_on, finished_on } = self.predicate.run_details.metadata;
        Some(finished_on.duration_since(started_on).as_secs_f64()).filter(|seconds| *seconds >= 0.0)
    }
}

/// Of a task's definition.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Definition {
    /// The revision that it was made for.
    pub(super) revision: Option<String>,
    /// The push that it was made for.
    pub(super) made_for: Option<PushDate>,
    /// The hashes of the context, and in the `.hash.` route.
    pub(super) context_hash: Option<ContextHash>,
    pub(super) index_hash: Option<ContextHash>,
}

impl Definition {
    pub(super) fn read(definition: &Value) -> Self {
        let variable = |name: &str| definition["payload"]["env"][name].as_str().filter(|value| !value.is_empty());
        let context_hash = variable("HASH").and_then(|hash| hash.parse().ok());
        Self {
            revision: revision(definition),
            made_for: variable("PUSHDATE").and_then(|date| date.parse().ok()),
            context_hash,
            index_hash: variable("INDEX_HASH").and_then(|hash| hash.parse().ok()).or(context_hash),
        }
    }
}

/// The revision of a task: that of its route for Treeherder, else the one in the URL of its source, as hg.mozilla.org and GitHub
/// write them.
fn revision(definition: &Value) -> Option<String> {
    let routes = definition["routes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut of_treeherder = routes.filter_map(|route| route.strip_prefix("tc-treeherder.v2."));
    let of_route = of_treeherder.find_map(|route| route.split('.').find(|part| is_revision(part)));
    let source = || definition["metadata"]["source"].as_str()?.split(['/', '?', '#']).find(|part| is_revision(part));
    of_route.or_else(source).map(str::to_owned)
}

/// A commit, whole or shortened as Mercurial does it.
fn is_revision(text: &str) -> bool {
    (12..=40).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_revision_is_that_of_treeherder_or_of_the_source() {
        let of = |routes: &[&str], source: &str| {
            Definition::read(&json!({ "routes": routes, "metadata": { "source": source } })).revision
        };
        let (hg, git) = ("0123456789ab", "0123456789abcdef0123456789abcdef01234567");
        let route = format!("tc-treeherder.v2.try.{git}.12");
        assert_eq!(of(&["index.x", &route], &format!("https://hg/x/file/{hg}/a")).as_deref(), Some(git));
        assert_eq!(of(&[], &format!("https://hg.example.com/a/file/{hg}/testing/docker/x")).as_deref(), Some(hg));
        assert_eq!(of(&[], &format!("https://git.example.com/a/b/blob/{git}/taskcluster/x")).as_deref(), Some(git));
        assert_eq!(of(&["tc-treeherder.v2.try"], "https://example.com/a/default"), None);
        assert_eq!(Definition::read(&json!({})), Definition::default());
    }
}
