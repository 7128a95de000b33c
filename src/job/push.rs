//! `push NAME`: pushes an image of the tree to its registry, unless its tag has other content there. The registry is queried
//! before and afterwards.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use tempfile::NamedTempFile;
use tracing::{info, warn};

use super::CommandError;
use super::shutdown::Shutdown;
use crate::config::{ImagesDir, PushConfig, Pushing};
use crate::context::{HashScheme, ImageName};
use crate::engine::{Engine, LocalImage, UploadedPart};
use crate::net::ImageId;
use crate::net::blocking::blocking;
use crate::net::registry::{Published, RegistryImage};
use crate::report::{BuildEvent, Hint, Report, StepEnd};
use crate::repository::Tree;
use crate::repository::registry::Registry;

/// The labels of an image that was built here; an image that a task has built has none of them.
pub(super) const CONTEXT_LABEL: &str = "image-worker.context-hash";

/// Why an image is not pushed.
#[derive(Debug, thiserror::Error)]
pub enum PushProblem {
    /// Not the name of a registry's image.
    #[error(
        "the image {name} has no VERSION, and only images with one are pushed{}",
        Hint(format_args!("write it into {}", file.display()))
    )]
    NoVersion {
        /// The image.
        name: ImageName,
        /// The file.
        file: PathBuf,
    },
    /// Nothing to push.
    #[error("the engine has no {tag}{}", Hint(format_args!("build it first: image-worker build {name}")))]
    NotBuilt {
        /// The image.
        name: ImageName,
        /// Its tag.
        tag: String,
    },
    /// The tag has other content.
    #[error(
        "{tag} is in the registry with other content, {digest}{}",
        Hint("raise the VERSION, or push over it with --force")
    )]
    Taken {
        /// The tag.
        tag: String,
        /// The content there.
        digest: String,
    },
    /// The registry has something else than what was pushed, or nothing.
    #[error(
        "{tag} was pushed, but the registry has {there} under that name{}",
        Hint("somebody else pushes too? push again")
    )]
    NotThere {
        /// The tag.
        tag: String,
        /// The content there.
        there: String,
    },
}

/// An image that is in its registry now.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pushed {
    /// Its name.
    pub name: ImageName,
    /// `REGISTRY/NAME:VERSION`
    pub tag: String,
    /// `sha256:…`, as the registry has it.
    pub digest: String,
    /// Whether it was pushed now, or there already.
    pub pushed: bool,
    /// Whether its HASH names the digest.
    pub pinned: bool,
}

/// The image to push, and its destination.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) name: ImageName,
    repository: String,
    version: String,
    /// The digest that the HASH names.
    pinned: Option<String>,
    hash_file: PathBuf,
    /// The hashes of the image's context now, in any scheme; empty if they are not needed.
    contexts: Vec<String>,
}

impl Target {
    /// The tree's data about an image to push.
    pub(super) fn of(tree: &Tree, name: &ImageName) -> Result<Self, CommandError> {
        let directory = tree.registry_directory(name);
        let Some(Registry { repository, version: Some(version), digest }) = tree.registry(name)? else {
            return Err(PushProblem::NoVersion { name: name.clone(), file: directory.join("VERSION") }.into());
        };
        let (name, hash_file) = (name.clone(), directory.join("HASH"));
        Ok(Self { name, repository, version, pinned: digest, hash_file, contexts: Vec::new() })
    }

    /// With the hashes of its context, as far as it has one.
    fn with_contexts(mut self, tree: &Tree) -> Self {
        if let Ok(image) = tree.image(&self.name) {
            let hash = |scheme| tree.context(image, scheme).ok()?.hash().ok();
            let hashes = [HashScheme::Tar, HashScheme::Contents].into_iter().filter_map(hash);
            self.contexts = hashes.map(|hash| hash.to_string()).collect();
        }
        self
    }

    fn tag(&self) -> String {
        format!("{}:{}", self.repository, self.version)
    }

    /// Whether what the registry has is this image.
    fn is(&self, image: &LocalImage, published: &Published) -> bool {
        let by_name = format!("{}@{}", self.repository, published.digest);
        let ids = [Some(&published.digest), published.config.as_ref()];
        ids.into_iter().flatten().any(|id| ImageId::in_answer(id) == Some(image.id)) || image.digests.contains(&by_name)
    }
}

/// Pushes the image.
pub async fn push(
    config: PushConfig,
    name: &ImageName,
    stop: &Shutdown,
    report: &Report,
) -> Result<Pushed, CommandError> {
    let (place, name) = (config.place, name.clone());
    let reading = blocking(move || target(&place, &name));
    let target = stop.run_stage("reading the image's files", reading).await?;
    let engine = stop.run_stage("looking for an engine", Engine::connect(&config.engine)).await?;
    stop.run_stage("pushing", push_image(&engine, &target, &config.pushing, report)).await
}

