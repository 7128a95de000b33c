//! The engine: what answers the Docker Engine API. Finding it, building, exporting, and leaving nothing behind;
//! bollard's types stop at this room's walls, and so do the differences between engines.

mod build;
mod connect;
mod export;
mod output;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::RemoveImageOptions;
use tracing::{debug, info, warn};

use crate::retry::{Another, Failure, Policy, retry};
pub use output::Step;

/// What the engine, or what it was asked to build, did wrong.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No engine was found.
    #[error("no engine answers; tried {}; start one, or set DOCKER_HOST to its socket", list(.places))]
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
        let Some(step) = &self.step else {
            return format!("the build did not begin: {}; mend the Dockerfile", self.message);
        };
        let last = self.last_lines.last().map(|line| format!("; its last line: {line}")).unwrap_or_default();
        match self.exit_code {
            Some(code) => format!("{step} failed with exit code {code}{last}; mend the Dockerfile, or what it fetches"),
            None => format!("{step} failed: {}; mend the Dockerfile, or what it needs", self.message),
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
struct Traces(Arc<Mutex<Left>>);

#[derive(Debug, Default)]
struct Left {
    left: Vec<Trace>,
    /// Whether a build has begun and not ended.
    cut_short: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Trace {
    Tag(String),
    Image(String),
}

impl Traces {
    fn build_begins(&self, tag: &str) {
        self.change(|left| {
            left.left.push(Trace::Tag(tag.to_owned()));
            left.cut_short = true;
        });
    }

    fn build_ends(&self) {
        self.change(|left| left.cut_short = false);
    }

    fn image_made(&self, id: String) {
        self.change(|left| left.left.push(Trace::Image(id)));
    }

    fn take(&self) -> Left {
        self.change(std::mem::take)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Left) -> T) -> T {
        // A list that somebody panicked over is still the list of what to remove.
        change(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
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
        let traces = self.traces.take();
        let mut removed = 0;
        for trace in traces.left.iter().rev() {
            let (Trace::Tag(name) | Trace::Image(name)) = trace;
            let result = if traces.cut_short {
                retry("removing a step's image", LETTING_GO, || self.remove(name)).await
            } else {
                self.remove(name).await
            };
            match result {
                Ok(()) => removed += 1,
                // Never made, removed with its tag, or used by somebody else.
                Err(error) if matches!(error.status(), Some(404 | 409)) => debug!("{name} stays: {error}"),
                Err(error) => warn!("cannot remove {name} from the engine: {error}"),
            }
        }
        if removed > 0 {
            info!("removed {removed} images of this build from the engine");
        }
    }

    async fn remove(&self, name: &str) -> Result<(), RemovalError> {
        // `noprune`: without it the engine would also remove the parents, which can be somebody's build cache.
        let options = RemoveImageOptions { force: false, noprune: true, ..RemoveImageOptions::default() };
        self.client.remove_image(name, Some(options), None).await.map(drop).map_err(RemovalError)
    }
}

/// After a build is cut short the engine takes a moment to end the step, and its container uses the step's image.
const LETTING_GO: Policy = Policy {
    tries: 20,
    first_pause: Duration::from_millis(50),
    longest_pause: Duration::from_secs(1),
    limit: Duration::from_secs(15),
};

/// An image that could not be removed.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct RemovalError(bollard::errors::Error);

impl RemovalError {
    fn status(&self) -> Option<u16> {
        match &self.0 {
            bollard::errors::Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
            _ => None,
        }
    }
}

impl Failure for RemovalError {
    fn another(&self) -> Another {
        if self.status() == Some(409) { Another::CanHelp } else { Another::IsUseless }
    }
}
