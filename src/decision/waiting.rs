//! The properties that an image's task inherits from the tasks that wait for it: owner, priority, and lifetime. `decision` has
//! the others.

use jiff::{SignedDuration, Timestamp};

use super::Definition;
use crate::decision::task::Values;
use crate::taskcluster::{TaskId, TimeSpan};

/// taskgraph's own default for a task's deadline and expiry, used if no waiting task has one.
const DEADLINE: SignedDuration = SignedDuration::from_hours(24);
const EXPIRY: SignedDuration = SignedDuration::from_hours(28 * 24);

/// The queue's priorities, the lowest first. `normal` is the old name of `lowest`.
const PRIORITIES: [&str; 8] = ["normal", "lowest", "very-low", "low", "medium", "high", "very-high", "highest"];

/// The members of definitions that are read here.
pub(super) const INHERITED: [&str; 8] =
    ["created", "deadline", "expires", "metadata", "priority", "routes", "schedulerId", "taskGroupId"];

/// When a waiting task must be resolved, which is how long its image must live.
#[must_use]
pub fn deadline(definition: &Definition, now: Timestamp) -> Option<Timestamp> {
    time(definition, "deadline", now)
}

/// A time in a definition: one of the calendar, or of taskgraph's `{"relative-datestamp": "1 day"}`.
fn time(definition: &Definition, property: &str, now: Timestamp) -> Option<Timestamp> {
    let value = definition.get(property)?;
    match value.get("relative-datestamp") {
        Some(relative) => relative.as_str()?.parse().ok().map(|span: TimeSpan| span.after(now)),
        None => value.as_str()?.parse().ok(),
    }
}

/// The values that an image task shares with the tasks that wait for it: the highest priority, the latest deadline and expiry,
/// and the owner of the first of them.
#[must_use]
pub fn shared(waiting: &[&Definition], decision_task: &TaskId, now: Timestamp) -> Values {
    let first = |property: &str| waiting.iter().find_map(|task| Some(task.get(property)?.as_str()?.to_owned()));
    let metadata =
        |name: &str| waiting.iter().find_map(|task| Some(task.get("metadata")?.get(name)?.as_str()?.to_owned()));
    let latest = |property: &str, default| {
        let latest = waiting.iter().filter_map(|task| time(task, property, now)).max();
        latest.or_else(|| now.checked_add(default).ok()).unwrap_or(now)
    };
    let rank = |priority: &&str| PRIORITIES.iter().position(|known| known == priority);
    let priority = waiting.iter().filter_map(|task| task.get("priority")?.as_str()).max_by_key(rank);
    let deadline = latest("deadline", DEADLINE);
    let mut values: Values = [
        ("decision_task_id", decision_task.to_string()),
        ("task_group_id", first("taskGroupId").unwrap_or_else(|| decision_task.to_string())),
        ("priority", priority.unwrap_or("lowest").to_owned()),
        // The same as theirs, so that a second run of the decision task makes the same tasks.
        (
            "created",
            crate::taskcluster::to_milliseconds(
                waiting.iter().find_map(|task| time(task, "created", now)).unwrap_or(now),
            ),
        ),
        ("deadline", crate::taskcluster::to_milliseconds(deadline)),
        ("expires", crate::taskcluster::to_milliseconds(latest("expires", EXPIRY).max(deadline))),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let known = [
        ("scheduler_id", first("schedulerId")),
        ("owner", metadata("owner")),
        ("source", metadata("source")),
        ("revision", waiting.iter().find_map(|task| revision(task))),
    ];
    values.extend(known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    values
}

/// The revision that a task's Treeherder route names: `tc-treeherder.v2.PROJECT.REVISION`.
fn revision(definition: &Definition) -> Option<String> {
    let routes = definition.get("routes")?.as_array()?;
    let of_treeherder = routes.iter().filter_map(|route| route.as_str()?.strip_prefix("tc-treeherder.v2."));
    of_treeherder.filter_map(|route| route.split('.').nth(1)).map(str::to_owned).next()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const DECISION: &str = "fN1SbArXTPSVFNUvaOlinQ";

    fn now() -> Timestamp {
        "2026-11-23T07:00:00Z".parse().unwrap()
    }

    #[test]
    fn times_are_the_calendars_or_from_now() {
        let task = json!({ "a": "2026-11-24T00:00:00.000Z", "b": { "relative-datestamp": "2 days" }, "c": "soon" });
        let task = task.as_object().unwrap();
        assert_eq!(time(task, "a", now()), "2026-11-24T00:00:00Z".parse().ok());
        assert_eq!(time(task, "b", now()), "2026-11-25T07:00:00Z".parse().ok());
        assert_eq!((time(task, "c", now()), time(task, "d", now())), (None, None));
    }

    #[test]
    fn an_image_task_is_as_urgent_as_the_most_urgent_that_waits_for_it() {
        let waiting = [
            json!({ "priority": "low", "deadline": { "relative-datestamp": "1 day" }, "metadata": { "owner": "a@example.com" },
                    "routes": ["index.x", "tc-treeherder.v2.try.abcdef.3"] }),
            json!({ "priority": "very-high", "expires": "2027-11-23T07:00:00.000Z", "schedulerId": "gecko-level-3" }),
        ];
        let values =
            shared(&waiting.iter().filter_map(Value::as_object).collect::<Vec<_>>(), &DECISION.parse().unwrap(), now());
        let value = |name: &str| values.get(name).map(String::as_str);
        assert_eq!(value("priority"), Some("very-high"));
        assert_eq!(value("deadline"), Some("2026-11-24T07:00:00.000Z"));
        assert_eq!(value("expires"), Some("2027-11-23T07:00:00.000Z"));
        assert_eq!(value("owner"), Some("a@example.com"));
        assert_eq!(value("scheduler_id"), Some("gecko-level-3"));
        assert_eq!(value("revision"), Some("abcdef"));
        assert_eq!(value("task_group_id"), Some(DECISION));
        assert_eq!(value("source"), None);
    }
}
