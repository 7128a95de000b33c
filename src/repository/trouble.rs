//! Why a tree of images does not give what it was asked for: each case with the image and the way out.
//! `cli` makes exit codes of them.

use std::io;
use std::path::PathBuf;

use super::listed::KindProblem;
use super::parent::ParentProblem;
use super::registry::RegistryProblem;
use crate::context::ImageName;
use crate::context::collect::CollectError;
use crate::net::NameError;
use crate::repository::document::DocumentError;

/// How many names are told that could have been meant.
const SUGGESTIONS: usize = 3;

/// How much alike two words are at least, from 0 to 1, when one could have been meant for the other.
const ALIKE: f64 = 0.8;

/// Why there is no answer about the images.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Neither of the usual places is there.
    #[error("{} has neither testing/docker nor taskcluster/docker; name the folder of the images with --images-dir", root.display())]
    NoImagesRoot {
        /// The repository's root.
        root: PathBuf,
    },
    /// Both of the usual places are there.
    #[error("{} has testing/docker and taskcluster/docker; name one of them with --images-dir", root.display())]
    TwoImagesRoots {
        /// The repository's root.
        root: PathBuf,
    },
    /// A file or folder.
    #[error("cannot read {}; it must be there and readable", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// A `kind.yml` that no YAML reader takes.
    #[error("{0}; correct the YAML there")]
    Yaml(DocumentError),
    /// A `kind.yml` that is something else.
    #[error("{} {problem}", path.display())]
    KindShape {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A name that nothing has.
    #[error("unknown image {name}: {places} has no such folder{nearest}")]
    Unknown {
        /// The name.
        name: ImageName,
        /// Where it should be, in words.
        places: String,
        /// What could have been meant, in words.
        nearest: String,
    },
    /// A name that no image can have.
    #[error("{error}{}", listed.as_ref().map(|kind| format!("; rename it in {}", kind.display())).unwrap_or_default())]
    Name {
        /// The rule.
        error: NameError,
        /// The `kind.yml` that has it.
        listed: Option<PathBuf>,
    },
    /// A directory that no image is made from.
    #[error("{} is the directory of no image in {places}; name an image of this repository, or its directory", directory.display())]
    NotOfTree {
        /// The directory.
        directory: PathBuf,
        /// Where the images are, in words.
        places: String,
    },
    /// A folder that is no image directory.
    #[error("unknown image {name}: {} has no Dockerfile", directory.display())]
    NoDockerfile {
        /// The name.
        name: ImageName,
        /// The folder.
        directory: PathBuf,
    },
    /// An image directory that the `kind.yml` does not list.
    #[error("the image {name} is not in {kinds}, so no task builds it{nearest}")]
    NotInKind {
        /// The name.
        name: ImageName,
        /// The files, in words.
        kinds: String,
        /// What could have been meant, in words.
        nearest: String,
    },
    /// An image that its `kind.yml` makes unusable.
    #[error("{}, the image {name}: {problem}", kind.display())]
    Kind {
        /// The image.
        name: ImageName,
        /// The file.
        kind: PathBuf,
        /// What is wrong with it.
        problem: KindProblem,
    },
    /// An image of another project's, which is not in the checkout.
    #[error(
        "the image {name} is another project's, by the reference-tasks of {}, and that project is not here; call from a \
         checkout of it which has this one in it (--root, --kind)",
        kind.display()
    )]
    Elsewhere {
        /// The image.
        name: ImageName,
        /// The file that names it.
        kind: PathBuf,
    },
    /// A directory that is no image itself: others are made from it.
    #[error("{} is the definition of {}; name the image that you want", directory.display(), names.join(", "))]
    SeveralImages {
        /// The directory.
        directory: PathBuf,
        /// The images' names.
        names: Vec<String>,
    },
    /// An image directory without a context.
    #[error(transparent)]
    Context(#[from] CollectError),
    /// An image whose parent cannot be put in.
    #[error("the Dockerfile of the image {name}: {problem}")]
    Parent {
        /// The image.
        name: ImageName,
        /// What is wrong.
        problem: ParentProblem,
    },
    /// A parent that cannot be built.
    #[error("the parent of the image {child}: {error}")]
    OfChild {
        /// The image whose parent it is.
        child: ImageName,
        /// Why not. Not a source: it is in the message, and has no cause of its own.
        error: Box<TreeError>,
    },
    /// Images that are built from each other.
    #[error("the images {cycle} are built from each other; one of them needs another parent")]
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

/// `; did you mean x, y or z?`, or nothing.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let alike = known.into_iter().map(|known| (strsim::jaro_winkler(word, known), known));
    let mut alike: Vec<_> = alike.filter(|(alike, _)| *alike >= ALIKE).collect();
    alike.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let names: Vec<_> = alike.into_iter().take(SUGGESTIONS).map(|(_, name)| name).collect();
    match names.split_last() {
        None => String::new(),
        Some((only, [])) => format!("; did you mean {only}?"),
        Some((last, others)) => format!("; did you mean {} or {last}?", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_names_come_first_and_few() {
        let names = ["builder", "tester", "builder-base", "debian12-base", "builder-test", "builder-x"];
        assert_eq!(nearest("bulder", names), "; did you mean builder, builder-x or builder-base?");
        assert_eq!(nearest("testr", names), "; did you mean tester?");
        assert_eq!(nearest("zzz", names), "");
    }
}
