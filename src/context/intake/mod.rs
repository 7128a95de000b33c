//! Receives a context from outside in one pass: decompresses it, hashes it, refuses entries that are unsafe and contexts that
//! are not the expected one, and passes the tar on. The subcommands choose the source and the destination.

mod error;
pub(super) mod files;
mod headers;
mod pipe;
mod rewrite;

use std::cell::Cell;
use std::io::{self, BufReader, Read, Write};

use tar::{Archive, Entry};

use crate::context::owners::may_have_other_owners;
use crate::context::safety::{DeadLink, Node, Tree, UnsafeEntry, cut, shown, symlink_target};
use crate::context::tar_format::BLOCK;
use crate::context::{ContextHash, ContextScheme, ImageName, RepoPath};
use crate::net::SizedDigest;
use crate::net::counted::{Counted, Position};
use crate::net::digest_reader::DigestReader;

pub use error::{IntakeError, IntakeFault};
use headers::{Extensions, Kind, Member};
use pipe::{InputFile, Output, Tee};
use rewrite::Rewrite;

/// The usual parents of image directories: if none was specified, the error message uses them to explain a wrong hash.
const IMAGE_ROOTS: [&str; 2] = ["testing/docker", "taskcluster/docker"];

/// The expected properties of a context.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// How the hash is computed. If `tar` does not give the hash, `gz` is tried too.
    pub scheme: ContextScheme,
    /// The hash; without it, any context is accepted, and its hash is reported.
    pub hash: Option<ContextHash>,
    /// The image's directory in its repository (`CONTEXT_PATH`): the scheme `contents` needs it, because it hashes full paths.
    pub directory: Option<RepoPath>,
    /// The image: a context of 2015 has a single top directory with its name.
    pub image: ImageName,
    /// Whether the transfer is compressed (`Content-Encoding: gzip`), in addition to the file itself.
    pub encoded: bool,
}

/// Limits for a context, so that a decompression bomb gives an error and does not fill the disk or the memory.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The uncompressed size of the tar in bytes.
    pub max_bytes: u64,
    /// The number of files, directories and links.
    pub max_entries: u64,
    /// The total length of all names and link targets in bytes.
    pub max_name_bytes: u64,
}

impl Default for Limits {
    /// Far above real contexts (a few MB, some hundred files), and far below the capacity of workers.
    fn default() -> Self {
        Self {
            // Fits beside the image on the smallest worker disks; Dockerfiles download larger inputs.
            max_bytes: 2 << 30,
            // Names are kept in memory to find duplicates: about 20 MB for names of the usual length.
            max_entries: 100_000,
            // 300 bytes per entry, so that long names cannot take more memory than many names.
            max_name_bytes: 32 << 20,
        }
    }
}

/// A context that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its hash.
    pub hash: ContextHash,
    /// How the hash was computed.
    pub scheme: ContextScheme,
    /// Regular files, including hard links to them.
    pub files: u64,
    /// The size of the uncompressed tar in bytes, as received.
    pub bytes: u64,
    /// The number of bytes that were received.
    pub compressed: u64,
    /// Whether it may have entries with other owners than root.
    pub others: bool,
}

/// Receives a context and writes its tar to `out`.
///
/// With the scheme `tar`, `out` gets exactly the bytes that were hashed. With `contents`, which hashes files and not
/// the tar, it gets a new tar of the checked entries, without the top directory that 2015 contexts have;
/// the first entry tells whether there is one.
///
/// The bytes are written before the result is known: discard what was written to `out` unless this returns `Ok`.
pub fn receive<R: Read, W: Write>(
    source: R,
    expect: &Expectation,
    limits: &Limits,
    out: W,
) -> Result<Received, IntakeError> {
    let position = Cell::new(Position::default());
    let received = receive_all(Counted::new(source, &position), expect, limits, out);
    received.map_err(|error| error.at(position.get().bytes))
}

