//! What a build prints, put together to lines, whose lengths and contents are nobody's to choose. Which of them begin a step
//! is for `engine`.

use anstream::adapter::StripBytes;

use crate::secrets;

/// Longer lines are broken, in bytes: a progress bar of dots must not fill the memory.
pub const LONGEST_LINE: usize = 64 * 1024;

/// Lines that come in pieces, without colours, other control characters and secrets.
#[derive(Debug, Default)]
pub struct LineBuffer {
    partial: Vec<u8>,
    colors: StripBytes,
}

impl LineBuffer {
    /// Takes a piece of output; gives the lines that it completes, without those that are empty.
    pub fn piece(&mut self, piece: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for part in piece.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let (text, ends) = match part {
                [text @ .., b'\n' | b'\r'] => (text, true),
                text => (text, false),
            };
            self.colors.strip_next(text).for_each(|plain| self.partial.extend_from_slice(plain));
            self.break_up(&mut lines);
            if ends {
                lines.extend(self.end());
            }
        }
        lines
    }

    /// The last line, where it does not end with a line break.
    pub fn end(&mut self) -> Option<String> {
        // A control sequence without an end does not hide the next line.
        self.colors = StripBytes::new();
        let line = printed(&std::mem::take(&mut self.partial));
        Some(line.trim_end()).filter(|line| !line.trim().is_empty()).map(str::to_owned)
    }

    /// Breaks a line that is too long, but no secret in it: what could be the beginning of one waits for the rest.
    fn break_up(&mut self, lines: &mut Vec<String>) {
        if self.partial.len() <= LONGEST_LINE {
            return;
        }
        // More than a character, so that what was taken is more than a line.
        let most = LONGEST_LINE + secrets::longest().max(8);
        while self.partial.len() > most {
            // Not within a character.
            let begins = |byte: &u8| byte & 0xc0 != 0x80;
            let end = (most - 3..=most).rev().find(|at| begins(&self.partial[*at])).unwrap_or(most);
            let rest = self.partial.split_off(end);
            let mut text = printed(&std::mem::replace(&mut self.partial, rest));
            let kept = text.split_off(text.floor_char_boundary(LONGEST_LINE));
            if kept.is_empty() {
                // Something was hidden: there is room for more.
                self.partial.splice(..0, text.into_bytes());
            } else {
                self.partial.splice(..0, kept.into_bytes());
                lines.push(text);
            }
        }
    }
}

fn printed(bytes: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(bytes).chars().filter(|it| !it.is_control() || *it == '\t').collect();
    secrets::hide(&text).into_owned()
}

/// A line without colours, cursor movements and other control characters: a log is read in a browser.
#[must_use]
pub fn plain(line: &str) -> String {
    let plain = anstream::adapter::strip_str(line).to_string();
    plain.chars().filter(|c| !c.is_control() || *c == '\t').collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_lines_wherever_they_are_cut() {
        let mut lines = LineBuffer::default();
        let text = "\u{1b}[31mf\u{fc}r\u{1b}[0m\r\n\n50%\r100%\n\u{1b}]0;title\nrest\u{7}\u{9b}".as_bytes();
        let told: Vec<_> = text.iter().flat_map(|byte| lines.piece(&[*byte])).collect();
        assert_eq!(told, ["f\u{fc}r", "50%", "100%"]);
        assert_eq!(lines.end().unwrap(), "rest");
        assert_eq!(lines.end(), None);
    }

    #[test]
    fn a_line_that_never_ends_is_broken_between_characters() {
        let mut lines = LineBuffer::default();
        let told: Vec<_> = (0..100).flat_map(|_| lines.piece("…".repeat(10_000).as_bytes())).collect();
        assert_eq!(told.len(), 3_000_000 / LONGEST_LINE);
        assert!(told.iter().all(|line| line.len() > LONGEST_LINE - 3 && line.chars().all(|it| it == '…')));
        assert!(lines.partial.len() <= LONGEST_LINE + secrets::longest().max(8));
    }

    #[test]
    fn a_secret_is_hidden_wherever_a_line_is_broken() {
        let secret = "of-the-line-buffer-9";
        secrets::add(secret);
        for before in LONGEST_LINE - secret.len() - 1..=LONGEST_LINE + 1 {
            for step in [7, 4096, usize::MAX] {
                let mut lines = LineBuffer::default();
                let text = format!("{}{secret}{}", ".".repeat(before), "-".repeat(LONGEST_LINE));
                let mut told: Vec<_> = text.as_bytes().chunks(step).flat_map(|piece| lines.piece(piece)).collect();
                told.extend(lines.end());
                let all = told.concat();
                assert!(!all.contains("-buffer") && !all.contains("of-the"), "a part of it, after {before}");
                assert_eq!(all.len(), text.len() - secret.len() + "[hidden]".len());
            }
        }
    }
}
