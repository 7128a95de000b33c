//! `run`, the main job: a context in, `image.tar` and three routes out. The story on one page; each step's how
//! is in the room that it calls.

use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use jiff::Timestamp;
use tracing::{debug, info, warn};

use super::CommandError;
use super::cache;
use super::declared;
use super::export::{EngineImage, exported};
use super::fetch::{FetchError, Fetched, Fetcher};
use super::leftovers;
use super::loading::Loader;
use super::measure;
use super::parent::{Role, TaskImage, TaskImages};
use super::provenance::{self, ProvenanceInput};
use super::publish::{Folder, Payload, PublishError, Published, Publisher, Start};
use super::scopes;
use super::secret_values;
use super::shutdown::{Shutdown, ShutdownReason};
use super::work_dir::WorkDir;
use crate::config::plan::{EPOCH_ARG, Identity, Plan};
use crate::config::{Config, Destination};
use crate::decision::lookup::{LatestImage, LatestQuery, newest};
use crate::dockerfile::PARENT_ARG;
use crate::engine::build_log::{BuildLog, Finished};
use crate::engine::{Base, Bases, BuildOptions, BuildPlan, Built, CacheFrom, Engine, EngineError, Fault};
use crate::image::disk::ensure_space;
use crate::net::transfer::Storage;
use crate::report::{Report, with_causes};
use crate::taskcluster::queue::TaskLimits;
use crate::taskcluster::{Project, Services};

/// How long the upload of the log of a job whose time is over may take: a third of what `stop` keeps back.
const LAST_WORDS: Duration = Duration::from_secs(20);

/// What `run` has to say at its end.
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

/// The same, into the folder that [`reserve`] has given.
pub(super) async fn run_into(
    reserved: Option<Publisher>,
    mut config: Config,
    stop: &Shutdown,
    report: &Report,
) -> Result<Outcome, CommandError> {
    let clock = Clock { began: config.started, since: Instant::now() };
    config.retry.hold();
    secret_values::look_at_args(&config.plan.build.args, config.deny_secret_args)?;
    let push = match config.destination {
        // A task's own routes have the push, and we need not know it.
        Destination::Payload(_) => String::new(),
        Destination::Task | Destination::DryRun(_) => format!(", push of {}", config.plan.pushdate),
    };
    info!("image-worker {}: {}{push}", env!("CARGO_PKG_VERSION"), config.plan);
    for assumption in &config.assumed {
        info!("{assumption}");
    }
    let storage = Storage::new()?;
    let services = config.deployment.as_ref().map(Services::new).transpose()?;
    let declaring = async {
        declared::settle(&mut config, services.as_ref()).await;
        Ok::<_, CommandError>(())
    };
    stop.during("asking where the image goes", declaring).await?;
    let publisher = match reserved {
        Some(publisher) => publisher,
        None => publisher(&config, services.clone(), &storage, report)?,
    };
    let removing = leftovers::remove(config.unfinished(), &config.engine);
    let unclear = stop.during("removing what killed runs have left", removing).await?;
    let outcome = job(&config, &clock, stop, report, &storage, services.as_ref(), &publisher).await;
    // Who is stopped meanwhile leaves it to the next start: how the job ended matters more.
    let _ = stop.during("removing the rest", leftovers::remove_at_last(unclear, &config.engine)).await;
    outcome
}

/// The time, by the moment that the program was given at its start.
struct Clock {
    began: Timestamp,
    since: Instant,
}

impl Clock {
    fn now(&self) -> Timestamp {
        self.began.saturating_add(self.since.elapsed()).unwrap_or(self.began)
    }
}