fn target(place: &ImagesDir, name: &ImageName) -> Result<Target, CommandError> {
    let tree = Tree::open(place)?;
    Ok(Target::of(&tree, name)?.with_contexts(&tree))
}

/// Pushes the engine's image with the tag, unless the registry has it, or the tag is taken.
pub(super) async fn push_image(
    engine: &Engine,
    target: &Target,
    pushing: &Pushing,
    report: &Report,
) -> Result<Pushed, CommandError> {
    let tag = target.tag();
    let not_built = || PushProblem::NotBuilt { name: target.name.clone(), tag: tag.clone() };
    let image = engine.present(&tag).await?.ok_or_else(not_built)?;
    let (wanted, logins, retry) = (tag.clone(), pushing.logins.clone(), pushing.retry);
    let place = blocking(move || RegistryImage::find(&wanted, &logins, retry)).await?;
    let digest = match place.published().await? {
        Some(there) if target.is(&image, &there) => {
            info!("{tag} is in the registry already, {}", there.digest);
            return finish(target, pushing, there.digest, false);
        }
        Some(there) if !pushing.force => return Err(PushProblem::Taken { tag, digest: there.digest }.into()),
        Some(there) => {
            warn!("{tag} had other content, {}, which loses its tag", there.digest);
            send(engine, target, &place, report).await?
        }
        None => send(engine, target, &place, report).await?,
    };
    finish(target, pushing, digest, true)
}

/// Pushes the image, and queries the registry for the result.
async fn send(
    engine: &Engine,
    target: &Target,
    place: &RegistryImage,
    report: &Report,
) -> Result<String, CommandError> {
    let tag = target.tag();
    let not_built = || PushProblem::NotBuilt { name: target.name.clone(), tag: tag.clone() };
    let image = engine.present(&tag).await?.ok_or_else(not_built)?;
    if let Some(built_from) = image.labels.get(CONTEXT_LABEL)
        && !target.contexts.is_empty()
        && !target.contexts.contains(built_from)
    {
        warn!("{tag} was built from another context than its directory has now; a new build may give another image");
    }
    info!("pushing {tag}");
    let started = Instant::now();
    let (steps, step) = (report.build_steps(None), 1);
    let show = |event| {
        if let Some(steps) = &steps {
            steps.update(event);
        }
    };
    show(BuildEvent::Started { step, title: format!("pushing {tag}") });
    let uploaded = |UploadedPart { part, bytes, total }| show(BuildEvent::Transferred { step, part, bytes, total });
    let sent = engine.push(&target.repository, &target.version, place.credentials.as_ref(), uploaded).await;
    show(BuildEvent::Over(if sent.is_ok() { StepEnd::Done } else { StepEnd::Failed }));
    sent?;
    // The engine knows by now which manifest it has sent.
    let image = engine.present(&tag).await?.ok_or_else(not_built)?;
    match place.published().await? {
        Some(there) if target.is(&image, &there) => {
            info!("pushed {tag}, {}, in {:.1} s", there.digest, started.elapsed().as_secs_f64());
            Ok(there.digest)
        }
        there => {
            let there = there.map_or_else(|| "nothing".to_owned(), |there| there.digest);
            Err(PushProblem::NotThere { tag, there }.into())
        }
    }
}

/// Writes the digest to its file in the tree, if requested.
fn finish(target: &Target, pushing: &Pushing, digest: String, pushed: bool) -> Result<Pushed, CommandError> {
    if pushing.pin && target.pinned.as_ref() != Some(&digest) {
        let unwritable = |source| CommandError::Write { path: target.hash_file.clone(), source };
        write_whole(&target.hash_file, &format!("{digest}\n")).map_err(unwritable)?;
        info!("{} names {digest} now; it is a file of the image directory: commit it", target.hash_file.display());
    } else if let Some(other) = target.pinned.as_ref().filter(|pinned| **pinned != digest) {
        warn!("{} still names {other}, which is what tasks get; see --pin", target.hash_file.display());
    }
    let pinned = pushing.pin || target.pinned.as_ref() == Some(&digest);
    Ok(Pushed { name: target.name.clone(), tag: target.tag(), digest, pushed, pinned })
}

/// Writes a file atomically.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    let parent = path.parent().unwrap_or(Path::new("."));
    let mut file: NamedTempFile = tempfile::Builder::new().permissions(readable).tempfile_in(parent)?;
    file.write_all(text.as_bytes())?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
