//! What holds for any graph: nothing but templates changes, and no template stays.

use std::ops::Range;

use proptest::prelude::*;

use super::*;

/// A slugid for a number.
fn slugid(number: usize) -> String {
    format!("{number:08}Q0C0000000000A")
}

/// Texts that look like templates, and some that are.
fn text() -> BoxedStrategy<String> {
    let part = prop_oneof![
        10 => "[a-z<>${} ]{0,4}",
        10 => "\\{#task_id_for_image\\}[ab]\\{/task_id_for_image\\}",
        10 => "\\{\\{#docker_image\\}\\} c\\{\\{/docker_image\\}\\}",
        // Halves, unknown images, typos.
        1 => "\\{?\\{[#/](docker_image|task_id_for_image|docker_imag|from_now|x)\\}?\\}c?",
    ];
    prop::collection::vec(part, 0..4).prop_map(|parts| parts.concat()).boxed()
}

fn no_templates() -> BoxedStrategy<String> {
    "[a-z<>$ \n]{0,6}|\\$?\\{\\{?[#/]?(other|x)\\}?\\}".boxed()
}

fn json_of(text: BoxedStrategy<String>) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        4 => text.prop_map(Value::String),
        1 => Just(Value::Null),
        1 => any::<i64>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 20, 4, |inner| {
        let key = "(task|artifact)-reference|[a-e~/<]{1,3}|[x-z]{2}";
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((key, inner), 0..4).prop_map(|pairs| pairs.into_iter().collect()),
        ]
    })
}

/// A graph of some form whose tasks hold these values and wait for some of the tasks before them.
fn graph(form: Form, values: impl IntoIterator<Item = Value>, waits_for: impl Fn(usize) -> Range<usize>) -> Value {
    let task = |value: Value| json!({ "metadata": { "name": "x" }, "payload": value });
    let key = |number| if form == Form::Labels { format!("label/{number}") } else { slugid(number) };
    let tasks = values.into_iter().enumerate();
    if form == Form::Requires {
        let tasks = tasks.map(|(number, value)| {
            let requires: Vec<_> = waits_for(number).map(key).collect();
            json!({ "taskId": key(number), "requires": requires, "task": task(value), "reruns": 1 })
        });
        return json!({ "z": 1, "tasks": tasks.collect::<Value>(), "a": 2 });
    }
    let entry = |(number, value)| {
        let edges: Value = waits_for(number).map(|at| (format!("edge{at}"), json!(key(at)))).collect();
        (key(number), json!({ "z": 1, "dependencies": edges, "task": task(value), "a": 2 }))
    };
    tasks.map(entry).collect()
}

fn form() -> impl Strategy<Value = Form> {
    prop_oneof![Just(Form::Requires), Just(Form::TaskIds), Just(Form::Labels)]
}

/// `a` is made, from `b`, which is one of both; `c` is in a registry.
fn images(b_is_found: bool) -> Resolution {
    let b = if b_is_found { found() } else { made("b", BASE, None) };
    let mut images = resolution([("a", made("a", IMAGE, Some("b"))), ("b", b)]);
    images.references.insert(image("c"), "r/c:1".to_owned());
    images
}

proptest! {
    #[test]
    fn without_templates_a_graph_comes_out_as_it_went_in(
        form in form(),
        values in prop::collection::vec(json_of(no_templates()), 0..4),
    ) {
        let graph = graph(form, values, |number| 0..number);
        let read = Graph::parse(graph.to_string()).unwrap();
        prop_assert_eq!(read.form(), if read.tasks() == 0 && form == Form::TaskIds { Form::Labels } else { form });
        prop_assert_eq!(read.uses().count(), 0);
        prop_assert_eq!(read.resolve(&Resolution::default()).unwrap(), format!("{graph:#}"));
    }

    #[test]
    fn no_template_stays_and_nothing_panics(
        form in form(),
        values in prop::collection::vec(json_of(text()), 0..3),
        b_is_found in any::<bool>(),
    ) {
        let graph = graph(form, values, |number| 0..number);
        let images = images(b_is_found);
        match resolve(graph, &images) {
            Ok(resolved) => {
                let again = Graph::parse(resolved.to_string()).unwrap();
                prop_assert_eq!(again.uses().count(), 0);
                // A resolved graph stays as it is.
                prop_assert_eq!(again.resolve(&images).unwrap(), format!("{resolved:#}"));
            }
            Err(error) => {
                let names_the_place = matches!(error, GraphError::Template { .. } | GraphError::Unresolved { .. });
                prop_assert!(names_the_place && error.to_string().starts_with(['t', 'n']), "{}", error);
            }
        }
    }
}

#[test]
fn five_thousand_tasks_and_two_hundred_images() {
    // Each image is built from the one before: a chain as long as can be.
    let images = (0..200).map(|number| {
        let task = ImageTask {
            name: image(&format!("i{number}")),
            task_id: slugid(100_000 + number).parse().unwrap(),
            definition: json!({ "payload": { "env": {} } }),
            parent: number.checked_sub(1).map(|parent| image(&format!("i{parent}"))),
            packages: Vec::new(),
        };
        (task.name.clone(), Resolved::NewTask(task))
    });
    let resolution = Resolution { images: images.collect(), ..Resolution::default() };
    for form in [Form::Requires, Form::TaskIds, Form::Labels] {
        let values = (0..5_000).map(|number| {
            json!({ "image": { "taskId": format!("{{#task_id_for_image}}i{}{{/task_id_for_image}}", number % 200) } })
        });
        // A chain of dependencies through the whole graph.
        let graph = graph(form, values, |number| number.saturating_sub(1)..number).to_string();
        let graph = Graph::parse(graph).unwrap();
        assert_eq!((graph.form(), graph.tasks(), graph.uses().count()), (form, 5_000, 5_000));
        let resolved = Graph::parse(graph.resolve(&resolution).unwrap()).unwrap();
        assert_eq!((resolved.form(), resolved.tasks(), resolved.uses().count()), (form, 5_200, 0));
    }
}
