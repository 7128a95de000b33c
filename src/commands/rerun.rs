//! `rerun TASK_ID`, for sheriffs: predicts the result of a rerun, requests it from the queue, and follows the new run to its end.
//! `assessment` has the verdict; `cli` asks the user.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tracing::info;

use super::arguments::TaskArgument;
use super::{Answer, CommandContext};
use crate::config::settings::{ACCESS, LONGEST_PAUSE, NO_FOLLOW, RETRIES, SettingGroup, YES};
use crate::config::plan::{ContextSource, Plan};
use crate::config::replay::Job;
use crate::config::rerun::Rerun;
use crate::config::{Config, ConfigError, Destination, SettingLayers, ProcessEnvironment, settings};
use crate::context::ContextHash;
use crate::decision::lookup::{EntryMatch, claim};
use crate::job::CommandError;
use crate::job::artifact_status::ArtifactStatus;
use crate::job::rerun_assessment::{IndexedImage, RerunAssessment, Verdict, about};
use crate::job::shutdown::Shutdown;
use crate::job::task_definition::job;
use crate::taskcluster::index::Entry;
use crate::taskcluster::tasks::{Run, State, Status};
use crate::taskcluster::{
    Access, ArtifactName, CallError, CallErrorKind, Deployment, Namespace, Services, TaskId, TaskRun,
};

const HELP: &str = "\
Tells how an image task stands and whether a rerun can work: runs, deadline, context, retries, the image in the index.
If so, asks (or not, with --yes), has the queue make another run, and follows it. If not, says what to do instead: a
retrigger, a new decision task, nothing. Looking needs no credentials at a public deployment; the rerun needs a scope
queue:rerun-task:SCHEDULER/GROUP/TASK. With --json, stdout has a line about the assessment and one about the run.";

const EXIT_CODES: &str = "\
Exit codes:
  0    the run completed, or there is nothing to do, or the answer was no
  2    wrong usage or configuration, of the task's definition too; nobody there to ask
  10   a new decision task is needed
  20   the run failed; its log says why
  30   the run ended in an exception, or infrastructure failed: another try can help
  31   the queue refuses a rerun, or it is not the time for it: a retrigger, waiting, a missing scope
  129, 130, 143  stopped by SIGHUP, SIGINT, SIGTERM; the run goes on";

pub(super) const SETTINGS: &[SettingGroup] = &[&[&YES, &NO_FOLLOW, &LONGEST_PAUSE], ACCESS, RETRIES];

/// A sheriff's rerun: says whether it can work, asks the queue for it, follows it
#[derive(Debug, PartialEq, Eq, clap::Args)]
#[command(long_about = HELP, after_help = EXIT_CODES)]
pub struct Args {
    #[command(flatten)]
    task: TaskArgument,
}

impl Args {
    pub(super) fn run(self, context: &CommandContext) -> Result<Answer, CommandError> {
        let task = &self.task.id;
        let config = Rerun::read(context.settings)?;
        // A signal cannot interrupt anything important here.
        let assessment = context.block_on(look(task, &config, context.settings, &context.surroundings))?;
        assessment.log();
        if context.json {
            (context.print)(&format!("{}\n", assessment.to_json()))?;
        }
        let next = assessment.next(&config)?;
        let go = match next {
            Next::Ask => config.yes || (context.confirm)("Rerun?")?,
            Next::Follow => true,
            Next::Done => false,
        };
        let run = if go {
            Some(context.until_stopped(async |stop| rerun(&assessment, next, &config, stop).await)?)
        } else {
            assessment.last_run().cloned()
        };
        let answer = match run {
            Some(run) => context.answer(&run, &format!("{task} {} {}", run.run_id, run.state))?,
            None => Answer::of(String::new()),
        };
        Ok(answer.of_something_published())
    }
}

/// The first interval between two polls of a run; each later one is half as long again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The next step after the assessment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Ask the user, then rerun.
    Ask,
    /// Follow the pending or running run.
    Follow,
    /// Nothing.
    Done,
}

