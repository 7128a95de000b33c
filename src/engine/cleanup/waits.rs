//! How long the cleanup waits until an engine releases an image, and what a failed removal means. `clean` and `after_kill`
//! decide what to remove, and in which order.

use std::time::Duration;

use bollard::errors::Error;

use crate::net::retry::{Failure, Policy, Retryability};

/// After an interrupted build the engine takes a moment to end the step, and its container uses the step's image.
pub(super) const RELEASE_WAIT: Policy = Policy {
    attempts: 20,
    first_pause: Duration::from_millis(50),
    longest_pause: Duration::from_secs(1),
    limit: Duration::from_secs(15),
    silent: true,
};

/// The engine may still run a step of a killed run, or has given it up without a sign of that. On a busy disk, a step that
/// makes nothing takes up to 20 s.
pub(super) const DRAIN_WAIT: Policy = Policy { attempts: 60, limit: Duration::from_secs(30), ..RELEASE_WAIT };

/// Podman takes half a second for a step without a command, and a few seconds on a busy machine.
pub(super) const QUIET_PERIOD: Duration = Duration::from_secs(4);

/// An engine that has a whole archive unpacks it to its end, even if the client is gone: at 20 MB a second at least. An
/// engine that has not received the last bytes gives up, without a sign of that.
pub(super) fn unpacking_policy(bytes: u64) -> Policy {
    Policy { attempts: 120, limit: Duration::from_secs(4 + bytes / 20_000_000), ..RELEASE_WAIT }
}

/// While others remove images, a busy Docker answers 500 for a moment: "unrecognized image ID".
pub(super) const SHORT_WAIT: Policy = Policy { attempts: 5, ..RELEASE_WAIT };

/// Why an image could not be removed, or is not there yet.
#[derive(Debug, thiserror::Error)]
pub(in crate::engine) enum RemovalError {
    #[error(transparent)]
    Engine(Error),
    /// An engine cannot list images while others remove some: Docker answers 500, and with the containerd image store 404.
    #[error(transparent)]
    Listing(Error),
    #[error("not there yet")]
    NotYet,
    #[error("stays: somebody uses it")]
    Used,
}

impl RemovalError {
    /// The status of the engine's answer, if there is one.
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
