//! The output of one step among several that run side by side: bytes put together to lines. What a line means, and where
//! it goes, is for `progress`.

use std::collections::VecDeque;

use super::super::output::{LAST_LINES, LONGEST_LINE};
use crate::build_log::plain;
use crate::secrets::Secrets;

/// The lines of one step.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
    last: VecDeque<String>,
}

impl Lines {
    /// Takes bytes that the step printed; gives the lines that they complete, without what must not be printed.
    pub(super) fn piece(&mut self, bytes: &[u8], secrets: &Secrets) -> Vec<String> {
        self.partial.extend_from_slice(bytes);
        let mut lines = Vec::new();
        while let Some(end) = self.line_end() {
            let rest = self.partial.split_off(end);
            let line = std::mem::replace(&mut self.partial, rest);
            lines.extend(self.line(&line, secrets));
        }
        lines
    }

    /// The last line, where it does not end with a line break.
    pub(super) fn end(&mut self, secrets: &Secrets) -> Option<String> {
        let line = std::mem::take(&mut self.partial);
        self.line(&line, secrets)
    }

    /// The last lines that the step printed.
    pub(super) fn into_last(self) -> Vec<String> {
        self.last.into()
    }

    /// Behind the next line break, or where a line is broken that never ends.
    fn line_end(&self) -> Option<usize> {
        let line_break = self.partial.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        line_break.map(|at| at + 1).or((self.partial.len() > LONGEST_LINE).then_some(LONGEST_LINE))
    }

    fn line(&mut self, line: &[u8], secrets: &Secrets) -> Option<String> {
        let line = secrets.hide(&plain(&String::from_utf8_lossy(line))).into_owned();
        if line.trim().is_empty() {
            return None;
        }
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line.clone());
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_lines_wherever_they_are_cut() {
        let mut lines = Lines::default();
        let secrets = Secrets::default();
        let text = "\u{1b}[31mf\u{fc}r\u{1b}[0m\r\n\n50%\r100%\nrest".as_bytes();
        let told: Vec<_> = text.iter().flat_map(|byte| lines.piece(&[*byte], &secrets)).collect();
        assert_eq!(told, ["f\u{fc}r", "50%", "100%"]);
        assert_eq!(lines.end(&secrets).unwrap(), "rest");
        assert_eq!(lines.end(&secrets), None);
        assert_eq!(lines.into_last().len(), 4);
    }

    #[test]
    fn a_line_that_never_ends_is_broken_and_only_the_last_ones_are_kept() {
        let (mut lines, secrets) = (Lines::default(), Secrets::default());
        let told: usize = (0..100).map(|_| lines.piece(&[b'.'; 10_000], &secrets).len()).sum();
        assert_eq!(told, 1_000_000 / LONGEST_LINE);
        (0..30).for_each(|number| drop(lines.piece(format!("{number}\n").as_bytes(), &secrets)));
        let last = lines.into_last();
        assert_eq!((last.len(), last.last().unwrap().as_str()), (LAST_LINES, "29"));
    }
}
