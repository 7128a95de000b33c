//! The structure of the canonical archive: its members, with headers and padding, as a sequence of parts. The callers write
//! the parts, or refer to existing data.

use std::io;

use tar::{EntryType, Header};

use super::LayerSummary;
use super::manifest::{Image, repositories};
use crate::context::tar_format::{END, file_header, padding};
use crate::net::Digest;

/// The permissions of the members: everybody may read them.
const MODE: u32 = 0o644;

/// The size of a header in bytes.
pub(super) const HEADER: u64 = 512;

/// A part of the archive.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Headers, documents and padding.
    Small(Vec<u8>),
    /// The layer with this number, unchanged.
    Layer(usize),
}

/// The archive of an image with this configuration and these layers, the lowest first, with `tag` as its only name.
///
/// Its members are the distinct layers, named by their diff ids; the configuration, named by its digest; `manifest.json`;
/// `repositories`. All are files with owner 0 and without a time.
pub(super) fn parts(config: &[u8], layers: &[LayerSummary], tag: &str) -> io::Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut small = Vec::new();
    for (number, LayerSummary { diff_id, size }) in layers.iter().enumerate() {
        if layers[..number].iter().all(|before| before.diff_id != *diff_id) {
            header(&mut small, &layer_name(*diff_id), *size);
            parts.extend([Part::Small(std::mem::take(&mut small)), Part::Layer(number)]);
            small.extend_from_slice(padding(*size));
        }
    }
    let config_name = format!("{}.json", Digest::of(config));
    let names: Vec<_> = layers.iter().map(|layer| layer_name(layer.diff_id)).collect();
    let repositories = repositories(tag, names.last().map(String::as_str));
    let manifest = [Image { config: config_name.clone(), repo_tags: vec![tag.to_owned()], layers: names }];
    let (manifest, repositories) = (serde_json::to_vec(&manifest)?, serde_json::to_vec(&repositories)?);
    for (name, text) in [(&*config_name, config), ("manifest.json", &manifest), ("repositories", &repositories)] {
        document(&mut small, name, text);
    }
    small.extend_from_slice(&END);
    parts.push(Part::Small(small));
    Ok(parts)
}

/// Where the layers of an image are in its canonical archive: for each, the number of bytes before its first one. `None` if the
/// archive would have more than `u64::MAX` bytes.
pub(super) fn offsets(layers: &[LayerSummary]) -> Option<Vec<u64>> {
    let (mut offsets, mut end) = (Vec::<u64>::new(), 0_u64);
    for (number, LayerSummary { diff_id, size }) in layers.iter().enumerate() {
        if let Some(first) = layers[..number].iter().position(|before| before.diff_id == *diff_id) {
            offsets.push(offsets[first]);
            continue;
        }
        let offset = end.checked_add(HEADER)?;
        offsets.push(offset);
        end = offset.checked_add(*size)?.checked_add(padding(*size).len() as u64)?;
    }
    Some(offsets)
}

pub(super) fn layer_name(diff_id: Digest) -> String {
    format!("{diff_id}.tar")
}

/// Adds the header of a file with owner 0 and without a time.
pub(crate) fn header(small: &mut Vec<u8>, name: &str, size: u64) {
    let mut blank = Header::new_ustar();
    blank.set_entry_type(EntryType::Regular);
    blank.set_mtime(0);
    small.extend_from_slice(file_header(blank, name.as_bytes(), MODE, size).as_bytes());
}

/// Adds a file with this content.
pub(super) fn document(small: &mut Vec<u8>, name: &str, text: &[u8]) {
    header(small, name, text.len() as u64);
    small.extend_from_slice(text);
    small.extend_from_slice(padding(text.len() as u64));
}
