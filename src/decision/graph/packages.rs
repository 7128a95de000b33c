//! The packages that images install. Tasks of the graph make them, and an image's task lists them as Gecko's transform does.
//! Callers know which packages an image needs.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::error::GraphError;
use super::form::{Entry, Form};
use super::image_task::wait_for_task;
use super::reference::{Escape, Parts, reference};
use super::{Graph, ImageTask};
use crate::taskcluster::TaskId;

/// The build argument that has the tasks of the packages.
const ARGUMENT: &str = "DOCKER_IMAGE_PACKAGES";
/// The variable that has all build arguments.
const BUILD_ARGS: &str = "DOCKER_BUILD_ARGS";
/// What the labels of these tasks begin with.
const LABEL: &str = "packages-";

impl Graph {
    /// The graph's packages by name: `TYPE/NAME/DIGEST` of those tasks that taskgraph caches.
    #[must_use]
    pub fn package_digests(&self) -> BTreeMap<String, String> {
        let digest = |entry: &Entry| {
            let cached = entry.fields.get("attributes")?.get("cached_task")?;
            let [kind, name, digest] = ["type", "name", "digest"].map(|key| cached.get(key).and_then(Value::as_str));
            Some((entry.label()?.strip_prefix(LABEL)?.to_owned(), format!("{}/{}/{}", kind?, name?, digest?)))
        };
        self.tasks.iter().filter_map(|task| digest(&task.outline)).collect()
    }

    /// Makes an image's task wait for its packages, and puts them in as a build argument, in their order.
    pub(super) fn add_packages(&self, entry: &mut Entry, task: &ImageTask, dummies: bool) -> Result<(), GraphError> {
        if task.packages.is_empty() {
            return Ok(());
        }
        let mut parts = Parts::default();
        parts.push_text(&opening(entry, task)?);
        for (number, package) in task.packages.iter().enumerate() {
            let label = format!("{LABEL}{package}");
            let known = self.tasks.iter().map(|task| &task.outline).find(|entry| entry.label() == Some(&label));
            parts.push_text(if number == 0 { "" } else { " " });
            match (known, self.form) {
                (None, Form::Labels) if dummies => {
                    parts.push_edge(package);
                    wait_for_task(entry, self.form, package, &label, &task.name)?;
                }
                (None, _) if dummies => parts.push_text(TaskId::unknown().as_str()),
                (None, _) => {
                    return Err(GraphError::NoPackage { image: task.name.clone(), package: package.clone(), label });
                }
                (Some(known), form) => {
                    match form {
                        Form::Labels => parts.push_edge(package),
                        Form::Requires | Form::TaskIds => parts.push_text(&known.key),
                    }
                    wait_for_task(entry, form, package, &known.key, &task.name)?;
                }
            }
        }
        parts.push_text("\"}");
        let args = match self.form {
            Form::Labels => reference(parts.write(Escape::All)),
            Form::Requires | Form::TaskIds => json!(parts.write(Escape::Nothing)),
        };
        if let Some(env) = environment(entry) {
            env.insert(BUILD_ARGS.to_owned(), args);
        }
        Ok(())
    }
}

/// The build arguments of an image's task as JSON, up to the place of the packages.
fn opening(entry: &mut Entry, task: &ImageTask) -> Result<String, GraphError> {
    let args = environment(entry).and_then(|env| env.get(BUILD_ARGS)?.as_str().map(str::to_owned));
    let args: Option<Map<String, Value>> = args.and_then(|args| serde_json::from_str(&args).ok());
    let Some(mut args) = args else {
        let (place, rule) = ("/payload/env/DOCKER_BUILD_ARGS", "is no JSON object, which the packages are put in");
        return Err(GraphError::Definition { image: task.name.clone(), place, rule });
    };
    args.remove(ARGUMENT);
    args.insert(ARGUMENT.to_owned(), json!(""));
    let text = Value::Object(args).to_string();
    Ok(text.strip_suffix("\"}").unwrap_or(&text).to_owned())
}

fn environment(entry: &mut Entry) -> Option<&mut Map<String, Value>> {
    entry.definition.get_mut("payload")?.get_mut("env")?.as_object_mut()
}

