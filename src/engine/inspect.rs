//! Asking the engine about one image. Engines fail for a moment while others remove images at the same time, which is no
//! trouble of ours; what the answer is good for is for those who ask.

use std::time::Duration;

use bollard::errors::Error;
use bollard::models::ImageInspect;

use super::Engine;
use crate::retry::{Another, Failure, Policy, retry};

/// A busy Docker answers 500 "unrecognized image ID", a busy Podman 500 "image not known", about images that are not even
/// those that were asked for.
const BUSY: Policy = Policy {
    tries: 5,
    first_pause: Duration::from_millis(50),
    longest_pause: Duration::from_secs(1),
    limit: Duration::from_secs(15),
    quiet: true,
};

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Asked(Error);

impl Failure for Asked {
    fn another(&self) -> Another {
        match self.0 {
            Error::DockerResponseServerError { status_code: 500.., .. } => Another::CanHelp,
            _ => Another::IsUseless,
        }
    }
}

impl Engine {
    /// What the engine says about an image, by name or id.
    pub(super) async fn inspect(&self, image: &str) -> Result<ImageInspect, Error> {
        let asking = || async { self.client.inspect_image(image).await.map_err(Asked) };
        retry("looking at an image", BUSY, asking).await.map_err(|Asked(error)| error)
    }
}
