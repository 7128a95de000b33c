//! Loads the image of a task into the engine with as few bytes as needed: where the engine has the lowest layers of an image that the
//! index has, only the rest of its archive is downloaded. `layers.json`, beside the image, lists its layers and where they are.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::image_source::{ImageSource, Indexed};
use super::loading::{LoadError, Loader};
use super::metrics::Layers;
use super::published_document::{LARGEST_LAYERS, LONGEST, json_in_time};
use crate::image::{ForwardSummary, PartialImage};
use crate::net::ImageId;
use crate::net::retry::{Failure, Retryability};
use crate::report::{Bytes, ErrorChain};
use crate::taskcluster::{ArtifactName, Services};

impl Loader<'_> {
    /// What takes a task's image into the engine, as `tag`. It may be tried again after an error. Unless `in_parts`, all of its
    /// archive is downloaded.
    pub fn task_image(
        &self,
        tag: &str,
        services: &Services,
        in_parts: bool,
    ) -> impl AsyncFn(ImageSource) -> Result<ForwardSummary, LoadError> {
        let in_parts = AtomicBool::new(in_parts);
        async move |source| {
            // A part that could not be had is not tried twice.
            if in_parts.swap(false, Ordering::Relaxed)
                && let Some(image) = self.partial(&source, services).await
            {
                match self.download_rest(&source.url, image, tag).await {
                    Ok(Some(loaded)) => return Ok(loaded),
                    Ok(None) => info!("the server sends only whole files: all layers of the image are downloaded"),
                    Err(error) if ends_the_try(&error) => return Err(error),
                    Err(error) => warn!("all layers of the image are downloaded: {}", ErrorChain(&error)),
                }
            }
            self.download(&source.url, source.sha256(), tag).await
        }
    }

    /// The image, if its archive need not be downloaded from the beginning.
    async fn partial(&self, source: &ImageSource, services: &Services) -> Option<PartialImage> {
        let Some(Indexed { at, artifact, sha256: Some(sha256), image_id: Some(image_id) }) = &source.indexed else {
            return None;
        };
        // Podman takes the images of steps from a docker-archive only, and that it takes only whole.
        if self.steps.is_some_and(|steps| !steps.is_empty()) {
            return None;
        }
        // Of a compressed file, no part can be read alone.
        let is_plain = Path::new(artifact.as_str()).extension().is_some_and(|extension| extension == "tar");
        if !is_plain || !self.engine.has_images().await {
            return None;
        }
        let name = ArtifactName::layers();
        let list: Layers = json_in_time(services, self.storage, at, name.clone(), LARGEST_LAYERS).await?;
        if list.image_id.parse::<ImageId>().ok() != Some(*image_id) {
            debug!("{name} of {at} is of another image, {}", list.image_id);
            return None;
        }
        let layers = list.places()?;
        let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id).collect();
        let present = timeout(LONGEST, self.engine.present_layers(&diff_ids)).await.unwrap_or_default();
        if present.is_empty() {
            return None;
        }
        let (count, all) = (present.len(), diff_ids.len());
        let image = PartialImage::new(*image_id, *sha256, layers, present)?;
        let below = Bytes(image.start());
        info!("the engine has {count} of {all} layers: the first {below} of {artifact} are not downloaded");
        Some(image)
    }
}

/// Whether the whole archive would not come either: the caller decides when to try again, with another URL.
fn ends_the_try(error: &LoadError) -> bool {
    match error {
        LoadError::Transfer(error) => {
            error.retryability() != Retryability::Permanent || error.is_gone() || error.is_refused()
        }
        LoadError::InsufficientSpace(_) => true,
        _ => false,
    }
}
