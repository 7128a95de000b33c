//! The tree of images: the image directories below the images root, what is said of each, who is built from whom, and
//! the hashes that follow. Contexts are made by `context`; graphs, the index and the engine are for others.
//!
//! - `Tree`: which images there are. `kind`: what taskgraph's `kind.yml` says of them.
//! - `parent`: which image is the parent.
//! - [`lineage`]: families, parents first, and an image's hash in the index. [`registry`]: names in registries.
//! - [`local`]: the images as people build them on their own machine.
//! - [`survey`]: all of it at once, and what is wrong with it, for people.

#[cfg(test)]
mod fixture;
mod kind;
pub mod lineage;
pub mod local;
mod parent;
pub mod registry;
pub mod survey;
mod trouble;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::context::collect::CollectError;
use crate::dockerfile::base_images::Recipe;
use crate::dockerfile::preprocess::Dockerfile;
use crate::names::{ImageName, RepoPath};
pub use kind::KindProblem;
pub use parent::ParentProblem;

use registry::{Registry, RegistryProblem};
pub use trouble::TreeError;
use trouble::nearest;

/// Where image directories are in real trees: Gecko's in 2015, and taskgraph's.
const USUAL_PLACES: [&str; 2] = ["testing/docker", "taskcluster/docker"];

/// The images of a repository. Reading it looks only for which there are; what is wrong with one of them is an
/// error when that one is asked for.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
    images_root: PathBuf,
    /// The `kind.yml`, where there is one.
    kind: Option<PathBuf>,
    images: BTreeMap<ImageName, Entry>,
    /// Folders of the images root that are no image directories.
    others: BTreeSet<String>,
}

/// An image directory, and what is said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The image's name.
    pub name: ImageName,
    /// Where its Dockerfile is.
    pub directory: PathBuf,
    /// Its own build arguments, which `# %ARG` lines are filled in from too. Only a `kind.yml` says them.
    pub args: BTreeMap<String, String>,
    /// Its Treeherder symbol. Only a `kind.yml` says it.
    pub symbol: Option<String>,
    /// What a `kind.yml` says; [`Tree::parent`] knows the whole.
    listed_parent: Option<ImageName>,
}

#[derive(Debug)]
enum Entry {
    /// An image that a task can build.
    Built(Image),
    /// An image that the `kind.yml` does not list.
    Unlisted(Image),
    /// An image that the `kind.yml` makes unusable.
    Unusable(KindProblem),
    /// An image of the `kind.yml` whose directory has no Dockerfile.
    Bare(PathBuf),
}

impl Tree {
    /// Finds the images of a repository: those that the `kind.yml` lists, where one is given, else every folder with a
    /// Dockerfile.
    pub fn open(root: &Path, images_dir: Option<&Path>, kind: Option<&Path>) -> Result<Self, TreeError> {
        match kind {
            Some(kind) => Self::with_kind(root, images_dir, kind),
            None => Self::read(root, images_dir),
        }
    }

    /// Finds the image directories of a repository: the folders with a Dockerfile in `images_dir`, a path from the
    /// root, or in `testing/docker` or `taskcluster/docker`, whichever is there.
    pub fn read(root: &Path, images_dir: Option<&Path>) -> Result<Self, TreeError> {
        // What is relative to the current directory would be taken for relative to the root further down.
        let root = std::path::absolute(root).map_err(|error| TreeError::Read { path: root.to_owned(), error })?;
        let images_root = match images_dir {
            Some(given) => root.join(given),
            None => usual_place(&root)?,
        };
        let (found, others) = folders(&images_root)?;
        let image = |name: ImageName| {
            let directory = images_root.join(name.as_str());
            let (args, symbol, listed_parent) = (BTreeMap::new(), None, None);
            (name.clone(), Entry::Built(Image { name, directory, args, symbol, listed_parent }))
        };
        let images = found.into_iter().map(image).collect();
        Ok(Self { root, images_root, kind: None, images, others })
    }

    /// Finds the images that a `kind.yml` of taskgraph lists. Their directories are in `images_dir`, a path from the
    /// root, or in `taskcluster/docker`; other image directories there can be registry images, and no task images.
    pub fn with_kind(root: &Path, images_dir: Option<&Path>, kind: &Path) -> Result<Self, TreeError> {
        let mut tree = Self::read(root, Some(images_dir.unwrap_or(Path::new(USUAL_PLACES[1]))))?;
        tree.images = std::mem::take(&mut tree.images).into_iter().map(|(name, it)| (name, it.unlisted())).collect();
        for (name, listed) in kind::read(kind)? {
            let entry = match listed {
                Ok(listed) => {
                    let below = listed.definition.as_ref().map_or(name.as_str(), RepoPath::as_str);
                    let directory = tree.images_root.join(below);
                    if has_dockerfile(&directory) {
                        let kind::Listed { parent, args, symbol, .. } = listed;
                        Entry::Built(Image { name: name.clone(), directory, args, symbol, listed_parent: parent })
                    } else {
                        Entry::Bare(directory)
                    }
                }
                Err(problem) => Entry::Unusable(problem),
            };
            tree.images.insert(name, entry);
        }
        tree.kind = Some(kind.to_owned());
        Ok(tree)
    }

    /// The repository's root, which `# %include` is relative to.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder that holds the image directories.
    #[must_use]
    pub fn images_root(&self) -> &Path {
        &self.images_root
    }

    /// The names of all images, also of those that cannot be used.
    pub fn names(&self) -> impl Iterator<Item = &ImageName> {
        self.images.keys()
    }

