//! The here-documents of an instruction, and where they end, as BuildKit reads them. `instructions` skips their lines;
//! `builder_features` handles engines without here-documents.

use super::words::unquote;

/// A here-document of a line: `<<EOF`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HereDocument {
    delimiter: String,
    /// `<<-`: tabs may precede its last line.
    is_indented: bool,
}

impl HereDocument {
    /// Whether it ends with this line, which has no line end any more.
    pub(super) fn ends_with(&self, line: &str) -> bool {
        let line = if self.is_indented { line.trim_start_matches('\t') } else { line };
        line == self.delimiter
    }
}

/// The here-documents of an instruction, in order. BuildKit ignores the `escape` directive here.
pub(super) fn here_documents(line: &str) -> Vec<HereDocument> {
    if !line.contains("<<") {
        return Vec::new();
    }
    words(line).unwrap_or_default().iter().filter_map(|word| here_document(word)).collect()
}

fn here_document(word: &str) -> Option<HereDocument> {
    // A file descriptor may precede it; `<<<` is something else.
    let mark = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (mark, is_indented) = mark.strip_prefix('-').map_or((mark, false), |mark| (mark, true));
    let delimiter = unquote(mark.trim_start(), '\\');
    (!delimiter.is_empty() && !mark.contains('<')).then_some(HereDocument { delimiter, is_indented })
}

/// The words with their quotes. White space behind `<<` belongs to the word; an open quote leaves none.
fn words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word) = (Vec::new(), String::new());
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => {
                word.push(letter);
                word.extend(letters.next());
            }
            '\'' | '"' => {
                word.push(letter);
                loop {
                    let inner = letters.next()?;
                    word.push(inner);
                    match inner {
                        '\\' if letter == '"' => word.push(letters.next()?),
                        _ if inner == letter => break,
                        _ => {}
                    }
                }
            }
            '<' if letters.next_if_eq(&'<').is_some() => {
                word.push_str("<<");
                while let Some(space) = letters.next_if(|c| matches!(c, ' ' | '\t' | '\r' | '\n')) {
                    word.push(space);
                }
            }
            _ if letter.is_whitespace() => words.extend(Some(std::mem::take(&mut word)).filter(|it| !it.is_empty())),
            _ => word.push(letter),
        }
    }
    words.extend(Some(word).filter(|it| !it.is_empty()));
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters_are_words_behind_two_signs() {
        for (line, delimiters) in [
            ("RUN <<EOF", &["EOF"][..]),
            ("RUN 3<<EOF <<-b.c python3", &["EOF", "-b.c"]),
            ("COPY <<\"A\" <<'B C' <<d'e'\"f\" <<g\\'h /x", &["A", "B C", "def", "g'h"]),
            ("RUN cat <<  EOF  > foo", &["EOF"]),
            ("RUN <<$EOF", &["$EOF"]),
            ("RUN cat <<-EOF; true", &["-EOF;"]),
            // None of these is one: in quotes, in the middle of a word, another operator, without a word, with an open quote.
            ("RUN \"<<EOF\" ' <<EOF ' \\<<EOF", &[]),
            ("RUN cat<<EOF", &[]),
            ("RUN cat <<<EOF", &[]),
            ("RUN cat <<- EOF", &[]),
            ("RUN cat <<", &[]),
            ("RUN cat <<''", &[]),
            ("RUN it's <<EOF", &[]),
            ("RUN a < b", &[]),
        ] {
            let found = here_documents(line);
            let written: Vec<_> =
                found.iter().map(|it| format!("{}{}", if it.is_indented { "-" } else { "" }, it.delimiter)).collect();
            assert_eq!(written, delimiters, "{line}");
        }
    }

    #[test]
    fn the_last_line_is_the_delimiter_alone() {
        let ends = |line: &str, last: &str| here_documents(line)[0].ends_with(last);
        assert!(ends("RUN <<EOF", "EOF") && ends("RUN <<-EOF", "\t\tEOF") && ends("RUN <<-EOF", "EOF"));
        assert!(!ends("RUN <<EOF", "\tEOF") && !ends("RUN <<EOF", "EOF ") && !ends("RUN <<-EOF", " EOF"));
    }
}
