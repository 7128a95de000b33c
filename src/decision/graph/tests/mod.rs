//! Graphs of all forms, resolved. `template` and `reference` have the tests of single strings, `tests/broken` those of broken
//! graphs.

mod broken;
mod properties;

use serde_json::{Value, json};

use super::*;

const A: &str = "fN1SbArXTPSVFNUvaOlinQ";
const B: &str = "YrdXXIYqTyOzRzRnfHHDxA";
const IMAGE: &str = "Hzt3XMbSQ6aP2tsLXNoIoQ";
const BASE: &str = "KPQ6bpCqTS2z3hH1HRAuFA";
const FOUND: &str = "UHuHqXHxSjuHNX8VQ4_WXQ";

fn image(name: &str) -> ImageName {
    name.parse().unwrap()
}

fn found() -> Resolved {
    Resolved::Existing { task_id: FOUND.parse().unwrap() }
}

fn made(name: &str, id: &str, parent: Option<&str>) -> Resolved {
    Resolved::NewTask(ImageTask {
        name: image(name),
        task_id: id.parse().unwrap(),
        definition: json!({ "payload": { "env": { "IMAGE_NAME": name } }, "dependencies": [A] }),
        parent: parent.map(image),
        packages: Vec::new(),
    })
}

fn resolution(images: impl IntoIterator<Item = (&'static str, Resolved)>) -> Resolution {
    let references = BTreeMap::from([(image("desktop"), "mozilla/desktop:0.1".to_owned())]);
    Resolution {
        images: images.into_iter().map(|(name, resolved)| (image(name), resolved)).collect(),
        references,
        ..Resolution::default()
    }
}

fn uses(graph: impl Into<Value>) -> Result<Vec<Use>, GraphError> {
    Ok(Graph::parse(graph.into().to_string())?.uses().cloned().collect())
}

fn resolve(graph: impl Into<Value>, resolution: &Resolution) -> Result<Value, GraphError> {
    let text = Graph::parse(graph.into().to_string())?.resolve(resolution)?;
    let resolved: Value = serde_json::from_str(&text).unwrap();
    // It is written piece by piece, and looks as if it were not.
    assert_eq!(text, format!("{resolved:#}"));
    Ok(resolved)
}

/// The text, compared with the order of its keys.
fn same(left: &Value, right: &Value) {
    assert_eq!(format!("{left:#}"), format!("{right:#}"));
}

const ID: &str = "{{#task_id_for_image}}builder{{/task_id_for_image}}";

/// An image that is found is rebuilt for later pushes: the graph's tasks use the one that is there.
#[test]
fn tasks_besides_are_added_with_what_they_need_and_nobody_waits_for_them() {
    let new = |name: &str, id: &str, parent| match made(name, id, parent) {
        Resolved::NewTask(task) => task,
        Resolved::Existing { .. } => unreachable!(),
    };
    let graph = json!({ "tasks": [{ "taskId": B, "task": { "image": ID } }] });
    let mut images = resolution([("builder", found()), ("base", made("base", BASE, None))]);
    images.besides = vec![new("builder", IMAGE, Some("base"))];
    let resolved = resolve(graph.clone(), &images).unwrap();
    let tasks = resolved["tasks"].as_array().unwrap();
    assert_eq!((&tasks[0]["task"]["image"], &tasks[0]["task"]["dependencies"]), (&json!(FOUND), &json!([FOUND])));
    let ids: Vec<_> = tasks.iter().map(|task| task["taskId"].as_str().unwrap()).collect();
    assert_eq!(ids, [B, BASE, IMAGE], "its parent first");
    assert_eq!(tasks[2]["task"]["payload"]["env"]["PARENT_TASK_ID"], BASE);
    // One that the graph's tasks use is there once.
    let mut images = resolution([("builder", made("builder", IMAGE, None))]);
    images.besides = vec![new("builder", IMAGE, None)];
    assert_eq!(resolve(graph, &images).unwrap()["tasks"].as_array().unwrap().len(), 2);
}

#[test]
fn uses_name_task_place_image_and_kind() {
    let graph = json!({
        "build": { "task": { "payload": { "image": { "taskId": ID, "type": "task-image" }, "a/b~c": ["", [ID]] } } },
        "test": { "task": { "payload": { "image": "{#docker_image}desktop{/docker_image}" } } },
        "lint": { "task": { "payload": { "image": "debian:12" } } },
    });
    let of = |task: &str, place: &str, name: &str, kind| Use {
        task: task.to_owned(),
        place: place.to_owned(),
        image: image(name),
        kind,
    };
    let expected = [
        of("build", "/payload/image/taskId", "builder", UseKind::TaskId),
        of("build", "/payload/a~1b~0c/1/0", "builder", UseKind::TaskId),
        of("test", "/payload/image", "desktop", UseKind::Reference),
    ];
    assert_eq!(uses(graph).unwrap(), expected);
}

#[test]
fn forms_are_told_apart_by_shape() {
    let form = |graph: Value| Graph::parse(graph.to_string()).map(|graph| (graph.form(), graph.tasks())).unwrap();
    assert_eq!(form(json!({ "tasks": [] })), (Form::Requires, 0));
    assert_eq!(form(json!({ "scopes": ["a"], "tasks": [{ "taskId": A, "task": {} }] })), (Form::Requires, 1));
    assert_eq!(form(json!({})), (Form::Labels, 0));
    assert_eq!(form(json!({ "a": { "task": {} }, "b": { "task": {}, "dependencies": null } })), (Form::Labels, 2));
    assert_eq!(form(json!({ A: { "label": "a", "task": {} } })), (Form::TaskIds, 1));
    assert_eq!(form(json!({ A: { "task": {} } })), (Form::TaskIds, 1));
    // Labels that look like something else.
    assert_eq!(form(json!({ "tasks": { "task": {} } })), (Form::Labels, 1));
    assert_eq!(form(json!({ A: { "label": A, "task": {} }, "b": { "task": {} } })), (Form::Labels, 2));
}

#[test]
fn gecko_2015() {
    let graph = json!({
        "metadata": { "name": "push" },
        "tasks": [
            { "taskId": A, "task": { "payload": { "image": { "taskId": ID }, "env": { "AGAIN": ID } } }, "reruns": 3 },
            { "taskId": B, "requires": [A], "task": { "payload": { "image": ID }, "dependencies": [A] } },
        ],
        "scopes": ["queue:*"],
    });
    let mut made = resolution([("builder", made("builder", IMAGE, Some("base"))), ("base", made("base", BASE, None))]);
    // The decision task, which is not in the graph.
    for resolved in made.images.values_mut() {
        let Resolved::NewTask(task) = resolved else { panic!("{resolved:?} is made") };
        task.definition["dependencies"] = json!(["VBqLkL6hTiqUHP2ZJEF0gA"]);
    }
    let expected = json!({
        "metadata": { "name": "push" },
        "tasks": [
            {
                "taskId": A,
                "task": {
                    "payload": { "image": { "taskId": IMAGE }, "env": { "AGAIN": IMAGE } },
                    "dependencies": [IMAGE],
                },
                "reruns": 3,
                "requires": [IMAGE],
            },
            {
                "taskId": B,
                "requires": [A, IMAGE],
                "task": { "payload": { "image": IMAGE }, "dependencies": [A, IMAGE] },
            },
            {
                "taskId": BASE,
                "task": {
                    "payload": { "env": { "IMAGE_NAME": "base" } },
                    "dependencies": ["VBqLkL6hTiqUHP2ZJEF0gA"],
                },
                "requires": [],
            },
            {
                "taskId": IMAGE,
                "task": {
                    "payload": { "env": { "IMAGE_NAME": "builder", "PARENT_TASK_ID": BASE } },
                    "dependencies": ["VBqLkL6hTiqUHP2ZJEF0gA", BASE],
                },
                "requires": [BASE],
            },
        ],
        "scopes": ["queue:*"],
    });
    same(&resolve(graph.clone(), &made).unwrap(), &expected);

    let found = resolve(graph, &resolution([("builder", found())])).unwrap();
    let expected = json!({
        "metadata": { "name": "push" },
        "tasks": [
            {
                "taskId": A,
                "task": {
                    "payload": { "image": { "taskId": FOUND }, "env": { "AGAIN": FOUND } },
                    "dependencies": [FOUND],
                },
                "reruns": 3,
            },
            {
                "taskId": B,
                "requires": [A],
                "task": { "payload": { "image": FOUND }, "dependencies": [A, FOUND] },
            },
        ],
        "scopes": ["queue:*"],
    });
    same(&found, &expected);
}

#[test]
fn taskgraph_with_task_ids() {
    let graph = json!({
        A: { "label": "toolchain", "task": {}, "dependencies": {} },
        B: { "label": "build", "dependencies": { "toolchain": A }, "task": { "payload": [ID, "<{x}>"] } },
    });
    let made = resolution([("builder", made("builder", IMAGE, Some("base"))), ("base", made("base", BASE, None))]);
    let image_task = |label: &str, name: &str, id: &str, edges: Value, task: Value| {
        json!({
            "kind": "docker-image",
            "label": label,
            "description": format!("Build the docker image {name} for use by dependent tasks"),
            "attributes": { "image_name": name, "kind": "docker-image" },
            "dependencies": edges,
            "soft_dependencies": [],
            "if_dependencies": [],
            "optimization": null,
            "task": task,
            "task_id": id,
        })
    };
    let base = json!({ "payload": { "env": { "IMAGE_NAME": "base" } }, "dependencies": [A] });
    let builder = json!({
        "payload": { "env": { "IMAGE_NAME": "builder", "PARENT_TASK_ID": BASE } },
        "dependencies": [A, BASE],
    });
    let expected = json!({
        A: { "label": "toolchain", "task": {}, "dependencies": {} },
        B: {
            "label": "build",
            "dependencies": { "toolchain": A, "docker-image-builder": IMAGE },
            "task": { "payload": [IMAGE, "<{x}>"], "dependencies": [IMAGE] },
        },
        BASE: image_task("docker-image-base", "base", BASE, json!({}), base),
        IMAGE: image_task("docker-image-builder", "builder", IMAGE, json!({ "parent": BASE }), builder),
    });
    same(&resolve(graph.clone(), &made).unwrap(), &expected);

    let resolved = resolve(graph, &resolution([("builder", found())])).unwrap();
    assert_eq!(resolved[B]["task"], json!({ "payload": [FOUND, "<{x}>"], "dependencies": [FOUND] }));
    assert_eq!(resolved[B]["dependencies"], json!({ "toolchain": A }));
    assert_eq!(resolved.as_object().unwrap().len(), 2);
}

#[test]
fn taskgraph_with_labels() {
    let reference = format!("<self> < {ID}");
    let graph = json!({
        "build": {
            "label": "build",
            "task": { "payload": {
                "image": { "taskId": ID, "type": "task-image" },
                "command": [format!("a <b> {ID} {{{{#docker_image}}}}desktop{{{{/docker_image}}}}")],
                "env": { "X": { "task-reference": reference }, "Y": { "task-reference": { "<self>": ID } } },
            } },
        },
    });
    let resolved = made("builder", IMAGE, Some("base"));
    let both = resolution([("builder", resolved.clone()), ("base", made("base", BASE, None))]);
    let result = resolve(graph.clone(), &both).unwrap();
    let id = json!({ "task-reference": "<docker-image-builder>" });
    let expected = json!({
        "label": "build",
        "task": { "payload": {
            "image": { "taskId": id, "type": "task-image" },
            "command": [{ "task-reference": "a <<>b> <docker-image-builder> mozilla/desktop:0.1" }],
            "env": {
                "X": { "task-reference": "<self> <<> <docker-image-builder>" },
                "Y": { "task-reference": { "<self>": id } },
            },
        } },
        "dependencies": { "docker-image-builder": "docker-image-builder" },
    });
    same(&result["build"], &expected);
    let keys: Vec<_> = result.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["build", "docker-image-base", "docker-image-builder"]);
    let builder = &result["docker-image-builder"];
    assert_eq!(builder["dependencies"], json!({ "parent": "docker-image-base" }));
    let env = json!({ "IMAGE_NAME": "builder", "PARENT_TASK_ID": { "task-reference": "<parent>" } });
    assert_eq!(builder["task"], json!({ "payload": { "env": env }, "dependencies": [A] }));
    assert_eq!(builder.get("task_id"), None);

    let result = resolve(graph.clone(), &resolution([("builder", resolved), ("base", found())])).unwrap();
    let builder = &result["docker-image-builder"];
    assert_eq!(builder["dependencies"], json!({}));
    let env = json!({ "IMAGE_NAME": "builder", "PARENT_TASK_ID": FOUND });
    assert_eq!(builder["task"], json!({ "payload": { "env": env }, "dependencies": [A, FOUND] }));

    let result = resolve(graph, &resolution([("builder", found())])).unwrap();
    let expected = json!({
        "label": "build",
        "task": {
            "payload": {
                "image": { "taskId": FOUND, "type": "task-image" },
                "command": [format!("a <b> {FOUND} mozilla/desktop:0.1")],
                "env": {
                    "X": { "task-reference": format!("<self> < {FOUND}") },
                    "Y": { "task-reference": { "<self>": FOUND } },
                },
            },
            "dependencies": [FOUND],
        },
    });
    same(&result["build"], &expected);
}

