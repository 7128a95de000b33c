//! The entries of a verified context, so that two contexts can be compared: names, modes, digests, and the content of small files.
//! The module `intake` has verified the tar.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use tar::{Archive, EntryType};

use crate::context::safety::clean_name;
use crate::net::digest_reader::DigestReader;
use crate::net::{Digest, SizedDigest};

/// The name of the top directory, which has an entry in some contexts.
const TOP: &str = ".";

/// The entries of a context.
#[derive(Debug)]
pub struct ContextListing {
    file: File,
    entries: BTreeMap<String, ContextEntry>,
}

/// An entry of a context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextEntry {
    /// Its permission bits.
    pub mode: u32,
    /// What it is.
    pub node: ContextNode,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextNode {
    /// A directory with an entry of its own.
    Directory,
    /// A symbolic link and its target.
    Symlink(String),
    /// A regular file, or a hard link to one.
    File {
        /// sha256 of its content.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// Where its content is in the tar. It says nothing about the file.
        at: u64,
    },
}

impl ContextListing {
    /// Reads the entries of a verified context, a plain tar.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut entries: BTreeMap<String, ContextEntry> = BTreeMap::new();
        let mut archive = Archive::new(File::open(path)?);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let kind = entry.header().entry_type();
            let mode = entry.header().mode()? & 0o7777;
            let name = clean(&entry.path_bytes(), kind == EntryType::Directory)?;
            let target = entry.link_name_bytes().map(Cow::into_owned).unwrap_or_default();
            let node = match kind {
                EntryType::XGlobalHeader => continue,
                EntryType::Directory => ContextNode::Directory,
                EntryType::Symlink => ContextNode::Symlink(String::from_utf8_lossy(&target).into_owned()),
                EntryType::Link => match entries.get(&clean(&target, false)?) {
                    Some(ContextEntry { node, .. }) => node.clone(),
                    None => return Err(io::Error::other("a hard link leads to no earlier file")),
                },
                _ => {
                    let at = entry.raw_file_position();
                    let mut content = DigestReader::new(&mut entry);
                    io::copy(&mut content, &mut io::sink())?;
                    let (_, SizedDigest { sha256: digest, size }) = content.finish();
                    ContextNode::File { digest, size, at }
                }
            };
            entries.insert(name, ContextEntry { mode, node });
        }
        Ok(Self { file: File::open(path)?, entries })
    }

    /// The entries by their names.
    #[must_use]
    pub fn entries(&self) -> &BTreeMap<String, ContextEntry> {
        &self.entries
    }

    /// The content of a file of at most `limit` bytes; none of a larger one, and of what is no file.
    pub fn content(&self, entry: &ContextEntry, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let ContextNode::File { size, at, .. } = entry.node else { return Ok(None) };
        let Some(length) = usize::try_from(size).ok().filter(|_| size <= limit) else { return Ok(None) };
        let mut content = vec![0; length];
        self.file.read_exact_at(&mut content, at)?;
        Ok(Some(content))
    }
}

fn clean(raw: &[u8], directory: bool) -> io::Result<String> {
    let name = clean_name(raw, directory).map_err(io::Error::other)?;
    Ok(if name.is_empty() { TOP.to_owned() } else { name.into_owned() })
}

#[cfg(test)]
mod tests {
    use tar::{Builder, Header};

    use super::*;

    #[test]
    fn entries_have_modes_targets_and_contents() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut tar = Builder::new(file.reopen().unwrap());
        let long = "d/".repeat(60) + "file";
        let mut add = |name: &str, kind: EntryType, mode: u32, target: &str, content: &[u8]| {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(content.len() as u64);
            match kind {
                EntryType::Link | EntryType::Symlink => tar.append_link(&mut header, name, target).unwrap(),
                _ => tar.append_data(&mut header, name, content).unwrap(),
            }
        };
        add("./", EntryType::Directory, 0o755, "", b"");
        add(&long, EntryType::Regular, 0o600, "", b"long");
        add("./a", EntryType::Regular, 0o644, "", b"hello\n");
        add("b", EntryType::Link, 0o644, "a", b"");
        add("c", EntryType::Symlink, 0o777, "a", b"");
        tar.finish().unwrap();
        let listing = ContextListing::read(file.path()).unwrap();
        let names: Vec<_> = listing.entries().keys().map(String::as_str).collect();
        assert_eq!(names, [".", "a", "b", "c", &long]);
        let entry = |name: &str| &listing.entries()[name];
        assert_eq!((entry("a").mode, entry(&long).mode), (0o644, 0o600));
        assert_eq!(entry("c").node, ContextNode::Symlink("a".to_owned()));
        assert_eq!(entry("."), &ContextEntry { mode: 0o755, node: ContextNode::Directory });
        let content = |name: &str, limit| listing.content(entry(name), limit).unwrap();
        for name in ["a", "b"] {
            assert_eq!(content(name, 6).as_deref(), Some(&b"hello\n"[..]), "{name}");
        }
        assert_eq!(content(&long, 10).as_deref(), Some(&b"long"[..]));
        assert_eq!((content("a", 5), content("c", 5), content(".", 5)), (None, None, None));
    }
}
