//! Removes what a job has left in the engine, however the job ends. `after_kill` does the same for killed runs, at the next
//! start, whatever image that start builds. Images that others use or have named, and images that were there before, stay.

use std::time::{Duration, Instant};

use bollard::query_parameters::RemoveImageOptions;
use tracing::{debug, info, warn};

use super::descent::{Descent, is_id, is_named, is_none};
use super::journal;
use super::state::{CleanupState, StartedBuild};
use super::tracker::CurrentBuild;
use super::waits::{QUIET_PERIOD, RELEASE_WAIT, RemovalError, SHORT_WAIT, unpacking_policy};
use crate::engine::Engine;
use crate::engine::driver::AbandonedBuild;
use crate::net::retry::retry;
use crate::report::{ErrorChain, counted};

/// The time limit for a cleanup, also after a signal: nothing interrupts it, and an engine that hangs would block the program
/// forever. It is enough for the images of a large build on a slow disk.
pub(super) const CLEANUP_TIMEOUT: Duration = Duration::from_mins(2);

/// The run that made the images to remove.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ImageOwner {
    Ours,
    KilledRun,
}

/// How a build ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum BuildEnd {
    Known,
    /// The engine may still run its last step.
    Interrupted,
}

impl ImageOwner {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ours => "this build",
            Self::KilledRun => "a killed run",
        }
    }
}

impl Engine {
    /// From now on, records in the engine what this program creates there, until all of it is removed.
    pub async fn keep_records(&self) {
        // A managed engine ends with this program, so later starts find nothing in it.
        if self.managed.is_none() {
            self.tracker.keep_records(self.client.clone()).await;
        }
    }

    /// Removes what this program has left in the engine: the tags of built and of loaded images, and the step images,
    /// youngest first. Images that others use, and images that were there before, stay.
    pub async fn clean(&self) {
        self.clean_within(CLEANUP_TIMEOUT).await;
    }

    async fn clean_within(&self, limit: Duration) {
        if let Some(managed) = &self.managed {
            drop(self.tracker.take_state());
            managed.stop().await;
            return;
        }
        let cleaning = async {
            let end = if self.tracker.build().is_some() { BuildEnd::Interrupted } else { BuildEnd::Known };
            let known = match self.resolve_interrupted_build().await {
                Ok(known) => known,
                Err(error) => {
                    warn!(
                        "what {} left in the engine stays there: {}",
                        ImageOwner::Ours.name(),
                        ErrorChain(&error).innermost()
                    );
                    return false;
                }
            };
            let state = self.tracker.take_state();
            self.remove_all(&state, ImageOwner::Ours, end).await && known
        };
        if within(limit, cleaning, ImageOwner::Ours).await {
            self.tracker.clear().await;
        }
    }

    /// Waits until the engine has ended an interrupted build, and finds its images. Returns whether all of them are known.
    async fn resolve_interrupted_build(&self) -> Result<bool, RemovalError> {
        let Some(CurrentBuild { started, reported }) = self.tracker.build() else { return Ok(true) };
        if let Some(ended) = self.tracker.take_under_way() {
            // The engine answers when the step has ended, with or without an image of it.
            let _ = ended.await;
        } else if self.driver.abandoned_build() == AbandonedBuild::GoesOn {
            self.wait_for_quiet(&started).await;
        }
        let descent = self.own_descent(&started, &reported).await?;
        if descent.is_unclear {
            warn_ambiguous_images(ImageOwner::Ours);
        } else {
            self.tracker.build_ends(descent.ids, descent.last).await;
        }
        Ok(!descent.is_unclear)
    }

    /// The images of this program's build. Images that only their history identifies may belong to another run of the same
    /// build.
    async fn own_descent(&self, started: &StartedBuild, reported: &[String]) -> Result<Descent, RemovalError> {
        let mut descent = self.descent(started, reported, 1 + started.earlier).await?;
        descent.is_unclear |= descent.is_unproven && self.is_built_by_another_run(started).await;
        Ok(descent)
    }

