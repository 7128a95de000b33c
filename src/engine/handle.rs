//! The handle of a running engine: what every request of this program needs. The requests are methods in the files of their
//! topics.

use std::sync::Arc;

use bollard::Docker;

use super::EngineInfo;
use super::build::pulling::Access;
use super::cleanup::tracker::ResourceTracker;
use super::connection::address::Address;
use super::driver::EngineDriver;
use super::managed::Managed;

/// An engine that answers. Clones access the same engine, and share the list of what to remove from it.
#[derive(Clone)]
pub struct Engine {
    pub(super) client: Docker,
    /// Its address.
    pub(super) place: Address,
    /// The settings that builds get.
    pub(super) access: Access,
    pub(super) tracker: ResourceTracker,
    /// The differences of its kind of engine from the others.
    pub(super) driver: &'static dyn EngineDriver,
    pub(super) about: EngineInfo,
    /// The service, if this is a managed engine.
    pub(super) managed: Option<Arc<Managed>>,
}