/// Assesses a rerun of `task`.
async fn look(
    task: &TaskId,
    rerun: &Rerun,
    sources: &SettingLayers<'_>,
    around: &ProcessEnvironment<'_>,
) -> Result<RerunAssessment, CommandError> {
    let services = Services::new(&rerun.deployment)?;
    let mut job = job(&services, &rerun.deployment, task).await?;
    job.is_of_an_image(&sources.of(&job))?;
    // The worker sets what else publishing needs.
    job.set(&settings::DRY_RUN, "1");
    let Config { plan, destination, .. } = Config::read(&sources.of(&job), around)?;
    let builds_anyway = matches!(destination, Destination::Payload(_));
    let (status, context, (namespace, image)) = tokio::try_join!(
        async { Ok(services.queue.status(task).await?) },
        async { Ok::<_, CommandError>(context(&services, &plan, around.now).await?) },
        image(&services, &plan, &job, around.now),
    )?;
    let run_id = status.runs.last().map_or(0, |run| run.run_id);
    let task = TaskRun { task_id: task.clone(), run_id };
    Ok(RerunAssessment { task, plan, status, context, namespace, builds_anyway, image, now: around.now })
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
    job: &Job,
    now: Timestamp,
) -> Result<(Namespace, Option<IndexedImage>), CommandError> {
    let hash = plan.context.hash.ok_or_else(|| CommandError::Bug("an image task without a hash".to_owned()))?;
    let (own, artifact) = (plan.identity(hash)?.namespaces.hash, &plan.artifact.name);
    let namespaces: Vec<_> = job.hash_routes.iter().filter(|route| **route != own).chain([&own]).collect();
    for namespace in &namespaces {
        let Some(entry) = services.index.find_task(namespace).await? else { continue };
        let Some(image) = promised(services, entry, hash, artifact).await? else { continue };
        let is_own = image.at.task_id == job.task;
        if is_unexpired(services, &image.at, artifact, now).await?
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

/// Whether an artifact exists and has not expired. Without permission to query it, the index is trusted.
async fn is_unexpired(
    services: &Services,
    at: &TaskRun,
    artifact: &ArtifactName,
    now: Timestamp,
) -> Result<bool, CallError> {
    match services.queue.artifact_expires(at, artifact).await {
        Ok(expires) => Ok(expires.is_some_and(|expires| expires > now)),
        Err(error) if error.fault == CallErrorKind::Refused => Ok(true),
        Err(error) => Err(error),
    }
}

/// The last run of a task; none if it never ran, is gone, or may not be queried.
async fn last_run_of(services: &Services, task: &TaskId) -> Result<Option<u32>, CallError> {
    match services.queue.known_status(task).await {
        Ok(status) => Ok(status.and_then(|status| status.runs.last().map(|run| run.run_id))),
        Err(error) if error.fault == CallErrorKind::Refused => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a task has failed or is gone. Without permission to query it, the index is trusted.
async fn has_failed(services: &Services, task: &TaskId) -> Result<bool, CallError> {
    match services.queue.known_status(task).await {
        Ok(status) => Ok(status.is_none_or(|status| status.state.is_failure())),
        Err(error) if error.fault == CallErrorKind::Refused => Ok(false),
        Err(error) => Err(error),
    }
}

impl RerunAssessment {
    /// Prints all of it.
    fn log(&self) {
        self.lines().iter().for_each(|line| info!("{line}"));
        info!("verdict: {}", self.verdict().1);
    }

    /// The next step; an error where a rerun is not the right thing.
    fn next(&self, rerun: &Rerun) -> Result<Next, CommandError> {
        let task = self.task.task_id.clone();
        match self.verdict() {
            (Verdict::NothingToDo, _) => Ok(Next::Done),
            (Verdict::UnderWay, _) => Ok(if rerun.follow { Next::Follow } else { Next::Done }),
            (Verdict::Rerun, _) if rerun.deployment.access == Access::Anonymous => Err(ConfigError::Missing {
                setting: &settings::CLIENT_ID,
                why: "asking for a rerun needs credentials with a scope queue:rerun-task:…; `taskcluster signin` gets them",
            }
            .into()),
            (Verdict::Rerun, _) => Ok(Next::Ask),
            (verdict @ (Verdict::Wait | Verdict::Retrigger | Verdict::NewDecisionTask), why) => {
                Err(CommandError::NoRerun { task, verdict, why })
            }
        }
    }

    /// The task's last run.
    fn last_run(&self) -> Option<&Run> {
        self.status.runs.last()
    }
}

/// Requests the rerun if needed, and follows the run to its end if wanted.
async fn rerun(assessment: &RerunAssessment, next: Next, rerun: &Rerun, stop: &Shutdown) -> Result<Run, CommandError> {
    let task = &assessment.task.task_id;
    let services = Services::new(&rerun.deployment)?;
    let status = if next == Next::Ask {
        stop.run_stage("asking for the rerun", services.queue.rerun(task)).await?
    } else {
        assessment.status.clone()
    };
    if next == Next::Ask && !rerun.follow {
        let run = last(status)?;
        log(&rerun.deployment, task, &run);
        return Ok(run);
    }
    let run = stop.run_stage("following the run, which goes on", follow(&services, task, status, rerun)).await?;
    match run.state {
        State::Completed => Ok(run),
        State::Unscheduled | State::Pending | State::Running | State::Failed | State::Exception => {
            let log = log_link(&rerun.deployment, task, &run);
            Err(CommandError::Run { task: task.clone(), run: Box::new(run), log })
        }
    }
}

/// Polls the last run until it is resolved. A new run that the queue creates by itself becomes the last.
async fn follow(services: &Services, task: &TaskId, mut status: Status, rerun: &Rerun) -> Result<Run, CommandError> {
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    let mut logged = None;
    loop {
        let run = last(status)?;
        match logged {
            Some(before) if before == (run.run_id, run.state) => {}
            // The link was printed already.
            Some((id, _)) if id == run.run_id && run.is_under_way() => {
                let worker = run.worker_id.as_deref().map(|worker| format!(" on {worker}")).unwrap_or_default();
                info!("run {}: {}{worker}", run.run_id, run.state);
            }
            _ => log(&rerun.deployment, task, &run),
        }
        logged = Some((run.run_id, run.state));
        if !run.is_under_way() {
            let took = i64::try_from(started.elapsed().as_secs()).unwrap_or(i64::MAX);
            info!("followed it for {}", about(took));
            return Ok(run);
        }
        tokio::time::sleep(pause.min(rerun.longest_pause)).await;
        pause = (pause * 3 / 2).min(rerun.longest_pause);
        status = services.queue.status(task).await?;
    }
}

fn last(mut status: Status) -> Result<Run, CommandError> {
    status.runs.pop().ok_or_else(|| CommandError::Bug("the queue accepted the rerun but lists no run".to_owned()))
}

fn log(deployment: &Deployment, task: &TaskId, run: &Run) {
    info!("run {}: {}; log: {}", run.run_id, run.outcome(), log_link(deployment, task, run));
}

/// The page of a run's log in the deployment's own viewer, which has another path for a log that still grows.
fn log_link(deployment: &Deployment, task: &TaskId, run: &Run) -> String {
    let live = if run.is_under_way() { "live/" } else { "" };
    let root = deployment.root_url.to_string();
    format!("{}/tasks/{task}/runs/{}/logs/{live}public/logs/live.log", root.trim_end_matches('/'), run.run_id)
}
