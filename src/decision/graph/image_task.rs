//! Tasks of images in a graph: which are needed, their entries, and what others need in order to wait for them. Their
//! definitions are made by callers.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::error::GraphError;
use super::form::{Entry, Form};
use super::reference::reference;
use super::{ImageTask, Resolution, Resolved, Use, UseKind, task_label};
use crate::context::ImageName;

type Object = Map<String, Value>;

/// The variable with the task of an image's parent.
const PARENT_TASK_ID: &str = "PARENT_TASK_ID";

impl Resolution {
    /// The tasks that a graph with these uses gets: one for each image that is used and has to be made, and for its
    /// ancestors as far as they have to be made; parents first. An image that was found needs no ancestors. Behind them those
    /// that are added besides, with their ancestors.
    pub fn needed<'r>(&'r self, uses: impl Iterator<Item = &'r Use>) -> Result<Vec<&'r ImageTask>, GraphError> {
        let (mut needed, mut known) = (Vec::new(), BTreeSet::new());
        for it in uses.filter(|it| it.kind == UseKind::TaskId && known.insert(&it.image)) {
            self.add_line(&it.image, &|| format!("task {}, {}", it.task, it.place), &mut needed)?;
        }
        for task in &self.besides {
            if let Some(parent) = &task.parent {
                self.add_line(parent, &|| format!("the image {}", task.name), &mut needed)?;
            }
            if !needed.iter().any(|it| it.name == task.name) {
                needed.push(task);
            }
        }
        Ok(needed)
    }

    /// Adds the task of an image, and those of its ancestors, as far as they have to be made and are not there.
    fn add_line<'r>(
        &'r self,
        image: &'r ImageName,
        user: &dyn Fn() -> String,
        needed: &mut Vec<&'r ImageTask>,
    ) -> Result<(), GraphError> {
        let mut line: Vec<&ImageTask> = Vec::new();
        let mut next = Some(image);
        while let Some(name) = next {
            let resolved = self.images.get(name).ok_or_else(|| {
                let needed_by = line.last().map_or_else(user, |child| format!("the image {}", child.name));
                GraphError::Unresolved { image: name.clone(), user: needed_by }
            })?;
            next = match resolved {
                Resolved::NewTask(task) if !needed.iter().any(|it| it.name == *name) => {
                    if line.iter().any(|descendant| descendant.name == *name) {
                        let names: Vec<_> = line.iter().map(|task| task.name.as_str()).collect();
                        return Err(GraphError::Cycle(format!("images {} -> {name}", names.join(" -> "))));
                    }
                    line.push(task);
                    task.parent.as_ref()
                }
                Resolved::NewTask(_) | Resolved::Existing { .. } => None,
            };
        }
        needed.extend(line.into_iter().rev());
        Ok(())
    }
}

/// The key of an image's task in the graph.
pub(super) fn key(task: &ImageTask, form: Form) -> String {
    match form {
        Form::Requires | Form::TaskIds => task.task_id.to_string(),
        Form::Labels => task_label(&task.name),
    }
}

