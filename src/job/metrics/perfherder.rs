//! The numbers of a build in the form that Treeherder draws graphs of: a `perfherder-data` document. What was measured is
//! handed in; what an alert is, people decide there.

use std::time::Duration;

use serde::Serialize;

use super::Measured;
use crate::context::ImageName;
use crate::net::Digest;

/// Treeherder's name for what builds cost and make.
const FRAMEWORK: &str = "build_metrics";

/// Treeherder stores no longer names of suites.
const LONGEST_NAME: usize = 80;

/// The document.
#[derive(Debug, PartialEq, Serialize)]
pub struct PerfherderData {
    framework: Framework,
    suites: [Suite; 1],
}

#[derive(Debug, PartialEq, Serialize)]
struct Framework {
    name: &'static str,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Suite {
    name: String,
    lower_is_better: bool,
    should_alert: bool,
    /// The properties that separate incomparable numbers; each combination has its own graph.
    extra_options: [String; 1],
    subtests: Vec<Subtest>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Subtest {
    name: String,
    value: serde_json::Number,
    unit: &'static str,
    lower_is_better: bool,
    should_alert: bool,
}

impl PerfherderData {
    /// The document of a build.
    #[must_use]
    pub fn of(measured: &Measured) -> Self {
        let count = |name: &str, value: u64, unit: &'static str| Subtest::new(name, value.into(), unit);
        let mut subtests = vec![count("image size", measured.layers.size, "bytes")];
        if measured.artifact.is_zstd() {
            subtests.push(count("compressed size", measured.archive, "bytes"));
        }
        subtests.push(count("layers", measured.layers.layers.len() as u64, "layers"));
        subtests.push(count("context size", measured.context, "bytes"));
        if let Some((cached, _)) = measured.cached {
            subtests.push(Subtest { lower_is_better: false, ..count("cached steps", cached, "steps") });
        }
        subtests.extend(seconds("in all", measured.took));
        subtests.extend(measured.stages.iter().filter_map(|stage| seconds(stage.name, stage.took)));
        let suite = Suite {
            name: suite(&measured.image),
            lower_is_better: true,
            should_alert: false,
            extra_options: [measured.builder.to_owned()],
            subtests,
        };
        Self { framework: Framework { name: FRAMEWORK }, suites: [suite] }
    }
}

impl Subtest {
    fn new(name: &str, value: serde_json::Number, unit: &'static str) -> Self {
        Self { name: name.to_owned(), value, unit, lower_is_better: true, should_alert: false }
    }
}

/// To the millisecond: more is noise.
fn seconds(name: &str, took: Duration) -> Option<Subtest> {
    let rounded = Duration::from_millis(u64::try_from(took.as_millis()).ok()?).as_secs_f64();
    Some(Subtest::new(name, serde_json::Number::from_f64(rounded)?, "s"))
}

/// The name of an image's suite. A digest replaces the end of a long name, so that suites of two images stay distinct.
fn suite(image: &ImageName) -> String {
    let name = format!("image-build {image}");
    if name.len() <= LONGEST_NAME {
        return name;
    }
    let digest = Digest::of(image.as_str().as_bytes()).to_string();
    let end: String = std::iter::once('~').chain(digest.chars().take(8)).collect();
    name.chars().take(LONGEST_NAME - end.len()).chain(end.chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_and_stay_two() {
        let [one, other] = ["a", "b"].map(|end| suite(&format!("{}{end}", "x".repeat(127)).parse().unwrap()));
        assert_eq!((one.len(), other.len()), (80, 80));
        assert_ne!(one, other);
        assert_eq!(suite(&"x".repeat(68).parse().unwrap()).len(), 80);
        assert_eq!(suite(&"builder".parse().unwrap()), "image-build builder");
    }
}
