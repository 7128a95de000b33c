//! How values on the command line are read that are no settings.

use crate::net::NameError;
use crate::taskcluster::TaskId;

/// A task id, also in the URL of a task's page or log, which is what people have at hand.
pub(super) fn pasted_task_id(text: &str) -> Result<TaskId, NameError> {
    let after = text.split_once("/tasks/").map_or(text, |(_, after)| after);
    after.split(['/', '?', '#']).next().unwrap_or(after).parse()
}

/// `K=V`
pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} has no `=`: expected K=V"))?;
    Ok((key.to_owned(), value.to_owned()))
}