async fn job(
    config: &Config,
    clock: &Clock,
    stop: &Shutdown,
    report: &Report,
    storage: &Storage,
    services: Option<&Services>,
    publisher: &Publisher,
) -> Result<Outcome, CommandError> {
    let Config { plan, .. } = config;
    // With a hash, names that the index would refuse are refused here, and an image that lives is found. All that is asked
    // before anything is begun is asked at once.
    let early = plan.context.hash.map(|hash| plan.identity(hash)).transpose()?;
    let sought = early.as_ref().filter(|_| !config.force);
    let looking = publisher.look_up(plan, sought, &config.central, clock.began);
    let both = async { Ok::<_, CommandError>(tokio::join!(scopes::current(config, services), looking)) };
    let (held, start) = stop.during("looking the image up", both).await?;
    scopes::compare(config, early.as_ref(), held.as_ref(), scopes::builds(&start))?;
    let Start { found, limits: TaskLimits { expires, worker_pool, .. } } = start?;
    let work = work_folder(config)?;
    if let (Some(identity), Some(found)) = (sought, found) {
        info!("{found}");
        let reusing = publisher.reuse(plan, identity, &found, work.path());
        if let Some(Published { story }) = stop.during("pointing at the image", reusing).await? {
            return Ok(Outcome { built: false, identity: identity.clone(), story });
        }
        scopes::compare(config, Some(identity), held.as_ref(), true)?;
    }
    let (place, network) = (work.engine(), plan.build.network.as_deref());
    let connecting = Engine::connect_or_start(&config.engine, &place, network);
    let asking = newest_image(config, services, clock.began);
    let connecting = async { tokio::join!(connecting, asking) };
    let connecting = connecting.map(|(engine, newest)| engine.map(|engine| (engine, newest)));
    let (engine, newest) = stop.during("looking for an engine", connecting).await?;
    engine.keep_records().await;
    let fetcher = Fetcher { services, storage, report, folder: work.path() };
    let loader = || Loader { engine: &engine, storage, report, steps: None };
    let caching = cache::load(plan, config.cache_from, newest.as_ref(), services, loader());
    let fetching = stop.during("fetching the context", fetcher.context(plan));
    let (context, cache) = or_clean(&engine, cache::alongside(fetching, caching, stop).await).await?;
    let identity = or_clean(&engine, plan.identity(context.hash).map_err(Into::into)).await?;
    if config.assumes_parent {
        or_clean(&engine, context.warn_of_own_parent(&plan.build.args).await.map_err(Into::into)).await?;
    }
    let (context_bytes, scheme) = (context.bytes, context.scheme);

    let mut log = or_clean(&engine, begin_log(work.path())).await?;
    let asking = secret_values::values(&plan.build.secrets, services);
    let secrets = or_clean(&engine, stop.during("getting the build's secrets", asking).await).await?;
    let loading = stop.during("loading the parent image", with_parent(plan, &config.central, services, loader())).await;
    let (build_plan, parent) = or_clean(&engine, loading).await?;
    let offered = cache::offered(&engine, config.cache_from, cache.as_ref(), build_plan.args.get(PARENT_ARG));
    let (secrets, is_cache) = (&secrets, config.cache_from != CacheFrom::Off);
    let told = BuildOptions { plan: &build_plan, secrets, cache: &offered, is_cache };
    let building = build(&engine, told, &identity, context, &mut log);
    let image = match stop.during("building", building).await {
        Ok((Built { image_id, builder, steps }, bases)) => {
            cache::tell(cache.as_ref(), steps);
            let below = lasting(&bases, builder, build_plan.args.get(PARENT_ARG));
            let source = cache::source(config.cache_from, cache.as_ref(), parent.as_ref());
            let built = EngineImage { id: &image_id, below, source };
            let exporting = exported(&engine, config, &identity, built, work.path(), report);
            let image = stop.during("exporting the image", exporting).await;
            image.map(|image| (image, bases, (builder, steps)))
        }
        Err(error) => Err(error),
    };
    let image = match (image, &config.keep) {
        (Err(failed @ CommandError::Engine(EngineError::Build(_))), Some(tag)) => {
            Err(keep(&engine, plan, tag, failed, stop).await)
        }
        (image, _) => image,
    };
    engine.clean().await;
    if let Some(log) = log.finish() {
        publish_log(publisher, plan, &log, expires, image.as_ref().err(), stop).await;
    }
    let (mut image, bases, (builder, steps)) = image?;
    let unwritable = |source| CommandError::Write { path: work.path().to_owned(), source };
    let mut measured = measure::measured(plan, &image, (&bases, builder, steps), context_bytes);
    measured.so_far(stop.stages(), clock.since.elapsed());
    image.companions.extend(measured.write(work.path()).map_err(unwritable)?);
    let made = ProvenanceInput {
        plan,
        identity: &identity,
        scheme,
        root_url: config.deployment.as_ref().map(|deployment| &deployment.root_url),
        worker_pool: worker_pool.as_deref(),
        image: &image.image,
        besides: &image.companions,
        bases: &bases,
        parent: parent.as_ref(),
        cache: cache.as_ref().filter(|_| steps.cached > 0).map(|cache| (&cache.newest, &cache.image)),
        engine: engine.about(),
        builder,
        started: clock.began,
        finished: clock.now(),
    };
    let provenance = provenance::write(&made, work.path()).map_err(unwritable)?;
    image.companions.push(provenance);
    let publishing = publisher.publish(plan, &identity, image, expires);
    // What this image is compared with comes meanwhile.
    let comparing = measure::earlier(plan, newest, services, storage);
    let both = async { Ok::<_, CommandError>(tokio::join!(publishing, comparing)) };
    let (done, earlier) = stop.during("publishing", both).await?;
    let story = done?.story;
    measured.so_far(stop.stages(), clock.since.elapsed());
    measure::tell(&measured, earlier.as_ref());
    Ok(Outcome { built: true, identity, story })
}

