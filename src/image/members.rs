//! Copies the members of an image archive from a reader to a writer: checks what they may be, and indexes them. The callers
//! decide which members are required.

use std::cell::Cell;
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
use crate::context::tar_format::{header_doubt, padding, parent, resolve};
use crate::net::counted::{Counted, Position};

/// The size of reads and writes, so that the cost of system calls is negligible.
const COPY_BUFFER: usize = 256 * 1024;

/// The memory limit for decompressing xz, in KiB: `xz -9` needs 65 MiB, and a header can demand gigabytes.
const XZ_MEMORY: u32 = 256 * 1024;

/// More than any image has: an image has at most 127 layers, each with a few members. The index of all members is kept in
/// memory.
const MOST_MEMBERS: usize = 10_000;

/// More than any archive of one image has: configurations, manifests and indexes, also of attestations and other platforms.
const MOST_DOCUMENTS: usize = 64;

/// More than the total size of all documents. They are kept in memory.
const MOST_TEXT: usize = 4 * 4 * 1024 * 1024;

/// Why reading failed; each caller converts this to an error of its own.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The reader failed, or its data is no tar.
    Read(io::Error),
    /// The writer failed.
    Write(io::Error),
    /// A member that is not allowed.
    Content(Problem),
}

impl ReadError {
    fn member(member: &str, breaks: &'static str, problem: impl Into<String>) -> Self {
        Self::Content(Problem::new(member, breaks, problem))
    }
}

/// An archive that ends too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("truncated at {bytes} bytes{}", if *.unpacked { ", unpacked" } else { "" })]
pub(super) struct Truncated {
    bytes: u64,
    /// Whether the bytes are those of the tar in a whole compressed file.
    unpacked: bool,
}

impl Truncated {
    /// Of an archive that ends before it is complete.
    fn new(tar: Position, compression: Compression) -> Self {
        Self { bytes: tar.bytes, unpacked: compression != Compression::Plain }
    }

    /// Whether an error of a reader is one of these.
    pub(super) fn of(error: &io::Error) -> Option<Self> {
        error.get_ref().and_then(|inner| inner.downcast_ref::<Self>()).copied()
    }

    /// For callers that know I/O errors only.
    pub(super) fn into_io(self) -> io::Error {
        io::Error::new(io::ErrorKind::UnexpectedEof, self)
    }
}

/// Called for a member that is not allowed: it either stops with an error, or continues without the member.
pub(super) type ProblemHandler<'a> = &'a mut dyn FnMut(Problem) -> Result<(), ReadError>;

/// Stops at the first problem, for callers that pass on what they read.
pub(super) fn fail_fast(problem: Problem) -> Result<(), ReadError> {
    Err(ReadError::Content(problem))
}

/// What is known of an archive so far.
#[derive(Default)]
pub(super) struct ArchiveIndex {
    pub(super) manifest: Option<Vec<Image>>,
    /// The text of `repositories`.
    pub(super) repositories: Option<Vec<u8>>,
    /// The text of an OCI layout's `index.json`.
    pub(super) oci_index: Option<Vec<u8>>,
    /// The compression of the whole archive.
    pub(super) compression: Compression,
    /// Where the tar ends, if it has no end of its own: some writers leave it out, or the end is cut off between two members.
    pub(super) unended: Option<Truncated>,
    /// Whether the header of a member was read.
    has_header: bool,
    members: HashMap<String, Member>,
    documents: usize,
    text: usize,
}

impl ArchiveIndex {
    /// Whether no header could be read: then the file is of another kind, and the error message of the tar reader would contain
    /// pieces of that file.
    pub(super) fn is_nothing(&self) -> bool {
        !self.has_header
    }
}

/// What a member is.
#[derive(Debug, PartialEq)]
pub(super) enum Member {
    Directory,
    /// A file, with its digests.
    File(MemberDigests),
    /// A link and its target; older engines write a link for a layer that is the same as another.
    Link(String),
}

/// The outputs for the members.
pub(super) struct Out<W, P> {
    /// Gets layers and configurations as they are, with their headers.
    pub(super) raw: W,
    /// Gets their content, decompressed, one after the other.
    pub(super) plain: ContentWriter<P>,
}

