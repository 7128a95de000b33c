//! The numbers of a job, and those of an earlier image of the same name, got from its task and told beside them. What the
//! numbers are is the word of `metrics`. Nothing here fails a job.

use std::time::Duration;

use tracing::info;

use crate::engine::{Bases, shared_layers};
use crate::metrics::{self, Layers, Measured};
use crate::plan::Plan;
use crate::publish::Finished;
use crate::secrets::Secrets;

/// What is known of an image before it is published.
pub(super) fn measured(
    plan: &Plan,
    image: &Finished,
    (bases, builder): (&Bases, &'static str),
    context: u64,
    hidden: &Secrets,
) -> Measured {
    let base = shared_layers(&bases.found, &image.shape.diff_ids());
    Measured {
        image: plan.image.clone(),
        builder,
        layers: Layers::of(&image.shape, base, hidden),
        archive: image.image.size,
        is_packed: plan.artifact.zstd_level.is_some(),
        context,
        cached: None,
        stages: Vec::new(),
        took: Duration::ZERO,
    }
}

/// Tells the numbers.
pub(super) fn tell(measured: &Measured) {
    for line in metrics::lines(measured) {
        info!("{line}");
    }
}
