//! Breaks long lines of a table between words, for a narrow terminal.

use unicode_width::UnicodeWidthStr as _;

/// The least columns that a text is broken for.
const NARROWEST: usize = 20;

/// The line in as many lines as it needs at this width; all but the first are indented. The first `indent` columns stay as they
/// are, and so does all of it where nearly no room is left. A word that is longer than a line is not broken.
#[must_use]
pub fn wrapped(line: &str, columns: usize, indent: usize) -> String {
    let Some((head, text)) = line.split_at_checked(indent) else { return line.to_owned() };
    let Some(room) = columns.checked_sub(indent).filter(|room| *room >= NARROWEST) else { return line.to_owned() };
    let (mut broken, mut used) = (head.to_owned(), 0);
    for word in text.split(' ') {
        let width = word.width();
        if used > 0 && used + 1 + width > room {
            broken = format!("{broken}\n{:indent$}", "");
            used = 0;
        }
        if used > 0 {
            broken.push(' ');
            used += 1;
        }
        broken.push_str(word);
        used += width;
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words_and_indented() {
        let line = "ok  engine  one two three four five six";
        assert_eq!(wrapped(line, 32, 12), "ok  engine  one two three four\n            five six");
        assert_eq!(wrapped(line, 39, 12), line);
        assert_eq!(wrapped("a   0123456789012345678901234 b", 24, 4), "a   0123456789012345678901234\n    b");
        for (columns, indent) in [(20, 12), (80, 60)] {
            assert_eq!(wrapped(line, columns, indent), line);
        }
    }
}
