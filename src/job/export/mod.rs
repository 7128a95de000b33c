//! The image on its way out of the engine: taken apart into a file while it comes, and summed, or packed, as the archive
//! that is published. What an archive is, is `image_archive`'s to know; where it goes to, the publisher's.

mod ways;

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use jiff::Timestamp;
use tracing::{info, warn};

use super::CommandError;
use super::cache::LayerCache;
use super::parent::TaskImage;
use super::run::Run;
use crate::config::Destination;
use crate::config::plan::{Companion, Identity, ImageFile};
use crate::engine::{Base, Engine, EngineError, shared_layers};
use crate::image::sbom::{self, SbomError, Subject};
use crate::image::{ArchiveError, ImageSummary, UnpackedImage, reproducible};
use crate::job::publish::{Finished, Stored};
use crate::net::blocking::blocking;
use crate::net::{ImageId, stream};
use crate::report::{Bytes, ErrorChain};
use crate::taskcluster::ArtifactName;
pub(super) use ways::ExportRequest;
pub(crate) use ways::StorageProblem;

/// Written to disk at this size, so that system calls do not count.
const WRITE_BUFFER: usize = 256 * 1024;

/// An image in the engine.
pub(super) struct EngineImage<'a> {
    /// Its id.
    pub(super) id: ImageId,
    /// The images that it was built from.
    pub(super) below: Vec<Base>,
    /// What its steps may have come from.
    pub(super) cache: &'a LayerCache,
    /// The image of the parent task.
    pub(super) parent: Option<&'a TaskImage>,
}

/// Takes the image out of the engine into `folder`, makes its archive, and writes what goes with it. The layers of the images
/// below it stay as they are.
pub(super) async fn exported(
    run: &Run<'_>,
    engine: &Engine,
    identity: &Identity,
    image: EngineImage<'_>,
    folder: &Path,
) -> Result<Finished, CommandError> {
    let (plan, report) = (&run.config.plan, run.report);
    let EngineImage { id: image_id, below, cache, parent } = image;
    let besides = cache.steps_artifact(engine, plan, image_id, folder).await;
    // One that is uploaded from here needs no file of its own.
    let uploaded = run.config.destination == Destination::Task;
    let (tag, level) = (identity.tag.clone(), plan.artifact.zstd_level);
    let path = folder.join(plan.artifact.name.file_name());
    // What is to be a file, and changes no more, can lie there from the beginning.
    let named = (!uploaded && level.is_none() && plan.reproducible.is_none()).then_some(path.as_path());
    let choice = plan.artifact.export;
    let source = cache.source(parent);
    let request = ExportRequest { engine, image_id, source, tag: &tag, choice, folder, named, report };
    let spool = request.take().await?;
    let spool = match plan.reproducible {
        Some(epoch) => clamped(spool, epoch, below).await.map_err(|error| classify(error, folder))?,
        None => spool,
    };
    if spool.packed() > 0 {
        info!("{} layers came packed, and are stored plain, as every consumer reads them", spool.packed());
    }
    let (image_id, shape) = (spool.image_id(), ImageSummary::from(&spool));
    let join_load = folder.to_owned();
    let moment = plan.reproducible.and_then(|epoch| Timestamp::from_second(i64::try_from(epoch).ok()?).ok());
    let made = blocking(move || {
        let companions = packages(&spool, &tag, moment, &join_load);
        let archive = spool.arrange(&tag)?;
        drop(spool);
        if uploaded && level.is_none() {
            return Ok((archive.sum()?, Stored::Layout(archive), companions));
        }
        if level.is_none() && archive.is_at(&path) {
            return Ok((archive.sum()?, Stored::File(path), companions));
        }
        let file = File::create(&path).map_err(ArchiveError::Write)?;
        let written = archive.write_into(level, BufWriter::with_capacity(WRITE_BUFFER, file))?;
        Ok((written, Stored::File(path), companions))
    });
    let (written, stored, mut companions) = made.await.map_err(|error| classify(error, folder))?;
    companions.extend(besides);
    let name = &plan.artifact.name;
    info!("{name}: {}, {} layers, sha256 {}", Bytes(written.size), shape.layers.len(), written.sha256);
    let image = ImageFile { sha256: written.sha256, size: written.size, image_id };
    Ok(Finished { image, shape, stored, companions })
}

/// The image with no time later than this. What belongs to the image that it was built from stays as that has it, and is
/// shared with it.
async fn clamped(mut spool: UnpackedImage, epoch: u64, below: Vec<Base>) -> Result<UnpackedImage, ArchiveError> {
    let rewriting = blocking(move || {
        let layers: Vec<_> = spool.layers().iter().map(|layer| layer.diff_id).collect();
        reproducible::rewrite(&mut spool, epoch, shared_layers(&below, &layers))?;
        Ok::<_, ArchiveError>(spool)
    });
    let spool = rewriting.await?;
    info!(
        "no time that the build has left is later than SOURCE_DATE_EPOCH={epoch}: the image's id is {} now",
        spool.image_id()
    );
    Ok(spool)
}

/// The list of the packages in the image. An image is none the worse without one.
fn packages(spool: &UnpackedImage, tag: &str, moment: Option<Timestamp>, folder: &Path) -> Vec<Companion> {
    let of = Subject { tag, image_id: spool.image_id(), moment };
    let written = || match sbom::contents(spool)? {
        Some(contents) => {
            let (what, document) = ("the list of packages", sbom::document(of, &contents));
            let steps_artifact = Companion::write(folder, what, ArtifactName::sbom(), sbom::CONTENT_TYPE, &document)
                .map_err(|source| SbomError::Write { path: folder.display().to_string(), source })?;
            Ok::<_, SbomError>(Some((steps_artifact, contents)))
        }
        None => Ok(None),
    };
    match written() {
        Ok(Some((steps_artifact, contents))) => {
            for path in contents.unread() {
                warn!("rpm's database /{path} is in the image, and its packages are not listed");
            }
            info!("{} packages are in the image, listed in {}", contents.packages(), steps_artifact.name);
            vec![steps_artifact]
        }
        Ok(None) => {
            info!("no package manager has been in the image: there is no list of packages");
            Vec::new()
        }
        Err(error) => {
            warn!("the packages in the image are not listed: {}", ErrorChain(&error));
            Vec::new()
        }
    }
}

/// The engine's own error where it is one, the disk's where it is not.
fn classify(error: ArchiveError, folder: &Path) -> CommandError {
    match error {
        ArchiveError::Read(source) => match stream::cause::<EngineError>(source) {
            Ok(engine) => engine.into(),
            Err(source) => ArchiveError::Read(source).into(),
        },
        ArchiveError::Write(source) => CommandError::Write { path: folder.to_owned(), source },
        ArchiveError::ReadBack(_) | ArchiveError::Content(_) | ArchiveError::Rewrite(_) => error.into(),
    }
}
