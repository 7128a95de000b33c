//! A container that never runs. It gives all files of an image as one tar, and the tar starts at once, because there is
//! nothing to prepare. The container is recorded before it is created, and removed with everything else; `image::squash`
//! makes an image of its files.

use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{CreateContainerOptions, RemoveContainerOptions};
use futures_util::{Stream, StreamExt};
use serde_json::{Map, Value, json};
use tokio_util::bytes::Bytes;
use tracing::debug;

use super::build::failure::request_error;
use super::cleanup::state::JournalEvent;
use super::{Engine, EngineError};
use crate::net::ImageId;
use crate::report::ProgressCounter;

/// A container that never runs.
#[derive(Debug)]
pub struct StoppedContainer {
    /// Its name.
    pub name: String,
    /// The creation time of the container, in seconds since 1970, if the engine puts mount points of its own between the
    /// image's files.
    pub noise_since: Option<i64>,
    /// The image's configuration, as JSON.
    pub config: Vec<u8>,
}

impl Engine {
    /// Creates a container of an image, and does not start it.
    pub async fn idle(&self, image_id: ImageId) -> Result<StoppedContainer, EngineError> {
        let doing = "making a container of the image";
        let name = format!("image-worker-squash-{}-{}", image_id.hex(), std::process::id());
        self.tracker.add(JournalEvent::Container(name.clone())).await;
        let options = CreateContainerOptions { name: Some(name.clone()), ..CreateContainerOptions::default() };
        let body = ContainerCreateBody {
            image: Some(image_id.to_string()),
            // A container needs a command even if its image has none.
            cmd: Some(vec!["/nothing".to_owned()]),
            network_disabled: Some(true),
            host_config: Some(HostConfig { network_mode: Some("none".to_owned()), ..HostConfig::default() }),
            ..ContainerCreateBody::default()
        };
        self.client.create_container(Some(options), body).await.map_err(|error| request_error(doing, error))?;
        let container =
            self.client.inspect_container(&name, None).await.map_err(|error| request_error(doing, error))?;
        let noise_since = if self.driver.makes_files_in_new_containers() {
            let created = container.created.ok_or_else(|| EngineError::Unfinished { doing: doing.to_owned() })?;
            Some(created.timestamp())
        } else {
            None
        };
        Ok(StoppedContainer { name, noise_since, config: self.configuration(image_id).await? })
    }

    /// The files of a container, as a tar.
    pub fn files(
        &self,
        container: &str,
        meter: ProgressCounter,
    ) -> impl Stream<Item = Result<Bytes, EngineError>> + use<> {
        self.client.export_container(container).map(move |chunk| match chunk {
            Ok(bytes) => {
                meter.add(bytes.len() as u64);
                Ok(bytes)
            }
            Err(error) => Err(request_error("exporting the image's files", error)),
        })
    }

    /// The configuration of an image: from the engine's storage if that can be read, else as the engine reports it.
    async fn configuration(&self, image_id: ImageId) -> Result<Vec<u8>, EngineError> {
        match self.stored_config(image_id).await {
            Ok(config) => return Ok(config),
            Err(error) => debug!("the image's configuration is asked for: {error}"),
        }
        let (doing, image_id) = ("looking at the image", &image_id.to_string());
        let image = self.inspect(image_id).await.map_err(|error| request_error(doing, error))?;
        let reported = serde_json::to_value(&image).map_err(|error| request_error(doing, error))?;
        let mut config = Map::new();
        for key in ["Architecture", "Author", "Config", "Created", "Os", "Variant"] {
            config.insert(key.to_lowercase(), reported[key].clone());
        }
        config.insert("os.version".to_owned(), reported["OsVersion"].clone());
        if let (Some(inner), None) = (config.get_mut("config"), &image.config.and_then(|config| config.shell)) {
            // Podman reports it only in the history.
            let shell = self.shell_of(image_id).await.map_err(|error| request_error(doing, error))?;
            inner["Shell"] = json!(shell);
        }
        serde_json::to_vec(&Value::Object(config)).map_err(|error| request_error(doing, error))
    }

    /// Removes one of our containers, running or not, with the volumes that the engine has created for it. Returns whether it is
    /// gone.
    pub async fn remove_container(&self, name: &str) -> bool {
        let options = RemoveContainerOptions { force: true, v: true, ..RemoveContainerOptions::default() };
        match self.client.remove_container(name, Some(options)).await {
            Ok(()) => true,
            // Never created, or removed by an earlier start.
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => true,
            Err(error) => {
                debug!("the container {name} stays: {error}");
                false
            }
        }
    }
}
