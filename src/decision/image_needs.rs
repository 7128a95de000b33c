//! Which tasks of a graph wait for which image, and so until when an image must last.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::graph::{Graph, Use, UseKind};
use super::lookup::LookupRequest;
use super::{Definition, deadline};
use crate::context::ImageName;
use crate::repository::lineage::Identified;

/// Which tasks wait for an image, or for one that is built from it: their definitions.
#[must_use]
pub fn waiting<'g>(
    graph: &'g Graph,
    uses: &[Use],
    identified: &BTreeMap<ImageName, Identified>,
) -> BTreeMap<ImageName, Vec<&'g Definition>> {
    let definitions: BTreeMap<_, _> = graph.definitions().collect();
    let mut waiting: BTreeMap<ImageName, Vec<&Definition>> = BTreeMap::new();
    let mut recorded = BTreeSet::new();
    for it in uses.iter().filter(|it| it.kind == UseKind::TaskId) {
        let mut next = Some(&it.image);
        while let Some(image) = next.filter(|image| recorded.insert((it.task.as_str(), *image))) {
            waiting.entry(image.clone()).or_default().extend(definitions.get(it.task.as_str()));
            next = identified.get(image).and_then(|image| image.parent.as_ref());
        }
    }
    waiting
}

/// The time that the index is queried for: an image is useful as long as the last task that waits for it may begin.
#[must_use]
pub fn wanted(
    identified: &BTreeMap<ImageName, Identified>,
    waiting: &BTreeMap<ImageName, Vec<&Definition>>,
    now: Timestamp,
) -> Vec<LookupRequest> {
    let needed_until = |image| {
        let deadlines = waiting.get(image).into_iter().flatten();
        deadlines.filter_map(|task| deadline(task, now)).max().unwrap_or(now)
    };
    let wanted = identified.iter().map(|(image, hashes)| LookupRequest {
        image: image.clone(),
        hash: hashes.name_in_index(),
        context: hashes.context,
        needed_until: needed_until(image),
    });
    wanted.collect()
}
