//! The index: inserting a task under a namespace, finding it again, and listing what is below a namespace.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
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

/// The most pages of one list, of 1,000 rows each: no image has that many pushes in a year. More come only from a service that
/// repeats itself.
const MOST_PAGES: usize = 100;

/// How long the signed URL of a page is valid: more than all tries of a call take.
const PAGE_URL_VALID: Duration = Duration::from_mins(15);

/// The index of one deployment.
pub struct Index {
    client: taskcluster::Index,
    /// A client that does not sign, if the other one does.
    unsigned: Option<taskcluster::Index>,
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

/// A page of a list.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<T> {
    #[serde(alias = "tasks", alias = "namespaces")]
    rows: Vec<T>,
    continuation_token: Option<String>,
}

/// A namespace in the list of those below another.
#[derive(Deserialize)]
struct Below {
    name: String,
}

/// The lists that the index has of a namespace.
#[derive(Clone, Copy)]
enum List {
    Tasks,
    Namespaces,
}

impl List {
    fn call(self) -> &'static str {
        match self {
            Self::Tasks => "index.listTasks",
            Self::Namespaces => "index.listNamespaces",
        }
    }
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
    pub(super) fn new(client: taskcluster::Index, unsigned: Option<taskcluster::Index>, retry: RetryConfig) -> Self {
        Self { client, unsigned, retry }
    }

    /// The entry of a namespace; none where the index has none, or an expired one.
    pub async fn find_task(&self, namespace: &Namespace) -> Result<Option<Entry>, CallError> {
        match self.ask(namespace).await {
            Ok(entry) => Ok(Some(entry)),
            Err(error) if error.kind == CallErrorKind::Gone => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn ask(&self, namespace: &Namespace) -> Result<Entry, CallError> {
        const CALL: &str = "index.findTask";
        let call =
            async || call(self.retry, CALL, namespace.as_str(), || self.client.findTask(namespace.as_str())).await;
        let json = match call().await {
            // A 404 that broke off looks the same as one without a message. Here a 404 is a usual answer.
            Err(error) if error.is_unknown_call => call().await?,
            json => json?,
        };
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
            Err(error) if error.kind == CallErrorKind::Gone || error.is_unknown_call => {
                debug!("{error}: asking for each by itself");
                return Ok(None);
            }
            json => json?,
        };
        let answer: IndexedTasks = answer(CALL, &target, json)?;
        let whole = answer.continuation_token.is_none();
        Ok(whole.then(|| answer.tasks.into_iter().map(|found| (found.namespace, found.entry)).collect()))
    }

    /// One call for each.
    async fn find_each(&self, namespaces: &[Namespace]) -> Result<BTreeMap<Namespace, Entry>, CallError> {
        let ask = |namespace: Namespace| async move {
            Ok::<_, CallError>(self.find_task(&namespace).await?.map(|entry| (namespace, entry)))
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

    /// The entries directly below a namespace, without expired ones.
    pub async fn list_tasks(&self, namespace: &Namespace) -> Result<Vec<(Namespace, Entry)>, CallError> {
        let rows: Vec<Indexed> = self.rows(List::Tasks, namespace).await?;
        Ok(rows.into_iter().map(|row| (row.namespace, row.entry)).collect())
    }

    /// The names of the namespaces directly below a namespace: the last part of each.
    pub async fn list_namespaces(&self, namespace: &Namespace) -> Result<Vec<String>, CallError> {
        let rows: Vec<Below> = self.rows(List::Namespaces, namespace).await?;
        Ok(rows.into_iter().map(|row| row.name).collect())
    }

    /// All rows of a list, page by page.
    async fn rows<T: DeserializeOwned>(&self, list: List, namespace: &Namespace) -> Result<Vec<T>, CallError> {
        let (mut rows, mut token) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            let target = namespace.as_str();
            let json = call(self.retry, list.call(), target, || self.page(list, target, token.as_deref())).await?;
            let page: Page<T> = answer(list.call(), target, json)?;
            rows.extend(page.rows);
            token = page.continuation_token;
            if token.is_none() {
                return Ok(rows);
            }
        }
        Err(CallError::endless(list.call(), namespace.as_str(), MOST_PAGES))
    }

    /// One page. The client signs paths without their query, which from the second page on has the token: there the URL is signed
    /// as a whole.
    async fn page(&self, list: List, target: &str, token: Option<&str>) -> Result<serde_json::Value, anyhow::Error> {
        let (Some(unsigned), Some(token)) = (&self.unsigned, token) else {
            return match list {
                List::Tasks => self.client.listTasks(target, token, None).await,
                List::Namespaces => self.client.listNamespaces(target, token, None).await,
            };
        };
        let signed = match list {
            List::Tasks => self.client.listTasks_signed_url(target, Some(token), None, PAGE_URL_VALID)?,
            List::Namespaces => self.client.listNamespaces_signed_url(target, Some(token), None, PAGE_URL_VALID)?,
        };
        let url = reqwest::Url::parse(&signed)?;
        let bewit = url.query_pairs().find(|(name, _)| name == "bewit").map(|(_, bewit)| bewit.into_owned());
        let query = vec![("continuationToken", token), ("bewit", bewit.as_deref().unwrap_or_default())];
        let path = url.path().split_once("/index/v1/").map_or("", |(_, path)| path);
        Ok(unsigned.client.request("GET", path, Some(query), None).await?.json().await?)
    }
}
