//! The tree of images: the image directories below the images root, the data about each, their parents, and the hashes that
//! follow. `context` makes contexts; other modules do graphs, the index and the engine.
//!
//! - `Tree`: the list of images; `directories`: their directories. `kind`: taskgraph's `kind.yml`; `listed`: one of its entries.
//! - `parent`: which image is the parent.
//! - [`lineage`]: images with their ancestors, and an image's hash in the index. [`registry`]: names in registries.
//! - [`local`]: the images for local builds. [`changed`]: which of them differ from an earlier `revision`.
//! - [`lint`]: all images at once, and what is wrong with them, for people.

pub mod changed;
mod directories;
pub mod document;
mod error;
#[cfg(test)]
mod fixture;
mod git;
mod git_state;
mod kind;
pub mod kind_entry;
pub mod lineage;
pub mod lint;
mod listed;
pub mod local;
mod new_image;
mod parent;
pub mod registry;
mod revision;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::{ImagesDir, is_path};
use crate::context::checkout::Checkout;
use crate::context::collect::CollectError;
use crate::context::intake::Limits;
use crate::context::{ContextLimits, ImageName, RepoPath};
use crate::dockerfile::base_images::DockerfileImages;
use crate::dockerfile::preprocess::Dockerfile;
use crate::engine::TargetArch;
use crate::report::nearest;
use directories::{Directories, has_dockerfile, images_roots};
use kind::{Kind, Misnamed};
pub use listed::KindProblem;
use listed::Listed;
pub use parent::ParentProblem;

pub use error::TreeError;
pub use git_state::GitState;
use lineage::PackageDigests;
pub use new_image::NewImageRoot;
use registry::{Registry, RegistryProblem, is_versioned};
pub use revision::RevisionError;

/// Where image directories are in real trees: Gecko's in 2015, and taskgraph's.
const USUAL_PLACES: [&str; 2] = ["testing/docker", "taskcluster/docker"];

/// The images of a repository. Reading it only lists them; a problem of an image is an error when that image is requested.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
    checkout: Checkout,
    /// The directories that hold the image directories; an image is taken from the first that has it.
    images_roots: Vec<PathBuf>,
    /// The `kind.yml` files; several where a project adds its images to those of another.
    kinds: Vec<PathBuf>,
    images: BTreeMap<ImageName, Entry>,
    /// Directories of the images roots that are no image directories, with their paths.
    others: BTreeMap<String, PathBuf>,
    /// Entries of a `kind.yml` that are no images because of their names, each with its file.
    misnamed: Vec<(PathBuf, Misnamed)>,
    /// How large a context may be.
    limits: Limits,
    /// The packages of a task graph.
    packages: PackageDigests,
}

/// An image directory and its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The image's name.
    pub name: ImageName,
    /// Where its Dockerfile is.
    pub directory: PathBuf,
    /// Its own build arguments, which also fill in `# %ARG` lines. Only a `kind.yml` has them.
    pub args: BTreeMap<String, String>,
    /// Its Treeherder symbol. Only a `kind.yml` has it.
    pub symbol: Option<String>,
    /// The packages of other tasks that it installs, in its order: `NAME` of the tasks `packages-NAME`.
    pub packages: Vec<String>,
    /// The architecture that it is for, `arm64` for example; absent, `amd64`.
    pub arch: Option<TargetArch>,
    /// Other inputs of its hash in the index.
    pub digest_extra: Option<Value>,
    /// The parent in a `kind.yml`; [`Tree::parent`] considers the Dockerfile, too.
    listed_parent: Option<ImageName>,
}

#[derive(Debug)]
enum Entry {
    /// An image that a task can build.
    Built(Image),
    /// An image that the `kind.yml` does not list.
    Unlisted(Image),
    /// An image that its `kind.yml` makes unusable.
    Unusable { kind: PathBuf, problem: KindProblem },
    /// An image of the `kind.yml` whose directory has no Dockerfile.
    Bare(PathBuf),
    /// An image that its `kind.yml` takes from another project's, which is not in this checkout.
    Elsewhere { kind: PathBuf },
}

impl Tree {
    /// Finds the images of a repository: those that its `kind.yml` lists, where there is one, else every directory with
    /// a Dockerfile.
    pub fn open(place: &ImagesDir) -> Result<Self, TreeError> {
        // A path relative to the current directory would later be resolved against the root.
        let root = place.checkout.root.clone().unwrap_or_default();
        let root = std::path::absolute(&root).map_err(|error| TreeError::Read { path: root, error })?;
        let checkout = place.checkout.at(Some(root.clone()));
        let kinds = place.kinds.clone().unwrap_or_else(|| kind::usual(&root));
        let kinds: Vec<_> = kinds.iter().map(|file| kind::read(file, &root)).collect::<Result<_, _>>()?;
        for kind in &kinds {
            kind.warn_of_what_is_not_run(&root);
        }
        let images_roots = images_roots(&root, &place.images_dirs, &kinds)?;
        let directories = Directories::read(&images_roots)?;
        let others = directories.others;
        let ContextLimits { max_bytes, max_entries } = place.limits;
        let limits = Limits { max_bytes, max_entries, ..Limits::default() };
        let (kinds_read, images, packages) = (Vec::new(), BTreeMap::new(), PackageDigests::new());
        let misnamed = Vec::new();
        let mut tree =
            Self { root, checkout, images_roots, kinds: kinds_read, images, others, misnamed, packages, limits };
        for kind in kinds {
            tree.add_kind(kind);
        }
        for (name, directory) in directories.images {
            let image = Listed::default().image(name.clone(), directory);
            if tree.kinds.is_empty() {
                tree.images.insert(name, Entry::Built(image));
            } else if !tree.is_definition_only(&image) {
                tree.images.entry(name).or_insert(Entry::Unlisted(image));
            }
        }
        Ok(tree)
    }

