//! Lists the content of an image: its layers with their steps, the files that a container sees, and the bytes that later
//! layers overwrite or delete. It reads headers and skips contents; memory grows only with the number of files.

mod directories;
mod display;
mod files;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::layer::LayerError;
use super::sbom::{Contents, PackageSearch, SbomError};
use super::{UnpackedImage, layer};
use crate::net::ImageId;
use crate::report::secrets;
pub use directories::{Others, SizeTree, most_escaped};
use files::FileTree;

/// How many files, directories and wasted paths are listed.
const MOST_LISTED: usize = 10;

/// The content of an image. Sizes are in bytes, uncompressed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// The image's id, `sha256:…` of its configuration.
    pub image_id: ImageId,
    /// The names of the image in the archive.
    pub names: Vec<String>,
    /// The relevant parts of its configuration.
    pub configuration: Configuration,
    /// The size of all layers together, as tars.
    pub size: u64,
    /// The layers, the lowest first.
    pub layers: Vec<LayerContents>,
    /// How many files, links and devices a container has; directories are not counted.
    pub files: usize,
    /// The size of these files.
    pub file_bytes: u64,
    /// The largest of them.
    pub largest_files: Vec<SizedPath>,
    /// The directories with the most bytes below them, without those that have nearly all bytes in one subdirectory.
    pub largest_directories: Vec<SizedPath>,
    /// What later layers overwrite or delete.
    pub wasted: Waste,
    /// The packages, if the image has the database of a package manager that is supported.
    pub packages: Option<Packages>,
}

/// The settings for containers in an image's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Configuration {
    /// The platform, `linux/amd64`.
    pub platform: String,
    /// When it was created, according to the configuration.
    pub created: Option<String>,
    /// The user.
    pub user: Option<String>,
    /// The working directory.
    pub working_dir: Option<String>,
    /// The entry point.
    pub entrypoint: Vec<String>,
    /// The command, or the entry point's arguments.
    pub command: Vec<String>,
    /// The names of the environment variables. Their values can be secrets.
    pub variables: Vec<String>,
    /// The ports that it listens on, `8080/tcp`.
    pub exposed_ports: Vec<String>,
    /// The labels.
    pub labels: Vec<String>,
}

/// A layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerContents {
    /// sha256 of the plain layer, `sha256:…`.
    pub diff_id: String,
    /// The step that made it.
    pub step: String,
    /// The size of its tar.
    pub size: u64,
    /// How many files, links and devices it has.
    pub files: usize,
    /// The size of the files that a container still sees.
    pub visible: u64,
    /// The size of its other files, which are overwritten or deleted, also in later layers.
    pub wasted: u64,
}

/// A file or a directory, and its size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SizedPath {
    /// From the root, without a `/` in front.
    pub path: String,
    /// For a directory, of all files below it.
    pub size: u64,
}

impl SizedPath {
    fn new(path: &[u8], size: u64) -> Self {
        Self { path: String::from_utf8_lossy(path).into_owned(), size }
    }
}

/// Bytes that are in layers but not visible in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Waste {
    /// The total.
    pub bytes: u64,
    /// The share of the bytes of all files in all layers that a container sees, in percent.
    pub efficiency: u8,
    /// The paths with the most wasted bytes.
    pub paths: Vec<WastedPath>,
}

/// A path at or below which bytes are wasted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WastedPath {
    /// From the root, without a `/` in front. For a deleted directory, the directory.
    pub path: String,
    /// The bytes in lower layers.
    pub bytes: u64,
    /// What wasted them.
    pub by: WastedBy,
    /// The number of the last layer that wasted them, counted from 1.
    pub layer: usize,
}

/// How a file of a lower layer is hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum WastedBy {
    /// A later layer contains the path again, even if only its mode or owner changed.
    Overwritten,
    /// A later layer deletes it.
    Deleted,
}

/// The packages that package managers have installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Packages {
    /// The number of packages.
    pub count: usize,
    /// How many of them each package manager has installed.
    pub managers: BTreeMap<&'static str, usize>,
    /// Databases that exist but are not supported.
    pub unread: Vec<&'static str>,
}

