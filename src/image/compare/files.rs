//! Finds the differences between two layers, file by file. Only the paths and positions of one layer are kept in memory;
//! metadata and contents are read again when needed.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::io::{self, BufRead as _, BufReader, Read};
use std::ops::Range;

use jiff::Timestamp;
use serde::Serialize;
use similar::{ChangeTag, TextDiff};

use crate::image::extents::ExtentReader;
use crate::image::layer::{Entry, Kind, Layer, LayerError, Moment};
use crate::net::Digest;
use crate::net::digest_reader::DigestReader;

/// The size of reads, so that the cost of system calls is negligible.
const READ_BUFFER: usize = 128 * 1024;
/// Texts up to this size are compared line by line. Larger ones are data, and would have to be kept in memory.
const SMALL_TEXT: u64 = 64 * 1024;
/// How many changed lines are shown.
const MOST_LINES: usize = 12;

/// The differences between two layers.
#[derive(Debug, Default)]
pub(super) struct LayerDifferences {
    pub(super) files: Vec<FileDifference>,
    pub(super) order: Option<String>,
}

/// A path, and the differences there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileDifference {
    /// The path in the layer.
    pub path: String,
    /// What differs.
    pub aspects: Vec<Aspect>,
}

/// A difference. The first value is A's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Aspect {
    /// Only A has it.
    OnlyInA,
    /// Only B has it.
    OnlyInB,
    /// The type of the entry.
    Kind(String, String),
    /// The permission bits.
    Mode(String, String),
    /// Owner and group, with their names if known.
    Owner(String, String),
    /// The modification time.
    Time(String, String),
    /// The size in bytes.
    Size(u64, u64),
    /// The target of a link.
    Link(String, String),
    /// A device's numbers.
    Device(String, String),
    /// Extended attributes.
    Xattrs(String, String),
    /// The sha256 of the content; for small texts also the changed lines.
    Content(Digest, Digest, Vec<String>),
    /// A difference in the header that means nothing for the file.
    Header,
}

/// The position of a path in A.
struct EntryLocation {
    range: Range<u64>,
    number: usize,
    is_matched: bool,
}

