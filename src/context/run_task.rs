//! Finds an installed taskgraph for `# %include-run-task`: its directory `run-task`, and its release. The module `checkout`
//! chooses between several; `dockerfile` has the lines for the Dockerfile.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::pinned::Pinned;
use crate::dockerfile::preprocess::RUN_TASK_SNIPPET;
use crate::report::Hint;

/// The files that `# %include-run-task` adds, the same in all releases of taskgraph.
pub const RUN_TASK_FILES: [&str; 4] = ["run-task", "fetch-content", "hgrc", "robustcheckout.py"];

/// Prints where the Python that runs `taskgraph` imports it from, and its release. It removes the first entry of the path, the
/// current directory, in which a script would not search.
const LOCATE_SCRIPT: &str = r#"
import os, sys
sys.path[:] = [path for path in sys.path if path]
import importlib.util
spec = importlib.util.find_spec("taskgraph")
origin = spec.origin if spec and spec.origin else ""
try:
    from importlib.metadata import version
    release = version("taskcluster-taskgraph")
except Exception:
    release = ""
os.write(1, b"\n" + os.fsencode(origin) + b"\n" + release.encode())
"#;

/// The maximum size of a script's first two lines: systems do not read more of the first one.
const HEAD: u64 = 4096;

/// An installed taskgraph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taskgraph {
    /// Its directory `run-task`.
    pub run_task: PathBuf,
    /// Its release, if known.
    pub version: Option<String>,
}

/// Why there are no files for `# %include-run-task`. The messages continue after the line's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunTaskError {
    /// No taskgraph was specified, and there is none on `PATH`.
    #[error(
        "needs an installed taskgraph, and there is none on PATH{}",
        Hint(format_args!("{}, or name its directory run-task with --run-task", install_hint(pinned.as_ref())))
    )]
    NotInstalled {
        /// The release that the repository pins.
        pinned: Option<Pinned>,
    },
    /// The program is not a Python script.
    #[error(
        "needs taskgraph's files, and {} does not say which Python runs it{}",
        program.display(),
        Hint("name the directory run-task with --run-task")
    )]
    NoPython {
        /// The program.
        program: PathBuf,
    },
    /// The Python installation does not have the package.
    #[error(
        "needs taskgraph's files, and the Python of {} does not find them: {problem}{}",
        program.display(),
        Hint("install taskgraph again, or name its directory run-task with --run-task")
    )]
    NoPackage {
        /// The program.
        program: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// One of the files is missing in the directory.
    #[error(
        "needs {file}, and {} has none{}",
        directory.display(),
        Hint("name the directory run-task of an installed taskgraph with --run-task")
    )]
    Incomplete {
        /// The directory.
        directory: PathBuf,
        /// The file.
        file: &'static str,
    },
    /// This taskgraph expands the line differently.
    #[error(
        "means something else for {}, so that hashes would differ{}",
        source_file.display(),
        Hint("use a newer image-worker")
    )]
    Unknown {
        /// The file that expands it.
        source_file: PathBuf,
    },
}

impl Taskgraph {
    /// The taskgraph with this directory `run-task`.
    pub fn at(run_task: &Path) -> Result<Self, RunTaskError> {
        Self { run_task: run_task.to_owned(), version: None }.checked()
    }

    /// The taskgraph that the program `taskgraph` would run; `None` if there is no such program.
    pub fn on_path(search_path: Option<&OsStr>) -> Result<Option<Self>, RunTaskError> {
        let directories = search_path.unwrap_or_default().as_bytes().split(|byte| *byte == b':');
        let mut directories =
            directories.filter(|path| !path.is_empty()).map(|path| Path::new(OsStr::from_bytes(path)));
        match directories.find_map(|directory| executable(directory.join("taskgraph"))) {
            Some(program) => Self::of_program(&program)?.checked().map(Some),
            None => Ok(None),
        }
    }