/// Reads an archive, compressed or not, to the end of the file: checksums follow the tar's end, and the file's sha256 covers all.
pub(super) fn read_all<R: Read, W: Write, P: Write>(
    source: &mut R,
    out: &mut Out<W, P>,
    index: &mut ArchiveIndex,
    on_problem: ProblemHandler,
) -> Result<(), ReadError> {
    let (file, tar) = (Cell::new(Position::default()), Cell::new(Position::default()));
    let mut beginning = Vec::new();
    let mut source = Counted::new(source, &file);
    source.by_ref().take(MAGIC as u64).read_to_end(&mut beginning).map_err(ReadError::Read)?;
    index.compression = Compression::of(&beginning);
    let whole = Cursor::new(beginning).chain(source.by_ref());
    let mut plain: Box<dyn Read + '_> = match index.compression {
        Compression::Plain => Box::new(whole),
        Compression::Gzip => Box::new(MultiGzDecoder::new(whole)),
        Compression::Zstd => Box::new(zstd::Decoder::new(whole).map_err(ReadError::Read)?),
        Compression::Xz => Box::new(XzReader::new_mem_limit(whole, true, XZ_MEMORY)),
        Compression::Bzip2 => Box::new(MultiBzDecoder::new(whole)),
    };
    let read = read_members(Counted::new(&mut plain, &tar), out, index, on_problem);
    let (at_file, at_tar, compression) = (file.get(), tar.get(), index.compression);
    match read {
        // The tar reader comes to the end only where it finds no end of the tar.
        Ok(()) if at_tar.is_at_end && index.has_header => index.unended = Some(Truncated::new(at_tar, compression)),
        Err(ReadError::Read(_)) if at_tar.is_at_end && index.has_header => {
            return Err(ReadError::Read(Truncated::new(at_tar, compression).into_io()));
        }
        // Decoders may come to the end of the file before they meet what is wrong.
        Err(ReadError::Read(error)) if error.kind() == io::ErrorKind::UnexpectedEof && at_file.is_at_end => {
            return Err(ReadError::Read(Truncated { bytes: at_file.bytes, unpacked: false }.into_io()));
        }
        read => read?,
    }
    let rest = io::copy(&mut plain, &mut io::sink());
    rest.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            ReadError::Read(Truncated { bytes: file.get().bytes, unpacked: false }.into_io())
        }
        _ => ReadError::Read(error),
    })?;
    drop(plain);
    io::copy(&mut source, &mut io::sink()).map(drop).map_err(ReadError::Read)
}

/// Reads a plain archive to its end. It reads and drops the members that describe the archive, because the program writes its own.
pub(super) fn read_members<R: Read, W: Write, P: Write>(
    source: R,
    out: &mut Out<W, P>,
    index: &mut ArchiveIndex,
    on_problem: ProblemHandler,
) -> Result<(), ReadError> {
    let mut archive = tar::Archive::new(source);
    // Raw: extension headers are checked here, so the crate must not apply them.
    let entries = archive.entries().map_err(ReadError::Read)?.raw(true);
    for entry in entries {
        let mut entry = entry.map_err(ReadError::Read)?;
        index.has_header = true;
        match read_member(&mut entry, out, index) {
            Err(ReadError::Content(problem)) => on_problem(problem)?,
            taken => taken?,
        }
    }
    Ok(())
}

fn read_member<R: Read, W: Write, P: Write>(
    entry: &mut Entry<R>,
    out: &mut Out<W, P>,
    index: &mut ArchiveIndex,
) -> Result<(), ReadError> {
    // Some readers take parts of the name from fields that others ignore.
    if let Some(doubt) = header_doubt(entry.header()) {
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        return Err(ReadError::member(&name, DOUBT, format!("its member {name:?} has {doubt}")));
    }
    let kind = entry.header().entry_type();
    if matches!(kind, EntryType::XHeader | EntryType::XGlobalHeader) {
        return check_extension(entry);
    }
    let name = plain_name(entry)?;
    match (name.as_str(), kind) {
        ("manifest.json", EntryType::Regular) if index.manifest.is_none() => index.manifest = Some(read_json(entry)?),
        // image-worker writes a new one.
        ("repositories", EntryType::Regular) if index.repositories.is_none() => {
            index.repositories = Some(read_small(entry, "repositories")?);
        }
        // Docker since 25 also writes an OCI layout, without our tag. Readers that know the format would prefer it
        // to the manifest, and load an image without a name.
        ("index.json", EntryType::Regular) if index.oci_index.is_none() => {
            index.oci_index = Some(read_small(entry, "index.json")?);
        }
        ("oci-layout", EntryType::Regular) => {}
        ("manifest.json" | "repositories" | "index.json", _) => {
            return Err(ReadError::member(&name, DOUBT, format!("its {name} is no file, or comes twice")));
        }
        _ => copy_member(entry, name, out, index)?,
    }
    Ok(())
}

/// A member's name, if every reader understands it the same way.
fn plain_name<R: Read>(entry: &Entry<R>) -> Result<String, ReadError> {
    let raw = entry.path_bytes();
    let name = std::str::from_utf8(&raw).ok().filter(|name| !name.starts_with('/')).and_then(|name| resolve("", name));
    let shown = String::from_utf8_lossy(&raw);
    name.ok_or_else(|| ReadError::member(&shown, OUTSIDE, format!("its member {shown:?} has no plain name")))
}

/// Checks an extension header for the next member, and drops it: times and owners of members mean nothing to an engine.
/// Names and sizes do: readers that apply them would see another archive than readers that do not. Engines use short names,
/// which need no such header.
fn check_extension<R: Read>(entry: &mut Entry<R>) -> Result<(), ReadError> {
    let records = read_small(entry, "an extension header")?;
    // Anywhere in the header, because readers parse it differently.
    let says = |word: &[u8]| records.windows(word.len()).any(|window| window == word);
    if [&b"path="[..], b"size=", b"GNU.sparse", b"hdrcharset="].into_iter().any(says) {
        return Err(ReadError::member("", DOUBT, "it has names or sizes in extension headers"));
    }
    Ok(())
}

