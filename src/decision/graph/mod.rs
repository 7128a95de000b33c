//! Task graphs in a decision task: which images their tasks use, and the same graphs with the images filled in and tasks added
//! for missing images. JSON in, JSON out; callers do files, hashes and look-ups.

mod cycle;
mod error;
mod fill;
mod form;
mod image_task;
mod packages;
mod reference;
mod template;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use crate::context::ImageName;
use crate::taskcluster::TaskId;
pub use error::{GraphError, TemplateError};
use error::{pointer, quoted};
use fill::{Filling, Text, each_text};
pub use form::Form;
use form::{Entry, Parts};
use template::{Piece, pieces};

/// A task graph.
#[derive(Clone, Debug)]
pub struct Graph {
    form: Form,
    around: Map<String, Value>,
    entries: Vec<Entry>,
}

/// A template: an image that a task uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The task: its id, or its label in a graph of labels.
    pub task: String,
    /// JSON pointer inside the task's definition.
    pub place: String,
    /// The image.
    pub image: ImageName,
    /// As what.
    pub kind: UseKind,
}

/// How a task uses an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UseKind {
    /// `task_id_for_image`: a task image, by the id of the task that has it.
    TaskId,
    /// `docker_image`: a registry image, by its reference.
    Reference,
}

/// What the images that a graph uses have become.
#[derive(Clone, Debug, Default)]
pub struct Resolution {
    /// Task images; ancestors that no task uses directly may be among them.
    pub images: BTreeMap<ImageName, Resolved>,
    /// Tasks of images that are added though perhaps no task of the graph waits for them.
    pub besides: Vec<ImageTask>,
    /// The references of registry images.
    pub references: BTreeMap<ImageName, String>,
    /// Whether packages whose tasks are not in the graph get a visible dummy.
    pub dummies: bool,
}

/// The resolution of a task image.
#[derive(Clone, Debug, PartialEq)]
pub enum Resolved {
    /// A task has made it already.
    Existing {
        /// That task.
        task_id: TaskId,
    },
    /// A task of this graph will build it.
    NewTask(ImageTask),
}

/// A task that will build an image.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageTask {
    /// The image.
    pub name: ImageName,
    /// The task's id; taskgraph assigns another one in graphs of labels.
    pub task_id: TaskId,
    /// The definition for the queue. `resolve` inserts what follows from `parent`.
    pub definition: Value,
    /// The task image that it is built from.
    pub parent: Option<ImageName>,
    /// The packages that it installs, of the tasks `packages-NAME`. `resolve` inserts them, too.
    pub packages: Vec<String>,
}

/// The label of the task that builds an image, the same as taskgraph's own.
#[must_use]
pub fn task_label(image: &ImageName) -> String {
    format!("docker-image-{image}")
}

impl Graph {
    /// Reads a graph of either form.
    pub fn parse(value: Value) -> Result<Self, GraphError> {
        let Parts { form, around, entries } = form::parse(value)?;
        Ok(Self { form, around, entries })
    }

