//! Pulls an image from a registry, with the credentials that builds have.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bollard::models::CreateImageInfo;
use futures_util::StreamExt;
use http_body_util::Empty;
use tokio_util::bytes::Bytes;
use tracing::debug;

use super::build::bases::registry;
use super::connection::messages::{Question, messages};
use super::{Engine, EngineError};
use crate::net::registry::Credentials;

impl Engine {
    /// Pulls `image`: with a tag, or by its digest, or else its `latest`.
    pub async fn pull_image(&self, image: &str) -> Result<(), EngineError> {
        let request_error = |source| EngineError::Request { doing: format!("pulling {image}"), source };
        let registry = registry(image).unwrap_or_default();
        let credentials = self.access.credentials(&registry).await;
        let headers = credentials.as_ref().map(Credentials::for_engine);
        let headers = headers.map(|it| ("x-registry-auth", URL_SAFE.encode(it.to_string()))).into_iter().collect();
        let has_version = image.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
        // Without a version, engines pull all that the registry has.
        let named = if has_version { image.to_owned() } else { format!("{image}:latest") };
        let query = [("fromImage", named.as_str())];
        let question = Question { path: "/images/create".to_owned(), query, headers, body: Empty::<Bytes>::new() };
        let mut answer = std::pin::pin!(messages::<CreateImageInfo, _, _>(&self.place, question));
        while let Some(line) = answer.next().await {
            let line = line.map_err(|error| request_error(error.into()))?;
            if let (Some(status), None) = (line.status, line.progress_detail) {
                debug!("pull: {status}");
            }
        }
        Ok(())
    }
}
