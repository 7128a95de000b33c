//! The steps of builds as the display shows them, in the words of buildx: a running one with its time and the last lines of its
//! output, a finished one in one line, a failed one with as much of its output as is kept.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use super::cells::{cut, plain, spread};
use super::transfer::{RecentRate, Total, amount};
use crate::report::lines::counted;
use crate::report::units::Bytes;

/// How many lines of a failed step's output are shown at most, and of how many bytes.
const KEPT_LINES: usize = 200;
const KEPT_BYTES: usize = 64 * 1024;

/// On very wide terminals the times stay in sight of the steps.
const WIDEST: usize = 120;

/// What happens in a build. Steps have numbers of the caller's choice, each of which is one step of the build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildEvent {
    /// The builder says something that belongs to no step.
    Notice(String),
    /// A step begins: `[2/3] RUN make`.
    Started {
        /// The step.
        step: u32,
        /// Its place and its instruction.
        title: String,
    },
    /// A step prints a line.
    Printed {
        /// The step.
        step: u32,
        /// The line.
        line: String,
    },
    /// A step is taken from the cache.
    Cached {
        /// The step.
        step: u32,
    },
    /// A step downloads or uploads.
    Transferred {
        /// The step.
        step: u32,
        /// What it transfers, one of several things.
        part: String,
        /// How many bytes of it are done.
        bytes: u64,
        /// How many bytes it has.
        total: u64,
    },
    /// A step is over.
    Ended {
        /// The step.
        step: u32,
        /// How it ended.
        end: StepEnd,
    },
    /// The build is over, and with it all steps that still run.
    Over(StepEnd),
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepEnd {
    /// Well.
    Done,
    /// It failed.
    Failed,
    /// It was stopped, because another one failed or the program was stopped.
    Canceled,
}

/// How to print: for how many columns, and whether in colours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) columns: usize,
    pub(super) color: bool,
}

