//! The order of the canonical archive: its members, with their headers and padding, as parts that follow one another. What
//! the parts are written to, or where they lie already, is for those who ask.

use std::io;

use tar::{EntryType, Header};

use super::manifest::{Image, repositories};
use crate::net::Digest;

/// Members begin at multiples of this, and two such blocks of zeros are an archive's end.
const BLOCK: usize = 512;

/// What may be done with members: everybody may read them.
const MODE: u32 = 0o644;

/// A part of the archive.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Headers, documents and padding.
    Small(Vec<u8>),
    /// The layer with this number, as it is.
    Layer(usize),
}

/// The archive of an image with this configuration and these layers, the lowest first, with `tag` as its only name.
///
/// Its members are the layers, each one once, named by their diff ids; the configuration, named by its digest;
/// `manifest.json`; `repositories`. All are files of nobody in particular, without a time.
pub(super) fn parts(config: &[u8], layers: &[(Digest, u64)], tag: &str) -> io::Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut small = Vec::new();
    for (number, (diff_id, size)) in layers.iter().enumerate() {
        if layers[..number].iter().all(|(before, _)| before != diff_id) {
            header(&mut small, &layer_name(*diff_id), *size)?;
            parts.extend([Part::Small(std::mem::take(&mut small)), Part::Layer(number)]);
            pad(&mut small, *size);
        }
    }
    let config_name = format!("{}.json", Digest::of(config));
    let names: Vec<_> = layers.iter().map(|(diff_id, _)| layer_name(*diff_id)).collect();
    let repositories = repositories(tag, names.last().map(String::as_str));
    let manifest = [Image { config: config_name.clone(), repo_tags: vec![tag.to_owned()], layers: names }];
    let (manifest, repositories) = (serde_json::to_vec(&manifest)?, serde_json::to_vec(&repositories)?);
    for (name, text) in [(&*config_name, config), ("manifest.json", &manifest), ("repositories", &repositories)] {
        header(&mut small, name, text.len() as u64)?;
        small.extend_from_slice(text);
        pad(&mut small, text.len() as u64);
    }
    small.extend_from_slice(&[0; 2 * BLOCK]);
    parts.push(Part::Small(small));
    Ok(parts)
}

fn layer_name(diff_id: Digest) -> String {
    format!("{diff_id}.tar")
}

/// Adds the header of a file, of nobody in particular and without a time.
pub(crate) fn header(small: &mut Vec<u8>, name: &str, size: u64) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_path(name)?;
    header.set_mode(MODE);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    // From 8 GiB on in base 256, which tar, Docker and Podman read.
    header.set_size(size);
    header.set_cksum();
    // As GNU tar, Go and Python write it: who makes this archive with another library gets the same bytes.
    let sum = header.cksum()?;
    header.as_old_mut().cksum.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    small.extend_from_slice(header.as_bytes());
    Ok(())
}

/// Adds what fills the last block of a file's content.
pub(crate) fn pad(small: &mut Vec<u8>, size: u64) {
    let beyond = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    if beyond > 0 {
        small.extend_from_slice(&[0; BLOCK][beyond..]);
    }
}
