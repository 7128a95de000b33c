//! The image task's job: a context in, an image archive and three routes out, in three stages. How each is done is in the
//! modules that it calls.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tracing::{info, warn};

use super::build::{BuiltImage, build};
use super::export::{Damage, StorageProblem};
use super::measure::Baseline;
use super::metrics::{GrowthSince, Measured};
use super::prepare::{Connected, Lookup, Workplace, connect, look_up, prepare};
use super::provenance::{self, ProvenanceInput};
use super::publish::{OutputDirectory, Payload, PublishError, PublishRequest, Publisher, Uploaded};
use super::run::{Clock, Run};
use super::shutdown::{Shutdown, ShutdownReason};
use super::{CommandError, declared, measure, orphans, report_page, secret_values};
use crate::config::plan::{ExportChoice, Identity, ImageFile};
use crate::config::{Config, Destination};
use crate::decision::lookup::LatestImage;
use crate::engine::Engine;
use crate::engine::build_log::{self, BuildLog};
use crate::image::ArchiveError;
use crate::net::transfer::Storage;
use crate::report::{Bytes, Report, VERSION};
use crate::taskcluster::Services;

/// The stage's name.
const PUBLISHING: &str = "publishing";

/// The time limit for uploading the log of a job whose time is over: a third of what `stop` reserves.
const LOG_UPLOAD_TIMEOUT: Duration = Duration::from_secs(20);

/// The result of `run`.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Whether an image was built, or was there already.
    pub built: bool,
    /// The names of the image.
    #[serde(flatten)]
    pub identity: Identity,
    /// In one line, for people.
    #[serde(skip)]
    pub story: String,
}

/// Does the job, and removes what killed runs have left.
pub async fn run(config: Config, stop: &Shutdown, report: &Report) -> Result<Outcome, CommandError> {
    run_into(None, config, stop, report).await
}

/// The same, into the directory from [`reserve`].
pub(super) async fn run_into(
    reserved: Option<Publisher>,
    mut config: Config,
    stop: &Shutdown,
    report: &Report,
) -> Result<Outcome, CommandError> {
    let clock = Clock { started_at: config.started, since: Instant::now() };
    secret_values::look_at_args(&config.plan.build.args, config.deny_secret_args)?;
    let push = match config.destination {
        // A task's own routes have the push, so that it may be unknown here.
        Destination::Payload(_) => String::new(),
        Destination::Task | Destination::DryRun(_) => format!(", push of {}", config.plan.pushdate),
    };
    info!("image-worker {VERSION}: {}{push}", config.plan);
    for assumption in &config.assumed {
        info!("{assumption}");
    }
    let storage = Storage::new(config.retry)?;
    let services = config.deployment.as_ref().map(Services::new).transpose()?;
    let declaring = async {
        declared::settle(&mut config, services.as_ref()).await;
        Ok::<_, CommandError>(())
    };
    stop.run_stage("asking where the image goes", declaring).await?;
    let publisher = match reserved {
        Some(publisher) => publisher,
        None => publisher(&config, services.clone(), &storage, report)?,
    };
    let removing = orphans::remove(config.unfinished(), &config.engine);
    let unclear = stop.run_stage("removing what killed runs have left", removing).await?;
    let (storage, services, publisher) = (&storage, services.as_ref(), &publisher);
    let run = Run { config: &config, clock, stop, report, storage, services, publisher };
    let outcome = job(&run).await;
    // A stopped job leaves the cleanup to the next start: reporting how the job ended is more important.
    let _ = stop.run_stage("removing the rest", orphans::remove_at_last(unclear, &config.engine)).await;
    outcome
}

/// The job: three stages. What they leave in the engine is removed however they end.
async fn job(run: &Run<'_>) -> Result<Outcome, CommandError> {
    let work = match look_up(run).await? {
        Lookup::Reused { identity, published } => {
            return Ok(Outcome { built: false, identity, story: published.story });
        }
        Lookup::Missing(work) => work,
    };
    let connected = connect(run, &work).await?;
    let mut log = None;
    let built = prepare_and_build(run, &connected, &work, &mut log).await;
    let keeping = async {
        if let Some(log) = log.and_then(BuildLog::finish) {
            publish_log(run, &log, work.limits.expires, built.as_ref().err()).await;
        }
    };
    // Fetches the earlier image's numbers in parallel.
    let ((), earlier) = tokio::join!(keeping, earlier(run, built.as_ref().ok(), connected.newest.clone()));
    // The image may be read in the engine while it is uploaded.
    let sent = async { upload(run, &connected.engine, &work, built?).await }.await;
    let publishing = async { publish(run, &connected.engine, &work, sent?, earlier?).await };
    let (published, ()) = tokio::join!(publishing, connected.engine.clean());
    let PublishedImage { outcome, mut measured, growth } = published?;
    measured.so_far(run.stop.stages(), run.clock.since.elapsed());
    measure::log(&measured, growth.as_ref());
    Ok(outcome)
}

