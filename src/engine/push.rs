//! Pushes an image: the engine sends it to the registry in its name. The caller queries the registry before and afterwards.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bollard::models::{BuildInfo, ProgressDetail};
use futures_util::StreamExt;
use http_body_util::Empty;
use tokio_util::bytes::Bytes;
use tracing::debug;

use super::connection::messages::{Question, messages};
use super::{Engine, EngineError};
use crate::net::registry::{Credentials, is_loopback};

/// How much of a part of an image is uploaded.
#[derive(Debug)]
pub struct UploadedPart {
    /// The part, by the engine's name for it.
    pub part: String,
    /// Its bytes that are uploaded.
    pub bytes: u64,
    /// All its bytes, about.
    pub total: u64,
}

impl Engine {
    /// Pushes `repository:version`. Calls `uploaded` whenever the engine says how far it is.
    pub async fn push(
        &self,
        repository: &str,
        version: &str,
        credentials: Option<&Credentials>,
        uploaded: impl Fn(UploadedPart),
    ) -> Result<(), EngineError> {
        // Like docker, without credentials this sends an empty object.
        let credentials = credentials.map_or_else(|| serde_json::json!({}), Credentials::for_engine).to_string();
        let request_error = |source| EngineError::Request { doing: format!("pushing {repository}:{version}"), source };
        let mut query = vec![("tag", version)];
        if self.driver.must_be_told_of_http() && is_loopback(repository.split('/').next().unwrap_or(repository)) {
            query.push(("tlsVerify", "false"));
        }
        let question = Question {
            path: format!("/images/{repository}/push"),
            query,
            headers: vec![("x-registry-auth", URL_SAFE.encode(credentials))],
            body: Empty::<Bytes>::new(),
        };
        // bollard's type for a push's messages has no id of the part.
        let mut answer = std::pin::pin!(messages::<BuildInfo, _, _>(&self.place, question));
        while let Some(line) = answer.next().await {
            let line = line.map_err(|error| request_error(error.into()))?;
            match (line.status, line.progress_detail, line.id) {
                (Some(status), None, _) => debug!("push: {status}"),
                (_, Some(ProgressDetail { current: Some(bytes), total: Some(total) }), Some(part)) => {
                    let [bytes, total] = [bytes, total].map(|count| u64::try_from(count).unwrap_or_default());
                    uploaded(UploadedPart { part, bytes, total });
                }
                _ => {}
            }
        }
        Ok(())
    }
}
