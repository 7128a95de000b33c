//! The builders that are compared: how the program is told to use each, and what came of a case there. What it means
//! that two differ is for the table of differences.

use std::path::Path;

use tempfile::TempDir;

use super::case::Case;
use super::image::{Listing, listing};
use crate::harness::{PROJECT, path, program};

/// Who builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Builder {
    /// Docker's classic builder, which the others are compared with.
    Classic,
    /// Podman's service.
    Podman,
}

impl Builder {
    pub(super) const ALL: [Self; 2] = [Self::Classic, Self::Podman];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Classic => "Docker classic",
            Self::Podman => "Podman",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Podman => "podman",
        }
    }
}

/// Lets the program build a case. The subject `Build` says how it ended; the rest is what is in the image.
pub(super) fn build(case: &Case, builder: Builder) -> Listing {
    let folder = TempDir::with_prefix("conformance-").unwrap();
    let (context, output) = (folder.path().join("context.tar"), folder.path().join("out"));
    std::fs::write(&context, case.context()).unwrap();
    // Builders of one engine must not take each other's images for their own.
    let name = format!("conformance-{}-{}", builder.word(), case.name);
    let arguments = ["run", "--dry-run", "--context", path(&context), "--output", path(&output)];
    let mut environment = vec![("IMAGE_NAME", name), ("PROJECT", PROJECT.to_owned())];
    environment.extend(case.args.clone().map(|args| ("DOCKER_BUILD_ARGS", args)));
    if builder == Builder::Podman {
        environment.push(("DOCKER_HOST", std::env::var("IMAGE_WORKER_TEST_PODMAN").unwrap()));
    }
    let environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value));
    let finished = program(arguments, environment).finish();
    let mut built = Listing::new();
    if finished.code == 0 {
        built = listing(&std::fs::read(output.join("image.tar")).unwrap());
    } else { eprintln!("ENDED {} on {}: {}", case.name, builder.name(), finished.error_line()); }
    built.insert("Exit code".to_owned(), finished.code.to_string());
    built
}
