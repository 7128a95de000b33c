//! Leaving nothing behind: what a job puts into the engine is written down while it happens, and removed on every
//! way out of the job. What others use, or had before us, stays.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bollard::models::ImageSummary;
use bollard::query_parameters::{ListImagesOptions, RemoveImageOptions};
use tracing::{debug, info, warn};

use super::Engine;
use super::connect::in_words;
use super::output::Origin;
use crate::retry::{Another, Failure, Policy, retry};

/// What a build has put into the engine so far. Shared, so that it can be removed after the build's future is dropped.
#[derive(Clone, Debug, Default)]
pub(super) struct Traces(Arc<Mutex<Left>>);

#[derive(Debug, Default)]
struct Left {
    traces: Vec<Trace>,
    /// Whether a build has begun and not ended.
    cut_short: bool,
    /// The image of the last step that the engine told of.
    last: Option<String>,
    /// Whether the engine was at a step that runs a command.
    in_command: bool,
    /// The ids of the images that the engine had before the build.
    before: HashSet<String>,
    /// The name of the image that is being loaded, when the engine has all of it: from then on it goes on by itself.
    unpacking: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Trace {
    Tag(String),
    Image(String),
}

impl Traces {
    pub(super) fn build_begins(&self, tag: &str, before: Vec<ImageSummary>) {
        let before = before.into_iter().map(|image| image.id).collect();
        self.change(|left| {
            left.traces.push(Trace::Tag(tag.to_owned()));
            left.cut_short = true;
            left.before = before;
        });
    }

    pub(super) fn load_begins(&self, tag: &str) {
        self.change(|left| left.traces.push(Trace::Tag(tag.to_owned())));
    }

    pub(super) fn load_is_sent(&self, tag: &str) {
        self.change(|left| left.unpacking = Some(tag.to_owned()));
    }

    /// The engine has answered. An image that was there before without a name would go with the name that we gave it.
    pub(super) fn load_ends(&self, tag: &str, was_nameless: bool) {
        self.change(|left| left.unpacking = None);
        if was_nameless {
            self.forget_tag(tag);
        }
    }

    /// The name is not there any more, or not ours.
    pub(super) fn forget_tag(&self, tag: &str) {
        self.change(|left| left.traces.retain(|trace| *trace != Trace::Tag(tag.to_owned())));
    }

    pub(super) fn step(&self, runs_a_command: bool) {
        self.change(|left| left.in_command = runs_a_command);
    }

    pub(super) fn build_ends(&self) {
        self.change(|left| left.cut_short = false);
    }

    pub(super) fn image(&self, id: String, origin: Origin) {
        self.change(|left| {
            if origin == Origin::Made {
                left.traces.push(Trace::Image(id.clone()));
            }
            left.last = Some(id);
        });
    }

    /// The image of the last step that the engine told of; from now on it is not ours to remove.
    pub(super) fn let_stay(&self) -> Option<String> {
        self.change(|left| {
            let last = left.last.clone()?;
            left.traces.retain(|trace| *trace != Trace::Image(last.clone()));
            Some(last)
        })
    }

