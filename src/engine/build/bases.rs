//! The images that an image was built from, as the engine has them after the build: what their names led to. Which images a
//! `Dockerfile` names is known in `tree`; what is told of them is for others.

use std::collections::{BTreeMap, BTreeSet};

use bollard::errors::Error;
use bollard::models::ImageInspect;

use crate::dockerfile::base_images::{By, DockerfileImages};
use crate::engine::driver::EngineDriver;
use crate::engine::{Engine, EngineError};
use crate::net::registry::{Reference, is_repository, is_tag};
use crate::net::{Digest, ImageId};

/// The images that a build was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bases {
    /// Those that the engine has, in the order in which the `Dockerfile` names them, each once.
    pub found: Vec<Base>,
    /// The others, as the `Dockerfile` names them: some names hang on variables that only the builder knows.
    pub unknown: Vec<String>,
}

/// An image that others are made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// As the `Dockerfile` names it, variables filled in.
    pub reference: String,
    /// Its id in the engine; `BuildKit` pulls images that the engine then does not have.
    pub id: Option<ImageId>,
    /// The names that it has in registries, `REGISTRY/NAME@sha256:…`; none if it came from no registry.
    pub digests: Vec<String>,
    /// The diff ids of its layers, the lowest first; none, where it has no id.
    pub layers: Vec<Digest>,
    /// Whether it stands in a `FROM`; others only lend files.
    pub is_from: bool,
}

/// How many of an image's layers, from the lowest, are those of an image that it was built from.
#[must_use]
pub fn shared_layers(bases: &[Base], image_layers: &[Digest]) -> usize {
    let below = bases.iter().filter(|base| base.is_from && image_layers.starts_with(&base.layers));
    below.map(|base| base.layers.len()).max().unwrap_or_default()
}

impl Engine {
    /// What the images that a `Dockerfile` names are in the engine. `args` are the build's arguments.
    pub async fn bases(&self, dockerfile: &str, args: &BTreeMap<String, String>) -> Result<Bases, EngineError> {
        let recipe = DockerfileImages::read(dockerfile, args);
        // A name in a FROM counts as that, wherever else it stands.
        let from: BTreeSet<_> = recipe.references.iter().filter(|it| it.by == By::From).map(|it| &it.image).collect();
        let (mut bases, mut seen) = (Bases::default(), BTreeSet::new());
        for reference in recipe.references.iter().filter(|it| seen.insert((&it.image, &it.written))) {
            let found = match &reference.image {
                Some(name) => self.base(name, from.contains(&reference.image)).await?,
                None => None,
            };
            match found {
                Some(base) if bases.found.contains(&base) => {}
                Some(base) => bases.found.push(base),
                None => bases.unknown.push(reference.image.clone().unwrap_or_else(|| reference.written.clone())),
            }
        }
        Ok(bases)
    }

    async fn base(&self, name: &str, is_from: bool) -> Result<Option<Base>, EngineError> {
        match self.base_image(name).await {
            Ok(Some(image)) => return Ok(base(name, image, is_from)),
            Ok(None) => {}
            Err(source) => {
                let doing = format!("looking at the base image {name}");
                return Err(EngineError::Request { doing, source: source.into() });
            }
        }
        let full = full(name);
        let pulled = self.tracker.all_pulled().into_iter().find(|it| it.split('@').next() == full.split('@').next());
        let digests = pulled.and_then(|it| Some(vec![without_tag(&it)?]));
        Ok(digests.map(|digests| Base { reference: name.to_owned(), id: None, digests, layers: Vec::new(), is_from }))
    }

