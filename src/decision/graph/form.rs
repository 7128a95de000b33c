//! The two forms of task graphs, distinguished by their structure, and each task with its definition and dependencies. `template`
//! and `fill` process the definitions.

use std::collections::{HashMap, HashSet};

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

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

    /// What other tasks need of this one, and of its definition also these members.
    pub(super) fn outline(mut self, members: &[&str]) -> Self {
        let cached = self.fields.get_mut("attributes").and_then(|it| it.as_object_mut()?.remove("cached_task"));
        let mut fields = pick(self.fields, &["label", "requires", "dependencies"]);
        fields.extend(cached.map(|cached| ("attributes".to_owned(), json!({ "cached_task": cached }))));
        let definition = pick(self.definition, &[&["dependencies", "metadata"][..], members].concat());
        Self { key: self.key, fields, definition }
    }

    /// The entry as it is in the graph.
    pub(super) fn into_value(mut self) -> Value {
        self.fields.insert("task".to_owned(), Value::Object(self.definition));
        Value::Object(self.fields)
    }
}

/// These members of an object.
fn pick(mut object: Object, members: &[&str]) -> Object {
    members.iter().filter_map(|member| object.remove_entry(*member)).collect()
}

/// A graph in its parts, its tasks not yet read.
pub(super) struct Parts<'t> {
    /// Whether it is of the form of 2015, with a list of tasks.
    pub(super) is_list: bool,
    /// The rest of the document; `tasks` is null, to keep the place.
    pub(super) around: Object,
    pub(super) tasks: Vec<TaskText<'t>>,
}

/// A task as the document has it.
pub(super) struct TaskText<'t> {
    /// The key of its entry; in a list, its place.
    pub(super) name: String,
    pub(super) text: &'t str,
}

/// Takes a graph apart, a JSON text.
pub(super) fn parse(graph: &str) -> Result<Parts<'_>, GraphError> {
    let no_form = |found: &str| Err(GraphError::NoForm { found: found.to_owned() });
    match graph.trim_start().as_bytes().first() {
        Some(b'{') => {}
        Some(b'[') => return no_form("it is a list"),
        None | Some(b'n') => return no_form("it is empty"),
        Some(_) => return no_form("it is a single value"),
    }
    let members: HashMap<String, &RawValue> =
        serde_json::from_str(graph).map_err(|error| GraphError::NoForm { found: error.to_string() })?;
    let mut members: Vec<_> = members.into_iter().map(|(name, value)| TaskText { name, text: value.get() }).collect();
    // In the order of the document.
    members.sort_unstable_by_key(|member| member.text.as_ptr());
    match members.iter().find(|member| member.name == "tasks").map(|member| member.text) {
        Some(tasks) if tasks.starts_with('[') => listed(&members, tasks),
        Some(tasks) if !is_entry(tasks) => no_form("its `tasks` is no list"),
        _ if members.is_empty() || members.iter().any(|member| is_entry(member.text)) => {
            Ok(Parts { is_list: false, around: Object::new(), tasks: members })
        }
        _ => {
            let keys: Vec<_> = members.iter().take(5).map(|member| quoted(&member.name)).collect();
            no_form(&format!("no task in {}", keys.join(", ")))
        }
    }
}

/// Whether this is a task; one that cannot be read is, so that the error about it names it.
fn is_entry(text: &str) -> bool {
    text.parse().map_or(true, |value: Value| has_task(&value))
}

fn has_task(value: &Value) -> bool {
    value.get("task").is_some_and(Value::is_object)
}

