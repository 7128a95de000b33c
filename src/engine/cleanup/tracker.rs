//! What a job has put into the engine so far: the same facts twice, in memory and as records in the engine, the records first. A
//! fact that is only there costs a look, one that is not there an image. What follows from them is for `left`.

use std::sync::{Arc, Mutex, PoisonError};

use bollard::Docker;
use tokio::sync::oneshot;

use super::journal::{Journal, Run};
use super::state::{CleanupState, JournalEvent, StartedBuild};

/// Shared, so that what is there can be removed after the build's future is dropped.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct ResourceTracker {
    ledger: Arc<Mutex<CleanupLedger>>,
    journal: Arc<tokio::sync::Mutex<Option<Journal>>>,
}

#[derive(Debug, Default)]
struct CleanupLedger {
    left: CleanupState,
    /// The ids at the ends of stages, as the engine has told them.
    told: Vec<String>,
    /// What ends when the engine has ended the build.
    under_way: Option<oneshot::Receiver<()>>,
    /// What the builder has said of images that it pulled, `NAME@sha256:…`. Nothing of them is ours to remove.
    pulled: Vec<String>,
    /// The images of the build's steps, where they are of use.
    steps: Vec<String>,
    /// The image of the last step that succeeded.
    last: Option<String>,
}

impl ResourceTracker {
    /// Records what is done from now on in the engine, until all of it is gone.
    pub(super) async fn keep_records(&self, client: Docker) {
        *self.journal.lock().await = Journal::of_a_job(client);
    }

    /// Takes a fact down.
    pub(in crate::engine) async fn add(&self, fact: JournalEvent) {
        if let Some(journal) = self.journal.lock().await.as_mut() {
            journal.write(&fact).await;
        }
        self.change(|ledger| ledger.left.add(fact));
    }

    pub(super) async fn build_begins(&self, build: StartedBuild) {
        self.change(|ledger| (ledger.told, ledger.steps, ledger.last) = (Vec::new(), Vec::new(), None));
        self.add(JournalEvent::Build(build)).await;
    }

    /// The engine has told the image at a stage's end.
    pub(in crate::engine) fn told(&self, id: String) {
        self.change(|ledger| ledger.told.push(id));
    }

    /// The build goes on in the engine until this ends.
    pub(in crate::engine) fn goes_on_until(&self, ended: oneshot::Receiver<()>) {
        self.change(|ledger| ledger.under_way = Some(ended));
    }

    /// What was begun and what was told of it.
    pub(in crate::engine) fn build(&self) -> Option<(StartedBuild, Vec<String>)> {
        self.change(|ledger| Some((ledger.left.build.clone()?, ledger.told.clone())))
    }

    /// The build has ended with these images.
    pub(super) async fn build_ends(&self, made: Vec<String>, last: Option<String>) {
        self.change(|ledger| (ledger.last, ledger.under_way) = (last, None));
        self.add(JournalEvent::Ended(made)).await;
    }

    pub(in crate::engine) fn take_under_way(&self) -> Option<oneshot::Receiver<()>> {
        self.change(|ledger| ledger.under_way.take())
    }

    pub(super) fn take_left(&self) -> CleanupState {
        self.change(|ledger| std::mem::take(&mut ledger.left))
    }

    /// All that was recorded is done with.
    pub(in crate::engine) async fn clear(&self) {
        if let Some(journal) = self.journal.lock().await.as_mut() {
            journal.clear().await;
        }
    }

    /// Which run's these are, where there are records.
    pub(in crate::engine) async fn run(&self) -> Option<Run> {
        self.journal.lock().await.as_ref().map(|journal| journal.run().clone())
    }

    /// The builder has this base image from a registry.
    pub(in crate::engine) fn pulled(&self, name: &str) {
        self.change(|ledger| ledger.pulled.push(name.to_owned()));
    }

    /// The base images that the builder has from registries.
    pub(in crate::engine) fn all_pulled(&self) -> Vec<String> {
        self.change(|ledger| ledger.pulled.clone())
    }

    /// The build's steps have these images.
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
        // A list that somebody panicked over is still the list of what to remove.
        change(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
