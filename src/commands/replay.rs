//! `replay TASK_ID`: runs the job of an existing task here, with the same context, arguments and parent. It is a dry run without
//! `--publish`; `run` has the job itself.

use tracing::{info, warn};

use super::run::{answer, shutdown};
use super::{Answer, CommandContext};
use crate::config::plan::ContextSource;
use crate::config::replay::{Job, Replay};
use crate::config::settings::{RUN, SettingGroup};
use crate::config::{Config, ConfigError, ProcessEnvironment, SettingLayers, settings};
use crate::context::intake::IntakeError;
use crate::job::CommandError;
use crate::job::artifact_status::ArtifactStatus;
use crate::job::fetch::{FetchError, Fetcher};
use crate::job::image_task::{self, Outcome};
use crate::job::shutdown::Shutdown;
use crate::job::task_definition::job;
use crate::job::work_dir::WorkDir;
use crate::net::transfer::Storage;
use crate::report::Report;
use crate::taskcluster::tasks::State;
use crate::taskcluster::{Services, TaskId, TaskRef};

const HELP: &str = "\
Fetches a task's definition (from a public deployment without credentials) and does its job here: the same context,
arguments and parent. A dry run, unless --publish. Flags win over the definition; the engine, the output and
credentials are this machine's. When the context has expired, give --context DIR; see also --shell.
    TASKCLUSTER_ROOT_URL=https://tc.example.com image-worker replay TASK_ID --shell";

pub(super) const SETTINGS: &[SettingGroup] = RUN;

/// The job of an existing task, from its definition; a dry run unless --publish
#[derive(Debug, PartialEq, Eq, clap::Args)]
#[command(long_about = HELP)]
pub struct Args {
    /// The task: its id, its URL, or Treeherder's of it
    #[arg(value_name = "TASK_ID|URL")]
    task: TaskRef,
}

impl Args {
    pub(super) fn run(self, context: &CommandContext) -> Result<Answer, CommandError> {
        let outcome = context.block_on(async {
            let stop = shutdown(context)?;
            let settings = context.settings.of_deployment(&self.task)?;
            replay(&self.task.task_id, &settings, &context.environment, &stop, context.report).await
        })?;
        answer(&outcome, context)
    }
}

/// Runs the job of `task`.
async fn replay(
    task: &TaskId,
    settings: &SettingLayers<'_>,
    environment: &ProcessEnvironment<'_>,
    stop: &Shutdown,
    report: &Report,
) -> Result<Outcome, CommandError> {
    let replay = Replay::read(settings)?;
    let services = Services::new(&replay.deployment)?;
    let mut job = stop.run_stage("fetching the task's definition", job(&services, &replay.deployment, task)).await?;
    job.is_of_an_image(&settings.of(&job))?;
    settle(&mut job, &replay, settings, environment)?;
    if replay.publish {
        stop.run_stage("looking at the task's run", publish_as(&mut job, &services, settings)).await?;
    }
    let mut config = Config::read(&settings.of(&job), environment)?;
    info!("replaying task {task}, {}", if replay.publish { "to publish" } else { "which publishes nothing" });
    if settings.get(&settings::CONTEXT)?.is_some() && !replay.publish {
        stop.run_stage("comparing the context's hash", compare(&mut config, report)).await?;
    }
    let artifact = match &config.plan.context.source {
        ContextSource::Artifact { task_id, name } => Some((task_id.clone(), name.clone())),
        ContextSource::Url(_) | ContextSource::File(_) | ContextSource::Directory { .. } => None,
    };
    match (image_task::run(config, stop, report).await, artifact) {
        (Err(CommandError::Fetch(gone @ FetchError::Gone { .. })), Some((task_id, name))) => {
            let whereabouts = ArtifactStatus::of(&services, &task_id, &name, environment.now);
            let whereabouts = stop.run_stage("asking when the context expired", whereabouts).await?;
            if matches!(whereabouts, ArtifactStatus::There { .. }) {
                // The queue has it, and the storage does not: nothing to add.
                return Err(gone.into());
            }
            let context = format!("{name} of task {task_id}");
            Err(CommandError::ContextGone { context, whereabouts, tree: job.source, source: gone })
        }
        (outcome, _) => outcome,
    }
}

/// Replaces what the definition specifies and this environment overrides.
fn settle(
    job: &mut Job,
    replay: &Replay,
    settings: &SettingLayers,
    environment: &ProcessEnvironment,
) -> Result<(), ConfigError> {
    job.set(&settings::DRY_RUN, if replay.publish { "0" } else { "1" });
    if settings.get(&settings::CONTEXT)?.is_some() && job.get(&settings::CONTEXT_TASK_ID).is_some() {
        // The artifact's name, which means nothing for another context.
        job.unset(&settings::CONTEXT_PATH);
    }
    if replay.publish {
        return Ok(());
    }
    let expires = job.get(&settings::ARTIFACT_EXPIRES).and_then(|given| given.parse::<jiff::Timestamp>().ok());
    if let Some(expires) = expires.filter(|expires| *expires <= environment.now) {
        info!("the task's ARTIFACT_EXPIRES is past ({expires}): ignoring it");
        job.unset(&settings::ARTIFACT_EXPIRES);
    }
    Ok(())
}

/// The task that the image's artifact is created for: the task that this program runs in, else the replayed one while it runs.
async fn publish_as(job: &mut Job, services: &Services, settings: &SettingLayers<'_>) -> Result<(), CommandError> {
    let here = (settings.get(&settings::TASK_ID)?, settings.get(&settings::RUN_ID)?);
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

/// Compares a context from the command line with the task's, and goes on with it whatever the result.
async fn compare(config: &mut Config, report: &Report) -> Result<(), CommandError> {
    let Some(expected) = config.plan.context.hash else { return Ok(()) };
    let work_dir = WorkDir::after_removing_stale(&config.work_dir)
        .map_err(|source| CommandError::Write { path: config.work_dir.clone(), source })?;
    let storage = Storage::new(config.retry)?;
    let image = &config.plan.image;
    let fetcher = Fetcher { services: None, storage: &storage, report, work_dir: work_dir.path(), image };
    let actual = match fetcher.context(&config.plan.context).await {
        Err(FetchError::Intake { error: IntakeError::Mismatch { actual, .. }, .. }) => actual,
        same => {
            info!("{} is still the task's context: hash {}", config.plan.context.source, same?.hash);
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