fn receive_all<R: Read, W: Write>(
    source: R,
    expect: &Expectation,
    limits: &Limits,
    out: W,
) -> Result<Received, IntakeError> {
    if expect.scheme == ContextScheme::Contents && expect.directory.is_none() {
        return Err(IntakeError::NeedsDirectory { image: expect.image.clone() });
    }
    let unpacked = pipe::open(source, expect.encoded, limits.max_bytes)?;

    let (open, at_end) = (Cell::new(true), Cell::new(false));
    let out = Output::new(out, &open);
    let (mut passed_on, mut rewrite) = (None, None);
    match expect.scheme {
        ContextScheme::Tar | ContextScheme::Gz => passed_on = Some(out),
        ContextScheme::Contents => rewrite = Some(Rewrite::new(out)),
    }
    let tee = Tee::new(unpacked, passed_on.as_mut(), limits.max_bytes, &at_end);
    let mut archive = Archive::new(BufReader::with_capacity(pipe::CHUNK, tee));

    let mut intake = Intake::new(expect, limits);
    let verdict = intake.read(&mut archive, &at_end, rewrite.as_mut()).and_then(|end| {
        let (unpacked, tar) = drain(archive.into_inner(), end)?;
        let input = unpacked.finish();
        let VerifiedHash { hash, scheme } = intake.verify(tar, &input)?;
        let (files, others) = (intake.tree.files(), intake.others);
        Ok(Received { hash, scheme, files, bytes: tar.size, compressed: input.file.size, others })
    });
    // The tar builder writes the end of the archive when it is dropped; a refused archive must not get its end.
    open.set(verdict.is_ok());
    let received = verdict?;
    rewrite.map_or(Ok(()), Rewrite::finish)?;
    if let Some(mut out) = passed_on {
        out.flush().map_err(|error| IntakeError::from_io(error, |source| IntakeError::Output { source }))?;
    }
    Ok(received)
}

/// The hash of a context that is the expected one.
struct VerifiedHash {
    hash: ContextHash,
    /// How it is computed.
    scheme: ContextScheme,
}

/// The state of receiving one context.
struct Intake<'e> {
    expect: &'e Expectation,
    limits: &'e Limits,
    tree: Tree,
    /// Whether the single top directory of a 2015 context is stripped; the first entry decides.
    stripping: Option<bool>,
    entries: u64,
    /// The last entry that was accepted, quoted.
    last: Option<String>,
    /// Whether an entry may have another owner than root.
    others: bool,
    /// The buffer for reading files, one after the other.
    buffer: Box<[u8]>,
}

impl<'e> Intake<'e> {
    fn new(expect: &'e Expectation, limits: &'e Limits) -> Self {
        let (tree, buffer) = (Tree::default(), vec![0; pipe::CHUNK / 2].into());
        Self { expect, limits, tree, stripping: None, entries: 0, last: None, others: false, buffer }
    }

    /// Reads all entries; returns the position where the last one ends.
    fn read<R: Read, W: Write>(
        &mut self,
        archive: &mut Archive<R>,
        at_end: &Cell<bool>,
        mut rewrite: Option<&mut Rewrite<'_, W>>,
    ) -> Result<u64, IntakeError> {
        let mut extensions = Extensions::default();
        let mut end = 0;
        // Raw: otherwise the crate would keep long names and PAX headers of any size in memory, and accept contradictory ones.
        let entries = archive.entries().map_err(|error| self.tar_error(error, at_end))?.raw(true);
        for entry in entries {
            let mut entry = entry.map_err(|error| self.tar_error(error, at_end))?;
            self.others |= may_have_other_owners(entry.header());
            let size = entry.size();
            let member = extensions.take(&mut entry)?;
            end = entry.raw_file_position() + size.next_multiple_of(BLOCK);
            self.entries += u64::from(!extensions.pending());
            let Some(member) = member else { continue };
            let file_end = entry.raw_file_position() + size;
            if file_end > self.limits.max_bytes {
                return Err(member.refuse(UnsafeEntry::TooBig { size, limit: self.limits.max_bytes }));
            }
            let shown = member.shown.clone();
            self.entry(member, &mut entry, rewrite.as_deref_mut())?;
            self.last = Some(shown);
        }
        if extensions.pending() {
            return Err(IntakeError::truncated("its tar ends behind a header for an entry that never comes"));
        }
        Ok(end)
    }

