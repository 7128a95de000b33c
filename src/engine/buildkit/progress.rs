//! Tracks a build with BuildKit. BuildKit reports the parts of a build in any order and runs them in parallel; this module
//! returns them as step lines in the format of the classic builder. It does no I/O: `build` prints the lines.

use std::collections::HashMap;

use bollard::moby::buildkit::v1::{StatusResponse, Vertex};

use super::lines::Lines;
use super::vertex::{Part, warning_line};
use crate::engine::Step;
use crate::engine::build::step_lines::{OutputEvent, Steps};
use crate::engine::build_log::plain;
use crate::report::{BuildEvent, StepEnd, secrets};

/// The state of all parts of a build.
#[derive(Debug, Default)]
pub(in crate::engine) struct Progress {
    parts: HashMap<String, TrackedPart>,
    /// The part that failed first.
    failed: Option<String>,
    shown: Vec<BuildEvent>,
}

/// The state of one part (in BuildKit's terms a vertex) of a build.
#[derive(Debug)]
struct TrackedPart {
    part: Part,
    /// Its number on the display.
    number: u32,
    /// The prefix of its lines, because lines of other stages come between them.
    prefix: String,
    /// Whether its step line is shown already.
    is_shown: bool,
    cached: bool,
    state: PartState,
    error: String,
    lines: Lines,
}

/// The progress of a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum PartState {
    #[default]
    Pending,
    Running,
    Finished,
}

/// How a build failed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct ProgressFailure {
    /// The step that failed.
    pub(in crate::engine) step: Option<Step>,
    /// The image that was looked up when the build failed before its first step.
    pub(in crate::engine) missing_image: Option<String>,
    /// The last lines of its output.
    pub(in crate::engine) last_lines: Vec<String>,
}

/// The error of a part that was stopped because another part failed.
const STOPPED: &str = "context canceled";

impl Progress {
    /// Takes a progress message and returns the lines to log.
    pub(in crate::engine) fn update(&mut self, response: &StatusResponse) -> Vec<OutputEvent> {
        let mut events = Vec::new();
        for vertex in &response.vertexes {
            self.begin(vertex, &mut events);
        }
        // While a base image is pulled, only the end of each download is logged, not the many progress updates.
        for status in &response.statuses {
            let Some(part) =
                self.parts.get_mut(&status.vertex).filter(|part| part.is_shown && part.state != PartState::Finished)
            else {
                continue;
            };
            if status.completed.is_some() {
                let line = format!("{}: done\n", status.id);
                part.piece(line.as_bytes(), &mut events, &mut self.shown);
            }
            // Without a total it is no download.
            if let (Ok(bytes), Ok(total @ 1..)) = (u64::try_from(status.current), u64::try_from(status.total)) {
                self.shown.push(BuildEvent::Transferred { step: part.number, part: status.id.clone(), bytes, total });
            }
        }
        for log in &response.logs {
            if let Some(part) = self.parts.get_mut(&log.vertex) {
                part.piece(&log.msg, &mut events, &mut self.shown);
            }
        }
        for warning in &response.warnings {
            let line = secrets::hide(&warning_line(warning)).into_owned();
            self.shown.push(BuildEvent::Notice(line.clone()));
            events.push(OutputEvent::Line(line));
        }
        for vertex in response.vertexes.iter().filter(|vertex| vertex.completed.is_some()) {
            self.end_of(vertex, &mut events);
        }
        events
    }

    /// The lines without a line break at their end, of the parts that were still running.
    pub(in crate::engine) fn end(&mut self) -> Vec<OutputEvent> {
        let mut events = Vec::new();
        self.parts.values_mut().for_each(|part| part.flush(&mut events, &mut self.shown));
        events
    }

    /// What happened since the last call, for the display.
    pub(in crate::engine) fn take_shown(&mut self) -> Vec<BuildEvent> {
        std::mem::take(&mut self.shown)
    }

    /// Whether a part is known to have failed.
    pub(in crate::engine) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// The image that is looked up, if nothing else is running.
    pub(in crate::engine) fn pending_lookup(&self) -> Option<&str> {
        let mut found = None;
        for part in self.parts.values().filter(|part| part.state == PartState::Running) {
            let Part::Lookup(image) = &part.part else { return None };
            found = Some(image.as_str());
        }
        found
    }

