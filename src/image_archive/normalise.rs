//! One pass over an engine's export: layers and configuration go through untouched, `manifest.json` and
//! `repositories` are written anew with exactly one tag, and what the manifest promises is checked to be there.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use tar::{Archive, Builder, Entry, EntryType, Header};

use super::manifest::{Image, repositories};
use crate::names::Digest;
use crate::stream::Tally;

/// Members up to this size are kept in mind with their digest, to check the configuration; a configuration is
/// kilobytes, and layers need no second hash.
const SMALL_MEMBER: u64 = 4 * 1024 * 1024;

/// Members read from and written to disk at this size, so that system calls do not count.
const COPY_BUFFER: usize = 256 * 1024;

/// What is wrong with an export, or with writing the archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The export broke off, or is no tar.
    #[error("the engine's export cannot be read to its end")]
    Read(#[source] io::Error),
    /// The archive cannot be written.
    #[error("the image archive cannot be written")]
    Write(#[source] io::Error),
    /// The export is not an archive of the image that was built.
    #[error("the engine's export is not the image that was built: {0}")]
    Content(String),
}

/// What an archive holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normalised {
    /// The image's id, `sha256:…` of its configuration.
    pub image_id: String,
    /// How many layers it has.
    pub layers: usize,
}

/// What has been seen of the export so far.
#[derive(Default)]
struct Seen {
    manifest: Option<Vec<Image>>,
    members: HashMap<String, Member>,
}

/// A member by its name.
#[derive(Debug, PartialEq)]
enum Member {
    Folder,
    /// A file, with its digest where it is small.
    File(Option<Digest>),
    /// A link, with what it leads to; older engines link layers that are the same.
    Link(Option<String>),
}

/// Reads an export and writes the archive with `tag` as its only name. Gives the writer back, after the tar's end.
pub(super) fn normalise<R: Read, W: Write>(
    export: R,
    image_id: &str,
    tag: &str,
    out: W,
) -> Result<(Normalised, W), ArchiveError> {
    let mut archive = Archive::new(export);
    // Raw: what extension headers say is judged here, and not already believed.
    let entries = archive.entries().map_err(ArchiveError::Read)?.raw(true);
    let mut out = Builder::new(out);
    let mut seen = Seen::default();
    for entry in entries {
        let mut entry = entry.map_err(ArchiveError::Read)?;
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XHeader | EntryType::XGlobalHeader) {
            extension(&mut entry)?;
            continue;
        }
        let name = plain_name(&entry)?;
        match (name.as_str(), kind) {
            ("manifest.json", EntryType::Regular) if seen.manifest.is_none() => seen.manifest = Some(json(&mut entry)?),
            // Written anew.
            ("repositories", EntryType::Regular) => {}
            // Docker since 25 writes an OCI layout besides, without our tag. Readers that know it would believe it
            // instead of the manifest, and load an image without a name.
            ("index.json" | "oci-layout", EntryType::Regular) => {}
            ("manifest.json" | "repositories", _) => {
                return Err(ArchiveError::Content(format!("its {name} is no file, or comes twice")));
            }
            _ => pass(&mut entry, name, &mut out, &mut seen)?,
        }
    }
    let image = seen.check(image_id)?;
    let top = image.layers.last().map(String::as_str);
    append(
        &mut out,
        "manifest.json",
        &serde_json::json!([Image { repo_tags: vec![tag.to_owned()], ..image.clone() }]),
    )?;
    append(&mut out, "repositories", &repositories(tag, top))?;
    let content = Normalised { image_id: image_id.to_owned(), layers: image.layers.len() };
    Ok((content, out.into_inner().map_err(ArchiveError::Write)?))
}

/// A member's name as every reader understands it.
fn plain_name<R: Read>(entry: &Entry<R>) -> Result<String, ArchiveError> {
    let raw = entry.path_bytes();
    let name = std::str::from_utf8(&raw).ok().filter(|name| !name.starts_with('/')).and_then(|name| resolve("", name));
    name.ok_or_else(|| {
        ArchiveError::Content(format!("its member {:?} has no plain name", String::from_utf8_lossy(&raw)))
    })
}

