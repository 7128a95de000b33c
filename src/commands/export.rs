//! The image on its way out of the engine: taken apart into a file while it comes, and summed, or packed, as the archive
//! that is published. What an archive is, is `image_archive`'s to know; where it goes to, the publisher's.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use tokio::task::spawn_blocking;
use tracing::info;

use super::Failed;
use crate::disk::{give_back, room_for};
use crate::engine::{Engine, EngineError};
use crate::image_archive::{ArchiveError, Spool, reproducible};
use crate::plan::{Identity, ImageFile, Plan};
use crate::publish::{Finished, Stored};
use crate::report::{Bytes, Report};
use crate::stream;

/// Written to disk at this size, so that system calls do not count.
const WRITE_BUFFER: usize = 256 * 1024;

/// Exports the image into `folder`, and makes its archive.
pub(super) async fn export(
    engine: &Engine,
    plan: &Plan,
    identity: &Identity,
    image_id: String,
    folder: &Path,
    report: &Report,
) -> Result<Finished, Failed> {
    let failed = |source| Failed::Write { path: folder.to_owned(), source };
    let size = engine.image_size(&image_id).await?;
    // Without a name: it is gone with the program, however that ends.
    let file = tempfile::tempfile_in(folder).map_err(failed)?;
    room_for("the image archive", folder, needed(&file, size))?;
    if let Some(root) = engine.root().await {
        room_for("the engine's own copy of the image archive", &root, size)?;
    }
    info!("exporting the image, about {}; the engine prepares all of it before the first byte", Bytes(size));
    let meter = report.meter("exporting the image", None);
    let export = stream::reader(engine.export(&image_id, meter.clone()));
    // The whole image is rewritten, whatever of it is shared with the image that it was built from.
    let (epoch, base_layers) = (plan.reproducible, 0);
    let taken = in_the_background(move || {
        let mut spool = Spool::take_in(export, file)?;
        spool.expect(&image_id)?;
        if let Some(epoch) = epoch {
            reproducible::rewrite(&mut spool, epoch, base_layers)?;
        }
        Ok(spool)
    });
    let spool = taken.await.map_err(|error| blame(error, folder))?;
    meter.finish("exported the image");
    if let Some(epoch) = plan.reproducible {
        info!("no time in the image is later than SOURCE_DATE_EPOCH={epoch}: its id is {} now", spool.image_id());
    }
    if spool.packed() > 0 {
        info!("{} layers came packed, and are stored plain, as every consumer reads them", spool.packed());
    }
    let (image_id, layers) = (spool.image_id(), spool.layers().len());
    let (tag, level) = (identity.tag.clone(), plan.artifact.zstd_level);
    let path = folder.join(plan.artifact.name.file_name());
    let made = in_the_background(move || {
        let archive = spool.arrange(&tag)?;
        drop(spool);
        if level.is_none() {
            return Ok((archive.sum()?, Stored::Spool(archive)));
        }
        let file = File::create(&path).map_err(ArchiveError::Write)?;
        let written = archive.pour(level, BufWriter::with_capacity(WRITE_BUFFER, file))?;
        Ok((written, Stored::File(path)))
    });
    let (written, stored) = made.await.map_err(|error| blame(error, folder))?;
    let name = &plan.artifact.name;
    info!("{name}: {}, {layers} layers, sha256 {}", Bytes(written.size), written.sha256);
    Ok(Finished { image: ImageFile { sha256: written.sha256, size: written.size, image_id }, stored })
}

/// How much room the archive of an image of this size takes, at the worst: what is copied out of the spool is given back
/// meanwhile, where the file system can do that. Only an upload of a plain archive needs no copy, and then it is less.
fn needed(file: &File, size: u64) -> u64 {
    if give_back(file, 0..4096) { size } else { size.saturating_mul(2) }
}

async fn in_the_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ArchiveError> + Send + 'static,
) -> Result<T, ArchiveError> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// The engine's own error where it is one, the disk's where it is not.
fn blame(error: ArchiveError, folder: &Path) -> Failed {
    match error {
        ArchiveError::Read(source) => match stream::cause::<EngineError>(source) {
            Ok(engine) => engine.into(),
            Err(source) => ArchiveError::Read(source).into(),
        },
        ArchiveError::Write(source) => Failed::Write { path: folder.to_owned(), source },
        ArchiveError::ReadBack(_) | ArchiveError::Content(_) | ArchiveError::Rewrite(_) => error.into(),
    }
}
