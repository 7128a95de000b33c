//! Cargo's build script: names the commit that the program is built from, for `--version`. Where the sources are in no git
//! checkout, the variable `IMAGE_WORKER_COMMIT` may name it; without either, the version stands alone.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=scripts/build.rs");
    println!("cargo:rerun-if-env-changed=IMAGE_WORKER_COMMIT");
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let directory = variable("CARGO_MANIFEST_DIR").unwrap_or_default();
    let commit = variable("IMAGE_WORKER_COMMIT").or_else(|| checked_out(Path::new(&directory)));
    let commit = commit.map(|commit| format!(" ({commit})")).unwrap_or_default();
    println!("cargo:rustc-env=IMAGE_WORKER_VERSION={}{commit}", variable("CARGO_PKG_VERSION").unwrap_or_default());
}

/// The commit of the checkout and its date. Also says which files a commit or a checkout changes, and no other files, so that
/// nothing is built in vain.
fn checked_out(directory: &Path) -> Option<String> {
    let git = |arguments: &[&str]| git(directory, arguments);
    // An unpacked archive of the sources can lie in another repository.
    if Path::new(&git(&["rev-parse", "--show-toplevel"])?).canonicalize().ok()? != directory.canonicalize().ok()? {
        return None;
    }
    let file = |name: &str| git(&["rev-parse", "--git-path", name]).filter(|path| directory.join(path).exists());
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]).and_then(|branch| file(&branch));
    // A branch without a file of its own is packed; the next commit writes the file, and the log.
    let instead = if branch.is_some() { Vec::new() } else { vec![file("packed-refs"), file("logs/HEAD")] };
    for path in [file("HEAD"), branch].into_iter().chain(instead).flatten() {
        println!("cargo:rerun-if-changed={path}");
    }
    git(&["-c", "log.showSignature=false", "log", "-1", "--abbrev=12", "--format=%h %cs"])
}

/// What git prints, if it is there and knows an answer.
fn git(directory: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    // A git hook that starts Cargo sets them, for another repository perhaps.
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        command.env_remove(variable);
    }
    let output = command.args(arguments).current_dir(directory).output().ok().filter(|it| it.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
