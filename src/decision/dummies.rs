//! Dummies for values that only a decision task knows, in graphs for inspection: visible, and in the form that the queue expects.
//! The caller reports which values are unknown.

use std::collections::BTreeSet;

use crate::decision::task::{TaskError, Template, Values};

/// A task id that is not the one of an unknown decision task: a definition names no task twice.
const TASK: &str = "UNKNOWN-TASK-UNKNOWN-Q";

/// Gives every placeholder without a value a dummy; returns their names.
pub(super) fn fill(values: &mut Values, template: &Template) -> Result<BTreeSet<String>, TaskError> {
    let unknown: BTreeSet<_> = template.placeholders()?.into_iter().filter(|name| !values.contains_key(name)).collect();
    values.extend(unknown.iter().map(|name| (name.clone(), dummy(name))));
    Ok(unknown)
}

fn dummy(placeholder: &str) -> String {
    match placeholder {
        name if name.ends_with("task_id") => TASK.to_owned(),
        name if name.ends_with("sha256") => "0".repeat(64),
        name if name.ends_with("owner") => format!("UNKNOWN-{name}@example.invalid"),
        name if name.ends_with("source") || name.ends_with("url") => format!("https://example.invalid/UNKNOWN-{name}"),
        name => format!("UNKNOWN-{name}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::taskcluster::TaskId;

    #[test]
    fn only_what_has_no_value_gets_a_dummy() {
        let mut values = Values::from([("worker_type".to_owned(), "images".to_owned())]);
        let template = json!("{{worker_type}} {{scheduler_id}} {{owner}} {{source}} {{x_task_id}} {{x_sha256}}");
        let unknown = fill(&mut values, &Template::new(template)).unwrap();
        assert_eq!(
            unknown.iter().map(String::as_str).collect::<Vec<_>>(),
            ["owner", "scheduler_id", "source", "x_sha256", "x_task_id"]
        );
        assert_eq!(
            (values["worker_type"].as_str(), values["scheduler_id"].as_str()),
            ("images", "UNKNOWN-scheduler_id")
        );
        assert_eq!(values["x_task_id"].parse::<TaskId>().unwrap().as_str(), TASK);
        assert_ne!(TaskId::unknown().as_str(), TASK);
        assert!(values["x_sha256"].parse::<crate::net::Digest>().is_ok());
    }
}
