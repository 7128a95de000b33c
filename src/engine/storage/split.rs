//! tar-split: the metadata that engines keep beside a layer's files, to restore the exact tar of the layer. It has a line of
//! JSON for each segment of the tar: either the original bytes between the contents, or a file's name and size.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::bufread::GzDecoder;
use serde::Deserialize;

/// The buffer size: large, so that system calls do not matter.
const READ_BUFFER: usize = 256 * 1024;

/// The limit for a line: it has the header of one member in base64, with its name and its extended attributes.
const LONGEST_LINE: u64 = 64 * 1024 * 1024;

/// The tar-split metadata of a layer.
#[derive(Debug)]
pub(super) struct Split(pub(super) PathBuf);

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
pub(super) enum Segment<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// The content of a file, which is not empty.
    File { name: &'a [u8], size: u64 },
}

const FILE: u8 = 1;
const BYTES: u8 = 2;

impl Split {
    /// Calls `take` for each segment in order; only one is in memory.
    pub(super) fn each<E: From<io::Error>>(&self, mut take: impl FnMut(Segment<'_>) -> Result<(), E>) -> Result<(), E> {
        let compressed = BufReader::with_capacity(READ_BUFFER, File::open(&self.0)?);
        let mut lines = BufReader::with_capacity(READ_BUFFER, GzDecoder::new(compressed));
        let (mut line, mut bytes) = (Vec::new(), Vec::new());
        loop {
            line.clear();
            let read = lines.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(());
            }
            let Line { kind, name, name_raw, size, payload } =
                serde_json::from_slice(&line).map_err(io::Error::from)?;
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
                _ => return Err(io::Error::other(format!("a line of the kind {kind}, which is not known")).into()),
            }
        }
    }
}