    /// Checks and hashes one entry, and writes it if the tar is rewritten.
    fn entry<R: Read, W: Write>(
        &mut self,
        mut member: Member,
        entry: &mut Entry<'_, R>,
        rewrite: Option<&mut Rewrite<'_, W>>,
    ) -> Result<(), IntakeError> {
        if self.entries > self.limits.max_entries {
            return Err(member.refuse(UnsafeEntry::TooMany(self.limits.max_entries)));
        }
        self.strip(&mut member)?;
        let directory = member.kind == Kind::Directory;
        self.tree.admit(&member.name, directory).map_err(|hazard| member.refuse(hazard))?;
        if member.name == "Dockerfile" && member.kind != Kind::File {
            return Err(member.refuse(UnsafeEntry::Dockerfile(member.kind.name())));
        }
        let node = match &member.kind {
            Kind::Directory => Some(Node::Directory),
            Kind::File => None,
            Kind::Symlink(raw) => {
                let target = symlink_target(&member.name, raw).map_err(|hazard| member.refuse(hazard))?;
                Some(Node::Symlink(target.into()))
            }
            Kind::Hardlink(target) => match self.tree.get(target) {
                Some(Node::File(digest)) => Some(Node::File(*digest)),
                _ => return Err(member.refuse(UnsafeEntry::HardLink { target: cut(target.as_bytes()) })),
            },
        };
        let mut content = DigestReader::new(entry);
        match rewrite {
            // The root directory has no name in the new tar.
            Some(_) if member.name.is_empty() => {}
            Some(rewrite) => rewrite.append(&member, &mut content)?,
            None => {
                // `io::copy` would clear a buffer for each file, which takes longer than reading small files.
                while content.read(&mut self.buffer).map_err(|error| self.entry_error(error))? > 0 {}
            }
        }
        let (_, content) = content.finish();
        if content.size != member.size {
            return Err(IntakeError::truncated("its tar ends inside a file"));
        }
        self.tree.insert(&member.name, node.unwrap_or(Node::File(content.sha256)));
        if self.tree.name_bytes() > self.limits.max_name_bytes {
            return Err(member.refuse(UnsafeEntry::TooManyNames(self.limits.max_name_bytes)));
        }
        Ok(())
    }

    /// Strips the single top directory of a 2015 context from a name, and from the target of a hard link.
    fn strip(&mut self, member: &mut Member) -> Result<(), IntakeError> {
        if self.expect.scheme != ContextScheme::Contents || member.name.is_empty() {
            return Ok(());
        }
        let top = self.expect.image.as_str();
        let trim = |name: &str| match name.strip_prefix(top) {
            Some("") => Some(String::new()),
            Some(rest) => rest.strip_prefix('/').map(str::to_owned),
            None => None,
        };
        let stripped = trim(&member.name).filter(|name| !name.is_empty() || member.kind == Kind::Directory);
        let stripping = *self.stripping.get_or_insert(stripped.is_some());
        if !stripping {
            return Ok(());
        }
        let outside = || UnsafeEntry::OutsideTop { top: format!("{top}/") };
        member.name = stripped.ok_or_else(|| member.refuse(outside()))?;
        if let Kind::Hardlink(target) = &member.kind {
            let target =
                trim(target).ok_or_else(|| member.refuse(UnsafeEntry::HardLink { target: cut(target.as_bytes()) }))?;
            member.kind = Kind::Hardlink(target);
        }
        Ok(())
    }

