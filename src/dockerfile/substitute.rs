//! `# %ARG NAME` of a Dockerfile: `$NAME` becomes the argument's value, by the rules of Python's `re.sub`, which taskgraph uses.
//! `dockerfile` parses the syntax and the arguments.

use std::sync::LazyLock;

use regex::Regex;

use crate::report::Hint;

/// Why an argument cannot be substituted. taskgraph refuses them too, or takes the name for a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubstituteError {
    /// The name has a character with a meaning in regular expressions.
    #[error(
        "the argument name {name:?} has the character {character:?}, which taskgraph takes for a regular expression{}",
        Hint("use letters, digits and `_`")
    )]
    Name {
        /// The name.
        name: String,
        /// The first such character.
        character: char,
    },
    /// The value is not a template of `re.sub`.
    #[error(
        "the value of the argument {name} has {escape:?}, which Python's re.sub refuses{}",
        Hint("write `\\\\` for a `\\`")
    )]
    Value {
        /// The argument's name.
        name: String,
        /// The escape that is not one.
        escape: String,
    },
}

/// One argument, ready to be put into lines.
#[derive(Clone, Debug)]
pub(super) struct Substitution {
    /// `$NAME`
    needle: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// `\g<0>`: what was matched, which is always the needle.
    Match,
}

impl Substitution {
    pub(super) fn new(name: &str, value: &str) -> Result<Self, SubstituteError> {
        if let Some(character) = name.chars().find(|c| r"\.^$*+?{}[]|()".contains(*c)) {
            return Err(SubstituteError::Name { name: name.to_owned(), character });
        }
        let parts = template(value)
            .map_err(|escape| SubstituteError::Value { name: name.to_owned(), escape: escape.to_owned() })?;
        Ok(Self { needle: format!("${name}"), parts })
    }

    /// `re.sub(rf"\${name}\b", value, line)`
    pub(super) fn apply(&self, line: &str) -> String {
        let mut out = String::with_capacity(line.len());
        let mut rest = line;
        while let Some(at) = rest.find(&self.needle) {
            let (before, found) = rest.split_at(at);
            let (found, after) = found.split_at(self.needle.len());
            out.push_str(before);
            if is_boundary(found, after) {
                for part in &self.parts {
                    out.push_str(match part {
                        Part::Text(text) => text,
                        Part::Match => found,
                    });
                }
            } else {
                out.push_str(found);
            }
            rest = after;
        }
        out.push_str(rest);
        out
    }
}

/// `\b`: of the characters left and right, exactly one belongs to a word.
fn is_boundary(left: &str, right: &str) -> bool {
    // Python's word characters, `str.isalnum` and `_`: without the combining marks of Rust's `\w`.
    static WORD: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^[\p{L}\p{N}_]").expect("a constant, covered by every test below"));
    let last = left.char_indices().next_back().map_or("", |(at, _)| &left[at..]);
    WORD.is_match(last) != WORD.is_match(right)
}

/// Reads a replacement as `re.sub` does, for a pattern without groups; the error is the escape that it refuses.
fn template(value: &str) -> Result<Vec<Part>, &str> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut rest = value;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let escape = &rest[at..];
        let body = &escape[1..];
        let wrong = |length: usize| &escape[..=body.chars().take(length).map(char::len_utf8).sum::<usize>()];
        let octal = body.bytes().take(3).take_while(|b| (b'0'..=b'7').contains(b)).count();
        let used = match body.chars().next() {
            Some('0') => {
                text.push(octal_char(&body[..octal]).ok_or_else(|| wrong(3))?);
                octal
            }
            // Three octal digits are a character; anything shorter would be a group, and there is none.
            Some('1'..='9') => {
                let digits = if octal == 3 { octal } else { 0 };
                text.push(octal_char(&body[..digits]).ok_or_else(|| wrong(3))?);
                digits
            }
            Some('g') => {
                let (group, _) = body[1..]
                    .strip_prefix('<')
                    .and_then(|group| group.split_once('>'))
                    .filter(|(group, _)| !group.is_empty() && group.bytes().all(|b| b == b'0'))
                    .ok_or_else(|| wrong(4))?;
                parts.push(Part::Text(std::mem::take(&mut text)));
                parts.push(Part::Match);
                group.len() + 3
            }
            Some(letter) => {
                match letter {
                    'a' => text.push('\x07'),
                    'b' => text.push('\x08'),
                    'f' => text.push('\x0c'),
                    'n' => text.push('\n'),
                    'r' => text.push('\r'),
                    't' => text.push('\t'),
                    'v' => text.push('\x0b'),
                    '\\' => text.push('\\'),
                    _ if letter.is_ascii_alphabetic() => return Err(wrong(1)),
                    // No escape at all: both characters stay.
                    _ => text.extend(['\\', letter]),
                }
                letter.len_utf8()
            }
            None => return Err(wrong(0)),
        };
        rest = &body[used..];
    }
    text.push_str(rest);
    parts.push(Part::Text(text));
    Ok(parts)
}

/// The character of up to three octal digits, if they are at most `\377`.
fn octal_char(digits: &str) -> Option<char> {
    u8::from_str_radix(digits, 8).ok().map(char::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sub(name: &str, value: &str, line: &str) -> String {
        Substitution::new(name, value).unwrap().apply(line)
    }

    #[test]
    fn whole_words_only() {
        assert_eq!(
            sub("PY", "3.11", "$PY ${PY} $PYX $PY_ $PY-1 $PY1 $$PY$PY\n"),
            "3.11 ${PY} $PYX $PY_ 3.11-1 $PY1 $3.113.11\n"
        );
        assert_eq!(sub("PY", "3", "$PY"), "3");
        // U+0301 is no word character in Python, Ⓐ neither; ½ and 字 are.
        assert_eq!(sub("A", "x", "$A\u{301} $AⒶ $A½ $A字"), "x\u{301} xⒶ $A½ $A字");
    }

    #[test]
    fn a_name_that_ends_outside_a_word_wants_one_after_it() {
        assert_eq!(sub("A-", "x", "$A-b $A- $A-"), "xb $A- $A-");
        assert_eq!(sub("", "x", "$a $ $"), "xa $ $");
    }

    #[test]
    fn values_are_templates() {
        for (value, result) in [
            ("a/b&c=\"$1\"", "a/b&c=\"$1\""),
            (r"a\\b", r"a\b"),
            (r"\n\t\a\b\f\r\v", "\n\t\x07\x08\x0c\r\x0b"),
            (r"\.\ \é\_", r"\.\ \é\_"),
            (r"[\g<0>\g<00>]", "[$A$A]"),
            (r"\0\00\101\0101\08", "\0\0A\u{8}1\08"),
            (r"\377", "\u{ff}"),
        ] {
            assert_eq!(sub("A", value, "$A"), result, "{value:?}");
        }
    }

    #[test]
    fn what_python_refuses_is_refused() {
        for (value, escape) in [
            ("C:\\dir", r"\d"),
            ("end\\", "\\"),
            (r"\1", r"\1"),
            (r"\12x", r"\12x"),
            (r"\400", r"\400"),
            (r"\g<1>", r"\g<1>"),
            (r"\g<name>", r"\g<na"),
            (r"\g", r"\g"),
        ] {
            let error = Substitution::new("A", value).unwrap_err();
            assert_eq!(error, SubstituteError::Value { name: "A".into(), escape: escape.into() });
        }
        let error = Substitution::new("A.B", "").unwrap_err();
        assert_eq!(error, SubstituteError::Name { name: "A.B".into(), character: '.' });
    }
}
