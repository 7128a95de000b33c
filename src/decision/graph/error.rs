//! Errors in a graph: the problem, the task, and the place in it. The author of the graph must fix them; `commands` maps them to
//! exit codes.

use crate::context::ImageName;
use crate::net::NameError;
use crate::report::{Hint, escaped, shortened};

/// An error in a graph. Places are JSON pointers.
#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    /// Not a graph at all.
    #[error(
        "the graph is neither `{{\"tasks\": [{{\"taskId\": …, \"task\": …}}]}}` nor taskgraph's \
         `{{LABEL: {{\"task\": …, \"dependencies\": …}}}}`: {found}"
    )]
    NoForm {
        /// What it is instead.
        found: String,
    },
    /// Parts of both forms, or of graphs of labels and of task ids.
    #[error("the graph mixes two forms: {place} {of}, and {other}")]
    Mixed {
        /// The first place.
        place: String,
        /// What it belongs to.
        of: &'static str,
        /// What the rest is.
        other: String,
    },
    /// A task that is not written as its form has it.
    #[error("task {task}: {place} {rule}")]
    Malformed {
        /// The task, or its place where it has no name.
        task: String,
        /// The place in the task's entry.
        place: String,
        /// What is expected.
        rule: String,
    },
    /// A requirement that nothing can fulfil.
    #[error(
        "task {task} requires {required}, which is not in the graph{}",
        Hint("add it, or take it out of `requires`")
    )]
    Dangling {
        /// The task.
        task: String,
        /// What it requires.
        required: String,
    },
    /// A mistake in a template, or a misplaced template.
    #[error("task {task}, {place}: {problem}")]
    Template {
        /// The task.
        task: String,
        /// The place in its definition.
        place: String,
        /// The problem. Not a `source`: the same line has it.
        problem: TemplateError,
    },
    /// A template in a part of the graph that is not filled in.
    #[error("{place} of {owner} is outside the task's definition, where no template is filled in: {found}")]
    Outside {
        /// The task, or the graph.
        owner: String,
        /// The place in it.
        place: String,
        /// The template, or its problem.
        found: String,
    },
    /// Two tasks under one name.
    #[error("the graph has {name} already, where the task that makes the image {image} would be put{}", Hint(.hint))]
    Taken {
        /// The name of the task or of the edge.
        name: String,
        /// The image.
        image: ImageName,
        /// What to do.
        hint: &'static str,
    },
    /// Tasks that wait for each other.
    #[error("tasks of the graph wait for each other: {}{}", .0, Hint("take one of these dependencies out"))]
    Cycle(String),
    /// An image that the resolution does not have.
    #[error("nobody knows the image {image} that {user} needs: it was not looked up")]
    Unresolved {
        /// The image.
        image: ImageName,
        /// The task and the place, or the image that is built from it.
        user: String,
    },
    /// A package that no task makes.
    #[error(
        "the image {image} needs the package {package}, but the graph has no task {label}{}",
        Hint("add it, or decide on the graph of all labels")
    )]
    NoPackage {
        /// The image.
        image: ImageName,
        /// The package.
        package: String,
        /// The label of its task.
        label: String,
    },
    /// A definition of an image's task in which a required value has no place.
    #[error("the definition of the task that makes the image {image}: {place} {rule}")]
    Definition {
        /// The image.
        image: ImageName,
        /// The place in the definition.
        place: &'static str,
        /// What is expected.
        rule: &'static str,
    },
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A word that is similar to one of ours.
    #[error("{found} looks like a mistyped `{nearest}`")]
    Typo {
        /// The tag.
        found: String,
        /// The nearest word.
        nearest: &'static str,
    },
    /// `{{#word}`
    #[error("{tag} has two braces on its left and one on its right")]
    Unbalanced {
        /// The tag.
        tag: String,
    },
    /// A beginning without an end.
    #[error("{opening} is never closed: expected `{closing}` after the image's name")]
    Unclosed {
        /// The beginning.
        opening: String,
        /// Its end.
        closing: String,
    },
    /// An end without a beginning.
    #[error("{closing} is never opened: expected `{opening}` before the image's name")]
    Unopened {
        /// The end.
        closing: String,
        /// Its beginning.
        opening: String,
    },
    /// The end of another template.
    #[error("{opening} is closed by {closing}, not by `{expected}`")]
    Mismatched {
        /// The beginning.
        opening: String,
        /// What follows it.
        closing: String,
        /// What should.
        expected: String,
    },
    /// A template in a template.
    #[error("{inner} begins inside {outer}: templates hold the name of an image, and nothing else")]
    Nested {
        /// The first beginning.
        outer: String,
        /// The second.
        inner: String,
    },
    /// Nothing between beginning and end.
    #[error("{opening} has no name of an image behind it")]
    NoName {
        /// The beginning.
        opening: String,
    },
    /// Something else than a name.
    #[error("{opening}: {problem}")]
    Name {
        /// The beginning.
        opening: String,
        /// The problem. Not a `source`: the same line has it.
        problem: NameError,
    },
    /// A template in the key of an object.
    #[error("a template in the key {key}: templates are filled in only in values")]
    InKey {
        /// The key.
        key: String,
    },
    /// A task that has no id yet, where taskgraph fills in no id.
    #[error(
        "the task of {image} gets its id from taskgraph, which puts no id into `{around}`{}",
        Hint("use `task-reference`")
    )]
    NoReference {
        /// The image.
        image: ImageName,
        /// The key around the template.
        around: String,
    },
}

/// The longest quoted text in an error: two quotes and our own words fit into one line.
const LONGEST: usize = 120;

/// Quoted text as part of one line.
pub(super) fn shown(text: &str) -> String {
    escaped(&shortened(text, LONGEST))
}

/// The same between backquotes.
pub(super) fn quoted(text: &str) -> String {
    format!("`{}`", shown(text))
}

/// A JSON pointer in an error.
pub(super) fn pointer(place: &str) -> String {
    if place.is_empty() { "/".to_owned() } else { shown(place) }
}
