//! taskgraph's references, `{"task-reference": "…<edge>…"}`: placeholders for ids in graphs of labels. `fill` decides which
//! strings become references.

use serde_json::{Map, Value};

/// The key of a reference.
pub(super) const TASK_REFERENCE: &str = "task-reference";

/// A text that taskgraph fills in.
pub(super) fn reference(text: String) -> Value {
    Value::Object(Map::from_iter([(TASK_REFERENCE.to_owned(), Value::String(text))]))
}

/// A string that is about to be written: texts, and between them the edges whose ids taskgraph puts in.
#[derive(Default)]
pub(super) struct Parts {
    parts: Vec<Part>,
}

enum Part {
    Text(String),
    Edge(String),
}

/// Which `<` are escaped. taskgraph replaces what `<([^>]+)>` matches, and makes a `<` of `<<>`.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Escape {
    /// Nothing replaces it.
    Nothing,
    /// All that would be matched: the string was plain.
    All,
    /// Those that are matched only since the edge behind them has a `>`: the string was a reference already.
    Loose,
}

impl Parts {
    pub(super) fn push_text(&mut self, text: &str) {
        self.parts.push(Part::Text(text.to_owned()));
    }

    pub(super) fn push_edge(&mut self, edge: &str) {
        self.parts.push(Part::Edge(edge.to_owned()));
    }

    pub(super) fn have_edges(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Edge(_)))
    }

    /// Written from the end: whether a `<` is matched depends on the text behind it.
    pub(super) fn write(&self, escape: Escape) -> String {
        let mut backwards: Vec<String> = Vec::with_capacity(self.parts.len());
        let mut behind = Behind::default();
        for part in self.parts.iter().rev() {
            match part {
                Part::Edge(edge) => {
                    backwards.push(format!("<{edge}>"));
                    behind.next = Some('<');
                    behind.edge = true;
                }
                Part::Text(text) => {
                    let mut written: Vec<char> = Vec::with_capacity(text.len());
                    for c in text.chars().rev() {
                        let closes = behind.closes || behind.edge;
                        let matched = c == '<' && closes && behind.next.is_some_and(|next| next != '>');
                        let escaped = match escape {
                            Escape::Nothing => false,
                            Escape::All => matched,
                            Escape::Loose => matched && !behind.closes,
                        };
                        // In this order, it is read `<<>`.
                        written.extend(escaped.then_some(['>', '<']).into_iter().flatten().chain([c]));
                        behind.next = Some(c);
                        behind.closes |= c == '>';
                    }
                    backwards.push(written.into_iter().rev().collect());
                }
            }
        }
        backwards.into_iter().rev().collect()
    }
}

/// The rest of a string behind a position.
#[derive(Default)]
struct Behind {
    next: Option<char>,
    /// A `>` of the texts.
    closes: bool,
    /// An edge, which ends with a `>`.
    edge: bool,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    /// `resolve_task_references` of `taskgraph.util.parameterization`, for dependencies whose names are their ids.
    fn as_taskgraph(text: &str) -> String {
        let pattern = Regex::new("<([^>]+)>").unwrap();
        let known = |key: &str| key == "docker-image-a" || key == "self" || key == "<";
        pattern
            .replace_all(text, |found: &regex::Captures<'_>| {
                assert!(known(&found[1]), "no dependency named {:?} in {text:?}", &found[1]);
                found[1].to_owned()
            })
            .into_owned()
    }

    fn parts(texts: &[&str]) -> Parts {
        let mut parts = Parts::default();
        for (number, text) in texts.iter().enumerate() {
            if number > 0 {
                parts.push_edge("docker-image-a");
            }
            parts.push_text(text);
        }
        parts
    }

    #[test]
    fn only_what_taskgraph_would_match_is_escaped() {
        let write = |texts: &[&str], escape| parts(texts).write(escape);
        assert_eq!(write(&["a > b <> ", " < c <"], Escape::All), "a > b <> <docker-image-a> < c <");
        assert_eq!(write(&["if a < b; ", " <c>"], Escape::All), "if a <<> b; <docker-image-a> <<>c>");
        assert_eq!(write(&["<<", "<x>"], Escape::All), "<<><<><docker-image-a><<>x>");
        assert_eq!(write(&["<self> <<> ", " < <self>"], Escape::Loose), "<self> <<> <docker-image-a> < <self>");
        assert_eq!(write(&["<self> < ", ""], Escape::Loose), "<self> <<> <docker-image-a>");
        assert_eq!(write(&["<self> <"], Escape::Nothing), "<self> <");
    }

    proptest! {
        #[test]
        fn taskgraph_reads_what_was_meant(texts in prop::collection::vec("[<>a\n]{0,6}", 2..4)) {
            let texts: Vec<_> = texts.iter().map(String::as_str).collect();
            prop_assert_eq!(as_taskgraph(&parts(&texts).write(Escape::All)), texts.join("docker-image-a"));
        }

        #[test]
        fn references_stay_references(before in "(<self>|<<>|a|>){0,5}<?", after in "(<self>|<<>|a){0,5}") {
            let meant = format!("{}docker-image-a{}", as_taskgraph(&before), as_taskgraph(&after));
            // A `<` at the end stays literal, unless a `>` follows later.
            prop_assume!(!(before.ends_with('<') && after.contains('>')));
            prop_assert_eq!(as_taskgraph(&parts(&[&before, &after]).write(Escape::Loose)), meant);
        }
    }
}
