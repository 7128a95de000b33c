//! The members of an image archive on their way from a reader to a writer: what they may be, and what is known of them when
//! they have passed. Which of them must be there is for those who call.

use std::collections::HashMap;
use std::io::{self, Cursor, Read, Write};

use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;
use tar::{Entry, EntryType};

use super::SMALL_MEMBER;
use super::manifest::Image;
use super::member_digests::{Compression, ContentWriter, DigestingWriter, MAGIC, MemberDigests};
use super::problem::{DOUBT, MANY_IMAGES, NOTHING_LOADS, OUTSIDE, Problem};
use crate::context::tar_format::{folder, header_doubt, padding, resolve};

/// Members read from and written to disk at this size, so that system calls do not count.
const COPY_BUFFER: usize = 256 * 1024;

/// As much memory as unpacking xz may take, in KiB: `xz -9` needs 65 MiB, and a header can ask for gigabytes.
const XZ_MEMORY: u32 = 256 * 1024;

/// More than any image has: an image has at most 127 layers, each of a few members. What is known of them is kept in
/// memory.
const MOST_MEMBERS: usize = 10_000;

/// More than any archive of one image has: configurations, manifests and indexes, also of attestations and other platforms.
const MOST_DOCUMENTS: usize = 64;

/// More than all of these have together. They are kept in memory.
const MOST_TEXT: usize = 4 * 4 * 1024 * 1024;

/// What went wrong on the way, in words that each writer makes its own.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The reader broke off, or has no tar.
    Read(io::Error),
    /// The writer takes nothing more.
    Write(io::Error),
    /// A member that cannot be.
    Content(Problem),
}

impl ReadError {
    fn member(member: &str, breaks: &'static str, problem: impl Into<String>) -> Self {
        Self::Content(Problem::new(member, breaks, problem))
    }
}

/// What is done about a member that cannot be: to end with it, or to go on without it.
pub(super) type ProblemHandler<'a> = &'a mut dyn FnMut(Problem) -> Result<(), ReadError>;

/// For those who pass on what they read.
pub(super) fn fail_fast(problem: Problem) -> Result<(), ReadError> {
    Err(ReadError::Content(problem))
}

/// What has been seen of an archive so far.
#[derive(Default)]
pub(super) struct ArchiveIndex {
    pub(super) manifest: Option<Vec<Image>>,
    /// The text of `repositories`.
    pub(super) repositories: Option<Vec<u8>>,
    /// The text of an OCI layout's `index.json`.
    pub(super) index: Option<Vec<u8>>,
    /// How the whole is packed.
    pub(super) packing: Compression,
    members: HashMap<String, Member>,
    documents: usize,
    text: usize,
}

impl ArchiveIndex {
    /// Whether not a single member could be read: then it is another kind of file, and what the tar reader says of it has
    /// pieces of that file in it.
    pub(super) fn is_nothing(&self) -> bool {
        self.members.is_empty()
    }
}

/// A member by its name.
#[derive(Debug, PartialEq)]
pub(super) enum Member {
    Folder,
    /// A file, with its sums.
    File(MemberDigests),
    /// A link, with what it leads to; older engines link layers that are the same.
    Link(String),
}

/// Where members go.
pub(super) struct Out<W, P> {
    /// Takes layers and configurations as they are, with their headers.
    pub(super) raw: W,
    /// Takes what is in them, unpacked, one behind the other.
    pub(super) plain: ContentWriter<P>,
}

/// Reads an archive to its very end, packed or not: behind the tar's end are checksums, and what else counts for its sha256.
pub(super) fn read_all<R: Read, W: Write, P: Write>(
    source: &mut R,
    out: &mut Out<W, P>,
    seen: &mut ArchiveIndex,
    object: ProblemHandler,
) -> Result<(), ReadError> {
    let mut beginning = Vec::new();
    source.by_ref().take(MAGIC as u64).read_to_end(&mut beginning).map_err(ReadError::Read)?;
    seen.packing = Compression::of(&beginning);
    let whole = Cursor::new(beginning).chain(source.by_ref());
    let mut plain: Box<dyn Read + '_> = match seen.packing {
        Compression::Plain => Box::new(whole),
        Compression::Gzip => Box::new(MultiGzDecoder::new(whole)),
        Compression::Zstd => Box::new(zstd::Decoder::new(whole).map_err(ReadError::Read)?),
        Compression::Xz => Box::new(XzReader::new_mem_limit(whole, true, XZ_MEMORY)),
        Compression::Bzip2 => Box::new(MultiBzDecoder::new(whole)),
    };
    pass_all(&mut plain, out, seen, object)?;
    io::copy(&mut plain, &mut io::sink()).map_err(ReadError::Read)?;
    drop(plain);
    io::copy(source, &mut io::sink()).map(drop).map_err(ReadError::Read)
}

