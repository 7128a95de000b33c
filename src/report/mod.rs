//! The log on stderr: log lines, progress, build output separated from our own messages, and the one error line that Treeherder
//! highlights.

mod command_line;
mod counter;
mod display;
mod error_chain;
mod failure;
mod hint;
mod keywords;
mod lines;
mod nearest;
pub mod secrets;
mod terminal;
mod units;
mod wrapped;

use std::io::{self, Write};
use std::sync::OnceLock;

use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;

pub use command_line::command_line;
pub use counter::ProgressCounter;
pub use display::{BuildEvent, BuildSteps, StepEnd};
use display::{Display, Total};
pub use error_chain::ErrorChain;
pub use failure::{Failure, FailureForm};
pub use hint::{Hint, split_hint};
pub(crate) use keywords::{keywords, not_a_keyword, text_serde};
use lines::{JsonLines, TextLines};
pub use lines::{counted, escaped, printable, shortened};
pub use nearest::nearest;
pub use units::Bytes;
pub use wrapped::wrapped;

/// The program's version and, where it is known, the commit that it is built from: `0.1.0 (0123456789ab 2026-11-30)`. The build
/// script, scripts/build.rs, writes it.
pub const VERSION: &str = env!("IMAGE_WORKER_VERSION");

/// Treeherder cuts lines at 500 characters; the rest is room for a worker's own prefix.
const ERROR_LINE_LIMIT: usize = 480;

/// The target of build output's events. Its lines are printed behind a bar, so that nothing that a
/// `Dockerfile` prints can be mistaken for a line of ours, or for an error by Treeherder's `^…Error:` patterns.
pub const BUILD_OUTPUT: &str = "build";

keywords! {
    /// The format of log lines.
    pub enum LogFormat, "a log format" {
        /// Lines for people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

keywords! {
    /// How progress is shown on stderr.
    pub enum ProgressMode, "a way to show progress" {
        /// On a display where stderr is a terminal that is fit for it, and line by line elsewhere.
        Auto = "auto",
        /// Line by line, also on a terminal.
        Plain = "plain",
        /// On a display on every terminal. A file or a pipe never gets one.
        Tty = "tty",
    }
}

/// How the log is written.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// The format of its lines.
    pub format: LogFormat,
    /// Whether debug messages are in it.
    pub verbose: bool,
    /// How progress is shown.
    pub progress: ProgressMode,
    /// Whether a terminal can be redrawn, as far as the environment tells: not in a task, whose log may be a terminal.
    pub can_redraw: bool,
    /// Whether a terminal gets colours.
    pub color: bool,
}

impl LogOptions {
    /// Whether a terminal of this size gets a display.
    fn is_for_display(self, terminal: Option<terminal::Size>) -> bool {
        let Some(size) = terminal.filter(|_| self.format == LogFormat::Text) else { return false };
        match self.progress {
            ProgressMode::Auto => self.can_redraw && size.is_enough(),
            ProgressMode::Plain => false,
            ProgressMode::Tty => true,
        }
    }
}

/// The display of the process, for those who have no report: a panic, and stdout, which may be the same terminal.
static DISPLAY: OnceLock<Display> = OnceLock::new();

/// The destination of the log. Cheap to clone; clones write to the same place.
#[derive(Clone, Debug)]
pub struct Report {
    /// Where stderr is a terminal that gets one.
    display: Option<Display>,
}

impl Report {
    /// A report on stderr, with a live display where that is a terminal; installs the log for the whole process.
    #[must_use]
    pub fn install(options: LogOptions) -> Self {
        let is_live = options.is_for_display(terminal::reported_size());
        let report = Self { display: is_live.then(|| DISPLAY.get_or_init(|| Display::new(options.color)).clone()) };
        let level = if options.verbose { Level::DEBUG } else { Level::INFO };
        let subscriber =
            tracing_subscriber::fmt().with_max_level(level).log_internal_errors(false).with_writer(report.clone());
        let ours = tracing_subscriber::filter::filter_fn(|metadata| {
            metadata.target().starts_with("image_worker") || metadata.target() == BUILD_OUTPUT
        });
        // A second installation in one process, in tests, keeps the first.
        let _ = match options.format {
            LogFormat::Text => {
                let lines = TextLines { dates: !is_live, color: is_live && options.color };
                tracing::subscriber::set_global_default(subscriber.event_format(lines).finish().with(ours))
            }
            LogFormat::Json => {
                tracing::subscriber::set_global_default(subscriber.event_format(JsonLines).finish().with(ours))
            }
        };
        report
    }

    /// A report that draws nothing.
    #[must_use]
    pub fn silent() -> Self {
        Self { display: None }
    }

    /// Starts to report a transfer of bytes: `what` is a verb in the present, "downloading the context".
    #[must_use]
    pub fn meter(&self, what: &str, total: Option<u64>) -> ProgressCounter {
        self.transfer(what, total.map_or(Total::Unknown, Total::Exactly))
    }

    /// The same where the total is an estimate.
    #[must_use]
    pub fn meter_about(&self, what: &str, total: u64) -> ProgressCounter {
        self.transfer(what, Total::About(total))
    }

    fn transfer(&self, what: &str, total: Total) -> ProgressCounter {
        ProgressCounter::new(what, total, |bytes| {
            self.display.as_ref().map(|display| display.transfer(what, total, bytes))
        })
    }

    /// The steps of a build on the display. `None` where there is none: then all that the build prints belongs into the log.
    /// `name` is for builds that others run beside.
    #[must_use]
    pub fn build_steps(&self, name: Option<&str>) -> Option<BuildSteps> {
        self.display.as_ref().map(|display| display.build(name))
    }

    /// Whether steps are on a display, with the output of a failed one.
    #[must_use]
    pub fn has_display(&self) -> bool {
        self.display.is_some()
    }

    /// Removes the display: the work is over, even if a thread does not know it yet. Lines are still printed.
    pub fn close_display(&self) {
        if let Some(display) = &self.display {
            display.close();
        }
    }

    /// Prints a failure in its form.
    pub fn failure(&self, failure: &Failure, form: FailureForm) {
        self.raw(joined(&failure.lines(form)).as_bytes());
    }

    fn raw(&self, bytes: &[u8]) {
        match &self.display {
            Some(display) => display.write_above(bytes),
            // A closed stderr is no reason to fail the job.
            None => drop(io::stderr().lock().write_all(bytes)),
        }
    }
}

/// Prints a failure where there is no report yet, or none any more. That stderr is closed is no reason to fail.
pub fn print_failure(failure: &Failure, form: FailureForm) {
    let text = joined(&failure.lines(form));
    match DISPLAY.get() {
        Some(display) => display.write_above_if_free(text.as_bytes()),
        None => drop(io::stderr().lock().write_all(text.as_bytes())),
    }
}

/// Runs what writes to the terminal by itself, without the display in its way. It must not log.
pub fn without_display<T>(write: impl FnOnce() -> T) -> T {
    match DISPLAY.get() {
        Some(display) => display.aside(write),
        None => write(),
    }
}

fn joined(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

/// How error lines begin.
pub const ERROR_LINE: &str = "[taskcluster-image-build:error] ";

/// The line that Treeherder highlights: no date inside the brackets, no line break, at most 480 characters.
#[must_use]
pub fn error_line(what: &str) -> String {
    let what = printable(&what.split_whitespace().collect::<Vec<_>>().join(" "));
    let line = format!("{ERROR_LINE}{what}");
    if line.chars().count() <= ERROR_LINE_LIMIT {
        return line;
    }
    let mut cut: String = line.chars().take(ERROR_LINE_LIMIT - 1).collect();
    cut.push('…');
    cut
}

/// Writes log lines above the display.
impl<'a> MakeWriter<'a> for Report {
    type Writer = LogWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        LogWriter(self)
    }
}

/// The writer of log lines.
pub struct LogWriter<'a>(&'a Report);