/// Copies a member as it is, and adds it to the index.
fn copy_member<R: Read, W: Write, P: Write>(
    entry: &mut Entry<R>,
    name: String,
    out: &mut Out<W, P>,
    index: &mut ArchiveIndex,
) -> Result<(), ReadError> {
    let size = entry.size();
    let link = |from: &str| {
        let to = entry.link_name_bytes().unwrap_or_default();
        let inside = std::str::from_utf8(&to).ok().filter(|to| !to.starts_with('/')).and_then(|to| resolve(from, to));
        inside.ok_or_else(|| ReadError::member(&name, OUTSIDE, format!("its member {name:?} leads out of it")))
    };
    let other = match entry.header().entry_type() {
        EntryType::Regular => None,
        EntryType::Directory => Some(Member::Directory),
        EntryType::Symlink => Some(Member::Link(link(parent(&name))?)),
        EntryType::Link => Some(Member::Link(link("")?)),
        other => return Err(ReadError::member(&name, DOUBT, format!("its member {name:?} is no file, but {other:?}"))),
    };
    // Readers differ in how they treat these.
    if (size > 0 && other.is_some()) || (other.is_none() && entry.path_bytes().ends_with(b"/")) {
        return Err(ReadError::member(&name, DOUBT, format!("its member {name:?} is a folder or link with content")));
    }
    out.raw.write_all(entry.header().as_bytes()).map_err(ReadError::Write)?;
    let mut digesting = DigestingWriter::new(size, &mut out.plain);
    copy(entry, &mut out.raw, size, |bytes| digesting.add(bytes))?;
    out.raw.write_all(padding(size)).map_err(ReadError::Write)?;
    let digests = digesting.finish();
    out.plain.failure().map_err(ReadError::Write)?;
    let member = other.unwrap_or(Member::File(digests));
    if let Member::File(MemberDigests { text: Some(text), .. }) = &member {
        index.documents += 1;
        index.text += text.len();
    }
    if index.members.len() >= MOST_MEMBERS || index.documents > MOST_DOCUMENTS || index.text > MOST_TEXT {
        return Err(ReadError::member(&name, NOTHING_LOADS, "it has more in it than one image can have"));
    }
    match index.members.get(&name) {
        Some(known) if (known, &member) != (&Member::Directory, &Member::Directory) => {
            Err(ReadError::member(&name, DOUBT, format!("its member {name:?} comes twice")))
        }
        _ => {
            index.members.insert(name, member);
            Ok(())
        }
    }
}

/// Copies `size` bytes and passes them to `watch`; distinguishes read errors from write errors.
pub(super) fn copy<R: Read, W: Write>(
    from: &mut R,
    to: &mut W,
    size: u64,
    mut watch: impl FnMut(&[u8]),
) -> Result<(), ReadError> {
    let mut buffer = vec![0; COPY_BUFFER.min(usize::try_from(size).unwrap_or(COPY_BUFFER))];
    let mut left = size;
    while left > 0 {
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = match from.read(&mut buffer[..most]) {
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

fn read_json<R: Read, T: serde::de::DeserializeOwned>(entry: &mut Entry<R>) -> Result<T, ReadError> {
    let text = read_small(entry, "manifest.json")?;
    let wrong = |error| ReadError::member("manifest.json", NOTHING_LOADS, format!("manifest.json: {error}"));
    serde_json::from_slice(&text).map_err(wrong)
}

/// The content of a small member.
fn read_small<R: Read>(entry: &mut Entry<R>, name: &str) -> Result<Vec<u8>, ReadError> {
    if entry.size() > SMALL_MEMBER {
        return Err(ReadError::member(name, NOTHING_LOADS, format!("{name} has {} bytes", entry.size())));
    }
    let mut content = Vec::new();
    let size = entry.size();
    copy(entry, &mut content, size, |_| {})?;
    Ok(content)
}

impl ArchiveIndex {
    /// The archive's single image.
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

    /// All files with their digests, in no order.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &MemberDigests)> {
        self.members.iter().filter_map(|(name, member)| match member {
            Member::File(digests) => Some((name.as_str(), digests)),
            Member::Directory | Member::Link(_) => None,
        })
    }

    /// The file that a name leads to, through links.
    pub(super) fn file(&self, name: &str) -> Option<&MemberDigests> {
        let mut at = self.members.get(name);
        // A chain of links longer than the number of members is a cycle.
        for _ in 0..self.members.len() {
            let Some(Member::Link(target)) = at else { break };
            at = self.members.get(target);
        }
        match at {
            Some(Member::File(digests)) => Some(digests),
            Some(Member::Directory | Member::Link(_)) | None => None,
        }
    }
}
