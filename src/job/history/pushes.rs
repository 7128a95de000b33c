//! The pushes of an image in the index: `….pushdate.{year}.{month}-{day}-{pushtime}`. The index lists them by the year.

use std::cmp::Reverse;

use jiff::Timestamp;
use tracing::debug;

use crate::config::HistoryConfig;
use crate::context::{ContextHash, ImageName};
use crate::job::CommandError;
use crate::taskcluster::index::{Entry, Index};
use crate::taskcluster::{Namespace, PushDate, TaskId};

/// Whoever built an image. Several pushes may name the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct BuiltBy {
    /// The task.
    pub(super) task_id: TaskId,
    /// Its run, where the index says so; otherwise its latest.
    pub(super) run_id: Option<u32>,
}

/// A push as the index has it.
#[derive(Clone, Debug)]
pub(super) struct IndexedPush {
    pub(super) pushed: PushDate,
    pub(super) date: Timestamp,
    pub(super) namespace: Namespace,
    pub(super) by: BuiltBy,
    pub(super) context_hash: Option<ContextHash>,
    pub(super) archive_size: Option<u64>,
}

/// The newest pushes.
pub(super) struct Newest {
    /// The newest first. The last one may be there only to compare the one after it with.
    pub(super) pushes: Vec<IndexedPush>,
    /// The number of those that are wanted.
    pub(super) wanted: usize,
    /// Whether the limit leaves out earlier ones.
    pub(super) more: bool,
}

/// The newest pushes of an image, by the configured limit and date.
pub(super) async fn newest(index: &Index, config: &HistoryConfig, image: &ImageName) -> Result<Newest, CommandError> {
    let HistoryConfig { project, index: prefix, since, .. } = config;
    let (since, limit) = (since.unwrap_or(Timestamp::MIN), config.limit.get());
    let all = Namespace::of_pushes(prefix, project, image, None)?;
    let mut years = index.list_namespaces(&all).await?;
    years.sort_unstable_by(|one, other| other.cmp(one));
    let mut pushes: Vec<IndexedPush> = Vec::new();
    for year in years {
        if pushes.len() > limit || pushes.last().is_some_and(|push| push.date < since) {
            break;
        }
        let Ok(of_year) = Namespace::of_pushes(prefix, project, image, Some(&year)) else {
            debug!("{all} has a namespace that is no year");
            continue;
        };
        let entries = index.list_tasks(&of_year).await?;
        let mut found: Vec<_> = entries.into_iter().filter_map(|(namespace, entry)| pushed(namespace, entry)).collect();
        found.sort_unstable_by_key(|push| Reverse(push.pushed));
        pushes.extend(found);
    }
    Ok(cut(pushes, since, limit))
}

/// The pushes that are wanted, and one to compare with.
fn cut(mut pushes: Vec<IndexedPush>, since: Timestamp, limit: usize) -> Newest {
    let recent = pushes.iter().take_while(|push| push.date >= since).count();
    let wanted = recent.min(limit);
    pushes.truncate(if wanted == 0 { 0 } else { wanted + 1 });
    Newest { pushes, wanted, more: recent > wanted }
}

/// The push of an entry. Others may put anything there.
fn pushed(namespace: Namespace, entry: Entry) -> Option<IndexedPush> {
    let Some(pushed) = namespace.push() else {
        debug!("{namespace} is no push: going on");
        return None;
    };
    let data = entry.image();
    Some(IndexedPush {
        pushed,
        date: Timestamp::from_second(pushed.epoch_seconds()).ok()?,
        by: BuiltBy { task_id: entry.task_id, run_id: data.as_ref().map(|data| data.run_id) },
        namespace,
        context_hash: data.as_ref().map(|data| data.context_hash),
        archive_size: data.map(|data| data.size),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(day: u32) -> IndexedPush {
        let pushed: PushDate = format!("201512{day:02}000000").parse().unwrap();
        let namespace: Namespace = format!("docker.images.v1.try.a.pushdate.{}", pushed.route_tail()).parse().unwrap();
        let entry = serde_json::json!({
            "taskId": "fN1SbArXTPSVFNUvaOlinQ", "rank": 1, "data": {}, "expires": "2100-01-01T00:00:00.000Z"
        });
        super::pushed(namespace, serde_json::from_value(entry).unwrap()).unwrap()
    }

    #[test]
    fn the_limit_and_the_date_leave_one_to_compare_with() {
        let of = |since: u32, limit: usize| {
            let Newest { pushes, wanted, more } = cut([9, 8, 7, 6].map(push).to_vec(), push(since).date, limit);
            (pushes.len(), wanted, more)
        };
        assert_eq!(of(1, 10), (4, 4, false));
        assert_eq!(of(1, 4), (4, 4, false));
        assert_eq!(of(1, 3), (4, 3, true));
        assert_eq!(of(1, 1), (2, 1, true));
        assert_eq!(of(8, 10), (3, 2, false), "the 7th is what the 8th is compared with");
        assert_eq!(of(8, 2), (3, 2, false));
        assert_eq!(of(8, 1), (2, 1, true));
        assert_eq!(of(10, 10), (0, 0, false));
    }

    #[test]
    fn what_is_no_push_is_left_out() {
        let entry = || {
            serde_json::from_value(serde_json::json!({
                "taskId": "fN1SbArXTPSVFNUvaOlinQ", "rank": 1, "data": { "x": 1 }, "expires": "2100-01-01T00:00:00.000Z"
            }))
            .unwrap()
        };
        for name in ["2015.x", "2015.12-09-1234567", "x.12-09-123456"] {
            assert!(pushed(format!("a.pushdate.{name}").parse().unwrap(), entry()).is_none(), "{name}");
        }
        let push = pushed("a.pushdate.2015.12-09-123456".parse().unwrap(), entry()).unwrap();
        assert_eq!((push.by.run_id, push.context_hash, push.archive_size), (None, None, None));
    }
}
