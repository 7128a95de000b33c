//! tar-split: the metadata that engines keep beside a layer's files, to restore the exact tar of the layer. It has a line of
//! JSON for each segment of the tar: either the original bytes between the contents, or a file's name and size.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::bufread::GzDecoder;
use serde::Deserialize;

use super::StorageError;
use super::tree::Tree;

/// The buffer size: large, so that system calls do not matter.
const READ_BUFFER: usize = 256 * 1024;

/// The limit for a line: it has the header of one member in base64, with its name and its extended attributes.
const LONGEST_LINE: u64 = 64 * 1024 * 1024;

/// The tar-split metadata of a layer, and the directory of the layer's files.
#[derive(Debug)]
pub(super) struct Split {
    path: PathBuf,
    tree: Tree,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: u8,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    /// The name in base64, if it is not UTF-8.
    #[serde(borrow)]
    name_raw: Option<Cow<'a, str>>,
    #[serde(default)]
    size: u64,
    /// The bytes; for a file the checksum of its content, which is not needed here.
    #[serde(borrow)]
    payload: Option<Cow<'a, str>>,
}

/// A segment of the tar.
enum Segment<'a> {
    Bytes(&'a [u8]),
    File { name: &'a [u8], size: u64 },
}

const FILE: u8 = 1;
const BYTES: u8 = 2;

impl Split {
    pub(super) fn open(path: PathBuf, tree: &Path) -> Result<Self, StorageError> {
        let unreadable = |source| StorageError::Unreadable { path: tree.to_owned(), source };
        Ok(Self { path, tree: Tree::open(tree).map_err(unreadable)? })
    }

    /// The size of the tar. It needs a first pass over the metadata, because in an archive the size of each layer comes
    /// first.
    pub(super) fn size(&self) -> Result<u64, StorageError> {
        let mut sum: u64 = 0;
        let result = self.each(|segment| {
            let size = match segment {
                Segment::Bytes(bytes) => bytes.len() as u64,
                Segment::File { size, .. } => size,
            };
            sum = sum.checked_add(size).ok_or_else(|| io::Error::other("the sizes of its files are too large"))?;
            Ok(())
        });
        result.map_err(|source| StorageError::Unreadable { path: self.path.clone(), source })?;
        Ok(sum)
    }

    /// Writes the tar.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut buffer = vec![0; READ_BUFFER];
        self.each(|segment| match segment {
            Segment::Bytes(bytes) => out.write_all(bytes),
            Segment::File { name, size } => {
                let with_name = |error: io::Error| {
                    let name = String::from_utf8_lossy(name);
                    io::Error::new(error.kind(), format!("the content of {name} is not there: {error}"))
                };
                let mut file = self.tree.file(name).map_err(with_name)?;
                let mut remaining = size;
                while remaining > 0 {
                    let most = usize::try_from(remaining).unwrap_or(usize::MAX).min(buffer.len());
                    let read = match file.read(&mut buffer[..most]) {
                        Ok(0) => return Err(with_name(io::ErrorKind::UnexpectedEof.into())),
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                        read => read.map_err(with_name)?,
                    };
                    out.write_all(&buffer[..read])?;
                    remaining -= read as u64;
                }
                Ok(())
            }
        })
    }

    /// Calls `take` for each segment in order; only one is in memory.
    fn each(&self, mut take: impl FnMut(Segment<'_>) -> io::Result<()>) -> io::Result<()> {
        let compressed = BufReader::with_capacity(READ_BUFFER, File::open(&self.path)?);
        let mut lines = BufReader::with_capacity(READ_BUFFER, GzDecoder::new(compressed));
        let (mut line, mut bytes) = (Vec::new(), Vec::new());
        loop {
            line.clear();
            let read = lines.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(());
            }
            let Line { kind, name, name_raw, size, payload } = serde_json::from_slice(&line)?;
            bytes.clear();
            let base64 = |text: &str, bytes: &mut Vec<u8>| STANDARD.decode_vec(text, bytes).map_err(io::Error::other);
            match (kind, name, name_raw) {
                (BYTES, ..) => {
                    base64(payload.as_deref().unwrap_or_default(), &mut bytes)?;
                    take(Segment::Bytes(&bytes))?;
                }
                // A file without content is complete in its header.
                (FILE, ..) if size == 0 => {}
                (FILE, _, Some(raw)) if !raw.is_empty() => {
                    base64(&raw, &mut bytes)?;
                    take(Segment::File { name: &bytes, size })?;
                }
                (FILE, Some(name), _) => take(Segment::File { name: name.as_bytes(), size })?,
                _ => return Err(io::Error::other(format!("a line of the kind {kind}, which is not known"))),
            }
        }
    }
}
