//! Combines the headers of one tar entry: its own, and the GNU long names and PAX records before it. It refuses combinations
//! that two readers could interpret differently. The module `intake` checks whether the entry fits into the context.

use std::io::Read;

use tar::{Entry, EntryType, Header};

use crate::context::intake::error::IntakeError;
use crate::context::safety::{MAX_NAME, UnsafeEntry, clean_name, cut, shown};
use crate::context::tar_format::{header_doubt, octal, split_record};

/// The maximum size of a PAX header, which is read into memory. Those of contexts hold a name, a target, times and owners.
const MAX_PAX: u64 = 64 * 1024;

/// The PAX records that do not affect the build, or that are checked like the header field that they replace.
const HARMLESS: [&str; 11] =
    ["path", "linkpath", "size", "mtime", "atime", "ctime", "uid", "gid", "uname", "gname", "comment"];

/// A PAX record: key and value.
type Record = (String, Vec<u8>);

/// One file, directory or link.
#[derive(Debug)]
pub(super) struct Member {
    /// The name as it is in the headers, for messages.
    pub(super) shown: String,
    /// The normal form, without a `/` at its end; the name of the root is empty.
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Permission bits, without setuid and setgid.
    pub(super) mode: u32,
    pub(super) mtime: u64,
    pub(super) size: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    /// The target as it is written; it may still lead outside.
    Symlink(Vec<u8>),
    /// The target in normal form.
    Hardlink(String),
}

/// The extension headers before the next entry.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pax: Option<Vec<Record>>,
}

impl Kind {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::File => "regular file",
            Self::Directory => "directory",
            Self::Symlink(_) => "symbolic link",
            Self::Hardlink(_) => "hard link",
        }
    }
}

impl Member {
    pub(super) fn refuse(&self, hazard: UnsafeEntry) -> IntakeError {
        IntakeError::Refused { entry: self.shown.clone(), hazard }
    }
}

impl Extensions {
    /// Whether extension headers were read without their entry.
    pub(super) fn pending(&self) -> bool {
        self.long_name.is_some() || self.long_link.is_some() || self.pax.is_some()
    }

    /// Reads the next header; returns `None` if it only describes the entry after it.
    pub(super) fn take<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<Option<Member>, IntakeError> {
        let header = entry.header().clone();
        let own_name = header.path_bytes().into_owned();
        let refuse = |hazard| IntakeError::Refused { entry: shown(&own_name), hazard };
        check_format(&header).map_err(refuse)?;
        let size = octal(&header.as_old().size).ok_or(refuse(UnsafeEntry::Ambiguous("a size that is not octal")))?;
        let twice = || refuse(UnsafeEntry::Ambiguous("two extension headers of one kind, or of two formats"));
        match header.entry_type() {
            EntryType::GNULongName if self.long_name.is_some() || self.pax.is_some() => Err(twice()),
            EntryType::GNULongLink if self.long_link.is_some() || self.pax.is_some() => Err(twice()),
            EntryType::XHeader | EntryType::XGlobalHeader if self.pending() => Err(twice()),
            EntryType::GNULongName => {
                self.long_name = Some(long_name(entry, size, refuse)?);
                Ok(None)
            }
            EntryType::GNULongLink => {
                self.long_link = Some(long_name(entry, size, refuse)?);
                Ok(None)
            }
            EntryType::XHeader => {
                self.pax = Some(records(&whole(entry, size, MAX_PAX, refuse)?).map_err(refuse)?);
                Ok(None)
            }
            EntryType::XGlobalHeader => {
                let records = records(&whole(entry, size, MAX_PAX, refuse)?).map_err(refuse)?;
                // `git archive` stores its commit here. Anything else would change every entry for some readers
                // (GNU tar, Python) and none for others (Docker).
                match records.into_iter().find(|(key, _)| key != "comment") {
                    Some((key, _)) => Err(refuse(UnsafeEntry::PaxRecord(key))),
                    None => Ok(None),
                }
            }
            _ => std::mem::take(self).member(&header, size).map(Some),
        }
    }

    /// The entry that a header and the extension headers before it describe.
    fn member(self, header: &Header, size: u64) -> Result<Member, IntakeError> {
        let records = self.pax.unwrap_or_default();
        let record = |key: &str| records.iter().find(|(k, _)| k == key).map(|(_, value)| value.clone());
        let raw = self.long_name.or_else(|| record("path")).unwrap_or_else(|| header.path_bytes().into_owned());
        let link = self.long_link.or_else(|| record("linkpath"));
        let link = link.unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned());
        let refuse = |hazard| IntakeError::Refused { entry: shown(&raw), hazard };

        check_records(&records, size).map_err(refuse)?;
        let kind = match header.entry_type() {
            EntryType::Regular => Kind::File,
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink(link),
            EntryType::Link => match clean_name(&link, false) {
                Ok(target) => Kind::Hardlink(target.into_owned()),
                Err(_) => return Err(refuse(UnsafeEntry::HardLink { target: cut(&link) })),
            },
            other => return Err(refuse(UnsafeEntry::Kind(type_name(other)))),
        };
        if kind != Kind::Directory && raw.ends_with(b"/") {
            return Err(refuse(UnsafeEntry::NotADirectory(kind.name())));
        }
        if kind != Kind::File && size != 0 {
            return Err(refuse(UnsafeEntry::Ambiguous("data in a directory or link")));
        }
        let name = clean_name(&raw, kind == Kind::Directory).map_err(refuse)?.into_owned();
        let mode = mode(header, &kind).map_err(refuse)?;
        Ok(Member { shown: shown(&raw), name, kind, mode, mtime: octal(&header.as_old().mtime).unwrap_or(0), size })
    }
}

