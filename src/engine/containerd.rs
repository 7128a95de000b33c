//! Docker with containerd's image store, Docker 29's default: an image's id is the digest of its manifest, which is not known
//! before the engine has made one, and its size is that of packed layers.

use bollard::models::{ImageConfig, ImageInspect, SystemInfo};
use serde::Deserialize;
use serde_json::Value;

use super::{Engine, EngineError};
use crate::net::ImageId;

/// What Docker has as `driver-type` in its `DriverStatus` then.
const SNAPSHOTTER: &str = "io.containerd.snapshotter.v1";

/// An image's configuration, as far as engines tell it again.
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

    /// Whether the engine writes an image whole to its disk before the first byte of an export comes.
    pub async fn stages_exports(&self) -> bool {
        !self.keeps_manifests().await
    }

    /// Whether an image, by the engine's own id, is the one with this configuration: by the id, or where ids are not
    /// those of configurations, by its layers and by what a container of it would get.
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
        let inspected = self.inspect(&id.to_string()).await.map_err(|source| EngineError::Request {
            doing: "looking at the loaded image".to_owned(),
            source: source.into(),
        })?;
        Ok(is_made_of(inspected, configuration))
    }

    /// How many bytes an image's layers have, unpacked, where inspecting it tells `packed`.
    pub(super) async fn unpacked(&self, id: &str, packed: u64) -> u64 {
        if !self.keeps_manifests().await {
            return packed;
        }
        // The list counts what is packed and what is unpacked together.
        let images = self.images().await.unwrap_or_default();
        let listed = images.iter().find(|image| image.id == id).map_or(0, |image| image.size);
        u64::try_from(listed).unwrap_or_default().saturating_sub(packed).max(packed)
    }
}

/// Whether it is a Docker that keeps images in containerd's store.
pub(super) fn is_containerd(info: &SystemInfo) -> bool {
    info.driver_status.iter().flatten().flatten().any(|said| said == SNAPSHOTTER)
}

/// Whether an image has the layers and the settings of a configuration.
fn is_made_of(image: ImageInspect, configuration: &[u8]) -> bool {
    let Ok(made_of) = serde_json::from_slice::<Configuration>(configuration) else { return false };
    let layers = image.root_fs.and_then(|files| files.layers).unwrap_or_default();
    (layers, image.architecture, image.os) == (made_of.rootfs.diff_ids, made_of.architecture, made_of.os)
        && settings(image.config) == settings(made_of.config)
}

/// What a configuration sets: engines write what is empty, or leave it out.
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

    /// An image as `docker inspect` tells it, of `CONFIGURATION`.
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
        let is_it = |image: Value| is_made_of(serde_json::from_value(image).unwrap(), CONFIGURATION.as_bytes());
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
        assert!(!is_made_of(ImageInspect::default(), b"no JSON"));
    }
}
