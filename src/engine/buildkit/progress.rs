//! Follows a build by BuildKit: its parts come in any order and run side by side, and are told as the classic builder
//! tells its steps. Pure thought; printing is `build`'s affair.

use std::collections::HashMap;

use bollard::moby::buildkit::v1::{StatusResponse, Vertex, VertexWarning};

use super::lines::Lines;
use super::vertex::Part;
use crate::engine::Step;
use crate::engine::build::step_lines::{OutputEvent, Steps};
use crate::engine::build_log::plain;
use crate::report::secrets;

/// Follows a build's parts.
#[derive(Debug, Default)]
pub(in crate::engine) struct Progress {
    parts: HashMap<String, Watched>,
    /// The part that failed first.
    failed: Option<String>,
}

/// A part of a build.
#[derive(Debug)]
struct Watched {
    part: Part,
    /// What stands before its lines, as those of another stage come between.
    prefix: String,
    told: bool,
    cached: bool,
    stands: Stands,
    error: String,
    lines: Lines,
}

/// How far a part is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stands {
    #[default]
    ToCome,
    UnderWay,
    Over,
}

/// How a build failed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Failing {
    /// The step that failed.
    pub(in crate::engine) step: Option<Step>,
    /// The image that was looked for when the build failed before its first step.
    pub(in crate::engine) sought: Option<String>,
    /// What it printed at last.
    pub(in crate::engine) last_lines: Vec<String>,
}

/// What a part says that was stopped because another failed.
const STOPPED: &str = "context canceled";

impl Progress {
    /// Takes a piece of news; gives the lines to tell.
    pub(in crate::engine) fn news(&mut self, news: &StatusResponse) -> Vec<OutputEvent> {
        let mut said = Vec::new();
        for vertex in &news.vertexes {
            self.begin(vertex, &mut said);
        }
        // Of what a base image is pulled from only the end is told, not the flood of its progress.
        for status in news.statuses.iter().filter(|status| status.completed.is_some()) {
            if let Some(part) =
                self.parts.get_mut(&status.vertex).filter(|part| part.told && part.stands != Stands::Over)
            {
                let line = format!("{}: done\n", status.id);
                part.piece(line.as_bytes(), &mut said);
            }
        }
        for log in &news.logs {
            if let Some(part) = self.parts.get_mut(&log.vertex) {
                part.piece(&log.msg, &mut said);
            }
        }
        said.extend(news.warnings.iter().map(|warning| OutputEvent::Line(secrets::hide(&told(warning)).into_owned())));
        for vertex in news.vertexes.iter().filter(|vertex| vertex.completed.is_some()) {
            self.end_of(vertex, &mut said);
        }
        said
    }

    /// The lines that do not end with a line break, of the parts that were still running.
    pub(in crate::engine) fn end(&mut self) -> Vec<OutputEvent> {
        let mut said = Vec::new();
        self.parts.values_mut().for_each(|part| part.flush(&mut said));
        said
    }

    /// The image that is looked for, where nothing else is under way.
    pub(in crate::engine) fn only_looks_for(&self) -> Option<&str> {
        let mut found = None;
        for part in self.parts.values().filter(|part| part.stands == Stands::UnderWay) {
            let Part::Looking(image) = &part.part else { return None };
            found = Some(image.as_str());
        }
        found
    }

    /// How many steps there were.
    pub(in crate::engine) fn steps(&self) -> Steps {
        let is_step = |part: &&Watched| matches!(&part.part, Part::Step(step) if part.told && !step.is("FROM"));
        let steps: Vec<_> = self.parts.values().filter(is_step).collect();
        Steps { cached: steps.iter().filter(|part| part.cached).count(), all: steps.len() }
    }

    /// The step that failed by this message, if one did.
    pub(in crate::engine) fn into_failing(mut self, message: &str) -> Failing {
        let named = self.parts.iter().find(|(_, part)| !part.error.is_empty() && message.contains(&part.error));
        let digest = named.map(|(digest, _)| digest.clone()).or(self.failed);
        match digest.and_then(|digest| self.parts.remove(&digest)) {
            Some(Watched { part: Part::Step(step), lines, .. }) => {
                Failing { step: Some(step), last_lines: lines.into_last(), sought: None }
            }
            Some(Watched { part: Part::Looking(image), .. }) => Failing { sought: Some(image), ..Failing::default() },
            _ => Failing::default(),
        }
    }

    fn begin(&mut self, vertex: &Vertex, said: &mut Vec<OutputEvent>) {
        let part = self.parts.entry(vertex.digest.clone()).or_insert_with(|| {
            let part = Part::of(&plain(&vertex.name));
            let stage = if let Part::Step(Step { stage: Some(stage), .. }) = &part { Some(stage) } else { None };
            let prefix = stage.map(|stage| format!("[{stage}] ")).unwrap_or_default();
            Watched {
                part,
                prefix,
                told: false,
                cached: false,
                stands: Stands::default(),
                error: String::new(),
                lines: Lines::default(),
            }
        });
        part.cached |= vertex.cached;
        if vertex.started.is_some() && part.stands == Stands::ToCome {
            part.stands = Stands::UnderWay;
        }
        let has_begun = vertex.started.is_some() || vertex.cached || !vertex.error.is_empty();
        if !has_begun || part.told || vertex.error.contains(STOPPED) {
            return;
        }
        if let Part::Step(step) = &part.part {
            part.told = true;
            let Step { number, of, instruction, .. } = step;
            said.push(OutputEvent::Step(format!("{}Step {number}/{of} : {instruction}", part.prefix)));
            if vertex.cached && !instruction.starts_with("FROM ") {
                said.push(OutputEvent::Line(format!("{} ---> Using cache", part.prefix)));
            }
        }
    }

