//! Exports an image from the engine as a tar, in a stream of bytes. `image` makes an archive of it that every consumer can
//! load.

use futures_util::{Stream, StreamExt};
use tokio_util::bytes::Bytes;

use super::{Engine, EngineError};
use crate::net::ImageId;
use crate::report::ProgressCounter;

impl Engine {
    /// The archive of an image, by id. Most engines write all of it to their disk before the first byte is sent
    /// (`stages_exports`).
    pub fn export(
        &self,
        image_id: ImageId,
        meter: ProgressCounter,
    ) -> impl Stream<Item = Result<Bytes, EngineError>> + use<> {
        self.client.export_image(&image_id.to_string()).map(move |chunk| match chunk {
            Ok(bytes) => {
                meter.add(bytes.len() as u64);
                Ok(bytes)
            }
            Err(error) => Err(EngineError::Request { doing: "exporting the image".to_owned(), source: error.into() }),
        })
    }
}
