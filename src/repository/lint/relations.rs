//! Which images of a tree are made from which, by the images in their Dockerfiles, and their cycles. `findings` judges the
//! relations.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::super::Tree;
use super::super::parent::ARGUMENT;
use super::super::registry::VersionFile;
use super::Look;
use crate::context::ImageName;
use crate::dockerfile::base_images::{By, DockerfileImages, Reference};

/// A place where an image names another one of the same tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Relation {
    /// The other image.
    pub image: ImageName,
    /// The instruction, as far as it names the image.
    pub instruction: String,
    /// What the name is.
    pub link: Link,
    /// How the reference differs from the other image's files, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mismatch: Option<String>,
    /// Whether it is a FROM, which makes the other image the base of a stage.
    #[serde(skip)]
    pub is_base: bool,
}

/// By what an image names another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// `$DOCKER_IMAGE_PARENT`: the image that the parent's task has built.
    Parent,
    /// `REGISTRY/NAME:VERSION`, or by digest.
    Registry,
    /// `NAME` or `NAME:latest`: what the engine has under that name.
    Name,
}

/// What one image is made of.
#[derive(Debug, Default)]
pub(super) struct Related {
    /// Images of the tree, in the order of the Dockerfile.
    pub(super) relations: Vec<Relation>,
    /// Other images, each once.
    pub(super) bases: Vec<String>,
}

/// An image of the tree that is in a registry.
struct Registered<'a> {
    name: &'a ImageName,
    version_file: &'a VersionFile,
}

/// The image that a registry reference means.
struct RegistryMatch<'a> {
    image: &'a ImageName,
    /// How the reference differs from the image's files.
    mismatch: Option<String>,
}

/// What all images are made of.
#[derive(Debug)]
pub(super) struct Relations(BTreeMap<ImageName, Related>);

impl Relations {
    /// Finds the images of the tree among those that its Dockerfiles name.
    pub(super) fn read(tree: &Tree, looks: &BTreeMap<ImageName, Look>) -> Self {
        let in_registries = looks.iter().filter_map(|(name, look)| {
            let version_file = look.version_file.as_ref().filter(|version_file| version_file.is_versioned())?;
            let registry = version_file.registry.as_ref()?.as_ref().ok()?;
            let repository = without_host_of_docker(&format!("{registry}/{name}")).to_owned();
            Some((repository, Registered { name, version_file }))
        });
        let in_registries: BTreeMap<_, _> = in_registries.collect();
        let related = |(name, look): (&ImageName, &Look)| (name.clone(), related(tree, name, look, &in_registries));
        Self(looks.iter().map(related).collect())
    }

    /// What this image is made of.
    pub(super) fn of(&self, name: &ImageName) -> &Related {
        static NOTHING: Related = Related { relations: Vec::new(), bases: Vec::new() };
        self.0.get(name).unwrap_or(&NOTHING)
    }

    /// Whether another image is built from what this one's task has built.
    pub(super) fn is_task_parent(&self, name: &ImageName) -> bool {
        self.all().any(|(_, relation)| relation.link == Link::Parent && relation.image == *name)
    }

    /// Every relation, with the image that has it.
    pub(super) fn all(&self) -> impl Iterator<Item = (&ImageName, &Relation)> {
        self.0.iter().flat_map(|(name, related)| related.relations.iter().map(move |relation| (name, relation)))
    }

    /// Cycles of images: each image is made from the next, and the last from the first. Cycles that share an image with one
    /// reported already may be left out.
    pub(super) fn cycles(&self) -> Vec<Vec<&ImageName>> {
        let mut cycles: BTreeSet<Vec<&ImageName>> = BTreeSet::new();
        let mut done: BTreeSet<&ImageName> = BTreeSet::new();
        for start in self.0.keys() {
            // Not recursive: a chain of images may have any length.
            let mut way: Vec<(&ImageName, _)> = Vec::new();
            let mut next = (!done.contains(start)).then_some(start);
            loop {
                if let Some(name) = next.take() {
                    way.push((name, self.of(name).relations.iter().filter(|relation| relation.mismatch.is_none())));
                }
                let Some((name, others)) = way.last_mut() else { break };
                match others.next() {
                    None => {
                        done.insert(*name);
                        way.pop();
                    }
                    Some(Relation { image, .. }) => match way.iter().position(|(name, _)| *name == image) {
                        Some(start) => {
                            let cycle = way[start..].iter().map(|(name, _)| *name).collect();
                            cycles.insert(from_the_smallest(cycle));
                        }
                        None if !done.contains(image) => next = Some(image),
                        None => {}
                    },
                }
            }
        }
        cycles.into_iter().collect()
    }
}

