//! Whether a Docker Engine can build with BuildKit, by its API version and its image store.

use crate::engine::connection::client::Ping;

/// The API version of Docker 18.09, the first with BuildKit for all users.
const FIRST_WITH_BUILDKIT: (u32, u32) = (1, 39);

/// The API version of Docker 28.0. In earlier versions, BuildKit never gets the context of a build if the engine stores images
/// in the containerd image store (moby#47717; observed with 26.1).
const FIRST_WITH_CONTEXTS: (u32, u32) = (1, 48);

/// The BuildKit support of a Docker Engine.
#[derive(Default)]
pub(in crate::engine) struct BuildKitSupport {
    /// Whether BuildKit is the engine's default builder.
    pub(in crate::engine) is_default: bool,
    /// Why BuildKit cannot build, with a hint. `None` if it can build.
    pub(in crate::engine) missing: Option<&'static str>,
}

impl BuildKitSupport {
    /// Reads the support from the engine's reply to a ping and from its image store.
    pub(in crate::engine) fn new(ping: &Ping, is_containerd: bool) -> Self {
        let missing = match ping.api {
            Some(api) if api < FIRST_WITH_BUILDKIT => Some("this Docker has none: update it to 18.09 or later"),
            Some(api) if is_containerd && api < FIRST_WITH_CONTEXTS => Some(
                "this Docker keeps images in containerd's store, and before version 28 its BuildKit gets no context then (moby#47717): update it, or turn the store off (in its daemon.json \"features\": {\"containerd-snapshotter\": false})",
            ),
            _ => None,
        };
        Self { is_default: ping.builds_with_buildkit, missing }
    }
}
