//! Leaving nothing behind: what a job has put into the engine is removed on every way out of the job; after a SIGKILL by the
//! next start, whatever its image. What others use, have named, or had before us, stays.

use std::time::{Duration, Instant};

use bollard::query_parameters::RemoveImageOptions;
use tracing::{debug, info, warn};

use super::descent::{Descent, is_id, is_named, is_none};
use super::journal;
use super::state::{CleanupState, StartedBuild};
use super::waits::{QUIET, RELEASE_WAIT, RemovalError, SHORT_WAIT, unpacking_of};
use crate::engine::Engine;
use crate::engine::driver::AbandonedBuild;
use crate::net::retry::retry;
use crate::report::ErrorChain;

/// How long the removing may take. Nothing interrupts it, and an engine that hangs would keep the program for ever: after
/// a signal too. Enough for the images of a large build on a slow disk.
pub(super) const CLEANING_MAY_TAKE: Duration = Duration::from_mins(2);

/// Whose images are removed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    Ours,
    OfAKilledRun,
}

/// How a build ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Known,
    /// The engine may be at its last step still.
    CutShort,
}

impl Whose {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Ours => "this build",
            Self::OfAKilledRun => "a killed run",
        }
    }
}

impl Engine {
    /// Records what this program puts into the engine, from now on, in the engine itself, until all of it is gone.
    pub async fn keep_records(&self) {
        // Our own engine goes with us: there is nothing to find in it later.
        if self.managed.is_none() {
            self.tracker.keep_records(self.client.clone()).await;
        }
    }

    /// Removes what this program has left in the engine: tags of built and of loaded images, and the images of steps,
    /// the youngest first. What others use, or had before us, stays.
    pub async fn clean(&self) {
        self.clean_within(CLEANING_MAY_TAKE).await;
    }

    async fn clean_within(&self, limit: Duration) {
        if let Some(managed) = &self.managed {
            drop(self.tracker.take_left());
            managed.stop().await;
            return;
        }
        let cleaning = async {
            let end = if self.tracker.build().is_some() { End::CutShort } else { End::Known };
            let known = match self.settle_what_was_cut_short().await {
                Ok(known) => known,
                Err(error) => {
                    warn!(
                        "what {} left in the engine stays there: {}",
                        Whose::Ours.words(),
                        ErrorChain(&error).innermost()
                    );
                    return false;
                }
            };
            let left = self.tracker.take_left();
            self.remove_all(&left, Whose::Ours, end).await && known
        };
        if within(limit, cleaning, Whose::Ours).await {
            self.tracker.clear().await;
        }
    }

    /// Finds the images of a build that was stopped, when the engine has ended it. Whether all of them are known.
    async fn settle_what_was_cut_short(&self) -> Result<bool, RemovalError> {
        let Some((begun, told)) = self.tracker.build() else { return Ok(true) };
        if let Some(ended) = self.tracker.take_under_way() {
            // The engine answers when it has ended the step, and has made no image of it, or has.
            let _ = ended.await;
        } else if self.driver.abandoned_build() == AbandonedBuild::GoesOn {
            self.wait_for_quiet(&begun).await;
        }
        let descent = self.own_descent(&begun, &told).await?;
        if descent.is_unclear {
            say_that_it_is_unclear(Whose::Ours);
        } else {
            self.tracker.build_ends(descent.ids, descent.last).await;
        }
        Ok(!descent.is_unclear)
    }

    /// The images of this program's build. Those that are only known by what made them may be of somebody who builds the same.
    async fn own_descent(&self, begun: &StartedBuild, told: &[String]) -> Result<Descent, RemovalError> {
        let mut descent = self.descent(begun, told, 1 + begun.earlier).await?;
        descent.is_unclear |= descent.is_unproven && self.is_being_built(begun).await;
        Ok(descent)
    }

    /// Whether another run builds the same at this moment.
    async fn is_being_built(&self, begun: &StartedBuild) -> bool {
        let own = self.tracker.run().await;
        // Who does not hear of others takes nothing from them.
        let Ok(recorded) = journal::read(&self.client).await else { return true };
        let others = recorded.into_iter().filter(|it| it.lives && Some(&it.run) != own.as_ref());
        others
            .map(|it| CleanupState::of(it.facts))
            .any(|left| left.build.is_some_and(|other| is_same_build(&other, begun)))
    }

    /// Writes down which images a build has made that the engine has ended, well or not.
    pub(in crate::engine) async fn note_what_was_made(&self) {
        let Some((begun, told)) = self.tracker.build() else { return };
        let descent = match self.managed {
            Some(_) => Ok(Descent { last: told.last().cloned(), ..Descent::default() }),
            None => self.own_descent(&begun, &told).await,
        };
        // Where something is in doubt, or the engine says nothing, the build counts as cut short: it is looked at again at the end.
        if let Ok(Descent { ids, last, is_unclear: false, .. }) = descent {
            self.tracker.build_ends(ids, last).await;
        }
    }

