//! `EXPORT=squash`: makes an image with one layer from the files of a container that never ran. It drops what the engine added
//! to them for its own use. The module `engine` creates the container and knows what Docker adds to it.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt as _;

use serde_json::{Map, Value, json};
use tar::{EntryType, Header};

use super::parts::{Part, parts};
use super::{ArchiveError, Layer, LayerSummary, UnpackedImage};
use crate::context::tar_format::{BLOCK, END, plain, records_of, verify_checksum};
use crate::net::digest_reader::DigestReader;
use crate::net::{Digest, SizedDigest};

/// The size of reads from the engine and of writes to disk, so that the cost of system calls is negligible.
const BUFFER: usize = 256 * 1024;

/// Extension headers are kept in memory until their entry is known: long names, and attributes of at most 64 KiB each.
const LONGEST_EXTENSION: u64 = 4 * 1024 * 1024;

/// Files that Docker creates in each of its containers, whatever the image contains there.
const PLACES: [&[u8]; 6] =
    [b".dockerenv", b"dev/console", b"etc/hostname", b"etc/hosts", b"etc/mtab", b"etc/resolv.conf"];

/// Directories that it creates if they do not exist.
const DIRECTORIES: [&[u8]; 4] = [b"dev/pts", b"dev/shm", b"proc", b"sys"];

/// The fields of a configuration that describe the image and not how it was made.
const OF_THE_IMAGE: [&str; 8] =
    ["architecture", "author", "config", "created", "os", "os.features", "os.version", "variant"];

/// The settings for new containers, without those of the container that was used for building.
const FOR_CONTAINERS: [&str; 14] = [
    "ArgsEscaped",
    "Cmd",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "Labels",
    "OnBuild",
    "Shell",
    "StopSignal",
    "StopTimeout",
    "User",
    "Volumes",
    "WorkingDir",
];

/// What is known of an export.
#[derive(Debug)]
pub struct SquashedImage<'a> {
    /// The image's configuration, as JSON.
    pub config: &'a [u8],
    /// When the container was created, in seconds since 1970, if the engine adds files of its own to the export.
    pub noise_since: Option<i64>,
    /// The archive's one name.
    pub tag: &'a str,
}

impl UnpackedImage {
    /// Reads the files of a container, a tar, into an image of one layer, in an empty file that can be read and written. The
    /// file becomes the image's canonical archive. Memory is constant.
    pub fn squash<R: Read>(source: R, image: &SquashedImage<'_>, file: File) -> Result<Self, ArchiveError> {
        let template = ConfigTemplate::read(image.config)?;
        // The layer's header precedes it, and contains its digest as the name, so it is written last.
        let layer = PositionedFile { file: &file, position: BLOCK };
        let mut out = BufWriter::with_capacity(BUFFER, DigestReader::new(layer));
        let mut files = Files { source: BufReader::with_capacity(BUFFER, source), out: &mut out };
        files.copy_all(image.noise_since, template.created)?;
        out.flush().map_err(ArchiveError::Write)?;
        let (digest_reader, _) = out.into_parts();
        let (_, SizedDigest { sha256: diff_id, size }) = digest_reader.finish();
        let config = template.with(diff_id)?;
        let mut position = 0;
        for part in parts(&config, &[LayerSummary { diff_id, size }], image.tag).map_err(ArchiveError::Write)? {
            match part {
                Part::Small(bytes) => {
                    file.write_all_at(&bytes, position).map_err(ArchiveError::Write)?;
                    position += bytes.len() as u64;
                }
                Part::Layer(_) if position == BLOCK => position += size,
                Part::Layer(_) => return Err(ArchiveError::Content("its header has not one block".to_owned())),
            }
        }
        let written = file_digest(&file)?;
        let layers = vec![Layer { diff_id, size, pieces: std::iter::once(BLOCK..BLOCK + size).collect() }];
        Ok(Self::of_archive(file, config, layers, image.tag, written))
    }
}

/// The digest and size of the whole file.
fn file_digest(file: &File) -> Result<SizedDigest, ArchiveError> {
    let mut digest_reader = DigestReader::new(io::sink());
    let mut reader = BufReader::with_capacity(BUFFER, PositionedFile { file, position: 0 });
    io::copy(&mut reader, &mut digest_reader).map_err(ArchiveError::ReadBack)?;
    Ok(digest_reader.finish().1)
}

/// A position in a file, which advances with each read or write.
struct PositionedFile<'f> {
    file: &'f File,
    position: u64,
}

impl Write for PositionedFile<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let written = self.file.write_at(buf, self.position)?;
        self.position += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for PositionedFile<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buf, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

/// An image's configuration without its layers.
struct ConfigTemplate {
    root: Map<String, Value>,
    /// When the image was made, in seconds since 1970.
    created: u64,
}

impl ConfigTemplate {
    fn read(config: &[u8]) -> Result<Self, ArchiveError> {
        let content = |why: String| ArchiveError::Content(format!("its configuration cannot be read: {why}"));
        let mut root: Map<String, Value> =
            serde_json::from_slice(config).map_err(|error| content(error.to_string()))?;
        root.retain(|key, value| OF_THE_IMAGE.contains(&key.as_str()) && is_set(value));
        if let Some(config) = root.get_mut("config").and_then(Value::as_object_mut) {
            config.retain(|key, value| FOR_CONTAINERS.contains(&key.as_str()) && is_set(value));
        }
        let created = root.get("created").and_then(Value::as_str).and_then(|text| text.parse().ok());
        let created = created.map_or(0, |time: jiff::Timestamp| u64::try_from(time.as_second()).unwrap_or_default());
        Ok(Self { root, created })
    }