    /// The number of steps.
    pub(in crate::engine) fn steps(&self) -> Steps {
        let is_step = |part: &&TrackedPart| matches!(&part.part, Part::Step(step) if part.is_shown && !step.is("FROM"));
        let steps: Vec<_> = self.parts.values().filter(is_step).collect();
        Steps { cached: steps.iter().filter(|part| part.cached).count(), all: steps.len() }
    }

    /// Finds the step that failed with this message.
    pub(in crate::engine) fn into_failure(mut self, message: &str) -> ProgressFailure {
        let by_error = self.parts.iter().find(|(_, part)| !part.error.is_empty() && message.contains(&part.error));
        let digest = by_error.map(|(digest, _)| digest.clone()).or(self.failed);
        match digest.and_then(|digest| self.parts.remove(&digest)) {
            Some(TrackedPart { part: Part::Step(step), lines, .. }) => {
                ProgressFailure { step: Some(step), last_lines: lines.into_last(), missing_image: None }
            }
            Some(TrackedPart { part: Part::Lookup(image), .. }) => {
                ProgressFailure { missing_image: Some(image), ..ProgressFailure::default() }
            }
            _ => ProgressFailure::default(),
        }
    }

    fn begin(&mut self, vertex: &Vertex, events: &mut Vec<OutputEvent>) {
        // Far more than any build has.
        let number = u32::try_from(self.parts.len()).unwrap_or(u32::MAX);
        let part = self.parts.entry(vertex.digest.clone()).or_insert_with(|| {
            let part = Part::of(&plain(&vertex.name));
            let stage = if let Part::Step(Step { stage: Some(stage), .. }) = &part { Some(stage) } else { None };
            let prefix = stage.map(|stage| format!("[{stage}] ")).unwrap_or_default();
            TrackedPart {
                part,
                number,
                prefix,
                is_shown: false,
                cached: false,
                state: PartState::default(),
                error: String::new(),
                lines: Lines::default(),
            }
        });
        part.cached |= vertex.cached;
        if vertex.started.is_some() && part.state == PartState::Pending {
            part.state = PartState::Running;
        }
        let has_started = vertex.started.is_some() || vertex.cached || !vertex.error.is_empty();
        if !has_started || part.is_shown || vertex.error.contains(STOPPED) {
            return;
        }
        if let Part::Step(step) = &part.part {
            part.is_shown = true;
            let Step { number, of, instruction, .. } = step;
            events.push(OutputEvent::Step(format!("{}Step {number}/{of} : {instruction}", part.prefix)));
            self.shown.push(BuildEvent::Started { step: part.number, title: step.title() });
            if vertex.cached && !instruction.starts_with("FROM ") {
                events.push(OutputEvent::Line(format!("{} ---> Using cache", part.prefix)));
            }
        }
    }

    fn end_of(&mut self, vertex: &Vertex, events: &mut Vec<OutputEvent>) {
        let Some(part) = self.parts.get_mut(&vertex.digest) else { return };
        part.flush(events, &mut self.shown);
        part.state = PartState::Finished;
        if part.is_shown {
            if part.cached {
                self.shown.push(BuildEvent::Cached { step: part.number });
            }
            let end = match vertex.error.as_str() {
                "" => StepEnd::Done,
                error if error.contains(STOPPED) => StepEnd::Canceled,
                _ => StepEnd::Failed,
            };
            self.shown.push(BuildEvent::Ended { step: part.number, end });
        }
        if !vertex.error.is_empty() && !vertex.error.contains(STOPPED) && part.error.is_empty() {
            part.error.clone_from(&vertex.error);
            self.failed.get_or_insert_with(|| vertex.digest.clone());
        }
    }
}

impl TrackedPart {
    fn piece(&mut self, bytes: &[u8], events: &mut Vec<OutputEvent>, shown: &mut Vec<BuildEvent>) {
        let lines = self.lines.piece(bytes);
        self.print(lines, events, shown);
    }

    fn flush(&mut self, events: &mut Vec<OutputEvent>, shown: &mut Vec<BuildEvent>) {
        let line = self.lines.end();
        self.print(line, events, shown);
    }

