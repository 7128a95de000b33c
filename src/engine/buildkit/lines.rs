//! The output of one step among several that run in parallel. `progress` decides where the lines go.

use std::collections::VecDeque;

use crate::engine::build::step_lines::LAST_LINES;
use crate::engine::build_log::LineBuffer;

/// The lines of one step.
#[derive(Debug, Default)]
pub(super) struct Lines {
    buffer: LineBuffer,
    last: VecDeque<String>,
}

impl Lines {
    /// Takes output of the step and returns the lines that it completes, without control characters and secrets.
    pub(super) fn piece(&mut self, bytes: &[u8]) -> Vec<String> {
        let lines = self.buffer.piece(bytes);
        for line in &lines {
            self.keep(line);
        }
        lines
    }

    /// The last line, if it does not end with a line break.
    pub(super) fn end(&mut self) -> Option<String> {
        let line = self.buffer.end()?;
        self.keep(&line);
        Some(line)
    }

    /// The last lines that the step printed.
    pub(super) fn into_last(self) -> Vec<String> {
        self.last.into()
    }

    fn keep(&mut self, line: &str) {
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_are_kept() {
        let mut lines = Lines::default();
        (0..30).for_each(|number| drop(lines.piece(format!("{number}\n").as_bytes())));
        lines.piece(b"no line break");
        assert_eq!(lines.end().unwrap(), "no line break");
        let last = lines.into_last();
        assert_eq!((last.len(), last[LAST_LINES - 2].as_str()), (LAST_LINES, "29"));
    }
}
