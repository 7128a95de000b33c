//! `load`: loads a task image into the engine. `locate` finds the task, `parent` and `loading` load its image, and this file
//! decides the name that it gets.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::builder::NonEmptyStringValueParser;
use jiff::Timestamp;
use serde::Serialize;
use tracing::info;

use super::arguments::namespace;
use super::{Answer, CommandContext};
use crate::config::settings::{ACCESS, INDEXED, LIMITS, MACHINE, PLACE, REPLACE, RETRIES, SCHEME, SettingGroup, TAG};
use crate::config::{ConfigError, ImageSource, LoadConfig};
use crate::context::ImageName;
use crate::engine::Engine;
use crate::image::ForwardSummary;
use crate::job::CommandError;
use crate::job::loading::{LoadError, Loader};
use crate::job::locate::{ImageLocation, Located, locate};
use crate::job::parent::{Role, TaskImage, TaskImages};
use crate::job::shutdown::Shutdown;
use crate::net::registry::ImageReference;
use crate::net::transfer::Storage;
use crate::net::{Digest, ImageId, NameError};
use crate::report::{Bytes, Report};
use crate::taskcluster::{Namespace, TaskId, TaskRef};

const HELP: &str = "\
Loads a task image into the engine: finds it, downloads it, verifies it, streams it into the engine, and names it.
What is verified: the file's sha256, where the index has it; and always each layer, by the image's own configuration. The name
is --tag; else NAME:latest; else, without a NAME, the archive's only name, or one that is made up. It is the answer.";

// Here --index is a route; the route prefix has only its variable and its key.
pub(super) const SETTINGS: &[SettingGroup] =
    &[PLACE, LIMITS, &[&SCHEME], INDEXED, &[&TAG, &REPLACE], ACCESS, RETRIES, MACHINE];

/// Load a task image into the engine, verified on its way
#[derive(Debug, PartialEq, Eq, clap::Args)]
#[command(long_about = HELP)]
#[group(id = "source", required = true, multiple = false)]
pub struct Args {
    /// The image of this checkout, or the path of its directory: found by its hash
    #[arg(value_name = "NAME|PATH", value_parser = NonEmptyStringValueParser::new(), help_heading = HEADING)]
    name: Option<String>,
    /// The image of this task, given by its id or its URL; of one run, where the URL names a run
    #[arg(id = "of-task", long = "task-id", value_name = "ID|URL", help_heading = HEADING)]
    task: Option<TaskRef>,
    /// The image that the index has under this route, like index.docker.images.v1.PROJECT.NAME.latest
    #[arg(id = "route", long = "index", value_name = "ROUTE", value_parser = namespace, help_heading = HEADING)]
    route: Option<Namespace>,
    /// An image archive: .tar, .tar.gz or .tar.zst
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    file: Option<PathBuf>,
}

const HEADING: &str = "Which image, one of";

impl Args {
    pub(super) fn run(self, context: &CommandContext) -> Result<Answer, CommandError> {
        let source = self.source().ok_or_else(|| CommandError::Bug("no image is named".to_owned()))?;
        let config = LoadConfig::read(context.settings, &context.surroundings, &source)?;
        let loaded = context.until_stopped(async |stop| load(config, stop, context.report).await)?;
        info!("{loaded}");
        context.answer(&loaded, loaded.tag.as_str())
    }

    /// Exactly one is given.
    fn source(self) -> Option<ImageSource> {
        let name = self.name.map(ImageSource::Named);
        let task = self.task.map(ImageSource::Task);
        let route = self.route.map(ImageSource::Route);
        name.or(task).or(route).or(self.file.map(ImageSource::File))
    }
}

/// The name of an image that has none, or several, and was not given one.
const NAMELESS: &str = "image-worker-load";

/// An image in the engine.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Loaded {
    /// Its name.
    tag: ImageReference,
    /// Its id.
    image_id: ImageId,
    /// sha256 of the archive, as it was downloaded.
    sha256: Digest,
    /// Its size in bytes.
    size: u64,
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
    /// The sha256 that the index has.
    Index,
    /// The archive's own digests: of each layer, and of the configuration.
    Archive,
}

impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verified = match self.verified {
            Promise::Index => "its sha256 is the one that the index has",
            Promise::Archive => "whole in itself; there is no sha256 to compare it with",
        };
        let Self { tag, image_id, from, .. } = self;
        write!(f, "{tag} is {image_id}, {}, from {from}; {verified}", Bytes(self.size))?;
        self.was.as_ref().map_or(Ok(()), |was| write!(f, "; it was {was}"))
    }
}

/// Loads an image.
async fn load(config: LoadConfig, stop: &Shutdown, report: &Report) -> Result<Loaded, CommandError> {
    let LoadConfig { image, tag, engine, now, replace } = config;
    let (artifact, retry) = (image.artifact.clone(), image.retry);
    let Located { location, name } = locate(image, stop).await?;
    let engine = stop.run_stage("looking for an engine", Engine::connect(&engine)).await?;
    // It has a temporary name until it is complete, so that no failure takes a name from the image that has it.
    let temporary = temporary_name(now);
    let storage = &Storage::new(retry)?;
    let loader = Loader { engine: &engine, storage, report, steps: None };
    let loading = async {
        let take = loader.into_engine(&temporary);
        let (archive, from, verified) = match &location {
            ImageLocation::File(path) => {
                let archive = loader.file(path, None, &temporary).await.map_err(|error| of_file(path, error))?;
                (archive, path.display().to_string(), Promise::Archive)
            }
            ImageLocation::Indexed(services, indexed) => {
                let images = TaskImages { role: Role::Image, services, storage, central: None };
                describe(&indexed.at.task_id, images.take_indexed(indexed, &take).await?)
            }
            ImageLocation::Task(services, task) => {
                let images = TaskImages { role: Role::Image, services, storage, central: None };
                describe(task, images.take(&artifact, task, &take).await?)
            }
        };
        let is_asked_for = tag.is_some() || name.is_some();
        let tag = lasting_name(tag, name.as_ref(), &archive)?;
        if !is_asked_for {
            info!("no name is given: the image gets {tag}");
        }
        if !(is_asked_for || replace) {
            not_taken(&engine, &tag, &temporary).await?;
        }
        let was = engine.rename(&temporary, &tag).await?;
        let ForwardSummary { image_id, sha256, size, .. } = archive;
        Ok::<_, CommandError>(Loaded { tag, image_id, sha256, size, from, verified, was })
    };
    let outcome = stop.run_stage("loading the image", loading).await;
    if outcome.is_err() {
        engine.clean().await;
    }
    outcome
}

/// Refuses a name that comes only from the archive, if an image other than `loaded` has it.
async fn not_taken(engine: &Engine, tag: &ImageReference, loaded: &str) -> Result<(), CommandError> {
    let loaded = engine.present(loaded).await?.map(|image| image.id);
    match engine.present(tag.as_str()).await? {
        Some(other) if Some(&other.id) != loaded.as_ref() => {
            Err(CommandError::Config(ConfigError::Combination(format!(
                "the archive says that it is {tag}, which is the name of another image, {}; --replace takes the name from that one, --tag gives another name",
                other.id
            ))))
        }
        _ => Ok(()),
    }
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
    let unique = TaskId::derived(&[&now.as_nanosecond().to_string(), &std::process::id().to_string()]);
    format!("{NAMELESS}:unfinished-{unique}")
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
