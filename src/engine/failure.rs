//! A build that failed: which step, whose fault it is, and what to do next. What engines' messages mean is for `fault`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use futures_util::TryStreamExt as _;
use http_body_util::Empty;
use tokio_util::bytes::Bytes;

use super::bases::registry;
use super::build::{DOING, Heard, trouble};
use super::buildkit::{Asked, Failing};
use super::connect::PING_TIMEOUT;
use super::connection::ping;
use super::fault::exit_code;
use super::messages::{AnswerError, Question, messages};
use super::output::Step;
use super::{Engine, EngineError, Fault, Kind, cut, cut_middle};
use crate::registry::{Credentials, is_loopback};
use crate::retry::{Another, Failure};
use crate::secrets;

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
    pub way_out: Option<String>,
    /// How many steps came from the build cache before.
    pub cached: usize,
}

impl BuildFailure {
    /// A `Dockerfile` that is not built at all.
    pub(super) fn of_a_dockerfile(message: String) -> Self {
        let (fault, step, image, login, exit_code) = (Fault::Dockerfile, None, None, None, None);
        Self { fault, step, image, login, exit_code, message, last_lines: Vec::new(), way_out: None, cached: 0 }
    }

    /// The failure in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let way_out = |otherwise: &str| self.way_out.clone().unwrap_or_else(|| self.next(otherwise));
        let Some(step) = &self.step else {
            let (message, way_out) = (cut_middle(&self.message, 200), way_out("mend the Dockerfile"));
            return match &self.image {
                Some(image) => format!("the build did not begin: cannot pull {image}: {message}; {way_out}"),
                None => format!("the build did not begin: {message}; {way_out}"),
            };
        };
        let last =
            self.last_lines.last().map(|line| format!("; its last line: {}", cut(line, 160))).unwrap_or_default();
        if let Some(code) = self.exit_code {
            let way_out = way_out("mend the Dockerfile, or what it fetches");
            return format!("{step} failed with exit code {code}{last}; {way_out}");
        }
        let way_out = way_out("mend the Dockerfile, or what it needs");
        format!("{step} failed: {}; {way_out}", cut_middle(&self.message, 140))
    }

    /// What to do next; `otherwise` where the `Dockerfile` is to be mended.
    fn next(&self, otherwise: &str) -> String {
        let registry = registry_of(self.image.as_deref(), &self.message);
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
            Fault::Registry if self.step.is_none() || self.image.is_some() => {
                format!("{registry} is in trouble, or limits pulls: start again later, or use a mirror")
            }
            Fault::Registry => "the other end is in trouble: start again later".to_owned(),
            Fault::Engine | Fault::Transient => {
                "the engine failed, not the Dockerfile: look at its disk, its network and its log, and start again"
                    .to_owned()
            }
        }
    }
}

impl Failure for EngineError {
    fn another(&self) -> Another {
        match self {
            Self::Build(failure) if matches!(failure.fault, Fault::Registry | Fault::Transient) => Another::CanHelp,
            _ => Another::IsUseless,
        }
    }
}

impl Engine {
    /// What a build's failure means.
    pub(super) async fn failure(&self, heard: Heard, asked: &Asked, error: AnswerError) -> EngineError {
        let (mut message, mut code) = match error {
            // Said in the stream of a build that had begun.
            AnswerError::Said { message, code } => (message, code),
            // Docker's answer to a Dockerfile that it cannot read.
            AnswerError::Status { status: 400, message } => (message, None),
            other => return trouble(DOING, other),
        };
        // A command that ends with its engine is not at fault.
        match tokio::time::timeout(PING_TIMEOUT, ping(&self.place)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return trouble(DOING, error),
            Err(_) => return EngineError::Unfinished { doing: DOING.to_owned() },
        }
        let cached = heard.steps().cached;
        let Heard { output, progress } = heard;
        let Failing { step, last_lines, sought } = progress.into_failing(&message);
        let (step, last_lines) =
            if step.is_some() || asked.is_of_buildkit() { (step, last_lines) } else { output.into_last() };
        let runs = step.as_ref().is_some_and(|step| step.is("RUN"));
        if runs {
            code = code.or_else(|| exit_code(&message));
        }
        let image = sought.clone().or_else(|| step.as_ref().and_then(pulled_by).map(str::to_owned));
        let mut fault = Fault::of(&message, code, runs);
        if let Some(image) = &image
            && self.kind == Kind::Podman
            && message.trim_end().ends_with(NOT_SAYING_WHY)
        {
            (fault, message) = self.why_not(image, message).await;
        }
        // What an ADD fetches is no image.
        if matches!(fault, Fault::Missing | Fault::Denied) && step.as_ref().is_some_and(|step| step.is("ADD")) {
            fault = Fault::Dockerfile;
        }
        let message = secrets::hide(in_own_words(message.trim())).into_owned();
        // Another builder helps against what one does not understand, and not against a registry.
        let way_out = (fault == Fault::Dockerfile || sought.is_some())
            .then(|| asked.way_out(step.as_ref(), sought.as_deref(), &message))
            .flatten();
        let image = image
            .filter(|_| sought.is_some() || !matches!(fault, Fault::Dockerfile | Fault::Engine | Fault::Transient));
        let login = match registry_of(image.as_deref(), &message).filter(|_| fault == Fault::Denied) {
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
            way_out,
            cached,
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
            Err(AnswerError::Said { message, .. } | AnswerError::Status { message, .. }) => {
                (Fault::of(&message, None, false), message)
            }
            Err(_) => (Fault::Dockerfile, message),
        }
    }
}

/// Podman 4.3, of an image that it could not pull for whatever reason.
const NOT_SAYING_WHY: &str = ": no stage or image found with that name";

/// The registry that an image is pulled from, or the one that `BuildKit` speaks of where it does not tell the image, as of
/// `COPY --from`.
fn registry_of(image: Option<&str>, message: &str) -> Option<String> {
    let told = || message.split_once("pulling from host ")?.1.split_whitespace().next().map(str::to_owned);
    image.map_or_else(told, registry)
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

/// What failed, without the doors that it came through.
fn in_own_words(message: &str) -> &str {
    let doors = [
        "failed to solve with frontend dockerfile.v0: ",
        "failed to solve with frontend gateway.v0: ",
        "failed to solve: ",
        "failed to create LLB definition: ",
    ];
    doors.iter().fold(message, |message, door| message.strip_prefix(door).unwrap_or(message))
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
            BuildFailure {
                step: None,
                ..failing(
                    Fault::Denied,
                    "",
                    "pulling from host quay.io failed with status code [manifests 1]: 401 Unauthorized",
                )
            },
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
            assert!(line.ends_with(&failure.next("mend the Dockerfile, or what it needs")), "{line}");
        }
    }

    #[test]
    fn only_trouble_that_passes_is_worth_another_build() {
        for (fault, another) in [
            (Fault::Dockerfile, Another::IsUseless),
            (Fault::Missing, Another::IsUseless),
            (Fault::Denied, Another::IsUseless),
            (Fault::Registry, Another::CanHelp),
            (Fault::Engine, Another::IsUseless),
            (Fault::Transient, Another::CanHelp),
        ] {
            assert_eq!(EngineError::Build(Box::new(failing(fault, "FROM a", "x"))).another(), another, "{fault:?}");
        }
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
        assert_eq!(registry("debian:12").as_deref(), Some("docker.io"));
        assert_eq!(registry("127.0.0.1:5000/a/b:1").as_deref(), Some("127.0.0.1:5000"));
    }
}
