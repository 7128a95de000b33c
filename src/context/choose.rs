//! Selects the files of a context and their names, for each scheme: the image directory, and what its Dockerfile includes.
//! The module `dockerfile` parses Dockerfiles, and `source` reads the files.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::ahead::{ahead, batches};
use super::archive::ArchivePath;
use super::checkout::Checkout;
use super::error::CollectError;
use super::run_task::RUN_TASK_FILES;
use super::source::{Source, is_absent, read_whole};
use super::walk::normalise;
use super::walk::{Unreadable, WalkedFile, files_below};
use crate::dockerfile::preprocess::{Dockerfile, LineError, LineProblem};

/// How many files a thread inspects at a time: half a millisecond's work.
const STAT_BATCH: usize = 256;

/// A directory that Python creates, and taskgraph omits.
pub(super) const PYTHON_CACHE: &str = "__pycache__";

/// The path of each file of a context.
type Places = BTreeMap<ArchivePath, PathBuf>;

/// All files of the image directory, unchanged: the scheme `contents`.
pub(super) fn raw_files(directory: &Path) -> Result<BTreeMap<ArchivePath, Source>, CollectError> {
    dockerfile_of(directory)?;
    let found = walk(directory, None)?;
    sources(found.into_iter().map(|file| (ArchivePath::new(file.name), file.source)).collect())
}

/// Inspects each file.
fn sources(places: Vec<(ArchivePath, PathBuf)>) -> Result<BTreeMap<ArchivePath, Source>, CollectError> {
    let mut sources = Vec::with_capacity(places.len());
    let stat = |(_, place): &(_, PathBuf)| Source::file(place);
    ahead(&batches(&places, STAT_BATCH, u64::MAX, |_| 0), stat, |_, source| {
        sources.push(source?);
        Ok(())
    })?;
    Ok(places.into_iter().map(|(name, _)| name).zip(sources).collect())
}

/// The files of the image directory, and those that its Dockerfile includes: the scheme `tar`.
pub(super) fn processed_files(
    checkout: &Checkout,
    directory: &Path,
    args: &BTreeMap<String, String>,
) -> Result<BTreeMap<ArchivePath, Source>, CollectError> {
    let path = dockerfile_of(directory)?;
    let dockerfile = process(&path, args)?;
    let at_line = |problem| CollectError::Dockerfile { path: path.clone(), problem };

    // First all paths, then the files, because a later file replaces an earlier one of the same name, of any type.
    let mut places = Places::new();
    for file in files_without_cache(directory)? {
        places.insert(ArchivePath::new(file.name), file.source);
    }
    for include in &dockerfile.includes {
        let at_include = |problem| at_line(LineError { line: include.line, problem });
        let root = checkout.root.as_deref().ok_or_else(|| {
            let (path, line, include) = (path.clone(), include.line, include.path.clone());
            CollectError::NoRoot { path, line, include }
        })?;
        let place = include_path(root, &include.path).map_err(at_include)?;
        if !add_include(&mut places, &include.path, place)? {
            return Err(at_include(LineProblem::MissingInclude { path: include.path.clone() }));
        }
    }
    if let Some(line) = dockerfile.run_task {
        let at_include = |problem| CollectError::RunTask { path: path.clone(), line, problem };
        let directory = &checkout.taskgraph().map_err(at_include)?.run_task;
        for name in RUN_TASK_FILES {
            places.insert(ArchivePath::new(format!("run-task/{name}")), directory.join(name));
        }
    }

    let name = ArchivePath::new("Dockerfile");
    places.remove(&name);
    let mut files = sources(places.into_iter().collect())?;
    files.insert(name, Source::generated(dockerfile.text.into_bytes()));
    Ok(files)
}

