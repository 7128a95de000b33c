//! The base images of a build: the ids, registry digests and layers that the engine has for them after the build.
//! `dockerfile::base_images` reads their names from the `Dockerfile`; `job` reports them.

use std::collections::{BTreeMap, BTreeSet};

use bollard::errors::Error;
use bollard::models::ImageInspect;

use crate::dockerfile::base_images::{By, DockerfileImages};
use crate::engine::driver::EngineDriver;
use crate::engine::{Engine, EngineError};
use crate::net::registry::{is_repository, is_tag, parse_reference};
use crate::net::{Digest, ImageId};

/// The base images of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bases {
    /// The base images that the engine has, in the order in which the `Dockerfile` names them, without duplicates.
    pub found: Vec<Base>,
    /// The other base images, as the `Dockerfile` names them. Some names depend on variables that only the builder knows.
    pub unknown: Vec<String>,
}

/// One base image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The name in the `Dockerfile`, with variables expanded.
    pub reference: String,
    /// Its id in the engine. `None` if `BuildKit` pulled the image: the engine does not have such images afterwards.
    pub id: Option<ImageId>,
    /// Its names in registries, `REGISTRY/NAME@sha256:…`. Empty if it does not come from a registry.
    pub digests: Vec<String>,
    /// The diff ids of its layers, the lowest first. Empty if it has no id.
    pub layers: Vec<Digest>,
    /// Whether a `FROM` names it. Other instructions only copy or mount its files.
    pub is_from: bool,
}

/// The number of layers, counted from the lowest, that an image shares with one of its base images.
#[must_use]
pub fn shared_layers(bases: &[Base], image_layers: &[Digest]) -> usize {
    let below = bases.iter().filter(|base| base.is_from && image_layers.starts_with(&base.layers));
    below.map(|base| base.layers.len()).max().unwrap_or_default()
}

impl Engine {
    /// Looks up the images that a `Dockerfile` names in the engine. `args` are the build arguments.
    pub async fn bases(&self, dockerfile: &str, args: &BTreeMap<String, String>) -> Result<Bases, EngineError> {
        let images = DockerfileImages::read(dockerfile, args);
        // A name in a FROM counts as a FROM, even if other instructions name the image, too.
        let from: BTreeSet<_> = images.references.iter().filter(|it| it.by == By::From).map(|it| &it.image).collect();
        let (mut bases, mut visited) = (Bases::default(), BTreeSet::new());
        for reference in images.references.iter().filter(|it| visited.insert((&it.image, &it.written))) {
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

    /// Inspects an image that a `Dockerfile` names. `None` if the engine does not have it.
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

/// The names under which an engine may have the image that a `Dockerfile` calls `name`. If Podman built or loaded an image
/// whose name has no registry, it puts `localhost/` before the name. Podman answers 500 to an invalid name, such as
/// `localhost/HOST:PORT/NAME`, so invalid names are left out.
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

/// The image, `NAME@sha256:…`, that a part of a `BuildKit` build pulls. `None` if the part is not a `FROM` with a digest.
pub(in crate::engine) fn pulled_image(part: &str) -> Option<&str> {
    let name = part.rsplit_once("FROM ")?.1.trim();
    let (_, digest) = name.rsplit_once('@')?;
    Digest::from_prefixed(digest).map(|_| name)
}

/// The full name, as `BuildKit` writes it: `docker.io/library/debian:12`. An invalid name stays unchanged.
fn full(name: &str) -> String {
    parse_reference(name).map_or_else(|| name.to_owned(), |name| name.whole())
}

/// The registry that an image is pulled from.
pub(in crate::engine) fn registry(image: &str) -> Option<String> {
    let (name, _) = image.split_once('@').unwrap_or((image, ""));
    parse_reference(name).map(|name| name.registry().to_owned())
}

/// `REGISTRY/NAME@sha256:…`, the form in which engines list the names of images in registries.
fn without_tag(name: &str) -> Option<String> {
    let name = parse_reference(name)?;
    Some(format!("{}/{}@{}", name.registry(), name.repository(), name.digest()?))
}

/// A base image from the engine's reply. `None` if the reply does not identify the image.
fn base(reference: &str, image: ImageInspect, is_from: bool) -> Option<Base> {
    let layers = image.root_fs.and_then(|it| it.layers).unwrap_or_default();
    let layers = layers.iter().map(|layer| Digest::from_prefixed(layer));
    let mut digests = image.repo_digests.unwrap_or_default();
    // Sorted, so that the order does not depend on the engine.
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
            // The base of another stage; longer than the image; not all of its layers; from its middle; empty; only copied
            // from.
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
        let names = |name| names_in(&PodmanEngine, name);
        assert_eq!(names("debian:12"), ["debian:12", "localhost/debian:12"]);
        assert_eq!(names("a/b"), ["a/b", "localhost/a/b"]);
        for name in ["127.0.0.1:5000/a/b:1", "localhost/a", "quay.io/a/b", "localhost:5000/a"] {
            assert_eq!(names(name), [name]);
        }
        let pinned = format!("debian@sha256:{}", Digest::of(b"manifest"));
        assert_eq!(names(&pinned), [pinned.clone(), format!("localhost/{pinned}")]);
        for none in ["Debian", "{dockerhub:ubuntu:latest}", "a b", "", "a:b:c", "debian:"] {
            assert_eq!(names(none), Vec::<String>::new(), "{none:?}");
        }
        assert_eq!(names_in(&DockerEngine, "debian:12"), ["debian:12"]);
    }

    #[test]
    fn buildkit_says_what_it_pulled() {
        let digest = format!("sha256:{}", Digest::of(b"manifest"));
        let name = format!("docker.io/library/debian:12@{digest}");
        assert_eq!(pulled_image(&format!("[made 1/3] FROM {name}")), Some(name.as_str()));
        for other in
            ["[1/2] FROM docker.io/library/debian:12", "[2/2] RUN echo FROM x@sha256:00", "[internal] load metadata"]
        {
            assert_eq!(pulled_image(other), None, "{other}");
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
        let found = base("debian:12", answer(Some(&hex), &layer), true).unwrap();
        assert_eq!((found.id, found.layers), (Some(id), layers("a")));
        assert_eq!(found.digests, ["a@sha256:1", "b@sha256:1"]);
        assert_eq!(base("debian:12", answer(None, &layer), true), None);
        assert_eq!(base("debian:12", answer(Some("00"), &layer), true), None);
        assert_eq!(base("debian:12", answer(Some(&hex), "md5:00"), true), None);
    }
}
