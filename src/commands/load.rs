//! `load`: a task image into the engine. Which task has it is `lookup`'s word, the way into the engine is `parent`'s and
//! `loading`'s; the name that it gets is decided here.

use std::fmt;
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;
use tracing::info;

use super::stop::Shutdown;
use super::{Failed, image_names, lookup};
use crate::config::{ConfigError, LoadConfig, LoadFrom, LookupConfig};
use crate::context::ImageName;
use crate::engine::Engine;
use crate::image::ForwardSummary;
use crate::job::loading::{LoadError, Loader};
use crate::job::parent::{Indexed, Role, TaskImage, TaskImages};
use crate::net::registry::ImageReference;
use crate::net::transfer::Storage;
use crate::net::{Digest, NameError};
use crate::report::{Bytes, Report};
use crate::taskcluster::{Deployment, Namespace, Services, TaskId, TaskRun};

/// What is the name of an image that has none, or several, and was not given one.
const NAMELESS: &str = "image-worker-load";

/// An image that is in the engine.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Loaded {
    /// Its name.
    pub tag: ImageReference,
    /// Its id.
    pub image_id: String,
    /// sha256 of the archive, as it was downloaded.
    pub sha256: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Where it came from.
    pub from: String,
    /// What it was compared with.
    pub verified: Promise,
    /// The id of the image that had the name before.
    pub was: Option<String>,
}

/// What an archive was compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Promise {
    /// The sha256 that the index has.
    Index,
    /// What it says of itself: each layer, and the configuration.
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

/// Where an image is.
enum Place {
    Indexed(Services, Indexed),
    Task(Services, TaskId),
    File,
}

/// Loads an image.
pub async fn load(config: LoadConfig, stop: &Shutdown, report: &Report) -> Result<Loaded, Failed> {
    config.retry.hold();
    let LoadConfig { from, tag, artifact, engine, now, replace, directory, .. } = config;
    let name = match &from {
        LoadFrom::Named(typed, config) => image_names(std::slice::from_ref(typed), &config.place, &directory)?.pop(),
        LoadFrom::Task(..) | LoadFrom::Route(..) | LoadFrom::File(_) => None,
    };
    let file = match &from {
        LoadFrom::File(path) => Some(path.clone()),
        LoadFrom::Named(..) | LoadFrom::Task(..) | LoadFrom::Route(..) => None,
    };
    let place = find(from, name.clone(), stop).await?;
    let engine = stop.during("looking for an engine", Engine::connect(&engine)).await?;
    // Under a name of its own until it is whole, so that no failure takes a name from the image that has it.
    let temporary = temporary_name(now);
    let loader = Loader { engine: &engine, storage: &Storage::new()?, report, steps: None };
    let loading = async {
        let (archive, from, verified) = match (&place, &file) {
            (Place::File, Some(path)) => {
                let archive = loader.file(path, None, &temporary).await.map_err(|error| of_file(path, error))?;
                (archive, path.display().to_string(), Promise::Archive)
            }
            (Place::File, None) => return Err(Failed::Bug("a file without a path".to_owned())),
            (Place::Indexed(services, indexed), _) => {
                let images = TaskImages { role: Role::Image, services, loader, central: None };
                told(&indexed.at.task_id, images.load_indexed(indexed, &temporary).await?)
            }
            (Place::Task(services, task), _) => {
                let images = TaskImages { role: Role::Image, services, loader, central: None };
                told(task, images.load(&artifact, task, &temporary).await?)
            }
        };
        let is_asked_for = tag.is_some() || name.is_some();
        let tag = lasting_name(tag, name.as_ref(), &archive)?;
        if !is_asked_for {
            info!("nobody said which name the image is to have: it gets {tag}");
        }
        if !(is_asked_for || replace) {
            not_taken(&engine, &tag, &temporary).await?;
        }
        let was = engine.rename(&temporary, &tag).await?;
        let ForwardSummary { image_id, sha256, size, .. } = archive;
        Ok::<_, Failed>(Loaded { tag, image_id, sha256, size, from, verified, was })
    };
    let outcome = stop.during("loading the image", loading).await;
    if outcome.is_err() {
        engine.clean().await;
    }
    outcome
}

