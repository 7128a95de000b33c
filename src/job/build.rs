//! The second stage of a run: the build, and the image out of the engine.

use std::time::Instant;

use tracing::{info, warn};

use super::CommandError;
use super::cache::LayerCache;
use super::export::{Damage, EngineImage, exported, exported_after};
use super::fetch::Fetched;
use super::parent::TaskImage;
use super::prepare::{Inputs, Workplace};
use super::publish::Finished;
use super::run::Run;
use crate::config::plan::Identity;
use crate::context::ContextScheme;
use crate::dockerfile::PARENT_ARG;
use crate::engine::build_log::BuildLog;
use crate::engine::{Base, Bases, BuildOptions, Built, Engine, EngineError, Fault, Steps};
use crate::image::disk::ensure_space;
use crate::net::ImageId;
use crate::report::{ErrorChain, counted};

/// The stage's name.
const EXPORTING: &str = "exporting the image";

/// An image that was built and exported from the engine, and what it was built from.
pub(super) struct BuiltImage {
    pub(super) image: Finished,
    /// Its id in the engine.
    pub(super) engine_id: ImageId,
    /// The images whose layers a reproducible one shares.
    pub(super) below: Vec<Base>,
    pub(super) identity: Identity,
    pub(super) inputs: InputFacts,
    /// What its `Dockerfile` names.
    pub(super) bases: Bases,
    /// The part of the engine that read the `Dockerfile`.
    pub(super) builder: &'static str,
    pub(super) steps: Steps,
}

/// The facts about the inputs that are needed after the build.
pub(super) struct InputFacts {
    /// The size of the context in bytes.
    pub(super) context_bytes: u64,
    pub(super) scheme: ContextScheme,
    pub(super) parent: Option<TaskImage>,
    pub(super) cache: LayerCache,
}

/// Builds the image, and takes it out of the engine.
pub(super) async fn build(
    run: &Run<'_>,
    engine: &Engine,
    work: &Workplace,
    inputs: Inputs,
    log: &mut BuildLog,
) -> Result<BuiltImage, CommandError> {
    let Run { config, stop, .. } = run;
    let Inputs { context, identity, cache, build, parent, secrets } = inputs;
    let (context_bytes, scheme) = (context.bytes, context.scheme);
    let parent_tag = build.args.get(PARENT_ARG);
    let offered = cache.cache_from_images(engine, parent_tag);
    let options = BuildOptions { plan: &build, secrets: &secrets, cache: &offered, is_cache: cache.is_wanted() };
    let building = stop.run_stage("building", build_image(engine, options, &identity, context, log));
    let BuiltFrom { built, bases } = match (building.await, &config.keep) {
        (Err(failed @ CommandError::Engine(EngineError::Build(_))), Some(tag)) => {
            return Err(keep(run, engine, tag, failed).await);
        }
        (built, _) => built?,
    };
    let Built { image_id, builder, steps } = built;
    cache.report(steps);
    let below = pinnable_bases(&bases, builder, parent_tag);
    let image =
        EngineImage { id: image_id, identity: &identity, below: &below, cache: &cache, parent: parent.as_ref() };
    let exporting = exported(run, engine, &image, work.directory.path());
    let image = stop.run_stage(EXPORTING, exporting).await?;
    let inputs = InputFacts { context_bytes, scheme, parent, cache };
    Ok(BuiltImage { image, engine_id: image_id, below, identity, inputs, bases, builder, steps })
}

impl BuiltImage {
    /// Exports it again, because the engine's storage turned out to be damaged while the image was sent.
    pub(super) async fn export_again(
        &mut self,
        damage: &Damage,
        run: &Run<'_>,
        engine: &Engine,
        work: &Workplace,
    ) -> Result<(), CommandError> {
        let Self { engine_id: id, identity, below, inputs: InputFacts { cache, parent, .. }, .. } = &*self;
        let image = EngineImage { id: *id, identity, below, cache, parent: parent.as_ref() };
        let exporting = exported_after(damage, run, engine, &image, work.directory.path());
        self.image = run.stop.run_stage(EXPORTING, exporting).await?;
        Ok(())
    }
}

/// An image in the engine, and what its `Dockerfile` was built from.
struct BuiltFrom {
    built: Built,
    bases: Bases,
}

/// Builds the image; the context is not needed any more when it is built.
async fn build_image(
    engine: &Engine,
    options: BuildOptions<'_>,
    identity: &Identity,
    context: Fetched,
    log: &mut BuildLog,
) -> Result<BuiltFrom, CommandError> {
    if let Some(root) = engine.root().await {
        ensure_space("the context in the engine", &root, context.bytes)?;
    }
    info!("building {}", identity.tag);
    let started = Instant::now();
    let (sent, tag) = (context.for_engine(options.plan).await?, &identity.engine_tag);
    let mut built = engine.build(&sent, tag, options, log).await;
    // A list of packages, for example, that names an expired artifact.
    if let Err(EngineError::Build(failure)) = &built
        && failure.fault == Fault::Dockerfile
        && failure.cached > 0
        && !options.cache.is_empty()
    {
        let cached = counted(failure.cached, "step");
        warn!("the build failed after {cached} from the cache, which may be why: building again without it");
        let without_cache = BuildOptions { cache: &[], ..options };
        built = engine.build(&sent, tag, without_cache, log).await;
    }
    let built = built?;
    info!("built {} in {:.1} s", built.image_id, started.elapsed().as_secs_f64());
    let bases = engine.bases(&sent.dockerfile(), &options.plan.args).await?;
    for unknown in &bases.unknown {
        warn!("the engine does not say what {unknown} was: the provenance has no digest of it");
    }
    Ok(BuiltFrom { built, bases })
}

/// The images whose layers a reproducible image shares. `BuildKit` pulls some that the engine then does not have, so that their
/// layers are unknown. Sharing must not depend on what an engine had before, so that only the parent counts, which this job
/// loads.
fn pinnable_bases(bases: &Bases, builder: &str, parent: Option<&String>) -> Vec<Base> {
    let lasts = |base: &&Base| builder != "buildkit" || parent == Some(&base.reference);
    bases.found.iter().filter(lasts).cloned().collect()
}

/// Keeps the last good step's image of a failed build. If this fails, the build's failure is still the one to report.
async fn keep(run: &Run<'_>, engine: &Engine, tag: &str, failed: CommandError) -> CommandError {
    let keeping = engine.tag_failed_step(tag, run.config.plan.build.network.as_deref());
    match run.stop.run_stage("keeping the last good step's image", keeping).await {
        Ok(Some(kept)) => CommandError::DebugImage { failed: Box::new(failed), kept: Box::new(kept) },
        Ok(None) => {
            warn!("no step was done before the failure: there is no image to open a shell in");
            failed
        }
        Err(stopped @ CommandError::Stopped { .. }) => stopped,
        Err(error) => {
            warn!("{}", ErrorChain(&error));
            failed
        }
    }
}