    fn take(&self) -> Left {
        self.change(std::mem::take)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Left) -> T) -> T {
        // A list that somebody panicked over is still the list of what to remove.
        change(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// How long the removing may take. Nothing interrupts it, and an engine that hangs would keep the program for ever: after
/// a signal too. Enough for the images of a large build on a slow disk.
const CLEANING_MAY_TAKE: Duration = Duration::from_mins(2);

impl Engine {
    /// Removes what this program's builds have left in the engine: their tag, and the images of their steps,
    /// the youngest first. What others use, or had before us, stays.
    pub async fn clean(&self) {
        self.clean_within(CLEANING_MAY_TAKE).await;
    }

    async fn clean_within(&self, limit: Duration) {
        if tokio::time::timeout(limit, self.remove_traces()).await.is_err() {
            warn!("the engine has not removed this build's images within {} s: going on", limit.as_secs());
        }
    }

    async fn remove_traces(&self) {
        let mut left = self.traces.take();
        // A step with a command makes no image when it is cut.
        if let (true, false, Some(last)) = (left.cut_short, left.in_command, &left.last) {
            left.traces.extend(self.untold(last, &left.before).await.into_iter().map(Trace::Image));
        }
        // A command can print what looks like the engine's word about any image.
        let before = std::mem::take(&mut left.before);
        left.traces.retain(|trace| !matches!(trace, Trace::Image(id) if is_among(id, &before)));
        let mut removed = 0;
        for trace in left.traces.iter().rev() {
            let (Trace::Tag(name) | Trace::Image(name)) = trace;
            let result = if left.unpacking.as_ref() == Some(name) {
                retry("removing a loaded image", UNPACKING, || self.remove_when_there(name)).await
            } else if left.cut_short {
                retry("removing a step's image", LETTING_GO, || self.remove(name)).await
            } else {
                self.remove(name).await
            };
            match result {
                Ok(()) => removed += 1,
                // Never made, removed with its tag, or used by somebody else.
                Err(error) if matches!(error.status(), Some(404 | 409)) => debug!("{name} stays: {error}"),
                Err(RemovalError::NotYet) => debug!("{name} did not appear"),
                // The engine is gone, or too ill to answer: once said is enough.
                Err(error) if error.status().is_none() => {
                    warn!("what this build left in the engine stays there: {}", in_words(&error));
                    break;
                }
                Err(error) => warn!("cannot remove {name} from the engine: {error}"),
            }
        }
        if removed > 0 {
            info!("removed {removed} images of this build from the engine");
        }
    }

    /// All images that the engine has. For knowing what was there before us: an engine that does not tell costs
    /// nothing but a step's image that stays.
    pub(super) async fn images(&self) -> Vec<ImageSummary> {
        self.all_images().await.unwrap_or_default()
    }

    async fn all_images(&self) -> Result<Vec<ImageSummary>, RemovalError> {
        let options = ListImagesOptions { all: true, ..ListImagesOptions::default() };
        self.client.list_images(Some(options)).await.map_err(RemovalError::Engine)
    }

    /// Nameless images on top of `last` that were not there before: a step without a command (`COPY`) goes on in the
    /// engine after the build is cut short, and nobody is told of its image.
    async fn untold(&self, last: &str, before: &HashSet<String>) -> Vec<String> {
        let looking = retry("looking for the last step's image", LETTING_GO, || async {
            let is_untold = |image: &ImageSummary| {
                let on_top = image.parent_id.trim_start_matches("sha256:").starts_with(last);
                on_top && is_nameless(image) && !before.contains(&image.id)
            };
            let images = self.all_images().await?;
            let ids: Vec<_> = images.into_iter().filter(is_untold).map(|image| image.id).collect();
            if ids.is_empty() { Err(RemovalError::NotYet) } else { Ok(ids) }
        });
        looking.await.unwrap_or_default()
    }

    /// Removes an image that the engine is about to have.
    async fn remove_when_there(&self, name: &str) -> Result<(), RemovalError> {
        self.remove(name).await.map_err(|error| if error.status() == Some(404) { RemovalError::NotYet } else { error })
    }

    async fn remove(&self, name: &str) -> Result<(), RemovalError> {
        // `noprune`: without it the engine would also remove the parents, which can be somebody's build cache.
        let options = RemoveImageOptions { force: false, noprune: true, ..RemoveImageOptions::default() };
        self.client.remove_image(name, Some(options), None).await.map(drop).map_err(RemovalError::Engine)
    }
}

/// Docker before 25 gives nameless images the name `<none>:<none>`.
pub(super) fn is_nameless(image: &ImageSummary) -> bool {
    image.repo_tags.iter().all(|tag| tag == "<none>:<none>")
}

/// Whether an id, or the beginning of one, is that of a known image.
fn is_among(id: &str, images: &HashSet<String>) -> bool {
    images.iter().any(|known| known == id || known.trim_start_matches("sha256:").starts_with(id))
}

/// After a build is cut short the engine takes a moment to end the step, and its container uses the step's image.
const LETTING_GO: Policy = Policy {
    tries: 20,
    first_pause: Duration::from_millis(50),
    longest_pause: Duration::from_secs(1),
    limit: Duration::from_secs(15),
    quiet: true,
};

/// An engine that has a whole archive unpacks it to its end, whoever is still there: up to a minute for some gigabytes.
const UNPACKING: Policy = Policy { tries: 120, limit: Duration::from_mins(1), ..LETTING_GO };

/// An image that could not be removed, or is not there yet.
#[derive(Debug, thiserror::Error)]
enum RemovalError {
    #[error(transparent)]
    Engine(bollard::errors::Error),
    #[error("not there yet")]
    NotYet,
}

impl RemovalError {
    fn status(&self) -> Option<u16> {
        match self {
            Self::Engine(bollard::errors::Error::DockerResponseServerError { status_code, .. }) => Some(*status_code),
            Self::Engine(_) | Self::NotYet => None,
        }
    }
}

impl Failure for RemovalError {
    fn another(&self) -> Another {
        if matches!(self, Self::NotYet) || self.status() == Some(409) { Another::CanHelp } else { Another::IsUseless }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_that_were_there_before_are_known_by_their_beginning() {
        let before = HashSet::from([format!("sha256:0123456789ab{}", "0".repeat(52))]);
        assert!(is_among("0123456789ab", &before));
        assert!(!is_among("123456789ab", &before));
    }

    #[tokio::test]
    async fn an_engine_that_hangs_keeps_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        let _listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let client = bollard::Docker::connect_with_unix(socket.to_str().unwrap(), 3600, bollard::API_DEFAULT_VERSION);
        let place = socket.display().to_string();
        let engine = Engine { client: client.unwrap(), traces: Traces::default(), place, is_podman: false };
        engine.traces.build_begins("builder:1234", Vec::new());
        let cleaning = engine.clean_within(Duration::from_millis(100));
        tokio::time::timeout(Duration::from_secs(20), cleaning).await.expect("it ends by itself");
    }
}