#[test]
fn taskgraph_adds_the_decision_task_by_itself() {
    let mut images = resolution([("builder", made("builder", IMAGE, None))]);
    let Some(Resolved::NewTask(task)) = images.images.get_mut(&image("builder")) else { panic!("it is made") };
    task.definition["taskGroupId"] = json!(FOUND);
    task.definition["dependencies"] = json!([FOUND, A]);
    let labels = resolve(json!({ "t": { "task": { "image": ID } } }), &images).unwrap();
    assert_eq!(labels["docker-image-builder"]["task"]["dependencies"], json!([A]));
    // Nothing adds it to a task that has its id.
    let ids = resolve(json!({ B: { "task": { "image": ID } } }), &images).unwrap();
    assert_eq!(ids[IMAGE]["task"]["dependencies"], json!([FOUND, A]));
}

#[test]
fn only_what_is_needed_is_made() {
    let graph = || json!({ "t": { "task": { "image": "{#task_id_for_image}child{/task_id_for_image}" } } });
    let keys = |resolution| {
        let keys: Vec<_> = resolve(graph(), &resolution).unwrap().as_object().unwrap().keys().cloned().collect();
        keys.join(" ")
    };
    let child = made("child", IMAGE, Some("base"));
    let base = made("base", BASE, None);
    // The parent of an existing image need not exist any more.
    assert_eq!(keys(resolution([("child", found()), ("base", base.clone())])), "t");
    assert_eq!(keys(resolution([("child", child.clone()), ("base", found())])), "t docker-image-child");
    let other = made("other", B, None);
    assert_eq!(
        keys(resolution([("child", child), ("base", base), ("other", other)])),
        "t docker-image-base docker-image-child"
    );
}

