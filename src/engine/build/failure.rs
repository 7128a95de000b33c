//! A build that failed: which step, whose fault it is, and what to do next. What engines' messages mean is for `fault`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use futures_util::TryStreamExt as _;
use http_body_util::Empty;
use tokio_util::bytes::Bytes;

use super::bases::registry;
use super::build_output::BuildOutputParser;
use super::fault::{exit_code, is_limit, unresolved};
use super::pull_limit::asked_to_wait;
use super::step_lines::{Step, cut_middle};
use crate::engine::build::builder::ChosenBuilder;
use crate::engine::buildkit::Failing;
use crate::engine::connection::client::ping;
use crate::engine::connection::find::PING_TIMEOUT;
use crate::engine::connection::messages::{AnswerError, Question, messages};
use crate::engine::{Engine, EngineError, Fault};
use crate::net::registry::{Credentials, is_loopback};
use crate::net::retry::{Failure, Retryability};
use crate::report::secrets;
use crate::report::shortened;

pub(in crate::engine) const DOING: &str = "building the image";

/// A step of a `Dockerfile` that failed, or a build that did not begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildFailure {
    /// Whose fault it is.
    pub fault: Fault,
    /// The failing step; none when the build did not begin.
    pub step: Option<Step>,
    /// The image that was to be pulled, where that failed, as the `Dockerfile` has it.
    pub image: Option<String>,
    /// Where the credentials are that the registry was shown.
    pub login: Option<String>,
    /// The exit code of its command, where it has one.
    pub exit_code: Option<i64>,
    /// What the engine says about it.
    pub message: String,
    /// The last lines of the step's output.
    pub last_lines: Vec<String>,
    /// What helps besides mending the `Dockerfile`.
    pub hint: Option<String>,
    /// How many steps came from the build cache before.
    pub cached: usize,
    /// How long the registry asks to wait, where it says that.
    pub wait: Option<Duration>,
}

impl BuildFailure {
    /// A `Dockerfile` that is not built at all.
    pub(super) fn of_a_dockerfile(message: String) -> Self {
        let (fault, step, image, login, exit_code) = (Fault::Dockerfile, None, None, None, None);
        let (last_lines, hint, wait) = (Vec::new(), None, None);
        Self { fault, step, image, login, exit_code, message, last_lines, hint, cached: 0, wait }
    }

    /// A registry that an image was to be looked up in, and that has not said anything for this time.
    fn of_a_silent_registry(image: &str, silence: Duration) -> Self {
        let message = format!("its registry has said nothing for {} s", silence.as_secs());
        Self { fault: Fault::Registry, image: Some(image.to_owned()), ..Self::of_a_dockerfile(message) }
    }

    /// Whether it looks like what an engine's end does to a command: killed, or told to end.
    pub(super) fn may_be_the_engines_end(&self) -> bool {
        matches!(self.exit_code, Some(137 | 143))
    }

    /// The failure in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let hint = |otherwise: &str| self.hint.clone().unwrap_or_else(|| self.next(otherwise));
        let Some(step) = &self.step else {
            let (message, hint) = (cut_middle(&self.message, 200), hint("fix the Dockerfile"));
            return match &self.image {
                Some(image) => format!("the build did not begin: cannot pull {image}: {message}; {hint}"),
                None => format!("the build did not begin: {message}; {hint}"),
            };
        };
        let last =
            self.last_lines.last().map(|line| format!("; its last line: {}", shortened(line, 160))).unwrap_or_default();
        if let Some(code) = self.exit_code {
            let hint = hint("fix the Dockerfile, or what it fetches");
            return format!("{step} failed with exit code {code}{last}; {hint}");
        }
        let hint = hint("fix the Dockerfile, or what it needs");
        format!("{step} failed: {}; {hint}", cut_middle(&self.message, 140))
    }

    /// What to do next; `otherwise` where the `Dockerfile` is to be mended.
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
    /// What a build's failure means.
    pub(in crate::engine) async fn failure(
        &self,
        heard: BuildOutputParser,
        asked: &ChosenBuilder,
        error: AnswerError,
    ) -> EngineError {
        let (mut message, mut code) = match error {
            // Said in the stream of a build that had begun.
            AnswerError::Reported { message, code } => (message, code),
            // Docker's answer to a Dockerfile that it cannot read.
            AnswerError::Status { status: 400, message } => (message, None),
            other => return request_error(DOING, other),
        };
        // A command that ends with its engine is not at fault.
        match tokio::time::timeout(PING_TIMEOUT, ping(&self.place)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return request_error(DOING, error),
            Err(_) => return EngineError::Unfinished { doing: DOING.to_owned() },
        }
        let cached = heard.steps().cached;
        let BuildOutputParser { output, progress } = heard;
        let Failing { step, last_lines, sought } = progress.into_failing(&message);
        let (step, last_lines) =
            if step.is_some() || asked.is_of_buildkit() { (step, last_lines) } else { output.into_last() };
        let runs = step.as_ref().is_some_and(|step| step.is("RUN"));
        if runs {
            code = code.or_else(|| exit_code(&message));
        }
        let named = step.as_ref().map_or_else(|| lender(asked.lenders(), &message), pulled_by);
        let image = sought.clone().or_else(|| named.map(str::to_owned));
        let mut fault = Fault::of(&message, code, runs);
        if let Some(image) = &image
            && self.driver.hides_why_a_pull_failed(&message)
        {
            (fault, message) = self.why_not(image, message).await;
        }
        // What an ADD fetches is no image.
        if matches!(fault, Fault::Missing | Fault::Denied) && step.as_ref().is_some_and(|step| step.is("ADD")) {
            fault = Fault::Dockerfile;
        }
        let wait = match &image {
            Some(image) if fault == Fault::Registry && is_limit(&message) => {
                asked_to_wait(image, self.access.retry).await
            }
            _ => None,
        };
        let message = secrets::hide(in_own_words(message.trim())).into_owned();
        // Another builder helps against what one does not understand, and not against a registry.
        let hint = (fault == Fault::Dockerfile || sought.is_some())
            .then(|| asked.hint(step.as_ref(), sought.as_deref(), &message))
            .flatten();
        let image = image
            .filter(|_| sought.is_some() || !matches!(fault, Fault::Dockerfile | Fault::Engine | Fault::Transient));
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

    /// Why Podman could not pull the image of a `COPY --from`: it says that when it is asked for the image alone.
    async fn why_not(&self, image: &str, message: String) -> (Fault, String) {
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
        match pulled.try_for_each(|_| std::future::ready(Ok(()))).await {
            // What was in the way has passed.
            Ok(()) => (Fault::Registry, message),
            Err(AnswerError::Reported { message, .. } | AnswerError::Status { message, .. }) => {
                (Fault::of(&message, None, false), message)
            }
            Err(_) => (Fault::Dockerfile, message),
        }
    }
}

