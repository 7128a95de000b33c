//! Words of a Dockerfile: where they end, and the value of `$NAME`, as in the engines. The caller passes the variables.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

/// The limit for nested `${A:-${B:-…}}`: no real file needs more, and each level takes stack.
const MAX_DEPTH: usize = 8;

/// A word after expansion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expanded {
    /// The text; none where it hangs on a variable without a value, or on an operator that is not known here.
    pub(super) text: Option<String>,
    /// What the engines make of it, to which a variable without a value is empty; none with an operator that is not known here.
    pub(super) for_engine: Option<String>,
    /// The variables that the word names, in order.
    pub(super) variables: Vec<String>,
}

/// Expands one word: quotes go, variables become their values.
pub(super) fn expand(word: &str, values: &BTreeMap<String, String>, escape: char) -> Expanded {
    let mut expander = Expander { values, escape, variables: Vec::new(), known: true, broken: false };
    let text = expander.until(&mut word.chars().peekable(), None, MAX_DEPTH);
    let for_engine = (!expander.broken).then_some(text);
    Expanded { text: for_engine.clone().filter(|_| expander.known), for_engine, variables: expander.variables }
}

/// Splits at white space that is not quoted.
pub(super) fn split(text: &str, escape: char) -> Vec<&str> {
    let (mut words, mut start, mut quote, mut escaped) = (Vec::new(), None, None, false);
    for (at, character) in text.char_indices() {
        if quote.is_none() && !escaped && character.is_whitespace() {
            words.extend(start.take().map(|start| &text[start..at]));
            continue;
        }
        start.get_or_insert(at);
        match (quote, character) {
            _ if escaped => escaped = false,
            (None | Some('"'), _) if character == escape => escaped = true,
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), _) if open == character => quote = None,
            _ => {}
        }
    }
    words.extend(start.map(|start| &text[start..]));
    words
}

/// A word without its quotes and escape characters; variables stay.
pub(super) fn unquote(word: &str, escape: char) -> String {
    let (mut out, mut quote, mut letters) = (String::new(), None, word.chars());
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (None | Some('"'), _) if letter == escape => out.extend(letters.next()),
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), _) if open == letter => quote = None,
            _ => out.push(letter),
        }
    }
    out
}

struct Expander<'a> {
    values: &'a BTreeMap<String, String>,
    escape: char,
    variables: Vec<String>,
    /// All variables so far have values.
    known: bool,
    /// Something that is no expansion, or one that is not known here.
    broken: bool,
}

