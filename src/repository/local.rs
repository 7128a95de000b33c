//! The images of a tree for local builds: their tags, the images that must exist before them, and the hashes that show whether
//! they match their directories. Callers build them.

use std::collections::{BTreeMap, BTreeSet};

use tracing::warn;

use super::lineage::{in_parallel, index_hash};
use super::parent::{ARGUMENT, parent};
use super::registry::is_versioned;
use super::{Image, Tree, TreeError};
use crate::context::trees::ContextTrees;
use crate::context::{ContextHash, HashScheme, ImageName};
use crate::dockerfile::base_images::Reference;

/// The build argument that has the tasks of an image's packages.
const PACKAGES_ARG: &str = "DOCKER_IMAGE_PACKAGES";

/// An image that can be built here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalImage {
    /// The image.
    pub image: Image,
    /// `REGISTRY/NAME:VERSION`, or `NAME:latest` where it has no VERSION.
    pub tag: String,
    /// Whether it has a VERSION, and with it a name in a registry.
    pub in_registry: bool,
    /// Whether a `kind.yml` lists it: a task builds it, even if it has a VERSION.
    pub in_kind: bool,
    /// The image for `$DOCKER_IMAGE_PARENT`.
    pub parent: Option<ImageName>,
    /// All images of the tree that its Dockerfile names, the parent among them.
    pub needs: BTreeSet<ImageName>,
    /// The hash of its context.
    pub context: ContextHash,
    /// The hash in the `.hash.` route of the same image in CI.
    pub hash: ContextHash,
    /// Whether it is known: only the task graph knows its packages, or those of an image that it is built from.
    pub is_hash_known: bool,
}

/// The tag that an image gets on this machine.
struct LocalTag {
    tag: String,
    /// Whether it is a registry's.
    in_registry: bool,
}

/// What an image needs, before anything is hashed.
struct Needing {
    image: Image,
    parent: Option<ImageName>,
    needs: BTreeSet<ImageName>,
}

impl Tree {
    /// The images and all images of the tree that they need, each once and after those that it needs.
    pub fn local(&self, names: &[ImageName], scheme: HashScheme) -> Result<Vec<LocalImage>, TreeError> {
        let tags = self.local_tags();
        let mut ancestors = Vec::new();
        for name in names {
            self.visit(name, &tags, &mut Vec::new(), &mut ancestors)?;
        }
        let contexts = in_parallel(&ancestors, |it| self.context(&it.image, scheme)?.hash().map_err(TreeError::from));
        let mut images: Vec<LocalImage> = Vec::new();
        for (Needing { image, parent, needs }, context) in ancestors.into_iter().zip(contexts) {
            let context = context?;
            let built_from = parent.as_ref().and_then(|parent| images.iter().find(|it| it.image.name == *parent));
            let hash = index_hash(&image, context, built_from.map(|it| it.hash), &self.packages).unwrap_or(context);
            let is_hash_known = built_from.is_none_or(|it| it.is_hash_known) && !self.lacks_packages(&image);
            let LocalTag { tag, in_registry } = self.local_tag(&image.name)?;
            let in_kind = !self.kinds.is_empty() && self.task_image(&image.name).is_ok();
            images.push(LocalImage { image, tag, in_registry, in_kind, parent, needs, context, hash, is_hash_known });
        }
        Ok(images)
    }

    /// The inputs of the contexts of the images and of all that they need. Making a context reports the problems of its image.
    #[must_use]
    pub fn context_trees(&self, names: &[ImageName], scheme: HashScheme) -> Vec<ContextTrees> {
        let tags = self.local_tags();
        let mut ancestors = Vec::new();
        let alone = names.iter().filter(|name| self.visit(name, &tags, &mut Vec::new(), &mut ancestors).is_err());
        let alone: Vec<_> = alone.filter_map(|name| self.image(name).ok()).collect();
        let images = ancestors.iter().map(|it| &it.image).chain(alone);
        images.map(|it| ContextTrees::of(self.checkout(), &it.directory, &it.args, scheme)).collect()
    }

    fn local_tag(&self, name: &ImageName) -> Result<LocalTag, TreeError> {
        let registry = self.registry(name)?;
        let registered = registry.and_then(|it| Some(format!("{}:{}", it.repository, it.version?)));
        let in_registry = registered.is_some();
        Ok(LocalTag { tag: registered.unwrap_or_else(|| format!("{name}:latest")), in_registry })
    }

