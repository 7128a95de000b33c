//! The order of a layer's entries: each folder before what is in it, names in the order of their bytes, as most engines'
//! walks give it. Only ranges are put in order; the bytes stay where they are.

use std::collections::HashSet;
use std::ops::Range;

use crate::image::layer::{Entry, Kind, Layer, LayerError, Whiteout};

/// The pieces of a layer in order, without the entries that are dropped.
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
    // Of two entries with the same path the last one counts: they stay in their order.
    sorted.sort_by(|one, other| one.key.cmp(&other.key));
    if !links_hold(&sorted) {
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

/// Neighbours made one, so that a layer that needed no order is one piece.
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

/// What is kept in mind of an entry, of layers that are not in order.
struct Item {
    key: Vec<u8>,
    path: Vec<u8>,
    /// What a hard link needs to be there.
    link: Option<Vec<u8>>,
    range: Range<u64>,
}

impl Item {
    fn of(entry: Entry) -> Self {
        let (key, range) = (key(&entry), entry.start..entry.end());
        Self { key, path: entry.path, link: (entry.kind == Kind::HardLink).then_some(entry.link), range }
    }
}

/// A path as it is compared: the separator is less than every other byte. What is deleted stands where it stood, and what
/// empties a folder comes before what is in it.
fn key(entry: &Entry) -> Vec<u8> {
    let mut key = match entry.whiteout() {
        None => entry.path.clone(),
        Some(Whiteout::Path(path)) => path,
        Some(Whiteout::Content(folder)) => [folder.as_slice(), b"/"].concat(),
    };
    for byte in &mut key {
        if *byte == b'/' {
            *byte = 0;
        }
    }
    key
}

/// Whether each hard link comes after what it links to. A walk comes to a file's names in their order, but a layer may be
/// made by something else.
fn links_hold(sorted: &[&Item]) -> bool {
    if sorted.iter().all(|item| item.link.is_none()) {
        return true;
    }
    let mut seen = HashSet::new();
    sorted.iter().all(|item| {
        let holds = item.link.as_ref().is_none_or(|link| seen.contains(link));
        seen.insert(&item.path);
        holds
    })
}
