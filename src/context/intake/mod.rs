//! Takes in a context from outside, in one pass: unpacks it, hashes it, refuses what is unsafe or not what was promised,
//! and passes the tar on. Where the bytes come from, and what they are built into, is for the subcommands.

mod error;
pub(super) mod files;
mod headers;
mod pipe;
mod rewrite;

use std::cell::Cell;
use std::io::{self, BufReader, Read, Write};

use tar::{Archive, Entry};

use crate::context::owners::may_be_others;
use crate::context::safety::{Node, Tree, UnsafeEntry, cut, shown, symlink_target};
use crate::context::tar_format::BLOCK;
use crate::context::{ContextHash, ContextScheme, ImageName, RepoPath};
use crate::net::Digest;
use crate::net::digest_reader::DigestReader;

pub use error::{IntakeError, IntakeFault};
use headers::{Extensions, Kind, Member};
use pipe::{Output, Packed, Tee};
use rewrite::Rewrite;

/// Where image directories are in real trees: tried when nobody said, to find out what a wrong hash would be right for.
const IMAGE_ROOTS: [&str; 2] = ["testing/docker", "taskcluster/docker"];

/// What a context was promised to be.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// How the hash is computed. Where `tar` does not give the hash, `gz` is tried too.
    pub scheme: ContextScheme,
    /// The hash; without it whatever comes is taken, and its hash is told.
    pub hash: Option<ContextHash>,
    /// The image's directory in its repository (`CONTEXT_PATH`): needed by the scheme `contents`, which hashes full paths.
    pub directory: Option<RepoPath>,
    /// The image: a context of 2015 has one top directory with its name.
    pub image: ImageName,
    /// Whether the bytes come packed for the transfer, whatever is in them (`Content-Encoding: gzip`).
    pub encoded: bool,
}

/// How large a context may be, so that a bomb ends as an error and not as a full disk or memory.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the tar, unpacked.
    pub max_bytes: u64,
    /// Files, directories and links together.
    pub max_entries: u64,
    /// Bytes of all names and link targets together.
    pub max_name_bytes: u64,
}

impl Default for Limits {
    /// Far above real contexts (a few MB, some hundred files), and far below what a worker can bear.
    fn default() -> Self {
        Self {
            // Fits beside the image on the smallest worker disks; larger inputs are fetched by the Dockerfile.
            max_bytes: 2 << 30,
            // Names are kept to find duplicates: about 20 MB with names of the usual length.
            max_entries: 100_000,
            // 300 bytes for each of them, so that long names cannot take more memory than many.
            max_name_bytes: 32 << 20,
        }
    }
}

/// A context that was what it had to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its hash.
    pub hash: ContextHash,
    /// How the hash was computed.
    pub scheme: ContextScheme,
    /// Regular files, hard links to them included.
    pub files: u64,
    /// Bytes of the uncompressed tar, as it came.
    pub bytes: u64,
    /// Bytes that came from outside.
    pub compressed: u64,
    /// Whether it may have entries that are not root's.
    pub others: bool,
}

