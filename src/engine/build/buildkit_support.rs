//! Whether a Docker can build with BuildKit, by its API version and its image store.

use crate::engine::connection::client::Ping;

/// The API version of Docker 18.09, the first with BuildKit for everybody.
const FIRST_WITH_BUILDKIT: (u32, u32) = (1, 39);

/// The API version of Docker 28.0. Before it, BuildKit never gets the context of a call where the engine keeps images in
/// containerd's store (moby#47717; seen with 26.1).
const FIRST_WITH_CONTEXTS: (u32, u32) = (1, 48);

/// What a Docker has said of its BuildKit.
#[derive(Default)]
pub(in crate::engine) struct BuildKitSupport {
    /// Whether it is what the engine builds with unless it is told otherwise.
    pub(in crate::engine) is_default: bool,
    /// Why it cannot build, with the way out, if it cannot.
    pub(in crate::engine) missing: Option<&'static str>,
}

impl BuildKitSupport {
    /// By what a ping has ping.
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
