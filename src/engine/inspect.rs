//! Inspects one image in the engine, with retries: engines fail for a moment while others remove images. The callers
//! interpret the answer.

use std::time::Duration;

use bollard::errors::Error;
use bollard::models::ImageInspect;

use super::Engine;
use crate::net::retry::{Failure, Policy, Retryability, retry};

/// A busy Docker answers 500 "unrecognized image ID", a busy Podman 500 "image not known", even about images other than the
/// requested one.
const BUSY_RETRY: Policy = Policy {
    attempts: 5,
    first_pause: Duration::from_millis(50),
    longest_pause: Duration::from_secs(1),
    limit: Duration::from_secs(15),
    silent: true,
};

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct InspectError(Error);

impl Failure for InspectError {
    fn retryability(&self) -> Retryability {
        match self.0 {
            Error::DockerResponseServerError { status_code: 500.., .. } => Retryability::Transient,
            _ => Retryability::Permanent,
        }
    }
}

impl Engine {
    /// The engine's description of an image, by name or id.
    pub(super) async fn inspect(&self, image: &str) -> Result<ImageInspect, Error> {
        let request = || async { self.client.inspect_image(image).await.map_err(InspectError) };
        retry("looking at an image", BUSY_RETRY, request).await.map_err(|InspectError(error)| error)
    }

    /// The shell for an image's RUN steps; `None` if its `Dockerfile` has no SHELL.
    pub(super) async fn shell_of(&self, image: &str) -> Result<Option<Vec<String>>, Error> {
        if let Some(shell) = self.inspect(image).await?.config.and_then(|config| config.shell) {
            return Ok(Some(shell));
        }
        // Podman reports it only in the history, not when the image is inspected.
        let request = || async { self.client.image_history(image).await.map_err(InspectError) };
        let history = retry("looking at an image", BUSY_RETRY, request).await.map_err(|InspectError(error)| error)?;
        Ok(history.iter().find_map(|layer| shell_in(&layer.created_by)))
    }
}

/// The shell of `/bin/sh -c #(nop) SHELL ["/bin/bash", "-c"]`.
fn shell_in(made_by: &str) -> Option<Vec<String>> {
    let (_, instruction) = made_by.split_once("#(nop)")?;
    serde_json::from_str(instruction.trim_start().strip_prefix("SHELL ")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_tells_the_shell() {
        let shell = shell_in("/bin/sh -c #(nop) SHELL [\"/bin/busybox\", \"sh\", \"-c\"]");
        assert_eq!(shell.unwrap(), ["/bin/busybox", "sh", "-c"]);
        assert_eq!(shell_in("/bin/sh -c #(nop) ENV SHELL=[]"), None);
        assert_eq!(shell_in("/bin/sh -c echo SHELL"), None);
    }
}
