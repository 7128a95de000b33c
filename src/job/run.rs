//! What every stage of a run of the image task's job has.

use std::time::Instant;

use jiff::Timestamp;

use super::publish::Publisher;
use super::shutdown::Shutdown;
use crate::config::Config;
use crate::net::transfer::Storage;
use crate::report::Report;
use crate::taskcluster::Services;

/// One run.
pub(crate) struct Run<'a> {
    /// The configuration of the run.
    pub(crate) config: &'a Config,
    pub(crate) clock: Clock,
    pub(crate) stop: &'a Shutdown,
    pub(crate) report: &'a Report,
    pub(crate) storage: &'a Storage,
    /// None for a dry run without a deployment.
    pub(crate) services: Option<&'a Services>,
    pub(crate) publisher: &'a Publisher,
}

/// The wall clock at the start, and a steady one since.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) started_at: Timestamp,
    pub(crate) since: Instant,
}

impl Clock {
    /// Clocks can be set back meanwhile, and nothing ends before it began.
    pub(crate) fn now(&self) -> Timestamp {
        self.started_at.saturating_add(self.since.elapsed()).unwrap_or(self.started_at)
    }
}
