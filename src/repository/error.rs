//! Errors about a tree of images: each case with the image and a hint. `cli` maps them to exit codes.

use std::io;
use std::path::PathBuf;

use super::listed::KindProblem;
use super::parent::ParentProblem;
use super::registry::RegistryProblem;
use super::revision::RevisionError;
use crate::context::ImageName;
use crate::context::collect::CollectError;
use crate::net::NameError;
use crate::report::Hint;
use crate::repository::document::DocumentError;

/// Why there is no answer about the images.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Neither of the usual directories exists.
    #[error(
        "{} has neither testing/docker nor taskcluster/docker{}",
        root.display(),
        Hint("name the directory of the images with --images-dir")
    )]
    NoImagesRoot {
        /// The repository's root.
        root: PathBuf,
    },
    /// Both of the usual directories exist.
    #[error(
        "{} has testing/docker and taskcluster/docker{}",
        root.display(),
        Hint("name one of them with --images-dir")
    )]
    TwoImagesRoots {
        /// The repository's root.
        root: PathBuf,
    },
    /// A file or directory.
    #[error("cannot read {}{}", path.display(), Hint("it must be there and readable"))]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        #[source]
        error: io::Error,
    },
    /// A `kind.yml` that no YAML reader takes.
    #[error("{}{}", .0, Hint("correct the YAML there"))]
    Yaml(DocumentError),
    /// A `kind.yml` that is something else.
    #[error("{} {problem}", path.display())]
    KindShape {
        /// The file.
        path: PathBuf,
        /// The problem.
        problem: &'static str,
    },
    /// A name that nothing has.
    #[error("unknown image {name}: {places} has no such directory{}", Hint(.nearest))]
    Unknown {
        /// The name.
        name: ImageName,
        /// The place where it should be, in words.
        places: String,
        /// Similar names, in words.
        nearest: String,
    },
    /// A name that no image can have.
    #[error("{error}{}", Hint(listed.as_ref().map(|kind| format!("rename it in {}", kind.display())).unwrap_or_default()))]
    Name {
        /// The rule.
        error: NameError,
        /// The `kind.yml` that has it.
        listed: Option<PathBuf>,
    },
    /// A directory that no image is made from.
    #[error(
        "{} is the directory of no image in {places}{}",
        directory.display(),
        Hint("name an image of this repository, or its directory")
    )]
    NotOfTree {
        /// The directory.
        directory: PathBuf,
        /// Where the images are, in words.
        places: String,
    },
    /// A directory that is not an image directory.
    #[error("unknown image {name}: {} has no Dockerfile", directory.display())]
    NoDockerfile {
        /// The name.
        name: ImageName,
        /// The directory.
        directory: PathBuf,
    },
    /// An image directory that the `kind.yml` does not list.
    #[error("the image {name} is not in {kinds}, so no task builds it{}", Hint(.nearest))]
    NotInKind {
        /// The name.
        name: ImageName,
        /// The files, in words.
        kinds: String,
        /// Similar names, in words.
        nearest: String,
    },
    /// An image that its `kind.yml` makes unusable.
    #[error("{}, the image {name}: {problem}", kind.display())]
    Kind {
        /// The image.
        name: ImageName,
        /// The file.
        kind: PathBuf,
        /// The problem.
        problem: KindProblem,
    },
    /// An image of another project's, which is not in the checkout.
    #[error(
        "the image {name} is another project's, by the reference-tasks of {}, and that project is not here{}",
        kind.display(),
        Hint("call from a checkout of it which has this one in it (--root, --kind)")
    )]
    Elsewhere {
        /// The image.
        name: ImageName,
        /// The file that names it.
        kind: PathBuf,
    },
    /// A directory that is no image itself: others are made from it.
    #[error(
        "{} is the definition of {}{}",
        directory.display(),
        names.join(", "),
        Hint("name the image that you want")
    )]
    SeveralImages {
        /// The directory.
        directory: PathBuf,
        /// The images' names.
        names: Vec<String>,
    },
    /// An image directory without a context.
    #[error(transparent)]
    Context(#[from] CollectError),
    /// An image whose parent cannot be filled in.
    #[error("the Dockerfile of the image {name}: {problem}")]
    Parent {
        /// The image.
        name: ImageName,
        /// The problem.
        problem: ParentProblem,
    },
    /// A parent that cannot be built.
    #[error("the parent of the image {child}: {error}")]
    OfChild {
        /// The image whose parent it is.
        child: ImageName,
        /// The reason. Not a source: it is in the message, and has no cause of its own.
        error: Box<TreeError>,
    },
    /// An earlier revision.
    #[error(transparent)]
    Revision(#[from] RevisionError),
    /// A new image that is there already.
    #[error("there is an image {name} already, or something in its place: {}; choose another name", place.display())]
    Exists {
        /// Its name.
        name: ImageName,
        /// Where it is.
        place: PathBuf,
    },
    /// Images that are built from each other.
    #[error("the images {cycle} are built from each other{}", Hint("one of them needs another parent"))]
    Cycle {
        /// `a -> b -> a`
        cycle: String,
    },
    /// An image that is in no registry.
    #[error("the image {name}: {problem}")]
    Registry {
        /// The image.
        name: ImageName,
        /// Why not.
        problem: RegistryProblem,
    },
}
