//! The taskgraph that a repository pins, as far as it matters here: versions before 12 name contexts by other hashes.

use std::fs;
use std::path::Path;

use regex::Regex;

/// The first taskgraph whose context hashes are those of the scheme `tar`.
const FIRST_WITH_TAR: u32 = 12;

/// Where versions are pinned, and how: what the decision task installs comes before the image that it runs in.
const PINS: [(&str, &str); 3] = [
    ("taskcluster/requirements.txt", REQUIREMENT),
    ("taskcluster/requirements.in", REQUIREMENT),
    (".taskcluster.yml", r"\btaskgraph:decision-v(\d+(?:\.\d+)*)"),
];

/// A lower bound is no pin.
const REQUIREMENT: &str = r"(?mi)^\s*taskcluster-taskgraph(?:\[[^\]]*\])?\s*[=~]=\s*(\d+(?:\.\d+)*)";

/// What there is to say where the repository pins a taskgraph whose context hashes are not ours.
#[must_use]
pub fn other_hashes(root: &Path) -> Option<String> {
    let (file, version) = PINS.iter().find_map(|(file, pin)| {
        let text = fs::read_to_string(root.join(file)).ok()?;
        let version = Regex::new(pin).ok()?.captures(&text)?.get(1)?.as_str().to_owned();
        Some((file, version))
    })?;
    let major: u32 = version.split('.').next()?.parse().ok()?;
    (major < FIRST_WITH_TAR).then(|| {
        format!(
            "{file} pins taskgraph {version}, which names contexts by the hash of the packed file; the hashes here are those of taskgraph {FIRST_WITH_TAR} and later: update it where both decide"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_taskgraph_is_named_with_where_it_is_pinned() {
        let old_image = "image: mozillareleases/taskgraph:decision-v8.1.0@sha256:00\n";
        for (files, said) in [
            (&[][..], None),
            (
                &[("taskcluster/requirements.txt", "# via taskcluster-taskgraph\ntaskcluster-taskgraph==11.2.4 \\\n")],
                Some("taskcluster/requirements.txt pins taskgraph 11.2.4,"),
            ),
            (
                &[
                    ("taskcluster/requirements.txt", "taskcluster-taskgraph[load-image]==12.0.0\n"),
                    (".taskcluster.yml", old_image),
                ],
                None,
            ),
            (
                &[("taskcluster/requirements.in", "taskcluster-taskgraph ~= 8.0\n")],
                Some("taskcluster/requirements.in pins taskgraph 8.0,"),
            ),
            (
                &[("taskcluster/requirements.in", "taskcluster-taskgraph>=8.0.1\n"), (".taskcluster.yml", old_image)],
                Some(".taskcluster.yml pins taskgraph 8.1.0,"),
            ),
            (&[("taskcluster/requirements.in", "mozilla-taskgraph==3.0.1\n")], None),
            (&[(".taskcluster.yml", "image: mozillareleases/taskgraph:decision-v24.2.0\n")], None),
            (&[(".taskcluster.yml", "image: mozillareleases/taskgraph:decision-latest\n")], None),
        ] {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir(root.path().join("taskcluster")).unwrap();
            for (file, text) in files {
                fs::write(root.path().join(file), text).unwrap();
            }
            let told = other_hashes(root.path());
            assert_eq!(told.as_deref().map(|told| told.split(" which").next().unwrap()), said, "{files:?}");
        }
    }
}
