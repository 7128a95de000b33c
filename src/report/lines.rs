//! Formats log lines. A message always stays one line, without characters that move the cursor or reorder text: all text from
//! outside is escaped here.

use std::fmt::{self, Write as _};

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::BUILD_OUTPUT;
use crate::report::secrets;

/// A text as part of a log line, without secrets, and escaped.
#[must_use]
pub fn printable(text: &str) -> String {
    escaped(&secrets::hide(text))
}

/// A text as a part of one line. Control characters and line breaks are escaped, and so are the marks that change the direction
/// of writing; tabs stay.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if is_printed(character) {
            escaped.push(character);
        } else {
            escaped.extend(character.escape_default());
        }
    }
    escaped
}

/// The beginning of a text, of at most so many characters; a cut ends with `…`.
#[must_use]
pub fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A number of things: `1 layer`, `2 layers`.
#[must_use]
pub fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

fn is_printed(character: char) -> bool {
    let breaks_a_line = matches!(character, '\u{2028}' | '\u{2029}');
    let reorders =
        matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    character == '\t' || !(character.is_control() || breaks_a_line || reorders)
}

/// The text format. In a task `[image-worker 2026-01-01T00:00:00.000Z] message`, a prefix that Treeherder strips.
pub(super) struct TextLines {
    pub(super) dates: bool,
    pub(super) color: bool,
}

impl<S, N> FormatEvent<S, N> for TextLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let message = Fields::of(event).into_text();
        let (dim, plain) = if self.color { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        if event.metadata().target() == BUILD_OUTPUT {
            return writeln!(out, "{dim}build |{plain} {message}");
        }
        if self.dates {
            write!(out, "[image-worker {:.3}] ", jiff::Timestamp::now())?;
        } else {
            write!(out, "{dim}image-worker:{plain} ")?;
        }
        if *event.metadata().level() == Level::WARN {
            out.write_str("warning: ")?;
        }
        writeln!(out, "{message}")
    }
}

/// The JSON format: one object a line, with the properties of `tracing-subscriber`.
pub(super) struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let fields = Value::Object(Fields::of(event).0);
        writeln!(out, "{}", json_line(event.metadata().level().as_str(), event.metadata().target(), &fields))
    }
}

/// One object of the JSON format.
pub(super) fn json_line(level: &str, target: &str, fields: &Value) -> String {
    let timestamp = format!("{:.6}", jiff::Timestamp::now());
    json!({ "timestamp": timestamp, "level": level, "fields": fields, "target": target }).to_string()
}

/// The fields of an event, each escaped for a line.
struct Fields(Map<String, Value>);

const MESSAGE: &str = "message";

impl Fields {
    fn of(event: &Event<'_>) -> Self {
        let mut fields = Self(Map::new());
        event.record(&mut fields);
        fields
    }

    /// The message, and behind it the other fields by their names.
    fn into_text(self) -> String {
        let mut text = String::new();
        for (name, value) in &self.0 {
            let value = value.as_str().unwrap_or_default();
            // Writing into a string does not fail.
            let _ = if name == MESSAGE { write!(text, "{value}") } else { write!(text, " {name}={value}") };
        }
        text
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), Value::String(printable(&format!("{value:?}"))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line() {
        assert_eq!(printable("a\r\nb\u{2028}c\u{85}d\te"), "a\\r\\nb\\u{2028}c\\u{85}d\te");
        assert_eq!(printable("\x1b[2K\u{9b}1m\u{7}\u{202e}x"), "\\u{1b}[2K\\u{9b}1m\\u{7}\\u{202e}x");
        assert_eq!(printable("für 🦀 “…”"), "für 🦀 “…”");
    }
}