/// The names of a cycle, beginning with the smallest.
fn from_the_smallest(mut names: Vec<&ImageName>) -> Vec<&ImageName> {
    let smallest = names.iter().enumerate().min_by_key(|(_, name)| **name).map_or(0, |(at, _)| at);
    names.rotate_left(smallest);
    names
}

fn related(tree: &Tree, name: &ImageName, look: &Look, in_registries: &BTreeMap<String, Registered<'_>>) -> Related {
    let mut related = Related::default();
    let parent = look.parent.as_ref().filter(|parent| tree.is_image(parent));
    let DockerfileImages { references, .. } = &look.recipe;
    for reference in references {
        let relation = |image: &ImageName, link, mismatch| Relation {
            image: image.clone(),
            instruction: reference.shown(),
            link,
            mismatch,
            is_base: reference.by == By::From,
        };
        let by_argument = reference.variables.iter().any(|variable| variable == ARGUMENT);
        let neighbour = neighbour(tree, reference);
        let found = match (parent, neighbour, registered(reference, in_registries)) {
            (Some(parent), ..) if by_argument => Some(relation(parent, Link::Parent, None)),
            (_, Some(neighbour), _) if by_argument => Some(relation(&neighbour, Link::Parent, None)),
            // Another version in its own registry is an earlier one of itself.
            (.., Some(RegistryMatch { image, mismatch })) if image != name || mismatch.is_none() => {
                Some(relation(image, Link::Registry, mismatch))
            }
            // A kind.yml lists the parents itself. An image's own name may be one that a registry has.
            (_, Some(neighbour), None) if tree.kinds.is_empty() && neighbour != *name => {
                Some(relation(&neighbour, Link::Name, None))
            }
            _ => None,
        };
        match found {
            Some(relation) if related.relations.contains(&relation) => {}
            Some(relation) => related.relations.push(relation),
            None => {
                let base = reference.image.as_ref().unwrap_or(&reference.written);
                if !related.bases.contains(base) {
                    related.bases.push(base.clone());
                }
            }
        }
    }
    // It counts in the hash, also where the Dockerfile does not use it.
    if let Some(parent) = parent.filter(|_| !related.relations.iter().any(|it| it.link == Link::Parent)) {
        let (image, instruction) = (parent.clone(), format!("parent: {parent}"));
        related.relations.push(Relation { image, instruction, link: Link::Parent, mismatch: None, is_base: false });
    }
    related
}

/// The image of the tree that a name without a registry and without another tag than `latest` could mean.
fn neighbour(tree: &Tree, reference: &Reference) -> Option<ImageName> {
    let by_argument = reference.variables.iter().any(|variable| variable == ARGUMENT);
    let plain = reference.plain()?;
    let name = plain.name.parse().ok()?;
    (tree.is_image(&name) && (by_argument || plain.is_latest())).then_some(name)
}

/// The image of the tree that a registry reference means.
fn registered<'a>(
    reference: &Reference,
    in_registries: &BTreeMap<String, Registered<'a>>,
) -> Option<RegistryMatch<'a>> {
    let image = reference.image.as_deref()?;
    let (image, digest) = image.split_once('@').map_or((image, None), |(image, digest)| (image, Some(digest)));
    let tagged = image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'));
    let (repository, tag) = tagged.map_or((image, None), |(repository, tag)| (repository, Some(tag)));
    let Registered { name, version_file } = in_registries.get(without_host_of_docker(repository))?;
    let version = version_file.version.as_ref().and_then(|version| version.as_ref().ok());
    let pinned = version_file.digest.as_ref().and_then(|digest| digest.as_ref().ok());
    let mismatch = match (digest, pinned, tag, version) {
        (Some(digest), Some(pinned), ..) if digest != pinned => {
            Some(format!("names the digest {digest}, but HASH has {pinned}"))
        }
        // A digest alone has no version.
        (Some(_), _, None, _) => None,
        (.., tag, Some(version)) if tag.unwrap_or("latest") != version => {
            Some(format!("names the version {}, but VERSION has {version}", tag.unwrap_or("latest")))
        }
        _ => None,
    };
    Some(RegistryMatch { image: name, mismatch })
}

/// A repository without the host that docker itself puts before it.
fn without_host_of_docker(repository: &str) -> &str {
    ["docker.io/", "index.docker.io/"].iter().find_map(|host| repository.strip_prefix(host)).unwrap_or(repository)
}