    fn print(
        &self,
        lines: impl IntoIterator<Item = String>,
        events: &mut Vec<OutputEvent>,
        shown: &mut Vec<BuildEvent>,
    ) {
        for line in lines {
            events.push(OutputEvent::Line(format!("{}{line}", self.prefix)));
            shown.push(if self.is_shown {
                BuildEvent::Printed { step: self.number, line }
            } else {
                BuildEvent::Notice(line)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use bollard::moby::buildkit::v1::{VertexLog, VertexStatus};

    use super::*;

    /// A progress message about one part, as Docker 20.10 sends it. `moment` is the state of the part.
    fn vertex(digest: &str, name: &str, moment: &str) -> StatusResponse {
        let error = moment.strip_prefix("error: ").unwrap_or_default();
        let vertex = Vertex {
            digest: digest.to_owned(),
            name: name.to_owned(),
            cached: moment == "cached",
            started: ["started", "done", "cached"].contains(&moment).then(Default::default),
            completed: (["done", "cached"].contains(&moment) || !error.is_empty()).then(Default::default),
            error: error.to_owned(),
            ..Vertex::default()
        };
        StatusResponse { vertexes: vec![vertex], ..StatusResponse::default() }
    }

    fn log(vertex: &str, msg: &str) -> StatusResponse {
        let log = VertexLog { vertex: vertex.to_owned(), msg: msg.into(), ..VertexLog::default() };
        StatusResponse { logs: vec![log], ..StatusResponse::default() }
    }

    /// The lines of a build. Lines that start a step have a mark.
    fn lines_of(progress: &mut Progress, messages: &[StatusResponse]) -> Vec<String> {
        let events = messages.iter().flat_map(|message| progress.update(message));
        events
            .map(|event| match event {
                OutputEvent::Step(line) => format!("* {line}"),
                OutputEvent::Line(line) => line,
            })
            .collect()
    }

    #[test]
    fn stages_side_by_side_are_told_apart() {
        let (one, two) = ("[one 2/3] RUN make", "[two 2/2] RUN test");
        let mut progress = Progress::default();
        let messages = [
            vertex("c", "[internal] load remote build context", "done"),
            vertex("1", one, "known"),
            vertex("1", one, "started"),
            vertex("2", two, "started"),
            vertex("1", one, "started"),
            log("1", "a\nb"),
            log("2", "x\ry\n"),
            log("nobody", "lost\n"),
            vertex("1", one, "done"),
            vertex("e", "exporting to image", "done"),
        ];
        let lines = ["* [one] Step 2/3 : RUN make", "* [two] Step 2/2 : RUN test", "[one] a", "[two] x", "[two] y"];
        assert_eq!(lines_of(&mut progress, &messages), [&lines[..], &["[one] b"]].concat());
        lines_of(&mut progress, &[log("2", "last")]);
        assert_eq!(progress.end(), [OutputEvent::Line("[two] last".to_owned())]);
    }

    #[test]
    fn the_display_gets_each_step_with_its_own_lines_and_its_end() {
        let mut progress = Progress::default();
        let name = "[one 1/2] FROM docker.io/library/debian:12";
        let mut pull = vertex("1", name, "started");
        let (id, vertex_of_it) = ("sha256:0123".to_owned(), "1".to_owned());
        pull.statuses = vec![VertexStatus { id, vertex: vertex_of_it, current: 1, total: 4, ..Default::default() }];
        let messages = [
            vertex("c", "[internal] load remote build context", "done"),
            pull,
            vertex("1", name, "done"),
            vertex("2", "[one 2/2] RUN false", "started"),
            vertex("3", "[two 1/1] COPY a b", "cached"),
            log("2", "a\nb"),
            vertex("4", "[three 1/1] RUN sleep", "started"),
            vertex("4", "[three 1/1] RUN sleep", "error: context canceled"),
        ];
        lines_of(&mut progress, &messages);
        assert!(!progress.has_failed());
        lines_of(&mut progress, &[vertex("2", "[one 2/2] RUN false", "error: exit code: 1")]);
        assert!(progress.has_failed());
        let started = |step, title: &str| BuildEvent::Started { step, title: title.to_owned() };
        let printed = |step, line: &str| BuildEvent::Printed { step, line: line.to_owned() };
        let expected = [
            started(1, name),
            BuildEvent::Transferred { step: 1, part: "sha256:0123".to_owned(), bytes: 1, total: 4 },
            BuildEvent::Ended { step: 1, end: StepEnd::Done },
            started(2, "[one 2/2] RUN false"),
            started(3, "[two 1/1] COPY a b"),
            BuildEvent::Cached { step: 3 },
            BuildEvent::Ended { step: 3, end: StepEnd::Done },
            printed(2, "a"),
            started(4, "[three 1/1] RUN sleep"),
            BuildEvent::Ended { step: 4, end: StepEnd::Canceled },
            printed(2, "b"),
            BuildEvent::Ended { step: 2, end: StepEnd::Failed },
        ];
        assert_eq!(progress.take_shown(), expected);
    }

    #[test]
    fn a_cached_step_is_told_as_the_classic_builder_tells_it() {
        let mut progress = Progress::default();
        let messages =
            [vertex("1", "[1/2] FROM docker.io/library/debian:12", "cached"), vertex("2", "[2/2] RUN x", "cached")];
        let lines = ["* Step 1/2 : FROM docker.io/library/debian:12", "* Step 2/2 : RUN x", " ---> Using cache"];
        assert_eq!(lines_of(&mut progress, &messages), lines);
        assert_eq!(progress.steps(), Steps { cached: 1, all: 1 });
    }

    #[test]
    fn the_step_that_failed_is_told_from_those_that_were_stopped() {
        let mut progress = Progress::default();
        let messages = [
            vertex("1", "[one 2/3] RUN sleep", "started"),
            vertex("2", "[two 2/2] RUN false", "started"),
            log("2", "almost\nno"),
            log("1", "asleep\n"),
            vertex("1", "[one 2/3] RUN sleep", "error: context canceled"),
            vertex("2", "[two 2/2] RUN false", "error: executor failed running [/bin/sh -c false]: exit code: 1"),
        ];
        lines_of(&mut progress, &messages);
        let failure = progress.into_failure("executor failed running [/bin/sh -c false]: exit code: 1");
        assert_eq!(failure.step.unwrap().to_string(), "step 2/2 of stage two, RUN false,");
        assert_eq!(failure.last_lines, ["almost", "no"]);
    }

    #[test]
    fn it_only_looks_for_an_image_while_nothing_else_is_under_way() {
        let mut progress = Progress::default();
        let looking = "[internal] load metadata for quay.io/a:1";
        for (message, looks) in [
            (vertex("c", "[internal] load remote build context", "started"), None),
            (vertex("1", looking, "started"), None),
            (vertex("c", "[internal] load remote build context", "done"), Some("quay.io/a:1")),
            (vertex("2", "[1/2] FROM quay.io/a:1", "started"), None),
            (vertex("2", "[1/2] FROM quay.io/a:1", "done"), Some("quay.io/a:1")),
            (vertex("1", looking, "done"), None),
        ] {
            lines_of(&mut progress, &[message]);
            assert_eq!(progress.pending_lookup(), looks);
        }
    }

    #[test]
    fn a_step_that_could_not_begin_failed_too() {
        let mut progress = Progress::default();
        let lines =
            lines_of(&mut progress, &[vertex("1", "[1/1] COPY nosuch /x", "error: \"/nosuch\" not found: not found")]);
        assert_eq!(lines, ["* Step 1/1 : COPY nosuch /x"]);
        let failure = progress.into_failure("failed to compute cache key: \"/nosuch\" not found: not found");
        assert_eq!(failure.step.unwrap().instruction, "COPY nosuch /x");
        assert_eq!(Progress::default().into_failure("dockerfile parse error line 2"), ProgressFailure::default());
    }

    #[test]
    fn secrets_are_neither_in_names_nor_in_lines() {
        secrets::add("hunter22-of-progress");
        let mut progress = Progress::default();
        let name = "[1/1] RUN echo hunter22-of-progress";
        let messages = [vertex("1", name, "started"), log("1", "hunter22-of"), log("1", "-progress\n")];
        assert_eq!(lines_of(&mut progress, &messages), ["* Step 1/1 : RUN echo [hidden]", "[hidden]"]);
    }
}
