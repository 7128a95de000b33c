//! `replay TASK_ID`: the job of an existing task, done here: the same context, the same arguments, the same parent. A
//! dry run unless somebody says `--publish`; the job itself is `run`'s.

use tracing::{info, warn};

use super::Failed;
use super::run::{self, Outcome};
use super::stop::Shutdown;
use super::whereabouts::ArtifactStatus;
use crate::config::plan::ContextSource;
use crate::config::replay::{Job, Replay};
use crate::config::{Config, ConfigError, ProcessEnvironment, SettingLayers, settings};
use crate::context::intake::IntakeError;
use crate::job::fetch::{FetchError, Fetcher};
use crate::job::work_dir::WorkDir;
use crate::net::transfer::Storage;
use crate::report::Report;
use crate::taskcluster::tasks::State;
use crate::taskcluster::{Deployment, Services, TaskId};

/// Does the job of `task`.
pub async fn replay(
    task: &TaskId,
    sources: &SettingLayers<'_>,
    around: &ProcessEnvironment<'_>,
    stop: &Shutdown,
    report: &Report,
) -> Result<Outcome, Failed> {
    let replay = Replay::read(sources)?;
    replay.retry.hold();
    let services = Services::new(&replay.deployment)?;
    let mut job = stop.during("fetching the task's definition", job(&services, &replay.deployment, task)).await?;
    job.is_of_an_image(&sources.of(&job))?;
    settle(&mut job, &replay, sources, around)?;
    if replay.publish {
        stop.during("looking at the task's run", publish_as(&mut job, &services, sources)).await?;
    }
    let mut config = Config::read(&sources.of(&job), around)?;
    info!("replaying task {task}, {}", if replay.publish { "to publish" } else { "which publishes nothing" });
    if sources.get(&settings::CONTEXT)?.is_some() && !replay.publish {
        stop.during("comparing the context's hash", compare(&mut config, report)).await?;
    }
    let artifact = match &config.plan.context.source {
        ContextSource::Artifact { task_id, name } => Some((task_id.clone(), name.clone())),
        ContextSource::Url(_) | ContextSource::File(_) | ContextSource::Directory { .. } => None,
    };
    match (run::run(config, stop, report).await, artifact) {
        (Err(Failed::Fetch(gone @ FetchError::Gone { .. })), Some((task_id, name))) => {
            let whereabouts = ArtifactStatus::of(&services, &task_id, &name, around.now);
            let whereabouts = stop.during("asking when the context expired", whereabouts).await?;
            if matches!(whereabouts, ArtifactStatus::There { .. }) {
                // The queue has it, and the storage has not: nothing to add.
                return Err(gone.into());
            }
            let context = format!("{name} of task {task_id}");
            Err(Failed::ContextGone { context, whereabouts, tree: job.source, source: gone })
        }
        (outcome, _) => outcome,
    }
}

/// The job of a task that the queue knows.
pub(super) async fn job(services: &Services, deployment: &Deployment, task: &TaskId) -> Result<Job, Failed> {
    match services.queue.definition(task).await? {
        Some(definition) => Ok(Job::read(task, &definition)?),
        None => Err(Failed::NoTask { task: task.clone(), deployment: deployment.root_url.clone() }),
    }
}

/// Settles what the definition says and this place has another word about.
fn settle(
    job: &mut Job,
    replay: &Replay,
    sources: &SettingLayers,
    around: &ProcessEnvironment,
) -> Result<(), ConfigError> {
    job.set(&settings::DRY_RUN, if replay.publish { "0" } else { "1" });
    if sources.get(&settings::CONTEXT)?.is_some() && job.get(&settings::CONTEXT_TASK_ID).is_some() {
        // The artifact's name, which says nothing about another context.
        job.unset(&settings::CONTEXT_PATH);
    }
    if replay.publish {
        return Ok(());
    }
    let expires = job.get(&settings::ARTIFACT_EXPIRES).and_then(|given| given.parse::<jiff::Timestamp>().ok());
    if let Some(expires) = expires.filter(|expires| *expires <= around.now) {
        info!("the task's ARTIFACT_EXPIRES is past, {expires}: leaving it away");
        job.unset(&settings::ARTIFACT_EXPIRES);
    }
    Ok(())
}

/// Whose artifact the image becomes: the task's that this program runs in, else the replayed one's, while it runs.
async fn publish_as(job: &mut Job, services: &Services, sources: &SettingLayers<'_>) -> Result<(), Failed> {
    let here = (sources.get(&settings::TASK_ID)?, sources.get(&settings::RUN_ID)?);
    if let (Some(task), Some(run)) = here {
        job.set(&settings::TASK_ID, task.text);
        job.set(&settings::RUN_ID, run.text);
        return Ok(());
    }
    let status = services.queue.status(&job.task).await?;
    match status.runs.last() {
        Some(run) if run.state == State::Running => job.set(&settings::RUN_ID, run.run_id.to_string()),
        _ => {
            let why = format!(
                "it is {}, and the queue takes artifacts for running tasks only: replay with --publish inside a task of your own, whose TASK_ID and RUN_ID the worker sets",
                status.state
            );
            return Err(ConfigError::Definition { task: job.task.clone(), why }.into());
        }
    }
    Ok(())
}

/// Compares a context that somebody gives with the task's, and goes on with it whatever comes out.
async fn compare(config: &mut Config, report: &Report) -> Result<(), Failed> {
    let Some(expected) = config.plan.context.hash else { return Ok(()) };
    let folder = WorkDir::after_removing_stale(&config.work_dir)
        .map_err(|source| Failed::Write { path: config.work_dir.clone(), source })?;
    let storage = Storage::new()?;
    let fetcher = Fetcher { services: None, storage: &storage, report, folder: folder.path() };
    let actual = match fetcher.context(&config.plan).await {
        Err(FetchError::Intake { error: IntakeError::Mismatch { actual, .. }, .. }) => actual,
        same => {
            info!("{} still is the task's context: hash {}", config.plan.context.source, same?.hash);
            return Ok(());
        }
    };
    let context = &mut config.plan.context;
    warn!(
        "{} is not the task's context: its hash is {actual}, the task's is {expected} (scheme `{}`); going on with it: what comes out is something near, not the task's image",
        context.source, context.scheme
    );
    context.hash = None;
    // It belongs to the task's context.
    config.plan.index_hash = None;
    Ok(())
}
