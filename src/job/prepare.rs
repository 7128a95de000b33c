//! The first stage of a run: looks the image up, and fetches all that a build of it needs.

use futures_util::FutureExt as _;
use jiff::Timestamp;
use tracing::{debug, info};

use super::cache::{LayerCache, WithCache};
use super::fetch::{FetchError, Fetched, Fetcher};
use super::loading::Loader;
use super::parent::{Role, TaskImage, TaskImages};
use super::publish::{Published, Start, Wanted};
use super::run::Run;
use super::work_dir::WorkDir;
use super::{CommandError, scopes, secret_values};
use crate::config::plan::{EPOCH_ARG, Identity, Plan};
use crate::config::{Config, Reuse};
use crate::decision::lookup::{LatestImage, LatestQuery, newest};
use crate::dockerfile::PARENT_ARG;
use crate::engine::{BuildPlan, BuildSecrets, Engine};
use crate::taskcluster::Services;
use crate::taskcluster::queue::TaskLimits;

/// The result of looking the image up.
pub(super) enum Lookup {
    /// It exists, and the entries and artifact that refer to it are published.
    Reused { identity: Identity, published: Published },
    /// It must be built.
    Missing(Workplace),
}

/// Where a build happens.
pub(super) struct Workplace {
    /// The directory for unfinished files.
    pub(super) directory: WorkDir,
    /// The properties that the run inherits from the task.
    pub(super) limits: TaskLimits,
}

/// An engine, and the results of requests made while connecting to it.
pub(super) struct Connected {
    pub(super) engine: Engine,
    /// The newest image of this name.
    pub(super) newest: Option<LatestImage>,
}

/// All inputs of a build.
pub(super) struct Inputs {
    pub(super) context: Fetched,
    pub(super) identity: Identity,
    pub(super) cache: LayerCache,
    pub(super) build: BuildPlan,
    pub(super) parent: Option<TaskImage>,
    pub(super) secrets: BuildSecrets,
}

/// Looks the image up, and makes the task's routes refer to it if it exists.
pub(super) async fn look_up(run: &Run<'_>) -> Result<Lookup, CommandError> {
    let Run { config, stop, publisher, services, .. } = run;
    let plan = &config.plan;
    // With a known hash, this refuses names that the index would refuse, and finds an unexpired image. All queries run in
    // parallel before any work starts.
    let early = plan.context.hash.map(|hash| plan.identity(hash)).transpose()?;
    let identity_to_find = early.as_ref().filter(|_| config.reuse != Reuse::Nothing);
    let (central, reuse, now) = (&config.central, config.reuse, run.clock.started_at);
    let wanted = identity_to_find.map(|identity| Wanted { identity, central, reuse, now });
    let looking = publisher.look_up(plan, wanted.as_ref());
    let both = async { Ok::<_, CommandError>(tokio::join!(scopes::current(config, *services), looking)) };
    let (held, start) = stop.run_stage("looking the image up", both).await?;
    scopes::compare(config, early.as_ref(), held.as_ref(), scopes::builds(&start))?;
    let Start { found, limits } = start?;
    let directory = work_directory(config)?;
    if let (Some(identity), Some(found)) = (identity_to_find, found) {
        info!("{found}");
        let reusing = publisher.reuse(plan, identity, &found, directory.path());
        if let Some(published) = stop.run_stage("pointing at the image", reusing).await? {
            return Ok(Lookup::Reused { identity: identity.clone(), published });
        }
        scopes::compare(config, Some(identity), held.as_ref(), true)?;
    }
    Ok(Lookup::Missing(Workplace { directory, limits }))
}

/// Finds or starts the engine.
pub(super) async fn connect(run: &Run<'_>, work: &Workplace) -> Result<Connected, CommandError> {
    let Config { plan, engine, .. } = run.config;
    let place = work.directory.engine();
    let connecting = Engine::connect_or_start(engine, &place, plan.build.network.as_deref());
    let asking = newest_image(run.config, run.services, run.clock.started_at);
    let both = async { tokio::join!(connecting, asking) };
    let both = both.map(|(engine, newest)| engine.map(|engine| Connected { engine, newest }));
    let connected = run.stop.run_stage("looking for an engine", both).await?;
    connected.engine.keep_records().await;
    Ok(connected)
}

/// Gets all that the build needs. What of it is in the engine is left to be cleaned, also where something else fails.
pub(super) async fn prepare(
    run: &Run<'_>,
    Connected { engine, newest }: &Connected,
    work: &Workplace,
) -> Result<Inputs, CommandError> {
    let Run { config, stop, report, storage, services, .. } = *run;
    let plan = &config.plan;
    let fetcher = Fetcher { services, storage, report, work_dir: work.directory.path(), image: &plan.image };
    let loader = || Loader { engine, storage, report, steps: None };
    let caching = LayerCache::load(plan, config.cache_from, newest.as_ref(), services, loader());
    let fetching = stop.run_stage("fetching the context", fetcher.context(&plan.context));
    let WithCache { done: context, cache } = LayerCache::join_load(fetching, caching, stop).await?;
    let identity = plan.identity(context.hash)?;
    if config.assumes_parent {
        context.warn_of_own_parent(&plan.build.args).await?;
    }
    let asking = secret_values::values(&plan.build.secrets, services);
    let secrets = stop.run_stage("getting the build's secrets", asking).await?;
    let mut build = plan.build.clone();
    if let Some(epoch) = plan.reproducible {
        build.args.entry(EPOCH_ARG.to_owned()).or_insert_with(|| epoch.to_string());
    }
    let parent =
        stop.run_stage("loading the parent image", load_parent(config, services, loader(), &mut build)).await?;
    Ok(Inputs { context, identity, cache, build, parent, secrets })
}

/// Loads the image of the parent task, if the plan has one, and passes its name to the build.
async fn load_parent(
    config: &Config,
    services: Option<&Services>,
    loader: Loader<'_>,
    build: &mut BuildPlan,
) -> Result<Option<TaskImage>, CommandError> {
    let Config { plan, central, .. } = config;
    let Some(parent) = &plan.parent else { return Ok(None) };
    let services = services.ok_or_else(|| FetchError::NoDeployment(format!("the image of task {parent}")))?;
    let tag = plan.parent_tag(parent);
    let engine = loader.engine;
    let images = TaskImages { role: Role::Parent, services, storage: loader.storage, central: Some(central) };
    let image = images.take(&plan.artifact.name, parent, &loader.task_image(&tag, services, true)).await?;
    if let Some(wanted) = build.target_arch {
        engine.check_architecture(&tag, "the parent image", wanted).await?;
    }
    build.args.insert(PARENT_ARG.to_owned(), tag);
    Ok(Some(image))
}

/// The newest image of the same name, where there is an index.
async fn newest_image(config: &Config, services: Option<&Services>, now: Timestamp) -> Option<LatestImage> {
    let Plan { index, project, image, .. } = &config.plan;
    let newest = newest(services?, &LatestQuery { index, project, central: &config.central, image, now }).await?;
    debug!("the newest image of this name is that of {}, for {}", newest.at, newest.project);
    Some(newest)
}

/// A directory for unfinished files, which is removed with everything in it.
fn work_directory(config: &Config) -> Result<WorkDir, CommandError> {
    let parent = config.unfinished();
    WorkDir::new_in(parent).map_err(|source| CommandError::Write { path: parent.to_owned(), source })
}
