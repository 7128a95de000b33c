//! Which of an engine's builders is asked for, by what was asked of us, what the engine has, and what the `Dockerfile`
//! needs; and the words for a `Dockerfile` that asked the wrong one.

use std::collections::BTreeMap;

use tracing::info;

use super::super::connection::{Ping, ping};
use super::super::{BuildFailure, Engine, EngineError, Kind, Step};
use super::session::Session;
use crate::build_secrets::BuildSecrets;
use crate::builder::BuilderChoice;
use crate::dockerfile::base_images::Recipe;
use crate::dockerfile::builder_features::{Need, needs};

/// A builder, ready to be asked.
pub(in super::super) struct Builder {
    /// BuildKit's way to ask us back, which must be there while it builds.
    pub(in super::super) session: Option<Session>,
    /// What was asked of whom.
    pub(in super::super) asked: Asked,
}

/// What was asked of which builder, for explaining a failure.
#[derive(Debug, Default)]
pub(in super::super) struct Asked {
    by_buildkit: bool,
    /// What only BuildKit knows of what the `Dockerfile` says.
    needs: Vec<Need>,
}

impl Asked {
    /// Whether BuildKit builds.
    pub(in super::super) fn is_of_buildkit(&self) -> bool {
        self.by_buildkit
    }

    #[cfg(test)]
    pub(in super::super) fn of_buildkit() -> Self {
        Self { by_buildkit: true, ..Self::default() }
    }
}

/// The API version of Docker 18.09, the first with BuildKit for everybody.
const FIRST_WITH_BUILDKIT: (u32, u32) = (1, 39);

/// The API version of Docker 28.0. Before it, BuildKit never gets the context of a call where the engine keeps images in
/// containerd's store (moby#47717; seen with 26.1).
const FIRST_WITH_CONTEXTS: (u32, u32) = (1, 48);

impl Engine {
    /// The builder for a `Dockerfile`; an error where that would end the engine. Nothing is built without a builder.
    pub(in super::super) async fn builder(
        &self,
        choice: BuilderChoice,
        dockerfile: &str,
        secrets: &BuildSecrets,
    ) -> Result<Builder, EngineError> {
        let needs = needs(dockerfile);
        let asking = |source| EngineError::Trouble { doing: "asking for its builder".to_owned(), source };
        let said = match self.kind {
            Kind::Docker => ping(&self.place).await.map_err(|error| asking(error.into()))?,
            Kind::Podman => spare_podman(dockerfile).map(|()| Ping::default())?,
        };
        let missing = missing(&said, self.keeps_manifests().await);
        let by_buildkit = by_buildkit(choice, self.kind, (&said, missing), &needs, !secrets.is_empty())?;
        let asked = Asked { by_buildkit, needs };
        if !by_buildkit {
            return Ok(Builder { session: None, asked });
        }
        let session = Session::open(&self.place, secrets).await.map_err(|error| asking(error.into()))?;
        Ok(Builder { session: Some(session), asked })
    }
}

/// Why this Docker's BuildKit cannot build, and the way out, if it cannot.
fn missing(said: &Ping, is_containerd: bool) -> Option<&'static str> {
    match said.api? {
        api if api < FIRST_WITH_BUILDKIT => Some("this Docker has none: update it to 18.09 or later"),
        api if is_containerd && api < FIRST_WITH_CONTEXTS => Some(
            "this Docker keeps images in containerd's store, and before version 28 its BuildKit gets no context then (moby#47717): update it, or turn the store off (in its daemon.json \"features\": {\"containerd-snapshotter\": false})",
        ),
        _ => None,
    }
}

/// Podman 4.3 looks for a stage by its number without counting the stages: its whole service ends, and with it every build
/// in it.
fn spare_podman(dockerfile: &str) -> Result<(), EngineError> {
    // Arguments make no stage.
    let Some((stage, instruction)) = Recipe::read(dockerfile, &BTreeMap::new()).missing_stage else { return Ok(()) };
    let message = format!("{instruction}: no stage {stage} comes before it; stages are counted from 0");
    Err(EngineError::Build(Box::new(BuildFailure::of_a_dockerfile(message))))
}

/// Whether BuildKit builds, by what Docker has said of it and why it cannot.
fn by_buildkit(
    choice: BuilderChoice,
    kind: Kind,
    (said, missing): (&Ping, Option<&str>),
    needs: &[Need],
    secrets: bool,
) -> Result<bool, EngineError> {
    let refused = |why: String| Err(EngineError::Refused(why));
    if kind == Kind::Podman {
        if secrets {
            return refused("secrets need BuildKit, and this engine is Podman, whose socket would take them only as files in the context: build with Docker (--engine docker)".to_owned());
        }
        if choice != BuilderChoice::Auto {
            info!("Podman has one builder, which knows RUN --mount too: --builder {choice} changes nothing");
        }
        return Ok(false);
    }
    let reason = needs.first().map(ToString::to_string).or(secrets.then(|| "a secret".to_owned()));
    match (choice, reason, missing) {
        (BuilderChoice::Classic, ..) if secrets => {
            refused("secrets need BuildKit: leave --builder classic away, or the secrets".to_owned())
        }
        (BuilderChoice::Classic, ..) => Ok(false),
        (BuilderChoice::BuildKit, _, Some(missing)) => refused(format!("BuildKit is to build, and {missing}")),
        (BuilderChoice::BuildKit, _, None) => Ok(true),
        (BuilderChoice::Auto, Some(reason), Some(missing)) => {
            refused(format!("{reason} needs BuildKit, and {missing}"))
        }
        (BuilderChoice::Auto, Some(reason), None) => {
            info!("BuildKit builds it, because of {reason}");
            Ok(true)
        }
        (BuilderChoice::Auto, None, Some(missing)) if said.builds_with_buildkit => {
            info!("the classic builder builds it: {missing}");
            Ok(false)
        }
        (BuilderChoice::Auto, None, _) => Ok(said.builds_with_buildkit),
    }
}

