//! The duration of the stages of a job, recorded while they run. The subcommands define the stages.

use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The stages so far. Clones write into the same list.
#[derive(Clone, Debug, Default)]
pub struct Stages(Arc<Mutex<Vec<Stage>>>);

/// A stage that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The name of the stage in the log.
    pub name: &'static str,
    /// How long it took, all times together.
    pub took: Duration,
}

impl Stages {
    /// A stage is over.
    pub fn add(&self, name: &'static str, took: Duration) {
        let Ok(mut stages) = self.0.lock() else { return };
        match stages.iter_mut().find(|stage| stage.name == name) {
            Some(stage) => stage.took += took,
            None => stages.push(Stage { name, took }),
        }
    }

    /// The finished stages, in the order of their first start.
    #[must_use]
    pub fn so_far(&self) -> Vec<Stage> {
        self.0.lock().map(|stages| stages.clone()).unwrap_or_default()
    }
}