/// Compares two layers.
pub(super) fn compare(a: &Layer, b: &Layer) -> Result<LayerDifferences, Sided<LayerError>> {
    let mut places = HashMap::new();
    let mut number = 0;
    a.each(|entry| {
        let mut key = entry.path.clone();
        // For a repeated path, add a byte that no path contains.
        while places.contains_key(&key) {
            key.push(0);
        }
        places.insert(key, EntryLocation { range: entry.start..entry.end(), number, is_matched: false });
        number += 1;
        Ok::<_, LayerError>(())
    })
    .map_err(Sided::in_a)?;
    let mut found = LayerDifferences::default();
    let mut next = 0;
    let (one, other) = (a.bytes(), b.bytes());
    b.each(|entry| {
        let mut key = entry.path.clone();
        let place = loop {
            match places.entry(key.clone()) {
                Slot::Occupied(slot) if slot.get().is_matched => key.push(0),
                Slot::Occupied(slot) => break Some(slot.into_mut()),
                Slot::Vacant(_) => break None,
            }
        };
        let Some(place) = place else {
            found.files.push(FileDifference { path: lossy(&entry.path), aspects: vec![Aspect::OnlyInB] });
            return Ok(());
        };
        place.is_matched = true;
        if place.number < next && found.order.is_none() {
            found.order = Some(lossy(&entry.path));
        }
        next = next.max(place.number);
        let before = a.entry(place.range.clone()).map_err(Sided::in_a)?;
        let aspects = aspects(&one, &before, &other, &entry).map_err(|Sided { side, error: source }| {
            let position = [before.start, entry.start][side];
            Sided { side, error: LayerError::Read { position, source } }
        })?;
        if !aspects.is_empty() {
            found.files.push(FileDifference { path: lossy(&entry.path), aspects });
        }
        Ok::<_, Sided<LayerError>>(())
    })?;
    let missing = places.into_iter().filter(|(_, place)| !place.is_matched);
    found.files.extend(missing.map(|(path, _)| FileDifference { path: lossy(&path), aspects: vec![Aspect::OnlyInA] }));
    found.files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

/// An error with the side where it occurred.
pub(super) struct Sided<E> {
    /// 0 for A, 1 for B.
    pub(super) side: usize,
    pub(super) error: E,
}

impl<E> Sided<E> {
    fn in_a(error: E) -> Self {
        Self { side: 0, error }
    }

    fn in_b(error: E) -> Self {
        Self { side: 1, error }
    }
}

/// What cannot be read while B's entries are is B.
impl From<LayerError> for Sided<LayerError> {
    fn from(error: LayerError) -> Self {
        Self::in_b(error)
    }
}

/// The differences between two entries of the same path.
fn aspects(one: &ExtentReader, a: &Entry, other: &ExtentReader, b: &Entry) -> Result<Vec<Aspect>, Sided<io::Error>> {
    let mut found = Vec::new();
    let mut text = |differs: bool, aspect: fn(String, String) -> Aspect, describe: fn(&Entry) -> String| {
        if differs {
            found.push(aspect(describe(a), describe(b)));
        }
    };
    text(a.kind != b.kind, Aspect::Kind, |entry| kind(entry.kind));
    text(a.mode != b.mode, Aspect::Mode, |entry| format!("{:04o}", entry.mode));
    text((a.uid, a.gid, &a.user, &a.group) != (b.uid, b.gid, &b.user, &b.group), Aspect::Owner, owner);
    text(a.mtime != b.mtime, Aspect::Time, |entry| time(entry.mtime));
    text(a.link != b.link, Aspect::Link, |entry| lossy(&entry.link));
    text(a.device != b.device, Aspect::Device, |entry| {
        entry.device.map_or_else(|| "none".to_owned(), |(major, minor)| format!("{major}:{minor}"))
    });
    text(a.xattrs != b.xattrs, Aspect::Xattrs, xattrs);
    if a.size != b.size {
        found.push(Aspect::Size(a.size, b.size));
    }
    if a.size != b.size || !same(one, a.data.clone(), other, b.data.clone())? {
        let digests =
            [hash(one, a.data.clone()).map_err(Sided::in_a)?, hash(other, b.data.clone()).map_err(Sided::in_b)?];
        if digests[0] != digests[1] {
            found.push(Aspect::Content(digests[0], digests[1], lines(one, a, other, b)?));
        }
    }
    if found.is_empty() && !same(one, a.start..a.data.start, other, b.start..b.data.start)? {
        found.push(Aspect::Header);
    }
    Ok(found)
}

/// Whether two ranges have the same bytes.
fn same(one: &ExtentReader, a: Range<u64>, other: &ExtentReader, b: Range<u64>) -> Result<bool, Sided<io::Error>> {
    if a.end - a.start != b.end - b.start {
        return Ok(false);
    }
    let (mut left, mut right) = (range_reader(one, a), range_reader(other, b));
    loop {
        let (here, there) = (left.fill_buf().map_err(Sided::in_a)?, right.fill_buf().map_err(Sided::in_b)?);
        let length = here.len().min(there.len());
        if here[..length] != there[..length] {
            return Ok(false);
        }
        if length == 0 {
            return Ok(here.len() == there.len());
        }
        left.consume(length);
        right.consume(length);
    }
}

fn range_reader(bytes: &ExtentReader, range: Range<u64>) -> BufReader<impl Read> {
    let length = range.end - range.start;
    let buffer = usize::try_from(length).map_or(READ_BUFFER, |length| length.clamp(1, READ_BUFFER));
    BufReader::with_capacity(buffer, bytes.part(range))
}

fn hash(bytes: &ExtentReader, range: Range<u64>) -> io::Result<Digest> {
    let mut digest_reader = DigestReader::new(io::sink());
    io::copy(&mut range_reader(bytes, range), &mut digest_reader)?;
    Ok(digest_reader.finish().1.sha256)
}

/// The changed lines of two small texts.
fn lines(one: &ExtentReader, a: &Entry, other: &ExtentReader, b: &Entry) -> Result<Vec<String>, Sided<io::Error>> {
    if a.size.max(b.size) > SMALL_TEXT || [a.kind, b.kind] != [Kind::File; 2] {
        return Ok(Vec::new());
    }
    let text = |bytes: &ExtentReader, entry: &Entry| -> io::Result<Option<String>> {
        let mut text = Vec::new();
        bytes.copy(entry.data.clone(), &mut text)?;
        Ok(String::from_utf8(text).ok().filter(|text| !text.contains('\0')))
    };
    let texts = [text(one, a).map_err(Sided::in_a)?, text(other, b).map_err(Sided::in_b)?];
    let [Some(before), Some(after)] = texts else { return Ok(Vec::new()) };
    let difference = TextDiff::from_lines(&before, &after);
    let changed = difference.iter_all_changes().filter_map(|change| {
        let sign = match change.tag() {
            ChangeTag::Equal => return None,
            ChangeTag::Delete => "-",
            ChangeTag::Insert => "+",
        };
        Some(format!("{sign}{}", change.value().trim_end_matches('\n')))
    });
    Ok(changed.take(MOST_LINES).collect())
}

fn kind(kind: Kind) -> String {
    match kind {
        Kind::File | Kind::Sparse => "file",
        Kind::HardLink => "hard link",
        Kind::Symlink => "symbolic link",
        Kind::Directory => "folder",
        Kind::Character => "character device",
        Kind::Block => "block device",
        Kind::Pipe => "pipe",
        Kind::Other(_) => "something else",
    }
    .to_owned()
}

fn owner(entry: &Entry) -> String {
    let one = |id: u64, name: &[u8]| if name.is_empty() { id.to_string() } else { format!("{id} ({})", lossy(name)) };
    format!("{}:{}", one(entry.uid, &entry.user), one(entry.gid, &entry.group))
}

fn time(moment: Moment) -> String {
    let nanoseconds = i32::try_from(moment.nanoseconds).unwrap_or_default();
    let known = Timestamp::new(moment.seconds, nanoseconds).ok();
    known.map_or_else(|| format!("{} s after 1970", moment.seconds), |time| time.to_string())
}

fn xattrs(entry: &Entry) -> String {
    let pairs = entry.xattrs.iter().map(|(name, value)| format!("{}={}", lossy(name), value.escape_ascii()));
    pairs.collect::<Vec<_>>().join(", ")
}

fn lossy(bytes: &[u8]) -> String {
    // The suffix that marks a repeated path.
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
