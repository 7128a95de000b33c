//! Reads the entries of a plain layer in a file, with their positions: it reads headers and skips contents. The callers decide
//! what an entry means for the image.

use std::io;
use std::ops::Range;

use tar::{Archive, EntryType, Header};

use super::extents::{ExtentReader, ReadAt};
use crate::context::tar_format::{BLOCK, Record, plain, records_of};
use crate::report::Hint;

/// A layer's tar that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The tar, or the file that it is in, is not what it should be.
    #[error(
        "a layer's tar cannot be read beyond its byte {position}{}",
        Hint("build the image again, or check the archive")
    )]
    Read {
        /// Where in the layer.
        position: u64,
        /// What is wrong.
        source: io::Error,
    },
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A file.
    File,
    /// A file with holes, in GNU's own form.
    Sparse,
    /// Another name of a file of the same layer.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A directory.
    Directory,
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A named pipe.
    Pipe,
    /// Any other type of the tar format, by its letter.
    Other(u8),
}

/// A time, as entries store it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds to add to the seconds.
    pub nanoseconds: u32,
}

/// What an entry hides in the layers below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whiteout {
    /// This path, and everything below it.
    Path(Vec<u8>),
    /// Everything in this directory, but not the directory itself.
    Content(Vec<u8>),
}

/// An entry of a layer. Positions are counted from the layer's first byte.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its path, without `./` or `/` at the beginning, and without `/` at the end.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// The target of a link, as it is written; for a hard link a path like [`Entry::path`].
    pub link: Vec<u8>,
    /// The permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// The owner.
    pub uid: u64,
    /// The owner's group.
    pub gid: u64,
    /// The owner's name, if known.
    pub user: Vec<u8>,
    /// The group's name, if known.
    pub group: Vec<u8>,
    /// When it was modified.
    pub mtime: Moment,
    /// How large the file is.
    pub size: u64,
    /// A device's two numbers.
    pub device: Option<(u32, u32)>,
    /// Extended attributes, with their names.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The first block of the entry: that of the first extension header, if there are any.
    pub start: u64,
    /// Its own header.
    pub header: u64,
    /// The content of the file; for a sparse file without the holes.
    pub data: Range<u64>,
}

impl Entry {
    /// Where the next entry begins: after the data, which is padded to whole blocks.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.data.end.next_multiple_of(BLOCK)
    }

    /// What it hides, if it is a whiteout and not a file.
    #[must_use]
    pub fn whiteout(&self) -> Option<Whiteout> {
        let cut = self.path.iter().rposition(|byte| *byte == b'/');
        let (directory, name) = match cut {
            Some(cut) => (&self.path[..cut], &self.path[cut + 1..]),
            None => (&[][..], &self.path[..]),
        };
        let hidden = name.strip_prefix(b".wh.")?;
        if hidden == b".wh..opq" {
            return Some(Whiteout::Content(directory.to_vec()));
        }
        let prefix = &self.path[..cut.map_or(0, |cut| cut + 1)];
        Some(Whiteout::Path([prefix, hidden].concat()))
    }
}

/// A layer whose entries can be read.
#[derive(Debug)]
pub struct Layer<'f> {
    file: &'f dyn ReadAt,
    pieces: &'f [Range<u64>],
}

/// The layer that consists of these pieces of a file.
#[must_use]
pub fn entries<'f>(file: &'f dyn ReadAt, pieces: &'f [Range<u64>]) -> Layer<'f> {
    Layer { file, pieces }
}

impl<'f> Layer<'f> {
    /// The bytes of the layer; an entry's content is at [`Entry::data`].
    #[must_use]
    pub fn bytes(&self) -> ExtentReader<'f> {
        ExtentReader::new(self.file, self.pieces)
    }

    /// The entry at this range of blocks, which [`Layer::each`] has reported.
    pub(super) fn entry(&self, blocks: Range<u64>) -> Result<Entry, LayerError> {
        let places = self.bytes().places(blocks.clone());
        let mut found = None;
        entries(self.file, &places).each(|entry| {
            found = Some(entry);
            Ok::<_, LayerError>(())
        })?;
        let missing = || LayerError::Read { position: blocks.start, source: io::ErrorKind::InvalidData.into() };
        let mut entry = found.ok_or_else(missing)?;
        entry.start += blocks.start;
        entry.header += blocks.start;
        entry.data = entry.data.start + blocks.start..entry.data.end + blocks.start;
        Ok(entry)
    }

    /// Calls `visit` for each entry. Returns the position after the last one.
    pub fn each<E: From<LayerError>>(&self, mut visit: impl FnMut(Entry) -> Result<(), E>) -> Result<u64, E> {
        let bytes = self.bytes();
        let mut archive = Archive::new(self.bytes());
        let mut start = 0;
        let broken = |position| move |source| LayerError::Read { position, source };
        for entry in archive.entries_with_seek().map_err(broken(0))? {
            let entry = entry.map_err(broken(start))?;
            // A header for all entries that follow, which engines ignore: it counts as a part of the next entry.
            if entry.header().entry_type() == EntryType::XGlobalHeader {
                continue;
            }
            let entry = parse_entry(&bytes, &entry, start).map_err(broken(start))?;
            start = entry.end();
            visit(entry)?;
        }
        Ok(start)
    }
}

