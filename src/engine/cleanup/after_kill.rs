//! Removes what killed runs have left in an engine, according to their records: which run is dead, when the engine has ended
//! its last step, and what must stay because a live run uses it. `clean` removes the images themselves.

use std::time::{Duration, Instant};

use bollard::query_parameters::ListContainersOptions;
use tracing::{debug, warn};

use super::clean::{BuildEnd, CLEANUP_TIMEOUT, ImageOwner, is_same_build, warn_ambiguous_images, within};
use super::descent::{Descent, is_id};
use super::journal::{self, Journal, RecordedRun, Run};
use super::made_by::is_made_by;
use super::state::{CleanupState, JournalEvent, StartedBuild};
use super::waits::{DRAIN_WAIT, RemovalError};
use crate::engine::Engine;
use crate::engine::EngineConfig;
use crate::engine::connection::address::Address;
use crate::engine::connection::find;
use crate::engine::driver::AbandonedBuild;
use crate::report::ErrorChain;

/// The time limit for connecting to an engine. The start of a run only checks for records, so it does not wait long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A container that is about to be created, or was just removed, is in no list for about this time.
const CONTAINER_GAP: Duration = Duration::from_millis(300);

/// A busy engine takes this long from one step to the container of the next, before it notices that its client is gone.
const STEP_GAP: Duration = Duration::from_secs(4);

/// Killed runs whose build step the engine may still run.
#[derive(Debug)]
pub struct Waiting {
    runs: Vec<Run>,
    /// When they were found dead.
    since: Instant,
}

impl Engine {
    /// Removes what killed runs have left in the engine, according to their records. A run whose build step the engine may
    /// still run is skipped and returned in [`Waiting`]: if the base of a step's image is removed meanwhile, the image has no
    /// parent, and nobody can tell whose it is. The caller passes these runs as `previous` some time later, and then they are
    /// removed.
    pub async fn remove_what_killed_runs_left(config: &EngineConfig, previous: Option<Waiting>) -> Option<Waiting> {
        for place in find::places(config) {
            // The connection to the job's engine reports problems with its certificates.
            let Ok(address) = Address::new(&place) else { continue };
            match tokio::time::timeout(CONNECT_TIMEOUT, Self::at(address, config)).await {
                Ok(Ok(engine)) => return engine.remove_killed_runs(previous).await,
                Ok(Err(refused)) => {
                    debug!("nobody is asked at {} what killed runs have left: {}", place.url, refused.why);
                }
                Err(_) => {}
            }
        }
        None
    }

    async fn remove_killed_runs(&self, previous: Option<Waiting>) -> Option<Waiting> {
        let records = match journal::read(&self.client).await {
            Ok(records) => records,
            Err(error) => {
                warn!("the engine does not say what killed runs have left in it: {}", ErrorChain(&error).innermost());
                return None;
            }
        };
        let since = previous.as_ref().map_or_else(Instant::now, |waiting| waiting.since);
        let mut waiting = Vec::new();
        for dead in records.iter().filter(|it| !it.is_alive) {
            let state = CleanupState::of(dead.events.clone());
            match &previous {
                None if state.build.is_some() => {
                    waiting.push(dead.run.clone());
                    continue;
                }
                // Runs that have died in the meantime are left to the next start.
                Some(waiting) if !waiting.runs.contains(&dead.run) => continue,
                _ => {}
            }
            let removing = self.remove_killed_run(state, &records, since);
            if within(CLEANUP_TIMEOUT, removing, ImageOwner::KilledRun).await {
                journal::remove(&self.client, &dead.volumes).await;
            }
        }
        (!waiting.is_empty()).then_some(Waiting { runs: waiting, since })
    }

    async fn remove_killed_run(&self, mut state: CleanupState, records: &[RecordedRun], dead_since: Instant) -> bool {
        let mut end = BuildEnd::Known;
        if let Some(started) = state.build.clone() {
            end = BuildEnd::Interrupted;
            // Dead runs of the same build have left images that look alike: as many as there are runs.
            let dead_runs =
                records.iter().filter(|it| !it.is_alive).filter_map(|it| CleanupState::of(it.events.clone()).build);
            let alike = dead_runs.filter(|build| is_same_build(build, &started));
            let runs = alike.map(|build| 1 + build.earlier).sum();
            match self.wait_for_descent(&started, state.context_bytes, runs, dead_since).await {
                Ok(Descent { ids, is_unclear: false, .. }) => state.add(JournalEvent::Ended(ids)),
                Ok(_) => {
                    warn_ambiguous_images(ImageOwner::KilledRun);
                    return false;
                }
                Err(error) => {
                    warn!("what a killed run left in the engine stays there: {}", ErrorChain(&error).innermost());
                    return false;
                }
            }
        }
        // A run that starts waits while this event is recorded; a run that has started before is visible in the records read
        // next. So nobody starts to use what is removed here, not even images whose ids are the same for everybody, like
        // those that are restored from a cache.
        let Some(mut journal) = Journal::for_cleanup(self.client.clone()) else { return false };
        journal.write(&JournalEvent::Sweeps).await;
        let is_free = journal.is_whole() && !self.is_in_use(&state).await;
        let done = if is_free {
            self.remove_all(&state, ImageOwner::KilledRun, end).await
        } else {
            debug!("what a killed run has left is in use by another: it stays for now");
            false
        };
        journal.clear().await;
        done
    }

