//! Finds which layers of an image an engine has already, so that only the others have to be sent to it.

use futures_util::{StreamExt, stream};
use tracing::debug;

use super::Engine;
use crate::image::PresentLayer;
use crate::net::{Digest, ImageId};

/// The number of images to inspect at the same time.
const TOGETHER: usize = 8;

impl Engine {
    /// Whether the engine has an image.
    pub async fn has_images(&self) -> bool {
        !self.image_ids().await.is_empty()
    }

    /// The layers of an image that the engine can take from another image: the lowest ones. None if it does not say: it can be
    /// sent all of them.
    pub async fn present_layers(&self, diff_ids: &[Digest]) -> Vec<PresentLayer> {
        // There a layer that was built is a compressed blob, which only the manifest of its image names.
        if self.keeps_manifests().await {
            let ids = self.image_ids().await;
            let ids = ids.iter().filter_map(|id| ImageId::in_answer(id)).map(ImageId::hex).collect();
            return self.stored_layers(ids, diff_ids.to_vec()).await;
        }
        let inspecting = self.image_ids().await.into_iter().map(|id| async move { self.inspect(&id).await.ok() });
        let shared = stream::iter(inspecting).buffer_unordered(TOGETHER).map(|image| {
            let layers = image.and_then(|image| image.root_fs?.layers).unwrap_or_default();
            let layers = layers.iter().map(|layer| Digest::from_prefixed(layer));
            layers.zip(diff_ids).take_while(|(present, wanted)| *present == Some(**wanted)).count()
        });
        vec![PresentLayer::Plain; shared.fold(0, async |most, shared| most.max(shared)).await]
    }

    /// The ids of the images that have a name, or once had one. None if the engine does not say.
    async fn image_ids(&self) -> Vec<String> {
        let images = self.list_images(false).await.inspect_err(|error| debug!("no layers are known: {error}"));
        images.unwrap_or_default().into_iter().map(|image| image.id).collect()
    }
}
