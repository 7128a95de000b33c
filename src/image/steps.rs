//! The images of an image's build steps, for an engine that reuses steps only from images of their own: their configurations,
//! and how many of the image's layers each has. Other modules store them, and decide when they are needed.

use serde::Deserialize;
use serde_json::Value;

use super::rootfs::RootFs;
use crate::net::Digest;

/// The image of a build step: it has the first layers and history entries of another image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepImage<'a> {
    /// Its configuration, byte by byte.
    pub config: &'a str,
    /// The configuration's sha256, which is its id.
    pub id: Digest,
    /// How many of the image's layers it has.
    pub layers: usize,
}

/// The fields of a configuration that describe how an image was made.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    rootfs: RootFs,
    #[serde(default)]
    history: Vec<Value>,
}

/// The configurations that belong to steps of the image with the configuration `image`: their history and layers are the
/// beginning of that image's. It ignores all others.
#[must_use]
pub fn steps_of<'a>(image: &[u8], configs: &'a [String]) -> Vec<StepImage<'a>> {
    let Ok(image) = serde_json::from_slice::<Config>(image) else { return Vec::new() };
    let of_image = |config: &'a String| {
        let step: Config = serde_json::from_str(config).ok()?;
        let same_machine = (&step.architecture, &step.os) == (&image.architecture, &image.os);
        let is_beginning = image.rootfs.diff_ids.starts_with(&step.rootfs.diff_ids)
            && image.history.starts_with(&step.history)
            && step.history.len() < image.history.len();
        let layers = step.rootfs.diff_ids.len();
        (same_machine && is_beginning).then(|| StepImage { config, id: Digest::of(config.as_bytes()), layers })
    };
    configs.iter().filter_map(of_image).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(layers: &[&str], history: &[&str], env: &str) -> String {
        let history: Vec<_> = history.iter().map(|by| json!({ "created_by": by })).collect();
        json!({ "os": "linux", "config": { "Env": [env] }, "rootfs": { "diff_ids": layers }, "history": history })
            .to_string()
    }

    #[test]
    fn only_beginnings_of_an_image_are_its_steps() {
        let image = config(&["a", "b", "c"], &["FROM", "COPY", "ENV", "RUN"], "A=2");
        let steps = [
            config(&[], &[], "an empty base with a setting").replace("\"diff_ids\":[]", "\"diff_ids\":null"),
            config(&["a"], &["FROM"], "A=0"),
            config(&["a", "b"], &["FROM", "COPY"], "A=0"),
            config(&["a", "b"], &["FROM", "COPY", "ENV"], "A=1"),
        ];
        let found = steps_of(image.as_bytes(), &steps);
        assert_eq!(found.iter().map(|step| step.layers).collect::<Vec<_>>(), [0, 1, 2, 2]);
        assert_eq!(found[2].id, Digest::of(steps[2].as_bytes()));

        let others = [
            config(&["b"], &["FROM"], "another base"),
            config(&["a", "b"], &["FROM", "ADD"], "another step"),
            config(&["a", "b", "c"], &["FROM", "COPY", "ENV", "RUN"], "no step, but an image"),
            config(&["a"], &["FROM"], "another machine").replace("linux", "plan9"),
            "no configuration".to_owned(),
        ];
        assert_eq!(steps_of(image.as_bytes(), &others), []);
        assert_eq!(steps_of(b"no configuration", &steps), []);
    }
}
