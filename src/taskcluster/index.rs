//! The index: inserting a task under a namespace, and finding it again.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use serde::Deserialize;
use tracing::debug;

use super::{CallError, CallErrorKind, answer, body, call};
use crate::net::retry::RetryConfig;
use crate::taskcluster::{IndexData, InsertTask, Namespace, TaskId};

/// The number of namespaces in one call. From 1,000 on the answer comes in pages, and a signed call cannot request the second:
/// the client signs paths without their query (docs/taskcluster.md).
const BATCH: usize = 500;

/// The number of parallel calls if the index has no call for many namespaces: half of the usual number of a look-up, since all of
/// them are for one service, and each is a separate query for its database.
const AT_ONCE: usize = 16;

/// The index of one deployment.
pub struct Index {
    client: taskcluster::Index,
    retry: RetryConfig,
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
    /// When the index forgets it.
    pub expires: Timestamp,
}

/// An entry of the answer about many namespaces.
#[derive(Deserialize)]
struct Indexed {
    namespace: Namespace,
    #[serde(flatten)]
    entry: Entry,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IndexedTasks {
    tasks: Vec<Indexed>,
    continuation_token: Option<String>,
}

impl Entry {
    /// Whether the entry ranks as high as a push, or higher.
    #[must_use]
    pub fn is_at_least(&self, rank: i64) -> bool {
        self.rank >= exact(rank)
    }

    /// Whether the entry ranks higher than a push.
    #[must_use]
    pub fn is_above(&self, rank: i64) -> bool {
        self.rank > exact(rank)
    }

    /// What this program stored with the entry, if it did.
    #[must_use]
    pub fn image(&self) -> Option<IndexData> {
        IndexData::deserialize(&self.data).ok()
    }
}

/// A rank of ours: 32 bit, see `PushDate`.
fn exact(rank: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "32 bit numbers are exact in a f64")]
    let exact = rank as f64;
    exact
}

impl Index {
    pub(super) fn new(client: taskcluster::Index, retry: RetryConfig) -> Self {
        Self { client, retry }
    }

    /// The entry of a namespace; none where the index has none, or an expired one.
    pub async fn find_task(&self, namespace: &Namespace) -> Result<Option<Entry>, CallError> {
        match self.ask(namespace).await {
            Ok(entry) => Ok(Some(entry)),
            Err(error) if error.fault == CallErrorKind::Gone => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn ask(&self, namespace: &Namespace) -> Result<Entry, CallError> {
        const CALL: &str = "index.findTask";
        let json = call(self.retry, CALL, namespace.as_str(), || self.client.findTask(namespace.as_str())).await?;
        answer(CALL, namespace.as_str(), json)
    }

    /// The entries of many namespaces, those that there are. Entries that have expired are among them, until the index
    /// gets round to removing them.
    pub async fn find_tasks(&self, namespaces: &[Namespace]) -> Result<BTreeMap<Namespace, Entry>, CallError> {
        let mut found = BTreeMap::new();
        for batch in namespaces.chunks(BATCH) {
            match self.find_batch(batch).await? {
                Some(entries) => found.extend(entries),
                None => found.extend(self.find_each(batch).await?),
            }
        }
        Ok(found)
    }

    /// One call for all; none if the index has no such call, or would continue in another answer.
    async fn find_batch(&self, namespaces: &[Namespace]) -> Result<Option<BTreeMap<Namespace, Entry>>, CallError> {
        const CALL: &str = "index.findTasksAtIndex";
        let target = match namespaces {
            [only] => only.to_string(),
            _ => format!("{} namespaces", namespaces.len()),
        };
        let payload = serde_json::json!({ "indexes": namespaces });
        let json = match call(self.retry, CALL, &target, || self.client.findTasksAtIndex(&payload, None, None)).await {
            // Namespaces without an entry are left out of an answer: this is about the call itself.
            Err(error) if error.fault == CallErrorKind::Gone => {
                debug!("{error}: asking for each by itself");
                return Ok(None);
            }
            json => json?,
        };
        let answer: IndexedTasks = answer(CALL, &target, json)?;
        let whole = answer.continuation_token.is_none();
        Ok(whole.then(|| answer.tasks.into_iter().map(|found| (found.namespace, found.entry)).collect()))
    }

    /// One call for each. After a 404 for all at once, a 404 without a message of the index does not mean that it has no such
    /// entry: there may be no index at all.
    async fn find_each(&self, namespaces: &[Namespace]) -> Result<BTreeMap<Namespace, Entry>, CallError> {
        let ask = |namespace: Namespace| async move {
            match self.ask(&namespace).await {
                Ok(entry) => Ok(Some((namespace, entry))),
                Err(error) if error.fault == CallErrorKind::Gone && error.spoken => Ok(None),
                Err(error) if error.fault == CallErrorKind::Gone => Err(error.proxy_404()),
                Err(error) => Err(error),
            }
        };
        let entries = stream::iter(namespaces.to_vec()).map(ask).buffer_unordered(AT_ONCE);
        entries.try_filter_map(async |found| Ok(found)).try_collect().await
    }

    /// Inserts a task. Returns the entry that the index has *after* the call: another one if that ranks higher.
    pub async fn insert_task(&self, insert: &InsertTask) -> Result<Entry, CallError> {
        const CALL: &str = "index.insertTask";
        let target = insert.namespace.as_str();
        let payload = body(&insert.payload);
        let json = call(self.retry, CALL, target, || self.client.insertTask(target, &payload)).await?;
        answer(CALL, target, json)
    }
}
