//! The two forms of task graphs, distinguished by their structure, and each task with its definition and dependencies. `template`
//! and `fill` process the definitions.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::error::{GraphError, quoted, shown};
use crate::taskcluster::TaskId;

type Object = Map<String, Value>;

/// How a graph is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `{"tasks": [{"taskId", "task", "requires"}]}`, Gecko's in 2015.
    Requires,
    /// taskgraph's `{TASK_ID: {"task", "dependencies"}}`, when tasks have their ids.
    TaskIds,
    /// taskgraph's `{LABEL: {"task", "dependencies"}}`, before tasks have ids.
    Labels,
}

impl Form {
    /// Where a task's entry has what the task waits for.
    pub(super) fn edges(self) -> &'static str {
        match self {
            Self::Requires => "requires",
            Self::TaskIds | Self::Labels => "dependencies",
        }
    }
}

/// One task of a graph.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The name of the task in dependencies: its id, or its label.
    pub(super) key: String,
    /// The entry; `task` is null, to keep the place.
    pub(super) fields: Object,
    /// What `task` holds.
    pub(super) definition: Object,
}

impl Entry {
    fn new(key: &str, mut fields: Object) -> Result<Self, GraphError> {
        let Some(Value::Object(definition)) = fields.get_mut("task").map(Value::take) else {
            return Err(shape(key, "/task", "is missing, or is no object"));
        };
        let entry = Self { key: key.to_owned(), fields, definition };
        match entry.definition.get("dependencies") {
            None | Some(Value::Null | Value::Array(_)) => Ok(entry),
            Some(_) => Err(shape(&entry.described(), "/task/dependencies", "is no list")),
        }
    }

    /// The task's label, if the definition has one.
    pub(super) fn label(&self) -> Option<&str> {
        if self.key.parse::<TaskId>().is_err() {
            return Some(&self.key);
        }
        let name = || self.definition.get("metadata")?.get("name");
        self.fields.get("label").or_else(name).and_then(Value::as_str)
    }

    /// The task's key, and its name for people where that is another.
    pub(super) fn described(&self) -> String {
        match self.label().filter(|name| *name != self.key && self.key.parse::<TaskId>().is_ok()) {
            Some(name) => format!("{} ({})", shown(&self.key), shown(name)),
            None => shown(&self.key),
        }
    }

    /// The keys of the tasks that this one waits for, by the graph.
    pub(super) fn edges(&self, form: Form) -> impl Iterator<Item = &str> {
        let edges = self.fields.get(form.edges());
        let listed = edges.and_then(Value::as_array).into_iter().flatten();
        let named = edges.and_then(Value::as_object).into_iter().flat_map(Object::values);
        listed.chain(named).filter_map(Value::as_str)
    }

    /// The ids of the tasks that this one waits for, by its definition.
    pub(super) fn dependencies(&self) -> impl Iterator<Item = &str> {
        let ids = self.definition.get("dependencies").and_then(Value::as_array);
        ids.into_iter().flatten().filter_map(Value::as_str)
    }

    /// The entry as it is in the graph.
    pub(super) fn into_value(mut self) -> Value {
        self.fields.insert("task".to_owned(), Value::Object(self.definition));
        Value::Object(self.fields)
    }
}

/// A graph in its parts.
pub(super) struct Parts {
    pub(super) form: Form,
    /// The rest of the document; `tasks` is null, to keep the place.
    pub(super) around: Object,
    pub(super) entries: Vec<Entry>,
}

/// Takes a graph apart.
pub(super) fn parse(graph: Value) -> Result<Parts, GraphError> {
    let no_form = |found: &str| Err(GraphError::NoForm { found: found.to_owned() });
    match graph {
        Value::Object(mut around) => match around.get_mut("tasks") {
            Some(tasks @ Value::Array(_)) => {
                let tasks = tasks.take();
                listed(around, tasks)
            }
            Some(tasks) if !is_entry(tasks) => no_form("its `tasks` is no list"),
            _ => named(around),
        },
        Value::Null => no_form("it is empty"),
        Value::Array(_) => no_form("it is a list"),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => no_form("it is a single value"),
    }
}

fn is_entry(value: &Value) -> bool {
    value.get("task").is_some_and(Value::is_object)
}