/// Where a path leads to from a folder; nowhere if that is outside.
fn resolve(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<_> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Looks at a header that adds to the next member, which is left out: times and owners of members mean nothing to an
/// engine. Names and sizes do, and who reads them here would see another archive than who does not. Engines' names are
/// short, and need no such header.
fn extension<R: Read>(entry: &mut Entry<R>) -> Result<(), ArchiveError> {
    let records = whole(entry, "an extension header")?;
    // Anywhere in it, because readers differ in how they take it apart.
    let says = |word: &[u8]| records.windows(word.len()).any(|window| window == word);
    if [&b"path="[..], b"size=", b"GNU.sparse", b"hdrcharset="].into_iter().any(says) {
        return Err(ArchiveError::Content("it has names or sizes in extension headers".to_owned()));
    }
    Ok(())
}

/// Copies a member as it is, and keeps in mind that it was there.
fn pass<R: Read, W: Write>(
    entry: &mut Entry<R>,
    name: String,
    out: &mut Builder<W>,
    seen: &mut Seen,
) -> Result<(), ArchiveError> {
    let size = entry.size();
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    let link = |from: &str| entry.link_name_bytes().and_then(|to| resolve(from, std::str::from_utf8(&to).ok()?));
    let mut member = match entry.header().entry_type() {
        EntryType::Directory => Member::Folder,
        EntryType::Regular => Member::File(None),
        EntryType::Symlink => Member::Link(link(folder)),
        EntryType::Link => Member::Link(link("")),
        other => return Err(ArchiveError::Content(format!("its member {name:?} is no file, but {other:?}"))),
    };
    let header = entry.header();
    let fields: [(&[u8], bool); 4] = [
        (&header.as_old().mode, header.mode().is_ok()),
        (&header.as_old().uid, header.uid().is_ok()),
        (&header.as_old().gid, header.gid().is_ok()),
        (&header.as_old().mtime, header.mtime().is_ok()),
    ];
    // Nothing at all is zero to everybody; with anything else Go's reader, which is Docker's, ends.
    if fields.into_iter().any(|(field, number)| !number && field.iter().any(|byte| *byte != 0)) {
        return Err(ArchiveError::Content(format!("its member {name:?} has a number that is none")));
    }
    // Readers differ in what these are.
    let is_file = matches!(member, Member::File(_));
    if (size > 0 && !is_file) || (is_file && entry.path_bytes().ends_with(b"/")) {
        return Err(ArchiveError::Content(format!("its member {name:?} is a folder or link with content")));
    }
    out.get_mut().write_all(entry.header().as_bytes()).map_err(ArchiveError::Write)?;
    if size <= SMALL_MEMBER {
        let mut tally = Tally::new(entry);
        copy(&mut tally, out.get_mut(), size)?;
        if let Member::File(digest) = &mut member {
            *digest = Some(tally.finish().1);
        }
    } else {
        copy(entry, out.get_mut(), size)?;
    }
    pad(out.get_mut(), size)?;
    match seen.members.get(&name) {
        Some(known) if (known, &member) != (&Member::Folder, &Member::Folder) => {
            Err(ArchiveError::Content(format!("its member {name:?} comes twice")))
        }
        _ => {
            seen.members.insert(name, member);
            Ok(())
        }
    }
}

/// Copies `size` bytes, telling errors of the two ends apart.
fn copy<R: Read, W: Write>(from: &mut R, to: &mut W, size: u64) -> Result<(), ArchiveError> {
    let mut buffer = vec![0; COPY_BUFFER.min(usize::try_from(size).unwrap_or(COPY_BUFFER))];
    let mut left = size;
    while left > 0 {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Err(ArchiveError::Read(io::ErrorKind::UnexpectedEof.into())),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ArchiveError::Read(error)),
        };
        to.write_all(&buffer[..read]).map_err(ArchiveError::Write)?;
        left -= read as u64;
    }
    Ok(())
}

/// Members begin at multiples of 512 bytes.
fn pad<W: Write>(to: &mut W, size: u64) -> Result<(), ArchiveError> {
    let padding = usize::try_from(size.next_multiple_of(512) - size).unwrap_or(0);
    to.write_all(&[0; 512][..padding]).map_err(ArchiveError::Write)
}

fn json<R: Read, T: serde::de::DeserializeOwned>(entry: &mut Entry<R>) -> Result<T, ArchiveError> {
    let text = whole(entry, "manifest.json")?;
    serde_json::from_slice(&text).map_err(|error| ArchiveError::Content(format!("manifest.json: {error}")))
}

/// The content of a small member.
fn whole<R: Read>(entry: &mut Entry<R>, name: &str) -> Result<Vec<u8>, ArchiveError> {
    if entry.size() > SMALL_MEMBER {
        return Err(ArchiveError::Content(format!("{name} has {} bytes", entry.size())));
    }
    let mut content = Vec::new();
    let size = entry.size();
    copy(entry, &mut content, size)?;
    Ok(content)
}

fn append<W: Write>(out: &mut Builder<W>, name: &str, value: &impl serde::Serialize) -> Result<(), ArchiveError> {
    let text = serde_json::to_vec(value).map_err(|error| ArchiveError::Content(error.to_string()))?;
    let mut header = Header::new_ustar();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    out.append_data(&mut header, name, text.as_slice()).map_err(ArchiveError::Write)
}

impl Seen {
    /// The one image of the export, if it is the one that was built and all its parts are there.
    fn check(&self, image_id: &str) -> Result<&Image, ArchiveError> {
        let wrong = |why: String| Err(ArchiveError::Content(why));
        let image = match self.manifest.as_deref() {
            Some([image]) => image,
            Some(images) => return wrong(format!("manifest.json names {} images", images.len())),
            None => return wrong("it has no manifest.json".to_owned()),
        };
        match self.members.get(&image.config) {
            Some(Member::File(Some(digest))) if image_id == format!("sha256:{digest}") => {}
            Some(Member::File(Some(digest))) => return wrong(format!("it has sha256:{digest}, not {image_id}")),
            Some(Member::File(None)) => return wrong(format!("its configuration {} is too large", image.config)),
            Some(_) => return wrong(format!("its configuration {} is no file", image.config)),
            None => return wrong(format!("its configuration {} is missing", image.config)),
        }
        match image.layers.iter().find(|layer| !self.leads_to_a_file(layer)) {
            Some(layer) => wrong(format!("its layer {layer} is missing")),
            None => Ok(image),
        }
    }

    fn leads_to_a_file(&self, name: &str) -> bool {
        let mut at = self.members.get(name);
        // As many links in a row as there are members, or they go round.
        for _ in 0..self.members.len() {
            let Some(Member::Link(Some(target))) = at else { break };
            at = self.members.get(target);
        }
        matches!(at, Some(Member::File(_)))
    }
}

#[cfg(test)]
mod tests;
