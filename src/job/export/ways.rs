//! The ways to export an image: by the engine's export, which begins with a copy of the whole image; from its storage, if that
//! can be read, where plain layers stay until the archive is copied; or as a container's files. The module above processes the
//! result.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use tracing::{debug, info, warn};

use super::classify;
use crate::config::plan::ExportChoice;
use crate::engine::{Engine, StoppedContainer, StorageError, Stored, StoredBlobs};
use crate::image::disk::{ensure_space, punch_hole};
use crate::image::{ArchiveError, LayerDamage, SquashedImage, UnpackedImage, cache_records};
use crate::job::CommandError;
use crate::net::blocking::blocking;
use crate::net::{ImageId, stream};
use crate::report::{Bytes, ErrorChain, Hint, ProgressCounter, Report};

/// Why an image could not be read from the engine's storage.
#[derive(Debug, thiserror::Error)]
pub enum StorageProblem {
    /// It cannot be read.
    #[error(
        "EXPORT=storage: {}{}",
        .0,
        Hint("give the program the engine's data root at the same path, or leave EXPORT at auto")
    )]
    Unreadable(#[source] StorageError),
    /// The data there is not the image.
    #[error("EXPORT=storage: {}{}", .0, Hint("the engine's storage is damaged, or busy: leave EXPORT at auto"))]
    Damaged(#[source] Damage),
}

/// A problem with an image in the engine's storage.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// A layer.
    #[error(transparent)]
    Layer(#[from] LayerDamage),
    /// A file cannot be read to its end.
    #[error("the image cannot be read to its end")]
    Unreadable(#[source] io::Error),
    /// The storage has another image, or none.
    #[error("what is there is not the image that was built: {0}")]
    Content(String),
}

impl Damage {
    /// Logs why the engine has to export the image.
    pub(super) fn warn(&self) {
        warn!("the engine's storage does not hold the image as it should, so it is exported: {}", ErrorChain(self));
    }
}

/// Why an image was not taken from the engine's storage.
enum StoredError {
    /// The storage does not have it as it should. The engine may still export it.
    Damaged(Damage),
    /// Anything else ends the run.
    Other(Box<CommandError>),
}

impl From<Damage> for StoredError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

impl From<CommandError> for StoredError {
    fn from(error: CommandError) -> Self {
        Self::Other(error.into())
    }
}

/// An image to be exported from the engine.
pub(in crate::job) struct ExportRequest<'a> {
    pub(in crate::job) engine: &'a Engine,
    pub(in crate::job) image_id: ImageId,
    /// The configuration of the image whose steps it may share.
    pub(in crate::job) source: Option<&'a [u8]>,
    /// The name of the image in the archive.
    pub(in crate::job) tag: &'a str,
    pub(in crate::job) choice: ExportChoice,
    /// Where there is room.
    pub(in crate::job) directory: &'a Path,
    /// The final file of the archive, if it can be written there directly.
    pub(in crate::job) named: Option<&'a Path>,
    pub(in crate::job) report: &'a Report,
}

impl ExportRequest<'_> {
    /// The image, unpacked into a file or in the engine's storage, with the known facts about its steps.
    pub(in crate::job) async fn take(&self) -> Result<UnpackedImage, CommandError> {
        let mut unpacked = self.take_as_built().await?.named(self.tag);
        if let Some(config) = self.completed(unpacked.config()) {
            let layers = unpacked.layers().to_vec();
            unpacked.replace(config, layers);
        }
        Ok(unpacked)
    }

    /// The configuration that the image gets instead of this one, so that later builds can reuse its steps.
    fn completed(&self, config: &[u8]) -> Option<Vec<u8>> {
        let completed = cache_records::completed(config, self.source?)?;
        info!(
            "the image keeps the records of its steps that came from the cache: its id is {} now",
            ImageId::of(&completed)
        );
        Some(completed)
    }

    async fn take_as_built(&self) -> Result<UnpackedImage, CommandError> {
        // Also for images that it refuses: those without layers.
        let size = self.engine.image_size(self.image_id).await?;
        if self.choice == ExportChoice::Squash {
            return self.squash(size).await;
        }
        let by_choice = self.choice == ExportChoice::Storage;
        if by_choice || self.choice == ExportChoice::Auto {
            match self.engine.stored(self.image_id, self.unlinked_tempfile()?).await {
                Ok(stored) => match self.take_stored(stored, size).await {
                    Ok(unpacked) => return Ok(unpacked),
                    Err(StoredError::Other(error)) => return Err(*error),
                    Err(StoredError::Damaged(error)) if by_choice => return Err(StorageProblem::Damaged(error).into()),
                    Err(StoredError::Damaged(error)) => error.warn(),
                },
                Err(error) if by_choice => return Err(StorageProblem::Unreadable(error).into()),
                Err(error) => debug!("the image is exported by the engine: {}", ErrorChain(&error)),
            }
        }
        self.by_export(size).await
    }

    /// From the engine's storage, where its plain layers have about `size` bytes.
    async fn take_stored(&self, stored: Stored, size: u64) -> Result<UnpackedImage, StoredError> {
        match stored {
            // What becomes of it is up to the caller: nothing of it needs to be copied here.
            Stored::Files(image) => Ok(image),
            Stored::Blobs(image) => self.unpack(image, size).await,
        }
    }

    /// From compressed layers: their size is known only when they are decompressed.
    async fn unpack(&self, mut image: StoredBlobs, size: u64) -> Result<UnpackedImage, StoredError> {
        let file = self.unlinked_tempfile()?;
        ensure_space("the image archive", self.directory, needed(&file, size, false)).map_err(CommandError::from)?;
        info!("exporting the image from the engine's storage, {} in packed layers", Bytes(image.size));
        let meter = self.report.meter("exporting the image from the engine's storage", Some(image.size));
        let (image_id, moved) = (self.image_id, meter.clone());
        let unpacking = blocking(move || {
            let unpacked = UnpackedImage::import(Metered(&mut image, &moved), file)?;
            unpacked.expect(image_id)?;
            Ok(unpacked)
        });
        let unpacked = unpacking.await.map_err(|error| match error {
            ArchiveError::Read(error) => Damage::Unreadable(error).into(),
            ArchiveError::Content(problem) => Damage::Content(problem).into(),
            error => StoredError::from(classify(error, self.directory)),
        })?;
        meter.finish("exported the image from the engine's storage");
        Ok(unpacked)
    }

    /// By the engine's export.
    async fn by_export(&self, size: u64) -> Result<UnpackedImage, CommandError> {
        let file = self.unlinked_tempfile()?;
        ensure_space("the image archive", self.directory, needed(&file, size, false))?;
        let mut prepares = "";
        if self.engine.stages_exports().await {
            prepares = "; the engine prepares all of it before the first byte";
            if let Some(root) = self.engine.root().await {
                ensure_space("the engine's own copy of the image archive", &root, size)?;
            }
        }
        info!("exporting the image, about {}{prepares}", Bytes(size));
        let meter = self.report.meter_about("exporting the image", size);
        let export = stream::reader(self.engine.export(self.image_id, meter.clone()));
        let image_id = self.image_id;
        let taken = blocking(move || {
            let unpacked = UnpackedImage::import(export, file)?;
            unpacked.expect(image_id)?;
            Ok(unpacked)
        });
        let unpacked = taken.await.map_err(|error| classify(error, self.directory))?;
        meter.finish("exported the image");
        Ok(unpacked)
    }

    /// Another image of its files.
    async fn squash(&self, size: u64) -> Result<UnpackedImage, CommandError> {
        let file = self.file()?;
        ensure_space("the image archive", self.directory, needed(&file, size, self.named.is_some()))?;
        let StoppedContainer { name, noise_since, config } = self.engine.idle(self.image_id).await?;
        info!("exporting the image's files as one layer, about {}", Bytes(size));
        let meter = self.report.meter_about("exporting the image's files", size);
        let files = stream::reader(self.engine.files(&name, meter.clone()));
        let tag = self.tag.to_owned();
        let squashing = blocking(move || {
            UnpackedImage::squash(files, &SquashedImage { config: &config, noise_since, tag: &tag }, file)
        });
        let unpacked = squashing.await.map_err(|error| classify(error, self.directory))?;
        meter.finish("exported the image's files");
        info!("the image has one layer, and another id: {}", unpacked.image_id());
        Ok(unpacked)
    }

    /// The image in a file, where it can be changed.
    pub(super) async fn staged(&self, image: UnpackedImage) -> Result<UnpackedImage, CommandError> {
        if !image.is_in_storage() {
            return Ok(image);
        }
        let file = self.unlinked_tempfile()?;
        ensure_space("the image archive", self.directory, needed(&file, image.size(), false))?;
        let meter = self.begin_copy(image.size())?;
        let counter = meter.clone();
        let staging = blocking(move || image.staged(file, |bytes| counter.add(bytes)));
        let staged = staging.await.map_err(|error| classify(error, self.directory))?;
        meter.finish("exported the image from the engine's storage");
        Ok(staged)
    }

    /// Begins to copy an image of `size` bytes from the engine's storage, if there is room for it.
    pub(super) fn begin_copy(&self, size: u64) -> Result<ProgressCounter, CommandError> {
        ensure_space("the image archive", self.directory, size)?;
        info!("exporting the image from the engine's storage, {}", Bytes(size));
        Ok(self.report.meter("exporting the image from the engine's storage", Some(size)))
    }

    /// The final file of the archive, or an unnamed one.
    fn file(&self) -> Result<File, CommandError> {
        let Some(path) = self.named else { return self.unlinked_tempfile() };
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path);
        file.map_err(|source| CommandError::Write { path: path.to_owned(), source })
    }

    /// Without a name: it is gone with the program, however that ends.
    fn unlinked_tempfile(&self) -> Result<File, CommandError> {
        let file = tempfile::tempfile_in(self.directory);
        file.map_err(|source| CommandError::Write { path: self.directory.to_owned(), source })
    }
}

/// The space that the archive of an image of this size needs at most: data copied out of the staging file is freed meanwhile, if
/// the file system supports that. Only an archive without a copy needs less: one at its final path, or one that is uploaded
/// uncompressed.
fn needed(file: &File, size: u64, last: bool) -> u64 {
    if last || punch_hole(file, 0..4096) { size } else { size.saturating_mul(2) }
}

/// A reader that reports its progress.
struct Metered<'a, T>(&'a mut T, &'a ProgressCounter);

impl<T: Read> Read for Metered<'_, T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buf)?;
        self.1.add(read as u64);
        Ok(read)
    }
}
