//! The log of a build. Every line of the build's output goes to a file, which becomes an artifact. The task's log gets as much
//! of the output as Treeherder accepts, unless a terminal shows the build's steps. `engine::build` interprets the lines.

mod lines;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use tracing::{info, warn};

use crate::net::digest_reader::DigestReader;
use crate::net::{Digest, SizedDigest};
use crate::report::{BUILD_OUTPUT, BuildEvent, BuildSteps, Bytes, secrets};
pub use lines::{LONGEST_LINE, LineBuffer, plain};

/// The artifact with the whole output of a build. `public/logs/` belongs to the worker.
pub const ARTIFACT: &str = "public/image-build/build.log";

/// How many bytes of a build's output the task's log gets. Treeherder skips logs over 5 MiB; the rest is for prefixes, our own
/// lines and the worker's lines.
const LOG_BUDGET: usize = 3 * 1024 * 1024;

/// How many bytes of one step are logged before its middle is left out.
const STEP_HEAD: usize = 256 * 1024;

/// How many bytes of the step's end are logged then: errors are at the end.
const STEP_TAIL: usize = 16 * 1024;

/// The log of one build.
#[derive(Debug)]
pub struct BuildLog {
    /// Whether the log is for a task, which limits its size.
    bounded: bool,
    /// What stands before each line in the log.
    prefix: String,
    path: PathBuf,
    /// The build on the display of a terminal, where the log then has none of its output.
    steps: Option<BuildSteps>,
    /// `None` if the disk is full: the build continues without its log file.
    file: Option<DigestReader<BufWriter<File>>>,
    left: usize,
    step_left: usize,
    step_tail: usize,
    tail: VecDeque<String>,
    tail_bytes: usize,
    omitted: OmittedLines,
}

/// A complete log file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The file.
    pub path: PathBuf,
    /// Its sha256.
    pub sha256: Digest,
    /// Its size in bytes.
    pub size: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct OmittedLines {
    lines: u64,
    bytes: u64,
}

impl BuildLog {
    /// Starts a log in a new file.
    pub fn create(path: PathBuf, steps: Option<BuildSteps>) -> io::Result<Self> {
        let file = Some(DigestReader::new(BufWriter::new(File::create(&path)?)));
        Ok(Self { bounded: true, steps, ..Self::of(path, file) })
    }

    /// A log for users who watch the build: complete, and without a file.
    #[must_use]
    pub fn for_people(steps: Option<BuildSteps>) -> Self {
        Self { steps, ..Self::of(PathBuf::new(), None) }
    }

    /// The same with a prefix before each line, for one of several builds at once.
    #[must_use]
    pub fn with_prefix(self, prefix: String) -> Self {
        Self { prefix, ..self }
    }

    fn of(path: PathBuf, file: Option<DigestReader<BufWriter<File>>>) -> Self {
        let (tail, omitted) = (VecDeque::new(), OmittedLines::default());
        Self {
            bounded: false,
            prefix: String::new(),
            path,
            steps: None,
            file,
            left: LOG_BUDGET,
            step_left: STEP_HEAD,
            step_tail: STEP_TAIL,
            tail,
            tail_bytes: 0,
            omitted,
        }
    }

    /// Shows on the display, if there is one, what happens in the build. Whatever is printed is also logged, by the methods below.
    pub fn show(&mut self, event: BuildEvent) {
        if let Some(steps) = &self.steps {
            steps.update(event);
        }
    }

    /// Logs a line that starts a step.
    pub fn step(&mut self, line: &str) {
        self.catch_up();
        // A part of the remaining budget: some of it is left at the end of a build with a thousand verbose steps.
        self.step_left = STEP_HEAD.min(self.left / 8);
        self.step_tail = STEP_TAIL.min(self.left / 16);
        self.line(line);
    }