/// An image whose archive is complete, and uploaded if it is to be.
struct SentImage {
    built: BuiltImage,
    /// The archive.
    image: ImageFile,
    measured: Measured,
}

/// An image with all that belongs to it, and what it is compared with.
struct PublishedImage {
    outcome: Outcome,
    measured: Measured,
    growth: Option<GrowthSince>,
}

/// Uploads the image, and the files of it that do not name its archive's sum.
async fn upload(
    run: &Run<'_>,
    engine: &Engine,
    work: &Workplace,
    mut built: BuiltImage,
) -> Result<SentImage, CommandError> {
    let measured = measure(run, work, &mut built)?;
    match send(run, work, &built).await {
        Err(CommandError::Publish(PublishError::Archive(ArchiveError::Layer(damage)))) => {
            let damage = Damage::from(damage);
            if run.config.plan.artifact.export != ExportChoice::Auto {
                return Err(StorageProblem::Damaged(damage).into());
            }
            built.export_again(&damage, run, engine, work).await?;
            let measured = measure(run, work, &mut built)?;
            let image = send(run, work, &built).await?;
            Ok(SentImage { built, image, measured })
        }
        sent => Ok(SentImage { image: sent?, built, measured }),
    }
}

/// Writes down the numbers of an image, which are published with it.
fn measure(run: &Run<'_>, work: &Workplace, built: &mut BuiltImage) -> Result<Measured, CommandError> {
    let directory = work.directory.path();
    let mut measured = measure::measured(&run.config.plan, built);
    measured.so_far(run.stop.stages(), run.clock.since.elapsed());
    let written = measured.write(directory);
    built.image.documents.extend(written.map_err(|source| unwritable(directory, source))?);
    Ok(measured)
}

async fn send(run: &Run<'_>, work: &Workplace, built: &BuiltImage) -> Result<ImageFile, CommandError> {
    let uploading = run.publisher.upload(request(run, work, &built.identity), &built.image);
    let image = run.stop.run_stage(PUBLISHING, uploading).await?;
    let (name, layers) = (&run.config.plan.artifact.name, built.image.shape.layers.len());
    info!("{name}: {}, {layers} layers, sha256 {}", Bytes(image.size), image.sha256);
    Ok(image)
}

fn request<'a>(run: &'a Run<'_>, work: &Workplace, identity: &'a Identity) -> PublishRequest<'a> {
    PublishRequest { plan: &run.config.plan, identity, expires: work.limits.expires }
}

fn unwritable(directory: &Path, source: io::Error) -> CommandError {
    CommandError::Write { path: directory.to_owned(), source }
}

/// The image that this one is compared with.
async fn earlier(
    run: &Run<'_>,
    built: Option<&BuiltImage>,
    newest: Option<LatestImage>,
) -> Result<Option<Baseline>, CommandError> {
    let Run { config, stop, services, storage, .. } = run;
    let (Some(built), Some(newest)) = (built, newest) else { return Ok(None) };
    let survey = built.image.survey.as_ref();
    let looking =
        async { Ok::<_, CommandError>(measure::earlier(&config.plan, newest, survey, *services, storage).await) };
    stop.run_stage("looking at the previous image", looking).await
}

async fn prepare_and_build(
    run: &Run<'_>,
    connected: &Connected,
    work: &Workplace,
    log: &mut Option<BuildLog>,
) -> Result<BuiltImage, CommandError> {
    let inputs = prepare(run, connected, work).await?;
    let log = log.insert(begin_log(work.directory.path(), run.report)?);
    build(run, &connected.engine, work, inputs, log).await
}

