//! A graph as it is written: the text of a document that grows task by task, indented as `serde_json` indents a whole one, and the
//! check that no tasks wait for each other.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::cycle::cycle;
use super::error::GraphError;
use super::form::{Entry, Form};

/// The most tasks of a cycle that an error names: more would not fit into a line.
const NAMED: usize = 5;

/// The place of the tasks in the rest of a document of the form of 2015. Nothing else looks like it: texts have no line breaks, and
/// what is further inside is indented more.
const TASKS: &str = "\n  \"tasks\": null";

/// A task as it is written.
pub(super) struct WrittenTask {
    /// The member of the document, with its name where it has one.
    text: String,
    /// The task for people.
    described: String,
    /// The tasks that it waits for, by their numbers.
    waits_for: Vec<usize>,
}

impl WrittenTask {
    /// `numbers` are those of all tasks, by their keys, in the order in which they are written.
    pub(super) fn new(entry: Entry, form: Form, numbers: &HashMap<&str, usize>) -> Self {
        // A definition may name its own task: then something else has to schedule it.
        let dependencies = entry.dependencies().filter(|id| *id != entry.key);
        let waits_for = entry.edges(form).chain(dependencies).filter_map(|key| numbers.get(key).copied()).collect();
        let described = entry.described();
        let name = if form == Form::Requires { String::new() } else { format!("{}: ", json!(entry.key)) };
        let text = name + &format!("{:#}", entry.into_value()).replace('\n', indentation(form));
        Self { text, described, waits_for }
    }
}

fn indentation(form: Form) -> &'static str {
    if form == Form::Requires { "\n    " } else { "\n  " }
}

/// A document.
pub(super) struct Document {
    form: Form,
    text: String,
    /// What follows the tasks.
    end: String,
    /// Of each task what people call it, and the numbers of the tasks that it waits for.
    described: Vec<String>,
    waits_for: Vec<Vec<usize>>,
}

impl Document {
    /// Begins a document that has `around` beside the tasks. `bytes` is how long it may become.
    pub(super) fn new(form: Form, around: &Map<String, Value>, bytes: usize) -> Self {
        let mut text = String::with_capacity(bytes);
        let end = if form == Form::Requires {
            let around = format!("{:#}", Value::Object(around.clone()));
            let (before, behind) = around.split_once(TASKS).unwrap_or(("{", "\n}"));
            text.push_str(before);
            text.push_str("\n  \"tasks\": [");
            format!("]{behind}")
        } else {
            text.push('{');
            "}".to_owned()
        };
        Self { form, text, end, described: Vec::new(), waits_for: Vec::new() }
    }

    /// Adds the next task.
    pub(super) fn push(&mut self, task: WrittenTask) {
        self.text.push_str(if self.described.is_empty() { "" } else { "," });
        self.text.push_str(indentation(self.form));
        self.text.push_str(&task.text);
        self.described.push(task.described);
        self.waits_for.push(task.waits_for);
    }

    /// The text. Tasks that wait for each other would wait until their deadlines.
    pub(super) fn finish(mut self) -> Result<String, GraphError> {
        if let Some(cycle) = cycle(&self.waits_for) {
            let mut names: Vec<_> = cycle.iter().take(NAMED).map(|number| self.described[*number].clone()).collect();
            if cycle.len() > NAMED {
                names.push(format!("{} more", cycle.len() - NAMED));
            }
            names.extend(names.first().cloned());
            return Err(GraphError::Cycle(names.join(" -> ")));
        }
        if !self.described.is_empty() {
            // One level less than the tasks.
            self.text.push_str(&indentation(self.form)[..indentation(self.form).len() - 2]);
        }
        self.text.push_str(&self.end);
        Ok(self.text)
    }
}