/// Publishes the build's log, also that of a job that failed, as far as there is time for it.
async fn publish_log(
    publisher: &Publisher,
    plan: &Plan,
    log: &Finished,
    expires: Timestamp,
    failed: Option<&CommandError>,
    stop: &Shutdown,
) {
    let keeping = publisher.publish_log(plan, log, expires);
    let kept = match failed {
        // There is a minute left, and the log tells what took so long.
        Some(CommandError::Stopped { reason: ShutdownReason::Deadline, .. }) => within(LAST_WORDS, keeping).await,
        // Who is told to go at once has no time for a log.
        Some(CommandError::Stopped { .. }) => Ok(()),
        Some(_) | None => stop.during("uploading the build's log", keeping).await,
    };
    if let Err(error) = kept {
        // The image, or the failure, matters more.
        warn!("the build's log is not kept: {error}");
    }
}

/// Gives up on the log of a job whose time is over.
async fn within(limit: Duration, keeping: impl Future<Output = Result<(), PublishError>>) -> Result<(), CommandError> {
    match tokio::time::timeout(limit, keeping).await {
        Ok(kept) => Ok(kept?),
        Err(_) => Err(CommandError::Stopped { reason: ShutdownReason::Deadline, stage: "uploading the build's log" }),
    }
}

/// The newest image of the same name, where there is an index.
async fn newest_image(config: &Config, services: Option<&Services>, now: Timestamp) -> Option<LatestImage> {
    let Plan { index, project, image, .. } = &config.plan;
    let newest = newest(services?, &LatestQuery { index, project, central: &config.central, image, now }).await?;
    debug!("the newest image of this name is that of {}, for {}", newest.at, newest.project);
    Some(newest)
}

/// Gives a failure when what is in the engine by now is removed.
async fn or_clean<T>(engine: &Engine, done: Result<T, CommandError>) -> Result<T, CommandError> {
    if done.is_err() {
        engine.clean().await;
    }
    done
}

/// A folder for what is not finished, which disappears with everything in it.
fn work_folder(config: &Config) -> Result<WorkDir, CommandError> {
    let parent = config.unfinished();
    WorkDir::new_in(parent).map_err(|source| CommandError::Write { path: parent.to_owned(), source })
}

fn begin_log(folder: &Path) -> Result<BuildLog, CommandError> {
    let path = folder.join("build.log");
    BuildLog::create(path.clone()).map_err(|source| CommandError::Write { path, source })
}

fn publisher(
    config: &Config,
    services: Option<Services>,
    storage: &Storage,
    report: &Report,
) -> Result<Publisher, CommandError> {
    match (reserve(config)?, services, &config.plan.task) {
        (Some(folder), ..) => Ok(folder),
        (None, Some(services), Some(task)) => {
            Ok(Publisher::task(services, storage.clone(), task.clone(), report.clone()))
        }
        (None, ..) => {
            Err(CommandError::Bug("a run that publishes was configured without a deployment or a task".to_owned()))
        }
    }
}