#[cfg(test)]
mod tests {
    use super::super::{Graph, ImageTask, Resolution, Resolved};
    use super::*;

    const ID: &str = "fN1SbArXTPSVFNUvaOlinQ";

    /// The graph with the task of the image `i`, which needs the packages `b` and `a`.
    fn resolved(graph: &Value, args: &Value, dummies: bool) -> Result<Value, String> {
        let name: crate::context::ImageName = "i".parse().unwrap();
        let task = ImageTask {
            name: name.clone(),
            task_id: TaskId::derived(&["i"]),
            definition: json!({ "payload": { "env": { "DOCKER_BUILD_ARGS": args } } }),
            parent: None,
            packages: vec!["b".to_owned(), "a".to_owned()],
        };
        let images = [(name, Resolved::NewTask(task))].into();
        let resolution = Resolution { images, dummies, ..Resolution::default() };
        let resolved = Graph::parse(graph.to_string()).unwrap().resolve(&resolution);
        resolved.map(|text| serde_json::from_str(&text).unwrap()).map_err(|error| error.to_string())
    }

    fn user() -> Value {
        json!({ "label": "user", "task": { "image": "{{#task_id_for_image}}i{{/task_id_for_image}}" } })
    }

    fn package(label: &str) -> Value {
        let cached = json!({ "type": "packages.v1", "name": label, "digest": "0" });
        json!({ "label": label, "attributes": { "cached_task": cached }, "task": {} })
    }

    #[test]
    fn labels_are_references_and_edges() {
        let graph = json!({ "user": user(), "packages-a": package("packages-a"), "packages-b": package("packages-b") });
        let done = resolved(&graph, &json!(r#"{"X":"<x>"}"#), false).unwrap();
        let task = &done["docker-image-i"];
        assert_eq!(task["dependencies"], json!({ "b": "packages-b", "a": "packages-a" }));
        let args = r#"{"X":"<<>x>","DOCKER_IMAGE_PACKAGES":"<b> <a>"}"#;
        assert_eq!(task["task"]["payload"]["env"]["DOCKER_BUILD_ARGS"], json!({ "task-reference": args }));
        let digests = Graph::parse(graph.to_string()).unwrap().package_digests();
        assert_eq!(digests["a"], "packages.v1/packages-a/0");
    }

    #[test]
    fn ids_are_put_in_where_the_graph_has_them() {
        let [a, b] = ["a", "b"].map(|name| TaskId::derived(&[name]).to_string());
        let graph = json!({ ID: user(), &a: package("packages-a"), &b: package("packages-b") });
        let done = resolved(&graph, &json!("{}"), false).unwrap();
        let task = &done[TaskId::derived(&["i"]).as_str()];
        let args = format!(r#"{{"DOCKER_IMAGE_PACKAGES":"{b} {a}"}}"#);
        assert_eq!(task["task"]["payload"]["env"]["DOCKER_BUILD_ARGS"], json!(args));
        assert_eq!(
            (&task["dependencies"], &task["task"]["dependencies"]),
            (&json!({ "b": b, "a": a }), &json!([b, a]))
        );
    }

    #[test]
    fn a_package_that_is_missing_is_named_or_seen() {
        let graph = json!({ ID: user() });
        let error = resolved(&graph, &json!("{}"), false).unwrap_err();
        assert!(
            error.starts_with("the image i needs the package b, but the graph has no task packages-b; "),
            "{error}"
        );
        let done = resolved(&graph, &json!("{}"), true).unwrap();
        assert!(done.to_string().contains("UNKNOWN-TASK-UNKNOWN-A UNKNOWN-TASK-UNKNOWN-A"), "{done}");
        let done = resolved(&json!({ "user": user() }), &json!("{}"), true).unwrap();
        assert_eq!(done["docker-image-i"]["dependencies"]["b"], "packages-b");
        let error = resolved(&graph, &json!("x"), true).unwrap_err();
        assert!(error.contains("/payload/env/DOCKER_BUILD_ARGS is no JSON object"), "{error}");
    }
}
