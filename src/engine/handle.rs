//! An engine that answers: what every request of this program needs. What is asked of it is in the files of its topics.

use std::sync::Arc;

use bollard::Docker;

use super::EngineInfo;
use super::build::pulling::Access;
use super::cleanup::tracker::ResourceTracker;
use super::connection::address::Address;
use super::driver::EngineDriver;
use super::managed::Managed;

/// An engine that answers. Clones speak with the same one, and share what is to be removed from it.
#[derive(Clone)]
pub struct Engine {
    pub(super) client: Docker,
    /// Where it answers.
    pub(super) place: Address,
    /// What builds are given.
    pub(super) access: Access,
    pub(super) tracker: ResourceTracker,
    /// How its kind of engine differs from the others.
    pub(super) driver: &'static dyn EngineDriver,
    pub(super) about: EngineInfo,
    /// The service, where it is our own.
    pub(super) managed: Option<Arc<Managed>>,
}
