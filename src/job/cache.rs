//! The layer cache of a job: an image whose build steps can be reused, loaded while the context is fetched. It only saves time,
//! so that its failures are only logged. `run` offers it to a build, the engine uses its steps.

use std::error::Error;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{debug, info, warn};

use super::CommandError;
use super::image_source::Indexed;
use super::loading::Loader;
use super::parent::{Role, TaskImage, TaskImages};
use super::published_document::document;
use super::shutdown::Shutdown;
use crate::config::plan::{BuildDocument, ExportChoice, Plan};
use crate::decision::lookup::LatestImage;
use crate::engine::{CacheFrom, Engine, Steps};
use crate::image::steps::steps_of;
use crate::net::ImageId;
use crate::report::{Bytes, ErrorChain};
use crate::taskcluster::{ArtifactName, Services};

/// The time limit for loading. Some gigabytes take an engine half a minute, and a slow network a few minutes; after a longer time
/// the image would mostly have been built.
const MAY_TAKE: Duration = Duration::from_mins(5);

/// A configuration has some kilobytes, and an image at most 127 layers.
const LARGEST_DOCUMENT: u64 = 4 * 1024 * 1024;

/// The layer cache of a job: the source of its steps, and what it publishes for later builds.
#[derive(Debug)]
pub(super) struct LayerCache {
    from: CacheFrom,
    loaded: Option<CachedImage>,
}

/// An image that steps are taken from, in the engine.
#[derive(Debug)]
pub struct CachedImage {
    /// Its data in the index.
    pub newest: LatestImage,
    /// What was loaded.
    pub image: TaskImage,
    /// Its name in the engine.
    tag: String,
}

/// The result of the work, and the layer cache that was loaded in parallel.
pub(super) struct WithCache<T> {
    pub(super) done: T,
    pub(super) cache: LayerCache,
}

impl LayerCache {
    /// Runs work and loads the cache in parallel; the rest of the loading is a stage of its own. A failure of the work ends it.
    pub(super) async fn join_load<T>(
        first: impl Future<Output = Result<T, CommandError>>,
        loading: impl Future<Output = Self>,
        stop: &Shutdown,
    ) -> Result<WithCache<T>, CommandError> {
        let (mut first, mut loading, mut cache) = (pin!(first), pin!(loading), None);
        let done = loop {
            tokio::select! {
                biased;
                done = &mut first => break done?,
                loaded = &mut loading, if cache.is_none() => cache = Some(loaded),
            }
        };
        let cache = match cache {
            Some(cache) => cache,
            None => stop.run_stage("loading the layer cache", async { Ok::<_, CommandError>(loading.await) }).await?,
        };
        Ok(WithCache { done, cache })
    }

    /// Loads the newest image of this name, if it is wanted and there is one.
    pub(super) async fn load(
        plan: &Plan,
        from: CacheFrom,
        newest: Option<&LatestImage>,
        services: Option<&Services>,
        loader: Loader<'_>,
    ) -> Self {
        let cached = match (from, services) {
            (CacheFrom::Latest, Some(services)) => load_latest(plan, newest, services, loader).await,
            // A dry run can do without a deployment.
            (CacheFrom::Latest, None) | (CacheFrom::Parent | CacheFrom::Off, _) => None,
        };
        Self { from, loaded: cached }
    }

    /// Whether steps may come from a cache.
    pub(super) fn is_wanted(&self) -> bool {
        self.from != CacheFrom::Off
    }

    /// The image that was loaded to take steps from.
    pub(super) fn loaded(&self) -> Option<&CachedImage> {
        self.loaded.as_ref()
    }

    /// The configuration of the image that steps may come from, if it is known.
    pub(super) fn source<'a>(&'a self, parent: Option<&'a TaskImage>) -> Option<&'a [u8]> {
        let image = match self.from {
            CacheFrom::Latest => self.loaded.as_ref().map(|cached| &cached.image),
            CacheFrom::Parent => parent,
            CacheFrom::Off => None,
        };
        image.map(|image| image.archive.config.as_slice())
    }

    /// The names of the images that are offered to the build.
    pub(super) fn cache_from_images(&self, engine: &Engine, parent: Option<&String>) -> Vec<String> {
        match self.from {
            CacheFrom::Latest => self.loaded.iter().map(|cached| cached.tag.clone()).collect(),
            CacheFrom::Parent if engine.needs_step_images() => {
                info!("building without a layer cache: Podman takes no step from a parent image");
                Vec::new()
            }
            CacheFrom::Parent => parent.cloned().into_iter().collect(),
            CacheFrom::Off => Vec::new(),
        }
    }

