//! The log on stderr: log lines, progress, build output separated from our own messages, and the one error line that Treeherder
//! highlights.

mod command_line;
mod error_chain;
mod failure;
mod hint;
mod keywords;
mod lines;
pub mod secrets;
mod terminal;

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tracing::{Level, info};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;

pub use command_line::command_line;
pub use error_chain::ErrorChain;
pub use failure::{Failure, FailureForm};
pub use hint::{Hint, split_hint};
pub(crate) use keywords::{keywords, not_a_keyword, text_serde};
use lines::{JsonLines, TextLines};
pub use lines::{counted, escaped, printable, shortened};

/// The program's version and, where it is known, the commit that it is built from: `0.1.0 (0123456789ab 2026-11-30)`. The build
/// script, scripts/build.rs, writes it.
pub const VERSION: &str = env!("IMAGE_WORKER_VERSION");

/// Treeherder cuts lines at 500 characters; the rest is room for a worker's own prefix.
const ERROR_LINE_LIMIT: usize = 480;

/// The target of build output's events. Its lines are printed behind a bar, so that nothing that a
/// `Dockerfile` prints can be mistaken for a line of ours, or for an error by Treeherder's `^…Error:` patterns.
pub const BUILD_OUTPUT: &str = "build";

/// In a log without a terminal, a transfer reports its progress at most this often.
const HEARTBEAT: Duration = Duration::from_secs(30);

keywords! {
    /// The format of log lines.
    pub enum LogFormat, "a log format" {
        /// Lines for people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

/// The destination of the log. Cheap to clone; clones write to the same place.
#[derive(Clone, Debug)]
pub struct Report {
    /// The bars, where stderr is a terminal.
    bars: Option<MultiProgress>,
}

impl Report {
    /// A report on stderr, with bars where that is a terminal; installs the log for the whole process.
    ///
    /// `NO_COLOR` (passed as `color: false`) disables colours.
    #[must_use]
    pub fn install(format: LogFormat, verbose: bool, color: bool) -> Self {
        let terminal = io::stderr().is_terminal() && format == LogFormat::Text;
        let report = Self { bars: terminal.then(|| MultiProgress::with_draw_target(terminal::target())) };
        let level = if verbose { Level::DEBUG } else { Level::INFO };
        let subscriber =
            tracing_subscriber::fmt().with_max_level(level).log_internal_errors(false).with_writer(report.clone());
        let ours = tracing_subscriber::filter::filter_fn(|metadata| {
            metadata.target().starts_with("image_worker") || metadata.target() == BUILD_OUTPUT
        });
        // A second installation in one process, in tests, keeps the first.
        let _ = match format {
            LogFormat::Text => {
                let lines = TextLines { dates: !terminal, color: terminal && color };
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
        Self { bars: None }
    }

    /// Starts to report a transfer of bytes: `what` is a verb in the present, "downloading the context".
    #[must_use]
    pub fn meter(&self, what: &str, total: Option<u64>) -> ProgressCounter {
        let bar = self.bars.as_ref().map(|bars| {
            let (bar, template) = match total {
                Some(total) => (
                    ProgressBar::new(total),
                    "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {elapsed}, {eta} left",
                ),
                None => (ProgressBar::new_spinner(), "{msg} {spinner} {bytes} {bytes_per_sec} {elapsed}"),
            };
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = bars.add(bar.with_style(style));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        let started = Instant::now();
        ProgressCounter(Arc::new(Mutex::new(Moved {
            what: what.to_owned(),
            total,
            bytes: 0,
            started,
            reported_at: started,
            bar,
        })))
    }

    /// Prints a failure in its form.
    pub fn failure(&self, failure: &Failure, form: FailureForm) {
        self.raw(joined(&failure.lines(form)).as_bytes());
    }

    fn raw(&self, bytes: &[u8]) {
        let write = || io::stderr().lock().write_all(bytes);
        // A closed stderr is no reason to fail the job.
        let _ = match &self.bars {
            Some(bars) => bars.suspend(write),
            None => write(),
        };
    }
}

/// Prints a failure where there is no report yet, or none any more. That stderr is closed is no reason to fail.
pub fn print_failure(failure: &Failure, form: FailureForm) {
    let _ = io::stderr().lock().write_all(joined(&failure.lines(form)).as_bytes());
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

/// Counts transferred bytes and reports the progress. Clones count together.
#[derive(Clone, Debug)]
pub struct ProgressCounter(Arc<Mutex<Moved>>);

#[derive(Debug)]
struct Moved {
    what: String,
    total: Option<u64>,
    bytes: u64,
    started: Instant,
    reported_at: Instant,
    bar: Option<ProgressBar>,
}

impl ProgressCounter {
    /// Some more bytes have moved.
    pub fn add(&self, bytes: u64) {
        let Ok(mut moved) = self.0.lock() else { return };
        moved.bytes += bytes;
        if let Some(bar) = &moved.bar {
            bar.set_position(moved.bytes);
        } else if moved.reported_at.elapsed() >= HEARTBEAT {
            moved.reported_at = Instant::now();
            let of = moved.total.map(|total| format!(" of {}", Bytes(total))).unwrap_or_default();
            info!("{}: {}{of}, {}", moved.what, Bytes(moved.bytes), Rate(moved.bytes, moved.started.elapsed()));
        }
    }

    /// The transfer is complete: reports bytes, time and rate. `done` is the action in the past tense.
    pub fn finish(&self, done: &str) {
        let Ok(moved) = self.0.lock() else { return };
        if let Some(bar) = &moved.bar {
            bar.finish_and_clear();
        }
        let took = moved.started.elapsed();
        // A rate over less than a tenth of a second is meaningless.
        let rate = if took.as_millis() < 100 { String::new() } else { format!(", {}", Rate(moved.bytes, took)) };
        info!("{done}: {} in {:.1} s{rate}", Bytes(moved.bytes), took.as_secs_f64());
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A number of bytes for people: `1.5 MiB`.
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&indicatif::BinaryBytes(self.0), f)
    }
}

struct Rate(u64, Duration);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whole milliseconds are as exact as a rate for people needs to be, and u64 holds them.
        let millis = u64::try_from(self.1.as_millis()).unwrap_or(u64::MAX).max(1);
        let per_second = u128::from(self.0) * 1000 / u128::from(millis);
        write!(f, "{}/s", Bytes(u64::try_from(per_second).unwrap_or(u64::MAX)))
    }
}

/// Writes log lines past the bars.
impl<'a> MakeWriter<'a> for Report {
    type Writer = BarSafeWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        BarSafeWriter(self)
    }
}

/// The writer of log lines.
pub struct BarSafeWriter<'a>(&'a Report);

impl Write for BarSafeWriter<'_> {
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
    fn sizes_and_rates_are_for_people() {
        assert_eq!(Bytes(1_572_864).to_string(), "1.50 MiB");
        assert_eq!(Rate(1_048_576, Duration::from_millis(500)).to_string(), "2.00 MiB/s");
        assert_eq!(Rate(1, Duration::ZERO).to_string(), "1000 B/s");
    }
}
