//! Explains a failed build: which step failed, what caused it, and what to do next. `fault` classifies the engines' messages.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use futures_util::TryStreamExt as _;
use http_body_util::Empty;
use tokio_util::bytes::Bytes;

use super::bases::registry;
use super::build_output::BuildOutputParser;
use super::fault::{exit_code, is_limit, unresolved};
use super::pull_limit::retry_after;
use super::step_lines::{LastStep, Step, cut_middle};
use crate::engine::build::builder::ChosenBuilder;
use crate::engine::buildkit::ProgressFailure;
use crate::engine::connection::client::ping;
use crate::engine::connection::find::PING_TIMEOUT;
use crate::engine::connection::messages::{AnswerError, Question, messages};
use crate::engine::{Engine, EngineError, Fault};
use crate::net::registry::{Credentials, is_loopback};
use crate::net::retry::{Failure, Retryability};
use crate::report::{Hint, secrets, shortened};

pub(in crate::engine) const DOING: &str = "building the image";

/// A failed step of a `Dockerfile`, or a build that failed before its first step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildFailure {
    /// The cause.
    pub fault: Fault,
    /// The failed step. `None` if the build failed before its first step.
    pub step: Option<Step>,
    /// The image that could not be pulled, as the `Dockerfile` names it.
    pub image: Option<String>,
    /// Where the credentials for the registry come from.
    pub login: Option<String>,
    /// The exit code of the step's command, if it has one.
    pub exit_code: Option<i64>,
    /// The engine's message.
    pub message: String,
    /// The last lines of the step's output.
    pub last_lines: Vec<String>,
    /// What helps, other than to fix the `Dockerfile`.
    pub hint: Option<String>,
    /// The number of earlier steps that came from the build cache.
    pub cached: usize,
    /// How long the registry asks to wait, if it does.
    pub wait: Option<Duration>,
}

impl BuildFailure {
    /// A `Dockerfile` that is not built at all.
    pub(super) fn of_a_dockerfile(message: String) -> Self {
        let (fault, step, image, login, exit_code) = (Fault::Dockerfile, None, None, None, None);
        let (last_lines, hint, wait) = (Vec::new(), None, None);
        Self { fault, step, image, login, exit_code, message, last_lines, hint, cached: 0, wait }
    }

    /// A registry that sent nothing for this time when an image was looked up in it.
    fn of_a_silent_registry(image: &str, silence: Duration) -> Self {
        let message = format!("its registry has said nothing for {} s", silence.as_secs());
        Self { fault: Fault::Registry, image: Some(image.to_owned()), ..Self::of_a_dockerfile(message) }
    }

    /// Whether the command may have failed because the engine stopped: it was killed (137), or terminated (143).
    pub(super) fn may_be_engine_shutdown(&self) -> bool {
        matches!(self.exit_code, Some(137 | 143))
    }

    /// The failure in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let hint = |otherwise: &str| Hint(self.hint.clone().unwrap_or_else(|| self.next(otherwise)));
        let Some(step) = &self.step else {
            let (message, hint) = (cut_middle(&self.message, 200), hint("fix the Dockerfile"));
            return match &self.image {
                Some(image) => format!("the build did not begin: cannot pull {image}: {message}{hint}"),
                None => format!("the build did not begin: {message}{hint}"),
            };
        };
        let last =
            self.last_lines.last().map(|line| format!("; its last line: {}", shortened(line, 160))).unwrap_or_default();
        if let Some(code) = self.exit_code {
            let hint = hint("fix the Dockerfile, or what it fetches");
            return format!("{step} failed with exit code {code}{last}{hint}");
        }
        let hint = hint("fix the Dockerfile, or what it needs");
        format!("{step} failed: {}{hint}", cut_middle(&self.message, 140))
    }

    /// What to do next. `otherwise` is the advice if the `Dockerfile` must be fixed.
    fn next(&self, otherwise: &str) -> String {
        let registry = self.image.as_deref().and_then(registry);
        let from = registry.as_ref().map(|registry| format!(" from {registry}")).unwrap_or_default();
        let registry = registry.as_deref().unwrap_or("the registry");
        match self.fault {
            Fault::Dockerfile => otherwise.to_owned(),
            Fault::Missing => format!("check the image's name and tag: {registry} has none such"),
            Fault::Denied if self.login.is_some() => format!(
                "check the image's name, and the credentials for {registry} in {} (docker login {registry})",
                self.login.as_deref().unwrap_or_default()
            ),
            Fault::Denied => format!(
                "check the image's name, and that the engine may pull{from} (docker login, the registry's certificate)"
            ),
            Fault::Registry => match (unresolved(&self.message), self.wait) {
                (Some(host), _) => format!(
                    "{host} could not be resolved: check how its name is written, and the DNS of the engine's machine"
                ),
                (None, Some(wait)) => {
                    let wait = wait.as_secs();
                    format!("{registry} limits pulls, and asks to wait {wait} s: start again then, or use a mirror")
                }
                (None, None) if self.step.is_none() || self.image.is_some() => {
                    format!("{registry} is in trouble, or limits pulls: start again later, or use a mirror")
                }
                (None, None) => "the other end is in trouble: start again later".to_owned(),
            },
            Fault::Engine | Fault::Transient => {
                "the engine failed, not the Dockerfile: look at its disk, its network and its log, and start again"
                    .to_owned()
            }
        }
    }
}

