//! One task of a graph: where the document has it, the images that it uses, and what other tasks need of it. The rest is read again
//! when images are filled in, because the values of all tasks take ten times the memory of their text.

use std::ops::Range;

use super::error::{GraphError, TemplateError, pointer, quoted};
use super::fill::{Filling, Text, each_text};
use super::form::{Entry, Form, TaskText};
use super::image_task::wait_for;
use super::template::{Piece, pieces};
use super::{Resolution, Use, UseKind, task_label};
use crate::decision::waiting::INHERITED;

/// One task.
#[derive(Clone, Debug)]
pub(super) struct Task {
    /// Where its entry is in the document.
    place: Range<usize>,
    /// What other tasks need of it.
    pub(super) outline: Entry,
    /// The images that it uses, in its order, each as often as it is used.
    pub(super) uses: Vec<Use>,
}

impl Task {
    /// Reads a task of a document, and finds the images that it uses.
    pub(super) fn read(document: &str, task: &TaskText<'_>, is_list: bool) -> Result<Self, GraphError> {
        let entry = task.read(is_list)?;
        nothing_outside(&|| "the graph".to_owned(), "", Text::Key(&entry.key))?;
        let uses = uses_of(&entry)?;
        let start = task.text.as_ptr().addr() - document.as_ptr().addr();
        let inherited = if uses.is_empty() { &[][..] } else { &INHERITED[..] };
        Ok(Self { place: start..start + task.text.len(), outline: entry.outline(inherited), uses })
    }

    /// How many bytes of the document it takes.
    pub(super) fn bytes(&self) -> u64 {
        self.place.len() as u64
    }

    /// The task with its images filled in.
    pub(super) fn filled(&self, document: &str, form: Form, resolution: &Resolution) -> Result<Entry, GraphError> {
        let text = TaskText { name: self.outline.key.clone(), text: &document[self.place.clone()] };
        let mut entry = text.read(form == Form::Requires)?;
        if !self.uses.is_empty() {
            let filling = Filling { form, resolution, task: entry.described() };
            filling.fill(&mut entry.definition)?;
        }
        for it in self.uses.iter().filter(|it| it.kind == UseKind::TaskId) {
            if let Some(resolved) = resolution.images.get(&it.image) {
                wait_for(&mut entry, form, resolved, &task_label(&it.image))?;
            }
        }
        Ok(entry)
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
pub(super) fn nothing_outside(owner: &dyn Fn() -> String, place: &str, text: Text<'_>) -> Result<(), GraphError> {
    let (Text::Key(text) | Text::Value(text)) = text;
    let found = match pieces(text) {
        Ok(None) => return Ok(()),
        Ok(Some(_)) => quoted(text),
        Err(problem) => problem.to_string(),
    };
    Err(GraphError::Outside { owner: owner(), place: pointer(place), found })
}