    /// An image by its name.
    pub fn image(&self, name: &ImageName) -> Result<&Image, TreeError> {
        match self.images.get(name) {
            Some(Entry::Built(image) | Entry::Unlisted(image)) => Ok(image),
            Some(Entry::Unusable(problem)) => Err(TreeError::Kind {
                name: name.clone(),
                kind: self.shown(self.kind.as_deref().unwrap_or(&self.images_root)),
                problem: problem.clone(),
            }),
            Some(Entry::Bare(directory)) => {
                Err(TreeError::NoDockerfile { name: name.clone(), directory: self.shown(directory) })
            }
            None if self.others.contains(name.as_str()) => {
                let directory = self.shown(&self.images_root.join(name.as_str()));
                Err(TreeError::NoDockerfile { name: name.clone(), directory })
            }
            None => Err(TreeError::Unknown {
                name: name.clone(),
                images_root: self.shown(&self.images_root),
                nearest: nearest(name.as_str(), self.names().map(ImageName::as_str)),
            }),
        }
    }

    /// An image that a task builds: with a `kind.yml`, one that it lists.
    pub fn task_image(&self, name: &ImageName) -> Result<&Image, TreeError> {
        let image = self.image(name)?;
        match (self.images.get(name), &self.kind) {
            (Some(Entry::Unlisted(_)), Some(kind)) => {
                let listed = self.images.iter().filter(|(_, entry)| !matches!(entry, Entry::Unlisted(_)));
                let nearest = nearest(name.as_str(), listed.map(|(name, _)| name.as_str()));
                Err(TreeError::NotInKind { name: name.clone(), kind: self.shown(kind), nearest })
            }
            _ => Ok(image),
        }
    }

    /// The images that an image's Dockerfile names.
    pub fn recipe(&self, name: &ImageName) -> Result<Recipe, TreeError> {
        let image = self.image(name)?;
        Ok(Recipe::read(&image.dockerfile()?.text, &image.args))
    }

    /// The task image that a task image is built from.
    pub fn parent(&self, name: &ImageName) -> Result<Option<ImageName>, TreeError> {
        let image = self.task_image(name)?;
        let recipe = self.recipe(name)?;
        parent::parent(self, image, &recipe).map_err(|problem| TreeError::Parent { name: name.clone(), problem })
    }

    /// What an image is in a registry; none where it has neither VERSION nor HASH.
    pub fn registry(&self, name: &ImageName) -> Result<Option<Registry>, TreeError> {
        match self.image(name) {
            // What a task cannot build, a registry can have.
            Ok(_) | Err(TreeError::Kind { .. }) => Registry::read(&self.images_root, name),
            Err(error) => Err(error),
        }
    }

    /// The name of a registry image: `REGISTRY/NAME:VERSION`, or `REGISTRY/NAME@sha256:…` with a HASH.
    pub fn reference(&self, name: &ImageName) -> Result<String, TreeError> {
        let registry = self.registry(name)?;
        let none = || TreeError::Registry { name: name.clone(), problem: RegistryProblem::NoVersion };
        registry.map(|registry| registry.reference()).ok_or_else(none)
    }

    /// A path as people write it: from the repository's root.
    fn shown(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).unwrap_or(path).to_owned()
    }

    fn is_image(&self, name: &ImageName) -> bool {
        self.images.contains_key(name)
    }
}

/// The bytes of a file of an image, which must be one: a pipe would wait for a writer that never comes.
fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let kind = fs::metadata(path)?.file_type();
    if !(kind.is_file() || kind.is_dir()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    fs::read(path)
}

/// The same, of a text.
fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read_regular(path)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

impl Image {
    /// Its Dockerfile, processed.
    fn dockerfile(&self) -> Result<Dockerfile, TreeError> {
        let path = self.directory.join("Dockerfile");
        let raw = read_regular(&path).map_err(|error| TreeError::Read { path: path.clone(), error })?;
        let processed = Dockerfile::process(&raw, &self.args);
        Ok(processed.map_err(|problem| CollectError::Dockerfile { path, problem })?)
    }
}

impl Entry {
    fn unlisted(self) -> Self {
        match self {
            Self::Built(image) => Self::Unlisted(image),
            other => other,
        }
    }
}

/// The images root where nobody names it.
fn usual_place(root: &Path) -> Result<PathBuf, TreeError> {
    let mut there = USUAL_PLACES.iter().map(|place| root.join(place)).filter(|place| place.is_dir());
    let root = root.to_owned();
    match (there.next(), there.next()) {
        (Some(place), None) => Ok(place),
        (None, _) => Err(TreeError::NoImagesRoot { root }),
        (Some(_), Some(_)) => Err(TreeError::TwoImagesRoots { root }),
    }
}

/// The folders of the images root: image directories, and others.
fn folders(images_root: &Path) -> Result<(BTreeSet<ImageName>, BTreeSet<String>), TreeError> {
    let unreadable = |error| TreeError::Read { path: images_root.to_owned(), error };
    let (mut images, mut others) = (BTreeSet::new(), BTreeSet::new());
    for entry in fs::read_dir(images_root).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        // A name that is no text can't be written in a graph.
        let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|_| path.is_dir()) else { continue };
        match name.parse() {
            Ok(name) if has_dockerfile(&path) => drop(images.insert(name)),
            _ => drop(others.insert(name.to_owned())),
        }
    }
    Ok((images, others))
}

/// Whether there is a Dockerfile, be it a link that leads nowhere: making the context says so.
fn has_dockerfile(directory: &Path) -> bool {
    directory.join("Dockerfile").symlink_metadata().is_ok()
}

#[cfg(test)]
mod tests;
