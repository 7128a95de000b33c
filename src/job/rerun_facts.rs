//! The facts about an image task that is perhaps to be rerun: its definition and status, its context, its image in the index, and
//! the log of its failed run. `rerun_assessment` has the verdict.

use jiff::Timestamp;

use super::CommandError;
use super::artifact_status::ArtifactStatus;
use super::rerun_assessment::{IndexedImage, RerunAssessment};
use super::run_log::{self, LoggedFailure};
use super::task_definition::job;
use crate::config::plan::{ContextSource, Plan};
use crate::config::replay::Job;
use crate::config::{Config, Destination, ProcessEnvironment, Reuse, SettingLayers, settings};
use crate::context::ContextHash;
use crate::decision::lookup::{EntryMatch, claim};
use crate::net::transfer::Storage;
use crate::taskcluster::index::Entry;
use crate::taskcluster::tasks::{State, Status};
use crate::taskcluster::{ArtifactName, CallError, CallErrorKind, Deployment, Namespace, Services, TaskId, TaskRun};

/// Assesses a rerun of `task`.
pub(crate) async fn look(
    task: &TaskId,
    deployment: &Deployment,
    settings: &SettingLayers<'_>,
    environment: &ProcessEnvironment<'_>,
) -> Result<RerunAssessment, CommandError> {
    let services = Services::new(deployment)?;
    let mut job = job(&services, deployment, task).await?;
    job.is_of_an_image(&settings.of(&job))?;
    // The worker sets what else publishing needs.
    job.set(&settings::DRY_RUN, "1");
    let Config { plan, destination, reuse, .. } = Config::read(&settings.of(&job), environment)?;
    let builds_anyway = matches!(destination, Destination::Payload(_));
    let rule = Rule { job: &job, reuse, now: environment.now };
    let (status, context, (namespace, image)) = tokio::try_join!(
        async { Ok(services.queue.status(task).await?) },
        async { Ok::<_, CommandError>(context(&services, &plan, environment.now).await?) },
        image(&services, &plan, &rule),
    )?;
    let run_id = status.runs.last().map_or(0, |run| run.run_id);
    let task = TaskRun { task_id: task.clone(), run_id };
    let failure = if failed_by_itself(&status) { Some(failure(&services, deployment, &task).await?) } else { None };
    Ok(RerunAssessment { task, plan, status, context, namespace, builds_anyway, image, failure, now: environment.now })
}

/// Whether the last run ended with an exit code, so that its log says why. A worker resolves one that may be repeated as an
/// exception.
fn failed_by_itself(status: &Status) -> bool {
    let reason = status.runs.last().and_then(|run| run.reason_resolved.as_deref());
    match status.state {
        State::Failed => true,
        State::Exception => reason == Some("intermittent-task"),
        State::Unscheduled | State::Pending | State::Running | State::Completed => false,
    }
}

async fn failure(services: &Services, deployment: &Deployment, run: &TaskRun) -> Result<LoggedFailure, CommandError> {
    Ok(run_log::failure(services, &Storage::new(deployment.retry)?, run).await)
}

/// Which images of the index a run of a task takes.
struct Rule<'a> {
    job: &'a Job,
    reuse: Reuse,
    now: Timestamp,
}

impl Rule<'_> {
    /// Whether an image of another task, or of this one, lasts long enough at this time.
    fn allows(&self, task: &TaskId, lasts_until: Timestamp) -> bool {
        let is_own = *task == self.job.task;
        lasts_until > self.now
            && match self.reuse {
                Reuse::Any => true,
                Reuse::LastingUntil(time) => is_own || lasts_until >= time,
                Reuse::Own => is_own,
                Reuse::Nothing => false,
            }
    }
}

async fn context(services: &Services, plan: &Plan, now: Timestamp) -> Result<Option<ArtifactStatus>, CallError> {
    let ContextSource::Artifact { task_id, name } = &plan.context.source else { return Ok(None) };
    ArtifactStatus::of(services, task_id, name, now).await.map(Some)
}

/// The `.hash.` route that has or should have the image, and the image that exists. It looks in the task's own routes, as
/// taskgraph writes them, and in the route that a run would insert. An image counts by the rule of `run`: same context, same
/// name, unexpired, and of a task that can be a dependency. The task itself can be one as soon as it is rerun.
async fn image(
    services: &Services,
    plan: &Plan,
    rule: &Rule<'_>,
) -> Result<(Namespace, Option<IndexedImage>), CommandError> {
    let job = rule.job;
    let hash = plan.context.hash.ok_or_else(|| CommandError::Bug("an image task without a hash".to_owned()))?;
    let (own, artifact) = (plan.identity(hash)?.namespaces.hash, &plan.artifact.name);
    let namespaces: Vec<_> = job.hash_routes.iter().filter(|route| **route != own).chain([&own]).collect();
    for namespace in &namespaces {
        let Some(entry) = services.index.find_task(namespace).await? else { continue };
        if !rule.allows(&entry.task_id, entry.expires) {
            continue;
        }
        let Some(image) = promised(services, entry, hash, artifact).await? else { continue };
        let is_own = image.at.task_id == job.task;
        if is_allowed(services, &image.at, artifact, rule).await?
            && (is_own || !has_failed(services, &image.at.task_id).await?)
        {
            return Ok(((*namespace).clone(), Some(image)));
        }
    }
    Ok((namespaces[0].clone(), None))
}

/// The image of an index entry, if it was made from this context. This does not check whether the artifact exists.
async fn promised(
    services: &Services,
    entry: Entry,
    hash: ContextHash,
    artifact: &ArtifactName,
) -> Result<Option<IndexedImage>, CallError> {
    let (run_id, is_described) = match claim(&entry, hash, artifact) {
        EntryMatch::Match(data) => (Some(data.run_id), true),
        EntryMatch::Unknown => (last_run_of(services, &entry.task_id).await?, false),
        EntryMatch::Mismatch => (None, true),
    };
    let image = |run_id| IndexedImage { at: TaskRun { task_id: entry.task_id, run_id }, is_described };
    Ok(run_id.map(image))
}

/// Whether an artifact exists and lasts long enough. Without permission to query it, the index is trusted.
async fn is_allowed(
    services: &Services,
    at: &TaskRun,
    artifact: &ArtifactName,
    rule: &Rule<'_>,
) -> Result<bool, CallError> {
    match services.queue.artifact_expires(at, artifact).await {
        Ok(expires) => Ok(expires.is_some_and(|expires| rule.allows(&at.task_id, expires))),
        Err(error) if error.kind == CallErrorKind::Refused => Ok(true),
        Err(error) => Err(error),
    }
}

/// The last run of a task; none if it never ran, is gone, or may not be queried.
async fn last_run_of(services: &Services, task: &TaskId) -> Result<Option<u32>, CallError> {
    match services.queue.known_status(task).await {
        Ok(status) => Ok(status.and_then(|status| status.runs.last().map(|run| run.run_id))),
        Err(error) if error.kind == CallErrorKind::Refused => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a task has failed or is gone. Without permission to query it, the index is trusted.
async fn has_failed(services: &Services, task: &TaskId) -> Result<bool, CallError> {
    match services.queue.known_status(task).await {
        Ok(status) => Ok(status.is_none_or(|status| status.state.is_failure())),
        Err(error) if error.kind == CallErrorKind::Refused => Ok(false),
        Err(error) => Err(error),
    }
}
