//! Exports the image from the engine: unpacks it into a file while it arrives, then hashes or compresses it as the archive to be
//! published. `image_archive` defines the archive, the publisher sends it.

mod ways;

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tracing::{info, warn};

use super::CommandError;
use super::cache::LayerCache;
use super::parent::TaskImage;
use super::run::Run;
use crate::config::Destination;
use crate::config::plan::{BuildDocument, ExportChoice, Identity};
use crate::engine::{Base, Engine, EngineError, shared_layers};
use crate::image::inventory::Survey;
use crate::image::sbom::{self, Contents, SbomError, Subject};
use crate::image::{ArchiveError, ArchiveLayout, ImageSummary, UnpackedImage, Written, reproducible};
use crate::job::metrics::Layers;
use crate::job::publish::{Finished, Stored};
use crate::net::blocking::blocking;
use crate::net::{ImageId, stream};
use crate::report::{Bytes, ErrorChain, ProgressCounter};
use crate::taskcluster::ArtifactName;
pub(super) use ways::ExportRequest;
pub(crate) use ways::{Damage, StorageProblem};

/// Written to disk at this size, so that system calls do not count.
const WRITE_BUFFER: usize = 256 * 1024;

/// An image in the engine.
pub(super) struct EngineImage<'a> {
    /// Its id.
    pub(super) id: ImageId,
    /// Its names.
    pub(super) identity: &'a Identity,
    /// The images that it was built from.
    pub(super) below: &'a [Base],
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
    image: &EngineImage<'_>,
    directory: &Path,
) -> Result<Finished, CommandError> {
    let choice = run.config.plan.artifact.export;
    match exported_by(choice, run, engine, image, directory).await {
        Err(CommandError::Storage(StorageProblem::Damaged(damage))) if choice == ExportChoice::Auto => {
            exported_after(&damage, run, engine, image, directory).await
        }
        exported => exported,
    }
}

/// The same by the engine's export, because its storage does not hold the image as it should.
pub(super) async fn exported_after(
    damage: &Damage,
    run: &Run<'_>,
    engine: &Engine,
    image: &EngineImage<'_>,
    directory: &Path,
) -> Result<Finished, CommandError> {
    damage.warn();
    exported_by(ExportChoice::Engine, run, engine, image, directory).await
}

async fn exported_by(
    choice: ExportChoice,
    run: &Run<'_>,
    engine: &Engine,
    image: &EngineImage<'_>,
    directory: &Path,
) -> Result<Finished, CommandError> {
    let (plan, report) = (&run.config.plan, run.report);
    let besides = image.cache.steps_artifact(engine, plan, image.id, directory).await;
    // An archive that this program uploads needs no file of its own.
    let uploaded = run.config.destination == Destination::Task;
    let (tag, level) = (&image.identity.tag, plan.artifact.zstd_level);
    let is_streamed = uploaded && level.is_none();
    let path = directory.join(plan.artifact.name.file_name());
    // An archive that must be a file, and does not change any more, can be written there directly.
    let named = (!uploaded && level.is_none() && plan.reproducible.is_none()).then_some(path.as_path());
    let source = image.cache.source(image.parent);
    let request = ExportRequest { engine, image_id: image.id, source, tag, choice, directory, named, report };
    let mut unpacked = request.take().await?;
    if let Some(epoch) = plan.reproducible {
        unpacked = clamped(request.staged(unpacked).await?, epoch, image.below.to_vec())
            .await
            .map_err(|error| classify(error, directory))?;
    }
    if unpacked.packed() > 0 {
        info!("{} layers came packed, and are stored plain, as every consumer reads them", unpacked.packed());
    }
    let (image_id, shape) = (unpacked.image_id(), ImageSummary::from(&unpacked));
    let moment = plan.reproducible.and_then(|epoch| Timestamp::from_second(i64::try_from(epoch).ok()?).ok());
    let described = {
        let (tag, directory) = (tag.clone(), directory.to_owned());
        blocking(move || {
            let survey = surveyed(&unpacked);
            let subject = Subject { tag: &tag, image_id, moment };
            let documents: Vec<_> = survey.iter().flat_map(|it| packages(&it.packages, subject, &directory)).collect();
            Ok(Described { survey, documents, archive: unpacked.arrange(&tag)? })
        })
    };
    let Described { survey, mut documents, archive } = described.await.map_err(|error| classify(error, directory))?;
    documents.extend(besides);
    let stored = if is_streamed {
        if archive.is_in_storage() {
            info!("the image is read from the engine's storage while it is uploaded, {}", Bytes(archive.size()));
        }
        Stored::Layout(archive)
    } else {
        let meter = if archive.is_in_storage() { Some(request.begin_copy(archive.size())?) } else { None };
        let written = blocking(move || write(archive, path, level, meter));
        written.await.map_err(|error| classify(error, directory))?
    };
    Ok(Finished { image_id, shape, stored, documents, survey })
}

/// An image, before its archive is written or sent.
struct Described {
    survey: Option<Survey>,
    documents: Vec<BuildDocument>,
    archive: ArchiveLayout,
}

/// Writes the archive to `path`, unless it is there already.
fn write(
    archive: ArchiveLayout,
    path: PathBuf,
    level: Option<i32>,
    meter: Option<ProgressCounter>,
) -> Result<Stored, ArchiveError> {
    if level.is_none() && archive.is_at(&path) {
        let Written { sha256, size } = archive.sum()?;
        return Ok(Stored::File { path, sha256, size });
    }
    let file = File::create(&path).map_err(ArchiveError::Write)?;
    let out = BufWriter::with_capacity(WRITE_BUFFER, file);
    let progress = |bytes| meter.iter().for_each(|meter| meter.add(bytes));
    let Written { sha256, size } = archive.write_into(level, out, progress)?;
    if let Some(meter) = meter {
        meter.finish("exported the image from the engine's storage");
    }
    Ok(Stored::File { path, sha256, size })
}

/// The image with no time later than this. What belongs to the image that it was built from stays as that has it, and is
/// shared with it.
async fn clamped(mut unpacked: UnpackedImage, epoch: u64, below: Vec<Base>) -> Result<UnpackedImage, ArchiveError> {
    let rewriting = blocking(move || {
        let layers: Vec<_> = unpacked.layers().iter().map(|layer| layer.diff_id).collect();
        reproducible::rewrite(&mut unpacked, epoch, shared_layers(&below, &layers))?;
        Ok::<_, ArchiveError>(unpacked)
    });
    let unpacked = rewriting.await?;
    info!(
        "no time that the build has left is later than SOURCE_DATE_EPOCH={epoch}: the image's id is {} now",
        unpacked.image_id()
    );
    Ok(unpacked)
}

/// What is in the image, in one pass over the headers of its layers. An image is none the worse without it.
fn surveyed(unpacked: &UnpackedImage) -> Option<Survey> {
    let layers = Layers::of(&ImageSummary::from(unpacked), 0).layers;
    let steps: Vec<_> = layers.into_iter().map(|layer| layer.step).collect();
    let survey = Survey::of(unpacked, &steps);
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
        ArchiveError::Layer(damage) => StorageProblem::Damaged(damage.into()).into(),
        ArchiveError::ReadBack(_) | ArchiveError::Content(_) | ArchiveError::Rewrite(_) => error.into(),
    }
}
