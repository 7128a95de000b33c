//! What the definition of an image task says of its image: the artifact that it is, and its place in the index. `parent` looks there.

use serde_json::Value;

use crate::context::{ContextHash, ImageName};
use crate::taskcluster::{ArtifactName, IndexPrefix, Namespace, Project};

/// The usual artifact names of image tasks besides this program's own.
pub(super) const USUAL_NAMES: [&str; 2] = ["public/image.tar.zst", "public/image.tar"];

/// The artifacts that may have the image, in the order of the attempts: the one named by the task, this job's own, the usual one.
pub(super) fn names(definition: &Value, own: &ArtifactName) -> Vec<ArtifactName> {
    let declared = variable(definition, "ARTIFACT_NAME").and_then(|name| name.parse().ok());
    let usual = USUAL_NAMES.iter().filter_map(|name| name.parse().ok());
    let mut names = Vec::new();
    for name in declared.into_iter().chain([own.clone()]).chain(usual) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// A variable of a task's environment; an empty one counts as not set.
fn variable<'a>(definition: &'a Value, name: &str) -> Option<&'a str> {
    definition["payload"]["env"][name].as_str().filter(|value| !value.is_empty())
}

/// The namespaces of the index that can have the image of an image task, from its definition: the one that it publishes to last,
/// and that of the central project, where it may have found its image. None if it is another kind of task.
pub(super) fn hash_namespaces(definition: &Value, central: Option<&Project>) -> Vec<Namespace> {
    let variable = |name| variable(definition, name);
    let places = || {
        let image: ImageName = variable("IMAGE_NAME")?.parse().ok()?;
        let own: Project = variable("PROJECT")?.parse().ok()?;
        let index: IndexPrefix = variable("INDEX").unwrap_or("index").parse().ok()?;
        let hash = hash_of(definition)?;
        let projects = std::iter::once(&own).chain(central.filter(|central| **central != own));
        Some(projects.filter_map(|project| Namespace::of_hash(&index, project, &image, hash).ok()).collect())
    };
    places().unwrap_or_default()
}

/// The hash in the `.hash.` route of an image task.
pub(super) fn hash_of(definition: &Value) -> Option<ContextHash> {
    let variable = |name| variable(definition, name);
    variable("INDEX_HASH").or_else(|| variable("HASH"))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_parents_own_word_comes_first_and_each_name_once() {
        let of = |declared: &str, own: &str| {
            let definition = json!({ "payload": { "env": { "ARTIFACT_NAME": declared } } });
            names(&definition, &own.parse().unwrap()).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let (tar, zst) = ("public/image.tar", "public/image.tar.zst");
        assert_eq!(of("", tar), [tar, zst]);
        assert_eq!(of(zst, tar), [zst, tar]);
        assert_eq!(of("public/base.tar", "public/other.tar"), ["public/base.tar", "public/other.tar", zst, tar]);
        assert_eq!(of("no name", tar), [tar, zst]);
    }

    #[test]
    fn the_place_in_the_index_follows_from_the_tasks_environment() {
        let (hash, index_hash) = ("ab".repeat(32), "cd".repeat(32));
        let central = "mozilla-central".parse().unwrap();
        let of = |env: Value| {
            let places = hash_namespaces(&json!({ "payload": { "env": env } }), Some(&central));
            places.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let places = |prefix: &str, hash: &str| {
            ["try", "mozilla-central"].map(|project| format!("{prefix}docker.images.v1.{project}.base.hash.{hash}"))
        };
        let env = json!({ "IMAGE_NAME": "base", "PROJECT": "try", "HASH": hash, "INDEX_HASH": "" });
        assert_eq!(of(env), places("", &hash));
        let both =
            json!({ "IMAGE_NAME": "base", "PROJECT": "try", "HASH": hash, "INDEX_HASH": index_hash, "INDEX": "index" });
        assert_eq!(of(both), places("", &index_hash));
        let staging = json!({ "IMAGE_NAME": "base", "PROJECT": "try", "HASH": hash, "INDEX": "index.garbage" });
        assert_eq!(of(staging), places("garbage.", &hash));
        assert_eq!(of(json!({ "IMAGE_NAME": "base", "PROJECT": "mozilla-central", "HASH": hash })).len(), 1);
        assert_eq!(of(json!({ "IMAGE_NAME": "base", "HASH": hash })), [""; 0]);
    }
}
