//! The index: inserting a task under a namespace, and finding it again.

use serde::Deserialize;

use super::{CallError, CallFault, answer, body, call};
use crate::names::{Namespace, TaskId};
use crate::plan::{IndexData, InsertTask};

/// The index of one deployment.
pub struct Index {
    client: taskcluster::Index,
}

/// An entry of the index.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The indexed task.
    pub task_id: TaskId,
    /// Its rank: the push's seconds since 1970, for entries of ours. Others may write any number.
    pub rank: f64,
    /// What was stored with it. Entries of other programs store something else, or nothing.
    pub data: serde_json::Value,
}

impl Entry {
    /// Whether the entry ranks as high as a push, or higher.
    #[must_use]
    pub fn is_at_least(&self, rank: i64) -> bool {
        // Exact: ranks of ours are 32 bit, see `PushDate`.
        #[expect(clippy::cast_precision_loss, reason = "32 bit numbers are exact in a f64")]
        let rank = rank as f64;
        self.rank >= rank
    }

    /// What this program stored with the entry, if it did.
    #[must_use]
    pub fn image(&self) -> Option<IndexData> {
        IndexData::deserialize(&self.data).ok()
    }
}

impl Index {
    pub(super) fn new(client: taskcluster::Index) -> Self {
        Self { client }
    }

    /// The entry of a namespace; none where the index has none, or an expired one.
    pub async fn find_task(&self, namespace: &Namespace) -> Result<Option<Entry>, CallError> {
        const CALL: &str = "index.findTask";
        match call(CALL, namespace.as_str(), || self.client.findTask(namespace.as_str())).await {
            Ok(json) => answer(CALL, namespace.as_str(), json).map(Some),
            Err(error) if error.fault == CallFault::Gone => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Inserts a task. Gives the entry that the index has *after* the call: another one where that ranks higher.
    pub async fn insert_task(&self, insert: &InsertTask) -> Result<Entry, CallError> {
        const CALL: &str = "index.insertTask";
        let target = insert.namespace.as_str();
        let payload = body(&insert.payload);
        let json = call(CALL, target, || self.client.insertTask(target, &payload)).await?;
        answer(CALL, target, json)
    }
}
