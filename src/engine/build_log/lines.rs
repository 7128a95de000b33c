//! Splits the output of a build into lines of limited length, and removes control characters and secrets from them.
//! `engine::build::step_lines` finds the lines that start a step.

use std::borrow::Cow;

use anstream::adapter::strip_str;

use crate::report::secrets;

/// The length in bytes at which a line is broken: a progress bar of dots must not fill the memory.
pub const LONGEST_LINE: usize = 64 * 1024;

/// Joins pieces of output to lines, without colours, other control characters and secrets.
#[derive(Debug, Default)]
pub struct LineBuffer {
    /// The start of the next line, unchanged. Removing a control sequence can remove a character after it, so secrets are
    /// hidden first.
    partial: Vec<u8>,
}

impl LineBuffer {
    /// Takes a piece of output and returns the lines that it completes, without empty lines.
    pub fn piece(&mut self, piece: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for part in piece.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let (text, ends) = match part {
                [text @ .., b'\n' | b'\r'] => (text, true),
                text => (text, false),
            };
            self.partial.extend_from_slice(text);
            self.break_up(&mut lines);
            if ends {
                lines.extend(self.end());
            }
        }
        lines
    }

    /// The last line, if it does not end with a line break.
    pub fn end(&mut self) -> Option<String> {
        line(&String::from_utf8_lossy(&std::mem::take(&mut self.partial)))
    }

    /// Breaks a line that is too long, but not within a secret: text that may be the start of a secret stays in the buffer.
    fn break_up(&mut self, lines: &mut Vec<String>) {
        if self.partial.len() <= LONGEST_LINE {
            return;
        }
        // And the length of a character, because no character is cut.
        let most = LONGEST_LINE + secrets::longest() + 4;
        while self.partial.len() > most {
            // Not within a character.
            let begins = |byte: &u8| byte & 0xc0 != 0x80;
            let end = (most - 3..=most).rev().find(|at| begins(&self.partial[*at])).unwrap_or(most);
            let rest = self.partial.split_off(end);
            let mut text = secrets::hide(&String::from_utf8_lossy(&self.partial)).into_owned();
            let kept =
                if text.len() < end { None } else { Some(text.split_off(text.floor_char_boundary(LONGEST_LINE))) };
            // If a secret was hidden, the line has room for more. The end of the text may be the start of a secret.
            self.partial = [kept.as_ref().unwrap_or(&text).as_bytes(), &rest].concat();
            if kept.is_some() {
                lines.extend(line(&text));
            }
        }
    }
}

/// A line to show. `None` if nothing of it is visible.
fn line(text: &str) -> Option<String> {
    let line = plain(text);
    (!line.trim().is_empty()).then_some(line)
}

/// Removes colours, cursor movements, other control characters and secrets from a line: users read the log in a browser.
#[must_use]
pub fn plain(line: &str) -> String {
    let plain = strip_str(&secrets::hide(line)).to_string();
    let plain: Cow<'_, str> = plain.chars().filter(|c| !c.is_control() || *c == '\t').collect();
    // Hide secrets again: the text between the characters of one may be gone.
    secrets::hide(plain.trim_end()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_lines_wherever_they_are_cut() {
        let mut lines = LineBuffer::default();
        let text = "\u{1b}[31mf\u{fc}r\u{1b}[0m\r\n\n50%\r100%\n\u{1b}]0;title\nrest\u{7}\u{9b}".as_bytes();
        let output: Vec<_> = text.iter().flat_map(|byte| lines.piece(&[*byte])).collect();
        assert_eq!(output, ["f\u{fc}r", "50%", "100%"]);
        assert_eq!(lines.end().unwrap(), "rest");
        assert_eq!(lines.end(), None);
    }

    #[test]
    fn a_secret_is_hidden_where_a_longer_one_in_the_same_line_was() {
        let (long, short) = ("a-long-one-".repeat(20), "of-the-same-line-5");
        secrets::add(&long);
        secrets::add(short);
        for before in (LONGEST_LINE - 300..LONGEST_LINE + 300).step_by(7) {
            let text = format!("{}{long}{short}{}\n", ".".repeat(before), "-".repeat(600));
            for step in [100, usize::MAX] {
                let mut lines = LineBuffer::default();
                let all: String = text.as_bytes().chunks(step).flat_map(|piece| lines.piece(piece)).collect();
                assert!(!all.contains("of-the") && !all.contains("line-5"), "a part of it, after {before}");
            }
        }
    }

    #[test]
    fn a_control_sequence_uncovers_no_secret() {
        let secret = "d-of-the-control-sequence-7";
        secrets::add(secret);
        for sequence in ["\u{1b}", "\u{1b}[", "\u{1b}[3", "\u{1b}]", "\u{9b}"] {
            let text = format!("a {sequence}{secret} b\n");
            let lines = text.as_bytes().chunks(3).scan(LineBuffer::default(), |lines, piece| Some(lines.piece(piece)));
            let line = lines.flatten().collect::<String>();
            assert!(!line.contains("of-the"), "{line}");
            assert!(!plain(&text).contains("of-the"));
        }
        let colored = format!("{}\u{1b}[1m{}\n", &secret[..9], &secret[9..]);
        assert_eq!(LineBuffer::default().piece(colored.as_bytes()), ["[hidden]"]);
    }

    #[test]
    fn a_line_that_never_ends_is_broken_between_characters() {
        let mut lines = LineBuffer::default();
        let output: Vec<_> = (0..100).flat_map(|_| lines.piece("…".repeat(10_000).as_bytes())).collect();
        assert_eq!(output.len(), 3_000_000 / LONGEST_LINE);
        assert!(output.iter().all(|line| line.len() > LONGEST_LINE - 3 && line.chars().all(|it| it == '…')));
        assert!(lines.partial.len() <= LONGEST_LINE + secrets::longest() + 4);
    }

    #[test]
    fn a_secret_is_hidden_wherever_a_line_is_broken() {
        let secret = "of-the-line-buffer-9";
        secrets::add(secret);
        for before in LONGEST_LINE - secret.len() - 1..=LONGEST_LINE + 1 {
            for step in [7, 4096, usize::MAX] {
                let mut lines = LineBuffer::default();
                let text = format!("{}{secret}{}", ".".repeat(before), "-".repeat(LONGEST_LINE));
                let mut output: Vec<_> = text.as_bytes().chunks(step).flat_map(|piece| lines.piece(piece)).collect();
                output.extend(lines.end());
                let all = output.concat();
                assert!(!all.contains("-buffer") && !all.contains("of-the"), "a part of it, after {before}");
                assert_eq!(all.len(), text.len() - secret.len() + "[hidden]".len());
            }
        }
    }
}
