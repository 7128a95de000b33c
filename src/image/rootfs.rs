//! What an image's configuration says of its layers, for all who read it. What else it says is for those who need it.

use serde::Deserialize;

use super::manifest::null_is_empty;
use crate::net::Digest;

/// `rootfs`. Not oci-spec's type, which refuses what engines write of an image on an empty base: null.
#[derive(Deserialize)]
pub(super) struct RootFs {
    /// `sha256:…` of each layer, the lowest first.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) diff_ids: Vec<String>,
}

/// The layers that an image's configuration names; none, if it is something else.
pub(super) fn diff_ids(text: &[u8]) -> Option<Vec<Digest>> {
    #[derive(Deserialize)]
    struct Config {
        rootfs: RootFs,
    }
    let config: Config = serde_json::from_slice(text).ok()?;
    config.rootfs.diff_ids.iter().map(|id| Digest::from_prefixed(id)).collect()
}
