//! The duration of the stages of a job, recorded while they run. The subcommands define the stages.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The stages so far. Clones write into the same list.
#[derive(Clone, Debug)]
pub struct Stages {
    list: Arc<Mutex<Vec<Stage>>>,
    since: Instant,
}

/// A stage that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The name of the stage in the log.
    pub name: &'static str,
    /// When it began for the first time, after the beginning of the job.
    pub began: Duration,
    /// How long it took, all times together.
    pub took: Duration,
}

impl Default for Stages {
    /// The job begins now.
    fn default() -> Self {
        Self { list: Arc::default(), since: Instant::now() }
    }
}

impl Stages {
    /// A stage is over that began at this moment.
    pub fn add(&self, name: &'static str, began: Instant) {
        let Ok(mut stages) = self.list.lock() else { return };
        let took = began.elapsed();
        match stages.iter_mut().find(|stage| stage.name == name) {
            Some(stage) => stage.took += took,
            None => stages.push(Stage { name, began: began.duration_since(self.since), took }),
        }
    }

    /// The finished stages, in the order of their first start.
    #[must_use]
    pub fn so_far(&self) -> Vec<Stage> {
        self.list.lock().map(|stages| stages.clone()).unwrap_or_default()
    }
}
