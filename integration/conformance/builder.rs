//! The builders that are compared: how the program is made to use each, and what came of a case there. What it means
//! that two differ is for the table of differences.

use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::case::Case;
use super::image::{Listing, listing};
use crate::harness::{Builder, Finished, PROJECT, path, place_of, program};

/// The builders, the one first that the others are compared with.
pub(crate) const BUILDERS: [Builder; 3] = [Builder::Docker, Builder::BuildKit, Builder::Podman];

/// A directory for what has been built, so that one can work on the table without building all cases again.
const KEEP: &str = "CONFORMANCE_KEEP";

/// What a builder is called in documentation.
pub(crate) fn name(builder: Builder) -> &'static str {
    match builder {
        Builder::Docker => "Docker classic",
        Builder::BuildKit => "Docker BuildKit",
        Builder::Podman => "Podman",
    }
}

/// Where its engine is.
pub(crate) fn place(builder: Builder) -> String {
    let docker = || std::env::var("DOCKER_HOST").ok().filter(|place| !place.is_empty());
    match builder {
        Builder::Podman => place_of("podman"),
        _ => docker().unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned()),
    }
}

/// Whether both engines answer. Where one does not, the test skips itself with a notice at home, and fails in CI.
pub(crate) fn engines() -> bool {
    let silent = |builder: &Builder| {
        let mut version = Command::new("docker");
        let answer = version.arg("version").env("DOCKER_HOST", place(*builder)).stdin(Stdio::null()).output();
        !answer.is_ok_and(|output| output.status.success())
    };
    let Some(silent) = BUILDERS.into_iter().find(silent) else { return true };
    let notice = format!("no {} answers: run scripts/engine and scripts/engine podman", name(silent));
    assert!(std::env::var_os("IMAGE_WORKER_NO_SKIP").is_none(), "{notice}");
    eprintln!("SKIPPED: {notice}");
    false
}

/// Lets the program build a case: how it ended, and the archive, where there is one.
pub(super) fn run(case: &Case, builder: Builder, more: &[(&'static str, &str)]) -> (Finished, Option<Vec<u8>>) {
    let directory = TempDir::with_prefix("conformance-").unwrap();
    let (context, output) = (directory.path().join("context.tar"), directory.path().join("out"));
    std::fs::write(&context, case.context()).unwrap();
    let arguments = ["run", "--dry-run", "--context", path(&context), "--output", path(&output)];
    // Two builders of one engine must not take each other's images for their own.
    let (word, choice) = match builder {
        Builder::Docker => ("classic", "classic"),
        Builder::BuildKit => ("buildkit", "buildkit"),
        Builder::Podman => ("podman", "auto"),
    };
    let mut environment = vec![
        ("IMAGE_NAME", format!("conformance-{word}-{}", case.name)),
        ("PROJECT", PROJECT.to_owned()),
        ("DOCKER_HOST", place(builder)),
        ("IMAGE_WORKER_BUILDER", choice.to_owned()),
    ];
    environment.extend(case.args.clone().map(|args| ("DOCKER_BUILD_ARGS", args)));
    environment.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    let environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value));
    let finished = program(arguments, environment).finish();
    let archive = std::fs::read(output.join("image.tar")).ok();
    assert_eq!(finished.code == 0, archive.is_some(), "{}", finished.stderr);
    (finished, archive)
}

/// What is in the image that the program makes of a case, and as `Exit code` how it ended.
pub(super) fn build(case: &Case, builder: Builder) -> Listing {
    let kept =
        std::env::var_os(KEEP).map(|directory| Path::new(&directory).join(format!("{} {}", name(builder), case.name)));
    if let Some(built) = kept.as_ref().and_then(|kept| std::fs::read(kept).ok()) {
        return serde_json::from_slice(&built).unwrap();
    }
    let (finished, archive) = run(case, builder, &[]);
    let mut built = archive.map(|archive| listing(&archive)).unwrap_or_default();
    if finished.code != 0 {
        // One line, of the kind that belongs to the code; read where a difference is to be understood.
        eprintln!("{} with {}: {}", case.name, name(builder), finished.error_line());
    }
    built.insert("Exit code".to_owned(), finished.code.to_string());
    if let Some(kept) = kept {
        std::fs::write(kept, serde_json::to_vec(&built).unwrap()).unwrap();
    }
    built
}