/// Takes in a context and passes its tar on to `out`.
///
/// With the scheme `tar`, `out` gets the very bytes that were hashed. With `contents`, which hashes files and not
/// bytes, it gets a tar written anew from what was checked, without the top directory that 2015 contexts have;
/// the first entry tells whether there is one.
///
/// The bytes are passed on before the verdict: what is in `out` must be thrown away unless this returns `Ok`.
pub fn receive<R: Read, W: Write>(
    source: R,
    expect: &Expectation,
    limits: &Limits,
    out: W,
) -> Result<Received, IntakeError> {
    if expect.scheme == ContextScheme::Contents && expect.directory.is_none() {
        return Err(IntakeError::NeedsDirectory { image: expect.image.clone() });
    }
    let unpacked = pipe::open(source, expect.encoded, limits.max_bytes)?;

    let (open, ended) = (Cell::new(true), Cell::new(false));
    let out = Output::new(out, &open);
    let (mut passed_on, mut rewrite) = (None, None);
    match expect.scheme {
        ContextScheme::Tar | ContextScheme::Gz => passed_on = Some(out),
        ContextScheme::Contents => rewrite = Some(Rewrite::new(out)),
    }
    let tee = Tee::new(unpacked, passed_on.as_mut(), limits.max_bytes, &ended);
    let mut archive = Archive::new(BufReader::with_capacity(pipe::CHUNK, tee));

    let mut intake = Intake::new(expect, limits);
    let verdict = intake.read(&mut archive, &ended, rewrite.as_mut()).and_then(|end| {
        let (unpacked, raw, bytes) = drain(archive.into_inner(), end)?;
        let packed = unpacked.finish();
        let (hash, scheme) = intake.verify(raw, &packed, bytes)?;
        let (files, others) = (intake.tree.files(), intake.others);
        Ok(Received { hash, scheme, files, bytes, compressed: packed.bytes, others })
    });
    // A tar that is being written ends itself when it is dropped; a refused one must not get its end.
    open.set(verdict.is_ok());
    let received = verdict?;
    rewrite.map_or(Ok(()), Rewrite::finish)?;
    if let Some(mut out) = passed_on {
        out.flush().map_err(|error| IntakeError::from_io(error, |source| IntakeError::Output { source }))?;
    }
    Ok(received)
}

/// One context on its way in.
struct Intake<'e> {
    expect: &'e Expectation,
    limits: &'e Limits,
    tree: Tree,
    /// Whether the one top directory of a 2015 context is being stripped; the first entry decides.
    stripping: Option<bool>,
    entries: u64,
    /// The last entry that was in order, quoted.
    last: Option<String>,
    /// Whether something may not be root's.
    others: bool,
    /// What files are read through, one after the other.
    buffer: Box<[u8]>,
}

impl<'e> Intake<'e> {
    fn new(expect: &'e Expectation, limits: &'e Limits) -> Self {
        let (tree, buffer) = (Tree::default(), vec![0; pipe::CHUNK / 2].into());
        Self { expect, limits, tree, stripping: None, entries: 0, last: None, others: false, buffer }
    }

    /// Reads all entries; gives the position where the last one ends.
    fn read<R: Read, W: Write>(
        &mut self,
        archive: &mut Archive<R>,
        ended: &Cell<bool>,
        mut rewrite: Option<&mut Rewrite<'_, W>>,
    ) -> Result<u64, IntakeError> {
        let mut extensions = Extensions::default();
        let mut end = 0;
        // Raw: the crate would hold long names and PAX headers of any size in memory, and let some stand beside others.
        let entries = archive.entries().map_err(|error| self.tar_error(error, ended))?.raw(true);
        for entry in entries {
            let mut entry = entry.map_err(|error| self.tar_error(error, ended))?;
            self.others |= may_be_others(entry.header());
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
            return Err(IntakeError::Truncated { what: "its tar ends behind a header for an entry that never comes" });
        }
        Ok(end)
    }