impl Failure for EngineError {
    fn retryability(&self) -> Retryability {
        match self {
            Self::Build(failure) if matches!(failure.fault, Fault::Registry | Fault::Transient) => {
                failure.wait.map_or(Retryability::Transient, Retryability::RetryAfter)
            }
            _ => Retryability::Permanent,
        }
    }
}

impl Engine {
    /// The error for a failed build, from the engine's error and the output so far.
    pub(in crate::engine) async fn failure(
        &self,
        parser: BuildOutputParser,
        chosen: &ChosenBuilder,
        error: AnswerError,
    ) -> EngineError {
        let (mut message, mut code) = match error {
            // Sent in the reply of a build that had started.
            AnswerError::Reported { message, code } => (message, code),
            // Docker's reply to a Dockerfile that it cannot read.
            AnswerError::Status { status: 400, message } => (message, None),
            other => return request_error(DOING, other),
        };
        // A command that ends because the engine stopped is not at fault.
        match tokio::time::timeout(PING_TIMEOUT, ping(&self.place)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return request_error(DOING, error),
            Err(_) => return EngineError::Unfinished { doing: DOING.to_owned() },
        }
        let cached = parser.steps().cached;
        let BuildOutputParser { output, progress } = parser;
        let ProgressFailure { step, last_lines, missing_image } = progress.into_failure(&message);
        let LastStep { step, last_lines } =
            if step.is_some() || chosen.is_buildkit() { LastStep { step, last_lines } } else { output.into_last() };
        let runs = step.as_ref().is_some_and(|step| step.is("RUN"));
        if runs {
            code = code.or_else(|| exit_code(&message));
        }
        let step_image = step.as_ref().map_or_else(|| named_image(chosen.copied_images(), &message), pulled_by);
        let image = missing_image.clone().or_else(|| step_image.map(str::to_owned));
        let mut fault = Fault::of(&message, code, runs);
        if let Some(image) = &image
            && self.driver.hides_why_a_pull_failed(&message)
        {
            match self.pull(image).await {
                // The pull works now, so the problem was temporary.
                Ok(()) => fault = Fault::Registry,
                Err(AnswerError::Reported { message: why, .. } | AnswerError::Status { message: why, .. }) => {
                    (fault, message) = (Fault::of(&why, None, false), why);
                }
                Err(_) => fault = Fault::Dockerfile,
            }
        }
        // An ADD does not fetch images.
        if matches!(fault, Fault::Missing | Fault::Denied) && step.as_ref().is_some_and(|step| step.is("ADD")) {
            fault = Fault::Dockerfile;
        }
        let wait = match &image {
            Some(image) if fault == Fault::Registry && is_limit(&message) => {
                retry_after(image, self.access.retry).await
            }
            _ => None,
        };
        let message = secrets::hide(without_prefixes(message.trim())).into_owned();
        // Another builder helps if this one does not support a feature. It does not help if a registry fails.
        let hint = (fault == Fault::Dockerfile || missing_image.is_some())
            .then(|| chosen.hint(step.as_ref(), missing_image.as_deref(), &message))
            .flatten();
        let is_pull_fault = !matches!(fault, Fault::Dockerfile | Fault::Engine | Fault::Transient);
        let image = image.filter(|_| missing_image.is_some() || is_pull_fault);
        let login = match image.as_deref().and_then(registry).filter(|_| fault == Fault::Denied) {
            Some(registry) => self.access.credentials(&registry).await.map(|found| found.source),
            None => None,
        };
        EngineError::Build(Box::new(BuildFailure {
            fault,
            step,
            image,
            login,
            exit_code: code,
            message,
            last_lines,
            hint,
            cached,
            wait,
        }))
    }

