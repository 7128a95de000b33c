//! Takes image archives, verifying them on the way: from a download or a file into the engine, without a copy on disk of ours; or
//! from a download into an unnamed file, to be looked into. Callers select the archive and what to verify it against.

use std::fs::File;
use std::io::{self, BufWriter, Read};
use std::path::{Path, PathBuf};

use crate::engine::{Engine, EngineError};
use crate::image::disk::{InsufficientSpace, ensure_space};
use crate::image::{
    ForwardError, ForwardSummary, PartialImage, UnpackedImage, verify_and_forward_with, verify_and_unpack,
};
use crate::net::blocking::blocking;
use crate::net::retry::{Failure, Retryability};
use crate::net::transfer::{self, Download, Storage, TransferError};
use crate::net::{Digest, HttpUrl, ImageId, stream};
use crate::report::{Hint, Report};

/// The block size for sending the archive to the engine, large enough that system calls do not count.
const PIECE: usize = 256 * 1024;

/// Engines write an archive to their disk before they unpack it there.
const COPIES_IN_THE_ENGINE: u64 = 2;

/// Why an image is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The download failed.
    #[error(transparent)]
    Transfer(TransferError),
    /// It is not the archive that was promised, or no whole archive.
    #[error(transparent)]
    Archive(ForwardError),
    /// The engine did not take it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The engine has another image under the name.
    #[error("the engine loaded {actual}, but the archive has {expected}{}", Hint("look at the engine's log"))]
    OtherImage {
        /// The archive's.
        expected: ImageId,
        /// The engine's.
        actual: ImageId,
    },
    /// It does not fit.
    #[error(transparent)]
    InsufficientSpace(#[from] InsufficientSpace),
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file that it is unpacked into cannot be written.
    #[error("cannot write into {}", path.display())]
    Write {
        /// The directory of the file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl Failure for LoadError {
    fn retryability(&self) -> Retryability {
        match self {
            Self::Transfer(error) => error.retryability(),
            Self::Archive(_) | Self::Engine(_) | Self::OtherImage { .. } => Retryability::Permanent,
            Self::InsufficientSpace(_) | Self::File { .. } | Self::Write { .. } => Retryability::Permanent,
        }
    }
}

/// What is to come.
enum Expected {
    /// A whole archive of any form, with this sha256 where it is known.
    Whole(Option<Digest>),
    /// The rest of a canonical archive.
    Rest(PartialImage),
}

/// Loads archives into an engine.
pub struct Loader<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// Plain HTTP.
    pub storage: &'a Storage,
    /// Progress.
    pub report: &'a Report,
    /// For an image that a build takes steps from: the configurations of the images of its steps, as far as the engine
    /// needs such images.
    pub steps: Option<&'a [String]>,
}

