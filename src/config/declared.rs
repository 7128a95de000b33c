//! The image among the artifacts that a task's definition declares: what it is called, and where the worker looks for it.
//! Fetching the definition is for `taskcluster`.

use std::path::PathBuf;

use serde_json::Value;

use crate::taskcluster::ArtifactName;

/// How the image is called where nobody says otherwise, without what tells its compression.
const USUAL_NAME: &str = "public/image.tar";

/// An image that a task declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredImage {
    /// The artifact.
    pub name: ArtifactName,
    /// The file that becomes the artifact, where the definition says it; a relative one is from the task's directory.
    pub path: Option<PathBuf>,
}

impl DeclaredImage {
    /// Looks the image up among `payload.artifacts`: those of docker-worker have names for keys, those of generic-worker
    /// stand in a list. Without a name it is `public/image.tar…`, or the only archive that there is.
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
            // All files of a directory, which is called as it likes.
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
