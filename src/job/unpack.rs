//! Images unpacked into a temporary file to be looked into: archives on this machine, images of tasks, and images of an engine.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use super::CommandError;
use super::export::ExportRequest;
use super::image_source::ImageSource;
use super::loading::download_and_unpack;
use super::locate::{ImageLocation, Located, locate};
use super::parent::{Role, TaskImages};
use super::shutdown::Shutdown;
use crate::config::WantedImage;
use crate::config::plan::ExportChoice;
use crate::engine::Engine;
use crate::image::disk::ensure_space;
use crate::image::{ArchiveError, UnpackedImage, truncation};
use crate::net::transfer::Storage;
use crate::report::{Report, printable};

/// Read from disk at this size, so that system calls do not count.
const READ_BUFFER: usize = 256 * 1024;

/// The image of an archive, of any form and compression; `directory` is where there is room.
pub fn archive(path: &Path, directory: &Path) -> Result<UnpackedImage, CommandError> {
    let unreadable = |source| CommandError::Read { path: path.to_owned(), source };
    let archive = File::open(path).map_err(unreadable)?;
    // At least: what is compressed grows.
    let size = archive.metadata().map_err(unreadable)?.len();
    ensure_space("unpacking the image", directory, size)?;
    let unwritten = |source| CommandError::Write { path: directory.to_owned(), source };
    let staging = tempfile::tempfile_in(directory).map_err(unwritten)?;
    let unpacked = UnpackedImage::import(BufReader::with_capacity(READ_BUFFER, archive), staging);
    let (name, hint) = (path.display(), "`image-worker check` says all that is wrong with it");
    unpacked.map_err(|error| match error {
        ArchiveError::Write(source) => unwritten(source),
        ArchiveError::Content(why) => {
            let what = format!("{name} is not one whole image: {}", printable(&why));
            CommandError::Diagnostics { what, hint }
        }
        // What a reader says of another kind of file has pieces of that file in it.
        ArchiveError::Read(source) => {
            let what = match truncation(&source) {
                Some(cut) => format!("{name} is {cut}"),
                None => format!("{name} cannot be read as an image archive"),
            };
            CommandError::Diagnostics { what, hint }
        }
        ArchiveError::ReadBack(_) | ArchiveError::Layer(_) | ArchiveError::Rewrite(_) => error.into(),
    })
}

/// An image by its name, its task, its route or its file. What is downloaded is verified as `load` does it.
pub async fn wanted(
    image: WantedImage,
    directory: &Path,
    stop: &Shutdown,
    report: &Report,
) -> Result<UnpackedImage, CommandError> {
    let (artifact, storage) = (image.artifact.clone(), &Storage::new(image.retry)?);
    let take = async move |source: ImageSource| {
        download_and_unpack(storage, report, directory, &source.url, source.sha256()).await
    };
    let images = |services| TaskImages { role: Role::Image, services, storage, central: None };
    let Located { location, .. } = locate(image, stop).await?;
    let downloading = async {
        Ok::<_, CommandError>(match &location {
            ImageLocation::File(path) => return archive(path, directory),
            ImageLocation::Indexed(services, indexed) => images(services).take_indexed(indexed, &take).await?,
            ImageLocation::Task(services, task) => images(services).take(&artifact, task, &take).await?,
        })
        .map(|taken| taken.archive.image)
    };
    stop.run_stage("unpacking the image", downloading).await
}

/// An image of an engine, by its name or its id: from the engine's storage where that can be read, else by an export.
pub async fn local(
    engine: &Engine,
    name: &str,
    directory: &Path,
    report: &Report,
) -> Result<UnpackedImage, CommandError> {
    let Some(image) = engine.present(name).await? else {
        return Err(CommandError::not_in_engine(name));
    };
    let request = ExportRequest {
        engine,
        image_id: image.id,
        source: None,
        tag: name,
        choice: ExportChoice::Auto,
        directory,
        named: None,
        report,
    };
    request.take().await
}
