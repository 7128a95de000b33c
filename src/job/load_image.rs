//! Loads a task image into the engine: `locate` finds the task, `parent` and `loading` load its image, and this file decides the
//! name that it gets.

use std::fmt;
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;
use tracing::info;

use super::CommandError;
use super::loading::{LoadError, Loader};
use super::locate::{ImageLocation, Located, locate};
use super::parent::{Role, TaskImage, TaskImages};
use super::shutdown::Shutdown;
use crate::config::{ConfigError, LoadConfig};
use crate::context::ImageName;
use crate::engine::Engine;
use crate::image::ForwardSummary;
use crate::net::registry::ImageReference;
use crate::net::transfer::Storage;
use crate::net::{Digest, ImageId, NameError};
use crate::report::{Bytes, Report};
use crate::taskcluster::TaskId;

/// The name of an image that has none, or several, and was not given one.
const NAMELESS: &str = "image-worker-load";

/// An image in the engine.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Loaded {
    /// Its name.
    pub tag: ImageReference,
    /// Its id.
    image_id: ImageId,
    /// sha256 of the archive.
    sha256: Digest,
    /// Its size in bytes.
    size: u64,
    /// How many of these bytes were read: the engine had the layers in the others.
    fetched: u64,
    /// Where it came from.
    from: String,
    /// What it was compared with.
    verified: Promise,
    /// The id of the image that had the name before.
    was: Option<String>,
}

/// What an archive was verified against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Promise {
    /// The sha256 that the index has, or the image's id, where only a part was read.
    Index,
    /// The archive's own digests: of each layer, and of the configuration.
    Archive,
}

impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tag, image_id, from, size, fetched, .. } = self;
        let verified = match self.verified {
            Promise::Index if fetched < size => "its id is the one that the index has",
            Promise::Index => "its sha256 is the one that the index has",
            Promise::Archive => "whole in itself; there is no sha256 to compare it with",
        };
        write!(f, "{tag} is {image_id}, {}, from {from}; {verified}", Bytes(*size))?;
        if fetched < size {
            write!(f, "; {} were fetched, as the engine has the other layers", Bytes(*fetched))?;
        }
        self.was.as_ref().map_or(Ok(()), |was| write!(f, "; it was {was}"))
    }
}

/// An image that was loaded, and its engine.
pub struct InEngine {
    /// The image.
    pub loaded: Loaded,
    /// The engine.
    pub engine: Engine,
}

/// Loads an image.
pub async fn load(config: LoadConfig, stop: &Shutdown, report: &Report) -> Result<InEngine, CommandError> {
    let LoadConfig { image, tag, engine, now, replace } = config;
    let (artifact, retry) = (image.artifact.clone(), image.retry);
    let Located { location, name } = locate(image, stop).await?;
    let engine = stop.run_stage("looking for an engine", Engine::connect(&engine)).await?;
    // It has a temporary name until it is complete, so that no failure takes a name from the image that has it.
    let temporary = temporary_name(now);
    let storage = &Storage::new(retry)?;
    let loader = Loader { engine: &engine, storage, report, steps: None };
    let loading = async {
        // A name that only the archive has is verified only with all of it.
        let is_asked_for = tag.is_some() || name.is_some();
        let take = |services| loader.task_image(&temporary, services, is_asked_for);
        let (archive, from, verified) = match &location {
            ImageLocation::File(path) => {
                let archive = loader.file(path, None, &temporary).await.map_err(|error| of_file(path, error))?;
                (archive, path.display().to_string(), Promise::Archive)
            }
            ImageLocation::Indexed(services, indexed) => {
                let images = TaskImages { role: Role::Image, services, storage, central: None };
                describe(&indexed.at.task_id, images.take_indexed(indexed, &take(services)).await?)
            }
            ImageLocation::Task(services, task) => {
                let images = TaskImages { role: Role::Image, services, storage, central: None };
                describe(task, images.take(&artifact, task, &take(services)).await?)
            }
        };
        let tag = lasting_name(tag, name.as_ref(), &archive)?;
        if !is_asked_for {
            info!("no name is given: the image gets {tag}");
        }
        let was = match engine.present(tag.as_str()).await? {
            // The containerd image store can have one image under two ids: the one that has the name stays.
            Some(present) if engine.is_image(present.id, archive.image_id, &archive.config).await? => {
                engine.remove_name(&temporary).await?;
                None
            }
            Some(other) if !(is_asked_for || replace) => {
                return Err(CommandError::Config(ConfigError::Combination(format!(
                    "the archive says that it is {tag}, which is the name of another image, {}; --replace takes the name from that one, --tag gives another name",
                    other.id
                ))));
            }
            other => {
                engine.rename(&temporary, &tag).await?;
                other.map(|other| other.id.to_string())
            }
        };
        let ForwardSummary { image_id, sha256, size, skipped, .. } = archive;
        let fetched = size - skipped;
        Ok::<_, CommandError>(Loaded { tag, image_id, sha256, size, fetched, from, verified, was })
    };
    let outcome = stop.run_stage("loading the image", loading).await;
    if outcome.is_err() {
        engine.clean().await;
    }
    outcome.map(|loaded| InEngine { loaded, engine })
}