    /// Whether another run currently builds the same.
    async fn is_built_by_another_run(&self, started: &StartedBuild) -> bool {
        let own = self.tracker.run().await;
        // Without a list of the other runs, nothing is taken from them.
        let Ok(runs) = journal::read(&self.client).await else { return true };
        let others = runs.into_iter().filter(|it| it.is_alive && Some(&it.run) != own.as_ref());
        others
            .map(|it| CleanupState::of(it.events))
            .any(|state| state.build.is_some_and(|other| is_same_build(&other, started)))
    }

    /// Records the images of a build that has ended, successfully or not.
    pub(in crate::engine) async fn note_what_was_made(&self) {
        let Some(CurrentBuild { started, reported }) = self.tracker.build() else { return };
        let descent = match self.managed {
            Some(_) => Ok(Descent { last: reported.last().cloned(), ..Descent::default() }),
            None => self.own_descent(&started, &reported).await,
        };
        // If an image is ambiguous, or the engine does not answer, the build counts as interrupted, and the cleanup at the
        // end looks again.
        if let Ok(Descent { ids, last, is_unclear: false, .. }) = descent {
            self.tracker.build_ends(ids, last).await;
        }
    }

    /// Removes everything that `state` owns. Returns whether nothing is left that another attempt could remove.
    pub(super) async fn remove_all(&self, state: &CleanupState, owner: ImageOwner, end: BuildEnd) -> bool {
        let names = state.to_remove();
        let (mut removed, mut done) = (0, true);
        for container in &state.containers {
            done &= self.remove_container(container).await;
        }
        if names.is_empty() {
            return done;
        }
        // An image that somebody else has named in the meantime belongs to them.
        let foreign = match self.named_by_others(state).await {
            Ok(foreign) => foreign,
            Err(error) => {
                warn!("what {} left in the engine stays there: {}", owner.name(), ErrorChain(&error).innermost());
                return false;
            }
        };
        for name in names.iter().filter(|name| !foreign.iter().any(|id| is_id(id, name))) {
            match self.remove_with_retry(name, state, owner, end).await {
                Ok(()) => removed += 1,
                Err(error @ (RemovalError::NotYet | RemovalError::Used)) => debug!("{name}: {error}"),
                // Never made, removed with its tag, or in use by somebody else.
                Err(error) if matches!(error.status(), Some(404 | 409)) => debug!("{name} stays: {error}"),
                // The engine is gone or cannot answer: one warning is enough.
                Err(error) if error.status().is_none() => {
                    warn!("what {} left in the engine stays there: {}", owner.name(), ErrorChain(&error).innermost());
                    return false;
                }
                Err(error) => {
                    warn!("cannot remove {name} from the engine: {error}");
                    done = false;
                }
            }
        }
        if removed > 0 {
            info!("removed {} of {} from the engine", counted(removed, "image"), owner.name());
        }
        done
    }

    async fn remove_with_retry(
        &self,
        name: &str,
        state: &CleanupState,
        owner: ImageOwner,
        end: BuildEnd,
    ) -> Result<(), RemovalError> {
        // An engine continues a removal that a killed run has requested. What is below a kept image stays in use.
        let is_releasable = end == BuildEnd::Interrupted || (owner == ImageOwner::KilledRun && !state.has_kept_image());
        let unpacking = state.unpacks(name);
        let policy = match (unpacking, is_releasable) {
            (Some(bytes), _) => unpacking_policy(bytes),
            (None, true) => RELEASE_WAIT,
            (None, false) => SHORT_WAIT,
        };
        let removing = retry("removing an image", policy, || async {
            self.remove(name, false).await.map_err(|error| match error.status() {
                Some(404) if unpacking.is_some() => RemovalError::NotYet,
                Some(409) if !is_releasable => RemovalError::Used,
                _ => error,
            })
        });
        match removing.await {
            Err(used)
                if end == BuildEnd::Interrupted
                    && used.status() == Some(409)
                    && self.driver.abandoned_build() == AbandonedBuild::GoesOn =>
            {
                // The engine removes the containers of the build's steps with the images; the command keeps running in what
                // was its container.
                warn!(
                    "{} goes on with a step's command although nobody waits for it: removing its image all the same",
                    self.driver.name()
                );
                self.remove(name, true).await
            }
            result => result,
        }
    }

