//! Pushing: the engine sends an image to the registry that its name says. Whether it may, and what is there afterwards, is
//! for those who ask the registry.

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::query_parameters::PushImageOptions;
use futures_util::StreamExt;
use tracing::debug;

use super::{Engine, EngineError, Kind};
use crate::registry::{Credentials, is_loopback};

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
        let client = self.pushing_to(repository.split('/').next().unwrap_or(repository));
        let mut answer = std::pin::pin!(client.push_image(repository, Some(options), credentials));
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

    /// The client that pushes to a registry. Docker speaks HTTP with those on its own machine, Podman must be told so.
    fn pushing_to(&self, registry: &str) -> Docker {
        let client = self.client.clone();
        if self.kind != Kind::Podman || !is_loopback(registry) {
            return client;
        }
        client.with_request_modifier(|mut request| {
            let join = if request.uri().query().is_some() { '&' } else { '?' };
            // What was a URI and gets a parameter is one.
            if let Ok(uri) = format!("{}{join}tlsVerify=false", request.uri()).parse() {
                *request.uri_mut() = uri;
            }
            request
        })
    }
}