    /// Waits until no run removes what killed runs have left: a build or a load that starts now could use it.
    pub(in crate::engine) async fn wait_for_other_cleanups(&self) {
        let start = Instant::now();
        while start.elapsed() < CLEANUP_TIMEOUT {
            let records = journal::read(&self.client).await.unwrap_or_default();
            if !records.into_iter().any(|it| it.is_alive && CleanupState::of(it.events).is_removing) {
                break;
            }
            tokio::time::sleep(DRAIN_WAIT.first_pause).await;
        }
    }

    /// Whether a live run builds the same as a dead one, loads an image, or uses a name that the dead one has given.
    async fn is_in_use(&self, state: &CleanupState) -> bool {
        let Ok(records) = journal::read(&self.client).await else { return true };
        records.into_iter().filter(|it| it.is_alive).map(|it| CleanupState::of(it.events)).any(|alive| {
            let is_same =
                alive.build.as_ref().zip(state.latest_build.as_ref()).is_some_and(|(it, ours)| is_same_build(it, ours));
            let loads = alive.is_loading && state.has_loaded();
            is_same || loads || alive.own_names().any(|name| state.own_names().any(|own| own == name))
        })
    }

    /// Waits until the engine has ended the last step of a killed run's build, and finds the images of that build.
    async fn wait_for_descent(
        &self,
        started: &StartedBuild,
        context_bytes: Option<u64>,
        runs: usize,
        dead_since: Instant,
    ) -> Result<Descent, RemovalError> {
        // An engine can start before it has the last bytes, which may be padding.
        let bytes = context_bytes.unwrap_or_default();
        if self.driver.abandoned_build() == AbandonedBuild::GoesOn {
            self.wait_for_quiet(started).await;
            return self.descent(started, &[], runs).await;
        }
        let mut since = Instant::now();
        loop {
            let descent = self.descent(started, &[], runs).await?;
            let Some((instruction, base)) = &descent.next else { return Ok(descent) };
            if self.is_running_step(instruction, base, &descent.shells).await {
                since = Instant::now();
            }
            let is_calm = since.elapsed() >= CONTAINER_GAP && dead_since.elapsed() >= STEP_GAP;
            if dead_since.elapsed() >= step_time_limit(instruction, bytes) || is_calm {
                return Ok(descent);
            }
            tokio::time::sleep(DRAIN_WAIT.first_pause).await;
        }
    }

    /// Whether the engine runs this step of an abandoned build. It ends a command at once, and the command's image exists
    /// when its container is gone; it copies files to the end, without a sign of that.
    async fn is_running_step(&self, instruction: &str, base: &str, shells: &[String]) -> bool {
        if is_copying(instruction) {
            return true;
        }
        let all = ListContainersOptions { all: true, ..ListContainersOptions::default() };
        let containers = self.client.list_containers(Some(all)).await.unwrap_or_default();
        containers.iter().any(|container| {
            let image = container.image_id.as_deref().unwrap_or_default();
            // The engine quotes words that contain spaces.
            let command = container.command.as_deref().unwrap_or_default().replace('\'', "");
            (base.is_empty() || is_id(image, base)) && is_made_by(&command, instruction, shells)
        })
    }
}

fn is_copying(instruction: &str) -> bool {
    instruction.starts_with("COPY ") || instruction.starts_with("ADD ")
}

/// How long the engine can run a step after a kill. It copies files of the context at 10 MB a second at least, plus time for
/// a busy disk to start; the size of other files is unknown.
fn step_time_limit(instruction: &str, context: u64) -> Duration {
    let is_from_elsewhere = instruction.contains("--from") || instruction.contains("://");
    if is_copying(instruction) && !is_from_elsewhere {
        STEP_GAP + Duration::from_secs(context / 10_000_000)
    } else {
        DRAIN_WAIT.limit
    }
}
