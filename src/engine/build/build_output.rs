//! What a build's answer says, message by message: lines that are shown, images that were pulled, ids. The words of the
//! classic builder are `output`'s to read, BuildKit's news `buildkit::progress`'s.

use bollard::models::{BuildInfo, BuildInfoAux, ImageId};

use super::bases::pulled;
use super::step_lines::{Output, OutputEvent, Steps};
use crate::engine::buildkit::Progress;

/// What a build has told so far: the classic builder in its own words, BuildKit in news of its parts.
#[derive(Default)]
pub(in crate::engine) struct BuildOutputParser {
    pub(in crate::engine) output: Output,
    pub(in crate::engine) progress: Progress,
}

/// What one piece of an answer says.
pub(in crate::engine) struct News {
    /// What is shown.
    pub(in crate::engine) said: Vec<OutputEvent>,
    /// The base images that BuildKit pulled.
    pub(in crate::engine) pulled: Vec<String>,
    /// The image at a stage's end.
    pub(in crate::engine) id: Option<String>,
}

impl BuildOutputParser {
    pub(in crate::engine) fn line(&mut self, line: &BuildInfo) -> News {
        let mut news = News { said: Vec::new(), pulled: Vec::new(), id: None };
        match &line.aux {
            Some(BuildInfoAux::BuildKit(parts)) => {
                // BuildKit keeps no image that it pulls, and says only here what it got.
                news.pulled = parts.vertexes.iter().filter_map(|it| pulled(&it.name)).map(str::to_owned).collect();
                news.said.extend(self.progress.news(parts));
            }
            Some(BuildInfoAux::Default(ImageId { id })) => news.id.clone_from(id),
            None => {}
        }
        if let Some(piece) = &line.stream {
            news.said.extend(self.output.piece(piece));
        }
        // Pulling a base image: each layer's states, but not the flood of its progress.
        if let (Some(status), None) = (&line.status, &line.progress_detail) {
            let id = line.id.as_deref().map(|id| format!("{id}: ")).unwrap_or_default();
            news.said.extend(self.output.piece(&format!("{id}{status}\n")));
        }
        news
    }

    /// One of the two has nothing to count.
    pub(in crate::engine) fn steps(&self) -> Steps {
        let (one, other) = (self.output.steps(), self.progress.steps());
        Steps { cached: one.cached + other.cached, all: one.all + other.all }
    }

    pub(in crate::engine) fn end(&mut self) -> Vec<OutputEvent> {
        let mut said = self.progress.end();
        said.extend(self.output.end());
        said
    }
}

/// What is read from a build's answer, JSON after JSON: the lines that are shown, and the ids of the images at the ends of
/// stages, which alone count when something is removed. What is no message of an engine's is left out.
#[must_use]
pub fn read_answer(answer: &[u8]) -> (Vec<String>, Vec<String>) {
    let (mut heard, mut said, mut ids) = (BuildOutputParser::default(), Vec::new(), Vec::new());
    for line in answer.split(|byte| *byte == b'\n') {
        let Ok(line) = serde_json::from_slice::<BuildInfo>(line) else { continue };
        let news = heard.line(&line);
        said.extend(news.said);
        ids.extend(news.id);
    }
    said.extend(heard.end());
    let text = |said| match said {
        OutputEvent::Line(line) | OutputEvent::Step(line) => line,
    };
    (said.into_iter().map(text).collect(), ids)
}
