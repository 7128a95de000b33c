//! How patiently an engine is asked to let go of what a job has left in it, and what it says when it does not. What is to be
//! removed, and in which order, is the cleaning's own affair.

use std::time::Duration;

use bollard::errors::Error;

use crate::net::retry::{Failure, Policy, Retryability};

/// After a build is cut short the engine takes a moment to end the step, and its container uses the step's image.
pub(super) const RELEASE_WAIT: Policy = Policy {
    attempts: 20,
    first_pause: Duration::from_millis(50),
    longest_pause: Duration::from_secs(1),
    limit: Duration::from_secs(15),
    silent: true,
};

/// The engine is at a step that a killed run has begun, or has given it up and never says so. On a disk that others keep busy
/// a step that makes nothing takes up to 20 s.
pub(super) const DRAIN_WAIT: Policy = Policy { attempts: 60, limit: Duration::from_secs(30), ..RELEASE_WAIT };

/// A step without a command takes Podman half a second, on a busy machine a few.
pub(super) const QUIET: Duration = Duration::from_secs(4);

/// An engine that has a whole archive unpacks it to its end, whoever is still there: at 20 MB a second at least. One that has not
/// got the last bytes of it gives up, and nobody hears of that.
pub(super) fn unpacking_of(bytes: u64) -> Policy {
    Policy { attempts: 120, limit: Duration::from_secs(4 + bytes / 20_000_000), ..RELEASE_WAIT }
}

/// A busy Docker answers 500 for a moment, "unrecognized image ID", while others remove images.
pub(super) const SHORT_WAIT: Policy = Policy { attempts: 5, ..RELEASE_WAIT };

/// An image that could not be removed, or is not there yet.
#[derive(Debug, thiserror::Error)]
pub(in crate::engine) enum RemovalError {
    #[error(transparent)]
    Engine(Error),
    /// While others remove images an engine cannot list them: Docker answers 500, and with the containerd image store 404.
    #[error(transparent)]
    Listing(Error),
    #[error("not there yet")]
    NotYet,
    #[error("stays: somebody uses it")]
    Used,
}

impl RemovalError {
    /// What the engine has answered, if it has.
    pub(in crate::engine) fn status(&self) -> Option<u16> {
        match self {
            Self::Engine(Error::DockerResponseServerError { status_code, .. })
            | Self::Listing(Error::DockerResponseServerError { status_code, .. }) => Some(*status_code),
            Self::Engine(_) | Self::Listing(_) | Self::NotYet | Self::Used => None,
        }
    }
}

impl Failure for RemovalError {
    fn retryability(&self) -> Retryability {
        match self.status() {
            Some(409 | 500..) => Retryability::Transient,
            Some(404) if matches!(self, Self::Listing(_)) => Retryability::Transient,
            None if matches!(self, Self::NotYet) => Retryability::Transient,
            _ => Retryability::Permanent,
        }
    }
}
