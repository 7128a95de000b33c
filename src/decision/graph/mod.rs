//! Task graphs in a decision task: which images their tasks use, and the same graphs with the images filled in and tasks added
//! for missing images. JSON in, JSON out; callers do files, hashes and look-ups. Graphs can have tens of thousands of tasks: they stay
//! texts, and only some tasks at a time are values, on some threads.

mod cycle;
mod error;
mod fill;
mod form;
mod image_task;
mod packages;
mod reference;
mod task;
mod template;
mod written;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use crate::context::ImageName;
use crate::context::ahead::{ahead, batches};
use crate::decision::Definition;
use crate::taskcluster::TaskId;
pub use error::{GraphError, TemplateError};
use fill::each_text;
pub use form::Form;
use form::Parts;
use task::{Task, nothing_outside};
use written::{Document, WrittenTask};

/// How many tasks a thread reads or fills in at a time, and after how many bytes of text the next thread takes over: a few
/// milliseconds' work, which bounds what is in memory as values.
const TASKS_AT_ONCE: usize = 64;
const BYTES_AT_ONCE: u64 = 256 * 1024;

/// A task graph.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The document.
    text: String,
    form: Form,
    /// What the document has beside the tasks.
    around: Map<String, Value>,
    tasks: Vec<Task>,
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
    /// Reads a graph of either form, a JSON text, and finds the images that its tasks use.
    pub fn parse(text: String) -> Result<Self, GraphError> {
        let Parts { is_list, around, tasks: texts } = form::parse(&text)?;
        each_text(&around, &mut |place, text| nothing_outside(&|| "the graph".to_owned(), place, text))?;
        let mut tasks = Vec::with_capacity(texts.len());
        ahead(
            &batches(&texts, TASKS_AT_ONCE, BYTES_AT_ONCE, |task| task.text.len() as u64),
            |task| Task::read(&text, task, is_list),
            |_, task| {
                tasks.push(task?);
                Ok::<_, GraphError>(())
            },
        )?;
        let form = form::form(is_list, &tasks.iter().map(|task| &task.outline).collect::<Vec<_>>())?;
        Ok(Self { text, form, around, tasks })
    }

    /// How the graph is written.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// How many tasks it has.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// The images that each task uses, and what image tasks inherit from its definition.
    pub fn users(&self) -> impl Iterator<Item = (&[Use], &Definition)> {
        self.tasks.iter().map(|task| (task.uses.as_slice(), &task.outline.definition))
    }

    /// The images that the graph's tasks use, in its order, each as often as it is used.
    pub fn uses(&self) -> impl Iterator<Item = &Use> {
        self.tasks.iter().flat_map(|task| &task.uses)
    }

    /// The graph with its images filled in, and with the tasks that are missing: JSON for people, without a line break at its end.
    pub fn resolve(&self, resolution: &Resolution) -> Result<String, GraphError> {
        let needed = resolution.needed(self.uses())?;
        self.refuse_taken_names(&needed)?;
        let added: Vec<_> = needed.iter().map(|task| image_task::key(task, self.form)).collect();
        let keys = self.tasks.iter().map(|task| &task.outline.key).chain(&added);
        let numbers: HashMap<&str, usize> = keys.enumerate().map(|(number, key)| (key.as_str(), number)).collect();
        let mut document = Document::new(self.form, &self.around, self.text.len() + self.text.len() / 2);
        ahead(
            &batches(&self.tasks, TASKS_AT_ONCE, BYTES_AT_ONCE, Task::bytes),
            |task| {
                let entry = task.filled(&self.text, self.form, resolution)?;
                Ok(WrittenTask::new(entry, self.form, &numbers))
            },
            |_, task: Result<_, GraphError>| {
                document.push(task?);
                Ok::<_, GraphError>(())
            },
        )?;
        for task in needed {
            let mut entry = image_task::entry(task, self.form, &resolution.images)?;
            self.add_packages(&mut entry, task, resolution.dummies)?;
            document.push(WrittenTask::new(entry, self.form, &numbers));
        }
        document.finish()
    }

    /// Checks that no task has the ids and labels of the tasks to be added.
    fn refuse_taken_names(&self, needed: &[&ImageTask]) -> Result<(), GraphError> {
        let mut taken: HashMap<String, String> = HashMap::new();
        for entry in self.tasks.iter().map(|task| &task.outline) {
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
}
