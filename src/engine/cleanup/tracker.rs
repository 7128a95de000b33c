//! Keeps track of what a job has put into the engine: the same events in memory and as records in the engine. A record is
//! written before the event takes effect: a record too many costs one look at the next start, a missing one leaves an image
//! behind. `state` computes what follows from the events.

use std::sync::{Arc, Mutex, PoisonError};

use bollard::Docker;
use tokio::sync::oneshot;

use super::journal::{Journal, Run};
use super::state::{CleanupState, JournalEvent, StartedBuild};

/// Shared, so that resources can be removed after the build's future is dropped.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct ResourceTracker {
    ledger: Arc<Mutex<CleanupLedger>>,
    journal: Arc<tokio::sync::Mutex<Option<Journal>>>,
}

/// A build that has begun, and whose images are not known yet.
pub(in crate::engine) struct CurrentBuild {
    pub(in crate::engine) started: StartedBuild,
    /// The image ids that the engine has reported for it.
    pub(in crate::engine) reported: Vec<String>,
}

#[derive(Debug, Default)]
struct CleanupLedger {
    state: CleanupState,
    /// The image ids at the ends of stages, as the engine has reported them.
    reported: Vec<String>,
    /// Completes when the engine has ended the build.
    build_end: Option<oneshot::Receiver<()>>,
    /// The base images that the builder has pulled, as `NAME@sha256:…`. The cleanup never removes them.
    pulled: Vec<String>,
    /// The images of the build's steps, if they are needed later.
    steps: Vec<String>,
    /// The image of the last step that succeeded.
    last: Option<String>,
}

impl ResourceTracker {
    /// From now on, records events in the engine, until all resources are removed.
    pub(super) async fn keep_records(&self, client: Docker) {
        *self.journal.lock().await = Journal::for_job(client);
    }

    /// Records an event.
    pub(in crate::engine) async fn add(&self, event: JournalEvent) {
        if let Some(journal) = self.journal.lock().await.as_mut() {
            journal.write(&event).await;
        }
        self.change(|ledger| ledger.state.add(event));
    }

    pub(super) async fn build_begins(&self, build: StartedBuild) {
        self.change(|ledger| (ledger.reported, ledger.steps, ledger.last) = (Vec::new(), Vec::new(), None));
        self.add(JournalEvent::Build(build)).await;
    }

    /// Adds an image that the engine has reported at a stage's end.
    pub(in crate::engine) fn add_reported(&self, id: String) {
        self.change(|ledger| ledger.reported.push(id));
    }

    /// The build continues in the engine until `ended` completes.
    pub(in crate::engine) fn goes_on_until(&self, ended: oneshot::Receiver<()>) {
        self.change(|ledger| ledger.build_end = Some(ended));
    }

    /// The current build.
    pub(in crate::engine) fn build(&self) -> Option<CurrentBuild> {
        self.change(|ledger| {
            let started = ledger.state.build.clone()?;
            Some(CurrentBuild { started, reported: ledger.reported.clone() })
        })
    }

    /// The build has ended with these images.
    pub(super) async fn build_ends(&self, made: Vec<String>, last: Option<String>) {
        self.change(|ledger| (ledger.last, ledger.build_end) = (last, None));
        self.add(JournalEvent::Ended(made)).await;
    }

    pub(in crate::engine) fn take_under_way(&self) -> Option<oneshot::Receiver<()>> {
        self.change(|ledger| ledger.build_end.take())
    }

    pub(super) fn take_state(&self) -> CleanupState {
        self.change(|ledger| std::mem::take(&mut ledger.state))
    }

    /// Removes all records: nothing is left to clean up.
    pub(in crate::engine) async fn clear(&self) {
        if let Some(journal) = self.journal.lock().await.as_mut() {
            journal.clear().await;
        }
    }

    /// The run that these records belong to, if there are records.
    pub(in crate::engine) async fn run(&self) -> Option<Run> {
        self.journal.lock().await.as_ref().map(|journal| journal.run().clone())
    }

    /// The builder has pulled this base image from a registry.
    pub(in crate::engine) fn pulled(&self, name: &str) {
        self.change(|ledger| ledger.pulled.push(name.to_owned()));
    }

    /// The base images that the builder has pulled from registries.
    pub(in crate::engine) fn all_pulled(&self) -> Vec<String> {
        self.change(|ledger| ledger.pulled.clone())
    }

    /// These are the images of the build's steps.
    pub(in crate::engine) fn has_steps(&self, steps: Vec<String>) {
        self.change(|ledger| ledger.steps = steps);
    }

    /// The images of the build's steps.
    pub(in crate::engine) fn steps(&self) -> Vec<String> {
        self.change(|ledger| ledger.steps.clone())
    }

    /// The image of the last step that succeeded.
    pub(in crate::engine) fn last(&self) -> Option<String> {
        self.change(|ledger| ledger.last.clone())
    }

    fn change<T>(&self, change: impl FnOnce(&mut CleanupLedger) -> T) -> T {
        // After a panic elsewhere, the list is still the list of what to remove.
        change(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
