//! Why a run failed, from its log: this program's own error line. Logs of other programs, and lines of a build's output that look
//! the same, are not taken for one. `rerun` shows it to people, who decide.

use std::time::Duration;

use tokio::time::timeout;

use super::published_document::{DocumentError, document};
use crate::net::transfer::Storage;
use crate::report::{ERROR_LINE, keywords, shortened};
use crate::taskcluster::{ArtifactName, CallErrorKind, Services, TaskRun};

/// The most of a log that is read. A log of this program stays below Treeherder's 5 MiB; the end of a compressed one cannot be read
/// without its beginning.
const LARGEST: u64 = 16 << 20;

/// The time limit for a log: without it the verdict is only less exact.
const LONGEST: Duration = Duration::from_secs(20);

/// The prefix that docker-worker and run-task write before each line, with a date.
const OF_RUN_TASK: &str = "[task 20";
/// The head of the lines behind the error line that have the end of a step's output, and how each of them begins.
const LAST_LINES: &str = "  the step's last lines:";
const QUOTED: &str = "    | ";

/// How programs say, in lower case, that the other end of a connection is at fault. It is a hint for people only: nothing is decided
/// by it.
const OF_THE_NETWORK: [&str; 28] = [
    "could not resolve",
    "temporary failure",
    "name resolution",
    "connection refused",
    "connection reset",
    "connection timed out",
    "connection closed",
    "connection aborted",
    "timed out",
    "timeout was reached",
    "network is unreachable",
    "no route to host",
    "econnreset",
    "econnrefused",
    "etimedout",
    "enotfound",
    "eai_again",
    "socket hang up",
    "tls handshake",
    "unable to connect",
    "cannot initiate the connection",
    "remote end closed",
    "the remote end hung up",
    "502 bad gateway",
    "503 service",
    "504 gateway",
    "429 too many requests",
    "failed to fetch http",
];

keywords! {
    /// Whose fault a failure is: the word at the beginning of an error line.
    pub enum FailureWord, "a failure's word" {
        /// The program's.
        Bug = "bug",
        /// The task definition's.
        Configuration = "configuration",
        /// The context's, or the parent's.
        Context = "context",
        /// The Dockerfile's, or of what it downloads.
        Build = "build",
        /// Infrastructure's.
        Infra = "infra",
        /// A missing right's.
        Refused = "refused",
        /// The time's, or a signal's.
        Stopped = "stopped",
    }
}

/// What the log of a failed run says about the failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoggedFailure {
    /// This.
    Reported(Failure),
    /// Nothing, for this reason.
    Unknown(String),
}

/// A failure as the program reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whose fault it is.
    pub word: FailureWord,
    /// What failed, and what to do.
    pub message: String,
    /// Whether the step's last lines look as if its network failed.
    pub is_network: bool,
}

impl Failure {
    /// The last failure in a log.
    fn find(log: &str) -> Option<Self> {
        let lines: Vec<_> = log.lines().map(own_part).collect();
        let (at, message) =
            lines.iter().enumerate().rev().find_map(|(at, line)| Some((at, line.strip_prefix(ERROR_LINE)?)))?;
        let (word, message) = message.split_once(": ")?;
        let quoted = lines[at + 1..].iter().skip_while(|line| **line != LAST_LINES).skip(1);
        let last_lines = quoted.map_while(|line| line.strip_prefix(QUOTED));
        let is_network = std::iter::once(message).chain(last_lines).any(is_of_the_network);
        Some(Self { word: word.parse().ok()?, message: message.trim_end().to_owned(), is_network })
    }

    /// What failed, without the advice for those who read the log.
    fn brief(&self) -> &str {
        let cut = self.message.split_once("; its last line: ").or_else(|| self.message.rsplit_once("; "));
        cut.map_or(self.message.as_str(), |(what, _)| what)
    }

    /// What failed, and what a rerun can come to.
    #[must_use]
    pub fn hope(&self) -> String {
        let what = match self.word {
            // These say best what to do.
            FailureWord::Context | FailureWord::Configuration | FailureWord::Refused => self.message.as_str(),
            _ => self.brief(),
        };
        let hope = match self.word {
            FailureWord::Build if self.is_network => "the network, by its last lines; a rerun may help",
            FailureWord::Build => "a rerun only helps if a download failed",
            FailureWord::Infra => "a rerun helps when that is well again; the queue has repeated it already",
            FailureWord::Context => "a rerun only helps if that has changed since; else a new decision task",
            FailureWord::Configuration => "a rerun does not change the task's definition; correct the task graph",
            FailureWord::Refused => "a rerun helps when that is granted, or settled",
            FailureWord::Stopped => "another run would take as long, unless the time was lost by waiting",
            FailureWord::Bug => "please report it; a rerun may end in the same way",
        };
        format!("{}: {hope}", shortened(what, 240))
    }
}