/// Adds the file at `place`, or all files below it, under the path as it is written in the Dockerfile, including `..`. Returns
/// whether the path exists.
fn add_include(places: &mut Places, path: &str, place: PathBuf) -> Result<bool, CollectError> {
    let name = format!("topsrcdir/{path}");
    match fs::metadata(&place) {
        Ok(metadata) if metadata.is_dir() => {
            let slash = if name.ends_with('/') { "" } else { "/" };
            for file in files_without_cache(&place)? {
                let name = [name.as_bytes(), slash.as_bytes(), &file.name].concat();
                places.insert(ArchivePath::new(name), file.source);
            }
            Ok(true)
        }
        Ok(_) => {
            places.insert(ArchivePath::new(name), place);
            Ok(true)
        }
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(CollectError::read(&place, error)),
    }
}

/// The processed Dockerfile of an image directory.
pub fn dockerfile(directory: &Path, args: &BTreeMap<String, String>) -> Result<Dockerfile, CollectError> {
    process(&dockerfile_of(directory)?, args)
}

fn process(path: &Path, args: &BTreeMap<String, String>) -> Result<Dockerfile, CollectError> {
    let processed = Dockerfile::process(&read_whole(path)?, args);
    processed.map_err(|problem| CollectError::Dockerfile { path: path.to_owned(), problem })
}

fn dockerfile_of(directory: &Path) -> Result<PathBuf, CollectError> {
    let path = directory.join("Dockerfile");
    match fs::symlink_metadata(&path) {
        Ok(_) => Ok(path),
        Err(error) if is_absent(&error) && !directory.is_dir() => {
            Err(CollectError::NoDirectory { path: directory.to_owned() })
        }
        Err(error) if is_absent(&error) => Err(CollectError::NoDockerfile { directory: directory.to_owned() }),
        Err(error) => Err(CollectError::read(&path, error)),
    }
}

/// The path of an include. `..` is resolved in the text, as taskgraph does, not by following links. The check compares
/// whole components: `/src-evil` is not inside `/src`. taskgraph compares characters.
pub(super) fn include_path(root: &Path, include: &str) -> Result<PathBuf, LineProblem> {
    let place = normalise(&root.join(include));
    if place.starts_with(root) { Ok(place) } else { Err(LineProblem::OutsideInclude { path: include.to_owned() }) }
}

fn files_without_cache(directory: &Path) -> Result<Vec<WalkedFile>, CollectError> {
    walk(directory, Some(OsStr::new(PYTHON_CACHE)))
}

