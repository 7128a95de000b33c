//! The numbers of a job, and the comparison with an earlier image of the same name, fetched from its task. `metrics` defines the
//! numbers. Nothing here fails a job.

use std::time::Duration;

use tokio::time::timeout;
use tracing::{debug, info};

use super::build::BuiltImage;
use super::metrics::{self, Growth, GrowthSince, Layers, Measured};
use super::published_document::{DocumentError, document};
use crate::config::plan::Plan;
use crate::decision::lookup::LatestImage;
use crate::engine::shared_layers;
use crate::net::transfer::Storage;
use crate::taskcluster::{ArtifactName, Services};

/// A list of layers has kilobytes: more is none.
const LARGEST: u64 = 1 << 20;

/// The time limit for an earlier image's list. It is fetched while the build's log is uploaded, and the comparison is not worth a
/// long wait.
const LONGEST: Duration = Duration::from_secs(10);

/// An earlier image without a list of its layers. The image is none the worse for it.
#[derive(Debug, thiserror::Error)]
enum BaselineError {
    #[error(transparent)]
    Unread(#[from] DocumentError),
    #[error("it is none: {0}")]
    Wrong(#[from] serde_json::Error),
    #[error("it did not come within {} s", LONGEST.as_secs())]
    Slow,
}

/// The image that this one is compared with.
#[derive(Debug)]
pub(super) struct Baseline {
    newest: LatestImage,
    layers: Option<Layers>,
}

/// The facts about an image before its publication.
pub(super) fn measured(plan: &Plan, built: &BuiltImage) -> Measured {
    let BuiltImage { image, steps, .. } = built;
    let base = shared_layers(&built.bases.found, &image.shape.diff_ids());
    Measured {
        image: plan.image.clone(),
        builder: built.builder,
        layers: Layers::of(&image.shape, base),
        artifact: plan.artifact.name.clone(),
        archive: image.image.size,
        context: built.inputs.context_bytes,
        cached: (steps.all > 0).then_some((steps.cached as u64, steps.all as u64)),
        stages: Vec::new(),
        took: Duration::ZERO,
    }
}

/// The earlier image, with its layers where its task lists them. One that this very run has published is no earlier one.
pub(super) async fn earlier(
    plan: &Plan,
    newest: LatestImage,
    services: Option<&Services>,
    storage: &Storage,
) -> Option<Baseline> {
    if plan.task.as_ref() == Some(&newest.at) {
        return None;
    }
    let listed = timeout(LONGEST, list(&newest, services?, storage)).await.unwrap_or(Err(BaselineError::Slow));
    let layers = listed.inspect_err(|error| debug!("{} has no list of layers: {error}", newest.at)).ok();
    Some(Baseline { newest, layers })
}

async fn list(newest: &LatestImage, services: &Services, storage: &Storage) -> Result<Layers, BaselineError> {
    let bytes = document(services, storage, &newest.at, ArtifactName::layers(), LARGEST).await?;
    Ok(serde_json::from_slice(&bytes)?)
}

impl Baseline {
    /// How this image differs from it; none where the two cannot be compared.
    pub(super) fn growth(&self, measured: &Measured) -> Option<GrowthSince> {
        let LatestImage { project, at, pushed, data, .. } = &self.newest;
        let growth = match &self.layers {
            Some(layers) => Growth::between(layers, &measured.layers),
            // Two archives can only be compared by size, and a compressed one with a compressed one only.
            None if data.artifact == measured.artifact => Growth::in_all(data.size, measured.archive),
            None => return None,
        };
        let date = pushed.map(|pushed| format!(" of {}", pushed.strftime("%Y-%m-%d"))).unwrap_or_default();
        Some(GrowthSince { growth, whose: format!("the image of task {}{date} ({project})", at.task_id) })
    }
}

/// Logs the numbers, and what has become larger.
pub(super) fn log(measured: &Measured, growth: Option<&GrowthSince>) {
    for line in metrics::lines(measured) {
        info!("{line}");
    }
    let Some(GrowthSince { growth, whose }) = growth else { return };
    info!("{}", growth.headline(whose));
    for line in growth.lines() {
        info!("  {line}");
    }
}