/// Reads a plain archive to its end. What says which of its members is what is read and left out, for it is written anew.
pub(super) fn pass_all<R: Read, W: Write, P: Write>(
    source: R,
    out: &mut Out<W, P>,
    seen: &mut ArchiveIndex,
    object: ProblemHandler,
) -> Result<(), ReadError> {
    let mut archive = tar::Archive::new(source);
    // Raw: what extension headers say is judged here, and not already believed.
    let entries = archive.entries().map_err(ReadError::Read)?.raw(true);
    for entry in entries {
        let mut entry = entry.map_err(ReadError::Read)?;
        match take(&mut entry, out, seen) {
            Err(ReadError::Content(problem)) => object(problem)?,
            taken => taken?,
        }
    }
    Ok(())
}

fn take<R: Read, W: Write, P: Write>(
    entry: &mut Entry<R>,
    out: &mut Out<W, P>,
    seen: &mut ArchiveIndex,
) -> Result<(), ReadError> {
    // Names can come of what only some readers look at.
    if let Some(doubt) = header_doubt(entry.header()) {
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        return Err(ReadError::member(&name, DOUBT, format!("its member {name:?} has {doubt}")));
    }
    let kind = entry.header().entry_type();
    if matches!(kind, EntryType::XHeader | EntryType::XGlobalHeader) {
        return extension(entry);
    }
    let name = plain_name(entry)?;
    match (name.as_str(), kind) {
        ("manifest.json", EntryType::Regular) if seen.manifest.is_none() => seen.manifest = Some(json(entry)?),
        // Written anew.
        ("repositories", EntryType::Regular) if seen.repositories.is_none() => {
            seen.repositories = Some(whole(entry, "repositories")?);
        }
        // Docker since 25 writes an OCI layout besides, without our tag. Readers that know it would believe it
        // instead of the manifest, and load an image without a name.
        ("index.json", EntryType::Regular) if seen.index.is_none() => seen.index = Some(whole(entry, "index.json")?),
        ("oci-layout", EntryType::Regular) => {}
        ("manifest.json" | "repositories" | "index.json", _) => {
            return Err(ReadError::member(&name, DOUBT, format!("its {name} is no file, or comes twice")));
        }
        _ => pass(entry, name, out, seen)?,
    }
    Ok(())
}

/// A member's name as every reader understands it.
fn plain_name<R: Read>(entry: &Entry<R>) -> Result<String, ReadError> {
    let raw = entry.path_bytes();
    let name = std::str::from_utf8(&raw).ok().filter(|name| !name.starts_with('/')).and_then(|name| resolve("", name));
    let given = String::from_utf8_lossy(&raw);
    name.ok_or_else(|| ReadError::member(&given, OUTSIDE, format!("its member {given:?} has no plain name")))
}

/// Looks at a header that adds to the next member, which is left out: times and owners of members mean nothing to an
/// engine. Names and sizes do, and who reads them here would see another archive than who does not. Engines' names are
/// short, and need no such header.
fn extension<R: Read>(entry: &mut Entry<R>) -> Result<(), ReadError> {
    let records = whole(entry, "an extension header")?;
    // Anywhere in it, because readers differ in how they take it apart.
    let says = |word: &[u8]| records.windows(word.len()).any(|window| window == word);
    if [&b"path="[..], b"size=", b"GNU.sparse", b"hdrcharset="].into_iter().any(says) {
        return Err(ReadError::member("", DOUBT, "it has names or sizes in extension headers"));
    }
    Ok(())
}

