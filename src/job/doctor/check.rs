//! The result of a check, and of all of them: a line for people, a document for programs.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use crate::job::CommandError;
use crate::report::{ErrorChain, Hint, counted, printable, wrapped};

/// Where the message of a check begins, behind its state and its name.
const MESSAGE_COLUMN: usize = 25;

/// What a check has found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What was looked at; the names do not change.
    pub name: &'static str,
    /// How it is.
    pub state: CheckState,
    /// What was found and, where something is wrong, the way out; one line.
    pub message: String,
    /// The error that `run` would end with.
    #[serde(skip)]
    error: Option<CommandError>,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// As it should be.
    Ok,
    /// It does not apply here, or says nothing about good and bad.
    Note,
    /// `run` works, but something is worth a look.
    Warning,
    /// `run` fails.
    Problem,
}

/// What is wrong and has no error of another module.
#[derive(Debug, thiserror::Error)]
pub enum DoctorProblem {
    /// The clock of this machine, or of the deployment, is wrong.
    #[error(
        "this machine's clock is {seconds} s {direction} the deployment's, and signed calls are refused from {limit} s on{}",
        Hint("set it, by NTP for example")
    )]
    Clock {
        /// How far apart.
        seconds: i64,
        /// `ahead of` or `behind`.
        direction: &'static str,
        /// What the services tolerate, in seconds.
        limit: i64,
    },
    /// The credentials are no longer valid.
    #[error(
        "the credentials of {client} have expired at {expiry}{}",
        Hint("get new ones, with `taskcluster signin` for example")
    )]
    Expired {
        /// The client.
        client: String,
        /// When.
        expiry: Timestamp,
    },
    /// A check that takes too long.
    #[error("no result within {seconds} s{}", Hint("is the machine or a disk very busy?"))]
    Late {
        /// The limit in seconds.
        seconds: u64,
    },
}

impl Check {
    /// As it should be.
    pub(super) fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self::of(name, CheckState::Ok, message)
    }

    /// What does not apply.
    pub(super) fn note(name: &'static str, message: impl Into<String>) -> Self {
        Self::of(name, CheckState::Note, message)
    }

    /// What is worth a look.
    pub(super) fn warning(name: &'static str, message: impl Into<String>) -> Self {
        Self::of(name, CheckState::Warning, message)
    }

    /// What `run` fails with.
    pub(super) fn problem(name: &'static str, error: impl Into<CommandError>) -> Self {
        let error = error.into();
        let message = ErrorChain(&error).to_string();
        Self { error: Some(error), ..Self::of(name, CheckState::Problem, message) }
    }

    /// A problem that the error has in other words.
    pub(super) fn problem_of(name: &'static str, message: &str, error: CommandError) -> Self {
        Self { error: Some(error), ..Self::of(name, CheckState::Problem, message) }
    }

    fn of(name: &'static str, state: CheckState, message: impl Into<String>) -> Self {
        let message = message.into().split_whitespace().collect::<Vec<_>>().join(" ");
        Self { name, state, message: printable(&message), error: None }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.state {
            CheckState::Ok => "ok",
            CheckState::Note => "note",
            CheckState::Warning => "warning",
            CheckState::Problem => "problem",
        };
        write!(f, "{mark:<8} {:<14}  {}", self.name, self.message)
    }
}

/// What all checks have found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Examination {
    /// How many checks found a problem.
    pub problems: usize,
    /// How many found something worth a look.
    pub warnings: usize,
    /// The checks, in the order in which `run` meets what they are about.
    pub checks: Vec<Check>,
}

impl Examination {
    pub(super) fn new(checks: Vec<Check>) -> Self {
        let count = |state| checks.iter().filter(|check| check.state == state).count();
        Self { problems: count(CheckState::Problem), warnings: count(CheckState::Warning), checks }
    }

    /// The error for all problems, which counts as the first of them.
    #[must_use]
    pub fn into_error(self) -> Option<CommandError> {
        let (count, mut errors) = (self.problems, self.checks.into_iter().filter_map(|check| check.error));
        let first = errors.next()?;
        Some(CommandError::Unfit { count, first: Box::new(first) })
    }
}

impl Examination {
    /// A line for each check, and how many found something; for a terminal of this many columns messages have several lines.
    #[must_use]
    pub fn text(&self, columns: Option<usize>) -> String {
        let line = |check: &Check| wrapped(&check.to_string(), columns.unwrap_or(usize::MAX), MESSAGE_COLUMN);
        let lines = self.checks.iter().map(line);
        let counts = format!("{}, {}", counted(self.problems, "problem"), counted(self.warnings, "warning"));
        lines.chain([counts]).collect::<Vec<_>>().join("\n")
    }
}
