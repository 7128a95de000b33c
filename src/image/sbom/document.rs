//! The subset of `CycloneDX` 1.5 that image-worker writes. The same image gives the same document: it contains no current time
//! and no guesses. Other files of this module find the packages.

use serde::Serialize;

use super::Contents;
use super::databases::Package;
use crate::net::ImageId;

/// A software bill of materials for an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    bom_format: &'static str,
    spec_version: &'static str,
    serial_number: String,
    version: u32,
    metadata: Metadata,
    components: Vec<Component>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Metadata {
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    tools: Tools,
    component: Component,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Tools {
    components: Vec<Component>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Component {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(rename = "bom-ref", skip_serializing_if = "Option::is_none")]
    bom_ref: Option<String>,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Property {
    name: &'static str,
    value: String,
}

/// The image that a document describes.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its name and its tag.
    pub tag: &'a str,
    /// Its id.
    pub image_id: ImageId,
    /// The time used for a reproducible build, if it is one.
    pub moment: Option<jiff::Timestamp>,
}

/// The document for an image.
#[must_use]
pub fn document(of: Subject, contents: &Contents) -> Document {
    let (name, version) = of.tag.rsplit_once(':').unwrap_or((of.tag, "latest"));
    let image = Component {
        kind: "container",
        bom_ref: Some(of.image_id.to_string()),
        name: name.to_owned(),
        version: Some(version.to_owned()),
        description: None,
        purl: None,
    };
    let us = Component {
        kind: "application",
        bom_ref: None,
        name: "image-worker".to_owned(),
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        description: None,
        purl: None,
    };
    let distribution = contents.distribution.id.as_ref().map(|id| Component {
        kind: "operating-system",
        bom_ref: Some(format!("os:{id}")),
        name: id.clone(),
        version: contents.distribution.version.clone(),
        description: contents.distribution.name.clone(),
        purl: None,
    });
    let unread = |path: &&str| Property { name: "image-worker:unread", value: (*path).to_owned() };
    Document {
        bom_format: "CycloneDX",
        spec_version: "1.5",
        serial_number: serial_number(of.image_id),
        version: 1,
        metadata: Metadata {
            timestamp: of.moment.map(|moment| moment.to_string()),
            tools: Tools { components: vec![us] },
            component: image,
            properties: contents.unread.iter().map(unread).collect(),
        },
        components: distribution.into_iter().chain(contents.packages.iter().map(component)).collect(),
    }
}

fn component(Package { purl, name, version, .. }: &Package) -> Component {
    Component {
        kind: "library",
        bom_ref: Some(purl.clone()),
        name: name.clone(),
        version: Some(version.clone()),
        description: None,
        purl: Some(purl.clone()),
    }
}

/// A UUID of version 8 (custom), made of the first digits of the image id.
fn serial_number(image_id: ImageId) -> String {
    let mut digits: Vec<char> = image_id.hex().to_string().chars().collect();
    (digits[12], digits[16]) = ('8', '8');
    let part = |from: usize, to: usize| digits[from..to].iter().collect::<String>();
    format!("urn:uuid:{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}