    /// The images by their tags, if they have one: a problem of an image is reported when that image is needed.
    fn local_tags(&self) -> BTreeMap<String, ImageName> {
        let usable = self.names().filter(|name| self.image(name).is_ok());
        usable.filter_map(|name| Some((with_tag(&self.local_tag(name).ok()?.tag), name.clone()))).collect()
    }

    fn visit(
        &self,
        name: &ImageName,
        tags: &BTreeMap<String, ImageName>,
        line: &mut Vec<ImageName>,
        ancestors: &mut Vec<Needing>,
    ) -> Result<(), TreeError> {
        if ancestors.iter().any(|known| known.image.name == *name) {
            return Ok(());
        }
        if let Some(start) = line.iter().position(|other| other == name) {
            let cycle = line[start..].iter().chain([name]).map(ImageName::as_str);
            return Err(TreeError::Cycle { cycle: cycle.collect::<Vec<_>>().join(" -> ") });
        }
        let image = self.image(name).map_err(|error| match line.last() {
            Some(child) => TreeError::OfChild { child: child.clone(), error: Box::new(error) },
            None => error,
        })?;
        let needing = self.needing(image, tags)?;
        line.push(name.clone());
        for need in &needing.needs {
            self.visit(need, tags, line, ancestors)?;
        }
        line.pop();
        ancestors.push(needing);
        Ok(())
    }

    /// An image with all images of the tree that it names: the parent, and those that it names by the tag that they get here.
    fn needing(&self, image: &Image, tags: &BTreeMap<String, ImageName>) -> Result<Needing, TreeError> {
        let mut recipe = self.recipe(&image.name)?;
        let by_tag = |reference: &Reference| {
            let named = tags.get(&with_tag(reference.image.as_deref()?));
            named.filter(|name| **name != image.name).cloned()
        };
        let mut needs: BTreeSet<_> = recipe.references.iter().filter_map(by_tag).collect();
        // No task builds an image of a registry: it can name a neighbour by the tag that this has here.
        if is_versioned(self.images_root_of(image.name.as_str()), &image.name) {
            let is_put_in = |reference: &Reference| reference.variables.iter().any(|variable| variable == ARGUMENT);
            recipe.references.retain(|reference| is_put_in(reference) || by_tag(reference).is_none());
        }
        let problem = |problem| TreeError::Parent { name: image.name.clone(), problem };
        let parent = parent(self, image, &recipe).map_err(problem)?;
        needs.extend(parent.clone());
        Ok(Needing { image: image.clone(), parent, needs })
    }
}

impl Image {
    /// Warns about packages, which only tasks build. `args` are the build's.
    pub fn warn_of_packages(&self, args: &BTreeMap<String, String>) {
        if !self.packages.is_empty() && !args.contains_key(PACKAGES_ARG) {
            let (name, packages) = (&self.name, self.packages.join(", "));
            warn!("{name} has packages of other tasks ({packages}), which are not there: {PACKAGES_ARG} is empty");
        }
    }
}