    /// Checks one entry, hashes it, and writes it where the context is written anew.
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
            // The root has no name of its own to be written under.
            Some(_) if member.name.is_empty() => {}
            Some(rewrite) => rewrite.append(&member, &mut content)?,
            None => {
                // Not `io::copy`, which clears a buffer for each file: for small ones that is more than to read them.
                while content.read(&mut self.buffer).map_err(|error| self.entry_error(error))? > 0 {}
            }
        }
        let (_, digest, read) = content.finish();
        if read != member.size {
            return Err(IntakeError::Truncated { what: "its tar ends inside a file" });
        }
        self.tree.insert(&member.name, node.unwrap_or(Node::File(digest)));
        if self.tree.name_bytes() > self.limits.max_name_bytes {
            return Err(member.refuse(UnsafeEntry::TooManyNames(self.limits.max_name_bytes)));
        }
        Ok(())
    }

    /// Takes the one top directory of a 2015 context away from a name, and from the target of a hard link.
    fn strip(&mut self, member: &mut Member) -> Result<(), IntakeError> {
        if self.expect.scheme != ContextScheme::Contents || member.name.is_empty() {
            return Ok(());
        }
        let top = self.expect.image.as_str();
        let below = |name: &str| match name.strip_prefix(top) {
            Some("") => Some(String::new()),
            Some(rest) => rest.strip_prefix('/').map(str::to_owned),
            None => None,
        };
        let stripped = below(&member.name).filter(|name| !name.is_empty() || member.kind == Kind::Directory);
        let stripping = *self.stripping.get_or_insert(stripped.is_some());
        if !stripping {
            return Ok(());
        }
        let outside = || UnsafeEntry::OutsideTop { top: format!("{top}/") };
        member.name = stripped.ok_or_else(|| member.refuse(outside()))?;
        if let Kind::Hardlink(target) = &member.kind {
            let target =
                below(target).ok_or_else(|| member.refuse(UnsafeEntry::HardLink { target: cut(target.as_bytes()) }))?;
            member.kind = Kind::Hardlink(target);
        }
        Ok(())
    }

    /// The context's hash, if it is the expected one and there is something to build; and the scheme that gives it.
    fn verify(&self, raw: Digest, packed: &Packed, bytes: u64) -> Result<(ContextHash, ContextScheme), IntakeError> {
        let Expectation { hash: expected, scheme, .. } = *self.expect;
        let actual = self.hash(scheme, raw, packed)?;
        let found = match expected.filter(|expected| *expected != actual) {
            None => (actual, scheme),
            Some(expected) => match self.scheme_of(expected, raw, packed) {
                // taskgraph before version 12 does not say that it means the packed file.
                Some(ContextScheme::Gz) if scheme != ContextScheme::Contents => (expected, ContextScheme::Gz),
                other => {
                    let instead = other.filter(|other| *other != scheme);
                    return Err(IntakeError::Mismatch { expected, actual, scheme, bytes, instead });
                }
            },
        };
        if !matches!(self.tree.get("Dockerfile"), Some(Node::File(_))) {
            let nested = format!("{}/Dockerfile", self.expect.image);
            return Err(IntakeError::NoDockerfile { nested: self.tree.get(&nested).map(|_| nested) });
        }
        Ok(found)
    }

    fn hash(&self, scheme: ContextScheme, raw: Digest, packed: &Packed) -> Result<ContextHash, IntakeError> {
        match (scheme, &self.expect.directory) {
            (ContextScheme::Contents, Some(directory)) => {
                let hash = self.tree.contents_hash(directory.as_str(), None);
                hash.map_err(|(name, hazard)| IntakeError::Refused { entry: shown(name.as_bytes()), hazard })
            }
            (ContextScheme::Gz, _) => Ok(ContextHash(packed.digest)),
            _ => Ok(ContextHash(raw)),
        }
    }

    /// The scheme that gives the expected hash.
    fn scheme_of(&self, expected: ContextHash, raw: Digest, packed: &Packed) -> Option<ContextScheme> {
        if expected == ContextHash(raw) {
            return Some(ContextScheme::Tar);
        }
        if [packed.digest, packed.sent].map(ContextHash).contains(&expected) {
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

    /// Names an error that came while the next entry was looked for.
    fn tar_error(&self, error: io::Error, ended: &Cell<bool>) -> IntakeError {
        IntakeError::from_io(error, |source| {
            if ended.get() {
                IntakeError::Truncated { what: "its tar ends inside an entry" }
            } else {
                self.malformed(source)
            }
        })
    }

    fn entry_error(&self, error: io::Error) -> IntakeError {
        IntakeError::from_io(error, |source| self.malformed(source))
    }

    fn malformed(&self, source: io::Error) -> IntakeError {
        IntakeError::Malformed { after: self.last.clone(), source }
    }
}

/// Reads what is behind the last entry, which must be the end: two blocks of zeros or more.
///
/// Some readers stop at the first block of zeros and others do not, so nothing may follow it.
fn drain<T: Read, W: Write>(mut rest: BufReader<Tee<'_, T, W>>, end: u64) -> Result<(T, Digest, u64), IntakeError> {
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
    let (unpacked, digest, bytes) = rest.into_inner().finish();
    if bytes < end + 2 * BLOCK {
        return Err(IntakeError::Truncated { what: "its tar has no end" });
    }
    Ok((unpacked, digest, bytes))
}

#[cfg(test)]
mod tests;