impl Expander<'_> {
    /// Expands to the end, or over the character `end`.
    fn until(&mut self, chars: &mut Peekable<Chars>, end: Option<char>, depth: usize) -> String {
        let mut out = String::new();
        let mut quoted = false;
        while let Some(character) = chars.next() {
            match character {
                _ if Some(character) == end => return out,
                '\'' if !quoted => out.extend(chars.by_ref().take_while(|c| *c != '\'')),
                '"' => quoted = !quoted,
                '$' => out.push_str(&self.variable(chars, depth)),
                _ if character == self.escape => out.extend(chars.next()),
                _ => out.push(character),
            }
        }
        // The brace that should have been there.
        self.broken |= end.is_some();
        out
    }

    /// The variable behind a `$`.
    fn variable(&mut self, chars: &mut Peekable<Chars>, depth: usize) -> String {
        let braces = chars.next_if_eq(&'{').is_some();
        let mut name = String::new();
        while let Some(character) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(character);
        }
        if name.is_empty() {
            self.broken |= braces;
            return "$".to_owned();
        }
        self.variables.push(name.clone());
        let value = self.values.get(&name).cloned();
        if !braces {
            return self.or_unknown(value);
        }
        // With a colon, an empty value is as good as none.
        let colon = chars.next_if_eq(&':').is_some();
        let value = value.filter(|value| !(colon && value.is_empty()));
        let operator = chars.next();
        if operator == Some('}') && !colon {
            return self.or_unknown(value);
        }
        let Some(depth) = depth.checked_sub(1) else {
            self.broken = true;
            return String::new();
        };
        // A branch that is not taken may depend on anything.
        let known = self.known;
        let other = self.until(chars, Some('}'), depth);
        match (operator, value) {
            (Some('-'), None) | (Some('+'), Some(_)) => return other,
            (Some('-' | '?'), value) => {
                self.known = known;
                return self.or_unknown(value);
            }
            (Some('+'), None) => self.known = known,
            _ => self.broken = true,
        }
        String::new()
    }

    fn or_unknown(&mut self, value: Option<String>) -> String {
        self.known &= value.is_some();
        value.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expanded(word: &str) -> Option<String> {
        let values = [("A", "a"), ("EMPTY", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        expand(word, &values.into(), '\\').text
    }

    #[test]
    fn variables_become_their_values() {
        for (word, text) in [
            ("a:1", "a:1"),
            ("$A", "a"),
            ("x/${A}:$A-", "x/a:a-"),
            ("$A_", ""),
            ("${A:-b}${B:-b}${EMPTY:-b}${EMPTY-b}", "abb"),
            ("${B:-${C:-$A}}", "a"),
            ("${A:-$B}", "a"),
            ("${A:+$A$A}${EMPTY:+$B}${EMPTY+c}", "aac"),
            ("${A:?no}${EMPTY?no}", "a"),
            (r#""$A b"'$A'\$A"#, "a b$A$A"),
            ("$$A", "$a"),
            ("$", "$"),
            ("}", "}"),
        ] {
            assert_eq!(expanded(word), if word == "$A_" { None } else { Some(text.to_owned()) }, "{word}");
        }
        let for_engine = |word: &str| expand(word, &BTreeMap::new(), '\\').for_engine;
        let (empty, partly) = (Some(String::new()), Some("x:1-".to_owned()));
        assert_eq!([for_engine("$B"), for_engine("x:${B-1}-$C"), for_engine("x${B#y}")], [empty, partly, None]);
        let variables = expand("$A${B:-${C}}", &BTreeMap::new(), '\\').variables;
        assert_eq!(variables, ["A", "B", "C"]);
        assert_eq!(expand("`$A", &BTreeMap::new(), '`').text.as_deref(), Some("$A"));
    }

    #[test]
    fn unknown_values_have_no_expansion() {
        for word in ["$B", "${B}", "${B:-$C}", "${B:?x}", "${A#x}", "${A", "${A:-b", "${A:}", "${}", "${EMPTY:?x}"] {
            assert_eq!(expanded(word), None, "{word}");
        }
        let deep = "${B:-".repeat(MAX_DEPTH + 1) + "x" + &"}".repeat(MAX_DEPTH + 1);
        assert_eq!(expanded(&deep), None);
    }

    #[test]
    fn words_end_outside_quotes() {
        let words = split(r#" A=1 B="x y"'z "' C=\  D E=\"a "#, '\\');
        assert_eq!(words, ["A=1", r#"B="x y"'z "'"#, r"C=\ ", "D", r#"E=\"a"#]);
        assert_eq!(split("", '\\'), Vec::<&str>::new());
        assert_eq!(split("a \"b c", '\\'), ["a", "\"b c"]);
    }

    #[test]
    fn quotes_go_and_variables_stay() {
        let unquoted = unquote(r#"a"b \" $C"'\d'\'e"#, '\\');
        assert_eq!(unquoted, r#"ab " $C\d'e"#);
        assert_eq!(unquote("`\"a`", '`'), "\"a");
    }

    proptest! {
        #[test]
        fn a_word_without_syntax_is_itself(word in "[a-z0-9:/@.-]{0,20}") {
            prop_assert_eq!(expanded(&word), Some(word));
        }

        #[test]
        fn never_a_panic(word in "[$ {}A:+?'\"\\\\é-]{0,30}") {
            let _ = (expanded(&word), split(&word, '`'));
        }
    }
}
