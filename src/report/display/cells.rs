//! Text in the cells of a terminal: some characters take two of them, some none.

use unicode_width::UnicodeWidthChar as _;

use crate::report::lines::printable;

/// What a cut ends with.
const CUT: char = '…';

/// A text from outside as a part of one line: escaped, without secrets, and without tabs, whose width depends on their place.
pub(super) fn plain(text: &str) -> String {
    printable(text).replace('\t', "    ")
}

/// How many cells a text takes.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(cells).sum()
}

fn cells(character: char) -> usize {
    character.width().unwrap_or_default()
}

/// The beginning of a text that fits into so many cells.
pub(super) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut left = columns.saturating_sub(cells(CUT));
    let fits = |character: &char| {
        let fits = cells(*character) <= left;
        left = left.saturating_sub(cells(*character));
        fits
    };
    let mut cut: String = text.chars().take_while(fits).collect();
    if columns > 0 {
        cut.push(CUT);
    }
    cut
}

/// A line with one text at its beginning, and another at its end, which is cut last.
pub(super) fn spread(left: &str, right: &str, columns: usize) -> String {
    let right = cut(right, columns);
    let left = cut(left, columns.saturating_sub(width(&right) + 1));
    let space = columns - width(&right) - width(&left);
    format!("{left}{}{right}", " ".repeat(space))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_by_the_cells_that_they_take() {
        for (text, columns, expected) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("漢字漢字", 8, "漢字漢字"),
            // A wide character does not fit into the one cell that is left.
            ("漢字漢字", 6, "漢字…"),
            ("漢字漢字", 7, "漢字漢…"),
            ("e\u{301}e\u{301}e\u{301}", 3, "e\u{301}e\u{301}e\u{301}"),
            ("🦀🦀", 3, "🦀…"),
            ("abc", 1, "…"),
            ("abc", 0, ""),
        ] {
            let cut = cut(text, columns);
            assert_eq!(cut, expected);
            assert!(width(&cut) <= columns, "{cut}");
        }
    }

    #[test]
    fn both_ends_of_a_line_are_where_they_belong() {
        assert_eq!(spread("abc", "1.0s", 10), "abc   1.0s");
        assert_eq!(spread("abcdefghij", "1.0s", 10), "abcd… 1.0s");
        assert_eq!(spread("漢字漢字", "1.0s", 10), "漢字… 1.0s");
        assert_eq!(spread("abc", "1.0s", 3), "1.…");
        assert_eq!(spread("abc", "1.0s", 0), "");
        for columns in 0..30 {
            assert_eq!(width(&spread("漢字 RUN make 漢字", "12.3s", columns)), columns);
        }
    }

    #[test]
    fn nothing_in_a_line_moves_the_cursor() {
        assert_eq!(plain("a\tb\x1b[2J\r\n\u{202e}\u{9b}c"), "a    b\\u{1b}[2J\\r\\n\\u{202e}\\u{9b}c");
    }
}
