//! The tree of images: the image directories below the images root, what is said of each, who is built from whom, and
//! the hashes that follow. Contexts are made by `context`; graphs, the index and the engine are for others.
//!
//! - `Tree`: which images there are. `kind`: what taskgraph's `kind.yml` says of them.
//! - `instructions`, `words`, [`recipe`]: a Dockerfile's words, and the images that it names. `parent`: which is the parent.
//! - [`lineage`]: families, parents first, and an image's hash in the index. [`registry`]: names in registries.
//! - [`local`]: the images as people build them on their own machine.

#[cfg(test)]
mod fixture;
mod instructions;
mod kind;
pub mod lineage;
pub mod local;
mod parent;
pub mod recipe;
pub mod registry;
mod trouble;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::context::collect::CollectError;
use crate::context::dockerfile::Dockerfile;
use crate::names::{ImageName, RepoPath};
pub use kind::KindProblem;
pub use parent::ParentProblem;
use recipe::Recipe;
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
        let images_root = match images_dir {
            Some(given) => root.join(given),
            None => usual_place(root)?,
        };
        let (found, others) = folders(&images_root)?;
        let image = |name: ImageName| {
            let directory = images_root.join(name.as_str());
            let (args, symbol, listed_parent) = (BTreeMap::new(), None, None);
            (name.clone(), Entry::Built(Image { name, directory, args, symbol, listed_parent }))
        };
        let images = found.into_iter().map(image).collect();
        Ok(Self { root: root.to_owned(), images_root, kind: None, images, others })
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
        let path = image.directory.join("Dockerfile");
        let raw = fs::read(&path).map_err(|error| TreeError::Read { path: path.clone(), error })?;
        let processed = Dockerfile::process(&raw, &image.args);
        let dockerfile = processed.map_err(|problem| CollectError::Dockerfile { path, problem })?;
        Ok(Recipe::read(&dockerfile.text, &image.args))
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
mod tests {
    use std::os::unix::fs::symlink;

    use super::fixture::Files;
    use super::*;

    fn name(text: &str) -> ImageName {
        text.parse().unwrap()
    }

    fn names(tree: &Tree) -> Vec<&str> {
        tree.names().map(ImageName::as_str).collect()
    }

    #[test]
    fn folders_with_a_dockerfile_are_images() {
        let files = Files::new(&[
            ("testing/docker/builder/Dockerfile", ""),
            ("testing/docker/bare/README", ""),
            ("testing/docker/Upper/Dockerfile", ""),
            ("testing/docker/deep/er/Dockerfile", ""),
            ("testing/docker/REGISTRY", "quay.io/m"),
            ("elsewhere/linked/Dockerfile", ""),
        ]);
        symlink("../../elsewhere/linked", files.at("testing/docker/linked")).unwrap();
        let tree = Tree::read(files.root(), None).unwrap();
        assert_eq!(names(&tree), ["builder", "linked"]);
        assert_eq!((tree.root(), tree.images_root()), (files.root(), files.at("testing/docker").as_path()));
        assert_eq!(tree.image(&name("builder")).unwrap().directory, files.at("testing/docker/builder"));
        assert_eq!(tree.task_image(&name("builder")).unwrap(), tree.image(&name("builder")).unwrap());
        let error = |image: &str| tree.image(&name(image)).unwrap_err().to_string();
        assert_eq!(error("bare"), "unknown image bare: testing/docker/bare has no Dockerfile");
        assert_eq!(error("buidler"), "unknown image buidler: testing/docker has no such folder; did you mean builder?");
        assert_eq!(error("zzz"), "unknown image zzz: testing/docker has no such folder");
        let given = Tree::read(files.root(), Some(Path::new("elsewhere"))).unwrap();
        assert_eq!(names(&given), ["linked"]);
        assert_eq!(names(&Tree::read(Path::new("/"), Some(&files.at("elsewhere"))).unwrap()), ["linked"]);
    }

    #[test]
    fn the_images_root_is_where_it_usually_is() {
        let files = Files::new(&[("taskcluster/docker/a/Dockerfile", ""), ("testing/x", "")]);
        assert_eq!(names(&Tree::read(files.root(), None).unwrap()), ["a"]);
        fs::create_dir(files.at("testing/docker")).unwrap();
        let both = Tree::read(files.root(), None).unwrap_err();
        assert!(matches!(&both, TreeError::TwoImagesRoots { root } if root == files.root()));
        assert!(both.to_string().contains("testing/docker and taskcluster/docker; name one of them with --images-dir"));
        let neither = Tree::read(&files.at("testing"), None).unwrap_err();
        assert!(matches!(&neither, TreeError::NoImagesRoot { root } if *root == files.at("testing")));
        assert!(neither.to_string().contains("--images-dir"));
        let wrong = Tree::read(files.root(), Some(Path::new("none"))).unwrap_err();
        assert!(matches!(&wrong, TreeError::Read { path, .. } if *path == files.at("none")));
    }

