//! All images of a tree at once, for people: what each is and is built from, what is wrong, and what could be better. For a
//! single image use [`Tree`], which returns the first problem as an error.

mod diagnostics;
mod dot;
mod drawing;
mod relations;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::lineage::{in_parallel, index_hash};
use super::registry::{Checked, VersionFile};
use super::{Entry, Tree, TreeError};
use crate::context::collect::CollectError;
use crate::context::run_task::RunTaskError;
use crate::context::{ContextHash, HashScheme, ImageName};
use crate::dockerfile::base_images::DockerfileImages;
use diagnostics::Diagnostics;
pub use relations::{Link, Relation};
use relations::{Related, Relations};

/// The report about the images of a repository.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LintReport {
    /// The directory of the image directories, from the repository's root; several with colons between them.
    pub images_dir: String,
    /// How contexts are hashed.
    pub scheme: HashScheme,
    /// The images, in the order of their names.
    pub images: Vec<ImageReport>,
    /// The problems.
    pub problems: Vec<Diagnostic>,
    /// What could be better.
    pub hints: Vec<Diagnostic>,
}

/// The report about one image. Values that are unknown because of a problem are missing.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageReport {
    /// Its name.
    pub name: ImageName,
    /// Its directory, from the repository's root.
    pub directory: PathBuf,
    /// What builds it; none if a `kind.yml` does not list it and no registry has it.
    pub kind: Option<Sort>,
    /// The tag that VERSION has.
    pub version: Option<String>,
    /// The registry, the image's own or that of all images.
    pub registry: Option<String>,
    /// The digest that HASH has.
    pub digest: Option<String>,
    /// What tasks and Dockerfiles call a registry image.
    pub reference: Option<String>,
    /// Its Treeherder symbol.
    pub symbol: Option<String>,
    /// The packages that it installs of other tasks.
    pub packages: Vec<String>,
    /// The architecture that it is for, if it is not amd64.
    pub arch: Option<String>,
    /// Its own build arguments.
    pub args: BTreeMap<String, String>,
    /// How many files its context has.
    pub files: Option<usize>,
    /// How many bytes they have together.
    pub size: Option<u64>,
    /// The hash of its context.
    pub context_hash: Option<ContextHash>,
    /// The hash in its `.hash.` route, if a task builds it; none for images with packages, whose tasks only the task graph knows.
    pub hash: Option<ContextHash>,
    /// The task image that it is built from.
    pub parent: Option<ImageName>,
    /// The images of the tree that it is made of.
    pub from: Vec<Relation>,
    /// The other images that it is made of.
    pub bases: Vec<String>,
}

/// What builds an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    /// A task, on push.
    Task,
    /// Pushed to a registry by hand.
    Registry,
}

/// A message for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The image that it is about, if it is one.
    pub image: Option<ImageName>,
    /// The message, in one line.
    pub message: String,
}

/// What was found by looking at one image alone.
#[derive(Debug, Default)]
struct Look {
    recipe: DockerfileImages,
    /// Its task parent.
    parent: Option<ImageName>,
    /// Whether its parent, or that it has none, is known.
    parent_is_known: bool,
    /// The files of its context, their bytes, their hash.
    context: Option<(usize, u64, ContextHash)>,
    /// Why its context has no files of taskgraph's.
    no_taskgraph: Option<RunTaskError>,
    /// The content of its registry files.
    version_file: Option<VersionFile>,
    errors: Vec<TreeError>,
}

impl Tree {
    /// Examines all images. No problem of theirs stops it.
    #[must_use]
    pub fn lint(&self, scheme: HashScheme) -> LintReport {
        let is_here = |name: &&ImageName| !matches!(self.images.get(*name), Some(Entry::Elsewhere { .. }));
        let names: Vec<_> = self.names().filter(is_here).cloned().collect();
        let looks = in_parallel(&names, |name| self.look(name, scheme));
        let looks: BTreeMap<_, _> = names.into_iter().zip(looks).collect();
        let relations = Relations::read(self, &looks);
        let mut hashes = index_hashes(self, &looks);
        let Diagnostics { problems, hints, .. } = Diagnostics::collect(self, &looks, &relations);
        let images = looks.iter().map(|(name, look)| self.image_report(name, look, &relations, hashes.remove(name)));
        let shown = self.images_roots.iter().map(|it| self.shown(it).display().to_string());
        let images_dir = shown.map(|it| if it.is_empty() { ".".to_owned() } else { it }).collect::<Vec<_>>().join(":");
        LintReport { images_dir, scheme, images: images.collect(), problems, hints }
    }

