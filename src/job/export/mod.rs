//! Exports the image from the engine: unpacks it into a file while it arrives, then hashes or compresses it as the archive to be
//! published. `image_archive` defines the archive, the publisher sends it.

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
use crate::config::plan::{BuildDocument, Identity, ImageFile};
use crate::engine::{Base, Engine, EngineError, shared_layers};
use crate::image::inventory::Survey;
use crate::image::sbom::{self, Contents, SbomError, Subject};
use crate::image::{ArchiveError, ImageSummary, UnpackedImage, reproducible};
use crate::job::metrics::Layers;
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
    /// The image whose steps it may share.
    pub(super) cache: &'a LayerCache,
    /// The image of the parent task.
    pub(super) parent: Option<&'a TaskImage>,
}

/// Exports the image from the engine into `directory`, makes its archive, and writes the files that belong to it. The layers of
/// its base images stay unchanged.
pub(super) async fn exported(
    run: &Run<'_>,
    engine: &Engine,
    identity: &Identity,
    image: EngineImage<'_>,
    directory: &Path,
) -> Result<Finished, CommandError> {
    let (plan, report) = (&run.config.plan, run.report);
    let EngineImage { id: image_id, below, cache, parent } = image;
    let besides = cache.steps_artifact(engine, plan, image_id, directory).await;
    // An archive that this program uploads needs no file of its own.
    let uploaded = run.config.destination == Destination::Task;
    let (tag, level) = (identity.tag.clone(), plan.artifact.zstd_level);
    let path = directory.join(plan.artifact.name.file_name());
    // An archive that must be a file, and does not change any more, can be written there directly.
    let named = (!uploaded && level.is_none() && plan.reproducible.is_none()).then_some(path.as_path());
    let choice = plan.artifact.export;
    let source = cache.source(parent);
    let request = ExportRequest { engine, image_id, source, tag: &tag, choice, directory, named, report };
    let spool = request.take().await?;
    let spool = match plan.reproducible {
        Some(epoch) => clamped(spool, epoch, below).await.map_err(|error| classify(error, directory))?,
        None => spool,
    };
    if spool.packed() > 0 {
        info!("{} layers came packed, and are stored plain, as every consumer reads them", spool.packed());
    }
    let (image_id, shape) = (spool.image_id(), ImageSummary::from(&spool));
    let join_load = directory.to_owned();
    let moment = plan.reproducible.and_then(|epoch| Timestamp::from_second(i64::try_from(epoch).ok()?).ok());
    let made = blocking(move || {
        let survey = surveyed(&spool);
        let subject = Subject { tag: &tag, image_id, moment };
        let documents = survey.iter().flat_map(|it| packages(&it.packages, subject, &join_load)).collect();
        let archive = spool.arrange(&tag)?;
        drop(spool);
        if uploaded && level.is_none() {
            return Ok((archive.sum()?, Stored::Layout(archive), documents, survey));
        }
        if level.is_none() && archive.is_at(&path) {
            return Ok((archive.sum()?, Stored::File(path), documents, survey));
        }
        let file = File::create(&path).map_err(ArchiveError::Write)?;
        let written = archive.write_into(level, BufWriter::with_capacity(WRITE_BUFFER, file))?;
        Ok((written, Stored::File(path), documents, survey))
    });
    let (written, stored, mut documents, survey): (_, _, Vec<_>, _) =
        made.await.map_err(|error| classify(error, directory))?;
    documents.extend(besides);
    let name = &plan.artifact.name;
    info!("{name}: {}, {} layers, sha256 {}", Bytes(written.size), shape.layers.len(), written.sha256);
    let image = ImageFile { sha256: written.sha256, size: written.size, image_id };
    Ok(Finished { image, shape, stored, documents, survey })
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

/// What is in the image, in one pass over the headers of its layers. An image is none the worse without it.
fn surveyed(spool: &UnpackedImage) -> Option<Survey> {
    let layers = Layers::of(&ImageSummary::from(spool), 0).layers;
    let steps: Vec<_> = layers.into_iter().map(|layer| layer.step).collect();
    let survey = Survey::of(spool, &steps);
    survey.inspect_err(|error| warn!("the files and packages in the image are not listed: {}", ErrorChain(error))).ok()
}

/// The list of the packages in the image. An image is none the worse without one.
fn packages(found: &Result<Option<Contents>, SbomError>, of: Subject, directory: &Path) -> Vec<BuildDocument> {
    let contents = match found {
        Ok(Some(contents)) => contents,
        Ok(None) => {
            info!("no package manager has been in the image: there is no list of packages");
            return Vec::new();
        }
        Err(error) => {
            warn!("the packages in the image are not listed: {}", ErrorChain(error));
            return Vec::new();
        }
    };
    let document = sbom::document(of, contents);
    let (what, name) = ("the list of packages", ArtifactName::sbom());
    match BuildDocument::write(directory, what, name, sbom::CONTENT_TYPE, &document) {
        Ok(written) => {
            for path in contents.unread() {
                warn!("rpm's database /{path} is in the image, and its packages are not listed");
            }
            info!("{} packages are in the image, listed in {}", contents.packages().len(), written.name);
            vec![written]
        }
        Err(error) => {
            warn!("the list of packages cannot be written into {}: {error}", directory.display());
            Vec::new()
        }
    }
}

/// The engine's own error if it is one; otherwise the disk's.
fn classify(error: ArchiveError, directory: &Path) -> CommandError {
    match error {
        ArchiveError::Read(source) => match stream::cause::<EngineError>(source) {
            Ok(engine) => engine.into(),
            Err(source) => ArchiveError::Read(source).into(),
        },
        ArchiveError::Write(source) => CommandError::Write { path: directory.to_owned(), source },
        ArchiveError::ReadBack(_) | ArchiveError::Content(_) | ArchiveError::Rewrite(_) => error.into(),
    }
}
