//! What killed runs have left in an engine, by their records: which run is dead, when its engine has ended what it was at, and
//! what must not be touched because a live run uses it.

use std::time::{Duration, Instant};

use bollard::query_parameters::ListContainersOptions;
use tracing::{debug, warn};

use super::clean::{CLEANING_MAY_TAKE, End, Whose, is_same_build, say_that_it_is_unclear, within};
use super::descent::{Descent, is_id};
use super::journal::{self, Journal, Recorded, Run};
use super::made_by::is_made_by;
use super::state::{CleanupState, JournalEvent, StartedBuild};
use super::waits::{DRAIN_WAIT, RemovalError};
use crate::engine::Engine;
use crate::engine::EngineConfig;
use crate::engine::connection::address::Address;
use crate::engine::connection::find;
use crate::engine::driver::AbandonedBuild;
use crate::report::ErrorChain;

/// Looking for records is not what a start is for: it does not wait long for an engine.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// A container that is about to be made, or was just removed, is in no list.
const BETWEEN_LOOKS: Duration = Duration::from_millis(300);

/// So long a busy engine takes from one step to the container of the next, before it knows that its client is gone.
const BETWEEN_STEPS: Duration = Duration::from_secs(4);

/// Killed runs of which the engine can still be at a step.
#[derive(Debug)]
pub struct Waiting {
    runs: Vec<Run>,
    /// When they were seen to be dead.
    since: Instant,
}

impl Engine {
    /// Removes what killed runs have left in the engine, by their records. Where the engine can still be at a step of such a
    /// run, nothing of it is removed yet: the image of a step whose base is removed meanwhile has none, and nobody knows whose
    /// it is. Those are given, to be removed `at_last`, when they have been seen for a while.
    pub async fn remove_what_killed_runs_left(config: &EngineConfig, at_last: Option<Waiting>) -> Option<Waiting> {
        for place in find::places(config) {
            // The engine that is connected to says what is wrong with its certificates.
            let Ok(address) = Address::new(&place) else { continue };
            match tokio::time::timeout(ANSWERS_WITHIN, Self::at(address, config)).await {
                Ok(Ok(engine)) => return engine.remove_what_is_recorded(at_last).await,
                Ok(Err(refused)) => {
                    debug!("nobody is asked at {} what killed runs have left: {}", place.url, refused.why);
                }
                Err(_) => {}
            }
        }
        None
    }

    async fn remove_what_is_recorded(&self, at_last: Option<Waiting>) -> Option<Waiting> {
        let recorded = match journal::read(&self.client).await {
            Ok(recorded) => recorded,
            Err(error) => {
                warn!("the engine does not say what killed runs have left in it: {}", ErrorChain(&error).innermost());
                return None;
            }
        };
        let since = at_last.as_ref().map_or_else(Instant::now, |waiting| waiting.since);
        let mut waiting = Vec::new();
        for dead in recorded.iter().filter(|it| !it.lives) {
            let left = CleanupState::of(dead.facts.clone());
            match &at_last {
                None if left.build.is_some() => {
                    waiting.push(dead.run.clone());
                    continue;
                }
                // Who has died meanwhile is for the next start.
                Some(waiting) if !waiting.runs.contains(&dead.run) => continue,
                _ => {}
            }
            let removing = self.remove_of_a_killed_run(left, &recorded, since);
            if within(CLEANING_MAY_TAKE, removing, Whose::OfAKilledRun).await {
                journal::remove(&self.client, &dead.volumes).await;
            }
        }
        (!waiting.is_empty()).then_some(Waiting { runs: waiting, since })
    }

    async fn remove_of_a_killed_run(&self, mut left: CleanupState, recorded: &[Recorded], seen: Instant) -> bool {
        let mut end = End::Known;
        if let Some(begun) = left.build.clone() {
            end = End::CutShort;
            // Dead runs of the same build have left images that look alike: as many as there are runs.
            let dead_runs =
                recorded.iter().filter(|it| !it.lives).filter_map(|it| CleanupState::of(it.facts.clone()).build);
            let alike = dead_runs.filter(|build| is_same_build(build, &begun));
            let runs = alike.map(|build| 1 + build.earlier).sum();
            match self.settled(&begun, left.given, runs, seen).await {
                Ok(Descent { ids, is_unclear: false, .. }) => left.add(JournalEvent::Ended(ids)),
                Ok(_) => {
                    say_that_it_is_unclear(Whose::OfAKilledRun);
                    return false;
                }
                Err(error) => {
                    warn!("what a killed run left in the engine stays there: {}", ErrorChain(&error).innermost());
                    return false;
                }
            }
        }
        // Who begins something waits for who says this; who has begun something is heard of afterwards. So nobody takes into use what
        // is removed here: also images that have the same id whoever makes them, as those that are restored from a cache.
        let Some(mut journal) = Journal::of_a_cleanup(self.client.clone()) else { return false };
        journal.write(&JournalEvent::Sweeps).await;
        let is_free = journal.is_whole() && !self.is_in_use(&left).await;
        let done = if is_free {
            self.remove_all(&left, Whose::OfAKilledRun, end).await
        } else {
            debug!("what a killed run has left is in use by another: it stays for now");
            false
        };
        journal.clear().await;
        done
    }

