//! Which tasks of a graph wait for which image, and so until when an image must last.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::graph::{Graph, UseKind};
use super::{Definition, deadline};
use crate::context::ImageName;
use crate::repository::lineage::Lineage;

/// Which tasks wait for an image, or for one that is built from it: what image tasks inherit from their definitions.
#[must_use]
pub fn waiting<'g>(graph: &'g Graph, lineage: &Lineage) -> BTreeMap<ImageName, Vec<&'g Definition>> {
    let mut waiting: BTreeMap<ImageName, Vec<&Definition>> = BTreeMap::new();
    for (uses, definition) in graph.users() {
        let mut recorded = BTreeSet::new();
        for it in uses.iter().filter(|it| it.kind == UseKind::TaskId) {
            let mut next = Some(&it.image);
            while let Some(image) = next.filter(|image| recorded.insert(*image)) {
                waiting.entry(image.clone()).or_default().push(definition);
                next = lineage.parent(image);
            }
        }
    }
    waiting
}

/// Until when an image must last: it is useful as long as the last task that waits for it may begin.
#[must_use]
pub fn needed_until(waiting: &[&Definition], now: Timestamp) -> Timestamp {
    waiting.iter().filter_map(|task| deadline(task, now)).max().unwrap_or(now)
}