    fn look(&self, name: &ImageName, scheme: HashScheme) -> Look {
        let mut look = Look::default();
        match VersionFile::read(self.images_root_of(name.as_str()), name) {
            Ok(version_file) => look.version_file = Some(version_file),
            Err(error) => look.errors.push(error),
        }
        let image = match self.image(name) {
            Ok(image) => image,
            Err(error) => {
                look.errors.push(error);
                return look;
            }
        };
        let measured = self.context(image, scheme).and_then(|context| {
            let hash = context.hash()?;
            Ok((context.files().count(), context.size(), hash))
        });
        match measured {
            Ok(measured) => look.context = Some(measured),
            // Nothing is wrong with the image: this machine has no taskgraph.
            Err(TreeError::Context(CollectError::RunTask {
                problem: RunTaskError::NotInstalled { pinned }, ..
            })) => {
                look.no_taskgraph = Some(RunTaskError::NotInstalled { pinned });
            }
            Err(error) => look.errors.push(error),
        }
        match image.dockerfile() {
            Ok(dockerfile) => {
                look.recipe = DockerfileImages::read(&dockerfile.text, &image.args);
                match self.parent(name) {
                    Ok(parent) => (look.parent, look.parent_is_known) = (parent, true),
                    Err(TreeError::NotInKind { .. }) => {}
                    Err(error) => look.errors.push(error),
                }
            }
            // A Dockerfile that cannot be processed is no context either, in the scheme that processes it.
            Err(error) if look.context.is_some() => look.errors.push(error),
            Err(_) => {}
        }
        look
    }

    fn image_report(
        &self,
        name: &ImageName,
        look: &Look,
        relations: &Relations,
        hash: Option<ContextHash>,
    ) -> ImageReport {
        let valid = |which: fn(&VersionFile) -> &Option<Checked>| which(look.version_file.as_ref()?).clone()?.ok();
        let image = self.image(name).ok();
        let Related { relations: from, bases } = relations.of(name);
        let directory = match self.images.get(name) {
            Some(Entry::Built(image) | Entry::Unlisted(image)) => &image.directory,
            Some(Entry::Bare(directory)) => directory,
            Some(Entry::Unusable { .. } | Entry::Elsewhere { .. }) | None => &self.directory(name.as_str()),
        };
        ImageReport {
            name: name.clone(),
            directory: self.shown(directory),
            kind: self.sort(name, look, relations),
            version: valid(|file| &file.version),
            registry: valid(|file| &file.registry),
            digest: valid(|file| &file.digest),
            reference: self.reference(name).ok(),
            symbol: image.and_then(|image| image.symbol.clone()),
            packages: image.map(|image| image.packages.clone()).unwrap_or_default(),
            arch: image.and_then(|image| image.arch.map(|arch| arch.to_string())),
            args: image.map(|image| image.args.clone()).unwrap_or_default(),
            files: look.context.map(|(files, ..)| files),
            size: look.context.map(|(_, size, _)| size),
            context_hash: look.context.map(|(.., hash)| hash),
            hash,
            parent: look.parent.clone(),
            from: from.clone(),
            bases: bases.clone(),
        }
    }

    /// Usage decides: an image that a `kind.yml` lists, or that is another image's task parent, is a task's, even if it has
    /// registry files; else VERSION and REGISTRY make a registry image.
    fn sort(&self, name: &ImageName, look: &Look, relations: &Relations) -> Option<Sort> {
        let registry = look.version_file.as_ref().is_some_and(|file| file.is_versioned() && file.registry.is_some());
        match self.images.get(name) {
            Some(Entry::Unlisted(_)) => registry.then_some(Sort::Registry),
            Some(Entry::Built(_)) if self.kinds.is_empty() && registry && !relations.is_task_parent(name) => {
                Some(Sort::Registry)
            }
            _ => Some(Sort::Task),
        }
    }
}

/// The hashes in the images' `.hash.` routes, as far as they are known: for an image with a parent, after the parent.
fn index_hashes(tree: &Tree, looks: &BTreeMap<ImageName, Look>) -> BTreeMap<ImageName, ContextHash> {
    let mut hashes = BTreeMap::new();
    loop {
        let before = hashes.len();
        for (name, look) in looks {
            let (true, Some((.., context)), Ok(image)) = (look.parent_is_known, look.context, tree.image(name)) else {
                continue;
            };
            let of_parent = look.parent.as_ref().map(|parent| hashes.get(parent).copied());
            // The parent's comes first, if it has one.
            let of_parent = match of_parent {
                Some(None) => continue,
                known => known.flatten(),
            };
            if !hashes.contains_key(name) && !tree.lacks_packages(image) {
                hashes.insert(name.clone(), index_hash(image, context, of_parent, &tree.packages).unwrap_or(context));
            }
        }
        if hashes.len() == before {
            return hashes;
        }
    }
}

#[cfg(test)]
mod tests;
