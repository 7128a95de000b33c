//! Parses the engine's reply to a build request, message by message: output lines, pulled images and image ids. `step_lines`
//! parses the output of the classic builder and of Podman, `buildkit::progress` the progress messages of BuildKit.

use bollard::models::{BuildInfo, BuildInfoAux, ImageId};

use super::bases::pulled_image;
use super::step_lines::{OutputEvent, StepLineParser, Steps};
use crate::engine::buildkit::Progress;

/// Parser of a build's reply. `output` is for the classic builder and Podman, `progress` for BuildKit.
#[derive(Default)]
pub(in crate::engine) struct BuildOutputParser {
    pub(in crate::engine) output: StepLineParser,
    pub(in crate::engine) progress: Progress,
}

/// The content of one message.
pub(in crate::engine) struct BuildMessage {
    /// The lines to show.
    pub(in crate::engine) events: Vec<OutputEvent>,
    /// The base images that BuildKit pulled.
    pub(in crate::engine) pulled: Vec<String>,
    /// The id of the image at the end of a stage.
    pub(in crate::engine) id: Option<String>,
}

impl BuildOutputParser {
    pub(in crate::engine) fn line(&mut self, line: &BuildInfo) -> BuildMessage {
        let mut message = BuildMessage { events: Vec::new(), pulled: Vec::new(), id: None };
        match &line.aux {
            Some(BuildInfoAux::BuildKit(parts)) => {
                // BuildKit does not keep the images that it pulls. Only this message has their digests.
                let pulled = parts.vertexes.iter().filter_map(|it| pulled_image(&it.name));
                message.pulled = pulled.map(str::to_owned).collect();
                message.events.extend(self.progress.update(parts));
            }
            Some(BuildInfoAux::Default(ImageId { id })) => message.id.clone_from(id),
            None => {}
        }
        if let Some(piece) = &line.stream {
            message.events.extend(self.output.piece(piece));
        }
        // While a base image is pulled, show the states of each layer, but not its many progress updates.
        if let (Some(status), None) = (&line.status, &line.progress_detail) {
            let id = line.id.as_deref().map(|id| format!("{id}: ")).unwrap_or_default();
            message.events.extend(self.output.piece(&format!("{id}{status}\n")));
        }
        message
    }

    /// The sum of both parsers. One of them counts nothing.
    pub(in crate::engine) fn steps(&self) -> Steps {
        let (one, other) = (self.output.steps(), self.progress.steps());
        Steps { cached: one.cached + other.cached, all: one.all + other.all }
    }

    pub(in crate::engine) fn end(&mut self) -> Vec<OutputEvent> {
        let mut events = self.progress.end();
        events.extend(self.output.end());
        events
    }
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
        events.extend(message.events);
        ids.extend(message.id);
    }
    events.extend(parser.end());
    let text = |event| match event {
        OutputEvent::Line(line) | OutputEvent::Step(line) => line,
    };
    (events.into_iter().map(text).collect(), ids)
}
