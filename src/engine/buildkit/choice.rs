//! Which of an engine's builders is asked for, by what was asked of us, what the engine has, and what the `Dockerfile`
//! needs; and the words for a `Dockerfile` that asked the wrong one.

use std::collections::BTreeMap;

use tracing::info;

use super::super::connection::{Ping, ping};
use super::super::{BuildFailure, Engine, EngineError, Kind, Step};
use super::session::Session;
use crate::dockerfile::base_images::{By as Use, DockerfileImages};
use crate::dockerfile::builder_features::{Need, needs};
use crate::engine::{BuildSecrets, BuilderChoice};

/// A builder, ready to be asked.
pub(in super::super) struct Builder {
    /// BuildKit's way to ask us back, which must be there while it builds.
    pub(in super::super) session: Option<Session>,
    /// What was asked of whom.
    pub(in super::super) asked: ChosenBuilder,
}

/// What was asked of which builder, for explaining a failure.
#[derive(Debug, Default)]
pub(in super::super) struct ChosenBuilder {
    by: By,
    /// What the classic builder does not know of what the `Dockerfile` says.
    needs: Vec<Need>,
    /// The images that lend files: those of `COPY --from` and `RUN --mount`, where their names hang on no argument.
    lenders: Vec<String>,
}

/// Who builds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum By {
    #[default]
    Classic,
    BuildKit,
    Podman,
}

impl ChosenBuilder {
    /// Whether BuildKit builds.
    pub(in super::super) fn is_of_buildkit(&self) -> bool {
        self.by == By::BuildKit
    }

    /// The images that lend files.
    pub(in super::super) fn lenders(&self) -> &[String] {
        &self.lenders
    }

    #[cfg(test)]
    pub(in super::super) fn of_buildkit() -> Self {
        Self { by: By::BuildKit, ..Self::default() }
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
        let asking = |source| EngineError::Request { doing: "asking for its builder".to_owned(), source };
        // Arguments make no stage.
        let recipe = DockerfileImages::read(dockerfile, &BTreeMap::new());
        refuse_missing_stage(&recipe)?;
        let lenders = recipe.references.into_iter().filter(|it| it.by != Use::From).filter_map(|it| it.image).collect();
        let said = match self.kind {
            Kind::Docker => ping(&self.place).await.map_err(|error| asking(error.into()))?,
            Kind::Podman => Ping::default(),
        };
        let buildkit = BuildKit::of(&said, self.keeps_manifests().await);
        let by = builder(choice, self.kind, &buildkit, &needs, !secrets.is_empty())?;
        not_understood(by, &needs, self.about.knows_here_documents()).map_or(Ok(()), Err)?;
        let asked = ChosenBuilder { by, needs, lenders };
        if by != By::BuildKit {
            return Ok(Builder { session: None, asked });
        }
        let session = Session::open(&self.place, secrets, &self.access).await.map_err(|error| asking(error.into()))?;
        Ok(Builder { session: Some(session), asked })
    }
}

/// What a Docker has said of its BuildKit.
#[derive(Default)]
struct BuildKit {
    /// Whether it is what the engine builds with unless it is told otherwise.
    is_default: bool,
    /// Why it cannot build, with the way out, if it cannot.
    missing: Option<&'static str>,
}

impl BuildKit {
    fn of(said: &Ping, is_containerd: bool) -> Self {
        let missing = match said.api {
            Some(api) if api < FIRST_WITH_BUILDKIT => Some("this Docker has none: update it to 18.09 or later"),
            Some(api) if is_containerd && api < FIRST_WITH_CONTEXTS => Some(
                "this Docker keeps images in containerd's store, and before version 28 its BuildKit gets no context then (moby#47717): update it, or turn the store off (in its daemon.json \"features\": {\"containerd-snapshotter\": false})",
            ),
            _ => None,
        };
        Self { is_default: said.builds_with_buildkit, missing }
    }
}

/// Podman 4.3 looks for a stage by its number without counting the stages: its whole service ends, and with it every build
/// in it. Docker's builders do not name the instruction.
fn refuse_missing_stage(recipe: &DockerfileImages) -> Result<(), EngineError> {
    let Some((stage, instruction)) = &recipe.missing_stage else { return Ok(()) };
    let message = format!("{instruction}: no stage {stage} comes before it; stages are counted from 0");
    Err(EngineError::Build(Box::new(BuildFailure::of_a_dockerfile(message))))
}

