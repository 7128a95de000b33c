//! The layers of an image as tars that are not written anywhere: their headers are copied once, and the contents of their files
//! are read where the engine has them. `split` says what a tar consists of, `tree` opens the files.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::split::{Segment, Split};
use super::tree::Tree;
use super::{ImageFiles, LayerFiles, StorageError};
use crate::image::{Layer, ReadAt, UnpackedImage};

/// The first position of the layers. What is before it is in the staging file, which is smaller.
const LAYERS: u64 = 1 << 62;

/// The size of writes to the staging file, so that system calls do not count.
const WRITE_BUFFER: usize = 256 * 1024;

/// The bytes of the staging file, and from [`LAYERS`] on those of the layers, one after the other.
#[derive(Debug)]
struct StoredBytes {
    staging: Arc<File>,
    layers: Vec<StoredLayer>,
    /// In the order of their positions.
    files: Vec<StoredFile>,
    /// The size of all layers in bytes.
    size: u64,
    /// The file that was read last: large ones are read in many pieces.
    last: Mutex<Option<OpenFile>>,
}

/// A layer's files.
#[derive(Debug)]
struct StoredLayer {
    /// Its first position, counted from [`LAYERS`], as all positions here.
    start: u64,
    tree: Tree,
}

/// A file's content in the tars. An image can have very many.
#[derive(Debug)]
struct StoredFile {
    start: u64,
    size: u64,
    /// Where the staging file has its name.
    name: u64,
    /// Where the name ends there, and the tar's bytes after the file begin.
    rest: u64,
}

#[derive(Debug)]
struct OpenFile {
    number: usize,
    file: Arc<File>,
}

/// An image whose layers are read in the engine's storage; what else it consists of is written into `staging`.
pub(super) fn in_storage(files: ImageFiles, staging: File) -> Result<UnpackedImage, StorageError> {
    let ImageFiles { config, layers } = files;
    let staging = Arc::new(staging);
    let mut writer = StagingWriter::new(staging.clone());
    let mut placed = Vec::new();
    for LayerFiles { diff_id, split, tree } in layers {
        let start = writer.bytes.size;
        writer.add(&Split(split), &tree)?;
        let pieces = std::iter::once(LAYERS + start..LAYERS + writer.bytes.size).collect();
        placed.push(Layer { diff_id, size: writer.bytes.size - start, pieces });
    }
    let bytes = Arc::new(writer.finish()?);
    UnpackedImage::in_storage(config, placed, bytes, staging).ok_or(StorageError::OtherLayers)
}

/// Copies what is not in files.
struct StagingWriter {
    out: BufWriter<Arc<File>>,
    /// The size of the staging file in bytes, with what is in the buffer.
    staged: u64,
    bytes: StoredBytes,
}

/// Why a layer's metadata was not taken in.
enum AddError {
    Read(io::Error),
    Write(io::Error),
}

impl From<io::Error> for AddError {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

impl StagingWriter {
    fn new(staging: Arc<File>) -> Self {
        // The bytes before the first file come after a file without a name or a content.
        let files = vec![StoredFile { start: 0, size: 0, name: 0, rest: 0 }];
        let bytes =
            StoredBytes { staging: staging.clone(), layers: Vec::new(), files, size: 0, last: Mutex::default() };
        Self { out: BufWriter::with_capacity(WRITE_BUFFER, staging), staged: 0, bytes }
    }

    /// Adds a layer.
    fn add(&mut self, split: &Split, tree: &Path) -> Result<(), StorageError> {
        let unreadable = |path: &Path, source| StorageError::Unreadable { path: path.to_owned(), source };
        let files = Tree::open(tree).map_err(|source| unreadable(tree, source))?;
        self.bytes.layers.push(StoredLayer { start: self.bytes.size, tree: files });
        let added = split.each(|segment| {
            let size = match segment {
                Segment::Bytes(bytes) => {
                    self.write(bytes)?;
                    bytes.len() as u64
                }
                Segment::File { name, size } => {
                    let (start, at) = (self.bytes.size, self.staged);
                    self.write(name)?;
                    self.bytes.files.push(StoredFile { start, size, name: at, rest: self.staged });
                    size
                }
            };
            let sum = self.bytes.size.checked_add(size).filter(|sum| *sum < LAYERS);
            self.bytes.size = sum.ok_or_else(|| io::Error::other("the sizes of its files are too large"))?;
            Ok(())
        });
        added.map_err(|error| match error {
            AddError::Read(source) => unreadable(&split.0, source),
            AddError::Write(source) => StorageError::Staging(source),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), AddError> {
        self.staged += bytes.len() as u64;
        self.out.write_all(bytes).map_err(AddError::Write)
    }

    fn finish(mut self) -> Result<StoredBytes, StorageError> {
        self.out.flush().map_err(StorageError::Staging)?;
        Ok(self.bytes)
    }
}

impl ReadAt for StoredBytes {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let Some(position) = position.checked_sub(LAYERS) else {
            return ReadAt::read_at(&*self.staging, buffer, position);
        };
        let next = self.files.partition_point(|file| file.start <= position);
        let Some((number, file)) = next.checked_sub(1).and_then(|it| Some((it, self.files.get(it)?))) else {
            return Ok(0);
        };
        let offset = position - file.start;
        let end = if offset < file.size {
            file.start + file.size
        } else {
            self.files.get(next).map_or(self.size, |next| next.start)
        };
        let most = usize::try_from(end.saturating_sub(position)).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = &mut buffer[..most];
        if offset >= file.size {
            return ReadAt::read_at(&*self.staging, buffer, file.rest + (offset - file.size));
        }
        match self.open(number, file).and_then(|file| ReadAt::read_at(&*file, buffer, offset)) {
            Ok(0) if most > 0 => Err(self.missing(file, &io::ErrorKind::UnexpectedEof.into())),
            read => read.map_err(|error| self.missing(file, &error)),
        }
    }
}

impl StoredBytes {
    fn open(&self, number: usize, file: &StoredFile) -> io::Result<Arc<File>> {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(open) = last.as_ref().filter(|open| open.number == number) {
            return Ok(open.file.clone());
        }
        let layer = self.layers.partition_point(|layer| layer.start <= file.start).checked_sub(1);
        let layer = layer.and_then(|it| self.layers.get(it)).ok_or(io::ErrorKind::NotFound)?;
        let opened = Arc::new(layer.tree.file(&self.name(file)?)?);
        *last = Some(OpenFile { number, file: opened.clone() });
        Ok(opened)
    }

    /// Its name in the layer's tar.
    fn name(&self, file: &StoredFile) -> io::Result<Vec<u8>> {
        let mut name = vec![0; usize::try_from(file.rest - file.name).map_err(io::Error::other)?];
        self.staging.read_exact_at(&mut name, file.name)?;
        Ok(name)
    }

    fn missing(&self, file: &StoredFile, error: &io::Error) -> io::Error {
        let name = self.name(file).unwrap_or_default();
        let message = format!("the content of {} is not there: {error}", String::from_utf8_lossy(&name));
        io::Error::new(error.kind(), message)
    }
}