    /// Adds the images of a `kind.yml`. Other image directories can be registry images, and no task images.
    fn add_kind(&mut self, kind: Kind) {
        for (name, listed) in kind.images {
            let entry = match listed {
                Ok(listed) => {
                    let below = listed.definition.as_ref().map_or(name.as_str(), RepoPath::as_str);
                    let directory = self.directory(below);
                    if has_dockerfile(&directory) {
                        Entry::Built(listed.image(name.clone(), directory))
                    } else {
                        Entry::Bare(directory)
                    }
                }
                Err(problem) => Entry::Unusable { kind: kind.file.clone(), problem },
            };
            self.images.entry(name).or_insert(entry);
        }
        for name in kind.elsewhere {
            self.images.entry(name).or_insert(Entry::Elsewhere { kind: kind.file.clone() });
        }
        self.misnamed.extend(kind.misnamed.into_iter().map(|it| (kind.file.clone(), it)));
        self.kinds.push(kind.file);
    }

    /// Where an image directory is: in the first images root that has it.
    fn directory(&self, below: &str) -> PathBuf {
        self.images_root_of(below).join(below)
    }

    /// The images root that has a directory, else the first.
    fn images_root_of(&self, below: &str) -> &Path {
        let has = |root: &&PathBuf| root.join(below).is_dir();
        self.images_roots.iter().find(has).or(self.images_roots.first()).map_or(self.root(), PathBuf::as_path)
    }

    /// Whether a directory is only the source of entries of the `kind.yml` with other names.
    fn is_definition_only(&self, image: &Image) -> bool {
        let is_of_misnamed = || self.misnamed.iter().any(|(_, it)| self.directory(&it.below) == image.directory);
        (self.made_from(&image.directory).next().is_some() || is_of_misnamed())
            && !is_versioned(self.images_root_of(image.name.as_str()), &image.name)
    }

    /// The repository.
    #[must_use]
    pub fn checkout(&self) -> &Checkout {
        &self.checkout
    }

    /// The `kind.yml` files that list the images; none where every image directory is an image.
    #[must_use]
    pub fn kinds(&self) -> &[PathBuf] {
        &self.kinds
    }

    /// The repository's root, which `# %include` is relative to.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the files of an image in a registry are, VERSION for example.
    #[must_use]
    pub fn registry_directory(&self, name: &ImageName) -> PathBuf {
        self.directory(name.as_str())
    }

    /// The image of a command line argument: a name, or the path of its directory, relative to `directory`. None for a directory
    /// that no image of this tree is made from.
    pub fn find(&self, typed: &str, directory: &Path) -> Result<Option<&Image>, TreeError> {
        if let Ok(name) = typed.parse::<ImageName>()
            && (self.images.contains_key(&name) || !directory.join(typed).is_dir())
        {
            return self.image(&name).map(Some);
        }
        let path = directory.join(typed);
        if let Err(error) = typed.parse::<ImageName>()
            && !(is_path(typed) || path.is_dir())
        {
            let listed = self.misnamed.iter().find(|(_, it)| it.error == error).map(|(file, _)| self.shown(file));
            return Err(TreeError::Name { error, listed });
        }
        let real = path.canonicalize().map_err(|error| TreeError::Read { path: path.clone(), error })?;
        let is_its = |image: &&Image| image.directory.canonicalize().is_ok_and(|directory| directory == real);
        let images: Vec<_> = self.usable().filter(is_its).collect();
        let of_its_name = images.iter().find(|image| real.file_name().is_some_and(|name| name == image.name.as_str()));
        match (of_its_name, images.as_slice()) {
            (Some(image), _) | (None, [image]) => Ok(Some(image)),
            (None, []) => Ok(None),
            (None, several) => {
                let names = several.iter().map(|image| image.name.to_string()).collect();
                Err(TreeError::SeveralImages { directory: self.shown(&real), names })
            }
        }
    }

    /// The name of the image of a command line argument: a name, or the path of its directory.
    pub fn named(&self, typed: &str, directory: &Path) -> Result<ImageName, TreeError> {
        let image = self.find(typed, directory)?.map(|image| image.name.clone());
        let places = || self.listed(&self.images_roots);
        image.ok_or_else(|| TreeError::NotOfTree { directory: self.shown(&directory.join(typed)), places: places() })
    }