/// Who builds.
fn builder(
    choice: BuilderChoice,
    kind: Kind,
    buildkit: &BuildKit,
    needs: &[Need],
    secrets: bool,
) -> Result<By, EngineError> {
    let refused = |why: String| Err(EngineError::Refused(why));
    if kind == Kind::Podman {
        if secrets {
            return refused("secrets need BuildKit, and this engine is Podman, whose socket would take them only as files in the context: build with Docker (--engine docker)".to_owned());
        }
        if choice != BuilderChoice::Auto {
            info!("Podman has one builder, which knows RUN --mount too: --builder {choice} changes nothing");
        }
        return Ok(By::Podman);
    }
    let reason = needs.first().map(ToString::to_string).or(secrets.then(|| "a secret".to_owned()));
    match (choice, reason, buildkit.missing) {
        (BuilderChoice::Classic, ..) if secrets => {
            refused("secrets need BuildKit: leave --builder classic away, or the secrets".to_owned())
        }
        (BuilderChoice::Classic, ..) => Ok(By::Classic),
        (BuilderChoice::BuildKit, _, Some(missing)) => refused(format!("BuildKit is to build, and {missing}")),
        (BuilderChoice::BuildKit, _, None) => Ok(By::BuildKit),
        (BuilderChoice::Auto, Some(reason), Some(missing)) => {
            refused(format!("{reason} needs BuildKit, and {missing}"))
        }
        (BuilderChoice::Auto, Some(reason), None) => {
            info!("BuildKit builds it, because of {reason}");
            Ok(By::BuildKit)
        }
        (BuilderChoice::Auto, None, Some(missing)) if buildkit.is_default => {
            info!("the classic builder builds it: {missing}");
            Ok(By::Classic)
        }
        (BuilderChoice::Auto, None, None) if buildkit.is_default => Ok(By::BuildKit),
        (BuilderChoice::Auto, None, _) => Ok(By::Classic),
    }
}

/// What the builder is known not to understand, as a build that did not begin. Some builders leave such things out without a
/// word, and make another image.
fn not_understood(by: By, needs: &[Need], knows_here_documents: bool) -> Option<EngineError> {
    let document = needs.iter().find(|need| matches!(need, Need::HereDocument(_))).filter(|_| !knows_here_documents);
    let (need, of, hint) = match by {
        // It takes the line for a comment.
        By::Classic => {
            (needs.iter().find(|need| !matches!(need, Need::Syntax(_))), "BuildKit", "use --builder buildkit")
        }
        By::BuildKit if frontend(needs).is_some() => return None,
        By::BuildKit => (document, "Docker 23 or later", "or put # syntax=docker/dockerfile:1 in the first line"),
        By::Podman => (document, "Podman 4.8 or later", "or build with Docker (--engine docker)"),
    };
    let failure = BuildFailure::of_a_dockerfile(format!("{} needs {of}", need?));
    Some(EngineError::Build(Box::new(BuildFailure { hint: Some(hint.to_owned()), ..failure })))
}

/// The image of `# syntax=`.
fn frontend(needs: &[Need]) -> Option<&str> {
    needs.iter().find_map(|need| match need {
        Need::Syntax(image) => Some(image.as_str()),
        Need::Flag(_) | Need::HereDocument(_) => None,
    })
}

/// What Podman says of a flag that it does not know: which it knows.
const FLAGS_OF_PODMAN: &str = " only supports the ";

