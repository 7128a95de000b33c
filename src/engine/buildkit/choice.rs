//! Which of an engine's builders is asked for, by what was asked of us, what the engine has, and what the `Dockerfile`
//! needs; and the words for a `Dockerfile` that asked the wrong one.

use tracing::info;

use super::super::connection::{Ping, ping};
use super::super::{Engine, EngineError, Kind, Step};
use super::session::Session;
use crate::build_secrets::BuildSecrets;
use crate::builder::BuilderChoice;
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

impl Engine {
    /// The builder for a `Dockerfile`.
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
            Kind::Podman => Ping::default(),
        };
        let by_buildkit = by_buildkit(choice, self.kind, &said, &needs, !secrets.is_empty())?;
        let asked = Asked { by_buildkit, needs };
        if !by_buildkit {
            return Ok(Builder { session: None, asked });
        }
        let session = Session::open(&self.place, secrets, &self.access).await.map_err(|error| asking(error.into()))?;
        Ok(Builder { session: Some(session), asked })
    }
}

/// Whether BuildKit builds.
fn by_buildkit(
    choice: BuilderChoice,
    kind: Kind,
    said: &Ping,
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
    let is_there = said.api.is_none_or(|api| api >= FIRST_WITH_BUILDKIT);
    let reason = needs.first().map(ToString::to_string).or(secrets.then(|| "a secret".to_owned()));
    match choice {
        BuilderChoice::Classic if secrets => {
            refused("secrets need BuildKit: leave --builder classic away, or the secrets".to_owned())
        }
        BuilderChoice::Classic => Ok(false),
        BuilderChoice::BuildKit if is_there => Ok(true),
        BuilderChoice::BuildKit => {
            refused("this Docker has no BuildKit: --builder buildkit needs 18.09 or later".to_owned())
        }
        BuilderChoice::Auto => match reason {
            Some(reason) if is_there => {
                info!("BuildKit builds it, because of {reason}");
                Ok(true)
            }
            Some(reason) => {
                refused(format!("{reason} needs BuildKit, which Docker has since 18.09: update the engine"))
            }
            None => Ok(said.builds_with_buildkit && is_there),
        },
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
        let podman = |secrets| by_buildkit(BuilderChoice::BuildKit, Kind::Podman, &Ping::default(), &[], secrets);
        assert!(!podman(false).unwrap());
        assert!(podman(true).unwrap_err().to_string().contains("this engine is Podman"));
    }
}
