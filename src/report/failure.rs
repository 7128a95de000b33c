//! A failure, printed in one of three forms: for a task's log, where Treeherder finds it; for a person at a terminal; for a program.

use std::error::Error;

use serde::Serialize;
use serde_json::json;

use super::lines::printable;
use super::{ErrorChain, error_line, split_hint};

/// The form of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureForm {
    /// The one error line, with the category; causes behind it.
    TaskLog,
    /// For a person: `error:`, causes, `help:`.
    Terminal {
        /// Whether with colours.
        color: bool,
    },
    /// One JSON object, in the shape of the log's other lines.
    Json,
}

/// A failure.
#[derive(Clone, Debug)]
pub struct Failure {
    category: String,
    exit_code: u8,
    /// All in one: what failed, why, and what to do.
    line: String,
    message: String,
    hint: Option<String>,
    causes: Vec<String>,
    details: Vec<Details>,
}

/// Lines that belong to a failure, a step's last ones for example.
#[derive(Clone, Debug, Serialize)]
struct Details {
    title: String,
    lines: Vec<String>,
}

impl Failure {
    /// A failure without an error: what failed, and what to do.
    #[must_use]
    pub fn new(category: &str, exit_code: u8, message: &str, hint: &str) -> Self {
        Self {
            category: category.to_owned(),
            exit_code,
            line: format!("{message}; {hint}"),
            message: message.to_owned(),
            hint: Some(hint.to_owned()),
            causes: Vec::new(),
            details: Vec::new(),
        }
    }

    /// An error, with its causes.
    #[must_use]
    pub fn of(category: &str, exit_code: u8, error: &dyn Error) -> Self {
        let line = error.to_string();
        let (message, hint) = split_hint(&error);
        let causes = ErrorChain(error).causes(line.clone()).collect();
        let (category, details) = (category.to_owned(), Vec::new());
        Self { category, exit_code, line, message, hint, causes, details }
    }

    /// The same with more lines. A title without lines is left out.
    #[must_use]
    pub fn with_details(mut self, title: &str, lines: &[impl AsRef<str>]) -> Self {
        if !lines.is_empty() {
            let lines = lines.iter().flat_map(|line| line.as_ref().lines()).map(printable).collect();
            self.details.push(Details { title: title.to_owned(), lines });
        }
        self
    }

    /// The same without the lines under a title.
    #[must_use]
    pub fn without_details(mut self, title: &str) -> Self {
        self.details.retain(|details| details.title != title);
        self
    }

    /// The lines to print, escaped and without secrets.
    #[must_use]
    pub fn lines(&self, form: FailureForm) -> Vec<String> {
        match form {
            FailureForm::TaskLog => self.task_log(),
            FailureForm::Terminal { color } => self.terminal(color),
            FailureForm::Json => vec![self.json()],
        }
    }

    fn task_log(&self) -> Vec<String> {
        let mut lines = vec![error_line(&format!("{}: {}", self.category, self.line))];
        for cause in &self.causes {
            let mut parts = cause.lines().map(printable);
            lines.push(format!("  because: {}", parts.next().unwrap_or_default()));
            lines.extend(parts.map(|part| format!("    | {part}")));
        }
        lines.extend(self.details.iter().flat_map(Details::indented));
        lines
    }

    /// Without the category, whose words are for those who look at many tasks.
    fn terminal(&self, color: bool) -> Vec<String> {
        let painted = |code: &str, text: &str| {
            if color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
        };
        let mut lines = vec![format!("{} {}", painted("1;31", "error:"), one_line(&self.message))];
        for cause in &self.causes {
            let mut parts = cause.lines().map(printable);
            lines.push(format!("  {} {}", painted("1", "caused by:"), parts.next().unwrap_or_default()));
            lines.extend(parts.map(|part| format!("    {part}")));
        }
        lines.extend(self.hint.iter().map(|hint| format!("  {} {}", painted("1;36", "help:"), one_line(hint))));
        lines.extend(self.details.iter().flat_map(Details::indented));
        lines
    }

    fn json(&self) -> String {
        let mut fields = json!({
            "message": one_line(&self.message),
            "category": self.category,
            "exitCode": self.exit_code,
            "causes": self.causes.iter().map(|cause| printable(cause)).collect::<Vec<_>>(),
        });
        if let Some(hint) = &self.hint {
            fields["hint"] = one_line(hint).into();
        }
        if !self.details.is_empty() {
            fields["details"] = json!(self.details);
        }
        super::lines::json_line("ERROR", env!("CARGO_CRATE_NAME"), &fields)
    }
}

impl Details {
    fn indented(&self) -> impl Iterator<Item = String> {
        let lines = self.lines.iter().map(|line| format!("    | {line}"));
        std::iter::once(format!("  {}:", self.title)).chain(lines)
    }
}

fn one_line(text: &str) -> String {
    printable(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use std::io;

    use serde_json::Value;

    use super::super::Hint;
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read {}{}", .0, Hint("it must be there and readable"))]
    struct Unreadable(&'static str, #[source] io::Error);

    fn failure() -> Failure {
        let error = Unreadable("a\x1b[2K.tar", io::Error::other("no medium\nfound"));
        Failure::of("configuration", 2, &error).with_details("seen", &["one", "two\nthree"])
    }

    #[test]
    fn a_person_gets_causes_and_help_on_lines_of_their_own() {
        let lines = failure().lines(FailureForm::Terminal { color: false }).join("\n");
        insta::assert_snapshot!(lines, @r"
        error: cannot read a\u{1b}[2K.tar
          caused by: no medium
            found
          help: it must be there and readable
          seen:
            | one
            | two
            | three
        ");
        let colored = failure().lines(FailureForm::Terminal { color: true });
        assert_eq!(colored[0], "\x1b[1;31merror:\x1b[0m cannot read a\\u{1b}[2K.tar");
    }

    #[test]
    fn a_task_log_gets_the_one_error_line() {
        let lines = failure().lines(FailureForm::TaskLog).join("\n");
        insta::assert_snapshot!(lines, @r"
        [taskcluster-image-build:error] configuration: cannot read a\u{1b}[2K.tar; it must be there and readable
          because: no medium
            | found
          seen:
            | one
            | two
            | three
        ");
    }

    #[test]
    fn a_program_gets_one_object() {
        let lines = failure().lines(FailureForm::Json);
        let [line] = lines.as_slice() else { panic!("{lines:?}") };
        let mut object: Value = serde_json::from_str(line).unwrap();
        assert!(object["timestamp"].take().as_str().unwrap().ends_with('Z'));
        let fields = json!({
            "message": "cannot read a\\u{1b}[2K.tar",
            "category": "configuration",
            "exitCode": 2,
            "causes": ["no medium\\nfound"],
            "hint": "it must be there and readable",
            "details": [{"title": "seen", "lines": ["one", "two", "three"]}],
        });
        assert_eq!(object, json!({"timestamp": null, "level": "ERROR", "target": "image_worker", "fields": fields}));
        let plain = Failure::of("infra", 30, &io::Error::other("x")).lines(FailureForm::Json);
        let plain: Value = serde_json::from_str(&plain[0]).unwrap();
        assert_eq!(plain["fields"], json!({"message": "x", "category": "infra", "exitCode": 30, "causes": []}));
    }
}
