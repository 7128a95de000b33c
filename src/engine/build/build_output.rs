//! Parses the engine's reply to a build request, message by message: output lines, pulled images and image ids. `step_lines`
//! parses the output of the classic builder and of Podman, `buildkit::progress` the progress messages of BuildKit.

use bollard::models::{BuildInfo, BuildInfoAux, ImageId};

use super::bases::pulled_image;
use super::step_lines::{OutputEvent, StepLineParser, Steps};
use crate::engine::buildkit::Progress;
use crate::report::{BuildEvent, StepEnd};

/// Parser of a build's reply. `output` is for the classic builder and Podman, `progress` for BuildKit.
#[derive(Default)]
pub(in crate::engine) struct BuildOutputParser {
    pub(in crate::engine) output: StepLineParser,
    pub(in crate::engine) progress: Progress,
}

/// What the builder printed.
#[derive(Default)]
pub(in crate::engine) struct BuildOutput {
    /// The lines for the log.
    pub(in crate::engine) events: Vec<OutputEvent>,
    /// The same for the display.
    pub(in crate::engine) shown: Vec<BuildEvent>,
}

/// The content of one message.
#[derive(Default)]
pub(in crate::engine) struct BuildMessage {
    /// The lines to show.
    pub(in crate::engine) output: BuildOutput,
    /// The base images that BuildKit pulled.
    pub(in crate::engine) pulled: Vec<String>,
    /// The id of the image at the end of a stage.
    pub(in crate::engine) id: Option<String>,
}

impl BuildOutputParser {
    pub(in crate::engine) fn line(&mut self, line: &BuildInfo) -> BuildMessage {
        let mut message = BuildMessage::default();
        let mut events = Vec::new();
        match &line.aux {
            Some(BuildInfoAux::BuildKit(parts)) => {
                // BuildKit does not keep the images that it pulls. Only this message has their digests.
                let pulled = parts.vertexes.iter().filter_map(|it| pulled_image(&it.name));
                message.pulled = pulled.map(str::to_owned).collect();
                events.extend(self.progress.update(parts));
            }
            Some(BuildInfoAux::Default(ImageId { id })) => message.id.clone_from(id),
            None => {}
        }
        if let Some(piece) = &line.stream {
            events.extend(self.output.piece(piece));
        }
        // While a base image is pulled, show the states of each layer, but not its many progress updates.
        if let (Some(status), None) = (&line.status, &line.progress_detail) {
            let id = line.id.as_deref().map(|id| format!("{id}: ")).unwrap_or_default();
            events.extend(self.output.piece(&format!("{id}{status}\n")));
        }
        if let Some(Download { part, bytes, total }) = download(line) {
            self.output.downloaded(part, bytes, total);
        }
        message.output = BuildOutput { events, shown: self.shown() };
        message
    }

    /// The sum of both parsers. One of them counts nothing.
    pub(in crate::engine) fn steps(&self) -> Steps {
        let (one, other) = (self.output.steps(), self.progress.steps());
        Steps { cached: one.cached + other.cached, all: one.all + other.all }
    }

    /// What was still incomplete when the reply ended.
    pub(in crate::engine) fn end(&mut self) -> BuildOutput {
        let mut events = self.progress.end();
        events.extend(self.output.end());
        BuildOutput { events, shown: self.shown() }
    }

    fn shown(&mut self) -> Vec<BuildEvent> {
        let mut shown = self.progress.take_shown();
        shown.extend(self.output.take_shown());
        shown
    }

    /// How the steps end that still run when the build fails: unless one of them is known to have failed, it was these.
    pub(in crate::engine) fn end_of_a_failed_build(&self) -> StepEnd {
        if self.progress.has_failed() { StepEnd::Canceled } else { StepEnd::Failed }
    }
}

/// A part of a base image that the engine downloads.
struct Download<'a> {
    part: &'a str,
    bytes: u64,
    total: u64,
}

/// What Docker's classic builder says of a download. When it extracts a part, it counts that part's bytes once more.
fn download(line: &BuildInfo) -> Option<Download<'_>> {
    let detail = line.progress_detail.as_ref().filter(|_| line.status.as_deref() == Some("Downloading"))?;
    let [bytes, total] = [detail.current?, detail.total?].map(|count| u64::try_from(count).unwrap_or_default());
    Some(Download { part: line.id.as_deref()?, bytes, total })
}

/// Parses a whole reply to a build request, with one JSON message per line. Returns the lines to show, and the ids of the
/// images at the ends of stages; only these ids count when something is removed. Skips lines that are not messages of an
/// engine.
#[must_use]
pub fn read_answer(answer: &[u8]) -> (Vec<String>, Vec<String>) {
    let (mut parser, mut events, mut ids) = (BuildOutputParser::default(), Vec::new(), Vec::new());
    for line in answer.split(|byte| *byte == b'\n') {
        let Ok(line) = serde_json::from_slice::<BuildInfo>(line) else { continue };
        let message = parser.line(&line);
        events.extend(message.output.events);
        ids.extend(message.id);
    }
    events.extend(parser.end().events);
    let text = |event| match event {
        OutputEvent::Line(line) | OutputEvent::Step(line) => line,
    };
    (events.into_iter().map(text).collect(), ids)
}
