//! Predicts the result of rerunning an image task: the facts from the services, and the verdict that follows from them. Pure;
//! `rerun` collects the facts and acts on the verdict.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::artifact_status::ArtifactStatus;
use super::run_log::LoggedFailure;
use crate::config::plan::Plan;
use crate::report::keywords;
use crate::taskcluster::tasks::{Run, State, Status};
use crate::taskcluster::{Namespace, TaskRun};

/// The queue makes no more runs of a task than that.
const MOST_RUNS: usize = 50;

/// The facts before a rerun.
#[derive(Clone, Debug)]
pub struct RerunAssessment {
    /// The task, and the run that was its last.
    pub task: TaskRun,
    /// Its job.
    pub plan: Plan,
    /// Its status.
    pub status: Status,
    /// The status of its context; unknown for a URL.
    pub context: Option<ArtifactStatus>,
    /// The `.hash.` route that has the image, or should have it.
    pub namespace: Namespace,
    /// Whether a run builds even if the image exists: it leaves publishing to its task, and does not query the index.
    pub builds_anyway: bool,
    /// The unexpired image in the index, if there is one.
    pub image: Option<IndexedImage>,
    /// What the log of the last run says, if that run failed by itself.
    pub failure: Option<LoggedFailure>,
    /// The time of the query.
    pub now: Timestamp,
}

/// An unexpired image that the index refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexedImage {
    /// The run that has it.
    pub at: TaskRun,
    /// Whether the entry has the image's data. Only then a run builds nothing; entries from a task's routes do not have it.
    pub is_described: bool,
}

keywords! {
    /// What to do about a task.
    pub enum Verdict, "a verdict" {
        /// Rerun it.
        Rerun = "rerun",
        /// A run is under way.
        UnderWay = "under-way",
        /// Nothing: it is done.
        NothingToDo = "nothing-to-do",
        /// Something else must be done first.
        Wait = "wait",
        /// Not this task, but a new one of the same definition.
        Retrigger = "retrigger",
        /// Nothing less than a new decision task.
        NewDecisionTask = "new-decision-task",
    }
}

impl RerunAssessment {
    /// The verdict, and its reason for people.
    #[must_use]
    pub fn verdict(&self) -> (Verdict, String) {
        let too_late = self.status.deadline <= self.now;
        let gone = self.context.filter(|context| context.is_gone());
        match self.status.state {
            State::Pending | State::Running => {
                return (Verdict::UnderWay, "a run is under way already; the queue makes no second one".to_owned());
            }
            State::Unscheduled if !too_late => {
                let why = "it waits for tasks that it depends on: look at those; a rerun would begin it without them";
                return (Verdict::Wait, why.to_owned());
            }
            State::Unscheduled | State::Completed | State::Failed | State::Exception => {}
        }
        if let Some(IndexedImage { at, is_described }) = &self.image {
            if self.status.state == State::Completed {
                return (Verdict::NothingToDo, "it is done, and its image is there".to_owned());
            }
            if too_late {
                let why = format!("the image is there, from {at}; this task cannot become green after its deadline");
                return (Verdict::NothingToDo, why);
            }
            if *is_described && !self.builds_anyway {
                let why = "a rerun ends at once, green, since the image is there; what waits for the task goes on";
                return (Verdict::Rerun, why.to_owned());
            }
        }
        if let Some(context) = gone {
            return (
                Verdict::NewDecisionTask,
                format!("the context {context}: every run would fail; a new decision task uploads it again"),
            );
        }
        if self.last_reason() == Some("malformed-payload") {
            return (
                Verdict::NewDecisionTask,
                "the worker does not understand the definition, and would not another time".to_owned(),
            );
        }
        if too_late {
            return (Verdict::Retrigger, "the deadline has passed, the queue refuses a rerun (409); a retrigger makes a new task of the same definition".to_owned());
        }
        if self.status.runs.len() >= MOST_RUNS {
            return (
                Verdict::Retrigger,
                format!("it has had {MOST_RUNS} runs, the most that the queue makes; a retrigger makes a new task"),
            );
        }
        (Verdict::Rerun, self.hope())
    }

