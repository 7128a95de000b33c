//! `rerun TASK_ID…`, for sheriffs: predicts the result of each rerun, requests it from the queue, and follows the new runs to their
//! ends. `rerun_facts` collects the facts, `rerun_assessment` has the verdict; `cli` asks the user.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde::Serialize;
use tracing::{info, warn};

use super::command_context::to_json;
use super::{Answer, CommandContext};
use crate::config::rerun::Rerun;
use crate::config::settings::{ACCESS, LONGEST_PAUSE, NO_FOLLOW, RETRIES, SettingGroup, YES};
use crate::config::{ConfigError, settings};
use crate::job::CommandError;
use crate::job::rerun_assessment::{RerunAssessment, Verdict, about};
use crate::job::rerun_facts;
use crate::job::shutdown::Shutdown;
use crate::taskcluster::tasks::{Run, State, Status};
use crate::taskcluster::{Access, Deployment, Services, TaskId, TaskRef};

const HELP: &str = "\
Tells how an image task stands and whether a rerun can work: runs, deadline, context, retries, the image in the index, and
what the log of a failed run says. If so, asks (or not, with --yes), has the queue make another run, and follows it. If not,
says what to do instead: a retrigger, a new decision task, nothing. Looking needs no credentials at a public deployment; the
rerun needs a scope queue:rerun-task:SCHEDULER/GROUP/TASK. Of several tasks each is looked at, then each is rerun that can be;
stdout has a line about each, and the exit code is that of the first that failed. With --json, stdout has a line about each
assessment and one about each run.";

const EXIT_CODES: &str = "\
Exit codes:
  0    the run completed, or there is nothing to do, or the answer was no
  2    wrong usage or configuration, of the task's definition too; nobody there to ask
  10   a new decision task is needed
  20   the run failed; its log says why
  30   the run ended in an exception, or infrastructure failed: another try can help
  31   the queue refuses a rerun, or it is not the time for it: a retrigger, waiting, a missing scope
  129, 130, 143  stopped by SIGHUP, SIGINT, SIGTERM; the runs go on";

pub(super) const SETTINGS: &[SettingGroup] = &[&[&YES, &NO_FOLLOW, &LONGEST_PAUSE], ACCESS, RETRIES];

/// A sheriff's rerun: says whether it can work, asks the queue for it, follows it
#[derive(Debug, PartialEq, Eq, clap::Args)]
#[command(long_about = HELP, after_help = EXIT_CODES)]
pub struct Args {
    /// The tasks: ids, URLs of tasks or logs, or Treeherder's of a selected job
    #[arg(id = "tasks", value_name = "TASK_ID|URL", required = true, num_args = 1..)]
    tasks: Vec<TaskRef>,
}

impl Args {
    pub(super) fn run(self, context: &CommandContext) -> Result<Answer, CommandError> {
        let mut tasks: Vec<&TaskRef> = Vec::new();
        for task in &self.tasks {
            if !tasks.iter().any(|known| known.task_id == task.task_id) {
                tasks.push(task);
            }
        }
        let looked: Vec<_> = tasks.iter().map(|task| Candidate::look(task, context)).collect();
        let mut going = false;
        let mut decided = Vec::new();
        for candidate in looked {
            let candidate = candidate.and_then(|candidate| candidate.decide(context));
            going |= candidate.as_ref().is_ok_and(|candidate| candidate.next != Next::Done);
            decided.push(candidate);
        }
        let alone = tasks.len() == 1;
        let runs = if going {
            let rerunning =
                async |stop: &Shutdown| Ok(join_all(decided.into_iter().map(|it| finish(it, alone, stop))).await);
            context.until_stopped(rerunning)?
        } else {
            decided.into_iter().map(|candidate| Ok(candidate?.assessment.last_run().cloned())).collect()
        };
        let outcomes = tasks.into_iter().zip(runs).map(|(task, outcome)| Outcome { task: &task.task_id, outcome });
        answer(outcomes.collect(), context)
    }
}

/// Prints the outcomes. The error of a task that is alone is all that is said about it.
fn answer(mut outcomes: Vec<Outcome<'_>>, context: &CommandContext) -> Result<Answer, CommandError> {
    if let [only] = outcomes.as_slice()
        && (only.outcome.is_err() || matches!(only.outcome, Ok(None)))
    {
        let only = outcomes.remove(0);
        return only.outcome.map(|_| Answer::of(String::new()).of_something_published());
    }
    let lines = outcomes.iter().map(|it| if context.json { to_json(&it.line()) } else { Ok(it.summary()) });
    let lines = lines.collect::<Result<Vec<_>, _>>()?.join("\n");
    let mut failures = outcomes.into_iter().filter_map(|it| Some((it.task, it.outcome.err()?)));
    let Some((_, first)) = failures.next() else { return Ok(Answer::of(lines + "\n").of_something_published()) };
    (context.print)(&(lines + "\n"))?;
    for (task, error) in failures {
        warn!("task {task}: {}", error.line());
    }
    Err(first)
}

/// What has become of a task.
struct Outcome<'a> {
    task: &'a TaskId,
    /// Its last run, if it has one.
    outcome: Result<Option<Run>, CommandError>,
}

