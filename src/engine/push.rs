//! Pushing: the engine sends an image to the registry that its name says. Whether it may, and what is there afterwards, is
//! for those who ask the registry.

use bollard::auth::DockerCredentials;
use bollard::query_parameters::PushImageOptions;
use futures_util::StreamExt;
use tracing::debug;

use super::{Engine, EngineError};
use crate::registry::Credentials;

impl Engine {
    /// Pushes `repository:version`.
    pub async fn push(
        &self,
        repository: &str,
        version: &str,
        credentials: Option<&Credentials>,
    ) -> Result<(), EngineError> {
        let options = PushImageOptions { tag: Some(version.to_owned()), ..PushImageOptions::default() };
        let credentials = credentials.map(|it| DockerCredentials {
            username: Some(it.username.clone()),
            password: Some(it.password.clone()),
            serveraddress: Some(it.server.clone()),
            ..DockerCredentials::default()
        });
        let mut answer = std::pin::pin!(self.client.push_image(repository, Some(options), credentials));
        while let Some(line) = answer.next().await {
            let line = line.map_err(|source| EngineError::Trouble {
                doing: format!("pushing {repository}:{version}"),
                source: source.into(),
            })?;
            if let (Some(status), None) = (line.status, line.progress_detail) {
                debug!("push: {status}");
            }
        }
        Ok(())
    }
}