    /// Pulls the image of a `COPY --from` by itself: only then Podman reports why it cannot.
    async fn pull(&self, image: &str) -> Result<(), AnswerError> {
        let registry = registry(image).unwrap_or_default();
        let credentials = self.access.credentials(&registry).await;
        let header = |found: Credentials| ("x-registry-auth", URL_SAFE.encode(found.for_engine().to_string()));
        let mut query = vec![("reference", image)];
        if is_loopback(&registry) {
            query.push(("tlsVerify", "false"));
        }
        let question = Question {
            // Podman's own endpoint: Docker's has no tlsVerify.
            path: "/v4.0.0/libpod/images/pull".to_owned(),
            query,
            headers: credentials.map(header).into_iter().collect(),
            body: Empty::<Bytes>::new(),
        };
        let pulled = messages::<serde::de::IgnoredAny, _, _>(&self.place, question);
        pulled.try_for_each(|_| std::future::ready(Ok(()))).await
    }
}

pub(in crate::engine) fn request_error(
    doing: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> EngineError {
    EngineError::Request { doing: doing.to_owned(), source: source.into() }
}

/// Waits for the engine's next message. Docker waits forever for a registry that sends nothing. So while the engine only looks
/// up an image, `silence` without a message is an error.
pub(super) async fn next_message<T>(
    next: impl Future<Output = Option<T>>,
    parser: &BuildOutputParser,
    silence: Duration,
) -> Result<Option<T>, EngineError> {
    let pending_from = || parser.output.pending_from().and_then(pulled_by);
    let Some(image) = parser.progress.pending_lookup().or_else(pending_from) else { return Ok(next.await) };
    let failure = |_| BuildFailure::of_a_silent_registry(image, silence);
    tokio::time::timeout(silence, next).await.map_err(|late| EngineError::Build(Box::new(failure(late))))
}

/// The image that a step pulls, if its name contains no variable.
fn pulled_by(step: &Step) -> Option<&str> {
    let mut words = step.instruction.split_whitespace().skip(1);
    let image = if step.is("FROM") {
        words.find(|word| !word.starts_with("--"))
    } else {
        words.find_map(|word| word.strip_prefix("--from="))
    };
    image.filter(|image| !image.contains('$'))
}

/// The image of a `COPY --from` or `RUN --mount` whose registry a message names, if there is only one. BuildKit's messages do
/// not name the step in this case.
fn named_image<'a>(copied_images: &'a [String], message: &str) -> Option<&'a str> {
    let is_named = |image: &&String| registry(image).is_some_and(|registry| message.contains(&registry));
    let mut named = copied_images.iter().filter(is_named);
    let first = named.next()?;
    named.all(|other| other == first).then_some(first)
}

