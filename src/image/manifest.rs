//! `manifest.json` and `repositories`: the two members that describe an archive's content. Reads those that engines write, and
//! writes them so that every consumer understands them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One image of `manifest.json`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Image {
    /// The member that contains the image's configuration.
    pub(super) config: String,
    /// The image's names. An export by id has none.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) repo_tags: Vec<String>,
    /// The members that contain the layers, the lowest first.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) layers: Vec<String>,
}

pub(super) fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Option::<Vec<String>>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// `repositories`: the id of the top layer by repository name and tag. docker-worker and taskgraph read the names
/// from here; the id is the directory of the old layer format, or otherwise the layer's digest.
pub(super) fn repositories(tag: &str, top_layer: Option<&str>) -> BTreeMap<String, BTreeMap<String, String>> {
    let (name, version) = tag.rsplit_once(':').unwrap_or((tag, "latest"));
    let id = top_layer.map(layer_id).unwrap_or_default().to_owned();
    BTreeMap::from([(name.to_owned(), BTreeMap::from([(version.to_owned(), id)]))])
}

/// `<id>/layer.tar`, `<digest>.tar` or `blobs/sha256/<digest>`.
fn layer_id(layer: &str) -> &str {
    let layer = layer.strip_suffix("/layer.tar").or_else(|| layer.strip_suffix(".tar")).unwrap_or(layer);
    layer.rsplit('/').next().unwrap_or(layer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_by_id_has_null_for_names() {
        let text = r#"[{"Config":"c.json","RepoTags":null,"Layers":["a/layer.tar"],"LayerSources":{}}]"#;
        let images: Vec<Image> = serde_json::from_str(text).unwrap();
        assert_eq!(images[0].repo_tags, Vec::<String>::new());
        assert_eq!(images[0].layers, ["a/layer.tar"]);
    }

    #[test]
    fn repositories_name_the_top_layer_of_all_layouts() {
        for layer in ["abc/layer.tar", "abc.tar", "blobs/sha256/abc"] {
            let json = serde_json::to_string(&repositories("builder:1234", Some(layer))).unwrap();
            assert_eq!(json, r#"{"builder":{"1234":"abc"}}"#);
        }
    }
}
