//! Whether an artifact that a job needs still exists, and its expiry, or when it expired. For subcommands about existing tasks;
//! `run` itself just downloads.

use std::fmt;

use jiff::Timestamp;

use crate::taskcluster::{ArtifactName, CallError, CallErrorKind, Services, TaskId};

/// Where an artifact is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArtifactStatus {
    /// It can be read.
    There {
        /// For so long.
        until: Timestamp,
    },
    /// It could be read.
    Expired {
        /// Until then.
        at: Timestamp,
    },
    /// The task lives, and its latest run has no such artifact.
    Missing,
    /// The queue does not have the task any more: it expired, with all its artifacts.
    TaskForgotten,
    /// The credentials do not allow the query.
    Unknown,
}

impl ArtifactStatus {
    /// Queries an artifact of the task's latest run, which is the one that a job downloads from.
    pub async fn of(
        services: &Services,
        task: &TaskId,
        name: &ArtifactName,
        now: Timestamp,
    ) -> Result<Self, CallError> {
        match services.queue.latest_artifact_expires(task, name).await {
            Ok(Some(until)) if until > now => return Ok(Self::There { until }),
            Ok(Some(at)) => return Ok(Self::Expired { at }),
            Ok(None) => {}
            Err(error) if error.kind == CallErrorKind::Refused => return Ok(Self::Unknown),
            Err(error) => return Err(error),
        }
        // The queue forgets artifacts some time after they expired, tasks later.
        let Some(definition) = services.queue.definition(task).await? else { return Ok(Self::TaskForgotten) };
        let expires: Option<Timestamp> = definition["expires"].as_str().and_then(|time| time.parse().ok());
        Ok(match expires.filter(|expires| *expires <= now) {
            Some(at) => Self::Expired { at },
            None => Self::Missing,
        })
    }

    /// Whether the artifact certainly cannot be read.
    #[must_use]
    pub fn is_gone(self) -> bool {
        matches!(self, Self::Expired { .. } | Self::Missing | Self::TaskForgotten)
    }

    /// When it expires or expired, where that is known.
    #[must_use]
    pub fn expires(self) -> Option<Timestamp> {
        match self {
            Self::There { until: at } | Self::Expired { at } => Some(at),
            Self::Missing | Self::TaskForgotten | Self::Unknown => None,
        }
    }
}

impl fmt::Display for ArtifactStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::There { until } => write!(f, "is there until {until:.0}"),
            Self::Expired { at } => write!(f, "expired at {at:.0}"),
            Self::Missing => f.write_str("is not in the task's latest run"),
            Self::TaskForgotten => f.write_str("is gone: the task has expired and is forgotten"),
            Self::Unknown => f.write_str("may be there: the credentials do not allow to ask"),
        }
    }
}
