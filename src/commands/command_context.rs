//! What a subcommand receives from the process and returns to it. Only `cli` uses the process itself.

use std::time::Duration;

use serde::Serialize;

use crate::config::{ProcessEnvironment, SettingLayers};
use crate::job::CommandError;
use crate::job::foreground::Console;
use crate::job::shutdown::Shutdown;
use crate::report::Report;

/// After this time, threads of a stopped job that still wait for bytes are left to the process exit.
const THREADS_MAY_TAKE: Duration = Duration::from_secs(2);

/// What a subcommand receives from the process.
pub struct CommandContext<'a> {
    /// The settings, from flags, environment and file.
    pub settings: &'a SettingLayers<'a>,
    /// The time and the place of this run.
    pub environment: ProcessEnvironment<'a>,
    /// Whether the answer is JSON.
    pub json: bool,
    /// Where the log goes.
    pub report: &'a Report,
    /// The columns of the terminal at stdout; none where it is no terminal.
    pub columns: Option<usize>,
    /// Writes a part of the answer to stdout before the rest is known.
    pub print: fn(&str) -> Result<(), CommandError>,
    /// Asks the user at the terminal a yes/no question.
    pub confirm: fn(&str) -> Result<bool, CommandError>,
    /// The definition of the whole command line.
    pub command_line: fn() -> clap::Command,
    /// The streams of this process, for a container in the foreground.
    pub console: fn() -> Console,
}

/// What goes to stdout.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The text, with a line break at its end.
    pub text: String,
    /// Whether it only reports something that others can see already: then the subcommand has succeeded even if nobody reads
    /// this.
    pub is_published: bool,
    /// The exit code: that of a container in the foreground, else 0.
    pub exit_code: u8,
}

impl Answer {
    /// An answer that is the whole purpose of the subcommand.
    #[must_use]
    pub fn of(text: String) -> Self {
        Self { text, is_published: false, exit_code: 0 }
    }

    /// The same answer, of something that is published.
    #[must_use]
    pub fn of_something_published(self) -> Self {
        Self { is_published: true, ..self }
    }
}

impl CommandContext<'_> {
    /// The answer: `value` with `--json`, else `text`.
    pub fn answer(&self, value: &impl Serialize, text: &str) -> Result<Answer, CommandError> {
        let text = if self.json { to_json(value)? } else { text.to_owned() };
        Ok(Answer::of(text + "\n"))
    }

    /// Runs work that signals stop.
    pub fn until_stopped<T>(
        &self,
        work: impl AsyncFnOnce(&Shutdown) -> Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        self.block_on(async { work(&Shutdown::listen(None)?).await })
    }

    /// Runs work that waits for the network or an engine.
    pub fn block_on<T>(&self, work: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| CommandError::Bug(format!("no runtime: {error}")))?;
        let outcome = runtime.block_on(work);
        runtime.shutdown_timeout(THREADS_MAY_TAKE);
        outcome
    }
}

/// One line of JSON.
pub(super) fn to_json(value: &impl Serialize) -> Result<String, CommandError> {
    serde_json::to_string(value).map_err(|error| CommandError::Bug(error.to_string()))
}
