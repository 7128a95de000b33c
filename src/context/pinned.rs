//! Finds the release of taskgraph that a repository's decision task runs, from the repository's files. The module `run_task`
//! finds an installed taskgraph.

use std::fs;
use std::path::Path;

/// The first taskgraph whose context hashes are those of the scheme `tar`; earlier ones hash the compressed file.
const FIRST_WITH_TAR: u32 = 12;

/// The release that a repository pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// Its version.
    pub version: String,
    /// The file that contains the pin, relative to the root.
    pub file: &'static str,
}

impl Pinned {
    /// Searches the repository's requirements, and the image of its decision task.
    #[must_use]
    pub fn read(root: &Path) -> Option<Self> {
        ["taskcluster/requirements.txt", "taskcluster/requirements.in", ".taskcluster.yml"].into_iter().find_map(
            |file| {
                // Ignore files that cannot be read.
                let text = fs::read_to_string(root.join(file)).ok()?;
                let version = required(&text).or_else(|| decision_image(&text))?;
                Some(Self { version, file })
            },
        )
    }

    /// A message if the context hashes of this taskgraph differ from ours.
    #[must_use]
    pub fn other_hashes(&self) -> Option<String> {
        let Self { version, file } = self;
        let major: u32 = version.split('.').next()?.parse().ok()?;
        (major < FIRST_WITH_TAR).then(|| {
            format!(
                "{file} pins taskgraph {version}, which names contexts by the hash of the packed file; the hashes here are \
                 those of taskgraph {FIRST_WITH_TAR} and later: update it where both decide"
            )
        })
    }
}

/// `taskcluster-taskgraph==1.2.3` or `~=1.2`, with or without extras. A lower bound is not a pin.
fn required(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (name, version) = line.split_once("==").or_else(|| line.split_once("~="))?;
        let name = name.split('[').next()?.trim().to_lowercase().replace('_', "-");
        (name == "taskcluster-taskgraph").then(|| version_at_start(version))?
    })
}

/// `mozillareleases/taskgraph:decision-v1.2.3@sha256:…`
fn decision_image(text: &str) -> Option<String> {
    text.split("taskgraph:decision-v").skip(1).find_map(version_at_start)
}

fn version_at_start(text: &str) -> Option<String> {
    let text = text.trim_start();
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '.')).unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pinned(files: &[(&str, &str)]) -> Option<String> {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("taskcluster")).unwrap();
        for (path, content) in files {
            fs::write(root.path().join(path), content).unwrap();
        }
        Pinned::read(root.path()).map(|it| format!("{} {}", it.file, it.version))
    }

    #[test]
    fn the_pinned_release_is_read_where_repositories_have_it() {
        let text =
            "# via\nmozilla-taskgraph==3.0.1 \\\ntaskcluster-taskgraph[load-image]==14.0.0 \\\n    --hash=sha256:ab\n";
        let (requirements, yml) = ("taskcluster/requirements.txt", ".taskcluster.yml");
        let image = "image: a/taskgraph:decision-0ab@sha256:0\nimage: a/taskgraph:decision-v24.1.1@sha256:c\n";
        assert_eq!(pinned(&[(requirements, text), (yml, image)]).unwrap(), "taskcluster/requirements.txt 14.0.0");
        assert_eq!(pinned(&[(requirements, "redo==2\n"), (yml, image)]).unwrap(), ".taskcluster.yml 24.1.1");
        let listed = ("taskcluster/requirements.in", "Taskcluster_Taskgraph == 7.4.0; python_version > '3'\n");
        assert_eq!(pinned(&[listed]).unwrap(), "taskcluster/requirements.in 7.4.0");
        assert_eq!(pinned(&[("taskcluster/requirements.in", "taskcluster-taskgraph>=1.3\n")]), None);
        let compatible = ("taskcluster/requirements.in", "taskcluster-taskgraph ~= 8.0\n");
        assert_eq!(pinned(&[compatible]).unwrap(), "taskcluster/requirements.in 8.0");
    }

    #[test]
    fn a_taskgraph_with_other_hashes_is_named() {
        let other = |version: &str| {
            let pinned = Pinned { version: version.to_owned(), file: "taskcluster/requirements.txt" };
            pinned.other_hashes()
        };
        assert!(other("11.2.4").unwrap().starts_with("taskcluster/requirements.txt pins taskgraph 11.2.4, which"));
        assert_eq!(["12.0.0", "24.5.1", "latest"].map(other), [None, None, None]);
    }
}