    fn end_of(&mut self, vertex: &Vertex, said: &mut Vec<OutputEvent>) {
        let Some(part) = self.parts.get_mut(&vertex.digest) else { return };
        part.flush(said);
        part.stands = Stands::Over;
        if !vertex.error.is_empty() && !vertex.error.contains(STOPPED) && part.error.is_empty() {
            part.error.clone_from(&vertex.error);
            self.failed.get_or_insert_with(|| vertex.digest.clone());
        }
    }
}

impl Watched {
    fn piece(&mut self, bytes: &[u8], said: &mut Vec<OutputEvent>) {
        let prefix = &self.prefix;
        said.extend(self.lines.piece(bytes).into_iter().map(|line| OutputEvent::Line(format!("{prefix}{line}"))));
    }

    fn flush(&mut self, said: &mut Vec<OutputEvent>) {
        let prefix = &self.prefix;
        said.extend(self.lines.end().map(|line| OutputEvent::Line(format!("{prefix}{line}"))));
    }
}

/// A warning in one line.
fn told(warning: &VertexWarning) -> String {
    let text = plain(&String::from_utf8_lossy(&warning.short));
    let line = warning.ranges.first().and_then(|range| range.start.as_ref()).map(|start| start.line);
    line.map_or_else(|| format!("[Warning] {text}"), |line| format!("[Warning] {text} (line {line})"))
}

#[cfg(test)]
mod tests {
    use bollard::moby::buildkit::v1::VertexLog;

    use super::*;

    /// News of a part, as Docker 20.10 sends them: `moment` is what has happened to it.
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

    /// The lines of a build; those that begin a step with a mark.
    fn told(progress: &mut Progress, news: &[StatusResponse]) -> Vec<String> {
        let said = news.iter().flat_map(|news| progress.news(news));
        said.map(|said| match said {
            OutputEvent::Step(line) => format!("* {line}"),
            OutputEvent::Line(line) => line,
        })
        .collect()
    }

    #[test]
    fn stages_side_by_side_are_told_apart() {
        let (one, two) = ("[one 2/3] RUN make", "[two 2/2] RUN test");
        let mut progress = Progress::default();
        let news = [
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
        assert_eq!(told(&mut progress, &news), [&lines[..], &["[one] b"]].concat());
        told(&mut progress, &[log("2", "last")]);
        assert_eq!(progress.end(), [OutputEvent::Line("[two] last".to_owned())]);
    }

    #[test]
    fn a_cached_step_is_told_as_the_classic_builder_tells_it() {
        let mut progress = Progress::default();
        let news =
            [vertex("1", "[1/2] FROM docker.io/library/debian:12", "cached"), vertex("2", "[2/2] RUN x", "cached")];
        let lines = ["* Step 1/2 : FROM docker.io/library/debian:12", "* Step 2/2 : RUN x", " ---> Using cache"];
        assert_eq!(told(&mut progress, &news), lines);
        assert_eq!(progress.steps(), Steps { cached: 1, all: 1 });
    }

    #[test]
    fn the_step_that_failed_is_told_from_those_that_were_stopped() {
        let mut progress = Progress::default();
        let news = [
            vertex("1", "[one 2/3] RUN sleep", "started"),
            vertex("2", "[two 2/2] RUN false", "started"),
            log("2", "almost\nno"),
            log("1", "asleep\n"),
            vertex("1", "[one 2/3] RUN sleep", "error: context canceled"),
            vertex("2", "[two 2/2] RUN false", "error: executor failed running [/bin/sh -c false]: exit code: 1"),
        ];
        told(&mut progress, &news);
        let failing = progress.into_failing("executor failed running [/bin/sh -c false]: exit code: 1");
        assert_eq!(failing.step.unwrap().to_string(), "step 2/2 of stage two, RUN false,");
        assert_eq!(failing.last_lines, ["almost", "no"]);
    }

    #[test]
    fn it_only_looks_for_an_image_while_nothing_else_is_under_way() {
        let mut progress = Progress::default();
        let looking = "[internal] load metadata for quay.io/a:1";
        for (news, looks) in [
            (vertex("c", "[internal] load remote build context", "started"), None),
            (vertex("1", looking, "started"), None),
            (vertex("c", "[internal] load remote build context", "done"), Some("quay.io/a:1")),
            (vertex("2", "[1/2] FROM quay.io/a:1", "started"), None),
            (vertex("2", "[1/2] FROM quay.io/a:1", "done"), Some("quay.io/a:1")),
            (vertex("1", looking, "done"), None),
        ] {
            told(&mut progress, &[news]);
            assert_eq!(progress.only_looks_for(), looks);
        }
    }

    #[test]
    fn a_step_that_could_not_begin_failed_too() {
        let mut progress = Progress::default();
        let lines =
            told(&mut progress, &[vertex("1", "[1/1] COPY nosuch /x", "error: \"/nosuch\" not found: not found")]);
        assert_eq!(lines, ["* Step 1/1 : COPY nosuch /x"]);
        let failing = progress.into_failing("failed to compute cache key: \"/nosuch\" not found: not found");
        assert_eq!(failing.step.unwrap().instruction, "COPY nosuch /x");
        assert_eq!(Progress::default().into_failing("dockerfile parse error line 2"), Failing::default());
    }

    #[test]
    fn secrets_are_neither_in_names_nor_in_lines() {
        secrets::add("hunter22-of-progress");
        let mut progress = Progress::default();
        let name = "[1/1] RUN echo hunter22-of-progress";
        let news = [vertex("1", name, "started"), log("1", "hunter22-of"), log("1", "-progress\n")];
        assert_eq!(told(&mut progress, &news), ["* Step 1/1 : RUN echo [hidden]", "[hidden]"]);
    }
}