impl ChosenBuilder {
    /// The way out of a failure that another engine, or another frontend, would not have. `sought` is the image that could not
    /// be found before the build began.
    pub(in super::super) fn hint(&self, step: Option<&Step>, sought: Option<&str>, message: &str) -> Option<String> {
        let frontend = frontend(&self.needs);
        if let Some(sought) = sought {
            let frontend = frontend.filter(|image| sought.ends_with(image))?;
            return Some(format!(
                "# syntax={frontend} could not be fetched: check its name and its registry, start again later, or take the line away"
            ));
        }
        let names = |flag: &str| {
            let name = flag.rsplit(' ').next().unwrap_or_default();
            [name, name.trim_start_matches('-')].iter().any(|name| message.contains(&format!("nknown flag: {name}")))
        };
        let unknown = self.needs.iter().find_map(|need| match (need, step) {
            (Need::Flag(flag), None) => names(flag).then_some(flag),
            (Need::Flag(flag), Some(step)) => {
                flag.split(' ').all(|word| step.instruction.contains(word)).then_some(flag)
            }
            _ => None,
        })?;
        match (self.by, step) {
            (By::BuildKit, None) if frontend.is_none() => Some(format!(
                "{unknown} needs a newer BuildKit: put # syntax=docker/dockerfile:1 in the first line, or take a newer Docker"
            )),
            (By::Podman, Some(_)) if message.contains(FLAGS_OF_PODMAN) => {
                Some(format!("{unknown} needs Podman 5 or later, or Docker (--engine docker)"))
            }
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
        let buildkit = BuildKit::of(said, is_containerd);
        let by = builder(choice, Kind::Docker, &buildkit, &needs(dockerfile), secrets);
        by.map(|by| by == By::BuildKit).map_err(|error| error.to_string())
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
        let podman = |secrets| builder(BuilderChoice::BuildKit, Kind::Podman, &BuildKit::default(), &[], secrets);
        assert_eq!(podman(false).unwrap(), By::Podman);
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

    #[test]
    fn what_a_builder_would_not_understand_is_not_built() {
        let refused = |by, dockerfile: &str, is_new| match not_understood(by, &needs(dockerfile), is_new) {
            Some(EngineError::Build(failure)) => failure.summary(),
            other => format!("{other:?}"),
        };
        let (document, syntax) = ("FROM a\nRUN cat <<E >f\nE\n", "# syntax=docker/dockerfile:1\nFROM a\nRUN <<E\nE\n");
        assert_eq!(
            refused(By::Classic, "FROM a\nCOPY --exclude=b . /\n", true),
            "the build did not begin: COPY --exclude needs BuildKit; use --builder buildkit"
        );
        assert_eq!(refused(By::Classic, "# syntax=docker/dockerfile:1\nFROM a\n", true), "None");
        assert!(refused(By::Classic, syntax, true).contains("the here-document of RUN <<E needs BuildKit"));
        assert_eq!(
            refused(By::Podman, document, false),
            "the build did not begin: the here-document of RUN <<E needs Podman 4.8 or later; or build with Docker (--engine docker)"
        );
        assert!(
            refused(By::BuildKit, document, false).ends_with("; or put # syntax=docker/dockerfile:1 in the first line")
        );
        assert_eq!(refused(By::BuildKit, syntax, false), "None");
        for by in [By::BuildKit, By::Podman] {
            assert_eq!(refused(by, document, true), "None");
            assert_eq!(refused(by, "FROM a\nCOPY --link a b\n", false), "None");
        }
    }

    #[test]
    fn advice_is_what_the_engine_can_follow() {
        let dockerfile = "FROM a\nCOPY --parents a /\nRUN --mount=type=cache x\n";
        let advice = |by, step: Option<&str>, message: &str, dockerfile: &str| {
            let step = step.map(|line| Step { number: 1, of: 2, instruction: line.to_owned(), stage: None });
            ChosenBuilder { by, needs: needs(dockerfile), lenders: Vec::new() }.hint(step.as_ref(), None, message)
        };
        let (copy, mount) = (Some("COPY --parents a /"), Some("RUN --mount=type=cache x"));
        let podman =
            "COPY only supports the --chmod=<permissions> --chown=<uid:gid> and the --from=<image|stage> flags";
        assert_eq!(
            advice(By::Podman, copy, podman, dockerfile).unwrap(),
            "COPY --parents needs Podman 5 or later, or Docker (--engine docker)"
        );
        assert_eq!(advice(By::Podman, mount, "while running runtime: exit status 3", dockerfile), None);
        assert_eq!(advice(By::Podman, copy, "no such file or directory", dockerfile), None);
        for said in ["parse error line 2: Unknown flag: parents", "parse error on line 2: unknown flag: --parents"] {
            let told = advice(By::BuildKit, None, said, dockerfile).unwrap();
            assert!(
                told.starts_with("COPY --parents needs a newer BuildKit: put # syntax=docker/dockerfile:1 "),
                "{told}"
            );
            assert_eq!(advice(By::BuildKit, None, said, &format!("# syntax=a\n{dockerfile}")), None);
        }
        assert_eq!(advice(By::BuildKit, None, "unknown instruction: FOO", dockerfile), None);
        assert_eq!(advice(By::BuildKit, mount, "exit code: 3", dockerfile), None);
    }
}