/// What one pass over the headers of an image's layers finds.
#[derive(Debug)]
pub struct Survey {
    /// The content of the image.
    pub inventory: Inventory,
    /// Its files, to be drawn.
    pub tree: SizeTree,
    /// Its packages; `None` if there is no database of a package manager.
    pub packages: Result<Option<Contents>, SbomError>,
}

impl Survey {
    /// Surveys an image. `steps` are the steps that made the layers, the lowest first; it may be shorter than the layers.
    pub fn of(image: &UnpackedImage, steps: &[String]) -> Result<Self, LayerError> {
        let (mut tree, mut search) = (FileTree::default(), PackageSearch::default());
        let mut layers = Vec::new();
        for (number, part) in image.layers().iter().enumerate() {
            let (mut files, mut bytes) = (0, 0);
            layer::entries(image.bytes(), &part.pieces).each(|entry| {
                search.add(number, &entry);
                if let Some(size) = tree.add(entry, number) {
                    (files, bytes) = (files + 1, bytes + size);
                }
                Ok::<_, LayerError>(())
            })?;
            let step = steps.get(number).cloned().unwrap_or_else(|| "an unnamed step".to_owned());
            let diff_id = part.diff_id.prefixed();
            layers.push(LayerContents { diff_id, step, size: part.size, files, visible: 0, wasted: bytes });
        }
        for (layer, visible) in layers.iter_mut().zip(tree.visible(image.layers().len())) {
            layer.visible = visible;
            layer.wasted -= visible;
        }
        let packages = search.contents(image.bytes(), image.layers());
        let directories = tree.directories();
        let inventory = Inventory {
            image_id: image.image_id(),
            names: image.tags().to_vec(),
            configuration: Configuration::read(image.config()),
            size: layers.iter().map(|layer| layer.size).sum(),
            files: tree.count(),
            file_bytes: layers.iter().map(|layer| layer.visible).sum(),
            largest_files: tree.largest_files(MOST_LISTED),
            largest_directories: directories.largest(MOST_LISTED),
            wasted: tree.waste(MOST_LISTED),
            layers,
            packages: packages.as_ref().ok().and_then(Option::as_ref).map(Packages::of),
        };
        Ok(Self { inventory, tree: directories.drawn(), packages })
    }
}

impl Packages {
    fn of(contents: &Contents) -> Self {
        let (count, managers) = (contents.packages().len(), contents.managers());
        Self { count, managers, unread: contents.unread().to_vec() }
    }
}

impl Configuration {
    fn read(config: &[u8]) -> Self {
        let config: Value = serde_json::from_slice(config).unwrap_or_default();
        let hidden = |text: &str| secrets::hide(text).into_owned();
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(hidden);
        let words = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().filter_map(Value::as_str).map(hidden).collect()
        };
        let container = &config["config"];
        let name = |assignment: String| assignment.split('=').next().unwrap_or_default().to_owned();
        let labels = container["Labels"].as_object().into_iter().flatten();
        let labels = labels.map(|(key, value)| hidden(&format!("{key}={}", value.as_str().unwrap_or_default())));
        let ports = container["ExposedPorts"].as_object().into_iter().flatten();
        let part = |key: &str| text(&config[key]).unwrap_or_else(|| "unknown".to_owned());
        Self {
            platform: format!("{}/{}", part("os"), part("architecture")),
            created: text(&config["created"]),
            user: text(&container["User"]),
            working_dir: text(&container["WorkingDir"]),
            entrypoint: words(&container["Entrypoint"]),
            command: words(&container["Cmd"]),
            variables: words(&container["Env"]).into_iter().map(name).collect(),
            exposed_ports: ports.map(|(port, _)| port.clone()).collect(),
            labels: labels.collect(),
        }
    }
}

/// The largest things, the largest first; empty ones are left out.
fn largest<T: Ord>(sizes: impl Iterator<Item = (T, u64)>, most: usize) -> Vec<(T, u64)> {
    let mut all: Vec<_> = sizes.filter(|(_, size)| *size > 0).collect();
    all.sort_unstable_by(|(one, size), (another, other)| other.cmp(size).then_with(|| one.cmp(another)));
    all.truncate(most);
    all
}
