//! The scopes of a job, compared with those that it needs before anything is begun: a missing one ends it after a second, not
//! after its build. Where they cannot be asked for, the job goes on: then each call says what it lacks.

use std::time::Duration;

use tokio::time::timeout;
use tracing::{info, warn};

use super::CommandError;
use super::publish::{PublishError, Start};
use crate::config::plan::{Identity, Need, NeededScope};
use crate::config::{Config, Destination};
use crate::decision::lookup::LookupError;
use crate::report::ErrorChain;
use crate::taskcluster::auth::Scopes;
use crate::taskcluster::{CallErrorKind, Services};

/// How long the auth service may take, with all tries: what it says only saves time.
const PATIENCE: Duration = Duration::from_secs(10);

/// What follows where nobody says which scopes there are.
const UNKNOWN: &str = "whether all scopes are there is not known before they are needed";

/// Scopes that a job needs and does not have.
#[derive(Debug, thiserror::Error)]
#[error(
    "{}; add {} to the task's scopes, as worker-config/scopes.yml says: {}",
    if .0.len() == 1 { "a scope is missing".to_owned() } else { format!("{} scopes are missing", .0.len()) },
    if .0.len() == 1 { "it" } else { "them" },
    self.lines().join(", ")
)]
pub struct MissingScopes(Vec<NeededScope>);

impl MissingScopes {
    /// A line for each, with the call that would be refused: the error line may have no room for all.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.iter().map(NeededScope::to_string).collect()
    }
}

/// The scopes of a job that publishes; none where they cannot be asked for. What other jobs need is refused before their
/// builds, by the calls themselves.
pub(crate) async fn current(config: &Config, services: Option<&Services>) -> Option<Scopes> {
    let services = services.filter(|_| config.destination == Destination::Task)?;
    match timeout(PATIENCE, services.auth.current_scopes()).await {
        Ok(Ok(scopes)) => Some(scopes),
        // Nobody grants it, or the deployment is older than the call.
        Ok(Err(error)) if matches!(error.fault, CallErrorKind::Refused | CallErrorKind::Gone) => {
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

/// Whether all scopes of a build count after this look-up: where the image is not there; and where the look-up was refused, so
/// that all that is missing is told at once.
pub(crate) fn builds(start: &Result<Start, PublishError>) -> bool {
    match start {
        Ok(start) => start.found.is_none(),
        Err(PublishError::Call(error) | PublishError::Lookup(LookupError::Call(error))) => {
            error.fault == CallErrorKind::Refused
        }
        Err(_) => false,
    }
}

/// Refuses a job that lacks scopes: of those that each job needs, or of all where it builds.
pub(crate) fn compare(
    config: &Config,
    identity: Option<&Identity>,
    held: Option<&Scopes>,
    builds: bool,
) -> Result<(), CommandError> {
    let (Some(identity), Some(held)) = (identity, held) else { return Ok(()) };
    let needed = config.plan.needed_scopes(identity, &config.central, config.force)?;
    let (perhaps, missing): (Vec<_>, Vec<_>) =
        needed.into_iter().filter(|it| !held.satisfy(&it.scope)).partition(|it| it.need == Need::Perhaps);
    if missing.iter().any(|it| builds || it.need == Need::Always) {
        return Err(MissingScopes(missing).into());
    }
    for it in perhaps.iter().filter(|_| builds) {
        warn!("a scope is missing, and an image that turns out to need it is not published: {it}");
    }
    Ok(())
}