/// The engine's interpretation of a name: without a tag `latest`, without a registry docker's own.
fn with_tag(image: &str) -> String {
    let image = image.strip_prefix("docker.io/").unwrap_or(image);
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::fixture::{self, Files};
    use super::*;

    fn names(names: &[&str]) -> Vec<ImageName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    /// `NAME TAG < NEEDS`, in order.
    fn describe(tree: &Tree, of: &[&str]) -> Result<Vec<String>, String> {
        let images = tree.local(&names(of), HashScheme::Tar).map_err(|error| error.to_string())?;
        let one = |it: LocalImage| {
            let needs: Vec<_> = it.needs.iter().map(ImageName::as_str).collect();
            format!("{} {} < {}", it.image.name, it.tag, needs.join(","))
        };
        Ok(images.into_iter().map(one).collect())
    }

    fn tree(images: &[(&str, &str)]) -> (Files, Tree) {
        let files = Files::new(&[("testing/docker/REGISTRY", "quay.io/m")]);
        for (path, content) in images {
            files.write(&format!("testing/docker/{path}"), content);
        }
        let tree = fixture::read(files.root(), None).unwrap();
        (files, tree)
    }

    #[test]
    fn what_an_image_needs_comes_first_and_once() {
        let (_files, tree) = tree(&[
            ("base/Dockerfile", "FROM debian:12\n"),
            ("tools/Dockerfile", "FROM debian:12\n"),
            ("tools/VERSION", "1.0"),
            (
                "builder/Dockerfile",
                "ARG DOCKER_IMAGE_PARENT=base\nFROM $DOCKER_IMAGE_PARENT\nCOPY --from=quay.io/m/tools:1.0 / /\n",
            ),
            ("lint/Dockerfile", "FROM quay.io/m/tools:0.9\nRUN --mount=from=quay.io/m/tools:1.0 true\n"),
            ("pushed/Dockerfile", "FROM base\nCOPY --from=builder:latest / /\n"),
            ("pushed/VERSION", "2"),
        ]);
        let base = "base base:latest < ";
        let tools = "tools quay.io/m/tools:1.0 < ";
        let builder = "builder builder:latest < base,tools";
        assert_eq!(describe(&tree, &["builder", "base"]).unwrap(), [base, tools, builder]);
        assert_eq!(describe(&tree, &["lint"]).unwrap(), [tools, "lint lint:latest < tools"]);
        let pushed = "pushed quay.io/m/pushed:2 < base,builder";
        assert_eq!(describe(&tree, &["pushed"]).unwrap(), [base, tools, builder, pushed]);
    }

    #[test]
    fn a_task_images_mistakes_are_those_that_its_task_would_make() {
        let (_files, tree) = tree(&[
            ("a/Dockerfile", "FROM b\n"),
            ("b/Dockerfile", "FROM scratch\n"),
            ("c/Dockerfile", "ARG DOCKER_IMAGE_PARENT=d\nFROM $DOCKER_IMAGE_PARENT\n"),
            ("d/Dockerfile", "ARG DOCKER_IMAGE_PARENT=c\nFROM $DOCKER_IMAGE_PARENT\n"),
            ("e/Dockerfile", "FROM scratch\n"),
            ("e/VERSION", ""),
        ]);
        assert!(
            describe(&tree, &["a"]).unwrap_err().contains("b is built by a task; write `ARG DOCKER_IMAGE_PARENT=b`")
        );
        assert!(describe(&tree, &["c"]).unwrap_err().starts_with("the images c -> d -> c are built from each other"));
        assert!(describe(&tree, &["e"]).unwrap_err().contains("VERSION holds \"\", which is not a tag"));
        assert!(describe(&tree, &["bb"]).unwrap_err().starts_with("unknown image bb: "));
    }

    #[test]
    fn the_hashes_are_those_of_the_decision() {
        let files = Files::new(&[
            ("taskcluster/docker/a/Dockerfile", "# %ARG V\nFROM debian:$V\n"),
            ("taskcluster/docker/b/Dockerfile", "FROM $DOCKER_IMAGE_PARENT\n"),
            ("taskcluster/docker/other/Dockerfile", "FROM scratch\n"),
            ("kind.yml", "tasks: {a: {args: {V: '12'}}, b: {parent: a}}"),
        ]);
        let tree = fixture::with_kind(files.root(), None, &files.at("kind.yml")).unwrap();
        for scheme in [HashScheme::Tar, HashScheme::Contents] {
            let decided = tree.identify(&names(&["b"]), scheme).unwrap();
            let local = tree.local(&names(&["b"]), scheme).unwrap();
            for it in &local {
                let decided = &decided[&it.image.name];
                assert_eq!((it.context, it.hash), (decided.context, decided.name_in_index()));
                assert_eq!(it.parent, decided.parent);
            }
            assert_eq!(local.len(), 2);
        }
        // No task builds it, but people can.
        assert_eq!(describe(&tree, &["other"]).unwrap(), ["other other:latest < "]);
        assert!(Path::new(&tree.local(&names(&["other"]), HashScheme::Tar).unwrap()[0].image.directory).is_dir());
    }

    #[test]
    fn names_without_a_tag_are_latest() {
        let with_tags = ["a", "a:1", "r:5000/a", "r/a@sha256:00", "docker.io/m/a:1"].map(with_tag);
        assert_eq!(with_tags, ["a:latest", "a:1", "r:5000/a:latest", "r/a@sha256:00", "m/a:1"]);
    }
}
