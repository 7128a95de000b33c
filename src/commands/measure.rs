//! The numbers of a job, and those of an earlier image of the same name, got from its task and told beside them. What the
//! numbers are is the word of `metrics`. Nothing here fails a job.

use std::io::{self, Read as _};
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use futures_util::TryStreamExt as _;
use tokio::time::timeout;
use tracing::{debug, info};

use crate::engine::{Bases, shared_layers};
use crate::lookup::Newest;
use crate::metrics::{self, Growth, Layers, Measured};
use crate::names::ArtifactName;
use crate::plan::Plan;
use crate::publish::Finished;
use crate::report::Report;
use crate::secrets::Secrets;
use crate::taskcluster::{CallError, Services};
use crate::transfer::{Storage, TransferError};

/// A list of layers has kilobytes: more is none.
const LARGEST: u64 = 1 << 20;

/// How long an earlier image's list may take. It comes while this image is uploaded, and nobody waits long for a comparison.
const LONGEST: Duration = Duration::from_secs(10);

/// An earlier image without a list of its layers. The image is none the worse for it.
#[derive(Debug, thiserror::Error)]
enum NoList {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Transfer(#[from] TransferError),
    #[error("it has more than {LARGEST} bytes")]
    TooLarge,
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("it is none: {0}")]
    Wrong(#[from] serde_json::Error),
    #[error("it did not come within {} s", LONGEST.as_secs())]
    Slow,
}

/// The image that this one is compared with.
#[derive(Debug)]
pub(super) struct Earlier {
    newest: Newest,
    layers: Option<Layers>,
}

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
        artifact: plan.artifact.name.clone(),
        archive: image.image.size,
        context,
        cached: None,
        stages: Vec::new(),
        took: Duration::ZERO,
    }
}

/// The earlier image, with its layers where its task lists them. One that this very run has published is no earlier one.
pub(super) async fn earlier(
    plan: &Plan,
    newest: Option<Newest>,
    services: Option<&Services>,
    storage: &Storage,
) -> Option<Earlier> {
    let newest = newest.filter(|newest| plan.task.as_ref() != Some(&newest.at))?;
    let listed = timeout(LONGEST, list(&newest, services?, storage)).await.unwrap_or(Err(NoList::Slow));
    let layers = listed.inspect_err(|error| debug!("{} has no list of layers: {error}", newest.at)).ok();
    Some(Earlier { newest, layers })
}

async fn list(newest: &Newest, services: &Services, storage: &Storage) -> Result<Layers, NoList> {
    let url = services.queue.artifact_url(&newest.at, &ArtifactName::layers()).await?;
    let download = storage.get(&url).await?;
    let is_gzip = download.gzip_encoded;
    let meter = Report::silent().meter("downloading an earlier list of layers", None);
    let mut bytes = Vec::new();
    let mut coming = std::pin::pin!(download.bytes(meter));
    while let Some(piece) = coming.try_next().await? {
        bytes.extend_from_slice(&piece);
        if bytes.len() as u64 > LARGEST {
            return Err(NoList::TooLarge);
        }
    }
    if is_gzip {
        let mut plain = Vec::new();
        MultiGzDecoder::new(&bytes[..]).take(LARGEST).read_to_end(&mut plain)?;
        bytes = plain;
    }
    Ok(serde_json::from_slice(&bytes)?)
}

/// Tells the numbers, and what has become larger.
pub(super) fn tell(measured: &Measured, earlier: Option<&Earlier>) {
    for line in metrics::lines(measured) {
        info!("{line}");
    }
    let Some(earlier) = earlier else { return };
    let Newest { project, at, pushed, data, .. } = &earlier.newest;
    let growth = match &earlier.layers {
        Some(layers) => Growth::between(layers, &measured.layers),
        // Of two archives nothing more is known, and a packed one is compared with a packed one only.
        None if data.artifact == measured.artifact => Growth::in_all(data.size, measured.archive),
        None => return,
    };
    let date = pushed.map(|pushed| format!(" of {}", pushed.strftime("%Y-%m-%d"))).unwrap_or_default();
    info!("{}", growth.headline(&format!("the image of task {}{date} ({project})", at.task_id)));
    for line in growth.lines() {
        info!("  {line}");
    }
}