pub(in crate::engine) fn request_error(
    doing: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> EngineError {
    EngineError::Request { doing: doing.to_owned(), source: source.into() }
}

/// What the engine says next. Docker waits for ever for a registry that says nothing: while it only looks for an image, that is
/// an error after `silence`.
pub(super) async fn next_of<T>(
    next: impl Future<Output = Option<T>>,
    heard: &BuildOutputParser,
    silence: Duration,
) -> Result<Option<T>, EngineError> {
    let begins = || heard.output.begins_from().and_then(pulled_by);
    let Some(image) = heard.progress.only_looks_for().or_else(begins) else { return Ok(next.await) };
    let failure = |_| BuildFailure::of_a_silent_registry(image, silence);
    tokio::time::timeout(silence, next).await.map_err(|late| EngineError::Build(Box::new(failure(late))))
}

/// The image that a step pulls, where its name hangs on no variable.
fn pulled_by(step: &Step) -> Option<&str> {
    let mut words = step.instruction.split_whitespace().skip(1);
    let image = if step.is("FROM") {
        words.find(|word| !word.starts_with("--"))
    } else {
        words.find_map(|word| word.strip_prefix("--from="))
    };
    image.filter(|image| !image.contains('$'))
}

/// The image that lends files, of those that there are, whose registry a message names: BuildKit names no step in it.
fn lender<'a>(lenders: &'a [String], message: &str) -> Option<&'a str> {
    let is_named = |image: &&String| registry(image).is_some_and(|registry| message.contains(&registry));
    let mut named = lenders.iter().filter(is_named);
    let first = named.next()?;
    named.all(|other| other == first).then_some(first)
}

/// What failed, without the doors that it came through.
fn in_own_words(message: &str) -> &str {
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
        let said = [
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
        insta::assert_snapshot!(said.map(|failure| failure.summary()).join("\n"));
    }

    #[test]
    fn the_last_line_is_told_and_long_instructions_leave_room_for_what_helps() {
        let step = failing(Fault::Dockerfile, "RUN exit 3", "returned a non-zero code: 3");
        let step = BuildFailure { exit_code: Some(3), last_lines: vec!["boom".to_owned()], ..step };
        let said = step.summary();
        assert!(said.starts_with("step 1/2, RUN exit 3, failed with exit code 3; its last line: boom; "), "{said}");
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
        for (fault, another) in [
            (Fault::Dockerfile, Retryability::Permanent),
            (Fault::Missing, Retryability::Permanent),
            (Fault::Denied, Retryability::Permanent),
            (Fault::Registry, Retryability::Transient),
            (Fault::Engine, Retryability::Permanent),
            (Fault::Transient, Retryability::Transient),
        ] {
            assert_eq!(
                EngineError::Build(Box::new(failing(fault, "FROM a", "x"))).retryability(),
                another,
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
        let lenders = ["a.invalid/b:1", "debian:12", "c.invalid/d", "c.invalid/e"].map(str::to_owned);
        for (message, image) in [
            ("pulling from host a.invalid failed with status code [manifests 1]: 503", Some("a.invalid/b:1")),
            ("Head \"https://registry-1.docker.io/v2/library/debian/manifests/12\": EOF", Some("debian:12")),
            ("pulling from host c.invalid failed", None),
            ("dockerfile parse error", None),
        ] {
            assert_eq!(lender(&lenders, message), image, "{message}");
        }
        assert_eq!(registry("debian:12").as_deref(), Some("docker.io"));
        assert_eq!(registry("127.0.0.1:5000/a/b:1").as_deref(), Some("127.0.0.1:5000"));
    }
}