    /// Checks the hash and that there is a Dockerfile.
    fn verify(&self, tar: SizedDigest, input: &InputFile) -> Result<VerifiedHash, IntakeError> {
        let Expectation { hash: expected, scheme, .. } = *self.expect;
        let actual = self.hash(scheme, tar, input)?;
        let found = match expected.filter(|expected| *expected != actual) {
            None => VerifiedHash { hash: actual, scheme },
            Some(expected) => match self.scheme_of(expected, tar, input) {
                // taskgraph before version 12 does not declare that its hash is that of the compressed file.
                Some(ContextScheme::Gz) if scheme != ContextScheme::Contents => {
                    VerifiedHash { hash: expected, scheme: ContextScheme::Gz }
                }
                other => {
                    let instead = other.filter(|other| *other != scheme);
                    return Err(IntakeError::Mismatch { expected, actual, scheme, bytes: tar.size, instead });
                }
            },
        };
        if !matches!(self.tree.get("Dockerfile"), Some(Node::File(_))) {
            let nested = format!("{}/Dockerfile", self.expect.image);
            return Err(IntakeError::NoDockerfile { nested: self.tree.get(&nested).map(|_| nested) });
        }
        Ok(found)
    }

    fn hash(&self, scheme: ContextScheme, tar: SizedDigest, input: &InputFile) -> Result<ContextHash, IntakeError> {
        match (scheme, &self.expect.directory) {
            (ContextScheme::Contents, Some(directory)) => {
                let hash = self.tree.contents_hash(directory.as_str(), None);
                hash.map_err(|DeadLink { name, target }| IntakeError::Refused {
                    entry: shown(name.as_bytes()),
                    hazard: UnsafeEntry::LinkDead { target },
                })
            }
            (ContextScheme::Gz, _) => Ok(ContextHash(input.file.sha256)),
            _ => Ok(ContextHash(tar.sha256)),
        }
    }

    /// The scheme that gives the expected hash, if there is one.
    fn scheme_of(&self, expected: ContextHash, tar: SizedDigest, input: &InputFile) -> Option<ContextScheme> {
        if expected == ContextHash(tar.sha256) {
            return Some(ContextScheme::Tar);
        }
        if [input.file.sha256, input.sent].map(ContextHash).contains(&expected) {
            return Some(ContextScheme::Gz);
        }
        let image = self.expect.image.as_str();
        let top = self.tree.is_all_below(image).then_some(image);
        let contents = |directory: &str| self.tree.contents_hash(directory, top) == Ok(expected);
        let is_contents = match &self.expect.directory {
            Some(directory) => contents(directory.as_str()),
            None => IMAGE_ROOTS.iter().any(|root| contents(&format!("{root}/{image}"))),
        };
        is_contents.then_some(ContextScheme::Contents)
    }

    /// Classifies an error that occurred while reading the next entry.
    fn tar_error(&self, error: io::Error, at_end: &Cell<bool>) -> IntakeError {
        IntakeError::from_io(error, |source| {
            if at_end.get() { IntakeError::truncated("its tar ends inside an entry") } else { self.malformed(source) }
        })
    }

    fn entry_error(&self, error: io::Error) -> IntakeError {
        IntakeError::from_io(error, |source| self.malformed(source))
    }

    fn malformed(&self, source: io::Error) -> IntakeError {
        IntakeError::Malformed { after: self.last.clone(), source }
    }
}

/// Reads the data after the last entry, which must be the end: two or more blocks of zeros.
///
/// Some readers stop at the first block of zeros and others do not, so no other data may follow it. Returns the reader below,
/// and the sha256 and length of the tar.
fn drain<T: Read, W: Write>(mut rest: BufReader<Tee<'_, T, W>>, end: u64) -> Result<(T, SizedDigest), IntakeError> {
    let mut chunk = vec![0; pipe::CHUNK];
    loop {
        let read = rest.read(&mut chunk);
        let read = read.map_err(|error| IntakeError::from_io(error, |source| IntakeError::Gzip { source }))?;
        if read == 0 {
            break;
        }
        if chunk[..read].iter().any(|byte| *byte != 0) {
            return Err(IntakeError::Trailing("behind the end of its tar"));
        }
    }
    let (unpacked, tar) = rest.into_inner().finish();
    if tar.size < end + 2 * BLOCK {
        return Err(IntakeError::truncated("its tar has no end"));
    }
    Ok((unpacked, tar))
}

#[cfg(test)]
mod tests;
