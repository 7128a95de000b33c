//! One pattern: `*`, `?`, `[…]` and `**`, converted to a regular expression as in moby. `dockerignore` combines several patterns.

use std::iter::Peekable;
use std::str::Chars;

use regex::Regex;

/// An invalid pattern: `docker build` refuses it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternProblem {
    /// A `!` alone.
    #[error("names no file behind the `!`")]
    Empty,
    /// An open class.
    #[error("has a `[` without its `]`, or an empty range in it")]
    Class,
    /// `[z-a]`
    #[error("has a range that ends before it begins")]
    Range,
    /// A `\` at the end.
    #[error("ends with a `\\`, which must have a letter behind it")]
    Escape,
    /// The result is not a regular expression, as for `\c`.
    #[error("has a `\\` before a letter that has no such meaning, or is too long")]
    Regex,
}

/// A pattern for whole paths.
#[derive(Clone, Debug)]
pub(super) enum Pattern {
    Exact(String),
    /// `a/**`
    Prefix(String),
    /// `**/a`: a path that is `a` or ends with `/a`. `**a` is any that ends with `a`.
    Suffix(String),
    Regex(Regex),
}

impl Pattern {
    /// Reads a cleaned pattern without its `!`.
    pub(super) fn new(pattern: &str) -> Result<Self, PatternProblem> {
        // moby finds out on its way whether a comparison of texts is enough; where it is, `**` means a bit more.
        let mut plain = Some(Literal::Exact);
        let mut regex = String::from("^(?:");
        let mut letters = pattern.chars().peekable();
        let mut is_first = true;
        while let Some(letter) = letters.next() {
            match letter {
                '*' if letters.next_if_eq(&'*').is_some() => {
                    letters.next_if_eq(&'/');
                    let is_last = letters.peek().is_none();
                    regex.push_str(if is_last { ".*" } else { "(?:.*/)?" });
                    plain = match plain {
                        _ if is_first => Some(Literal::Suffix),
                        Some(Literal::Exact) if is_last => Some(Literal::Prefix),
                        _ => None,
                    };
                }
                '*' | '?' => {
                    regex.push_str(if letter == '*' { "[^/]*" } else { "[^/]" });
                    plain = None;
                }
                '[' => {
                    class(&mut letters, &mut regex)?;
                    plain = None;
                }
                '\\' => {
                    match letters.next().ok_or(PatternProblem::Escape)? {
                        // moby leaves it to the regular expression: `\a` is a bell.
                        escaped if escaped.is_ascii_alphanumeric() => regex.extend(['\\', escaped]),
                        escaped => push_literal(&mut regex, escaped),
                    }
                    plain = None;
                }
                _ => {
                    push_literal(&mut regex, letter);
                    if letter == ']' {
                        plain = None;
                    }
                }
            }
            is_first = false;
        }
        regex.push_str(")$");
        let own = |text: Option<&str>| text.unwrap_or(pattern).to_owned();
        Ok(match plain {
            Some(Literal::Exact) => Self::Exact(own(None)),
            Some(Literal::Prefix) => Self::Prefix(own(pattern.strip_suffix("**"))),
            Some(Literal::Suffix) => Self::Suffix(own(pattern.strip_prefix("**"))),
            None => Self::Regex(Regex::new(&regex).map_err(|_| PatternProblem::Regex)?),
        })
    }

    pub(super) fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(text) => path == text,
            Self::Prefix(prefix) => path.starts_with(prefix),
            Self::Suffix(suffix) => path.ends_with(suffix) || suffix.strip_prefix('/') == Some(path),
            Self::Regex(regex) => regex.is_match(path),
        }
    }
}

#[derive(Clone, Copy)]
enum Literal {
    Exact,
    Prefix,
    Suffix,
}

/// Reads the rest of a class behind its `[`, by the rules of Go's `filepath.Match`. As in moby, `[^a]` matches a `/` too.
fn class(letters: &mut Peekable<Chars<'_>>, regex: &mut String) -> Result<(), PatternProblem> {
    regex.push('[');
    regex.extend(letters.next_if_eq(&'^'));
    let mut is_empty = true;
    while is_empty || letters.next_if_eq(&']').is_none() {
        is_empty = false;
        let low = class_letter(letters)?;
        let high = if letters.next_if_eq(&'-').is_some() { class_letter(letters)? } else { low };
        if high < low {
            return Err(PatternProblem::Range);
        }
        push_literal(regex, low);
        regex.push('-');
        push_literal(regex, high);
    }
    regex.push(']');
    Ok(())
}

fn class_letter(letters: &mut Peekable<Chars<'_>>) -> Result<char, PatternProblem> {
    let letter = match letters.next() {
        None | Some('-' | ']') => None,
        Some('\\') => letters.next(),
        letter => letter,
    };
    letter.filter(|_| letters.peek().is_some()).ok_or(PatternProblem::Class)
}

fn push_literal(regex: &mut String, letter: char) {
    regex.push_str(&regex::escape(letter.encode_utf8(&mut [0; 4])));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From moby's own table of matches, and from its source.
    #[test]
    fn a_pattern_is_for_whole_paths() {
        for (pattern, path, matches) in [
            ("**", "file", true),
            ("**", "dir/file", true),
            ("**/file", "dir/dir/file", true),
            ("**/file", "file", true),
            ("**/file", "xfile", false),
            ("**file", "xfile", true),
            ("**/dir/file", "a/dir/file", true),
            ("**/dir*/file", "dir1/file", true),
            ("**/*.txt", "dir/a.txt", true),
            ("**/a.b", "axb", false),
            ("dir/**", "dir/a/b", true),
            ("dir/**", "dir", false),
            ("dir**", "dirs/a", true),
            ("a**/b", "ac/b", true),
            ("a**b", "acb", false),
            ("a**b", "ab", true),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/c/d/b", true),
            ("*", "a/b", false),
            ("*.md", ".md", true),
            ("a?c", "a/c", false),
            ("a[b-d]e", "ace", true),
            ("a[^b-d]e", "afe", true),
            ("a[^b]c", "a/c", true),
            ("[\\]a]", "]", true),
            ("[\\-x]", "-", true),
            ("[[&&~]", "&", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("\\a", "a", false),
            ("\\.a", ".a", true),
            ("a]", "a]", true),
            ("a.(b){c}+|$", "a.(b){c}+|$", true),
            ("*é", "xé", true),
            ("?", "é", true),
        ] {
            assert_eq!(Pattern::new(pattern).unwrap().matches(path), matches, "{pattern} {path}");
        }
        for pattern in ["[", "[]", "[^]", "[]a]", "[-a]", "[a-]", "[a", "[a-b", "x[a-]]", "[\\"] {
            assert_eq!(Pattern::new(pattern).unwrap_err(), PatternProblem::Class, "{pattern}");
        }
        assert_eq!(Pattern::new("\\c").unwrap_err(), PatternProblem::Regex);
    }
}
