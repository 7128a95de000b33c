//! Compares the scopes of a job with those that it needs before any work starts: a missing one ends it after a second, not after
//! its build. If they cannot be queried, the job goes on: then each call reports what it lacks.

use std::time::Duration;

use tokio::time::timeout;
use tracing::{info, warn};

use super::CommandError;
use super::publish::{PublishError, Start};
use crate::config::plan::{Identity, Need, NeededScope};
use crate::config::{Config, Destination, Reuse};
use crate::decision::lookup::LookupError;
use crate::net::NameError;
use crate::report::{ErrorChain, Hint};
use crate::taskcluster::auth::Scopes;
use crate::taskcluster::{CallErrorKind, Services};

/// The time limit for the auth service, with all attempts: its answer only saves time.
const PATIENCE: Duration = Duration::from_secs(10);

/// The consequence of unknown scopes.
const UNKNOWN: &str = "whether all scopes are there is not known before they are needed";

/// Scopes that a job needs and does not have.
#[derive(Debug, thiserror::Error)]
#[error(
        "{}{}",
        if .0.len() == 1 { "a scope is missing".to_owned() } else { format!("{} scopes are missing", .0.len()) },
        Hint(format_args!("add {} to the task's scopes, as worker-config/scopes.yml says: {}", if .0.len() == 1 { "it" } else { "them" }, self.lines().join(", ")))
    )]
pub struct MissingScopes(pub(crate) Vec<NeededScope>);

impl MissingScopes {
    /// A line for each, with the call that would be refused: the error line may have no room for all.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.iter().map(NeededScope::to_string).collect()
    }
}

/// The scopes of a job that publishes; none if they cannot be queried. Other jobs' calls are refused before their builds.
pub(crate) async fn current(config: &Config, services: Option<&Services>) -> Option<Scopes> {
    let services = services.filter(|_| config.destination == Destination::Task)?;
    match timeout(PATIENCE, services.auth.current_scopes()).await {
        Ok(Ok(scopes)) => Some(scopes),
        // The scope is not granted, or the deployment is older than the call.
        Ok(Err(error))
            if error.is_unknown_call || matches!(error.kind, CallErrorKind::Refused | CallErrorKind::Gone) =>
        {
            info!("{UNKNOWN}: {error}");
            None
        }
        Ok(Err(error)) => {
            warn!("{UNKNOWN}: {}", ErrorChain(&error));
            None
        }
        Err(_) => {
            warn!("{UNKNOWN}: the auth service has not answered within {} s", PATIENCE.as_secs());
            None
        }
    }
}

/// Whether all scopes of a build count after this look-up: if the image is missing; and if the look-up was refused, so that all
/// missing scopes are reported at once.
pub(crate) fn builds(start: &Result<Start, PublishError>) -> bool {
    match start {
        Ok(start) => start.found.is_none(),
        Err(PublishError::Call(error) | PublishError::Lookup(LookupError::Call(error))) => {
            error.kind == CallErrorKind::Refused
        }
        Err(_) => false,
    }
}

/// The scopes that a job can need and does not have.
pub(crate) fn missing(config: &Config, identity: &Identity, held: &Scopes) -> Result<Vec<NeededScope>, NameError> {
    let needed = config.plan.needed_scopes(identity, &config.central, config.reuse == Reuse::Nothing)?;
    Ok(needed.into_iter().filter(|it| !held.satisfy(&it.scope)).collect())
}

/// Refuses a job that lacks scopes: of those that each job needs, or of all where it builds.
pub(crate) fn compare(
    config: &Config,
    identity: Option<&Identity>,
    held: Option<&Scopes>,
    builds: bool,
) -> Result<(), CommandError> {
    let (Some(identity), Some(held)) = (identity, held) else { return Ok(()) };
    let (perhaps, missing): (Vec<_>, Vec<_>) =
        missing(config, identity, held)?.into_iter().partition(|it| it.need == Need::Perhaps);
    if missing.iter().any(|it| builds || it.need == Need::Always) {
        return Err(MissingScopes(missing).into());
    }
    for it in perhaps.iter().filter(|_| builds) {
        warn!("a scope is missing, and an image that turns out to need it is not published: {it}");
    }
    Ok(())
}