/// A line without the prefix of a worker.
fn own_part(line: &str) -> &str {
    let behind = line.strip_prefix(OF_RUN_TASK).and_then(|rest| rest.split_once("] "));
    behind.map_or(line, |(_, own)| own)
}

fn is_of_the_network(line: &str) -> bool {
    let line = line.to_lowercase();
    OF_THE_NETWORK.iter().any(|words| line.contains(words))
}

/// Reads the log of a failed run. Whatever goes wrong is a reason why nothing is known.
pub(super) async fn failure(services: &Services, storage: &Storage, run: &TaskRun) -> LoggedFailure {
    let name = ArtifactName::task_log();
    let of = format!("{name} of run {}", run.run_id);
    let reading = document(services, storage, run, name, LARGEST);
    LoggedFailure::Unknown(match timeout(LONGEST, reading).await {
        Ok(Ok(log)) => match Failure::find(&String::from_utf8_lossy(&log)) {
            Some(failure) => return LoggedFailure::Reported(failure),
            None => format!("{of} has no error line of image-worker"),
        },
        Ok(Err(DocumentError::Call(error))) if error.kind == CallErrorKind::Gone => {
            format!("there is no {of}, or it has expired")
        }
        Ok(Err(error)) => format!("{of} cannot be read: {error}"),
        Err(_) => format!("{of} did not come within {} s", LONGEST.as_secs()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: &str = "[taskcluster-image-build:error] build: step 7/9, RUN npm ci; true, failed with exit code 1; its last line: npm ERR! A complete log; fix the Dockerfile, or what it fetches";

    #[test]
    fn the_error_line_is_found_and_whose_fault_it_is() {
        let log = format!(
            "[taskcluster 2026-01-01T00:00:00Z] x\nbuild | Step 7/9\n{STEP}\n  the step's last lines:\n    | npm ERR! code E1\n    | x\n[taskcluster 2026] y\n"
        );
        let failure = Failure::find(&log).unwrap();
        assert_eq!((failure.word, failure.is_network), (FailureWord::Build, false));
        let hope = "step 7/9, RUN npm ci; true, failed with exit code 1: a rerun only helps if a download failed";
        assert_eq!(failure.hope(), hope);
        let network = log.replace("code E1", "network EAI_AGAIN registry.npmjs.org");
        let failure = Failure::find(&network).unwrap();
        assert!(
            failure.is_network
                && failure.hope().ends_with("exit code 1: the network, by its last lines; a rerun may help")
        );
        let prefixed: Vec<_> = log.lines().map(|line| format!("[task 2026-01-01T00:00:00.000Z] {line}")).collect();
        assert_eq!(Failure::find(&prefixed.join("\r\n")), Failure::find(&log));
    }

    #[test]
    fn other_lines_are_no_failure_of_ours() {
        let quoted = "[taskcluster-image-build:error] build: x";
        for log in [
            "",
            "error",
            &format!("build | {quoted}"),
            &format!("    | {quoted}"),
            "[taskcluster-image-build:error] x: y",
        ] {
            assert_eq!(Failure::find(log), None, "{log}");
        }
        // Words of the network elsewhere in the log are of steps that went well.
        let log = format!("build | connection refused\n{STEP}\nbuild | timed out\n");
        assert!(!Failure::find(&log).unwrap().is_network);
    }

    #[test]
    fn each_word_has_its_advice() {
        let hope = |line: &str| Failure::find(&format!("{ERROR_LINE}{line}\n")).unwrap().hope();
        let infra = hope("infra: no engine answers; start one");
        assert_eq!(
            infra,
            "no engine answers: a rerun helps when that is well again; the queue has repeated it already"
        );
        assert!(
            hope("refused: a scope is missing; add it to the task's scopes").starts_with("a scope is missing; add it")
        );
        assert!(hope("configuration: HASH is not set").contains("correct the task graph"));
        assert!(hope("stopped: MAX_RUN_TIME is nearly over while building; x").contains("would take as long"));
        let long = hope(&format!("bug: {}", "x".repeat(1000)));
        assert!(long.chars().count() < 320, "{long}");
    }
}
