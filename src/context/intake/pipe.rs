//! Streams the bytes of a context: counts them, decompresses them, enforces the limit, passes them on, and distinguishes errors
//! of the source, of the data and of the output. The modules `intake` and `headers` interpret the bytes.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read, Write};

use flate2::bufread::GzDecoder;
use flate2::read::MultiGzDecoder;

use crate::context::intake::error::IntakeError;
use crate::net::digest_reader::DigestReader;
use crate::net::{Digest, SizedDigest};

/// The size of reads and writes: large enough that the cost of system calls is negligible, and small in memory.
pub(super) const CHUNK: usize = 128 * 1024;
/// Enough to recognise the format; the magic of a tar is at byte 257.
const HEAD: usize = 512;

/// The received data: as it is, or compressed for the transfer (`Content-Encoding: gzip`) in addition to the file itself.
enum Transfer<R> {
    Plain(R),
    Gzip(Box<MultiGzDecoder<DigestReader<R>>>),
}

/// The source; its errors are marked as such.
pub(super) struct Source<R> {
    inner: Transfer<R>,
    bytes: u64,
    limit: u64,
}

/// The file that was received, before decompression.
pub(super) struct InputFile {
    /// The sha256 and length of the file.
    pub(super) file: SizedDigest,
    /// The sha256 of the data as sent. It differs from that of the file if the transfer was compressed; but storage may
    /// declare a `.tar.gz` as a tar with a compressed transfer, and then this is the digest of the file.
    pub(super) sent: Digest,
}

/// A reader whose first bytes have been read and put back.
type Peeked<R> = Chain<Cursor<Vec<u8>>, R>;
type Incoming<R> = Peeked<BufReader<DigestReader<Source<R>>>>;

/// The uncompressed tar.
pub(super) enum TarStream<R> {
    Plain(Incoming<R>),
    Gzip(Box<Peeked<Gunzip<Incoming<R>>>>),
}

/// Decompresses all members of a gzip stream; refuses data after them.
pub(super) struct Gunzip<R> {
    /// Always set, except while the input passes from one member to the next.
    member: Option<GzDecoder<R>>,
}

/// The last reader: everything that is read from it is counted, hashed and passed on.
pub(super) struct Tee<'c, R, W> {
    inner: DigestReader<R>,
    out: Option<W>,
    limit: u64,
    at_end: &'c Cell<bool>,
}

/// The output; its errors are marked as such, and it refuses writes once it is closed.
pub(super) struct Output<'c, W> {
    inner: W,
    open: &'c Cell<bool>,
}

/// Detects the format from the first bytes, and decompresses. `encoded`: whether the transfer is compressed, too.
pub(super) fn open<R: Read>(source: R, encoded: bool, limit: u64) -> Result<TarStream<R>, IntakeError> {
    let inner = if encoded {
        Transfer::Gzip(Box::new(MultiGzDecoder::new(DigestReader::new(source))))
    } else {
        Transfer::Plain(source)
    };
    let source = Source { inner, bytes: 0, limit };
    let (head, source) = peek(BufReader::with_capacity(CHUNK, DigestReader::new(source)))?;
    match looks_like(&head) {
        TAR => Ok(TarStream::Plain(Cursor::new(head).chain(source))),
        GZIP => {
            let gunzip = Gunzip { member: Some(GzDecoder::new(Cursor::new(head).chain(source))) };
            let (head, gunzip) = peek(gunzip)?;
            match looks_like(&head) {
                TAR => Ok(TarStream::Gzip(Box::new(Cursor::new(head).chain(gunzip)))),
                EMPTY => Err(IntakeError::NotATar { looks: "a gzip of nothing" }),
                GZIP => Err(IntakeError::NotATar { looks: "compressed twice" }),
                PAGE => Err(IntakeError::NotATar { looks: "a gzip of an HTML or XML page" }),
                _ => Err(IntakeError::NotATar { looks: "a gzip of something else than a tar" }),
            }
        }
        looks => Err(IntakeError::NotATar { looks }),
    }
}

impl<R: Read> TarStream<R> {
    /// The digests and the size of the file that was received.
    pub(super) fn finish(self) -> InputFile {
        let incoming = match self {
            Self::Plain(incoming) => Some(incoming),
            Self::Gzip(gunzip) => gunzip.into_inner().1.member.map(GzDecoder::into_inner),
        };
        let (source, file) = incoming.map_or_else(
            || unreachable!("a member is only away inside `read`"),
            |incoming| incoming.into_inner().1.into_inner().finish(),
        );
        let sent = match source.inner {
            Transfer::Plain(_) => file.sha256,
            Transfer::Gzip(decoder) => decoder.into_inner().finish().1.sha256,
        };
        InputFile { file, sent }
    }
}

impl<'c, R: Read, W: Write> Tee<'c, R, W> {
    pub(super) fn new(inner: R, out: Option<W>, limit: u64, at_end: &'c Cell<bool>) -> Self {
        Self { inner: DigestReader::new(inner), out, limit, at_end }
    }

    /// The reader, and the sha256 and length of what was read from it.
    pub(super) fn finish(self) -> (R, SizedDigest) {
        self.inner.finish()
    }
}

