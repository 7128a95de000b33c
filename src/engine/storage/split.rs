//! tar-split: what engines keep of a layer's tar beside the layer's files, so that the very same tar can be put together
//! again. A line of JSON for each stretch: the bytes between the contents as they were, or the name of a file with its size.

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

/// Read at this size, so that system calls do not count.
const READ_BUFFER: usize = 256 * 1024;

/// A line has the header of one member in base64, with its name and its extended attributes. Beyond this, something is wrong.
const LONGEST_LINE: u64 = 64 * 1024 * 1024;

/// The recipe of a layer's tar, and the files that go into it.
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
    /// The name in base64, where it is no UTF-8.
    #[serde(borrow)]
    name_raw: Option<Cow<'a, str>>,
    #[serde(default)]
    size: u64,
    /// The bytes; of a file the checksum of its content, which we need not.
    #[serde(borrow)]
    payload: Option<Cow<'a, str>>,
}

/// A stretch of the tar.
enum Stretch<'a> {
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

    /// How many bytes the tar will have. A first pass over the recipe: each layer's size stands before it in an archive.
    pub(super) fn size(&self) -> Result<u64, StorageError> {
        let mut sum: u64 = 0;
        let adding = self.each(|stretch| {
            let size = match stretch {
                Stretch::Bytes(bytes) => bytes.len() as u64,
                Stretch::File { size, .. } => size,
            };
            sum = sum.checked_add(size).ok_or_else(|| io::Error::other("the sizes of its files are too large"))?;
            Ok(())
        });
        adding.map_err(|source| StorageError::Unreadable { path: self.path.clone(), source })?;
        Ok(sum)
    }

    /// Writes the tar.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut buffer = vec![0; READ_BUFFER];
        self.each(|stretch| match stretch {
            Stretch::Bytes(bytes) => out.write_all(bytes),
            Stretch::File { name, size } => {
                let named = |error: io::Error| {
                    let name = String::from_utf8_lossy(name);
                    io::Error::new(error.kind(), format!("the content of {name} is not there: {error}"))
                };
                let mut file = self.tree.file(name).map_err(named)?;
                let mut left = size;
                while left > 0 {
                    let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                    let read = match file.read(&mut buffer[..most]) {
                        Ok(0) => return Err(named(io::ErrorKind::UnexpectedEof.into())),
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                        read => read.map_err(named)?,
                    };
                    out.write_all(&buffer[..read])?;
                    left -= read as u64;
                }
                Ok(())
            }
        })
    }

    /// Goes over the stretches in order; only one is in memory.
    fn each(&self, mut take: impl FnMut(Stretch<'_>) -> io::Result<()>) -> io::Result<()> {
        let packed = BufReader::with_capacity(READ_BUFFER, File::open(&self.path)?);
        let mut lines = BufReader::with_capacity(READ_BUFFER, GzDecoder::new(packed));
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
                    take(Stretch::Bytes(&bytes))?;
                }
                // What has no content is all in its header.
                (FILE, ..) if size == 0 => {}
                (FILE, _, Some(raw)) if !raw.is_empty() => {
                    base64(&raw, &mut bytes)?;
                    take(Stretch::File { name: &bytes, size })?;
                }
                (FILE, Some(name), _) => take(Stretch::File { name: name.as_bytes(), size })?,
                _ => return Err(io::Error::other(format!("a line of the kind {kind}, which is not known"))),
            }
        }
    }
}
