//! Parses documents written by people and generators, JSON or YAML, into one kind of value. An error names the line, the column,
//! and the usual mistake there. The callers interpret the documents.

use serde_json::Value;
use serde_json::value::RawValue;
pub use serde_saphyr::options::DuplicateKeyPolicy;

/// The limits for a document. The library's own limits are for configuration files; Gecko's full task graph has some 20,000 tasks
/// of 100 values each, and the limit protects against aliases that multiply.
const MOST_VALUES: usize = 20_000_000;
/// The most bytes of text in them: 1 GiB.
const MOST_TEXT: usize = 1 << 30;

/// A text that is no document.
#[derive(Debug, thiserror::Error)]
#[error("{name}, line {line}, column {column}: {why}{hint}")]
pub struct DocumentError {
    name: String,
    line: u64,
    column: u64,
    why: String,
    hint: &'static str,
}

/// How YAML parses `{#docker_image}…` without quotes, which is surprising.
const QUOTE: &str = "; quote texts that begin with a brace, like '{{#docker_image}}NAME{{/docker_image}}'";

/// Parses a document: JSON if the name says so or it can be JSON; else YAML, a superset of JSON.
pub fn parse(name: &str, text: &str) -> Result<Value, DocumentError> {
    let wrong = match serde_json::from_str(text) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let is_json = std::path::Path::new(name).extension().is_some_and(|extension| extension == "json");
    if is_json {
        let (line, column) = (wrong.line() as u64, wrong.column() as u64);
        // The library appends the place itself, behind the reason.
        let why = wrong.to_string();
        let why = why.split(" at line ").next().unwrap_or(&why).to_owned();
        return Err(DocumentError { name: name.to_owned(), line, column, why, hint: "" });
    }
    parse_yaml(name, text, DuplicateKeyPolicy::Error)
}

/// A document as a JSON text: one that is JSON stays as it is.
pub fn json(name: &str, text: String) -> Result<String, DocumentError> {
    match serde_json::from_str::<&RawValue>(&text) {
        Ok(_) => Ok(text),
        Err(_) => Ok(parse(name, &text)?.to_string()),
    }
}

/// Reads a YAML document.
pub fn parse_yaml(name: &str, text: &str, duplicate_keys: DuplicateKeyPolicy) -> Result<Value, DocumentError> {
    serde_saphyr::from_str_with_options(text, options(duplicate_keys)).map_err(|error| {
        let (line, column) = error.location().map_or((1, 1), |at| (at.line(), at.column()));
        let why = error.without_snippet().to_string();
        // One line, without the leading place.
        let why = why.lines().next().unwrap_or_default().to_owned();
        let near = text.lines().nth(usize::try_from(line).unwrap_or(usize::MAX).saturating_sub(1));
        let hint = if near.is_some_and(has_bare_braces) { QUOTE } else { "" };
        DocumentError { name: name.to_owned(), line, column, why, hint }
    })
}

fn options(duplicate_keys: DuplicateKeyPolicy) -> serde_saphyr::Options {
    serde_saphyr::options! {
        duplicate_keys: duplicate_keys,
        budget: serde_saphyr::budget! {
            max_nodes: MOST_VALUES,
            max_events: 2 * MOST_VALUES,
            max_total_scalar_bytes: MOST_TEXT,
        },
        emit_comments: false,
    }
}

/// Whether a line has a value that begins with the brace of a template.
fn has_bare_braces(line: &str) -> bool {
    let value = line.split_once(": ").map_or(line, |(_, value)| value).trim_start_matches(['-', ' ']);
    value.starts_with("{#") || value.starts_with("{{")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_and_yaml_are_the_same_document() {
        let expected = json!({ "tasks": [{ "taskId": "x", "n": 3, "on": true, "none": null }] });
        assert_eq!(parse("-", &expected.to_string()).unwrap(), expected);
        assert_eq!(parse("-", "tasks:\n- taskId: x\n  n: 3\n  on: true\n  none: null\n").unwrap(), expected);
        assert_eq!(json("-", "a: {b: 'c'}\n".to_owned()).unwrap(), r#"{"a":{"b":"c"}}"#);
        assert_eq!(json("-", " {\"a\" : 1}\n".to_owned()).unwrap(), " {\"a\" : 1}\n");
        // Not YAML, because of its tabs.
        assert_eq!(parse("a.json", "{\n\t\"a\":\t1\n}").unwrap(), json!({ "a": 1 }));
    }

    #[test]
    fn errors_name_the_place() {
        let error_of = |name: &str, text: &str| parse(name, text).unwrap_err().to_string();
        assert_eq!(error_of("graph.json", "{\n  \"a\": ,\n}"), "graph.json, line 2, column 8: expected value");
        let yaml = error_of("graph.yml", "a: 1\nb: [1, 2\nc: 3\n");
        assert!(yaml.starts_with("graph.yml, line "), "{yaml}");
        assert_eq!(yaml.lines().count(), 1, "{yaml}");
        for image in ["{#docker_image}builder{/docker_image}", "{{#docker_image}}builder{{/docker_image}}"] {
            let bare = error_of("graph.yml", &format!("payload:\n  image: {image}\n"));
            assert!(bare.contains("line 2") && bare.contains("quote texts that begin with a brace"), "{bare}");
        }
        let twice = error_of("graph.yml", "a: 1\na: 2\n");
        assert!(twice.contains("line 2"), "{twice}");
    }

    #[test]
    fn a_large_graph_is_no_attack_and_aliases_that_multiply_are() {
        let tasks: String = "- a task\n".repeat(300_000);
        assert_eq!(parse("-", &tasks).unwrap().as_array().unwrap().len(), 300_000);
        let level = |n: u32| format!("a{}: &a{} [{}]\n", n + 1, n + 1, format!("*a{n}, ").repeat(10));
        let levels: Vec<_> = (0..12).map(level).collect();
        let bomb = format!("a0: &a0 [{}]\n{}", "x, ".repeat(10), levels.concat());
        assert!(parse("-", &bomb).is_err());
    }
}
