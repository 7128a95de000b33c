//! Sorts the entries of a layer: each directory before its content, names by their bytes, as most engines walk a tree. It sorts
//! only ranges; the bytes stay where they are.

use std::collections::HashSet;
use std::ops::Range;

use crate::image::layer::{Entry, Kind, Layer, LayerError, Whiteout};

/// The pieces of a layer in order, without the entries in `drops`.
pub(super) fn arrange(layer: &Layer, drops: &HashSet<Vec<u8>>) -> Result<Vec<Range<u64>>, LayerError> {
    if drops.is_empty() && in_order(layer)? {
        return Ok(joined(layer.bytes().places(0..layer.bytes().length())));
    }
    let mut items = Vec::new();
    let end = layer.each(|entry| {
        if !drops.contains(&entry.path) {
            items.push(Item::of(entry));
        }
        Ok::<_, LayerError>(())
    })?;
    let mut sorted: Vec<&Item> = items.iter().collect();
    // If a path occurs twice, the last entry counts, so these keep their order.
    sorted.sort_by(|one, other| one.key.cmp(&other.key));
    if !links_follow_targets(&sorted) {
        sorted = items.iter().collect();
    }
    let bytes = layer.bytes();
    let ranges = sorted.iter().map(|item| item.range.clone()).chain(std::iter::once(end..bytes.length()));
    Ok(joined(ranges.flat_map(|range| bytes.places(range)).collect()))
}

fn in_order(layer: &Layer) -> Result<bool, LayerError> {
    let mut last = Vec::new();
    let mut in_order = true;
    layer.each(|entry| {
        let key = key(&entry);
        in_order &= last <= key;
        last = key;
        Ok::<_, LayerError>(())
    })?;
    Ok(in_order)
}

/// Joins adjacent ranges, so that a layer that was already in order is one piece.
fn joined(ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => joined.push(range),
        }
    }
    joined
}

/// What is kept in memory of an entry, for layers that are not in order.
struct Item {
    key: Vec<u8>,
    path: Vec<u8>,
    /// The target of a hard link, which must come before it.
    link: Option<Vec<u8>>,
    range: Range<u64>,
}

impl Item {
    fn of(entry: Entry) -> Self {
        let (key, range) = (key(&entry), entry.start..entry.end());
        Self { key, path: entry.path, link: (entry.kind == Kind::HardLink).then_some(entry.link), range }
    }
}

/// The sort key of a path: the separator sorts before every other byte. A whiteout sorts at the path that it deletes, and an
/// opaque whiteout before the other content of its directory.
fn key(entry: &Entry) -> Vec<u8> {
    let mut key = match entry.whiteout() {
        None => entry.path.clone(),
        Some(Whiteout::Path(path)) => path,
        Some(Whiteout::Content(directory)) => [directory.as_slice(), b"/"].concat(),
    };
    for byte in &mut key {
        if *byte == b'/' {
            *byte = 0;
        }
    }
    key
}

/// Whether each hard link comes after its target. A walk visits the names of a file in sort order, but a layer can be made by
/// something else.
fn links_follow_targets(sorted: &[&Item]) -> bool {
    if sorted.iter().all(|item| item.link.is_none()) {
        return true;
    }
    let mut earlier = HashSet::new();
    sorted.iter().all(|item| {
        let is_valid = item.link.as_ref().is_none_or(|link| earlier.contains(link));
        earlier.insert(&item.path);
        is_valid
    })
}
