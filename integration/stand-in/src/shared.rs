//! What all listeners share: the deployment under its lock, and how each call is logged in it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::response::Response;

use crate::auth::Authentication;
use crate::deployment::Deployment;
use crate::faults::{Failure, is_dropped, take_matching};
use crate::log::Call;

/// What all listeners share.
pub(crate) struct Shared {
    deployment: Mutex<Deployment>,
    /// URLs of the proxies that listen, by task and run.
    pub(crate) proxies: Mutex<BTreeMap<(String, u32), String>>,
}

impl Shared {
    pub(crate) fn new(deployment: Deployment) -> Self {
        Self { deployment: Mutex::new(deployment), proxies: Mutex::default() }
    }

    /// The deployment, for as long as nothing is awaited.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Deployment> {
        // An assertion that failed under the lock has been reported by itself.
        self.deployment.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs a call, and finds the fault that is scripted for it.
    pub(crate) fn begin(&self, mut call: Call) -> (usize, Option<Failure>) {
        let mut deployment = self.lock();
        let path = call.path.split('?').next().unwrap_or_default();
        let failure = take_matching(&mut deployment.faults, &call.name, path);
        call.fault = failure.as_ref().map(|failure| format!("{failure:?}"));
        (deployment.log.begin(call), failure)
    }

    /// Completes the log of a call.
    pub(crate) fn end(&self, id: usize, response: &Response) {
        let mut deployment = self.lock();
        let on_call = deployment.options.on_call.clone();
        let call = deployment.log.end(id, |call| {
            call.status = (!is_dropped(response)).then(|| response.status().as_u16());
            if let Some(known) = response.extensions().get::<Authentication>().cloned() {
                (call.client_id, call.required_scopes) = (known.client_id, known.required_scopes);
            }
        });
        let call = call.cloned();
        drop(deployment);
        if let (Some(call), Some(on_call)) = (call, on_call) {
            on_call(&call);
        }
    }
}