#[test]
fn what_is_there_already_is_not_added_again() {
    let image = json!({ "taskId": ID });
    let labels = json!({ "t": {
        "dependencies": { "docker-image-builder": "docker-image-builder" },
        "task": { "dependencies": ["x", null], "image": image },
    } });
    let result = resolve(labels, &resolution([("builder", made("builder", IMAGE, None))])).unwrap();
    assert_eq!(result["t"]["dependencies"], json!({ "docker-image-builder": "docker-image-builder" }));
    let listed =
        json!({ "tasks": [{ "taskId": B, "requires": null, "task": { "dependencies": [FOUND], "image": image } }] });
    let result = resolve(listed.clone(), &resolution([("builder", found())])).unwrap();
    assert_eq!(result["tasks"][0]["task"]["dependencies"], json!([FOUND]));
    assert_eq!(result["tasks"][0]["requires"], Value::Null);
    let result = resolve(listed, &resolution([("builder", made("builder", IMAGE, None))])).unwrap();
    assert_eq!(result["tasks"][0]["requires"], json!([IMAGE]));
    assert_eq!(result["tasks"][0]["task"]["dependencies"], json!([FOUND, IMAGE]));
}

#[test]
fn registry_images_add_nothing_but_their_reference() {
    let text = "x {{#docker_image}}desktop{{/docker_image}} <y>";
    let result = resolve(json!({ "t": { "task": { "a": text } } }), &resolution([])).unwrap();
    assert_eq!(result, json!({ "t": { "task": { "a": "x mozilla/desktop:0.1 <y>" } } }));
}
