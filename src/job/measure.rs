//! The numbers of a job, and the comparison with an earlier image of the same name, fetched from its task. `metrics` defines the
//! numbers. Nothing here fails a job.

use std::time::Duration;

use serde::de::DeserializeOwned;
use tracing::info;

use super::build::BuiltImage;
use super::metrics::{self, Growth, GrowthSince, Layers, Measured};
use super::packages::{LARGEST_SBOM, PackageDifference, Packages, Sbom};
use super::published_document::{LARGEST_LAYERS, json_in_time};
use crate::config::plan::Plan;
use crate::decision::lookup::LatestImage;
use crate::engine::shared_layers;
use crate::image::inventory::Survey;
use crate::image::sbom::Contents;
use crate::net::transfer::Storage;
use crate::taskcluster::{ArtifactName, Services};

/// The image that this one is compared with.
#[derive(Debug)]
pub(super) struct Baseline {
    newest: LatestImage,
    layers: Option<Layers>,
    packages: Option<Packages>,
}

/// The facts about an image before its publication.
pub(super) fn measured(plan: &Plan, built: &BuiltImage) -> Measured {
    let BuiltImage { image, steps, .. } = built;
    let base = shared_layers(&built.bases.found, &image.shape.diff_ids());
    let layers = Layers::of(&image.shape, base);
    let is_plain = plan.artifact.zstd_level.is_none();
    Measured {
        image: plan.image.clone(),
        builder: built.builder,
        layers: if is_plain { layers.with_offsets(&image.shape) } else { layers },
        artifact: plan.artifact.name.clone(),
        archive: image.stored.size(),
        context: built.inputs.context_bytes,
        cached: (steps.all > 0).then_some((steps.cached as u64, steps.all as u64)),
        stages: Vec::new(),
        took: Duration::ZERO,
    }
}

/// The earlier image, with its layers where its task lists them, and its packages if this image has some. One that this very run has published is no earlier one.
pub(super) async fn earlier(
    plan: &Plan,
    newest: LatestImage,
    survey: Option<&Survey>,
    services: Option<&Services>,
    storage: &Storage,
) -> Option<Baseline> {
    if plan.task.as_ref() == Some(&newest.at) {
        return None;
    }
    let documents = Documents { newest: &newest, services: services?, storage };
    let packages = async {
        contents(survey?)?;
        Some(Packages::from(documents.read::<Sbom>(ArtifactName::sbom(), LARGEST_SBOM).await?))
    };
    let layers = documents.read::<Layers>(ArtifactName::layers(), LARGEST_LAYERS);
    let (layers, packages) = tokio::join!(layers, packages);
    Some(Baseline { newest, layers, packages })
}

/// The packages of an image that has some.
fn contents(survey: &Survey) -> Option<&Contents> {
    survey.packages.as_ref().ok()?.as_ref()
}

/// The documents beside the earlier image.
struct Documents<'a> {
    newest: &'a LatestImage,
    services: &'a Services,
    storage: &'a Storage,
}

impl Documents<'_> {
    /// A document, if it is there in time.
    async fn read<T: DeserializeOwned>(&self, name: ArtifactName, limit: u64) -> Option<T> {
        json_in_time(self.services, self.storage, &self.newest.at, name, limit).await
    }
}

impl Baseline {
    /// How this image differs from it; none where the two cannot be compared.
    pub(super) fn growth(&self, measured: &Measured, survey: Option<&Survey>) -> Option<GrowthSince> {
        let LatestImage { project, at, pushed, data, .. } = &self.newest;
        let growth = match &self.layers {
            Some(layers) => Growth::between(layers, &measured.layers),
            // Two archives can only be compared by size, and a compressed one with a compressed one only.
            None if data.artifact == measured.artifact => Growth::in_all(data.size, measured.archive),
            None => return None,
        };
        let date = pushed.map(|pushed| format!(" of {}", pushed.strftime("%Y-%m-%d"))).unwrap_or_default();
        let packages =
            self.packages.as_ref().zip(survey.and_then(contents)).map(|(before, now)| before.difference(&now.into()));
        Some(GrowthSince { growth, whose: format!("the image of task {}{date} ({project})", at.task_id), packages })
    }
}

/// Logs the numbers, and what has become larger.
pub(super) fn log(measured: &Measured, growth: Option<&GrowthSince>) {
    for line in metrics::lines(measured) {
        info!("{line}");
    }
    let Some(GrowthSince { growth, whose, packages }) = growth else { return };
    info!("{}", growth.headline(whose));
    for line in growth.lines() {
        info!("  {line}");
    }
    if let Some(PackageDifference { added, removed, upgraded }) = packages.as_ref().filter(|it| !it.is_empty()) {
        info!("packages: {} added, {} removed, {} upgraded", added.len(), removed.len(), upgraded.len());
    }
}
