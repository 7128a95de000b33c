//! The engine: what answers the Docker Engine API. Finding it, building, exporting, and leaving nothing behind;
//! bollard's types stop at this room's walls, and so do the differences between engines.

mod build;
mod connect;
mod export;
mod output;

use std::sync::{Arc, Mutex};

use bollard::Docker;
use bollard::query_parameters::RemoveImageOptions;
use tracing::{debug, info, warn};

use crate::retry::{Another, Failure};
pub use output::Step;

/// What the engine, or what it was asked to build, did wrong.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No engine was found.
    #[error("no engine answers; tried {}", list(.places))]
    NoneAnswers {
        /// Each place and what it said.
        places: Vec<(String, String)>,
    },
    /// The engine did not do what it can do: it is gone, in trouble, or out of space.
    #[error("the engine failed while {doing}")]
    Trouble {
        /// What it was doing.
        doing: String,
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine ended its answer without saying that it was done.
    #[error("the engine stopped answering while {doing}")]
    Unfinished {
        /// What it was doing.
        doing: String,
    },
    /// The image did not build, and would not on another day.
    #[error("{}", .0.summary())]
    Build(Box<BuildFailure>),
}

fn list(places: &[(String, String)]) -> String {
    let said: Vec<_> = places.iter().map(|(place, said)| format!("{place} ({said})")).collect();
    said.join(", ")
}

impl Failure for EngineError {
    fn another(&self) -> Another {
        // A build is too dear to be repeated blindly; the whole task is, by its exit code.
        Another::IsUseless
    }
}

/// A step of a `Dockerfile` that failed, or a `Dockerfile` that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildFailure {
    /// The failing step; none when the build did not begin.
    pub step: Option<Step>,
    /// The exit code of its command, where it has one.
    pub exit_code: Option<i64>,
    /// What the engine says about it.
    pub message: String,
    /// The last lines of the step's output.
    pub last_lines: Vec<String>,
}

impl BuildFailure {
    /// The failure in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let Some(step) = &self.step else { return format!("the build did not begin: {}", self.message) };
        let last = self.last_lines.last().map(|line| format!("; its last line: {line}")).unwrap_or_default();
        match self.exit_code {
            Some(code) => format!("{step} failed with exit code {code}{last}"),
            None => format!("{step} failed: {}", self.message),
        }
    }
}

/// The kinds of engine that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Docker Engine.
    Docker,
    /// Podman's service.
    Podman,
}

/// An engine that answers.
#[derive(Clone)]
pub struct Engine {
    client: Docker,
    kind: Kind,
    traces: Traces,
}

/// What a build has put into the engine so far. Shared, so that it can be removed after the build's future is dropped.
#[derive(Clone, Debug, Default)]
struct Traces(Arc<Mutex<Vec<Trace>>>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Trace {
    Tag(String),
    Image(String),
}

impl Traces {
    fn add(&self, trace: Trace) {
        if let Ok(mut traces) = self.0.lock() {
            traces.push(trace);
        }
    }

    fn take(&self) -> Vec<Trace> {
        self.0.lock().map(|mut traces| std::mem::take(&mut *traces)).unwrap_or_default()
    }
}

impl Engine {
    /// Which kind of engine it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Removes what this program's builds have left in the engine: their tag, and the images of their steps,
    /// the youngest first. What others use, or had before us, stays.
    pub async fn clean(&self) {
        let mut removed = 0;
        for trace in self.traces.take().into_iter().rev() {
            let (Trace::Tag(name) | Trace::Image(name)) = &trace;
            // `noprune`: without it the engine would also remove the parents, which can be somebody's build cache.
            let options = RemoveImageOptions { force: false, noprune: true, ..RemoveImageOptions::default() };
            match self.client.remove_image(name, Some(options), None).await {
                Ok(_) => removed += 1,
                // Never made, removed with its tag, or used by somebody else.
                Err(bollard::errors::Error::DockerResponseServerError { status_code: 404 | 409, .. }) => {
                    debug!("{name} needs no removal");
                }
                Err(error) => warn!("cannot remove {name} from the engine: {error}"),
            }
        }
        if removed > 0 {
            info!("removed the image and {} of its steps from the engine", removed - 1);
        }
    }
}