    /// Waits until nobody removes what killed runs have left: what is begun now could use it.
    pub(in crate::engine) async fn wait_for_sweeps(&self) {
        let start = Instant::now();
        while start.elapsed() < CLEANING_MAY_TAKE {
            let recorded = journal::read(&self.client).await.unwrap_or_default();
            if !recorded.into_iter().any(|it| it.lives && CleanupState::of(it.facts).sweeps) {
                break;
            }
            tokio::time::sleep(DRAIN_WAIT.first_pause).await;
        }
    }

    /// Whether a live run builds the same as a dead one, or gives a name that it has given.
    async fn is_in_use(&self, left: &CleanupState) -> bool {
        let Ok(recorded) = journal::read(&self.client).await else { return true };
        recorded.into_iter().filter(|it| it.lives).map(|it| CleanupState::of(it.facts)).any(|alive| {
            let is_same =
                alive.build.as_ref().zip(left.begun.as_ref()).is_some_and(|(it, ours)| is_same_build(it, ours));
            let loads = alive.is_loading && left.has_loaded();
            is_same || loads || alive.given_names().any(|name| left.given_names().any(|given| given == name))
        })
    }

    /// The images of a build whose program was killed, when the engine has ended the step that it was at.
    async fn settled(
        &self,
        begun: &StartedBuild,
        given: Option<u64>,
        runs: usize,
        seen: Instant,
    ) -> Result<Descent, RemovalError> {
        // An engine can begin before it has the last bytes, which may be padding.
        let bytes = given.unwrap_or_default();
        if self.driver.abandoned_build() == AbandonedBuild::GoesOn {
            self.wait_for_quiet(begun).await;
            return self.descent(begun, &[], runs).await;
        }
        let mut since = Instant::now();
        loop {
            let descent = self.descent(begun, &[], runs).await?;
            let Some((instruction, at)) = &descent.next else { return Ok(descent) };
            if self.is_at(instruction, at, &descent.shells).await {
                since = Instant::now();
            }
            let is_calm = since.elapsed() >= BETWEEN_LOOKS && seen.elapsed() >= BETWEEN_STEPS;
            if seen.elapsed() >= may_take(instruction, bytes) || is_calm {
                return Ok(descent);
            }
            tokio::time::sleep(DRAIN_WAIT.first_pause).await;
        }
    }

    /// Whether the engine is at a step, of a build that nobody waits for. A command is ended at once, and what it has done is an
    /// image when its container is gone; files are copied to the end, and nothing tells of it.
    async fn is_at(&self, instruction: &str, at: &str, shells: &[String]) -> bool {
        if is_copying(instruction) {
            return true;
        }
        let all = ListContainersOptions { all: true, ..ListContainersOptions::default() };
        let containers = self.client.list_containers(Some(all)).await.unwrap_or_default();
        containers.iter().any(|container| {
            let image = container.image_id.as_deref().unwrap_or_default();
            // Its words are in quotes where they have spaces.
            let command = container.command.as_deref().unwrap_or_default().replace('\'', "");
            (at.is_empty() || is_id(image, at)) && is_made_by(&command, instruction, shells)
        })
    }
}

fn is_copying(instruction: &str) -> bool {
    instruction.starts_with("COPY ") || instruction.starts_with("ADD ")
}

/// How long the engine can be at a step after a kill. Files of the context are copied at 10 MB a second at least, with time for a
/// busy disk to begin; how large others are nobody knows.
fn may_take(instruction: &str, context: u64) -> Duration {
    let is_from_elsewhere = instruction.contains("--from") || instruction.contains("://");
    if is_copying(instruction) && !is_from_elsewhere {
        BETWEEN_STEPS + Duration::from_secs(context / 10_000_000)
    } else {
        DRAIN_WAIT.limit
    }
}