    /// Logs the result.
    pub(super) fn report(&self, steps: Steps) {
        if let Some(CachedImage { newest: LatestImage { at, project, .. }, .. }) = &self.loaded {
            info!("{} of {} steps from the cache of {at}, for {project}", steps.cached, steps.all);
        }
    }

    /// Writes into `directory` what a later build needs besides the image to reuse its steps; nothing if its engine needs
    /// nothing. A failure is only logged: a later build then runs all steps.
    pub(super) async fn steps_artifact(
        &self,
        engine: &Engine,
        plan: &Plan,
        image_id: ImageId,
        directory: &Path,
    ) -> Option<BuildDocument> {
        // A reproducible image, or one in one layer, differs from the one that the steps made.
        let is_another = plan.reproducible.is_some() || plan.artifact.export == ExportChoice::Squash;
        if !self.is_wanted() || !engine.needs_step_images() || is_another {
            return None;
        }
        let configs = match engine.step_configs(image_id).await {
            Ok(configs) => configs,
            Err(error) => {
                info!("no later build can take steps from this image: {}", ErrorChain(&error));
                return None;
            }
        };
        let steps: Vec<_> =
            steps_of(&configs.image, &configs.steps).iter().map(|step| step.config.to_owned()).collect();
        debug!("{} of {} images of steps are kept for a later build", steps.len(), configs.steps.len());
        let document = Document { image_id: image_id.to_string(), steps };
        let name = ArtifactName::layer_cache();
        match BuildDocument::write(directory, "what later builds take steps by", name, "application/json", &document) {
            Ok(steps_artifact) if steps_artifact.size <= LARGEST_DOCUMENT => Some(steps_artifact),
            Ok(steps_artifact) => {
                info!(
                    "no later build can take steps from this image: of its steps {} is to be said",
                    Bytes(steps_artifact.size)
                );
                None
            }
            Err(error) => {
                warn!("no later build can take steps from this image: {error}");
                None
            }
        }
    }
}

/// The artifact published with an image so that Podman can reuse its steps.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    /// The image.
    image_id: String,
    /// The configurations of the images of its steps, byte by byte.
    steps: Vec<String>,
}

/// Loads the newest image of this name, if there is one.
async fn load_latest(
    plan: &Plan,
    newest: Option<&LatestImage>,
    services: &Services,
    loader: Loader<'_>,
) -> Option<CachedImage> {
    let Some(newest) = newest else {
        info!("building without a layer cache: no image of this name is known");
        return None;
    };
    let tag = plan.cache_tag();
    match tokio::time::timeout(MAY_TAKE, load_newest(newest, services, loader, &tag)).await {
        Ok(Ok(image)) => Some(CachedImage { newest: newest.clone(), image, tag }),
        Ok(Err(error)) => {
            warn!("building without a layer cache: {}", ErrorChain(&*error));
            None
        }
        Err(_) => {
            let minutes = MAY_TAKE.as_secs() / 60;
            warn!("building without a layer cache: the image of {} is not loaded within {minutes} minutes", newest.at);
            None
        }
    }
}

async fn load_newest(
    newest: &LatestImage,
    services: &Services,
    loader: Loader<'_>,
    tag: &str,
) -> Result<TaskImage, Box<dyn Error + Send + Sync>> {
    let steps =
        if loader.engine.needs_step_images() { steps_of_newest(newest, services, &loader).await? } else { Vec::new() };
    let LatestImage { at, data, .. } = newest;
    let indexed = Indexed::new(at.clone(), data.artifact.clone(), Some(data));
    let loader = Loader { steps: Some(&steps), ..loader };
    let images = TaskImages { role: Role::Cache, services, storage: loader.storage, central: None };
    Ok(images.take_indexed(&indexed, &loader.task_image(tag, services, true)).await?)
}

/// The configurations of the steps' images, where the build has published them.
async fn steps_of_newest(
    newest: &LatestImage,
    services: &Services,
    loader: &Loader<'_>,
) -> Result<Vec<String>, Box<dyn Error + Send + Sync>> {
    let (at, name) = (&newest.at, ArtifactName::layer_cache());
    let text = document(services, loader.storage, at, name.clone(), LARGEST_DOCUMENT).await?;
    let document: Document = serde_json::from_slice(&text).map_err(|error| format!("{name} of {at}: {error}"))?;
    if document.image_id != newest.data.image_id {
        return Err(
            format!("{name} of {at} is of the image {}, not of {}", document.image_id, newest.data.image_id).into()
        );
    }
    Ok(document.steps)
}
