//! Support for Docker with containerd's image store, the default of Docker 29: an image's id is the digest of its manifest,
//! which is unknown until the engine has made one, and its size is that of compressed layers.

use bollard::models::{ImageConfig, ImageInspect, SystemInfo};
use serde::Deserialize;
use serde_json::Value;

use super::{Engine, EngineError};
use crate::net::ImageId;

/// The value of `driver-type` in Docker's `DriverStatus` for this store.
const SNAPSHOTTER: &str = "io.containerd.snapshotter.v1";

/// The parts of an image's configuration that engines report too.
#[derive(Deserialize)]
struct Configuration {
    architecture: Option<String>,
    os: Option<String>,
    #[serde(default)]
    config: Option<ImageConfig>,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

impl Engine {
    /// Whether the engine keeps images in containerd's store.
    pub(super) async fn keeps_manifests(&self) -> bool {
        self.driver.may_have_buildkit() && self.client.info().await.is_ok_and(|info| is_containerd(&info))
    }

    /// Whether the engine writes a whole image to its disk before the first byte of an export.
    pub async fn stages_exports(&self) -> bool {
        !self.keeps_manifests().await
    }

    /// Whether the image with this id in the engine is the one with this configuration. The ids decide; if the engine's ids
    /// are not those of configurations, its configuration does; and where that cannot be read, the layers, and what a container of
    /// the image would get.
    pub async fn is_image(
        &self,
        id: ImageId,
        configuration_id: ImageId,
        configuration: &[u8],
    ) -> Result<bool, EngineError> {
        if id == configuration_id {
            return Ok(true);
        }
        if !self.keeps_manifests().await {
            return Ok(false);
        }
        if let Ok(stored) = self.stored_config(id).await {
            return Ok(stored == configuration);
        }
        let inspected = self.inspect(&id.to_string()).await.map_err(|source| EngineError::Request {
            doing: "looking at the loaded image".to_owned(),
            source: source.into(),
        })?;
        Ok(has_configuration(inspected, configuration))
    }

    /// The size of an image's unpacked layers in bytes, if inspecting the image reports `packed`.
    pub(super) async fn unpacked(&self, id: &str, packed: u64) -> u64 {
        if !self.keeps_manifests().await {
            return packed;
        }
        // The list reports the sum of the compressed and the unpacked size.
        let images = self.images().await.unwrap_or_default();
        let listed = images.iter().find(|image| image.id == id).map_or(0, |image| image.size);
        u64::try_from(listed).unwrap_or_default().saturating_sub(packed).max(packed)
    }
}

/// Whether this is a Docker that keeps images in containerd's store.
pub(super) fn is_containerd(info: &SystemInfo) -> bool {
    info.driver_status.iter().flatten().flatten().any(|value| value == SNAPSHOTTER)
}

/// Whether an image has the layers and the settings of a configuration.
fn has_configuration(image: ImageInspect, configuration: &[u8]) -> bool {
    let Ok(expected) = serde_json::from_slice::<Configuration>(configuration) else { return false };
    let layers = image.root_fs.and_then(|files| files.layers).unwrap_or_default();
    (layers, image.architecture, image.os) == (expected.rootfs.diff_ids, expected.architecture, expected.os)
        && settings(image.config) == settings(expected.config)
}

/// The settings of a configuration without empty values, which engines write or leave out.
fn settings(config: Option<ImageConfig>) -> Value {
    let is_empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    };
    let mut settings = serde_json::to_value(config.unwrap_or_default()).unwrap_or_default();
    if let Some(map) = settings.as_object_mut() {
        map.retain(|_, value| !is_empty(value));
    }
    settings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The image of `CONFIGURATION`, as `docker inspect` reports it.
    fn inspected() -> Value {
        json!({
            "Id": "sha256:the-manifest", "Architecture": "amd64", "Os": "linux",
            "Config": {"Cmd": ["sh"], "Env": ["A=b"], "Labels": {"l": "m"}, "Entrypoint": null, "User": "", "Volumes": {"/v": {}}},
            "RootFS": {"Type": "layers", "Layers": ["sha256:1", "sha256:2"]},
        })
    }

    const CONFIGURATION: &str = r#"{"architecture": "amd64", "os": "linux", "created": "2015-12-09T12:34:56Z",
        "config": {"Cmd": ["sh"], "Env": ["A=b"], "Labels": {"l": "m"}, "Volumes": {"/v": {}}, "OnBuild": null, "Image": ""},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:1", "sha256:2"]}}"#;

    #[test]
    fn an_image_is_known_by_its_layers_and_settings() {
        let is_it = |image: Value| has_configuration(serde_json::from_value(image).unwrap(), CONFIGURATION.as_bytes());
        assert!(is_it(inspected()));
        let changes = [
            ("/RootFS/Layers", json!(["sha256:1"])),
            ("/RootFS/Layers", json!(["sha256:2", "sha256:1"])),
            ("/Config/Env", json!(["A=c"])),
            ("/Config/User", json!("root")),
            ("/Config/Volumes", json!({"/w": {}})),
            ("/Config/Labels/l", json!("n")),
            ("/Architecture", json!("arm64")),
        ];
        for (place, value) in changes {
            let mut image = inspected();
            *image.pointer_mut(place).unwrap() = value;
            assert!(!is_it(image), "{place}");
        }
        assert!(!has_configuration(ImageInspect::default(), b"no JSON"));
    }
}