    fn last_reason(&self) -> Option<&str> {
        self.status.runs.last()?.reason_resolved.as_deref()
    }

    /// The expected result of a rerun.
    fn hope(&self) -> String {
        if let (Some(LoggedFailure::Reported(failure)), Some(run)) = (&self.failure, self.status.runs.last()) {
            return format!("run {} failed: {}", run.run_id, failure.hope());
        }
        let hope = match self.last_reason() {
            Some("completed") => "it is done, but its image is not in the index: a rerun builds it again",
            // The task's definition has the queue repeat what another run can heal.
            Some("failed") => {
                "the task itself failed: after exit codes 2, 10, 20 and 32 a rerun only helps if a download failed; read the log first"
            }
            Some("canceled") => "somebody canceled it; a rerun takes that back",
            Some(_) => "it was not the task's fault; a rerun can help",
            None => "a rerun can help",
        };
        hope.to_owned()
    }

    /// The facts, a line each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let Self { status, plan, now, .. } = self;
        let mut lines = vec![format!(
            "task {} builds image {} for {}; state: {}",
            self.task.task_id, plan.image, plan.project, status.state
        )];
        lines.extend(status.runs.iter().map(|run| describe(run, *now)));
        let passed = if status.deadline <= *now { "passed" } else { "in" };
        let ago = if status.deadline <= *now { " ago" } else { "" };
        lines.push(format!(
            "deadline: {passed} {}{ago} ({:.0})",
            about(status.deadline.as_second() - now.as_second()),
            status.deadline
        ));
        lines
            .push(format!("retries: {} left to the queue itself; a rerun gives all of them back", status.retries_left));
        match self.context {
            Some(context) => lines.push(format!("context: {} {context}", plan.context.source)),
            None => lines.push(format!("context: {}, which is not looked at", plan.context.source)),
        }
        match &self.image {
            Some(IndexedImage { at, is_described }) => {
                let by = if *is_described { "" } else { ", by that task's routes" };
                lines.push(format!("index: {} has the image, of {at}{by}", self.namespace));
            }
            None => lines.push(format!("index: {} has no image, or it has expired", self.namespace)),
        }
        match &self.failure {
            Some(LoggedFailure::Reported(failure)) => lines.push(format!("log: {}: {}", failure.word, failure.message)),
            Some(LoggedFailure::Unknown(why)) => lines.push(format!("log: {why}")),
            None => {}
        }
        lines
    }

    /// All of it for scripts.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (verdict, reason) = self.verdict();
        json!({
            "taskId": self.task.task_id,
            "image": self.plan.image,
            "project": self.plan.project,
            "state": self.status.state,
            "runs": self.status.runs,
            "deadline": self.status.deadline,
            "deadlinePassed": self.status.deadline <= self.now,
            "retriesLeft": self.status.retries_left,
            "context": {
                "source": self.plan.context.source.to_string(),
                "gone": self.context.map(ArtifactStatus::is_gone),
                "expires": self.context.and_then(ArtifactStatus::expires),
            },
            "route": format!("index.{}", self.namespace),
            "imageAt": self.image.as_ref().map(|it| json!({ "taskId": it.at.task_id, "runId": it.at.run_id })),
            "failure": match &self.failure {
                Some(LoggedFailure::Reported(it)) => {
                    json!({ "word": it.word, "message": it.message, "network": it.is_network })
                }
                Some(LoggedFailure::Unknown(_)) | None => Value::Null,
            },
            "verdict": verdict,
            "reason": reason,
        })
    }
}

/// A run in a line.
fn describe(run: &Run, now: Timestamp) -> String {
    let made = if run.reason_created == "scheduled" { String::new() } else { format!(" ({})", run.reason_created) };
    let ended = run.resolved.map(|at| format!(", {} ago", about(now.as_second() - at.as_second()))).unwrap_or_default();
    format!("run {}{made}: {}{ended}", run.run_id, run.outcome())
}

