//! Chooses one of an engine's builders by the user's choice, the engine's features and the needs of the `Dockerfile`. Writes
//! the hints for a `Dockerfile` that the chosen builder cannot build.

use std::collections::BTreeMap;

use super::buildkit_support::BuildKitSupport;
use crate::context::BuiltBy;
use crate::dockerfile::base_images::{By as Use, DockerfileImages};
use crate::dockerfile::builder_features::{Need, needs};
use crate::engine::buildkit::session::Session;
use crate::engine::connection::client::ping;
use crate::engine::driver::BuilderRequest;
use crate::engine::{BuildFailure, Engine, EngineError, Step};
use crate::engine::{BuildSecrets, BuilderChoice};

/// A builder that can take a build request.
pub(in crate::engine) struct Builder {
    /// The session over which BuildKit sends requests to us. It must stay open during the build.
    pub(in crate::engine) session: Option<Session>,
    /// The chosen builder.
    pub(in crate::engine) chosen: ChosenBuilder,
}

/// The chosen builder, with what is needed to explain a failure.
#[derive(Debug, Default)]
pub(in crate::engine) struct ChosenBuilder {
    pub(super) by: BuiltBy,
    /// The features of the `Dockerfile` that the classic builder does not support.
    needs: Vec<Need>,
    /// The images whose files `COPY --from` and `RUN --mount` use, if their names depend on no build argument.
    copied_images: Vec<String>,
}

impl ChosenBuilder {
    /// Whether BuildKit builds.
    pub(super) fn is_buildkit(&self) -> bool {
        self.by == BuiltBy::BuildKit
    }

    /// The images whose files `COPY --from` and `RUN --mount` use.
    pub(super) fn copied_images(&self) -> &[String] {
        &self.copied_images
    }

    #[cfg(test)]
    pub(super) fn of_buildkit() -> Self {
        Self { by: BuiltBy::BuildKit, ..Self::default() }
    }
}

impl Engine {
    /// Chooses the builder for a `Dockerfile`. Fails if there is no builder, or if the `Dockerfile` would crash the engine.
    pub(in crate::engine) async fn builder(
        &self,
        choice: BuilderChoice,
        dockerfile: &str,
        secrets: &BuildSecrets,
    ) -> Result<Builder, EngineError> {
        let needs = needs(dockerfile);
        // Build arguments do not add stages.
        let images = DockerfileImages::read(dockerfile, &BTreeMap::new());
        refuse_missing_stage(&images)?;
        let copied = images.references.into_iter().filter(|it| it.by != Use::From);
        let copied_images = copied.filter_map(|it| it.image).collect();
        let buildkit = self.buildkit_support().await?;
        let has_secrets = !secrets.is_empty();
        let by = self.driver.builder(&BuilderRequest { choice, buildkit: &buildkit, needs: &needs, has_secrets })?;
        unsupported(by, &needs, self.driver.knows_here_documents(&self.about)).map_or(Ok(()), Err)?;
        let chosen = ChosenBuilder { by, needs, copied_images };
        if by != BuiltBy::BuildKit {
            return Ok(Builder { session: None, chosen });
        }
        let session =
            Session::open(&self.place, secrets, &self.access).await.map_err(|error| no_builder(error.into()))?;
        Ok(Builder { session: Some(session), chosen })
    }

    /// The builder for a `Dockerfile` without special needs.
    pub(in crate::engine) async fn usual_builder(&self, choice: BuilderChoice) -> Result<BuiltBy, EngineError> {
        let buildkit = self.buildkit_support().await?;
        self.driver.builder(&BuilderRequest { choice, buildkit: &buildkit, needs: &[], has_secrets: false })
    }

    async fn buildkit_support(&self) -> Result<BuildKitSupport, EngineError> {
        if !self.driver.may_have_buildkit() {
            return Ok(BuildKitSupport::default());
        }
        let ping = ping(&self.place).await.map_err(|error| no_builder(error.into()))?;
        Ok(BuildKitSupport::new(&ping, self.keeps_manifests().await))
    }
}

fn no_builder(source: Box<dyn std::error::Error + Send + Sync>) -> EngineError {
    EngineError::Request { doing: "asking for its builder".to_owned(), source }
}

/// Refuses a reference to a stage that does not exist. Podman 4.3 looks up a stage by its number without counting the stages:
/// its whole service crashes, and with it every build in it. The errors of Docker's builders do not name the instruction.
fn refuse_missing_stage(images: &DockerfileImages) -> Result<(), EngineError> {
    let Some((stage, instruction)) = &images.missing_stage else { return Ok(()) };
    let message = format!("{instruction}: no stage {stage} comes before it; stages are counted from 0");
    Err(EngineError::Build(Box::new(BuildFailure::of_a_dockerfile(message))))
}

