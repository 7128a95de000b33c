//! Which release of taskgraph a repository's decision task runs, as its files say. Where one is installed is for
//! `run_task`.

use std::fs;
use std::path::Path;

/// The release that a repository pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// Its version.
    pub version: String,
    /// The file that says so, from the root.
    pub file: &'static str,
}

impl Pinned {
    /// Looks among the repository's requirements, and at the image of its decision task.
    #[must_use]
    pub fn read(root: &Path) -> Option<Self> {
        ["taskcluster/requirements.txt", "taskcluster/requirements.in", ".taskcluster.yml"].into_iter().find_map(
            |file| {
                // A file that cannot be read pins nothing.
                let text = fs::read_to_string(root.join(file)).ok()?;
                let version = required(&text).or_else(|| decision_image(&text))?;
                Some(Self { version, file })
            },
        )
    }
}

/// `taskcluster-taskgraph==1.2.3`, with extras or without.
fn required(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (name, version) = line.split_once("==")?;
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
    }
}