    /// An image that a `Dockerfile` names, if the engine has it.
    pub(in crate::engine) async fn base_image(&self, name: &str) -> Result<Option<ImageInspect>, Error> {
        for name in names_in(self.driver, name) {
            match self.inspect(&name).await {
                Ok(image) => return Ok(Some(image)),
                Err(Error::DockerResponseServerError { status_code: 400 | 404, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

/// The names under which an engine may have the image that a `Dockerfile` calls `name`. Podman puts `localhost/` before the
/// name of an image that it has built or loaded, where no registry is in it; and it answers 500 to what is no name, as
/// `localhost/HOST:PORT/NAME` is.
fn names_in(driver: &dyn EngineDriver, name: &str) -> Vec<String> {
    let local = if has_host(name) { None } else { driver.local_name(name) };
    let (without_digest, _) = name.split_once('@').unwrap_or((name, ""));
    let is_name = match without_digest.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => is_repository(repository) && is_tag(tag),
        _ => is_repository(without_digest),
    };
    if is_name { [Some(name.to_owned()), local].into_iter().flatten().collect() } else { Vec::new() }
}

/// Whether a name begins with a registry.
fn has_host(name: &str) -> bool {
    name.split_once('/').is_some_and(|(host, _)| host.contains(['.', ':']) || host == "localhost")
}

/// The image that a part of a build by `BuildKit` begins with, `NAME@sha256:…`, if that is what its name says.
pub(in crate::engine) fn pulled(part: &str) -> Option<&str> {
    let name = part.rsplit_once("FROM ")?.1.trim();
    let (_, digest) = name.rsplit_once('@')?;
    Digest::from_prefixed(digest).map(|_| name)
}

/// A name as `BuildKit` writes it out: `docker.io/library/debian:12`. What is no name stays as it is.
fn full(name: &str) -> String {
    name.parse().map_or_else(|_| name.to_owned(), |name: Reference| name.whole())
}

/// The registry that an image is pulled from.
pub(in crate::engine) fn registry(image: &str) -> Option<String> {
    let (name, _) = image.split_once('@').unwrap_or((image, ""));
    name.parse().ok().map(|name: Reference| name.registry().to_owned())
}

/// `NAME@sha256:…`, as engines have the names of images in registries.
fn without_tag(name: &str) -> Option<String> {
    let name: Reference = name.parse().ok()?;
    Some(format!("{}/{}@{}", name.registry(), name.repository(), name.digest()?))
}

/// An image by what the engine says of it; none if that is not enough to tell it by.
fn base(reference: &str, image: ImageInspect, is_from: bool) -> Option<Base> {
    let layers = image.root_fs.and_then(|it| it.layers).unwrap_or_default();
    let layers = layers.iter().map(|layer| Digest::from_prefixed(layer));
    let mut digests = image.repo_digests.unwrap_or_default();
    // In an order that does not hang on the engine's.
    digests.sort_unstable();
    digests.dedup();
    let id = Some(ImageId::in_answer(&image.id?)?);
    Some(Base { reference: reference.to_owned(), id, digests, layers: layers.collect::<Option<_>>()?, is_from })
}

#[cfg(test)]
mod tests {
    use bollard::models::ImageInspectRootFs;

    use super::*;
    use crate::engine::driver::{DockerEngine, PodmanEngine};

    fn layers(contents: &str) -> Vec<Digest> {
        contents.bytes().map(|content| Digest::of(&[content])).collect()
    }

    fn of(contents: &str, is_from: bool) -> Base {
        let (reference, id) = (contents.to_owned(), Some(ImageId::of(contents.as_bytes())));
        Base { reference, id, digests: Vec::new(), layers: layers(contents), is_from }
    }

    #[test]
    fn the_layers_of_a_base_are_all_of_them_and_the_lowest() {
        let image = layers("abcd");
        for (bases, shared) in [
            (vec![], 0),
            (vec![of("ab", true)], 2),
            (vec![of("ab", true), of("abc", true), of("a", true)], 3),
            (vec![of("abcd", true)], 4),
            // Of another stage; longer than the image; not all of it; from its middle; nothing; lends files only.
            (vec![of("xy", true)], 0),
            (vec![of("abcde", true)], 0),
            (vec![of("abx", true)], 0),
            (vec![of("bc", true)], 0),
            (vec![of("", true)], 0),
            (vec![of("ab", false)], 0),
        ] {
            assert_eq!(shared_layers(&bases, &image), shared, "{bases:?}");
        }
    }

    #[test]
    fn an_engine_is_asked_for_names_only() {
        let asked = |name| names_in(&PodmanEngine, name);
        assert_eq!(asked("debian:12"), ["debian:12", "localhost/debian:12"]);
        assert_eq!(asked("a/b"), ["a/b", "localhost/a/b"]);
        for name in ["127.0.0.1:5000/a/b:1", "localhost/a", "quay.io/a/b", "localhost:5000/a"] {
            assert_eq!(asked(name), [name]);
        }
        let pinned = format!("debian@sha256:{}", Digest::of(b"manifest"));
        assert_eq!(asked(&pinned), [pinned.clone(), format!("localhost/{pinned}")]);
        for none in ["Debian", "{dockerhub:ubuntu:latest}", "a b", "", "a:b:c", "debian:"] {
            assert_eq!(asked(none), Vec::<String>::new(), "{none:?}");
        }
        assert_eq!(names_in(&DockerEngine, "debian:12"), ["debian:12"]);
    }

    #[test]
    fn buildkit_says_what_it_pulled() {
        let digest = format!("sha256:{}", Digest::of(b"manifest"));
        let name = format!("docker.io/library/debian:12@{digest}");
        assert_eq!(pulled(&format!("[made 1/3] FROM {name}")), Some(name.as_str()));
        for other in
            ["[1/2] FROM docker.io/library/debian:12", "[2/2] RUN echo FROM x@sha256:00", "[internal] load metadata"]
        {
            assert_eq!(pulled(other), None, "{other}");
        }
        assert_eq!(without_tag(&name).unwrap(), format!("docker.io/library/debian@{digest}"));
        let local = format!("localhost:5000/a@{digest}");
        assert_eq!(without_tag(&local), Some(local));
        let [pinned, pinned_in_full] = ["debian", "docker.io/library/debian"].map(|name| format!("{name}@{digest}"));
        for (reference, written_out) in [
            ("debian", "docker.io/library/debian:latest"),
            ("debian:12", "docker.io/library/debian:12"),
            ("mozilla/builder", "docker.io/mozilla/builder:latest"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
            ("quay.io/a:1", "quay.io/a:1"),
            ("docker.io/debian", "docker.io/library/debian:latest"),
            (pinned.as_str(), pinned_in_full.as_str()),
            ("Debian@sha256:00", "Debian@sha256:00"),
        ] {
            assert_eq!(full(reference), written_out);
        }
        assert_eq!(registry("a@sha256:00").as_deref(), Some("docker.io"));
        assert_eq!(registry("localhost:5000/a/b").as_deref(), Some("localhost:5000"));
    }

    #[test]
    fn an_answer_that_tells_not_enough_is_none() {
        let answer = |id: Option<&str>, layer: &str| ImageInspect {
            id: id.map(str::to_owned),
            repo_digests: Some(vec!["b@sha256:1".to_owned(), "a@sha256:1".to_owned()]),
            root_fs: Some(ImageInspectRootFs { layers: Some(vec![layer.to_owned()]), ..Default::default() }),
            ..ImageInspect::default()
        };
        let layer = format!("sha256:{}", Digest::of(b"a"));
        let (id, hex) = (ImageId::of(b"image"), Digest::of(b"image").to_string());
        let told = base("debian:12", answer(Some(&hex), &layer), true).unwrap();
        assert_eq!((told.id, told.layers), (Some(id), layers("a")));
        assert_eq!(told.digests, ["a@sha256:1", "b@sha256:1"]);
        assert_eq!(base("debian:12", answer(None, &layer), true), None);
        assert_eq!(base("debian:12", answer(Some("00"), &layer), true), None);
        assert_eq!(base("debian:12", answer(Some(&hex), "md5:00"), true), None);
    }
}
