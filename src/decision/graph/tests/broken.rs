//! Broken graphs and their errors. `template` has the tests of mistakes inside one string.

use super::*;

/// The error of reading a graph, or of finding what it uses.
fn refused(graph: Value) -> String {
    one_line(&uses(graph).unwrap_err())
}

fn unresolved(graph: Value, resolution: &Resolution) -> String {
    one_line(&resolve(graph, resolution).unwrap_err())
}

fn one_line(error: &GraphError) -> String {
    let text = error.to_string();
    assert!(!text.contains('\n') && text.len() < 480, "{text}");
    // The line contains the cause, so it is not repeated as a source.
    assert!(std::error::Error::source(error).is_none());
    text
}

#[test]
fn what_is_no_graph() {
    for (graph, expected) in [
        (json!(null), "it is empty"),
        (json!([]), "it is a list"),
        (json!("x"), "it is a single value"),
        (json!({ "tasks": {} }), "its `tasks` is no list"),
        (json!({ "payload": {}, "metadata": {} }), "no task in `payload`, `metadata`"),
    ] {
        let error = refused(graph);
        assert!(error.starts_with("the graph is neither `{\"tasks\": [{\"taskId\""), "{error}");
        assert!(error.ends_with(expected), "{error}");
    }
}

#[test]
fn mixed_forms() {
    let task = json!({ "task": {} });
    for (graph, expected) in [
        (json!({ "tasks": [], "build": task }), "`build` is a task of taskgraph's form, and the graph has a list"),
        (
            json!({ "tasks": [{ "taskId": A, "task": {}, "dependencies": {} }] }),
            "/tasks/0/dependencies is of taskgraph's form, and the graph has a list of `tasks`",
        ),
        (
            json!({ "a": { "task": {}, "requires": [] } }),
            "/requires of task a is of the form with a list of `tasks`, and the graph is an object",
        ),
        (json!({ "a": { "task": {}, "taskId": A } }), "/taskId of task a is of the form"),
        (json!({ "a": task, B: task }), "the key `YrdXXIYqTyOzRzRnfHHDxA` is a task id, and the key `a` is a label"),
    ] {
        let error = refused(graph);
        assert!(error.starts_with("the graph mixes two forms: ") && error.contains(expected), "{error}");
    }
}

