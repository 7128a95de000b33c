//! An installed taskgraph, found through the program `taskgraph` in all the ways in which people install Python programs,
//! with a real Python; and its files in a dry run. Which one is taken is tested with `hash`.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use image_worker::context::run_task::{RUN_TASK_FILES, RunTaskError, Taskgraph};

use crate::harness::{Repository, engine, installed, path, program};

/// A `util/docker.py` as far as it is looked at, in another layout than any release has.
const SOURCE: &str = "RUN_TASK_FILES = ['run-task', 'fetch-content', 'hgrc', 'robustcheckout.py']\nRUN_TASK_SNIPPET = (\n\
    b'COPY run-task/run-task /usr/local/bin/run-task\\n'\n\
    b'COPY run-task/fetch-content /usr/local/bin/fetch-content\\n'\n\
    b'COPY run-task/robustcheckout.py /usr/local/mercurial/robustcheckout.py\\n'\n\
    b'COPY run-task/hgrc /etc/mercurial/hgrc.d/mozilla.rc\\n')\n";

fn write(path: &Path, text: &str, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A package `taskgraph` in this directory; gives its directory `run-task`.
fn package(site: &Path, version: &str) -> PathBuf {
    let run_task = site.join("taskgraph/run-task");
    for file in RUN_TASK_FILES {
        write(&run_task.join(file), file, 0o755);
    }
    write(&site.join("taskgraph/__init__.py"), "raise Exception('nothing of it is run')\n", 0o644);
    write(&site.join("taskgraph/util/docker.py"), SOURCE, 0o644);
    let metadata = format!("Metadata-Version: 2.1\nName: taskcluster-taskgraph\nVersion: {version}\n");
    write(&site.join(format!("taskcluster_taskgraph-{version}.dist-info/METADATA")), &metadata, 0o644);
    run_task
}

/// Evaluates an expression in this Python.
fn evaluate(python: &Path, expression: &str) -> String {
    let output = Command::new(python).args(["-c", &format!("import sys; print({expression})")]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The Python of this machine, without a version manager's script before it.
fn python() -> PathBuf {
    evaluate(Path::new("python3"), "sys.executable").into()
}

/// A virtual environment with a taskgraph: what `python -m venv` and pip make of it, without the rest.
fn environment(at: &Path, version: &str) -> PathBuf {
    let site = evaluate(&python(), "'lib/python%d.%d/site-packages' % sys.version_info[:2]");
    write(&at.join("pyvenv.cfg"), &format!("home = {}/bin\n", evaluate(&python(), "sys.base_prefix")), 0o644);
    fs::create_dir_all(at.join("bin")).unwrap();
    symlink(python(), at.join("bin/python3")).unwrap();
    package(&at.join(site), version)
}

fn script(at: &Path, head: &str) -> PathBuf {
    write(&at.join("taskgraph"), &format!("{head}\nimport sys\nsys.exit('it is not run')\n"), 0o755);
    at.to_owned()
}

fn found(directories: &[&Path]) -> Option<(PathBuf, Option<String>)> {
    let path: Vec<_> = directories.iter().map(|directory| directory.as_os_str().as_bytes()).collect();
    Taskgraph::on_path(Some(OsStr::from_bytes(&path.join(&b':')))).unwrap().map(|it| (it.run_task, it.version))
}

fn refusal(directory: &Path) -> String {
    let error = Taskgraph::on_path(Some(directory.as_os_str())).unwrap_err().to_string();
    error.replace(&format!("{}/", directory.parent().unwrap().display()), "")
}

#[test]
fn a_virtual_environment_is_found_through_its_script_and_through_links_to_it() {
    if !installed("python3") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let at = root.path().join("venv");
    let expected = Some((environment(&at, "14.0.0"), Some("14.0.0".to_owned())));
    let bin = script(&at.join("bin"), &format!("#!{}/bin/python3", at.display()));
    assert_eq!(found(&[&bin]), expected);
    // What pipx and `uv tool` put into ~/.local/bin, after directories with something else of that name.
    let local = root.path().join("local");
    fs::create_dir_all(&local).unwrap();
    symlink(bin.join("taskgraph"), local.join("taskgraph")).unwrap();
    let other = root.path().join("other");
    write(&other.join("taskgraph"), "", 0o644);
    fs::create_dir_all(root.path().join("directory/taskgraph")).unwrap();
    assert_eq!(found(&[&other, &root.path().join("directory"), &root.path().join("none"), &local]), expected);
    assert_eq!(found(&[&other]), None);
    assert_eq!(Taskgraph::on_path(None), Ok(None));
}

#[test]
fn a_path_that_is_no_first_line_is_read_by_the_shell() {
    if !installed("python3") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let at = root.path().join("with a space and a \"quote\"");
    let expected = Some((environment(&at, "15.0.0"), Some("15.0.0".to_owned())));
    let quoted = at.display().to_string().replace('"', "\\\"");
    for python in [
        format!("\"{quoted}/bin/python3\""),
        format!("'{}/bin/python3'", at.display()),
        // uv's, for environments that can be moved.
        "\"$(dirname -- \"$(realpath -- \"$0\")\")\"/'python3'".to_owned(),
    ] {
        let bin = script(&at.join("bin"), &format!("#!/bin/sh\n'''exec' {python} \"$0\" \"$@\"\n' '''"));
        assert_eq!(found(&[&bin]), expected, "{python}");
    }
}

#[test]
fn a_script_that_finds_python_by_path_or_by_a_version_manager_is_run_as_it_is() {
    if !installed("python3") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let at = root.path().join("venv");
    let expected = Some((environment(&at, "16.0.0"), Some("16.0.0".to_owned())));
    // As if PATH led `env` there.
    let named = format!("#!/usr/bin/env -S PATH={}/bin:/usr/bin python3 -E", at.display());
    assert_eq!(found(&[&script(&root.path().join("env"), &named)]), expected);
    let shims = script(&root.path().join("shims"), "#!/usr/bin/env bash\nexec pyenv exec taskgraph \"$@\"");
    assert_eq!(
        refusal(&shims),
        "needs taskgraph's files, and shims/taskgraph does not say which Python runs it; name the directory run-task with \
         --run-task"
    );
    let shim = format!("#!/bin/sh\necho the shell greets\nexec {}/bin/python3 \"$@\"\n", at.display());
    write(&shims.join("python3"), &shim, 0o755);
    assert_eq!(found(&[&shims]), expected);
}

#[test]
fn an_editable_installation_leads_to_its_sources() {
    if !installed("python3") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let at = root.path().join("venv");
    let installed = environment(&at, "24.0.0");
    let sources = package(&root.path().join("checkout/src"), "24.0.0");
    let site = installed.parent().unwrap().parent().unwrap();
    fs::remove_dir_all(site.join("taskgraph")).unwrap();
    write(&site.join("taskgraph.pth"), &format!("{}/checkout/src\n", root.path().display()), 0o644);
    let bin = script(&at.join("bin"), &format!("#!{}/bin/python3", at.display()));
    assert_eq!(found(&[&bin]), Some((sources, Some("24.0.0".to_owned()))));
}

#[test]
fn a_broken_installation_is_refused_with_the_reason() {
    if !installed("python3") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let gone = script(&root.path().join("gone"), "#!/nonexistent/bin/python3");
    let expected =
        "the Python of gone/taskgraph does not find them: /nonexistent/bin/python3: No such file or directory";
    assert!(refusal(&gone).contains(expected), "{}", refusal(&gone));
    let at = root.path().join("venv");
    let run_task = environment(&at, "1.0.0");
    let bin = script(&at.join("bin"), &format!("#!{}/bin/python3", at.display()));
    fs::rename(run_task.join("hgrc"), run_task.join("other")).unwrap();
    assert!(refusal(&bin).starts_with("needs hgrc, and "), "{}", refusal(&bin));
    fs::remove_dir_all(run_task.parent().unwrap()).unwrap();
    assert!(refusal(&bin).contains("it has no package taskgraph; install taskgraph again"), "{}", refusal(&bin));
}

#[test]
fn a_release_that_adds_something_else_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let run_task = package(root.path(), "99.0.0");
    assert_eq!(Taskgraph::at(&run_task).unwrap().version.as_deref(), Some("99.0.0"));
    let source_file = root.path().join("taskgraph/util/docker.py");
    for (old, new) in [
        ("/usr/local/bin/run-task\\n", "/usr/bin/run-task\\n"),
        ("'hgrc', ", "'hgrc', 'gitconfig', "),
        ("mozilla.rc\\n", "mozilla.rc\\nCOPY run-task/gitconfig /etc/gitconfig\\n"),
        ("RUN_TASK", "OTHER"),
    ] {
        assert!(SOURCE.contains(old), "{old}");
        fs::write(&source_file, SOURCE.replace(old, new)).unwrap();
        let error = Taskgraph::at(&run_task).unwrap_err();
        assert_eq!(error, RunTaskError::Unknown { source_file: source_file.clone() }, "{old}");
    }
    // A copy of the directory alone is taken as it is.
    fs::remove_file(&source_file).unwrap();
    assert!(Taskgraph::at(&run_task).is_ok());
}

#[test]
fn a_dry_run_builds_with_the_files_that_are_hashed() {
    if !engine() {
        return;
    }
    let repository = Repository::bare("run-task", "FROM scratch\n# %include-run-task\n");
    let run_task = package(&repository.root.path().join("packages"), "14.0.0");
    let (directory, output) = (repository.directory(), repository.root.path().join("out"));
    let named = ["--run-task", path(&run_task)];
    let hash = program(["hash", path(&directory)].into_iter().chain(named), []).finish();
    let rest = ["--image-name", "run-task", "--project", "try", "--output", path(&output)];
    let arguments = ["run", "--dry-run", "--context", path(&directory)].into_iter().chain(named).chain(rest);
    let finished = program(arguments, []).finish();
    finished.assert_succeeds();
    assert_eq!(finished.stdout.trim(), format!("run-task:{}", hash.stdout.trim()));
    assert!(finished.stderr.contains(&format!("taskgraph 14.0.0 in {}", run_task.display())), "{}", finished.stderr);
    assert!(output.join("image.tar").is_file());
}