/// The message without the prefixes that BuildKit adds to every failure.
fn without_prefixes(message: &str) -> &str {
    let prefixes = [
        "failed to solve with frontend dockerfile.v0: ",
        "failed to solve with frontend gateway.v0: ",
        "failed to solve: ",
        "failed to create LLB definition: ",
    ];
    prefixes.iter().fold(message, |message, prefix| message.strip_prefix(prefix).unwrap_or(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(fault: Fault, step: &str, message: &str) -> BuildFailure {
        let step = Step { number: 1, of: 2, instruction: step.to_owned(), stage: None };
        let image = pulled_by(&step).map(str::to_owned);
        BuildFailure { fault, step: Some(step), image, ..BuildFailure::of_a_dockerfile(message.to_owned()) }
    }

    #[test]
    fn each_failure_names_the_step_the_registry_and_what_to_do() {
        let base = "FROM --platform=linux/amd64 quay.io/a/b:1 AS c";
        let failures = [
            failing(Fault::Registry, base, "toomanyrequests: slow down"),
            failing(Fault::Denied, "FROM debian:12", "unauthorized: no"),
            BuildFailure {
                login: Some("DOCKER_AUTH_CONFIG".to_owned()),
                ..failing(Fault::Denied, "FROM quay.io/a/b:1", "unauthorized: no")
            },
            failing(Fault::Missing, "COPY --from=quay.io/a/b:1 /x /x", "manifest unknown"),
            failing(Fault::Registry, "FROM $BASE", "received unexpected HTTP status: 503 Service Unavailable"),
            failing(Fault::Registry, "ADD https://example.com/x /x", "connection reset by peer"),
            failing(Fault::Engine, "COPY x /x", "write /x: no space left on device"),
            failing(Fault::Dockerfile, "COPY x /x", "\"/x\" not found: not found"),
            failing(Fault::Registry, base, "dial tcp: lookup quay.io on 10.0.0.53:53: no such host"),
            failing(
                Fault::Registry,
                "ADD https://nosuch.invalid/x /x",
                "dial tcp: lookup nosuch.invalid: no such host",
            ),
            BuildFailure {
                wait: Some(Duration::from_mins(10)),
                ..failing(Fault::Registry, base, "toomanyrequests: slow down")
            },
            BuildFailure::of_a_silent_registry("quay.io/a/b:1", Duration::from_mins(2)),
            BuildFailure {
                step: None,
                image: Some("docker.io/library/debian:12".to_owned()),
                ..failing(Fault::Registry, "", "429 Too Many Requests")
            },
        ];
        insta::assert_snapshot!(failures.map(|failure| failure.summary()).join("\n"));
    }

    #[test]
    fn the_last_line_is_told_and_long_instructions_leave_room_for_what_helps() {
        let step = failing(Fault::Dockerfile, "RUN exit 3", "returned a non-zero code: 3");
        let step = BuildFailure { exit_code: Some(3), last_lines: vec!["boom".to_owned()], ..step };
        let line = step.summary();
        assert!(line.starts_with("step 1/2, RUN exit 3, failed with exit code 3; its last line: boom; "), "{line}");
        for fault in [Fault::Dockerfile, Fault::Missing, Fault::Denied, Fault::Registry, Fault::Transient] {
            let instruction = format!("FROM quay.io/{} AS {}", "a".repeat(60), "true ".repeat(100));
            let failure =
                BuildFailure { last_lines: vec!["x".repeat(1000)], ..failing(fault, &instruction, &"y".repeat(500)) };
            let line = crate::report::error_line(&failure.summary());
            assert!(line.ends_with(&failure.next("fix the Dockerfile, or what it needs")), "{line}");
        }
    }

    #[test]
    fn only_trouble_that_passes_is_worth_another_build() {
        for (fault, expected) in [
            (Fault::Dockerfile, Retryability::Permanent),
            (Fault::Missing, Retryability::Permanent),
            (Fault::Denied, Retryability::Permanent),
            (Fault::Registry, Retryability::Transient),
            (Fault::Engine, Retryability::Permanent),
            (Fault::Transient, Retryability::Transient),
        ] {
            assert_eq!(
                EngineError::Build(Box::new(failing(fault, "FROM a", "x"))).retryability(),
                expected,
                "{fault:?}"
            );
        }
        let wait = Duration::from_secs(7);
        let limited = BuildFailure { wait: Some(wait), ..failing(Fault::Registry, "FROM a", "x") };
        assert_eq!(EngineError::Build(Box::new(limited)).retryability(), Retryability::RetryAfter(wait));
    }

    #[test]
    fn images_are_found_in_their_steps() {
        for (instruction, image) in [
            ("FROM debian:12", Some("debian:12")),
            ("FROM --platform=$BUILDPLATFORM quay.io/a AS b", Some("quay.io/a")),
            ("COPY --chown=1:1 --from=quay.io/a:1 /x /y", Some("quay.io/a:1")),
            ("FROM $BASE", None),
            ("COPY a b", None),
        ] {
            let step = Step { number: 1, of: 1, instruction: instruction.to_owned(), stage: None };
            assert_eq!(pulled_by(&step), image, "{instruction}");
        }
        let copied_images = ["a.invalid/b:1", "debian:12", "c.invalid/d", "c.invalid/e"].map(str::to_owned);
        for (message, image) in [
            ("pulling from host a.invalid failed with status code [manifests 1]: 503", Some("a.invalid/b:1")),
            ("Head \"https://registry-1.docker.io/v2/library/debian/manifests/12\": EOF", Some("debian:12")),
            ("pulling from host c.invalid failed", None),
            ("dockerfile parse error", None),
        ] {
            assert_eq!(named_image(&copied_images, message), image, "{message}");
        }
        assert_eq!(registry("debian:12").as_deref(), Some("docker.io"));
        assert_eq!(registry("127.0.0.1:5000/a/b:1").as_deref(), Some("127.0.0.1:5000"));
    }
}