fn check_format(header: &Header) -> Result<(), UnsafeEntry> {
    if header.entry_type().is_gnu_sparse() {
        return Err(UnsafeEntry::Kind(type_name(EntryType::GNUSparse)));
    }
    header_doubt(header).map_or(Ok(()), |doubt| Err(UnsafeEntry::Ambiguous(doubt)))
}

/// Refuses records that are unknown, repeated, or contradict the header.
fn check_records(records: &[Record], size: u64) -> Result<(), UnsafeEntry> {
    for (i, (key, value)) in records.iter().enumerate() {
        if key.starts_with("GNU.sparse.") {
            return Err(UnsafeEntry::Kind(type_name(EntryType::GNUSparse)));
        }
        // This refuses extended attributes, too: `security.capability` has the same effect as setuid.
        if !HARMLESS.contains(&key.as_str()) {
            return Err(UnsafeEntry::PaxRecord(cut(key.as_bytes())));
        }
        if records[..i].iter().any(|(earlier, _)| earlier == key) {
            return Err(UnsafeEntry::Ambiguous("the same PAX record twice"));
        }
        // An empty value deletes an earlier one, for readers that implement this rule.
        if value.is_empty() {
            return Err(UnsafeEntry::Ambiguous("a PAX record without value"));
        }
        if key == "size" && *value != size.to_string().into_bytes() {
            return Err(UnsafeEntry::Ambiguous("one size in its header and another in a PAX record"));
        }
    }
    Ok(())
}

/// The permission bits; the bits for the type of file may be set if they match the type.
fn mode(header: &Header, kind: &Kind) -> Result<u32, UnsafeEntry> {
    let mode = octal(&header.as_old().mode).and_then(|mode| u32::try_from(mode).ok());
    let mode = mode.ok_or(UnsafeEntry::Ambiguous("a mode that is not octal"))?;
    let own_type = match kind {
        Kind::File | Kind::Hardlink(_) => 0o100_000,
        Kind::Directory => 0o040_000,
        Kind::Symlink(_) => 0o120_000,
    };
    match mode & !0o7777 {
        0 => {}
        bits if bits == own_type => {}
        _ => return Err(UnsafeEntry::Ambiguous("one type in its mode and another in its header")),
    }
    if mode & 0o6000 == 0 { Ok(mode & 0o1777) } else { Err(UnsafeEntry::SetId(mode & 0o7777)) }
}

/// The name in a GNU `@LongLink` entry, which ends with a NUL or at the end of the entry.
fn long_name<R: Read>(
    entry: &mut Entry<'_, R>,
    size: u64,
    refuse: impl Fn(UnsafeEntry) -> IntakeError,
) -> Result<Vec<u8>, IntakeError> {
    let mut name = whole(entry, size, MAX_NAME as u64 + 1, &refuse)?;
    if name.last() == Some(&0) {
        name.pop();
    }
    if name.is_empty() { Err(refuse(UnsafeEntry::Empty)) } else { Ok(name) }
}

/// Reads an extension header into memory; other entries are not kept in memory.
fn whole<R: Read>(
    entry: &mut Entry<'_, R>,
    size: u64,
    limit: u64,
    refuse: impl Fn(UnsafeEntry) -> IntakeError,
) -> Result<Vec<u8>, IntakeError> {
    if size > limit {
        return Err(refuse(UnsafeEntry::TooLong));
    }
    let mut content = Vec::new();
    entry
        .read_to_end(&mut content)
        .map_err(|error| IntakeError::from_io(error, |source| IntakeError::Malformed { after: None, source }))?;
    if content.len() as u64 == size { Ok(content) } else { Err(IntakeError::truncated("its tar ends inside a header")) }
}

/// The records of a PAX header, which must fill it completely.
fn records(mut content: &[u8]) -> Result<Vec<Record>, UnsafeEntry> {
    let malformed = || UnsafeEntry::Ambiguous("a malformed PAX header");
    let mut records = Vec::new();
    while let Some(first) = content.first() {
        // Readers differ in how they treat lengths with a sign or leading zeros.
        let record = split_record(content).filter(|_| matches!(first, b'1'..=b'9'));
        let (record, rest) = record.ok_or_else(malformed)?;
        let key = String::from_utf8(record.key).ok().filter(|key| !key.is_empty()).ok_or_else(malformed)?;
        records.push((key, record.value));
        content = rest;
    }
    Ok(records)
}

fn type_name(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Char => "character device",
        EntryType::Block => "block device",
        EntryType::Fifo => "fifo",
        EntryType::GNUSparse => "sparse file",
        EntryType::Continuous => "contiguous file",
        _ => "thing of a type that Docker does not know",
    }
}