impl<'c, W: Write> Output<'c, W> {
    pub(super) fn new(inner: W, open: &'c Cell<bool>) -> Self {
        Self { inner, open }
    }

    fn attempt<T>(&mut self, act: impl FnOnce(&mut W) -> io::Result<T>) -> io::Result<T> {
        if !self.open.get() {
            return Err(io::Error::other("the context was refused"));
        }
        match act(&mut self.inner) {
            // `write_all` retries by itself.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            result => result.map_err(|source| IntakeError::Output { source }.into_io()),
        }
    }
}

impl<R: Read> Read for Transfer<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(source) => source.read(buf),
            Self::Gzip(decoder) => decoder.read(buf),
        }
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = up_to(self.limit, self.bytes, buf.len());
        let read = loop {
            match self.inner.read(&mut buf[..most]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        let read = read.map_err(|source| IntakeError::Source { bytes: self.bytes, source }.into_io())?;
        self.bytes += read as u64;
        // Data that is too large when compressed is also too large uncompressed, except an endless gzip of nothing.
        if self.bytes > self.limit { Err(too_large(self.limit)) } else { Ok(read) }
    }
}

impl<R: BufRead> Read for Gunzip<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(member) = &mut self.member else { return Ok(0) };
            let read = member.read(buf).map_err(gzip_error)?;
            if read > 0 || buf.is_empty() {
                return Ok(read);
            }
            match member.get_mut().fill_buf()?.first() {
                None => return Ok(0),
                Some(0x1f) => self.member = self.member.take().map(|done| GzDecoder::new(done.into_inner())),
                Some(_) => return Err(IntakeError::Trailing("behind the end of its gzip stream").into_io()),
            }
        }
    }
}

impl<R: Read> Read for TarStream<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read(buf),
            Self::Gzip(reader) => reader.read(buf),
        }
    }
}

impl<R: Read, W: Write> Read for Tee<'_, R, W> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = up_to(self.limit, DigestReader::bytes(&self.inner), buf.len());
        let read = self.inner.read(&mut buf[..most])?;
        if DigestReader::bytes(&self.inner) > self.limit {
            return Err(too_large(self.limit));
        }
        if let Some(out) = &mut self.out {
            out.write_all(&buf[..read])?;
        }
        if read == 0 && !buf.is_empty() {
            self.at_end.set(true);
        }
        Ok(read)
    }
}

impl<W: Write> Write for Output<'_, W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.attempt(|out| out.write(buf))
    }

    fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
        // All bytes at once, so that a writer that accepts nothing (`WriteZero`) is marked like any other error.
        self.attempt(|out| out.write_all(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.attempt(Write::flush)
    }
}

const TAR: &str = "a tar";
const GZIP: &str = "gzip";
const EMPTY: &str = "empty";
const PAGE: &str = "an HTML or XML page, perhaps an error";

/// The format of a stream from its first bytes: [`TAR`], [`GZIP`], or a description for the message.
fn looks_like(head: &[u8]) -> &'static str {
    let magic = |magic: &[u8]| head.starts_with(magic);
    if head.get(257..262) == Some(b"ustar") || (head.len() == HEAD && head.iter().all(|byte| *byte == 0)) {
        return TAR;
    }
    match head {
        [] => EMPTY,
        _ if magic(b"\x1f\x8b") => GZIP,
        _ if magic(b"\x28\xb5\x2f\xfd") => "compressed with zstd",
        _ if magic(b"BZh") => "compressed with bzip2",
        _ if magic(b"\xfd7zXZ\0") => "compressed with xz",
        _ if magic(b"\x04\x22\x4d\x18") => "compressed with lz4",
        _ if magic(b"PK\x03\x04") => "a zip file",
        _ => match head.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'<') => PAGE,
            Some(b'{' | b'[') => "JSON, perhaps an error",
            _ if head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) => "plain text",
            _ => "something unknown",
        },
    }
}

/// The first bytes, and the reader after them.
fn peek<R: Read>(mut reader: R) -> Result<(Vec<u8>, R), IntakeError> {
    let mut head = Vec::with_capacity(HEAD);
    let read = reader.by_ref().take(HEAD as u64).read_to_end(&mut head);
    read.map_err(|error| IntakeError::from_io(error, |source| IntakeError::Gzip { source }))?;
    Ok((head, reader))
}

/// How much to read next: up to the limit, and then one more byte, so that exceeding the limit can be reported.
fn up_to(limit: u64, bytes: u64, requested: usize) -> usize {
    usize::try_from(limit.saturating_sub(bytes).max(1)).map_or(requested, |room| room.min(requested))
}

fn too_large(limit: u64) -> io::Error {
    IntakeError::TooLarge { limit }.into_io()
}

/// Classifies an error of the gzip decoder, unless it comes from the source and is already classified.
fn gzip_error(error: io::Error) -> io::Error {
    let name = |source: io::Error| match source.kind() {
        io::ErrorKind::UnexpectedEof => IntakeError::truncated("its gzip stream ends in the middle"),
        _ => IntakeError::Gzip { source },
    };
    IntakeError::from_io(error, name).into_io()
}