impl Style {
    fn painted(self, text: &str, code: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A running step.
#[derive(Debug)]
pub(super) struct RunningStep {
    title: String,
    started: Instant,
    is_cached: bool,
    output: VecDeque<String>,
    output_bytes: usize,
    omitted_lines: usize,
    omitted_bytes: u64,
    /// Bytes and totals of what it downloads or uploads.
    transfers: BTreeMap<String, (u64, u64)>,
    rate: RecentRate,
}

impl RunningStep {
    pub(super) fn new(title: &str, started: Instant) -> Self {
        Self {
            title: plain(title),
            started,
            is_cached: false,
            output: VecDeque::new(),
            output_bytes: 0,
            omitted_lines: 0,
            omitted_bytes: 0,
            transfers: BTreeMap::new(),
            rate: RecentRate::default(),
        }
    }

    pub(super) fn cached(&mut self) {
        self.is_cached = true;
    }

    pub(super) fn printed(&mut self, line: &str) {
        let line = plain(line);
        self.output_bytes += line.len() + 1;
        self.output.push_back(line);
        while self.output.len() > KEPT_LINES || (self.output_bytes > KEPT_BYTES && self.output.len() > 1) {
            let Some(lost) = self.output.pop_front() else { break };
            self.output_bytes -= lost.len() + 1;
            self.omitted_lines += 1;
            self.omitted_bytes += lost.len() as u64 + 1;
        }
    }

    pub(super) fn transferred(&mut self, part: String, bytes: u64, total: u64) {
        self.transfers.insert(part, (bytes, total));
    }

    /// The step while it runs, in one line and at most so many lines of its output.
    pub(super) fn running(&mut self, style: Style, output: usize, now: Instant) -> Vec<String> {
        let mut lines = vec![spread(&format!(" => {}", self.title), &self.time(now), style.columns.min(WIDEST))];
        if !self.transfers.is_empty() && output > 0 {
            let sum = |of: fn(&(u64, u64)) -> u64| self.transfers.values().map(of).sum::<u64>();
            let (bytes, total) = (sum(|it| it.0), sum(|it| it.1));
            let amount = amount(bytes, Total::Exactly(total), self.rate.at(now, bytes).as_deref());
            let what = format!(" => => {}", counted(self.transfers.len(), "part"));
            lines.push(style.painted(&spread(&what, &amount, style.columns.min(WIDEST)), DIM));
        }
        let rest = output.saturating_sub(lines.len() - 1);
        for line in self.output.iter().skip(self.output.len().saturating_sub(rest)) {
            lines.push(style.painted(&cut(&format!(" => => # {line}"), style.columns), DIM));
        }
        lines
    }

    /// What stays on the terminal of a step that is over.
    pub(super) fn ended(&self, end: StepEnd, style: Style, now: Instant) -> Vec<String> {
        let (word, code) = match end {
            StepEnd::Done if self.is_cached => ("CACHED ", None),
            StepEnd::Done => ("", None),
            StepEnd::Failed => ("ERROR ", Some(RED)),
            StepEnd::Canceled => ("CANCELED ", Some(YELLOW)),
        };
        let line = spread(&format!(" => {word}{}", self.title), &self.time(now), style.columns.min(WIDEST));
        let mut lines = vec![code.map_or_else(|| line.clone(), |code| style.painted(&line, code))];
        if end == StepEnd::Failed {
            if self.omitted_lines > 0 {
                let (lines_left_out, bytes) = (counted(self.omitted_lines, "line"), Bytes(self.omitted_bytes));
                let hint = "--progress plain prints all";
                lines.push(format!("    | … {lines_left_out} ({bytes}) before these are left out; {hint}"));
            }
            lines.extend(self.output.iter().map(|line| format!("    | {line}")));
        }
        lines
    }

    fn time(&self, now: Instant) -> String {
        format!("{:.1}s", now.saturating_duration_since(self.started).as_secs_f64())
    }
}

const DIM: &str = "2";
const RED: &str = "31";
const YELLOW: &str = "33";

#[cfg(test)]
mod tests {
    use super::*;

    const STYLE: Style = Style { columns: 40, color: false };

    #[test]
    fn of_a_failed_step_the_end_of_its_output_is_kept() {
        let now = Instant::now();
        let mut step = RunningStep::new("[2/2] RUN chat", now);
        (0..1000).for_each(|number| step.printed(&format!("line {number}")));
        let lines = step.ended(StepEnd::Failed, STYLE, now);
        assert_eq!(lines[0], " => ERROR [2/2] RUN chat            0.0s");
        assert_eq!(lines[1], "    | … 800 lines (6.92 KiB) before these are left out; --progress plain prints all");
        assert_eq!((lines.len(), lines[2].as_str(), lines[201].as_str()), (202, "    | line 800", "    | line 999"));
        assert_eq!(step.ended(StepEnd::Done, STYLE, now).len(), 1);

        let mut step = RunningStep::new("[2/2] RUN chat", now);
        (0..1000).for_each(|_| step.printed(&"x".repeat(10_000)));
        assert!(step.output_bytes <= KEPT_BYTES && step.output.len() == 6, "{}", step.output_bytes);
        step.printed(&"\u{1}".repeat(KEPT_BYTES));
        assert_eq!(step.output.len(), 1, "one line is kept, however long it is when it is escaped");
    }

    #[test]
    fn a_running_step_shows_its_transfers_and_the_last_lines() {
        let now = Instant::now();
        let mut step = RunningStep::new("[1/2] FROM debian:12", now);
        (0..9).for_each(|number| step.printed(&format!("line {number}")));
        step.transferred("a".to_owned(), 1 << 20, 1 << 20);
        step.transferred("b".to_owned(), 1 << 20, 3 << 20);
        let wide = Style { columns: 60, ..STYLE };
        let lines = step.running(wide, 3, now);
        assert_eq!(lines[1], " => => 2 parts                      50%  2.00 MiB / 4.00 MiB");
        assert_eq!(lines[2..], [" => => # line 7", " => => # line 8"]);
        assert_eq!(step.running(wide, 0, now).len(), 1);
    }
}