/// Publishes the rest: the image's origin, and the routes to it.
async fn publish(
    run: &Run<'_>,
    engine: &Engine,
    work: &Workplace,
    sent: SentImage,
    earlier: Option<Baseline>,
) -> Result<PublishedImage, CommandError> {
    let Run { config, stop, publisher, clock, .. } = run;
    let SentImage { mut built, image, mut measured } = sent;
    let (plan, directory) = (&config.plan, work.directory.path());
    measured.so_far(stop.stages(), clock.since.elapsed());
    let survey = built.image.survey.take();
    let made = ProvenanceInput {
        plan,
        identity: &built.identity,
        scheme: built.inputs.scheme,
        root_url: config.deployment.as_ref().map(|deployment| &deployment.root_url),
        worker_pool: work.limits.worker_pool.as_deref(),
        image: &image,
        besides: &built.image.documents,
        bases: &built.bases,
        parent: built.inputs.parent.as_ref(),
        cache: built.inputs.cache.loaded().filter(|_| built.steps.cached > 0),
        engine: engine.about(),
        builder: built.builder,
        started: clock.started_at,
        finished: clock.now(),
    };
    let growth = earlier.and_then(|earlier| earlier.growth(&measured, survey.as_ref()));
    let page = survey.and_then(|survey| report_page::of_run(&made, survey, &measured, growth.as_ref(), directory));
    let besides: Vec<_> = built.image.documents.iter().chain(&page).cloned().collect();
    let provenance = provenance::write(&ProvenanceInput { besides: &besides, ..made }, directory);
    let provenance = provenance.map_err(|source| unwritable(directory, source))?;
    let later = std::iter::once(provenance).chain(page).collect();
    let uploaded = Uploaded { finished: built.image, image, later };
    let publishing = publisher.publish(request(run, work, &built.identity), uploaded);
    let story = stop.run_stage(PUBLISHING, publishing).await?.story;
    Ok(PublishedImage { outcome: Outcome { built: true, identity: built.identity, story }, measured, growth })
}

/// Publishes the build's log, also that of a job that failed, as far as there is time for it.
async fn publish_log(run: &Run<'_>, log: &build_log::Finished, expires: Timestamp, failed: Option<&CommandError>) {
    let keeping = run.publisher.publish_log(&run.config.plan, log, expires);
    let kept = match failed {
        // There is a minute left, and the log shows what took so long.
        Some(CommandError::Stopped { reason: ShutdownReason::Deadline, .. }) => {
            within(LOG_UPLOAD_TIMEOUT, keeping).await
        }
        // After a signal there is no time for a log.
        Some(CommandError::Stopped { .. }) => Ok(()),
        Some(_) | None => run.stop.run_stage("uploading the build's log", keeping).await,
    };
    if let Err(error) = kept {
        // The image, or the failure, matters more.
        warn!("the build's log is not kept: {error}");
    }
}

/// Sets a time limit for the log of a job whose time is over.
async fn within(limit: Duration, keeping: impl Future<Output = Result<(), PublishError>>) -> Result<(), CommandError> {
    match tokio::time::timeout(limit, keeping).await {
        Ok(kept) => Ok(kept?),
        Err(_) => Err(CommandError::Stopped { reason: ShutdownReason::Deadline, stage: "uploading the build's log" }),
    }
}

fn begin_log(directory: &Path, report: &Report) -> Result<BuildLog, CommandError> {
    let path = directory.join("build.log");
    BuildLog::create(path.clone(), report.build_steps(None)).map_err(|source| CommandError::Write { path, source })
}

fn publisher(
    config: &Config,
    services: Option<Services>,
    storage: &Storage,
    report: &Report,
) -> Result<Publisher, CommandError> {
    match (reserve(config)?, services, &config.plan.task) {
        (Some(directory), ..) => Ok(directory),
        (None, Some(services), Some(task)) => {
            Ok(Publisher::task(services, storage.clone(), task.clone(), report.clone()))
        }
        (None, ..) => {
            Err(CommandError::Bug("a run that publishes was configured without a deployment or a task".to_owned()))
        }
    }
}

/// Takes the directory that the image is written to, if there is one, exclusively until the job is done.
pub(super) fn reserve(config: &Config) -> Result<Option<Publisher>, CommandError> {
    let Config { plan, destination, .. } = config;
    let (artifact, dry) = (&plan.artifact.name, plan.dry_run.is_some());
    Ok(match destination {
        Destination::Task => None,
        Destination::Payload(output) => Some(Publisher::Payload(Payload::new(output.clone(), artifact, dry)?)),
        Destination::DryRun(output) => {
            Some(Publisher::Directory(OutputDirectory::for_dry_run(output.clone(), artifact)?))
        }
    })
}