    /// The same tree with given arguments that override an image's own.
    #[must_use]
    pub fn with_args(mut self, name: &ImageName, args: BTreeMap<String, String>) -> Self {
        if let Some(Entry::Built(image) | Entry::Unlisted(image)) = self.images.get_mut(name) {
            image.args.extend(args);
        }
        self
    }

    /// The images that are made from a directory.
    fn made_from(&self, directory: &Path) -> impl Iterator<Item = &Image> {
        self.usable().filter(move |image| image.directory == directory)
    }

    /// Whether the checkout is only a part of another project's, in whose checkout it is complete.
    fn is_part(&self) -> bool {
        self.images.values().any(|entry| matches!(entry, Entry::Elsewhere { .. }))
    }

    /// The images whose directories have a Dockerfile.
    fn usable(&self) -> impl Iterator<Item = &Image> {
        self.images.values().filter_map(|entry| match entry {
            Entry::Built(image) | Entry::Unlisted(image) => Some(image),
            Entry::Unusable { .. } | Entry::Bare(_) | Entry::Elsewhere { .. } => None,
        })
    }

    /// The names of all images, also of those that cannot be used.
    pub fn names(&self) -> impl Iterator<Item = &ImageName> {
        self.images.keys()
    }

    /// An image by its name.
    pub fn image(&self, name: &ImageName) -> Result<&Image, TreeError> {
        match self.images.get(name) {
            Some(Entry::Built(image) | Entry::Unlisted(image)) => Ok(image),
            Some(Entry::Unusable { kind, problem }) => {
                Err(TreeError::Kind { name: name.clone(), kind: self.shown(kind), problem: problem.clone() })
            }
            Some(Entry::Elsewhere { kind }) => Err(TreeError::Elsewhere { name: name.clone(), kind: self.shown(kind) }),
            Some(Entry::Bare(directory)) => {
                Err(TreeError::NoDockerfile { name: name.clone(), directory: self.shown(directory) })
            }
            None if self.made_from(&self.directory(name.as_str())).next().is_some() => {
                let directory = self.directory(name.as_str());
                let names = self.made_from(&directory).map(|image| image.name.to_string()).collect();
                Err(TreeError::SeveralImages { directory: self.shown(&directory), names })
            }
            None => match self.others.get(name.as_str()) {
                Some(directory) => {
                    Err(TreeError::NoDockerfile { name: name.clone(), directory: self.shown(directory) })
                }
                None => Err(TreeError::Unknown {
                    name: name.clone(),
                    places: self.listed(&self.images_roots),
                    nearest: nearest(name.as_str(), self.names().map(ImageName::as_str)),
                }),
            },
        }
    }

    /// An image that a task builds: with a `kind.yml`, one that it lists.
    pub fn task_image(&self, name: &ImageName) -> Result<&Image, TreeError> {
        let image = self.image(name)?;
        if let Some(Entry::Unlisted(_)) = self.images.get(name) {
            let listed = self.images.iter().filter(|(_, entry)| !matches!(entry, Entry::Unlisted(_)));
            let nearest = nearest(name.as_str(), listed.map(|(name, _)| name.as_str()));
            return Err(TreeError::NotInKind { name: name.clone(), kinds: self.listed(&self.kinds), nearest });
        }
        Ok(image)
    }

    /// The images that an image's Dockerfile names.
    pub fn recipe(&self, name: &ImageName) -> Result<DockerfileImages, TreeError> {
        let image = self.image(name)?;
        Ok(DockerfileImages::read(&image.dockerfile()?.text, &image.args))
    }

    /// The task image that a task image is built from.
    pub fn parent(&self, name: &ImageName) -> Result<Option<ImageName>, TreeError> {
        let image = self.task_image(name)?;
        let recipe = self.recipe(name)?;
        let parent = parent::parent(self, image, &recipe)
            .map_err(|problem| TreeError::Parent { name: name.clone(), problem })?;
        parent::check_from(self, image, parent.as_ref())?;
        Ok(parent)
    }

    /// What an image is in a registry; none where it has neither VERSION nor HASH.
    pub fn registry(&self, name: &ImageName) -> Result<Option<Registry>, TreeError> {
        match self.image(name) {
            // A registry can have what a task cannot build.
            Ok(_) | Err(TreeError::Kind { .. }) => Registry::read(self.images_root_of(name.as_str()), name),
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
        path.strip_prefix(self.root()).unwrap_or(path).to_owned()
    }

    /// Paths as people write them, in a row.
    fn listed(&self, paths: &[PathBuf]) -> String {
        paths.iter().map(|path| self.shown(path).display().to_string()).collect::<Vec<_>>().join(" and ")
    }

    fn is_image(&self, name: &ImageName) -> bool {
        self.images.contains_key(name)
    }
}

/// The bytes of an image's file, which must be a regular file: a pipe could block forever.
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

#[cfg(test)]
mod tests;