fn listed(around: Object, tasks: Value) -> Result<Parts, GraphError> {
    if let Some((key, _)) = around.iter().find(|(_, value)| is_entry(value)) {
        let other = "the graph has a list of `tasks`".to_owned();
        return Err(GraphError::Mixed { place: quoted(key), of: "is a task of taskgraph's form", other });
    }
    let Value::Array(tasks) = tasks else { return Ok(Parts { form: Form::Requires, around, entries: Vec::new() }) };
    let mut entries = Vec::with_capacity(tasks.len());
    for (number, task) in tasks.into_iter().enumerate() {
        let place = format!("/tasks/{number}");
        let Value::Object(fields) = task else { return Err(shape(&place, "it", "is no object")) };
        let Some(id) = fields.get("taskId").and_then(Value::as_str).map(str::to_owned) else {
            return Err(shape(&place, "/taskId", "is missing, or is no text"));
        };
        id.parse::<TaskId>().map_err(|problem| shape(&place, "/taskId", &format!("is wrong: {problem}")))?;
        let entry = Entry::new(&id, fields)?;
        if entry.fields.contains_key("dependencies") {
            let place = format!("{place}/dependencies");
            let other = "the graph has a list of `tasks`, which have `requires`".to_owned();
            return Err(GraphError::Mixed { place, of: "is of taskgraph's form", other });
        }
        match entry.fields.get("requires") {
            None | Some(Value::Null) => {}
            Some(Value::Array(ids)) if ids.iter().all(Value::is_string) => {}
            Some(_) => return Err(shape(&entry.described(), "/requires", "is no list of task ids")),
        }
        entries.push(entry);
    }
    let mut known = HashSet::new();
    if let Some(entry) = entries.iter().find(|entry| !known.insert(entry.key.as_str())) {
        return Err(shape(&entry.described(), "/taskId", "stands in two tasks"));
    }
    for entry in &entries {
        if let Some(required) = entry.edges(Form::Requires).find(|required| !known.contains(required)) {
            return Err(GraphError::Dangling { task: entry.described(), required: shown(required) });
        }
    }
    Ok(Parts { form: Form::Requires, around, entries })
}

fn named(tasks: Object) -> Result<Parts, GraphError> {
    if !tasks.is_empty() && !tasks.values().any(is_entry) {
        let keys: Vec<_> = tasks.keys().take(5).map(|key| quoted(key)).collect();
        return Err(GraphError::NoForm { found: format!("no task in {}", keys.join(", ")) });
    }
    let mut entries = Vec::with_capacity(tasks.len());
    for (key, task) in tasks {
        let Value::Object(fields) = task else { return Err(shape(&shown(&key), "it", "is no object")) };
        let entry = Entry::new(&key, fields)?;
        if let Some(field) = ["requires", "taskId"].into_iter().find(|field| entry.fields.contains_key(*field)) {
            let place = format!("/{field} of task {}", entry.described());
            let other = "the graph is an object of tasks, which have `dependencies`".to_owned();
            return Err(GraphError::Mixed { place, of: "is of the form with a list of `tasks`", other });
        }
        match entry.fields.get("dependencies") {
            None | Some(Value::Null) => {}
            Some(Value::Object(edges)) if edges.values().all(Value::is_string) => {}
            Some(_) => {
                let rule = "is no object from names to labels or task ids";
                return Err(shape(&entry.described(), "/dependencies", rule));
            }
        }
        entries.push(entry);
    }
    let form = named_form(&entries)?;
    Ok(Parts { form, around: Object::new(), entries })
}

/// Keys are all task ids, or all labels. A label that happens to look like an id is recognised by its own `label`.
fn named_form(entries: &[Entry]) -> Result<Form, GraphError> {
    let label = |entry: &Entry| entry.fields.get("label").and_then(Value::as_str).map(str::to_owned);
    let is_id = |entry: &&Entry| entry.key.parse::<TaskId>().is_ok() && label(entry).as_ref() != Some(&entry.key);
    match (entries.iter().find(is_id), entries.iter().find(|entry| !is_id(entry))) {
        (Some(id), Some(other)) => Err(GraphError::Mixed {
            place: format!("the key {}", quoted(&id.key)),
            of: "is a task id",
            other: format!("the key {} is a label", quoted(&other.key)),
        }),
        (Some(_), None) => Ok(Form::TaskIds),
        (None, _) => match entries.iter().find(|entry| label(entry).is_some_and(|label| label != entry.key)) {
            Some(entry) => Err(shape(&entry.described(), "/label", "is not the key that the task stands under")),
            None => Ok(Form::Labels),
        },
    }
}

fn shape(task: &str, place: &str, rule: &str) -> GraphError {
    GraphError::Malformed { task: task.to_owned(), place: place.to_owned(), rule: rule.to_owned() }
}
