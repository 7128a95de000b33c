//! The image among the artifacts that a task's definition declares: its name, and where the worker looks for it. `taskcluster`
//! fetches the definition.

use std::path::PathBuf;

use serde_json::Value;

use crate::taskcluster::ArtifactName;

/// The default name of the image, without the ending for its compression.
const USUAL_NAME: &str = "public/image.tar";

/// An image that a task declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredImage {
    /// The artifact.
    pub name: ArtifactName,
    /// The file that becomes the artifact, if the definition has it; a relative path starts in the task's directory.
    pub path: Option<PathBuf>,
}

impl DeclaredImage {
    /// Finds the image in `payload.artifacts`, which is a map by name for docker-worker and a list for generic-worker. Without a
    /// name it is `public/image.tar…`, or the only archive.
    #[must_use]
    pub fn find(artifacts: &Value, name: Option<&ArtifactName>) -> Option<Self> {
        let mut images: Vec<Self> = match artifacts {
            Value::Object(artifacts) => artifacts.iter().filter_map(|(name, it)| Self::read(name, it)).collect(),
            Value::Array(artifacts) => artifacts.iter().filter_map(|it| Self::read(it["name"].as_str()?, it)).collect(),
            _ => Vec::new(),
        };
        let is_it = |image: &Self| match name {
            Some(name) => image.name == *name,
            None => image.name.as_str().starts_with(USUAL_NAME),
        };
        match images.iter().position(is_it) {
            Some(at) => Some(images.swap_remove(at)),
            None if name.is_none() && images.len() == 1 => images.pop(),
            None => None,
        }
    }

    fn read(name: &str, artifact: &Value) -> Option<Self> {
        let name: ArtifactName = name.parse().ok()?;
        let is_file = artifact["type"].as_str().is_none_or(|kind| kind == "file");
        let path = artifact["path"].as_str().map(PathBuf::from);
        (is_file && (name.is_tar() || name.is_zstd())).then_some(Self { name, path })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_image_is_found_in_both_workers_forms() {
        let name = |name: &str| name.parse::<ArtifactName>().unwrap();
        let file = |path: &str| json!({ "type": "file", "path": path, "expires": "2026-01-01T00:00:00.000Z" });
        let (zst, tar) = ("public/image.tar.zst", "public/image.tar");
        let log = json!({ "type": "file", "name": "public/build.log", "path": "build.log" });
        for (artifacts, wanted, found) in [
            (json!({ zst: file("/workspace/image.tar.zst") }), None, Some((zst, "/workspace/image.tar.zst"))),
            (json!([log, { "type": "file", "name": tar, "path": "out/i.tar" }]), None, Some((tar, "out/i.tar"))),
            (
                json!({ "public/builder.tar": file("/b"), "public/log": file("/log") }),
                None,
                Some(("public/builder.tar", "/b")),
            ),
            // Which of the two?
            (json!({ "public/a.tar": file("/a"), "public/b.tar": file("/b") }), None, None),
            (
                json!({ "public/a.tar": file("/a"), "public/b.tar": file("/b") }),
                Some("public/b.tar"),
                Some(("public/b.tar", "/b")),
            ),
            (json!({ "public/a.tar": file("/a"), tar: file("/b") }), None, Some((tar, "/b"))),
            (json!({ zst: file("/a") }), Some(tar), None),
            // All files of a directory, which can have any name.
            (json!({ zst: { "type": "directory", "path": "/a" } }), None, None),
            (json!({ "public/build.log": file("/a") }), None, None),
            (json!({}), None, None),
            (json!(null), None, None),
        ] {
            let found = found.map(|(artifact, path)| DeclaredImage { name: name(artifact), path: Some(path.into()) });
            assert_eq!(DeclaredImage::find(&artifacts, wanted.map(name).as_ref()), found, "{artifacts}");
        }
    }
}