/// Takes the folder that the image ends in, where it ends in one: nobody else writes to it until the job is done.
pub(super) fn reserve(config: &Config) -> Result<Option<Publisher>, CommandError> {
    let Config { plan, destination, .. } = config;
    let (artifact, dry) = (&plan.artifact.name, plan.dry_run.is_some());
    Ok(match destination {
        Destination::Task => None,
        Destination::Payload(output) => Some(Publisher::Payload(Payload::new(output.clone(), artifact, dry)?)),
        Destination::DryRun(output) => Some(Publisher::Folder(Folder::for_dry_run(output.clone(), artifact)?)),
    })
}

/// What the build is told, after its parent is in the engine, where it has one.
async fn with_parent(
    plan: &Plan,
    central: &Project,
    services: Option<&Services>,
    loader: Loader<'_>,
) -> Result<(BuildPlan, Option<TaskImage>), CommandError> {
    let mut build = plan.build.clone();
    if let Some(epoch) = plan.reproducible {
        build.args.entry(EPOCH_ARG.to_owned()).or_insert_with(|| epoch.to_string());
    }
    let Some(parent) = &plan.parent else { return Ok((build, None)) };
    let services = services.ok_or_else(|| FetchError::NoDeployment(format!("the image of task {parent}")))?;
    let tag = plan.parent_tag(parent);
    let engine = loader.engine;
    let images = TaskImages { role: Role::Parent, services, loader, central: Some(central) };
    let image = images.load(&plan.artifact.name, parent, &tag).await?;
    if let Some(wanted) = build.target_arch {
        engine.check_architecture(&tag, "the parent image", wanted).await?;
    }
    build.args.insert(PARENT_ARG.to_owned(), tag);
    Ok((build, Some(image)))
}

/// Builds the image; the context is not needed any more when it is built. Gives the image, and what its `Dockerfile`
/// was built from.
async fn build(
    engine: &Engine,
    told: BuildOptions<'_>,
    identity: &Identity,
    context: Fetched,
    log: &mut BuildLog,
) -> Result<(Built, Bases), CommandError> {
    if let Some(root) = engine.root().await {
        ensure_space("the context in the engine", &root, context.bytes)?;
    }
    info!("building {}", identity.tag);
    let started = Instant::now();
    let (sent, tag) = (context.for_engine(&told.plan.args).await?, &identity.engine_tag);
    let mut built = engine.build(&sent, tag, told, log).await;
    // A list of packages, for example, that names what is not there any more.
    if let Err(EngineError::Build(failure)) = &built
        && failure.fault == Fault::Dockerfile
        && failure.cached > 0
        && !told.cache.is_empty()
    {
        let cached = failure.cached;
        warn!("the build failed after {cached} steps from the cache, which may be why: building again without it");
        let without_cache = BuildOptions { cache: &[], ..told };
        built = engine.build(&sent, tag, without_cache, log).await;
    }
    let built = built?;
    info!("built {} in {:.1} s", built.image_id, started.elapsed().as_secs_f64());
    let bases = engine.bases(&sent.dockerfile(), &told.plan.args).await?;
    for unknown in &bases.unknown {
        warn!("the engine does not say what {unknown} was: the provenance has no digest of it");
    }
    Ok((built, bases))
}

/// The images whose layers a reproducible image shares. `BuildKit` pulls some that the engine then does not have, and does not
/// know the layers of: what is shared must not hang on what an engine had before, so that only the parent is, which we load.
fn lasting(bases: &Bases, builder: &str, parent: Option<&String>) -> Vec<Base> {
    let lasts = |base: &&Base| builder != "buildkit" || parent == Some(&base.reference);
    bases.found.iter().filter(lasts).cloned().collect()
}

/// Keeps the last good step's image of a build that failed; that it cannot be kept is not the failure to tell.
async fn keep(engine: &Engine, plan: &Plan, tag: &str, failed: CommandError, stop: &Shutdown) -> CommandError {
    let keeping = engine.tag_failed_step(tag, plan.build.network.as_deref());
    match stop.during("keeping the last good step's image", keeping).await {
        Ok(Some(kept)) => CommandError::Kept { failed: Box::new(failed), kept: Box::new(kept) },
        Ok(None) => {
            warn!("no step was done before the failure: there is no image to open a shell in");
            failed
        }
        Err(stopped @ CommandError::Stopped { .. }) => stopped,
        Err(error) => {
            warn!("{}", with_causes(&error));
            failed
        }
    }
}