/// Seconds in a readable unit.
pub(crate) fn about(seconds: i64) -> String {
    match seconds.abs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::ContextSource;
    use crate::job::run_log::{Failure, FailureWord};

    const NOW: &str = "2026-01-02T00:00:00Z";

    fn assessment(state: State, reason: Option<&str>) -> RerunAssessment {
        let task_id: crate::taskcluster::TaskId = "fN1SbArXTPSVFNUvaOlinQ".parse().unwrap();
        let run = json!({ "runId": 0, "state": state, "reasonCreated": "scheduled", "reasonResolved": reason, "resolved": "2026-01-01T22:00:00Z" });
        let runs = if state == State::Unscheduled { json!([]) } else { json!([run]) };
        let status = json!({ "state": state, "deadline": "2026-01-03T00:00:00Z", "retriesLeft": 4, "runs": runs });
        let source = ContextSource::Artifact {
            task_id: task_id.clone(),
            name: "public/docker-contexts/x.tar.gz".parse().unwrap(),
        };
        RerunAssessment {
            task: TaskRun { task_id, run_id: 0 },
            plan: Plan::example(source),
            status: serde_json::from_value(status).unwrap(),
            context: Some(ArtifactStatus::There { until: "2026-02-01T00:00:00Z".parse().unwrap() }),
            namespace: "docker.images.v1.try.builder.hash.ab".parse().unwrap(),
            builds_anyway: false,
            image: None,
            failure: None,
            now: NOW.parse().unwrap(),
        }
    }

    fn late(assessment: RerunAssessment) -> RerunAssessment {
        let deadline = "2026-01-01T23:00:00Z".parse().unwrap();
        RerunAssessment { status: Status { deadline, ..assessment.status }, ..assessment }
    }

    fn with_image(assessment: RerunAssessment) -> RerunAssessment {
        RerunAssessment { image: Some(IndexedImage { at: assessment.task.clone(), is_described: true }), ..assessment }
    }

    fn with_routes(assessment: RerunAssessment) -> RerunAssessment {
        RerunAssessment { image: Some(IndexedImage { at: assessment.task.clone(), is_described: false }), ..assessment }
    }

    fn building_anyway(assessment: RerunAssessment) -> RerunAssessment {
        RerunAssessment { builds_anyway: true, ..assessment }
    }

    fn without_context(assessment: RerunAssessment) -> RerunAssessment {
        RerunAssessment { context: Some(ArtifactStatus::TaskForgotten), ..assessment }
    }

    #[test]
    fn the_verdict_follows_from_the_facts() {
        let failed = || assessment(State::Failed, Some("failed"));
        let lost = || assessment(State::Exception, Some("worker-shutdown"));
        let mut worn = lost();
        worn.status.runs = vec![worn.status.runs[0].clone(); MOST_RUNS];
        let malformed = assessment(State::Exception, Some("malformed-payload"));
        let cases = vec![
            (lost(), Verdict::Rerun, "not the task's fault"),
            (failed(), Verdict::Rerun, "read the log first"),
            (assessment(State::Exception, Some("canceled")), Verdict::Rerun, "canceled"),
            (assessment(State::Completed, Some("completed")), Verdict::Rerun, "builds it again"),
            (with_image(assessment(State::Completed, Some("completed"))), Verdict::NothingToDo, "it is done"),
            (with_image(failed()), Verdict::Rerun, "ends at once, green"),
            (with_image(without_context(failed())), Verdict::Rerun, "ends at once, green"),
            (building_anyway(with_image(failed())), Verdict::Rerun, "read the log first"),
            (building_anyway(with_image(without_context(failed()))), Verdict::NewDecisionTask, "forgotten"),
            (with_image(late(failed())), Verdict::NothingToDo, "the image is there"),
            (with_routes(assessment(State::Completed, Some("completed"))), Verdict::NothingToDo, "it is done"),
            (with_routes(failed()), Verdict::Rerun, "read the log first"),
            (with_routes(without_context(failed())), Verdict::NewDecisionTask, "forgotten"),
            (with_routes(late(failed())), Verdict::NothingToDo, "the image is there"),
            (assessment(State::Pending, None), Verdict::UnderWay, "under way"),
            (late(assessment(State::Running, None)), Verdict::UnderWay, "under way"),
            (assessment(State::Unscheduled, None), Verdict::Wait, "depends on"),
            (late(assessment(State::Unscheduled, None)), Verdict::Retrigger, "deadline"),
            (late(lost()), Verdict::Retrigger, "409"),
            (worn, Verdict::Retrigger, "50 runs"),
            (without_context(lost()), Verdict::NewDecisionTask, "forgotten"),
            (late(without_context(lost())), Verdict::NewDecisionTask, "forgotten"),
            (malformed, Verdict::NewDecisionTask, "definition"),
        ];
        for (assessment, expected, why) in cases {
            let (verdict, reason) = assessment.verdict();
            assert_eq!(verdict, expected, "{reason}");
            assert!(reason.contains(why), "{why:?} is not in {reason:?}");
        }
    }

    #[test]
    fn the_log_says_what_failed_and_without_it_the_verdict_is_the_usual_one() {
        let with = |failure| {
            let failed = assessment(State::Failed, Some("failed"));
            RerunAssessment { failure: Some(failure), ..failed }
        };
        let failure = Failure {
            word: FailureWord::Build,
            message: "step 7/9, RUN npm ci, failed with exit code 1; its last line: x; fix it".to_owned(),
            is_network: true,
        };
        let reported = with(LoggedFailure::Reported(failure));
        let (verdict, reason) = reported.verdict();
        assert_eq!(verdict, Verdict::Rerun);
        let expected = "run 0 failed: step 7/9, RUN npm ci, failed with exit code 1: the network, by its last lines; a rerun may help";
        assert_eq!(reason, expected);
        assert!(reported.lines().last().unwrap().starts_with("log: build: step 7/9, RUN npm ci, failed"));
        assert_eq!(
            (&reported.to_json()["failure"]["word"], &reported.to_json()["failure"]["network"]),
            (&json!("build"), &json!(true))
        );
        let unknown = with(LoggedFailure::Unknown("there is no log".to_owned()));
        assert_eq!(unknown.verdict(), assessment(State::Failed, Some("failed")).verdict());
        assert_eq!(
            (unknown.lines().last().unwrap().as_str(), &unknown.to_json()["failure"]),
            ("log: there is no log", &json!(null))
        );
        // What is certain comes first.
        assert_eq!(
            with_image(reported.clone()).verdict().1,
            with_image(assessment(State::Failed, Some("failed"))).verdict().1
        );
        assert_eq!(without_context(reported).verdict().0, Verdict::NewDecisionTask);
    }

    #[test]
    fn the_facts_are_told_a_line_each() {
        let lines = late(assessment(State::Exception, Some("worker-shutdown"))).lines();
        let expected = [
            "task fN1SbArXTPSVFNUvaOlinQ builds image builder for try; state: exception",
            "run 0: exception, worker-shutdown, 2 h ago",
            "deadline: passed 60 min ago (2026-01-01T23:00:00Z)",
            "retries: 4 left to the queue itself; a rerun gives all of them back",
            "context: artifact public/docker-contexts/x.tar.gz of task fN1SbArXTPSVFNUvaOlinQ is there until 2026-02-01T00:00:00Z",
            "index: docker.images.v1.try.builder.hash.ab has no image, or it has expired",
        ];
        assert_eq!(lines, expected);
        let last = |assessment: RerunAssessment| assessment.lines().pop().unwrap();
        let has = "index: docker.images.v1.try.builder.hash.ab has the image, of task fN1SbArXTPSVFNUvaOlinQ, run 0";
        assert_eq!(last(with_image(assessment(State::Completed, None))), has);
        assert_eq!(last(with_routes(assessment(State::Completed, None))), format!("{has}, by that task's routes"));
        assert_eq!([59, -7300, 400_000].map(about), ["59 s", "2 h", "4 days"]);
    }
}
