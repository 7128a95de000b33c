//! A diff of two texts, as `diff -u` writes it, bounded in size and in time: contexts come from outside.

use std::time::Duration;

use similar::TextDiff;

/// Larger files are not compared line by line: people do not write them.
pub(super) const LARGEST: u64 = 256 * 1024;

/// The most lines of one diff.
const MOST: usize = 200;

/// How many lines are shown around a change.
const AROUND: usize = 3;

/// The longest search for the smallest diff; a larger one is found at once.
const LONGEST: Duration = Duration::from_millis(500);

/// A diff.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Diff {
    /// Its lines, without the names of the files.
    pub(super) lines: Vec<String>,
    /// How many more there are.
    pub(super) more: usize,
}

/// The diff of two texts; none where one of them is no text.
pub(super) fn diff(before: &[u8], after: &[u8]) -> Option<Diff> {
    let text = |bytes| std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    let (before, after) = (text(before)?, text(after)?);
    let diff = TextDiff::configure().timeout(LONGEST).diff_lines(before, after);
    let unified = diff.unified_diff().context_radius(AROUND).to_string();
    // Not `lines`: a carriage return can be the difference.
    let mut lines: Vec<_> = unified.split_terminator('\n').map(str::to_owned).collect();
    let more = lines.len().saturating_sub(MOST);
    lines.truncate(MOST);
    Some(Diff { lines, more })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(before: &str, after: &str) -> Vec<String> {
        diff(before.as_bytes(), after.as_bytes()).unwrap().lines
    }

    #[test]
    fn a_diff_is_as_diff_u_writes_it() {
        let before = "FROM debian:12\nRUN a\nRUN b\nRUN c\nRUN d\nRUN e\n";
        let after = before.replace("debian:12", "debian:13");
        let expected = ["@@ -1,4 +1,4 @@", "-FROM debian:12", "+FROM debian:13", " RUN a", " RUN b", " RUN c"];
        assert_eq!(lines(before, &after), expected);
        assert_eq!(lines("a\n", "a\n"), [""; 0]);
        assert_eq!(lines("a\r\n", "a\n")[1..], ["-a\r", "+a"]);
        assert_eq!(lines("a\n", "a")[1..], ["-a", "+a", "\\ No newline at end of file"]);
    }

    #[test]
    fn a_diff_is_bounded_and_of_texts_only() {
        let long = diff(b"", "x\n".repeat(1000).as_bytes()).unwrap();
        assert_eq!((long.lines.len(), long.more), (MOST, 1001 - MOST));
        assert_eq!((diff(b"\xff", b"a"), diff(b"a", b"\0")), (None, None));
    }
}