fn listed<'t>(members: &[TaskText<'t>], tasks: &'t str) -> Result<Parts<'t>, GraphError> {
    let mut around = Object::new();
    for TaskText { name, text } in members {
        let value = if name == "tasks" { Value::Null } else { value(&quoted(name), text)? };
        if has_task(&value) {
            let other = "the graph has a list of `tasks`".to_owned();
            return Err(GraphError::Mixed { place: quoted(name), of: "is a task of taskgraph's form", other });
        }
        around.insert(name.clone(), value);
    }
    let tasks: Vec<&RawValue> =
        serde_json::from_str(tasks).map_err(|error| GraphError::NoForm { found: error.to_string() })?;
    let named = |(number, task): (usize, &'t RawValue)| TaskText { name: format!("/tasks/{number}"), text: task.get() };
    Ok(Parts { is_list: true, around, tasks: tasks.into_iter().enumerate().map(named).collect() })
}

/// Reads a part of the document. Numbers, escapes and depths have limits, which nobody has checked before.
fn value(task: &str, text: &str) -> Result<Value, GraphError> {
    // Unlike `from_str`, this is compiled with the library, for speed.
    text.parse().map_err(|error: serde_json::Error| {
        // The library's place is one in the part.
        let why = error.to_string();
        shape(task, "it", &format!("cannot be read: {}", why.split(" at line ").next().unwrap_or(&why)))
    })
}

impl TaskText<'_> {
    /// Reads the task's entry.
    pub(super) fn read(&self, is_list: bool) -> Result<Entry, GraphError> {
        if is_list { self.of_list() } else { self.of_object() }
    }

    fn fields(&self) -> Result<Object, GraphError> {
        match value(&shown(&self.name), self.text)? {
            Value::Object(fields) => Ok(fields),
            _ => Err(shape(&shown(&self.name), "it", "is no object")),
        }
    }

    fn of_list(&self) -> Result<Entry, GraphError> {
        let (place, fields) = (&self.name, self.fields()?);
        let Some(id) = fields.get("taskId").and_then(Value::as_str).map(str::to_owned) else {
            return Err(shape(place, "/taskId", "is missing, or is no text"));
        };
        id.parse::<TaskId>().map_err(|problem| shape(place, "/taskId", &format!("is wrong: {problem}")))?;
        let entry = Entry::new(&id, fields)?;
        if entry.fields.contains_key("dependencies") {
            let place = format!("{place}/dependencies");
            let other = "the graph has a list of `tasks`, which have `requires`".to_owned();
            return Err(GraphError::Mixed { place, of: "is of taskgraph's form", other });
        }
        match entry.fields.get("requires") {
            None | Some(Value::Null) => Ok(entry),
            Some(Value::Array(ids)) if ids.iter().all(Value::is_string) => Ok(entry),
            Some(_) => Err(shape(&entry.described(), "/requires", "is no list of task ids")),
        }
    }

    fn of_object(&self) -> Result<Entry, GraphError> {
        let entry = Entry::new(&self.name, self.fields()?)?;
        if let Some(field) = ["requires", "taskId"].into_iter().find(|field| entry.fields.contains_key(*field)) {
            let place = format!("/{field} of task {}", entry.described());
            let other = "the graph is an object of tasks, which have `dependencies`".to_owned();
            return Err(GraphError::Mixed { place, of: "is of the form with a list of `tasks`", other });
        }
        match entry.fields.get("dependencies") {
            None | Some(Value::Null) => Ok(entry),
            Some(Value::Object(edges)) if edges.values().all(Value::is_string) => Ok(entry),
            Some(_) => {
                let rule = "is no object from names to labels or task ids";
                Err(shape(&entry.described(), "/dependencies", rule))
            }
        }
    }
}

/// The form of a graph with these tasks, if they agree with each other.
pub(super) fn form(is_list: bool, entries: &[&Entry]) -> Result<Form, GraphError> {
    if !is_list {
        return named_form(entries);
    }
    let mut known = HashSet::new();
    if let Some(entry) = entries.iter().find(|entry| !known.insert(entry.key.as_str())) {
        return Err(shape(&entry.described(), "/taskId", "stands in two tasks"));
    }
    for entry in entries {
        if let Some(required) = entry.edges(Form::Requires).find(|required| !known.contains(required)) {
            return Err(GraphError::Dangling { task: entry.described(), required: shown(required) });
        }
    }
    Ok(Form::Requires)
}

/// Keys are all task ids, or all labels. A label that happens to look like an id is recognised by its own `label`.
fn named_form(entries: &[&Entry]) -> Result<Form, GraphError> {
    let label = |entry: &Entry| entry.fields.get("label").and_then(Value::as_str).map(str::to_owned);
    let is_id = |entry: &&&Entry| entry.key.parse::<TaskId>().is_ok() && label(entry).as_ref() != Some(&entry.key);
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