    #[test]
    fn registry_images_have_a_reference() {
        let files = Files::new(&[
            ("testing/docker/a/Dockerfile", "FROM builder"),
            ("testing/docker/a/VERSION", "0.2"),
            ("testing/docker/b/Dockerfile", ""),
            ("testing/docker/c/VERSION", "0.3"),
            ("testing/docker/REGISTRY", "quay.io/m"),
        ]);
        let tree = Tree::read(files.root(), None).unwrap();
        assert_eq!(tree.reference(&name("a")).unwrap(), "quay.io/m/a:0.2");
        assert_eq!(tree.registry(&name("b")).unwrap(), None);
        let error = tree.reference(&name("b")).unwrap_err().to_string();
        assert!(error.starts_with("the image b: it has no VERSION file; `docker_image` is for"), "{error}");
        assert!(matches!(tree.reference(&name("c")), Err(TreeError::NoDockerfile { .. })));
    }

    #[test]
    fn a_kind_lists_the_task_images() {
        let files = Files::new(&[
            ("taskcluster/docker/a/Dockerfile", "# %ARG BASE\nFROM $BASE\n"),
            ("taskcluster/docker/shared/Dockerfile", "FROM x:1"),
            ("taskcluster/docker/pushed/Dockerfile", "FROM x:1"),
            ("taskcluster/docker/pushed/VERSION", "1"),
            ("taskcluster/docker/pack/Dockerfile", ""),
            ("taskcluster/docker/pack/VERSION", "2"),
            ("taskcluster/docker/REGISTRY", "r"),
            ("testing/docker/other/Dockerfile", ""),
            (
                "taskcluster/kinds/docker-image/kind.yml",
                "tasks:\n  a: {symbol: I(a), args: {BASE: 'y:2'}}\n  alias: {definition: shared}\n  none: {}\n  pack: {packages: [p]}\n",
            ),
        ]);
        let kind = files.at("taskcluster/kinds/docker-image/kind.yml");
        let tree = Tree::with_kind(files.root(), None, &kind).unwrap();
        assert_eq!(names(&tree), ["a", "alias", "none", "pack", "pushed", "shared"]);
        let a = tree.task_image(&name("a")).unwrap();
        assert_eq!((a.symbol.as_deref(), a.args["BASE"].as_str()), (Some("I(a)"), "y:2"));
        assert_eq!(tree.recipe(&name("a")).unwrap().references[0].image.as_deref(), Some("y:2"));
        assert_eq!(tree.image(&name("alias")).unwrap().directory, files.at("taskcluster/docker/shared"));
        assert_eq!(tree.reference(&name("pushed")).unwrap(), "r/pushed:1");
        assert_eq!(tree.reference(&name("pack")).unwrap(), "r/pack:2");
        let error = |image: &str| tree.task_image(&name(image)).unwrap_err().to_string();
        assert_eq!(
            error("pushed"),
            "the image pushed is not in taskcluster/kinds/docker-image/kind.yml, so no task builds it"
        );
        assert_eq!(error("none"), "unknown image none: taskcluster/docker/none has no Dockerfile");
        assert!(
            error("pack")
                .starts_with("taskcluster/kinds/docker-image/kind.yml, the image pack: it needs `packages:` (p)")
        );
        assert!(error("shard").ends_with("did you mean shared?"), "{}", error("shard"));
        let elsewhere = Tree::with_kind(files.root(), Some(Path::new("testing/docker")), &kind).unwrap();
        assert!(elsewhere.image(&name("other")).is_ok());
    }

    #[test]
    fn a_dockerfile_that_cannot_be_read_names_its_place() {
        let files = Files::new(&[("testing/docker/a/Dockerfile", "FROM x\n# %ARG B\n"), ("testing/docker/b/x", "")]);
        symlink("nowhere", files.at("testing/docker/b/Dockerfile")).unwrap();
        let tree = Tree::read(files.root(), None).unwrap();
        let path = files.at("testing/docker/a/Dockerfile");
        let error = tree.recipe(&name("a")).unwrap_err().to_string();
        let expected =
            format!("{}, line 2: `# %ARG B` needs an argument that was not given; give B=VALUE", path.display());
        assert_eq!(error, expected);
        assert!(matches!(tree.parent(&name("b")), Err(TreeError::Read { .. })));
    }
}
