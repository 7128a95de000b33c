//! The layers in an image's configuration, for all modules that read it.

use serde::Deserialize;

use super::manifest::null_is_empty;
use crate::net::Digest;

/// `rootfs`. Not the type of oci-spec, which refuses the null that engines write for an image on an empty base.
#[derive(Deserialize)]
pub(super) struct RootFs {
    /// `sha256:…` of each layer, the lowest first.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) diff_ids: Vec<String>,
}

/// The layers that an image's configuration names; `None` if the text is something else.
pub(crate) fn diff_ids(text: &[u8]) -> Option<Vec<Digest>> {
    #[derive(Deserialize)]
    struct Config {
        rootfs: RootFs,
    }
    let config: Config = serde_json::from_slice(text).ok()?;
    config.rootfs.diff_ids.iter().map(|id| Digest::from_prefixed(id)).collect()
}