    /// Whether nothing is left that another try could remove.
    pub(super) async fn remove_all(&self, left: &CleanupState, whose: Whose, end: End) -> bool {
        let names = left.to_remove();
        let (mut removed, mut done) = (0, true);
        for container in &left.containers {
            done &= self.remove_container(container).await;
        }
        if names.is_empty() {
            return done;
        }
        // An image that somebody has named meanwhile is theirs.
        let foreign = match self.named_by_others(left).await {
            Ok(foreign) => foreign,
            Err(error) => {
                warn!("what {} left in the engine stays there: {}", whose.words(), ErrorChain(&error).innermost());
                return false;
            }
        };
        for name in names.iter().filter(|name| !foreign.iter().any(|id| is_id(id, name))) {
            match self.remove_patiently(name, left, whose, end).await {
                Ok(()) => removed += 1,
                Err(error @ (RemovalError::NotYet | RemovalError::Used)) => debug!("{name}: {error}"),
                // Never made, removed with its tag, or used by somebody else.
                Err(error) if matches!(error.status(), Some(404 | 409)) => debug!("{name} stays: {error}"),
                // The engine is gone, or too ill to answer: once said is enough.
                Err(error) if error.status().is_none() => {
                    warn!("what {} left in the engine stays there: {}", whose.words(), ErrorChain(&error).innermost());
                    return false;
                }
                Err(error) => {
                    warn!("cannot remove {name} from the engine: {error}");
                    done = false;
                }
            }
        }
        if removed > 0 {
            let images = if removed == 1 { "image" } else { "images" };
            info!("removed {removed} {images} of {} from the engine", whose.words());
        }
        done
    }

    async fn remove_patiently(
        &self,
        name: &str,
        left: &CleanupState,
        whose: Whose,
        end: End,
    ) -> Result<(), RemovalError> {
        // An engine goes on with a removal that a killed run had asked for. What is below a kept image stays in use.
        let is_releasable = end == End::CutShort || (whose == Whose::OfAKilledRun && !left.keeps());
        let unpacking = left.unpacks(name);
        let policy = match (unpacking, is_releasable) {
            (Some(bytes), _) => unpacking_of(bytes),
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
                if end == End::CutShort
                    && used.status() == Some(409)
                    && self.driver.abandoned_build() == AbandonedBuild::GoesOn =>
            {
                // The containers of the build's steps go with the images; the command goes on in what was its container.
                warn!(
                    "{} goes on with a step's command although nobody waits for it: removing its image all the same",
                    self.driver.name()
                );
                self.remove(name, true).await
            }
            end => end,
        }
    }

    /// The ids of images that have a name that is not ours.
    async fn named_by_others(&self, left: &CleanupState) -> Result<Vec<String>, RemovalError> {
        let images = self.images().await?;
        let is_ours = |name: &String| is_none(name) || left.given_names().any(|own| is_named(name, own));
        Ok(images.into_iter().filter(|image| !image.repo_tags.iter().all(is_ours)).map(|image| image.id).collect())
    }

    /// Waits until an engine makes no more images of a build that nobody waits for, and with which it goes on. What it makes on top of an image that is gone meanwhile could be anybody's.
    pub(super) async fn wait_for_quiet(&self, begun: &StartedBuild) {
        let (start, mut since, mut seen) = (Instant::now(), Instant::now(), None);
        while since.elapsed() < QUIET && start.elapsed() < RELEASE_WAIT.limit {
            let now = self.descent(begun, &[], 1).await.ok();
            if now != seen {
                (since, seen) = (Instant::now(), now);
            }
            tokio::time::sleep(RELEASE_WAIT.first_pause).await;
        }
    }

    async fn remove(&self, name: &str, force: bool) -> Result<(), RemovalError> {
        // `noprune`: without it the engine would also remove the parents, which can be somebody's build cache.
        let options = RemoveImageOptions { force, noprune: true, ..RemoveImageOptions::default() };
        self.client.remove_image(name, Some(options), None).await.map(drop).map_err(RemovalError::Engine)
    }
}

pub(super) fn say_that_it_is_unclear(whose: Whose) {
    let whose = whose.words();
    warn!("somebody else builds the same: which images of steps are of {whose} is for a later start to see");
}

/// Whether two builds do the same, so that their images look alike.
pub(super) fn is_same_build(one: &StartedBuild, other: &StartedBuild) -> bool {
    one.stages.iter().any(|stage| {
        let first = stage.steps.first();
        first.is_some() && other.stages.iter().any(|it| it.base == stage.base && it.steps.first() == first)
    })
}

pub(super) async fn within(limit: Duration, removing: impl Future<Output = bool>, whose: Whose) -> bool {
    let Ok(done) = tokio::time::timeout(limit, removing).await else {
        let whose = whose.words();
        warn!("the engine has not removed the images of {whose} within {} s: going on", limit.as_secs());
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
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        let _listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let engine = engine_at(&socket);
        engine.tracker.build_begins(StartedBuild { tag: "builder:1234".to_owned(), ..StartedBuild::default() }).await;
        let cleaning = engine.clean_within(Duration::from_millis(100));
        tokio::time::timeout(Duration::from_secs(20), cleaning).await.expect("it ends by itself");
    }

    #[tokio::test]
    async fn who_does_not_hear_whose_names_there_are_removes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let (asks, mut asked) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let length = client.read(&mut request).await.unwrap();
                asks.send(String::from_utf8_lossy(&request[..length]).into_owned()).unwrap();
                let refusal = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                client.write_all(refusal.as_bytes()).await.unwrap();
            }
        });
        let left = CleanupState::of(vec![JournalEvent::Ended(vec!["sha256:00".to_owned()])]);
        assert!(!engine_at(&socket).remove_all(&left, Whose::Ours, End::Known).await);
        let mut seen = 0;
        while let Ok(request) = asked.try_recv() {
            assert!(request.starts_with("GET /"), "{request}");
            seen += 1;
        }
        assert_ne!(seen, 0, "it was asked");
    }
}