impl Write for LogWriter<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.raw(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_line_is_one_line_of_at_most_480_characters() {
        assert_eq!(error_line("no\nengine  answers"), "[taskcluster-image-build:error] no engine answers");
        let long = error_line(&"ü".repeat(1000));
        assert_eq!(long.chars().count(), 480);
        assert!(long.ends_with('…'));
        let escapes = error_line("a.toml: key \x1b[2K\u{9b}1m\u{7}");
        assert_eq!(escapes, "[taskcluster-image-build:error] a.toml: key \\u{1b}[2K\\u{9b}1m\\u{7}");
    }

    #[test]
    fn only_a_terminal_that_is_fit_for_it_gets_a_display() {
        use ProgressMode::{Auto, Plain, Tty};
        let wide = terminal::Size { columns: 80, rows: 24 };
        let [narrow, unknown] = [(39, 24), (0, 0)].map(|(columns, rows)| terminal::Size { columns, rows });
        let text = |progress, can_redraw| LogOptions {
            format: LogFormat::Text,
            verbose: false,
            progress,
            can_redraw,
            color: true,
        };
        for (options, terminal, is_for_display) in [
            (text(Auto, true), Some(wide), true),
            (text(Auto, true), Some(narrow), false),
            (text(Auto, true), Some(unknown), false),
            (text(Auto, false), Some(wide), false),
            (text(Plain, true), Some(wide), false),
            (text(Tty, false), Some(narrow), true),
            (text(Tty, true), None, false),
            (LogOptions { format: LogFormat::Json, ..text(Tty, true) }, Some(wide), false),
        ] {
            assert_eq!(options.is_for_display(terminal), is_for_display, "{options:?} {terminal:?}");
        }
    }
}