    /// How the graph is written.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// How many tasks it has.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.entries.len()
    }

    /// The tasks' definitions, each with the task's id, or its label in a graph of labels.
    pub fn definitions(&self) -> impl Iterator<Item = (&str, &Map<String, Value>)> {
        self.entries.iter().map(|entry| (entry.key.as_str(), &entry.definition))
    }

    /// The images that the graph's tasks use, in its order, each as often as it is used.
    pub fn uses(&self) -> Result<Vec<Use>, GraphError> {
        let owner = || "the graph".to_owned();
        each_text(&self.around, &mut |place, text| nothing_outside(&owner, place, text))?;
        let mut uses = Vec::new();
        for entry in &self.entries {
            nothing_outside(&owner, "", Text::Key(&entry.key))?;
            uses.extend(uses_of(entry)?);
        }
        Ok(uses)
    }

    /// The graph with its images filled in, and with the tasks that are missing.
    pub fn resolve(&self, resolution: &Resolution) -> Result<Value, GraphError> {
        let uses = self.uses()?;
        let needed = resolution.needed(&uses)?;
        self.refuse_taken_names(&needed)?;
        let mut entries = Vec::with_capacity(self.entries.len() + needed.len());
        let mut rest = uses.as_slice();
        for entry in &self.entries {
            let mut entry = entry.clone();
            let own = rest.iter().take_while(|it| it.task == entry.key).count();
            let (own, others) = rest.split_at(own);
            rest = others;
            if !own.is_empty() {
                let filling = Filling { form: self.form, resolution, task: entry.described() };
                filling.fill(&mut entry.definition)?;
            }
            for it in own.iter().filter(|it| it.kind == UseKind::TaskId) {
                if let Some(resolved) = resolution.images.get(&it.image) {
                    image_task::wait_for(&mut entry, self.form, resolved, &task_label(&it.image))?;
                }
            }
            entries.push(entry);
        }
        for task in needed {
            let mut entry = image_task::entry(task, self.form, &resolution.images)?;
            self.add_packages(&mut entry, task, resolution.dummies)?;
            entries.push(entry);
        }
        no_cycle(&entries, self.form)?;
        Ok(self.assemble(entries))
    }

    /// Checks that no task has the ids and labels of the tasks to be added.
    fn refuse_taken_names(&self, needed: &[&ImageTask]) -> Result<(), GraphError> {
        let mut taken: HashMap<String, String> = HashMap::new();
        for entry in &self.entries {
            taken.insert(entry.key.clone(), entry.described());
            if let (Form::TaskIds, Some(Value::String(label))) = (self.form, entry.fields.get("label")) {
                taken.insert(label.clone(), entry.described());
            }
        }
        for task in needed {
            let key = image_task::key(task, self.form);
            let label = task_label(&task.name);
            if let Some(other) = taken.get(&key).or_else(|| taken.get(&label)) {
                let hint = "take that out, or name it where the template is";
                return Err(GraphError::Taken { name: format!("task {other}"), image: task.name.clone(), hint });
            }
            taken.insert(key, label);
        }
        Ok(())
    }

    fn assemble(&self, entries: Vec<Entry>) -> Value {
        let mut graph = self.around.clone();
        match self.form {
            Form::Requires => {
                let tasks = entries.into_iter().map(Entry::into_value).collect();
                graph.insert("tasks".to_owned(), tasks);
            }
            Form::TaskIds | Form::Labels => {
                graph.extend(entries.into_iter().map(|entry| (entry.key.clone(), entry.into_value())));
            }
        }
        Value::Object(graph)
    }
}

fn uses_of(entry: &Entry) -> Result<Vec<Use>, GraphError> {
    let mut uses = Vec::new();
    each_text(&entry.definition, &mut |place, text| {
        let problem_at = |problem| GraphError::Template { task: entry.described(), place: pointer(place), problem };
        match text {
            Text::Key(key) => match pieces(key) {
                Ok(None) => Ok(()),
                Ok(Some(_)) | Err(_) => Err(problem_at(TemplateError::InKey { key: quoted(key) })),
            },
            Text::Value(text) => {
                for piece in pieces(text).map_err(problem_at)?.unwrap_or_default() {
                    if let Piece::Image(kind, image) = piece {
                        uses.push(Use { task: entry.key.clone(), place: place.to_owned(), image, kind });
                    }
                }
                Ok(())
            }
        }
    })?;
    let owner = || format!("task {}", entry.described());
    each_text(&entry.fields, &mut |place, text| nothing_outside(&owner, place, text))?;
    Ok(uses)
}

/// A template left in a graph is always a mistake.
fn nothing_outside(owner: &dyn Fn() -> String, place: &str, text: Text<'_>) -> Result<(), GraphError> {
    let (Text::Key(text) | Text::Value(text)) = text;
    let found = match pieces(text) {
        Ok(None) => return Ok(()),
        Ok(Some(_)) => quoted(text),
        Err(problem) => problem.to_string(),
    };
    Err(GraphError::Outside { owner: owner(), place: pointer(place), found })
}

/// The most tasks of a cycle that an error names: more would not fit into a line.
const NAMED: usize = 5;

/// Tasks that wait for each other would wait until their deadlines.
fn no_cycle(entries: &[Entry], form: Form) -> Result<(), GraphError> {
    let number: HashMap<&str, usize> =
        entries.iter().enumerate().map(|(number, entry)| (entry.key.as_str(), number)).collect();
    let waits_for: Vec<Vec<usize>> = entries
        .iter()
        .map(|entry| {
            // A definition may name its own task: then something else has to schedule it.
            let dependencies = entry.dependencies().filter(|id| *id != entry.key);
            entry.edges(form).chain(dependencies).filter_map(|key| number.get(key).copied()).collect()
        })
        .collect();
    let Some(cycle) = cycle::cycle(&waits_for) else { return Ok(()) };
    let mut names: Vec<_> = cycle.iter().take(NAMED).map(|number| entries[*number].described()).collect();
    if cycle.len() > NAMED {
        names.push(format!("{} more", cycle.len() - NAMED));
    }
    names.extend(names.first().cloned());
    Err(GraphError::Cycle(names.join(" -> ")))
}