/// The entry of an image's task.
pub(super) fn entry(task: &ImageTask, form: Form, images: &BTreeMap<ImageName, Resolved>) -> Result<Entry, GraphError> {
    let wrong = |place, rule| GraphError::Definition { image: task.name.clone(), place, rule };
    let Value::Object(definition) = task.definition.clone() else { return Err(wrong("it", "is no object")) };
    let fields = match form {
        Form::Requires => json!({ "taskId": task.task_id, "task": null, "requires": [] }),
        Form::TaskIds | Form::Labels => json!({
            "kind": "docker-image",
            "label": task_label(&task.name),
            "description": format!("Build the docker image {} for use by dependent tasks", task.name),
            "attributes": { "image_name": task.name, "kind": "docker-image" },
            "dependencies": {},
            "soft_dependencies": [],
            "if_dependencies": [],
            // Whether the index has the image is known by now.
            "optimization": null,
            "task": null,
        }),
    };
    let Value::Object(fields) = fields else { return Err(wrong("it", "is no object")) };
    let mut entry = Entry { key: key(task, form), fields, definition };
    match form {
        Form::Requires => {}
        Form::TaskIds => drop(entry.fields.insert("task_id".to_owned(), json!(task.task_id))),
        Form::Labels => forget_decision_task(&mut entry.definition),
    }
    let Some(parent) = &task.parent else { return Ok(entry) };
    let user = format!("the image {}", task.name);
    let resolved = images.get(parent).ok_or(GraphError::Unresolved { image: parent.clone(), user })?;
    let env = entry.definition.get_mut("payload").and_then(|payload| payload.get_mut("env"));
    let env = env.and_then(Value::as_object_mut).ok_or_else(|| wrong("/payload/env", "is no object"))?;
    let id = match (resolved, form) {
        (Resolved::NewTask(_), Form::Labels) => reference("<parent>".to_owned()),
        (Resolved::NewTask(parent), Form::Requires | Form::TaskIds) => json!(parent.task_id),
        (Resolved::Existing { task_id }, _) => json!(task_id),
    };
    env.insert(PARENT_TASK_ID.to_owned(), id);
    wait_for(&mut entry, form, resolved, "parent")?;
    Ok(entry)
}

/// taskgraph adds the decision task, whose id is also the group's, to the dependencies of tasks that wait for no other task of
/// the graph. It does not check whether the id is among them, and the queue refuses duplicates.
fn forget_decision_task(definition: &mut Object) {
    let decision = definition.get("taskGroupId").cloned();
    if let Some(Value::Array(dependencies)) = definition.get_mut("dependencies") {
        dependencies.retain(|id| Some(id) != decision.as_ref());
    }
}

/// Makes a task wait for an image. `edge` is what taskgraph's form calls the relation.
pub(super) fn wait_for(entry: &mut Entry, form: Form, resolved: &Resolved, edge: &str) -> Result<(), GraphError> {
    match resolved {
        Resolved::Existing { task_id } => depend_on(entry, task_id.as_str()),
        Resolved::NewTask(task) => wait_for_task(entry, form, edge, &key(task, form), &task.name),
    }
}

/// Makes a task depend on another one of the graph, which builds an image.
pub(super) fn wait_for_task(
    entry: &mut Entry,
    form: Form,
    edge: &str,
    key: &str,
    image: &ImageName,
) -> Result<(), GraphError> {
    let added = match form {
        Form::Requires => add_to_list(&mut entry.fields, "requires", key),
        Form::TaskIds | Form::Labels => add_edge(&mut entry.fields, edge, key),
    };
    if !added {
        let name = format!("the edge {edge} of task {}", entry.described());
        let hint = "give the edge that is there another name";
        return Err(GraphError::Taken { name, image: image.clone(), hint });
    }
    match form {
        // taskgraph does the rest when the task has its id.
        Form::Labels => Ok(()),
        Form::Requires | Form::TaskIds => depend_on(entry, key),
    }
}

/// Workers take artifacts only from tasks that the definition names.
fn depend_on(entry: &mut Entry, id: &str) -> Result<(), GraphError> {
    if add_to_list(&mut entry.definition, "dependencies", id) {
        return Ok(());
    }
    let (task, rule) = (entry.described(), "is no list".to_owned());
    Err(GraphError::Malformed { task, place: "/task/dependencies".to_owned(), rule })
}

/// Adds an item if it is missing; returns whether it is there now.
fn add_to_list(object: &mut Object, name: &str, item: &str) -> bool {
    let list = object.entry(name).or_insert(Value::Null);
    if list.is_null() {
        *list = json!([]);
    }
    let Some(items) = list.as_array_mut() else { return false };
    if !items.iter().any(|present| present == item) {
        items.push(json!(item));
    }
    true
}

/// Adds an edge if it is missing; returns whether it is there now.
fn add_edge(fields: &mut Object, edge: &str, key: &str) -> bool {
    let edges = fields.entry("dependencies").or_insert(Value::Null);
    if edges.is_null() {
        *edges = json!({});
    }
    edges.as_object_mut().is_some_and(|edges| *edges.entry(edge).or_insert_with(|| json!(key)) == *key)
}