    /// The ids of images that have a name that this run has not given.
    async fn named_by_others(&self, state: &CleanupState) -> Result<Vec<String>, RemovalError> {
        let images = self.images().await?;
        let is_ours = |name: &String| is_none(name) || state.own_names().any(|own| is_named(name, own));
        Ok(images.into_iter().filter(|image| !image.repo_tags.iter().all(is_ours)).map(|image| image.id).collect())
    }

    /// Waits until an engine that continues an abandoned build makes no more images of it. If a base image is removed
    /// earlier, nobody can tell whose the images on top of it are.
    pub(super) async fn wait_for_quiet(&self, started: &StartedBuild) {
        let (start, mut since, mut last) = (Instant::now(), Instant::now(), None);
        while since.elapsed() < QUIET_PERIOD && start.elapsed() < RELEASE_WAIT.limit {
            let current = self.descent(started, &[], 1).await.ok();
            if current != last {
                (since, last) = (Instant::now(), current);
            }
            tokio::time::sleep(RELEASE_WAIT.first_pause).await;
        }
    }

    async fn remove(&self, name: &str, force: bool) -> Result<(), RemovalError> {
        // Without `noprune` the engine would also remove the parents, which can be somebody's build cache.
        let options = RemoveImageOptions { force, noprune: true, ..RemoveImageOptions::default() };
        self.client.remove_image(name, Some(options), None).await.map(drop).map_err(RemovalError::Engine)
    }
}

pub(super) fn warn_ambiguous_images(owner: ImageOwner) {
    let owner = owner.name();
    warn!("somebody else builds the same: which images of steps are of {owner} is for a later start to see");
}

/// Whether two builds have a stage with the same base and the same first step, so that their images look alike.
pub(super) fn is_same_build(one: &StartedBuild, other: &StartedBuild) -> bool {
    one.stages.iter().any(|stage| {
        let first = stage.steps.first();
        first.is_some() && other.stages.iter().any(|it| it.base == stage.base && it.steps.first() == first)
    })
}

pub(super) async fn within(limit: Duration, removing: impl Future<Output = bool>, owner: ImageOwner) -> bool {
    let Ok(done) = tokio::time::timeout(limit, removing).await else {
        let owner = owner.name();
        warn!("the engine has not removed the images of {owner} within {} s: going on", limit.as_secs());
        return false;
    };
    done
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::super::state::JournalEvent;
    use super::super::tracker::ResourceTracker;
    use super::*;
    use crate::engine::EngineInfo;
    use crate::engine::build::pulling::Access;
    use crate::engine::connection::address::Address;
    use crate::engine::connection::client::client;
    use crate::engine::driver::DockerEngine;

    fn engine_at(socket: &Path) -> Engine {
        let place = Address::of_socket(socket);
        let client = client(&place, Duration::from_hours(1));
        let (access, tracker, about) = (Access::default(), ResourceTracker::default(), EngineInfo::default());
        Engine { client: client.unwrap(), access, place, tracker, driver: &DockerEngine, about, managed: None }
    }

    #[tokio::test]
    async fn an_engine_that_hangs_keeps_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("engine.sock");
        let _listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let engine = engine_at(&socket);
        engine.tracker.build_begins(StartedBuild { tag: "builder:1234".to_owned(), ..StartedBuild::default() }).await;
        let cleaning = engine.clean_within(Duration::from_millis(100));
        tokio::time::timeout(Duration::from_secs(20), cleaning).await.expect("it ends by itself");
    }

    #[tokio::test]
    async fn who_does_not_hear_whose_names_there_are_removes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("engine.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let length = client.read(&mut request).await.unwrap();
                sender.send(String::from_utf8_lossy(&request[..length]).into_owned()).unwrap();
                let refusal = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                client.write_all(refusal.as_bytes()).await.unwrap();
            }
        });
        let state = CleanupState::of(vec![JournalEvent::Ended(vec!["sha256:00".to_owned()])]);
        assert!(!engine_at(&socket).remove_all(&state, ImageOwner::Ours, BuildEnd::Known).await);
        let mut requests = 0;
        while let Ok(request) = receiver.try_recv() {
            assert!(request.starts_with("GET /"), "{request}");
            requests += 1;
        }
        assert_ne!(requests, 0, "it was asked");
    }
}
