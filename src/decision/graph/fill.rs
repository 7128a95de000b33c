//! The strings of a graph: each with its place, and the replacement of its templates. `template` parses a string, `reference`
//! writes taskgraph's references.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::error::{GraphError, TemplateError, pointer};
use super::reference::{Escape, Parts, TASK_REFERENCE, reference};
use super::template::{Piece, pieces};
use super::{Form, Resolution, Resolved, UseKind, task_label};
use crate::context::ImageName;

/// Keys of what taskgraph fills in, but with no id.
const NO_IDS: [&str; 2] = ["artifact-reference", "relative-datestamp"];

/// A string of a graph.
#[derive(Clone, Copy)]
pub(super) enum Text<'t> {
    Key(&'t str),
    Value(&'t str),
}

/// Visits every key and every string below `object`, with its place; the place of a key is its object's.
pub(super) fn each_text<E>(
    object: &Map<String, Value>,
    see: &mut impl FnMut(&str, Text<'_>) -> Result<(), E>,
) -> Result<(), E> {
    in_object(object, &mut String::new(), see)
}

fn in_object<E>(
    object: &Map<String, Value>,
    place: &mut String,
    see: &mut impl FnMut(&str, Text<'_>) -> Result<(), E>,
) -> Result<(), E> {
    object.iter().try_for_each(|(key, value)| {
        see(place, Text::Key(key))?;
        at(place, key, |place| in_value(value, place, see))
    })
}

fn in_value<E>(
    value: &Value,
    place: &mut String,
    see: &mut impl FnMut(&str, Text<'_>) -> Result<(), E>,
) -> Result<(), E> {
    match value {
        Value::String(text) => see(place, Text::Value(text)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(number, item)| at(place, &number.to_string(), |place| in_value(item, place, see))),
        Value::Object(object) => in_object(object, place, see),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

/// Does something one step further down a JSON pointer.
fn at<T>(place: &mut String, step: &str, then: impl FnOnce(&mut String) -> T) -> T {
    let here = place.len();
    place.push('/');
    if step.contains(['~', '/']) {
        place.push_str(&step.replace('~', "~0").replace('/', "~1"));
    } else {
        place.push_str(step);
    }
    let result = then(place);
    place.truncate(here);
    result
}

/// One task's definition, being filled in.
pub(super) struct Filling<'a> {
    pub(super) form: Form,
    pub(super) resolution: &'a Resolution,
    /// The task, for errors.
    pub(super) task: String,
}

impl Filling<'_> {
    /// Fills in every string below `object`.
    pub(super) fn fill(&self, object: &mut Map<String, Value>) -> Result<(), GraphError> {
        self.object(object, &mut String::new())
    }

    fn object(&self, object: &mut Map<String, Value>, place: &mut String) -> Result<(), GraphError> {
        let alone = object.len() == 1;
        for (key, value) in object.iter_mut() {
            at(place, key, |place| self.value(value, alone.then_some(key), place))?;
        }
        Ok(())
    }

    /// `around` is the key, where the value is all that an object holds.
    fn value(&self, value: &mut Value, around: Option<&str>, place: &mut String) -> Result<(), GraphError> {
        match value {
            Value::String(text) => {
                let problem =
                    |problem| GraphError::Template { task: self.task.clone(), place: pointer(place), problem };
                if let Some(pieces) = pieces(text).map_err(problem)? {
                    *value = self.filled(&pieces, around, place)?;
                }
            }
            Value::Array(items) => {
                for (number, item) in items.iter_mut().enumerate() {
                    at(place, &number.to_string(), |place| self.value(item, None, place))?;
                }
            }
            Value::Object(object) => self.object(object, place)?,
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
        Ok(())
    }

    fn filled(&self, pieces: &[Piece<'_>], around: Option<&str>, place: &str) -> Result<Value, GraphError> {
        let mut parts = Parts::default();
        for piece in pieces {
            match piece {
                Piece::Text(text) => parts.push_text(text),
                Piece::Image(UseKind::Reference, image) => {
                    parts.push_text(self.look_up(&self.resolution.references, image, place)?);
                }
                Piece::Image(UseKind::TaskId, image) => {
                    match (self.look_up(&self.resolution.images, image, place)?, self.form) {
                        (Resolved::Existing { task_id }, _) => parts.push_text(task_id.as_str()),
                        (Resolved::NewTask(task), Form::Requires | Form::TaskIds) => {
                            parts.push_text(task.task_id.as_str());
                        }
                        (Resolved::NewTask(_), Form::Labels) => {
                            if let Some(around) = around.filter(|key| NO_IDS.contains(key)) {
                                let problem =
                                    TemplateError::NoReference { image: image.clone(), around: around.to_owned() };
                                let (task, place) = (self.task.clone(), pointer(place));
                                return Err(GraphError::Template { task, place, problem });
                            }
                            parts.push_edge(&task_label(image));
                        }
                    }
                }
            }
        }
        Ok(match around {
            Some(TASK_REFERENCE) => Value::String(parts.write(Escape::Loose)),
            _ if !parts.have_edges() => Value::String(parts.write(Escape::Nothing)),
            _ => reference(parts.write(Escape::All)),
        })
    }

    fn look_up<'r, T>(
        &self,
        known: &'r BTreeMap<ImageName, T>,
        image: &ImageName,
        place: &str,
    ) -> Result<&'r T, GraphError> {
        let user = || format!("task {}, {}", self.task, pointer(place));
        known.get(image).ok_or_else(|| GraphError::Unresolved { image: image.clone(), user: user() })
    }
}
