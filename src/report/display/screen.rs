//! What the display shows, and the characters that change the terminal accordingly. It does no I/O, and gets the time and the
//! terminal's size from its caller.
//!
//! The cursor always stands at the beginning of the line below the display. So whoever writes to the terminal without asking,
//! or ends this program in whatever way, writes on an empty line. The cursor is never hidden, so that nothing has to be restored.

use std::time::Instant;

use super::cells::{cut, plain, width};
use super::steps::{BuildEvent, RunningStep, StepEnd, Style};
use super::transfer::Transfer;
use crate::report::terminal::Size;

/// How many lines of a running step's output are shown.
const OUTPUT_LINES: usize = 6;

/// Identifies a build or a transfer.
pub(super) type Id = u64;

/// The content of the display.
#[derive(Debug, Default)]
pub(super) struct Screen {
    color: bool,
    last_id: Id,
    /// In the order in which they began.
    steps: Vec<Step>,
    transfers: Vec<(Id, Transfer)>,
    /// The widths of the lines that are on the terminal.
    drawn: Vec<usize>,
    is_closed: bool,
}

#[derive(Debug)]
struct Step {
    build: Id,
    number: u32,
    running: RunningStep,
}

impl Screen {
    pub(super) fn new(color: bool) -> Self {
        Self { color, ..Self::default() }
    }

    /// Whether nothing is shown, and nothing changes as time goes on.
    pub(super) fn is_empty(&self) -> bool {
        self.is_closed || self.steps.is_empty() && self.transfers.is_empty()
    }

    /// Shows nothing any more.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }

    pub(super) fn next_id(&mut self) -> Id {
        self.last_id += 1;
        self.last_id
    }

    pub(super) fn add_transfer(&mut self, transfer: Transfer) -> Id {
        let id = self.next_id();
        self.transfers.push((id, transfer));
        id
    }

    pub(super) fn remove_transfer(&mut self, transfer: Id) {
        self.transfers.retain(|(id, _)| *id != transfer);
    }

    /// Takes an event of a build, and returns the lines that stay on the terminal because of it.
    pub(super) fn update(&mut self, build: Id, event: BuildEvent, size: Size, now: Instant) -> String {
        let style = self.style(size);
        match event {
            BuildEvent::Notice(line) => return format!("build | {}\n", plain(&line)),
            BuildEvent::Started { step, title } => {
                self.steps.push(Step { build, number: step, running: RunningStep::new(&title, now) });
            }
            BuildEvent::Printed { step, line } => match self.step(build, step) {
                Some(step) => step.printed(&line),
                None => return format!("build | {}\n", plain(&line)),
            },
            BuildEvent::Cached { step } => {
                if let Some(step) = self.step(build, step) {
                    step.cached();
                }
            }
            BuildEvent::Transferred { step, part, bytes, total } => {
                if let Some(step) = self.step(build, step) {
                    step.transferred(part, bytes, total);
                }
            }
            BuildEvent::Ended { step: number, end } => {
                return self.end(|it| it.build == build && it.number == number, end, style, now);
            }
            BuildEvent::Over(end) => return self.end(|it| it.build == build, end, style, now),
        }
        String::new()
    }

    fn step(&mut self, build: Id, number: u32) -> Option<&mut RunningStep> {
        let step = self.steps.iter_mut().find(|it| it.build == build && it.number == number)?;
        Some(&mut step.running)
    }

    fn end(&mut self, is_over: impl Fn(&Step) -> bool, end: StepEnd, style: Style, now: Instant) -> String {
        let (over, rest) = std::mem::take(&mut self.steps).into_iter().partition(is_over);
        self.steps = rest;
        let over: Vec<Step> = over;
        over.iter().flat_map(|step| step.running.ended(end, style, now)).map(|line| line + "\n").collect()
    }

    /// The last column stays free: a character in it makes some terminals begin a new line.
    fn style(&self, size: Size) -> Style {
        Style { columns: size.columns.saturating_sub(1), color: self.color }
    }

    /// The characters that write `above`, whole lines, in place of the display, and redraw it below them.
    pub(super) fn paint(&mut self, size: Size, above: &[u8], now: Instant) -> Vec<u8> {
        let lines = if self.is_empty() { Vec::new() } else { self.lines(size, now) };
        let rows = self.rows(size);
        let mut out = up(rows);
        if !above.is_empty() {
            // What is above can be of any length, so that it does not simply overwrite what is there.
            out.extend_from_slice(if rows > 0 { b"\x1b[J" } else { b"" });
            out.extend_from_slice(above);
            if !above.ends_with(b"\n") {
                out.push(b'\n');
            }
        }
        for line in &lines {
            out.extend_from_slice(line.as_bytes());
            // Overwriting a line and removing its rest flickers less than removing all of it first.
            out.extend_from_slice(b"\x1b[K\n");
        }
        if rows > 0 {
            out.extend_from_slice(b"\x1b[J");
        }
        self.drawn = lines.iter().map(|line| visible_width(line)).collect();
        out
    }

    /// The characters that remove the display, until it is drawn again.
    pub(super) fn erase(&mut self, size: Size) -> Vec<u8> {
        let rows = self.rows(size);
        self.drawn.clear();
        let mut out = up(rows);
        out.extend_from_slice(if rows > 0 { b"\x1b[J" } else { b"" });
        out
    }

    /// How many rows of the terminal have the display. One that has become narrower has broken the lines.
    fn rows(&self, size: Size) -> usize {
        self.drawn.iter().map(|width| width.div_ceil(size.columns.max(1)).max(1)).sum()
    }

    fn lines(&mut self, size: Size, now: Instant) -> Vec<String> {
        let style = self.style(size);
        // Some of the log stays in sight.
        let room = size.rows.saturating_sub(2);
        let heads = self.steps.len() + self.transfers.len();
        let output = OUTPUT_LINES.min(room.saturating_sub(heads) / self.steps.len().max(1));
        let mut lines: Vec<_> = self.steps.iter_mut().flat_map(|it| it.running.running(style, output, now)).collect();
        lines.extend(self.transfers.iter_mut().map(|(_, transfer)| transfer.line(style.columns, now)));
        if lines.len() > room {
            let more = lines.len() - room.saturating_sub(1);
            lines.truncate(room.saturating_sub(1));
            lines.push(cut(&format!(" => and {more} more"), style.columns));
            lines.truncate(room);
        }
        lines
    }
}

/// Moves the cursor to the beginning of the row so many above.
fn up(rows: usize) -> Vec<u8> {
    if rows == 0 { Vec::new() } else { format!("\x1b[{rows}A\r").into_bytes() }
}

/// The width of a line of the display, which has no control characters but those for its colour.
fn visible_width(line: &str) -> usize {
    let mut rest = line;
    let mut sum = 0;
    while let Some((text, code)) = rest.split_once('\x1b') {
        sum += width(text);
        rest = code.split_once('m').map_or("", |(_, rest)| rest);
    }
    sum + width(rest)
}