/// The error if the builder is known not to support a feature of the `Dockerfile`, as a build that failed before its first
/// step. Some builders silently skip such features, and build a different image.
fn unsupported(by: BuiltBy, needs: &[Need], knows_here_documents: bool) -> Option<EngineError> {
    let document = needs.iter().find(|need| matches!(need, Need::HereDocument(_))).filter(|_| !knows_here_documents);
    let (need, of, hint) = match by {
        // The classic builder treats the `# syntax=` line as a comment.
        BuiltBy::Classic => {
            (needs.iter().find(|need| !matches!(need, Need::Syntax(_))), "BuildKit", "use --builder buildkit")
        }
        BuiltBy::BuildKit if frontend(needs).is_some() => return None,
        BuiltBy::BuildKit => (document, "Docker 23 or later", "or put # syntax=docker/dockerfile:1 in the first line"),
        BuiltBy::Podman => (document, "Podman 4.8 or later", "or build with Docker (--engine docker)"),
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

/// Part of Podman's error for an unknown flag. The rest of the error lists the flags that Podman supports.
const FLAGS_OF_PODMAN: &str = " only supports the ";

impl ChosenBuilder {
    /// The hint for a failure that another engine or another frontend would avoid. `missing_image` is the image that could not
    /// be found before the build started.
    pub(in crate::engine) fn hint(
        &self,
        step: Option<&Step>,
        missing_image: Option<&str>,
        message: &str,
    ) -> Option<String> {
        let frontend = frontend(&self.needs);
        if let Some(missing_image) = missing_image {
            let frontend = frontend.filter(|image| missing_image.ends_with(image))?;
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
            (BuiltBy::BuildKit, None) if frontend.is_none() => Some(format!(
                "{unknown} needs a newer BuildKit: put # syntax=docker/dockerfile:1 in the first line, or take a newer Docker"
            )),
            (BuiltBy::Podman, Some(_)) if message.contains(FLAGS_OF_PODMAN) => {
                Some(format!("{unknown} needs Podman 5 or later, or Docker (--engine docker)"))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_builder_would_not_understand_is_not_built() {
        let refused = |by, dockerfile: &str, is_new| match unsupported(by, &needs(dockerfile), is_new) {
            Some(EngineError::Build(failure)) => failure.summary(),
            other => format!("{other:?}"),
        };
        let (document, syntax) = ("FROM a\nRUN cat <<E >f\nE\n", "# syntax=docker/dockerfile:1\nFROM a\nRUN <<E\nE\n");
        assert_eq!(
            refused(BuiltBy::Classic, "FROM a\nCOPY --exclude=b . /\n", true),
            "the build did not begin: COPY --exclude needs BuildKit; use --builder buildkit"
        );
        assert_eq!(refused(BuiltBy::Classic, "# syntax=docker/dockerfile:1\nFROM a\n", true), "None");
        assert!(refused(BuiltBy::Classic, syntax, true).contains("the here-document of RUN <<E needs BuildKit"));
        assert_eq!(
            refused(BuiltBy::Podman, document, false),
            "the build did not begin: the here-document of RUN <<E needs Podman 4.8 or later; or build with Docker (--engine docker)"
        );
        assert!(
            refused(BuiltBy::BuildKit, document, false)
                .ends_with("; or put # syntax=docker/dockerfile:1 in the first line")
        );
        assert_eq!(refused(BuiltBy::BuildKit, syntax, false), "None");
        for by in [BuiltBy::BuildKit, BuiltBy::Podman] {
            assert_eq!(refused(by, document, true), "None");
            assert_eq!(refused(by, "FROM a\nCOPY --link a b\n", false), "None");
        }
    }

    #[test]
    fn advice_is_what_the_engine_can_follow() {
        let dockerfile = "FROM a\nCOPY --parents a /\nRUN --mount=type=cache x\n";
        let advice = |by, step: Option<&str>, message: &str, dockerfile: &str| {
            let step = step.map(|line| Step { number: 1, of: 2, instruction: line.to_owned(), stage: None });
            ChosenBuilder { by, needs: needs(dockerfile), copied_images: Vec::new() }.hint(step.as_ref(), None, message)
        };
        let (copy, mount) = (Some("COPY --parents a /"), Some("RUN --mount=type=cache x"));
        let podman =
            "COPY only supports the --chmod=<permissions> --chown=<uid:gid> and the --from=<image|stage> flags";
        assert_eq!(
            advice(BuiltBy::Podman, copy, podman, dockerfile).unwrap(),
            "COPY --parents needs Podman 5 or later, or Docker (--engine docker)"
        );
        assert_eq!(advice(BuiltBy::Podman, mount, "while running runtime: exit status 3", dockerfile), None);
        assert_eq!(advice(BuiltBy::Podman, copy, "no such file or directory", dockerfile), None);
        for message in ["parse error line 2: Unknown flag: parents", "parse error on line 2: unknown flag: --parents"] {
            let hint = advice(BuiltBy::BuildKit, None, message, dockerfile).unwrap();
            assert!(
                hint.starts_with("COPY --parents needs a newer BuildKit: put # syntax=docker/dockerfile:1 "),
                "{hint}"
            );
            assert_eq!(advice(BuiltBy::BuildKit, None, message, &format!("# syntax=a\n{dockerfile}")), None);
        }
        assert_eq!(advice(BuiltBy::BuildKit, None, "unknown instruction: FOO", dockerfile), None);
        assert_eq!(advice(BuiltBy::BuildKit, mount, "exit code: 3", dockerfile), None);
    }
}