/// The same for scripts.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OutcomeLine<'a> {
    task_id: &'a TaskId,
    #[serde(flatten)]
    run: Option<&'a Run>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Outcome<'_> {
    fn run(&self) -> Option<&Run> {
        match &self.outcome {
            Ok(run) => run.as_ref(),
            Err(CommandError::Run { run, .. }) => Some(run),
            Err(_) => None,
        }
    }

    fn line(&self) -> OutcomeLine<'_> {
        let error = self.outcome.as_ref().err().map(CommandError::line);
        OutcomeLine { task_id: self.task, run: self.run(), error }
    }

    /// `ID RUN STATE`, or `ID -` and why there is no run: the verdict, or whose fault it is.
    fn summary(&self) -> String {
        let task = self.task;
        match (self.run(), &self.outcome) {
            (Some(run), _) => format!("{task} {} {}", run.run_id, run.state),
            (None, Err(CommandError::NoRerun { verdict, .. })) => format!("{task} - {verdict}"),
            (None, Err(error)) => {
                let line = error.line();
                format!("{task} - {}", line.split(':').next().unwrap_or_default())
            }
            (None, Ok(_)) => format!("{task} - unscheduled"),
        }
    }
}

/// A task that was looked at.
struct Candidate {
    assessment: RerunAssessment,
    config: Rerun,
    next: Next,
}

impl Candidate {
    /// Looks at a task, and says how it stands.
    fn look(task: &TaskRef, context: &CommandContext) -> Result<Self, CommandError> {
        let settings = context.settings.of_deployment(task)?;
        let config = Rerun::read(&settings)?;
        let looking = rerun_facts::look(&task.task_id, &config.deployment, &settings, &context.environment);
        // A signal cannot interrupt anything important here.
        let assessment = context.block_on(looking)?;
        assessment.log(&config.deployment);
        if context.json {
            (context.print)(&format!("{}\n", assessment.to_json()))?;
        }
        let next = assessment.next(&config)?;
        Ok(Self { assessment, config, next })
    }

    /// Asks whether to rerun it, if that can work.
    fn decide(self, context: &CommandContext) -> Result<Self, CommandError> {
        let question = format!("Rerun task {}?", self.assessment.task.task_id);
        let next = match self.next {
            Next::Ask if !(self.config.yes || (context.confirm)(&question)?) => Next::Done,
            next => next,
        };
        Ok(Self { next, ..self })
    }
}

/// Reruns a task, or not, and follows its run if it is to be.
async fn finish(
    candidate: Result<Candidate, CommandError>,
    alone: bool,
    stop: &Shutdown,
) -> Result<Option<Run>, CommandError> {
    let Candidate { assessment, config, next } = candidate?;
    match next {
        Next::Done => Ok(assessment.last_run().cloned()),
        Next::Ask | Next::Follow => rerun(&assessment, next, &config, alone, stop).await.map(Some),
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

impl RerunAssessment {
    /// Prints all of it.
    fn log(&self, deployment: &Deployment) {
        self.lines().iter().for_each(|line| info!("{line}"));
        if let Some(run) = self.status.runs.last().filter(|run| run.resolved.is_some()) {
            info!("log of run {}: {}", run.run_id, log_link(deployment, &self.task.task_id, run));
        }
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
async fn rerun(
    assessment: &RerunAssessment,
    next: Next,
    rerun: &Rerun,
    alone: bool,
    stop: &Shutdown,
) -> Result<Run, CommandError> {
    let task = &assessment.task.task_id;
    // Lines about several tasks come in any order.
    let whose = if alone { String::new() } else { format!("task {task}, ") };
    let services = Services::new(&rerun.deployment)?;
    let status = if next == Next::Ask {
        stop.run_stage("asking for the rerun", services.queue.rerun(task)).await?
    } else {
        assessment.status.clone()
    };
    if next == Next::Ask && !rerun.follow {
        let run = last(status)?;
        log(&rerun.deployment, task, &run, &whose);
        return Ok(run);
    }
    let run =
        stop.run_stage("following the run, which goes on", follow(&services, task, status, rerun, &whose)).await?;
    match run.state {
        State::Completed => Ok(run),
        State::Unscheduled | State::Pending | State::Running | State::Failed | State::Exception => {
            let log = log_link(&rerun.deployment, task, &run);
            Err(CommandError::Run { task: task.clone(), run: Box::new(run), log })
        }
    }
}

/// Polls the last run until it is resolved. A new run that the queue creates by itself becomes the last.
async fn follow(
    services: &Services,
    task: &TaskId,
    mut status: Status,
    rerun: &Rerun,
    whose: &str,
) -> Result<Run, CommandError> {
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
                info!("{whose}run {}: {}{worker}", run.run_id, run.state);
            }
            _ => log(&rerun.deployment, task, &run, whose),
        }
        logged = Some((run.run_id, run.state));
        if !run.is_under_way() {
            let took = i64::try_from(started.elapsed().as_secs()).unwrap_or(i64::MAX);
            info!("{whose}followed it for {}", about(took));
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

fn log(deployment: &Deployment, task: &TaskId, run: &Run, whose: &str) {
    info!("{whose}run {}: {}; log: {}", run.run_id, run.outcome(), log_link(deployment, task, run));
}

/// The page of a run's log in the deployment's own viewer, which has another path for a log that still grows.
fn log_link(deployment: &Deployment, task: &TaskId, run: &Run) -> String {
    let live = if run.is_under_way() { "live/" } else { "" };
    let root = deployment.root_url.to_string();
    format!("{}/tasks/{task}/runs/{}/logs/{live}public/logs/live.log", root.trim_end_matches('/'), run.run_id)
}