fn parse_entry(bytes: &ExtentReader, entry: &tar::Entry<ExtentReader>, start: u64) -> io::Result<Entry> {
    let header = entry.header();
    let old = header.as_old();
    let kind = kind(header);
    let mtime = number(&old.mtime, header.mtime())?;
    let mut data = entry.raw_file_position();
    if kind == Kind::Sparse {
        data = after_sparse_map(bytes, header, data)?;
    }
    let stored = if kind == Kind::Sparse { header.entry_size()? } else { entry.size() };
    let mut parsed = Entry {
        path: header.path_bytes().into_owned(),
        kind,
        link: header.link_name_bytes().unwrap_or_default().into_owned(),
        mode: number(&old.mode, header.mode())? & 0o7777,
        uid: number(&old.uid, header.uid())?,
        gid: number(&old.gid, header.gid())?,
        user: header.username_bytes().unwrap_or_default().to_vec(),
        group: header.groupname_bytes().unwrap_or_default().to_vec(),
        mtime: Moment { seconds: i64::try_from(mtime).map_err(io::Error::other)?, nanoseconds: 0 },
        size: entry.size(),
        device: match kind {
            Kind::Character | Kind::Block => header.device_major()?.zip(header.device_minor()?),
            _ => None,
        },
        xattrs: Vec::new(),
        start,
        header: entry.raw_header_position(),
        data: data..data.checked_add(stored).ok_or(io::ErrorKind::InvalidData)?,
    };
    let mut declared_size = header.entry_size()?;
    let extensions = extensions(bytes, start..parsed.header)?;
    for record in extensions.into_iter().flat_map(|extension| extension.records) {
        if record.key == b"size" {
            declared_size = record.number()?;
        }
        apply_record(record, &mut parsed)?;
    }
    // Readers that disagree on the size would continue at different entries.
    if declared_size != stored {
        return Err(io::Error::other("its headers can be read as different sizes"));
    }
    parsed.path = plain(&parsed.path).into_owned();
    if kind == Kind::HardLink {
        parsed.link = plain(&parsed.link).into_owned();
    }
    if parsed.data.end > bytes.length() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(parsed)
}

fn kind(header: &Header) -> Kind {
    match header.entry_type() {
        EntryType::Regular | EntryType::Continuous => Kind::File,
        EntryType::GNUSparse => Kind::Sparse,
        EntryType::Link => Kind::HardLink,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Directory => Kind::Directory,
        EntryType::Char => Kind::Character,
        EntryType::Block => Kind::Block,
        EntryType::Fifo => Kind::Pipe,
        other => Kind::Other(other.as_byte()),
    }
}

/// A field that is empty means zero to every reader except the `tar` crate.
pub(super) fn number<N: Default>(field: &[u8], parsed: io::Result<N>) -> io::Result<N> {
    if field.iter().all(|byte| matches!(byte, 0 | b' ')) { Ok(N::default()) } else { parsed }
}

/// Where the data begins: the map of a file with many holes continues in further blocks.
fn after_sparse_map(bytes: &ExtentReader, header: &Header, mut position: u64) -> io::Result<u64> {
    let mut more = header.as_gnu().is_some_and(tar::GnuHeader::is_extended);
    while more {
        let mut block = tar::GnuExtSparseHeader::new();
        bytes.read_exact_at(block.as_mut_bytes(), position)?;
        more = block.is_extended();
        position += BLOCK;
    }
    Ok(position)
}

/// The time in a record.
pub(super) fn moment(record: &Record) -> io::Result<Moment> {
    let wrong = || io::Error::other(format!("{:?} is no time", String::from_utf8_lossy(&record.value)));
    let text = str::from_utf8(&record.value).map_err(|_| wrong())?;
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().map_err(|_| wrong())?;
    if !part.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(wrong());
    }
    // Nine digits: file systems do not store finer times.
    let nanoseconds: u32 = format!("{part:0<9}").get(..9).and_then(|part| part.parse().ok()).ok_or_else(wrong)?;
    if !text.starts_with('-') || nanoseconds == 0 {
        return Ok(Moment { seconds, nanoseconds });
    }
    Ok(Moment { seconds: seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds })
}

fn apply_record(record: Record, entry: &mut Entry) -> io::Result<()> {
    match record.key.as_slice() {
        b"mtime" => entry.mtime = moment(&record)?,
        b"path" => entry.path = record.value,
        b"linkpath" => entry.link = record.value,
        b"uid" => entry.uid = record.number()?,
        b"gid" => entry.gid = record.number()?,
        b"uname" => entry.user = record.value,
        b"gname" => entry.group = record.value,
        key => {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                entry.xattrs.push((name.to_vec(), record.value));
            }
        }
    }
    Ok(())
}

/// An extension header and its records for the next entry.
#[derive(Debug)]
pub(super) struct Extension {
    pub(super) header: u64,
    pub(super) records: Vec<Record>,
    pub(super) end: u64,
}

/// The extension headers in this range.
pub(super) fn extensions(bytes: &ExtentReader, range: Range<u64>) -> io::Result<Vec<Extension>> {
    let mut found = Vec::new();
    let mut position = range.start;
    while position < range.end {
        let mut header = Header::new_old();
        bytes.read_exact_at(header.as_mut_bytes(), position)?;
        let data = position + BLOCK;
        let size = header.entry_size()?;
        if size > range.end - position {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut text = Vec::new();
        bytes.copy(data..data + size, &mut text)?;
        let records = records_of(header.entry_type(), &text)?;
        let end = data + size.next_multiple_of(BLOCK);
        found.push(Extension { header: position, records, end });
        position = end;
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