/// Copies a member as it is, and keeps in mind that it was there.
fn pass<R: Read, W: Write, P: Write>(
    entry: &mut Entry<R>,
    name: String,
    out: &mut Out<W, P>,
    seen: &mut ArchiveIndex,
) -> Result<(), ReadError> {
    let size = entry.size();
    let link = |from: &str| {
        let to = entry.link_name_bytes().unwrap_or_default();
        let inside = std::str::from_utf8(&to).ok().filter(|to| !to.starts_with('/')).and_then(|to| resolve(from, to));
        inside.ok_or_else(|| ReadError::member(&name, OUTSIDE, format!("its member {name:?} leads out of it")))
    };
    let other = match entry.header().entry_type() {
        EntryType::Regular => None,
        EntryType::Directory => Some(Member::Folder),
        EntryType::Symlink => Some(Member::Link(link(folder(&name))?)),
        EntryType::Link => Some(Member::Link(link("")?)),
        other => return Err(ReadError::member(&name, DOUBT, format!("its member {name:?} is no file, but {other:?}"))),
    };
    // Readers differ in what these are.
    if (size > 0 && other.is_some()) || (other.is_none() && entry.path_bytes().ends_with(b"/")) {
        return Err(ReadError::member(&name, DOUBT, format!("its member {name:?} is a folder or link with content")));
    }
    out.raw.write_all(entry.header().as_bytes()).map_err(ReadError::Write)?;
    let mut digesting = DigestingWriter::new(size, &mut out.plain);
    copy(entry, &mut out.raw, size, |bytes| digesting.add(bytes))?;
    out.raw.write_all(padding(size)).map_err(ReadError::Write)?;
    let sums = digesting.finish();
    out.plain.failure().map_err(ReadError::Write)?;
    let member = other.unwrap_or(Member::File(sums));
    if let Member::File(MemberDigests { text: Some(text), .. }) = &member {
        seen.documents += 1;
        seen.text += text.len();
    }
    if seen.members.len() >= MOST_MEMBERS || seen.documents > MOST_DOCUMENTS || seen.text > MOST_TEXT {
        return Err(ReadError::member(&name, NOTHING_LOADS, "it has more in it than one image can have"));
    }
    match seen.members.get(&name) {
        Some(known) if (known, &member) != (&Member::Folder, &Member::Folder) => {
            Err(ReadError::member(&name, DOUBT, format!("its member {name:?} comes twice")))
        }
        _ => {
            seen.members.insert(name, member);
            Ok(())
        }
    }
}

/// Copies `size` bytes, telling errors of the two ends apart, and shows them to `watch`.
fn copy<R: Read, W: Write>(from: &mut R, to: &mut W, size: u64, mut watch: impl FnMut(&[u8])) -> Result<(), ReadError> {
    let mut buffer = vec![0; COPY_BUFFER.min(usize::try_from(size).unwrap_or(COPY_BUFFER))];
    let mut left = size;
    while left > 0 {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Err(ReadError::Read(io::ErrorKind::UnexpectedEof.into())),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ReadError::Read(error)),
        };
        watch(&buffer[..read]);
        to.write_all(&buffer[..read]).map_err(ReadError::Write)?;
        left -= read as u64;
    }
    Ok(())
}

fn json<R: Read, T: serde::de::DeserializeOwned>(entry: &mut Entry<R>) -> Result<T, ReadError> {
    let text = whole(entry, "manifest.json")?;
    let wrong = |error| ReadError::member("manifest.json", NOTHING_LOADS, format!("manifest.json: {error}"));
    serde_json::from_slice(&text).map_err(wrong)
}

/// The content of a small member.
fn whole<R: Read>(entry: &mut Entry<R>, name: &str) -> Result<Vec<u8>, ReadError> {
    if entry.size() > SMALL_MEMBER {
        return Err(ReadError::member(name, NOTHING_LOADS, format!("{name} has {} bytes", entry.size())));
    }
    let mut content = Vec::new();
    let size = entry.size();
    copy(entry, &mut content, size, |_| {})?;
    Ok(content)
}

impl ArchiveIndex {
    /// The one image of the archive.
    pub(super) fn image(&self) -> Result<&Image, Problem> {
        let problem = |breaks, problem: String| Err(Problem::new("manifest.json", breaks, problem));
        match self.manifest.as_deref() {
            Some([image]) => Ok(image),
            Some([]) => problem(NOTHING_LOADS, "manifest.json names 0 images".to_owned()),
            Some(images) => problem(MANY_IMAGES, format!("manifest.json names {} images", images.len())),
            None => problem(NOTHING_LOADS, "it has no manifest.json".to_owned()),
        }
    }

    /// A member.
    pub(super) fn member(&self, name: &str) -> Option<&Member> {
        self.members.get(name)
    }

    /// All files, in no order, with their sums.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &MemberDigests)> {
        self.members.iter().filter_map(|(name, member)| match member {
            Member::File(sums) => Some((name.as_str(), sums)),
            Member::Folder | Member::Link(_) => None,
        })
    }

    /// The file that a name leads to, over links.
    pub(super) fn file(&self, name: &str) -> Option<&MemberDigests> {
        let mut at = self.members.get(name);
        // As many links in a row as there are members, or they go round.
        for _ in 0..self.members.len() {
            let Some(Member::Link(target)) = at else { break };
            at = self.members.get(target);
        }
        match at {
            Some(Member::File(sums)) => Some(sums),
            Some(Member::Folder | Member::Link(_)) | None => None,
        }
    }
}