impl Loader<'_> {
    /// Downloads an archive into the engine, once, as `tag`. `expected` is the sha256 of the file, where it is known.
    pub async fn download(
        &self,
        url: &HttpUrl,
        expected: Option<Digest>,
        tag: &str,
    ) -> Result<ForwardSummary, LoadError> {
        let download = self.storage.get(url).await.map_err(LoadError::Transfer)?;
        self.relay(download, url, Expected::Whole(expected), tag).await
    }

    /// Downloads the rest of the canonical archive of an image into the engine, once, as `tag`. `None` if the server sends only whole
    /// files.
    pub async fn download_rest(
        &self,
        url: &HttpUrl,
        image: PartialImage,
        tag: &str,
    ) -> Result<Option<ForwardSummary>, LoadError> {
        match self.storage.get_from(url, image.start()).await.map_err(LoadError::Transfer)? {
            Some(download) => self.relay(download, url, Expected::Rest(image), tag).await.map(Some),
            None => Ok(None),
        }
    }

    async fn relay(
        &self,
        download: Download,
        url: &HttpUrl,
        expected: Expected,
        tag: &str,
    ) -> Result<ForwardSummary, LoadError> {
        self.ensure_space(download.length).await?;
        let meter = self.report.meter("loading the image", download.length);
        let (encoded, ends_with_connection) = (download.gzip_encoded, download.ends_with_connection);
        let bytes = stream::reader(download.bytes(meter.clone()));
        let loaded = self.load(move || transfer::decoded(bytes, encoded), expected, tag).await;
        let loaded = loaded.map_err(|error| of_download(error, url, ends_with_connection))?;
        meter.finish("loaded the image");
        Ok(loaded)
    }

    /// Loads an archive that is a file, as `tag`.
    pub async fn file(&self, path: &Path, expected: Option<Digest>, tag: &str) -> Result<ForwardSummary, LoadError> {
        let unreadable = |source| LoadError::File { path: path.to_owned(), source };
        let file = File::open(path).map_err(unreadable)?;
        self.ensure_space(file.metadata().ok().map(|metadata| metadata.len())).await?;
        self.load(move || file, Expected::Whole(expected), tag).await
    }

    /// Checks that an archive of `length` bytes fits: decompressed it is larger, which only the engine will find out.
    async fn ensure_space(&self, length: Option<u64>) -> Result<(), InsufficientSpace> {
        match (self.engine.root().await, length) {
            (Some(root), Some(length)) => {
                ensure_space("the image in the engine", &root, length.saturating_mul(COPIES_IN_THE_ENGINE))
            }
            _ => Ok(()),
        }
    }

    /// Relays an archive, on a thread of its own, into the engine. The source is opened on that thread, as some readers begin to
    /// read when they are created.
    async fn load<R: Read>(
        &self,
        open: impl FnOnce() -> R + Send + 'static,
        expected: Expected,
        tag: &str,
    ) -> Result<ForwardSummary, LoadError> {
        let (writer, archive) = stream::pipe();
        let name = tag.to_owned();
        let configs = self.steps.map(<[String]>::to_vec).unwrap_or_default();
        let ids: Vec<_> = configs.iter().map(|config| ImageId::of(config.as_bytes())).collect();
        let is_rest = matches!(expected, Expected::Rest(_));
        let relaying = blocking(move || {
            let out = BufWriter::with_capacity(PIECE, writer);
            let (relayed, out) = match expected {
                Expected::Whole(sha256) => verify_and_forward_with(open(), &name, sha256, &configs, out)?,
                Expected::Rest(image) => image.forward(open(), &name, out)?,
            };
            out.into_inner().map_err(|error| ForwardError::Write(error.into_error()))?.finish();
            Ok(relayed)
        });
        let loaded = match self.steps {
            Some(_) => self.engine.load_cache(archive, tag, &ids).await,
            None => self.engine.load(archive, tag).await,
        };
        match (relaying.await, loaded) {
            (Ok(relayed), Ok(actual)) => {
                if self.engine.is_image(actual, relayed.image_id, &relayed.config).await? {
                    return Ok(relayed);
                }
                if is_rest {
                    // The whole image comes next, under the same name.
                    self.engine.remove_name(tag).await?;
                }
                Err(LoadError::OtherImage { expected: relayed.image_id, actual })
            }
            // The engine stopped reading, and reports why.
            (Ok(_) | Err(ForwardError::Write(_)), Err(engine)) => Err(engine.into()),
            // The engine's error about half an archive is a consequence of this one.
            (Err(error), _) => Err(LoadError::Archive(error)),
        }
    }
}

/// An image that was downloaded and unpacked.
#[derive(Debug)]
pub struct Unpacked {
    /// What is known of its archive.
    pub archive: ForwardSummary,
    /// The image.
    pub image: UnpackedImage,
}

impl AsRef<ForwardSummary> for Unpacked {
    fn as_ref(&self) -> &ForwardSummary {
        &self.archive
    }
}

/// Downloads an archive, once, into an unnamed file in `directory`. `expected` is the sha256 of the file, where it is known.
pub async fn download_and_unpack(
    storage: &Storage,
    report: &Report,
    directory: &Path,
    url: &HttpUrl,
    expected: Option<Digest>,
) -> Result<Unpacked, LoadError> {
    let download = storage.get(url).await.map_err(LoadError::Transfer)?;
    // At least: what is compressed grows.
    ensure_space("unpacking the image", directory, download.length.unwrap_or_default())?;
    let unwritten = |source| LoadError::Write { path: directory.to_owned(), source };
    let staging = tempfile::tempfile_in(directory).map_err(unwritten)?;
    let meter = report.meter("downloading the image", download.length);
    let (encoded, ends_with_connection) = (download.gzip_encoded, download.ends_with_connection);
    let bytes = stream::reader(download.bytes(meter.clone()));
    let unpacking = blocking(move || verify_and_unpack(transfer::decoded(bytes, encoded), expected, staging));
    let (archive, image) = unpacking.await.map_err(|error| match error {
        ForwardError::Write(source) => unwritten(source),
        error => of_download(LoadError::Archive(error), url, ends_with_connection),
    })?;
    meter.finish("downloaded the image");
    Ok(Unpacked { archive, image })
}

/// The transfer's own error, where an archive could not be read because its download broke.
fn of_download(error: LoadError, url: &HttpUrl, ends_with_connection: bool) -> LoadError {
    match error {
        LoadError::Archive(ForwardError::Read(source)) => match stream::cause::<TransferError>(source) {
            Ok(transfer) => LoadError::Transfer(transfer),
            Err(source) if ends_with_connection && source.kind() == io::ErrorKind::UnexpectedEof => {
                LoadError::Transfer(TransferError::Cut { url: url.clone() })
            }
            Err(source) => LoadError::Archive(ForwardError::Read(source)),
        },
        error => error,
    }
}