    /// The configuration of the image with this one layer.
    fn with(mut self, diff_id: Digest) -> Result<Vec<u8>, ArchiveError> {
        let created = self.root.get("created").cloned().unwrap_or_else(|| "1970-01-01T00:00:00Z".into());
        let comment = "all layers of the image that was built, in one";
        let step = json!({ "created": created, "created_by": "image-worker EXPORT=squash", "comment": comment });
        self.root.insert("history".to_owned(), json!([step]));
        self.root.insert("rootfs".to_owned(), json!({ "type": "layers", "diff_ids": [diff_id.prefixed()] }));
        let mut value = Value::Object(self.root);
        value.sort_all_objects();
        serde_json::to_vec(&value).map_err(|error| ArchiveError::Write(error.into()))
    }
}

/// Whether a field has a value: engines differ in whether they omit empty fields.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

/// Copies the files, block by block: entries that are not dropped stay as they are, in any format.
struct Files<'o, R, W> {
    source: R,
    out: &'o mut W,
}

impl<R: Read, W: Write> Files<'_, R, W> {
    fn copy_all(&mut self, noise_since: Option<i64>, created: u64) -> Result<(), ArchiveError> {
        // The extension headers before the next entry, unchanged.
        let mut extensions = Vec::new();
        let mut overrides = PaxOverrides::default();
        while let Some(mut header) = self.next_header()? {
            let size = header.entry_size().map_err(ArchiveError::Read)?;
            let kind = header.entry_type();
            if kind.is_gnu_longname() || kind.is_gnu_longlink() || kind.is_pax_local_extensions() {
                if size > LONGEST_EXTENSION {
                    return Err(ArchiveError::Content(format!("an extension header has {size} bytes")));
                }
                extensions.extend_from_slice(header.as_bytes());
                let from = extensions.len();
                let padded = size.next_multiple_of(BLOCK);
                let read =
                    self.source.by_ref().take(padded).read_to_end(&mut extensions).map_err(ArchiveError::Read)?;
                if (read as u64) < padded {
                    return Err(ArchiveError::Read(io::ErrorKind::UnexpectedEof.into()));
                }
                let text = &extensions[from..from + usize::try_from(size).unwrap_or(read)];
                overrides.read(kind, text).map_err(ArchiveError::Read)?;
                continue;
            }
            let PaxOverrides { path, size: real_size } = std::mem::take(&mut overrides);
            let extensions = std::mem::take(&mut extensions);
            let size = real_size.unwrap_or(size).next_multiple_of(BLOCK);
            let path = path.unwrap_or_else(|| header.path_bytes().into_owned());
            let path = &*plain(&path);
            if let Some(since) = noise_since {
                let is_new = header.mtime().is_ok_and(|time| i64::try_from(time).is_ok_and(|time| time >= since));
                let is_place = PLACES.contains(&path) && kind != EntryType::Directory && size == 0;
                if is_new && (is_place || (DIRECTORIES.contains(&path) && kind == EntryType::Directory)) {
                    continue;
                }
                // Docker has changed the times of the directories above them.
                if is_new && [&b""[..], b"dev", b"etc"].contains(&path) && kind == EntryType::Directory {
                    header.set_mtime(created);
                    header.set_cksum();
                }
            }
            self.out.write_all(&extensions).map_err(ArchiveError::Write)?;
            self.out.write_all(header.as_bytes()).map_err(ArchiveError::Write)?;
            self.copy_content(size)?;
        }
        // The end, as in every tar.
        self.out.write_all(&END).map_err(ArchiveError::Write)
    }

    /// The next header; `None` at the end.
    fn next_header(&mut self) -> Result<Option<Header>, ArchiveError> {
        let mut header = Header::new_old();
        self.source.read_exact(header.as_mut_bytes()).map_err(ArchiveError::Read)?;
        if header.as_bytes().iter().any(|byte| *byte != 0) {
            verify_checksum(&header).map_err(ArchiveError::Read)?;
            return Ok(Some(header));
        }
        // Read to the end of the connection: an engine that fails reports it there.
        io::copy(&mut self.source, &mut io::sink()).map_err(ArchiveError::Read)?;
        Ok(None)
    }

    fn copy_content(&mut self, size: u64) -> Result<(), ArchiveError> {
        let mut left = size;
        let mut buffer = vec![0; usize::try_from(size).unwrap_or(BUFFER).min(BUFFER)];
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
            self.source.read_exact(&mut buffer[..most]).map_err(ArchiveError::Read)?;
            self.out.write_all(&buffer[..most]).map_err(ArchiveError::Write)?;
            left -= most as u64;
        }
        Ok(())
    }
}

/// What extension headers change for the next entry.
#[derive(Default)]
struct PaxOverrides {
    path: Option<Vec<u8>>,
    size: Option<u64>,
}

impl PaxOverrides {
    fn read(&mut self, kind: EntryType, text: &[u8]) -> io::Result<()> {
        for record in records_of(kind, text)? {
            match record.key.as_slice() {
                b"path" => self.path = Some(record.value),
                b"size" => self.size = Some(record.number()?),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