fn walk(directory: &Path, skip: Option<&OsStr>) -> Result<Vec<WalkedFile>, CollectError> {
    files_below(directory, skip).map_err(|Unreadable { path, error }| CollectError::Read { path, error })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// A repository `repo` with one image, `docker/i`.
    fn repository(dockerfile: &str, files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (file, content) in files.iter().map(|file| (*file, "")).chain([("docker/i/Dockerfile", dockerfile)]) {
            let path = root.path().join("repo").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    fn processed(root: &tempfile::TempDir) -> Result<Vec<String>, CollectError> {
        let root = root.path().join("repo");
        processed_files(&Checkout::from(root.as_path()), &root.join("docker/i"), &BTreeMap::new()).map(names)
    }

    fn names(files: BTreeMap<ArchivePath, Source>) -> Vec<String> {
        files.into_keys().map(|name| String::from_utf8(name.as_bytes().to_vec()).unwrap()).collect()
    }

    fn line_problem(dockerfile: &str) -> (usize, LineProblem) {
        let root = repository(dockerfile, &["tools/a.sh"]);
        fs::create_dir(root.path().join("repo-evil")).unwrap();
        match processed(&root) {
            Err(CollectError::Dockerfile { problem, .. }) => (problem.line, problem.problem),
            other => panic!("{dockerfile:?} gives {other:?}"),
        }
    }

    #[test]
    fn names_in_the_archive_are_as_written() {
        let root = repository(
            "# %include tools/./b/../\n# %include tools/a.sh/\n# %include docker/../tools\n# %include ../repo/tools/b",
            &["tools/a.sh", "tools/b/c", "tools/b/__pycache__/c", "docker/i/__pycache__/x", "docker/i/a/Dockerfile"],
        );
        assert_eq!(
            processed(&root).unwrap(),
            [
                "Dockerfile",
                "a/Dockerfile",
                "topsrcdir/../repo/tools/b/c",
                "topsrcdir/docker/../tools/a.sh",
                "topsrcdir/docker/../tools/b/c",
                "topsrcdir/tools/./b/../a.sh",
                "topsrcdir/tools/./b/../b/c",
                "topsrcdir/tools/a.sh/",
            ]
        );
        let raw = raw_files(&root.path().join("repo/docker/i")).unwrap();
        assert_eq!(names(raw), ["Dockerfile", "__pycache__/x", "a/Dockerfile"]);
    }

    #[test]
    fn an_include_replaces_a_file_of_the_same_name() {
        let root = repository("# %include tools/a.sh\n", &["tools/a.sh"]);
        let own = root.path().join("repo/docker/i/topsrcdir/tools");
        fs::create_dir_all(&own).unwrap();
        symlink("nowhere", own.join("a.sh")).unwrap();
        assert_eq!(processed(&root).unwrap(), ["Dockerfile", "topsrcdir/tools/a.sh"]);
    }

    #[test]
    fn run_task_comes_from_taskgraph_and_replaces_own_files() {
        let installed =
            ["taskgraph/run-task", "taskgraph/fetch-content", "taskgraph/hgrc", "taskgraph/robustcheckout.py"];
        let dockerfile = "FROM x\n# %include-run-task\nRUN y\n";
        let root =
            repository(dockerfile, &[&installed[..], &["docker/i/run-task/run-task", "docker/i/run-task/x"]].concat());
        let repo = root.path().join("repo");
        let given = repo.join("taskgraph");
        fs::write(given.join("run-task"), "installed").unwrap();
        fs::set_permissions(given.join("run-task"), fs::Permissions::from_mode(0o750)).unwrap();
        let checkout = Checkout::new(Some(repo.clone()), Some(given), None);
        let files = processed_files(&checkout, &repo.join("docker/i"), &BTreeMap::new()).unwrap();
        let read = |name: &str| {
            let (mut bytes, source) = (Vec::new(), files.get(&ArchivePath::new(name)).unwrap());
            source.copy_to(&mut bytes).unwrap();
            (source.mode, String::from_utf8(bytes).unwrap())
        };
        assert_eq!(read("run-task/run-task"), (0o750, "installed".to_owned()));
        let text = Dockerfile::process(dockerfile.as_bytes(), &BTreeMap::new()).unwrap().text;
        assert_eq!(read("Dockerfile"), (0o644, text));
        let below = |name: &str| format!("run-task/{name}");
        let all = ["fetch-content", "hgrc", "robustcheckout.py", "run-task", "x"].map(below);
        assert_eq!(names(files)[1..], all);
        // In the scheme of 2015 the line is a comment.
        assert_eq!(names(raw_files(&repo.join("docker/i")).unwrap()), ["Dockerfile", &all[3], &all[4]]);

        let none = processed(&root).unwrap_err();
        assert!(matches!(&none, CollectError::RunTask { line: 2, .. }), "{none:?}");
        let expected = "docker/i/Dockerfile, line 2: `# %include-run-task` needs an installed taskgraph, ";
        assert!(none.to_string().contains(expected), "{none}");
    }

    #[test]
    fn includes_stay_inside_the_repository() {
        for path in ["..", "../repo-evil", "tools/../../x"] {
            let expected = LineProblem::OutsideInclude { path: path.to_owned() };
            assert_eq!(line_problem(&format!("FROM x\n# %include {path}\n")), (2, expected));
        }
        for path in ["none", "tools/a.sh/x", "nul\0"] {
            let expected = LineProblem::MissingInclude { path: path.to_owned() };
            assert_eq!(line_problem(&format!("# %include {path}\r")), (1, expected));
        }
    }
}