impl Asked {
    /// The way out of a failure that another builder, or another frontend, would not have. `sought` is the image that could
    /// not be found before the build began.
    pub(in super::super) fn way_out(&self, step: Option<&Step>, sought: Option<&str>) -> Option<String> {
        let frontend = self.needs.iter().find_map(|need| match need {
            Need::Syntax(image) => Some(image),
            Need::Flag(_) | Need::HereDocument(_) => None,
        });
        if let Some(sought) = sought {
            let frontend = frontend.filter(|image| sought.ends_with(image.as_str()))?;
            return Some(format!(
                "# syntax={frontend} could not be fetched: check its name and its registry, start again later, or take the line away"
            ));
        }
        let guilty = self.needs.iter().find(|need| match (need, step) {
            (Need::Flag(flag), Some(step)) => flag.split(' ').all(|word| step.instruction.contains(word)),
            (Need::Syntax(_), Some(_)) => false,
            (Need::HereDocument(_), Some(step)) => step.instruction.contains("<<"),
            (_, None) => true,
        })?;
        match (guilty, self.by_buildkit) {
            (need, false) => Some(format!("{need} needs BuildKit: --builder buildkit")),
            (Need::HereDocument(_), true) if frontend.is_none() => Some(format!(
                "if {guilty} is not understood: put # syntax=docker/dockerfile:1 in the first line, or take Docker 23 or later"
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn docker(choice: BuilderChoice, said: &Ping, dockerfile: &str, secrets: bool) -> Result<bool, String> {
        on_store(choice, said, dockerfile, secrets, false)
    }

    fn on_store(
        choice: BuilderChoice,
        said: &Ping,
        dockerfile: &str,
        secrets: bool,
        is_containerd: bool,
    ) -> Result<bool, String> {
        let said = (said, missing(said, is_containerd));
        by_buildkit(choice, Kind::Docker, said, &needs(dockerfile), secrets).map_err(|error| error.to_string())
    }

    #[test]
    fn the_engines_own_builder_builds_what_every_builder_knows() {
        let (old, new) = (
            Ping { api: Some((1, 41)), builds_with_buildkit: false },
            Ping { api: Some((1, 43)), builds_with_buildkit: true },
        );
        for (choice, on_old, on_new) in [
            (BuilderChoice::Auto, false, true),
            (BuilderChoice::Classic, false, false),
            (BuilderChoice::BuildKit, true, true),
        ] {
            assert_eq!(docker(choice, &old, "FROM a", false), Ok(on_old), "{choice}");
            assert_eq!(docker(choice, &new, "FROM a", false), Ok(on_new), "{choice}");
        }
        assert_eq!(docker(BuilderChoice::Auto, &old, "FROM a\nRUN --mount=type=cache x", false), Ok(true));
        assert_eq!(docker(BuilderChoice::Auto, &old, "FROM a", true), Ok(true));
    }

    #[test]
    fn what_nobody_could_build_is_refused() {
        let ancient = Ping { api: Some((1, 38)), builds_with_buildkit: false };
        assert_eq!(docker(BuilderChoice::Auto, &ancient, "FROM a", false), Ok(false));
        for (choice, dockerfile, secrets) in [
            (BuilderChoice::BuildKit, "FROM a", false),
            (BuilderChoice::Auto, "FROM a\nRUN --mount=type=cache x", false),
            (BuilderChoice::Auto, "FROM a", true),
        ] {
            assert!(docker(choice, &ancient, dockerfile, secrets).unwrap_err().contains("18.09"));
        }
        assert!(
            docker(BuilderChoice::Classic, &Ping::default(), "FROM a", true).unwrap_err().contains("--builder classic")
        );
        let podman =
            |secrets| by_buildkit(BuilderChoice::BuildKit, Kind::Podman, (&Ping::default(), None), &[], secrets);
        assert!(!podman(false).unwrap());
        assert!(podman(true).unwrap_err().to_string().contains("this engine is Podman"));
    }

    #[test]
    fn buildkit_that_gets_no_context_is_not_asked() {
        let (docker_26, docker_28) = (
            Ping { api: Some((1, 45)), builds_with_buildkit: true },
            Ping { api: Some((1, 48)), builds_with_buildkit: true },
        );
        let mount = "FROM a\nRUN --mount=type=cache x";
        assert_eq!(on_store(BuilderChoice::Auto, &docker_26, "FROM a", false, true), Ok(false));
        assert_eq!(on_store(BuilderChoice::Auto, &docker_26, mount, false, false), Ok(true));
        for (choice, dockerfile, secrets) in [
            (BuilderChoice::BuildKit, "FROM a", false),
            (BuilderChoice::Auto, mount, false),
            (BuilderChoice::Auto, "FROM a", true),
        ] {
            let refused = on_store(choice, &docker_26, dockerfile, secrets, true).unwrap_err();
            assert!(refused.contains("moby#47717") && refused.contains("containerd-snapshotter"), "{refused}");
            assert_eq!(on_store(choice, &docker_28, dockerfile, secrets, true), Ok(true), "{choice}");
        }
    }
}