#[test]
fn tasks_of_another_shape() {
    let named = json!({ "metadata": { "name": "build" }, "dependencies": "x" });
    for (graph, expected) in [
        (json!({ "tasks": [3] }), "task /tasks/0: it is no object"),
        (json!({ "tasks": [{ "task": {} }] }), "task /tasks/0: /taskId is missing, or is no text"),
        (
            json!({ "tasks": [{ "taskId": "a", "task": {} }] }),
            "task /tasks/0: /taskId is wrong: \"a\" is not a task id",
        ),
        (json!({ "tasks": [{ "taskId": A }] }), "task fN1SbArXTPSVFNUvaOlinQ: /task is missing, or is no object"),
        (
            json!({ "tasks": [{ "taskId": A, "task": named }] }),
            "task fN1SbArXTPSVFNUvaOlinQ (build): /task/dependencies is no list",
        ),
        (
            json!({ "tasks": [{ "taskId": A, "task": {}, "requires": [1] }] }),
            "task fN1SbArXTPSVFNUvaOlinQ: /requires is no list of task ids",
        ),
        (
            json!({ "tasks": [{ "taskId": A, "task": {} }, { "taskId": A, "task": {} }] }),
            "task fN1SbArXTPSVFNUvaOlinQ: /taskId stands in two tasks",
        ),
        (json!({ "a": { "task": {} }, "b\n": [] }), "task b\\n: it is no object"),
        (json!({ "a": { "task": {} }, "b": {} }), "task b: /task is missing, or is no object"),
        (json!({ "a": { "task": {}, "dependencies": ["b"] } }), "task a: /dependencies is no object"),
        (json!({ "a": { "task": {}, "label": "b" } }), "task a: /label is not the key that the task stands under"),
    ] {
        let error = refused(graph);
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn what_json_allows_and_nothing_can_hold() {
    let error_of = |graph: &str| one_line(&Graph::parse(graph.to_owned()).unwrap_err());
    for (graph, expected) in [
        (r#"{"tasks":[{"taskId":"x","task":{"n":1e999}}]}"#, "task /tasks/0: it cannot be read: number out of range"),
        (r#"{"a":{"task":{"n":"\ud800"}}}"#, "task a: it cannot be read: "),
        (r#"{"tasks":[],"n":-1e999}"#, "task `n`: it cannot be read: number out of range"),
    ] {
        let error = error_of(graph);
        assert!(error.starts_with(expected) && !error.contains(" line "), "{error}");
    }
    let deep = format!(r#"{{"a":{{"task":{{"n":{}{}}}}}}}"#, "[".repeat(1000), "]".repeat(1000));
    assert_eq!(error_of(&deep), "task a: it cannot be read: recursion limit exceeded");
}

#[test]
fn of_equal_labels_the_last_counts() {
    let graph = r#"{"a":{"task":{"n":1}},"b":{"task":{}},"a":{"task":{"n":2}}}"#.to_owned();
    let resolved = Graph::parse(graph).unwrap().resolve(&Resolution::default()).unwrap();
    let expected = json!({ "b": { "task": {} }, "a": { "task": { "n": 2 } } });
    assert_eq!(resolved, format!("{expected:#}"));
}

#[test]
fn dangling_requirements_name_both() {
    let graph = json!({ "tasks": [{ "taskId": A, "task": { "metadata": { "name": "build" } }, "requires": [B] }] });
    let expected = "task fN1SbArXTPSVFNUvaOlinQ (build) requires YrdXXIYqTyOzRzRnfHHDxA, which is not in the graph";
    assert!(refused(graph).starts_with(expected));
    // taskgraph's dependencies may be outside.
    assert_eq!(uses(json!({ "a": { "task": {}, "dependencies": { "b": "b" } } })).unwrap(), []);
}

#[test]
fn mistakes_in_templates_name_task_and_place() {
    let typo = "{{#docker_imaeg}}a{{/docker_image}}";
    let listed = json!({ "tasks": [{ "taskId": A, "task": { "payload": { "x/y": [typo] } } }] });
    let expected =
        "task fN1SbArXTPSVFNUvaOlinQ, /payload/x~1y/0: `{{#docker_imaeg}}` looks like a mistyped `docker_image`";
    assert_eq!(refused(listed), expected);
    let named =
        json!({ A: { "label": "build/opt", "task": { "payload": { "image": "{#docker_image}{/docker_image}" } } } });
    let expected =
        "task fN1SbArXTPSVFNUvaOlinQ (build/opt), /payload/image: `{#docker_image}` has no name of an image behind it";
    assert_eq!(refused(named), expected);
    let long = json!({ "a".repeat(1000): { "task": { "b".repeat(1000): typo } } });
    assert!(refused(long).ends_with("`docker_image`"));
}

#[test]
fn templates_where_none_is_filled_in() {
    for key in [ID, "{{#docker_image}}", "{{#docker_imaeg}}a{{/docker_imaeg}}"] {
        let error = refused(json!({ "t": { "task": { "payload": { key: 1 } } } }));
        assert_eq!(
            error,
            format!("task t, /payload: a template in the key `{key}`: templates are filled in only in values")
        );
    }
    assert!(refused(json!({ "t": { "task": { ID: 1 } } })).starts_with("task t, /: a template in the key"));
    let error = refused(json!({ "t": { "task": {}, "attributes": { "image": ID } } }));
    assert!(error.starts_with("/attributes/image of task t is outside the task's definition"), "{error}");
    assert!(error.contains(ID), "{error}");
    let error = refused(json!({ "metadata": { "x": "{#docker_imaeg}" }, "tasks": [] }));
    assert!(error.starts_with("/metadata/x of the graph is outside"), "{error}");
    assert!(refused(json!({ ID: { "task": {} } })).starts_with("/ of the graph is outside"));
}

#[test]
fn ids_that_are_not_known_go_only_into_task_references() {
    for around in ["artifact-reference", "relative-datestamp"] {
        let graph = || json!({ "t": { "task": { "a": { "b": { around: ID } } } } });
        let error = unresolved(graph(), &resolution([("builder", made("builder", IMAGE, None))]));
        let place = format!("task t, /a/b/{around}: the task of builder gets its id from taskgraph");
        assert!(error.starts_with(&place) && error.contains(&format!("`{around}`")), "{error}");
        assert!(resolve(graph(), &resolution([("builder", found())])).is_ok());
    }
}

#[test]
fn places_that_are_taken() {
    let uses = json!({ "image": ID });
    let resolution = resolution([("builder", made("builder", IMAGE, None))]);
    for (graph, taken) in [
        (json!({ "t": { "task": uses }, "docker-image-builder": { "task": {} } }), "task docker-image-builder"),
        (
            json!({ A: { "task": uses }, B: { "label": "docker-image-builder", "task": {} } }),
            "task YrdXXIYqTyOzRzRnfHHDxA (docker-image-builder)",
        ),
        (json!({ A: { "task": uses }, IMAGE: { "task": {} } }), "task Hzt3XMbSQ6aP2tsLXNoIoQ"),
        (
            json!({ "tasks": [{ "taskId": A, "task": uses }, { "taskId": IMAGE, "task": {} }] }),
            "task Hzt3XMbSQ6aP2tsLXNoIoQ",
        ),
        (
            json!({ "t": { "task": uses, "dependencies": { "docker-image-builder": "x" } } }),
            "the edge docker-image-builder of task t",
        ),
    ] {
        let error = unresolved(graph, &resolution);
        assert!(error.starts_with(&format!("the graph has {taken} already")), "{error}");
        assert!(error.contains("makes the image builder"), "{error}");
    }
}

#[test]
fn two_images_cannot_have_one_task_id() {
    let images = resolution([("builder", made("builder", IMAGE, Some("base"))), ("base", made("base", IMAGE, None))]);
    let error = unresolved(json!({ "tasks": [{ "taskId": B, "task": { "image": ID } }] }), &images);
    assert!(error.starts_with("the graph has task docker-image-base already"), "{error}");
}

#[test]
fn cycles_are_written_out() {
    let builder = resolution([("builder", made("builder", IMAGE, None))]);
    // The image's definition depends on the task that wants to use it.
    let listed = json!({ "tasks": [{ "taskId": A, "task": { "metadata": { "name": "decision" }, "image": ID } }] });
    let expected = format!(
        "tasks of the graph wait for each other: {A} (decision) -> {IMAGE} -> {A} (decision); take one of these \
         dependencies out"
    );
    assert_eq!(unresolved(listed, &builder), expected);
    let ids = json!({
        A: { "label": "toolchain", "task": {}, "dependencies": { "b": B } },
        B: { "label": "build", "task": { "image": ID } },
    });
    let expected = format!("{A} (toolchain) -> {B} (build) -> {IMAGE} (docker-image-builder) -> {A} (toolchain);");
    assert!(unresolved(ids, &builder).contains(&expected));
    let labels = json!({ "a": { "task": {}, "dependencies": { "x": "a" } } });
    assert!(unresolved(labels, &builder).contains(": a -> a;"));
    let long =
        (0..9).map(|n| (n.to_string(), json!({ "task": {}, "dependencies": { "x": ((n + 1) % 9).to_string() } })));
    assert!(unresolved(long.collect(), &builder).contains("0 -> 1 -> 2 -> 3 -> 4 -> 4 more -> 0;"));
    // A task that names itself in its definition must be scheduled by hand.
    let by_hand = json!({ "tasks": [{ "taskId": A, "task": { "dependencies": [A] } }] });
    assert!(resolve(by_hand, &builder).is_ok());
}

#[test]
fn images_that_are_their_own_ancestors() {
    let images = [("builder", made("builder", IMAGE, Some("base"))), ("base", made("base", BASE, Some("builder")))];
    let error = unresolved(json!({ "t": { "task": { "image": ID } } }), &resolution(images));
    assert!(error.contains("images builder -> base -> builder;"), "{error}");
}

#[test]
fn images_that_nobody_looked_up() {
    let graph = || json!({ "t": { "task": { "a": ID } } });
    let expected = "nobody knows the image builder that task t, /a needs: it was not looked up";
    assert_eq!(unresolved(graph(), &resolution([])), expected);
    let orphan = resolution([("builder", made("builder", IMAGE, Some("base")))]);
    assert!(unresolved(graph(), &orphan).starts_with("nobody knows the image base that the image builder needs"));
    let reference = json!({ "t": { "task": { "a": "{#docker_image}x{/docker_image}" } } });
    assert!(unresolved(reference, &resolution([])).starts_with("nobody knows the image x that task t, /a needs"));
}

#[test]
fn definitions_without_room_for_what_must_be_in_them() {
    let mut images = resolution([("builder", made("builder", IMAGE, Some("base"))), ("base", found())]);
    for (definition, expected) in [
        (json!([]), "the definition of the task that makes the image builder: it is no object"),
        (json!({ "payload": {} }), "the image builder: /payload/env is no object"),
        (json!({ "payload": { "env": {} }, "dependencies": 3 }), "/task/dependencies is no list"),
    ] {
        let Some(Resolved::NewTask(task)) = images.images.get_mut(&image("builder")) else { panic!("it is made") };
        task.definition = definition;
        let error = unresolved(json!({ "t": { "task": { "image": ID } } }), &images);
        assert!(error.contains(expected), "{error}");
    }
}
