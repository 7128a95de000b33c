//! Layers for the tests of this module, in a file like that of an unpacked image. Each test defines their content.

use std::fs::File;
use std::io::Write as _;

use tar::{Builder, EntryType, Header};

use crate::image::Layer;
use crate::image::layer::{self, Entry, LayerError};
use crate::net::Digest;

/// The type and content of an entry.
#[derive(Clone, Copy)]
pub(in crate::image) enum Content<'a> {
    File(&'a str),
    Directory,
    Symlink(&'a str),
    HardLink(&'a str),
}

/// An image of these layers, the lowest first.
pub(in crate::image) fn image(layers: &[&[(&str, Content)]]) -> (File, Vec<Layer>) {
    let mut file = tempfile::tempfile().unwrap();
    let mut end = 0;
    let layers = layers.iter().map(|entries| {
        let bytes = layer(entries);
        file.write_all(&bytes).unwrap();
        let (start, size) = (end, bytes.len() as u64);
        end += size;
        Layer { diff_id: Digest::of(&bytes), size, pieces: std::iter::once(start..end).collect() }
    });
    let layers = layers.collect();
    (file, layers)
}

/// Calls `visit` for each entry, with the number of its layer.
pub(in crate::image) fn each_entry(file: &File, layers: &[Layer], mut visit: impl FnMut(usize, Entry)) {
    for (number, layer) in layers.iter().enumerate() {
        let visited = layer::entries(file, &layer.pieces).each(|entry| {
            visit(number, entry);
            Ok::<_, LayerError>(())
        });
        visited.unwrap();
    }
}

fn layer(entries: &[(&str, Content)]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (path, content) in entries {
        let mut header = Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(0);
        let (kind, link) = match content {
            Content::File(_) => (EntryType::Regular, None),
            Content::Directory => (EntryType::Directory, None),
            Content::Symlink(to) => (EntryType::Symlink, Some(to)),
            Content::HardLink(to) => (EntryType::Link, Some(to)),
        };
        header.set_entry_type(kind);
        match (content, link) {
            (_, Some(to)) => tar.append_link(&mut header, path, to).unwrap(),
            (Content::File(text), None) => {
                header.set_size(text.len() as u64);
                tar.append_data(&mut header, path, text.as_bytes()).unwrap();
            }
            _ => tar.append_data(&mut header, path, std::io::empty()).unwrap(),
        }
    }
    tar.into_inner().unwrap()
}