    fn of_program(program: &Path) -> Result<Self, RunTaskError> {
        let no_python = || RunTaskError::NoPython { program: program.to_owned() };
        let no_package = |problem: String| RunTaskError::NoPackage { program: program.to_owned(), problem };
        let mut python = python_of(program).ok_or_else(no_python)?;
        let output = python.args(["-c", LOCATE_SCRIPT]).stdin(Stdio::null()).output();
        let output = output.map_err(|error| no_package(format!("{}: {error}", python.get_program().display())))?;
        let printed = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(no_package(printed.trim().lines().last().unwrap_or("it failed").to_owned()));
        }
        // The installation itself can print something before.
        let mut lines = output.stdout.rsplitn(3, |byte| *byte == b'\n');
        let (version, origin) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let package = Path::new(OsStr::from_bytes(origin)).parent();
        let package = package.ok_or_else(|| no_package("it has no package taskgraph".to_owned()))?;
        let version = Some(String::from_utf8_lossy(version).into_owned()).filter(|version| !version.is_empty());
        Ok(Self { run_task: package.join("run-task"), version })
    }

    /// Checks that it has all files, and expands the line as expected.
    fn checked(self) -> Result<Self, RunTaskError> {
        if let Some(file) = RUN_TASK_FILES.into_iter().find(|file| !self.run_task.join(file).is_file()) {
            return Err(RunTaskError::Incomplete { directory: self.run_task, file });
        }
        // A copy of only this directory has no sources beside it.
        let source_file = self.run_task.with_file_name("util").join("docker.py");
        match fs::read_to_string(&source_file) {
            Ok(source) if !is_known(&source) => Err(RunTaskError::Unknown { source_file }),
            _ => Ok(Self { version: self.version.clone().or_else(|| self.installed_version()), ..self }),
        }
    }

    /// The release in the name of the installation's metadata directory: `taskcluster_taskgraph-1.2.3.dist-info`.
    fn installed_version(&self) -> Option<String> {
        let packages = fs::read_dir(self.run_task.parent()?.parent()?).ok()?;
        packages.flatten().find_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some(name.strip_prefix("taskcluster_taskgraph-")?.strip_suffix(".dist-info")?.to_owned())
        })
    }
}

/// The hint for installing taskgraph.
fn install_hint(pinned: Option<&Pinned>) -> String {
    match pinned {
        Some(Pinned { version, file }) => {
            format!("{file} pins {version}: pip install taskcluster-taskgraph=={version}")
        }
        None => "pip install taskcluster-taskgraph".to_owned(),
    }
}

fn executable(path: PathBuf) -> Option<PathBuf> {
    let metadata = fs::metadata(&path).ok()?;
    (metadata.is_file() && metadata.permissions().mode() & 0o111 != 0).then_some(path)
}

/// The Python that runs a program: from the script, or from the same directory for version managers (pyenv, asdf).
fn python_of(program: &Path) -> Option<Command> {
    let mut head = Vec::new();
    File::open(program).ok()?.take(HEAD).read_to_end(&mut head).ok()?;
    let mut lines = head.split(|byte| *byte == b'\n');
    let (first, second) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    if second.starts_with(b"'''exec' ") {
        return Some(python_of_shell_line(program, second));
    }
    if let Some(interpreter) = first.strip_prefix(b"#!").filter(|line| names_python(line)) {
        // Like the system: a program, and everything after it as one argument.
        let interpreter = interpreter.trim_ascii();
        let end = interpreter.iter().position(u8::is_ascii_whitespace).unwrap_or(interpreter.len());
        let (interpreter, argument) = interpreter.split_at(end);
        let argument = Some(argument.trim_ascii()).filter(|argument| !argument.is_empty());
        let mut command = Command::new(OsStr::from_bytes(interpreter));
        command.args(argument.map(OsStr::from_bytes));
        return Some(command);
    }
    executable(program.with_file_name("python3")).map(Command::new)
}

fn names_python(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line);
    let mut names = line.split_whitespace().map(|word| word.rsplit('/').next().unwrap_or(word));
    names.any(|name| name.starts_with("python") || name.starts_with("pypy"))
}

/// pip and uv write `'''exec' "/a long/path/python" "$0" "$@"` if a path cannot be in the first line. The shell parses it;
/// without `"$0"` it runs Python with other arguments.
fn python_of_shell_line(program: &Path, line: &[u8]) -> Command {
    let line = String::from_utf8_lossy(line).replace(r#""$0" "$@""#, r#""$@""#);
    let mut command = Command::new("/bin/sh");
    command.args([OsString::from("-c"), line.into(), program.into()]);
    command
}

/// Whether this `util/docker.py` adds the expected lines and files.
fn is_known(source: &str) -> bool {
    // In the source, the characters `\n` end a line.
    let lines = source.split("COPY ").skip(1).map(|rest| rest.split("\\n").next().unwrap_or_default());
    let files = source.split_once("RUN_TASK_FILES").and_then(|(_, rest)| rest.split_once("RUN_TASK_SNIPPET"));
    // Every second piece is inside quotes; pieces with a slash are path templates.
    let files = files.unwrap_or_default().0.split(['"', '\'']).skip(1).step_by(2).filter(|text| !text.contains('/'));
    lines.eq(RUN_TASK_SNIPPET.lines().map(|line| line.trim_start_matches("COPY "))) && files.eq(RUN_TASK_FILES)
}