    /// Logs a line of output.
    pub fn line(&mut self, line: &str) {
        let line = &*secrets::hide(line);
        self.write(line);
        if self.steps.is_some() {
            return;
        }
        let size = line.len() + 1;
        let fits = self.omitted.lines == 0 && self.tail.is_empty() && size <= self.step_left;
        if fits || !self.bounded {
            self.step_left = self.step_left.saturating_sub(size);
            self.log_line(line);
            return;
        }
        self.tail.push_back(line.to_owned());
        self.tail_bytes += size;
        while self.tail_bytes > self.step_tail {
            let Some(lost) = self.tail.pop_front() else { break };
            self.tail_bytes -= lost.len() + 1;
            self.omitted.lines += 1;
            self.omitted.bytes += lost.len() as u64 + 1;
        }
    }

    /// Ends the log: logs the remaining lines and completes the file. `None` if the file could not be written.
    pub fn finish(mut self) -> Option<Finished> {
        self.catch_up();
        let flushed = self.file.as_mut().map_or(Ok(()), Write::flush);
        self.check(flushed);
        let (_, SizedDigest { sha256, size }) = self.file?.finish();
        Some(Finished { path: self.path, sha256, size })
    }

    /// Logs the end of a step whose middle was left out.
    fn catch_up(&mut self) {
        let OmittedLines { lines, bytes } = std::mem::take(&mut self.omitted);
        if lines > 0 {
            info!(target: BUILD_OUTPUT, "… {lines} lines ({}) are left out here; all are in {ARTIFACT}", Bytes(bytes));
        }
        self.tail_bytes = 0;
        for line in std::mem::take(&mut self.tail) {
            self.log_line(&line);
        }
    }

    fn log_line(&mut self, line: &str) {
        self.left = self.left.saturating_sub(line.len() + 1);
        info!(target: BUILD_OUTPUT, "{}{line}", self.prefix);
    }

    fn write(&mut self, line: &str) {
        let written = self.file.as_mut().map_or(Ok(()), |file| writeln!(file, "{line}"));
        self.check(written);
    }

    fn check(&mut self, written: io::Result<()>) {
        if let Err(error) = written {
            warn!("the build's log cannot be written to {}, going on without: {error}", self.path.display());
            self.file = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> (tempfile::TempDir, BuildLog) {
        let directory = tempfile::tempdir().unwrap();
        let log = BuildLog::create(directory.path().join("build.log"), None).unwrap();
        (directory, log)
    }

    #[test]
    fn the_file_has_everything_and_the_log_a_bounded_part() {
        let (_directory, mut log) = log();
        let line = "x".repeat(99);
        for step in 0..30 {
            log.step(&format!("Step {step}/30 : RUN chat"));
            for _ in 0..10_000 {
                log.line(&line);
            }
            assert!(log.tail_bytes <= STEP_TAIL, "the tail is bounded");
            assert!(log.omitted.lines > 0, "step {step} is too long to be logged whole");
        }
        assert!(log.left > 0, "the budget is never used up: {}", log.left);
        let size = log.finish().unwrap().size;
        assert!(size > 30 * 10_000 * 100, "every line is in the file: {size}");
    }

    #[test]
    fn people_are_told_everything() {
        let mut log = BuildLog::for_people(None);
        log.step("Step 1/1 : RUN chat");
        (0..100_000).for_each(|_| log.line("a chatty step's line, one of many that would be too many for a task"));
        assert!(log.tail.is_empty());
        assert_eq!(log.finish(), None);
    }

    #[test]
    fn a_short_step_is_told_whole() {
        let (_directory, mut log) = log();
        log.step("Step 1/1 : RUN x");
        (0..100).for_each(|_| log.line("hello"));
        assert!(log.tail.is_empty());
        let log = log.finish().unwrap();
        let text = std::fs::read_to_string(&log.path).unwrap();
        assert_eq!(log.sha256, Digest::of(text.as_bytes()));
        assert_eq!((log.size, text.lines().count()), (text.len() as u64, 101));
    }
}