fn describe(task: &TaskId, image: TaskImage) -> (ForwardSummary, String, Promise) {
    let verified = if image.promised { Promise::Index } else { Promise::Archive };
    (image.archive, format!("{} of task {task}", image.artifact), verified)
}

fn of_file(path: &Path, error: LoadError) -> CommandError {
    match error {
        LoadError::File { path, source } => CommandError::Read { path, source },
        LoadError::Engine(error) => error.into(),
        error => CommandError::Load { path: path.to_owned(), error },
    }
}

/// The final name of the image.
fn lasting_name(
    given: Option<ImageReference>,
    name: Option<&ImageName>,
    archive: &ForwardSummary,
) -> Result<ImageReference, NameError> {
    if let Some(given) = given {
        return Ok(given);
    }
    if let Some(name) = name {
        return format!("{name}:latest").parse();
    }
    if let [only] = archive.tags.as_slice()
        && let Ok(only) = only.parse()
    {
        return Ok(only);
    }
    let id: String = archive.image_id.hex().to_string().chars().take(12).collect();
    format!("{NAMELESS}:{id}").parse()
}

/// A name that no other start of the program uses.
fn temporary_name(now: Timestamp) -> String {
    format!("{NAMELESS}:unfinished-{}", unique(now))
}

/// What no other start of the program has in a name.
#[must_use]
pub fn unique(now: Timestamp) -> TaskId {
    TaskId::derived(&[&now.as_nanosecond().to_string(), &std::process::id().to_string()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Compression;

    #[test]
    fn the_name_is_the_one_that_was_asked_for_or_the_only_one_there_is() {
        let archive = |tags: &[&str]| ForwardSummary {
            image_id: format!("sha256:{}", "0123456789abcdef".repeat(4)).parse().unwrap(),
            config: Vec::new(),
            layers: Vec::new(),
            tags: tags.iter().map(ToString::to_string).collect(),
            repositories: false,
            packing: Compression::Plain,
            sha256: Digest::of(b""),
            size: 0,
            skipped: 0,
        };
        let named = |given: Option<&str>, name: Option<&str>, tags: &[&str]| {
            let (given, name) = (given.map(|given| given.parse().unwrap()), name.map(|name| name.parse().unwrap()));
            lasting_name(given, name.as_ref(), &archive(tags)).unwrap().to_string()
        };
        assert_eq!(named(Some("a:1"), Some("builder"), &["builder:1234"]), "a:1");
        assert_eq!(named(None, Some("builder"), &["builder:1234"]), "builder:latest");
        assert_eq!(named(None, None, &["builder:1234"]), "builder:1234");
        for tags in [&[][..], &["a:1", "a:2"], &["No:1"]] {
            assert_eq!(named(None, None, tags), "image-worker-load:0123456789ab");
        }
    }

    #[test]
    fn no_two_starts_share_a_name() {
        let name = |nanosecond| temporary_name(Timestamp::from_nanosecond(nanosecond).unwrap());
        assert_ne!(name(1), name(2));
        assert!(name(1).parse::<ImageReference>().is_ok());
    }
}