/// Refuses a name that only the archive says, if another image has it than the one that was loaded as `loaded`.
async fn not_taken(engine: &Engine, tag: &ImageReference, loaded: &str) -> Result<(), Failed> {
    let loaded = engine.present(loaded).await?.map(|image| image.id);
    match engine.present(tag.as_str()).await? {
        Some(other) if Some(&other.id) != loaded.as_ref() => Err(Failed::Config(ConfigError::Combination(format!(
            "the archive says that it is {tag}, which is the name of another image, {}; --replace takes the name from that one, --tag gives another name",
            other.id
        )))),
        _ => Ok(()),
    }
}

fn told(task: &TaskId, image: TaskImage) -> (ForwardSummary, String, Promise) {
    let verified = if image.promised { Promise::Index } else { Promise::Archive };
    (image.archive, format!("{} of task {task}", image.artifact), verified)
}

fn of_file(path: &Path, error: LoadError) -> Failed {
    match error {
        LoadError::File { path, source } => Failed::Read { path, source },
        LoadError::Engine(error) => error.into(),
        error => Failed::Load { path: path.to_owned(), error },
    }
}

/// Finds out which artifact of which task it is.
async fn find(from: LoadFrom, name: Option<ImageName>, stop: &Shutdown) -> Result<Place, Failed> {
    match from {
        LoadFrom::File(_) => Ok(Place::File),
        LoadFrom::Task(task, deployment) => Ok(Place::Task(Services::new(&deployment)?, task)),
        LoadFrom::Route(namespace, deployment) => {
            stop.during("looking into the index", in_index(&namespace, &deployment)).await
        }
        LoadFrom::Named(typed, config) => {
            let name = name.ok_or_else(|| Failed::Bug(format!("{typed} is no image")))?;
            by_name(name, *config, stop).await
        }
    }
}

/// What the index has at a place.
async fn in_index(namespace: &Namespace, deployment: &Deployment) -> Result<Place, Failed> {
    let services = Services::new(deployment)?;
    let Some(entry) = services.index.find_task(namespace).await? else {
        let route = namespace.route();
        return Err(Failed::NoImage(format!("the index has nothing at {route}; name another route, or a task")));
    };
    info!("{} leads to task {}", namespace.route(), entry.task_id);
    Ok(match entry.image() {
        Some(data) => {
            let at = TaskRun { task_id: entry.task_id, run_id: data.run_id };
            Place::Indexed(services, Indexed { at, artifact: data.artifact, sha256: Some(data.sha256) })
        }
        None => Place::Task(services, entry.task_id),
    })
}

/// The task that has an image of the checkout, as it is now.
async fn by_name(name: ImageName, config: LookupConfig, stop: &Shutdown) -> Result<Place, Failed> {
    let services = Services::new(&config.deployment)?;
    let projects = match &config.project {
        Some(project) if *project != config.central => format!("neither {} nor {project} has it", config.central),
        _ => format!("{} has it not", config.central),
    };
    match lookup::find(config, &name, stop).await? {
        (_, Some(found)) => {
            info!("{} leads to {}", found.namespace.route(), found.at);
            let sha256 = found.data.map(|data| data.sha256);
            let indexed = Indexed { at: found.at, artifact: found.artifact, sha256 };
            Ok(Place::Indexed(services, indexed))
        }
        (hash, None) => Err(Failed::NoImage(format!(
            "no task has the image {name} of hash {hash}: {projects}; push, and a task makes it, or build it here"
        ))),
    }
}

/// The name that the image ends with.
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
    let id: String = archive.image_id.trim_start_matches("sha256:").chars().take(12).collect();
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
            image_id: format!("sha256:{}", "0123456789ab".repeat(5)),
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
