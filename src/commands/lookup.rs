//! `lookup NAME…`: which task has these images already. The hashes are the tree's word, what counts as an image that
//! is there is `lookup`'s.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use tokio::task::spawn_blocking;
use tracing::{debug, info, warn};

use super::Failed;
use super::stop::Shutdown;
use crate::config::LookupConfig;
use crate::context::{ContextHash, ImageName};
use crate::decision::lookup::{FoundEntry, Lookup, LookupRequest};
use crate::net::transfer::Storage;
use crate::repository::lineage::Identified;
use crate::repository::{Tree, TreeError};
use crate::taskcluster::{ArtifactName, Project, Services, TaskId, to_milliseconds};

/// What is known about one image.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Its name.
    pub name: ImageName,
    /// What stands in the `.hash.` route.
    pub hash: ContextHash,
    /// The hash of its context.
    pub context_hash: ContextHash,
    /// The route that leads to it. This and all below is there only if the image is.
    pub route: Option<String>,
    /// The task that has it.
    pub task_id: Option<TaskId>,
    /// The run that has it.
    pub run_id: Option<u32>,
    /// The project that it is indexed for.
    pub project: Option<Project>,
    /// The artifact that it is.
    pub artifact: Option<ArtifactName>,
    /// When it is gone.
    pub expires: Option<String>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.task_id.as_ref().map_or("-", TaskId::as_str))
    }
}

impl Answer {
    fn new(wanted: LookupRequest, found: Option<FoundEntry>) -> Self {
        let LookupRequest { image: name, hash, context: context_hash, .. } = wanted;
        let nothing = Self {
            name,
            hash,
            context_hash,
            route: None,
            task_id: None,
            run_id: None,
            project: None,
            artifact: None,
            expires: None,
        };
        let Some(found) = found else { return nothing };
        Self {
            route: Some(found.namespace.route()),
            task_id: Some(found.at.task_id),
            run_id: Some(found.at.run_id),
            project: Some(found.project),
            artifact: Some(found.artifact),
            expires: Some(to_milliseconds(found.expires)),
            ..nothing
        }
    }
}

/// Looks the images up; the answers are in the order of the names.
pub async fn lookup(config: LookupConfig, names: &[ImageName], stop: &Shutdown) -> Result<Vec<Answer>, Failed> {
    config.retry.hold();
    let (wanted, found) = find_all(config, names, stop).await?;
    info!("{} of {} images are there", found.iter().flatten().count(), wanted.len());
    Ok(wanted.into_iter().zip(found).map(|(wanted, found)| Answer::new(wanted, found)).collect())
}

async fn find_all(
    config: LookupConfig,
    names: &[ImageName],
    stop: &Shutdown,
) -> Result<(Vec<LookupRequest>, Vec<Option<FoundEntry>>), Failed> {
    if config.project.is_none() {
        debug!("PROJECT is not set: looking in {} only", config.central);
    }
    let (services, storage) = (Services::new(&config.deployment)?, Storage::new()?);
    let identified = stop.during("hashing the contexts", identify(&config, names)).await?;
    let wanted: Vec<_> = names.iter().filter_map(|name| Some(wanted(&config, name, identified.get(name)?))).collect();
    let LookupConfig { index, artifact, central, project, now, .. } = config;
    let lookup = Lookup { services, storage, index, artifact, central, project, now };
    let found = stop.during("looking the images up", lookup.find(&wanted)).await?;
    Ok((wanted, found))
}

/// Looks one image up: what it is called in the index, and where it is, if it is there.
pub(super) async fn find(
    config: LookupConfig,
    name: &ImageName,
    stop: &Shutdown,
) -> Result<(ContextHash, Option<FoundEntry>), Failed> {
    let (wanted, found) = find_all(config, std::slice::from_ref(name), stop).await?;
    match wanted.into_iter().next() {
        Some(wanted) => Ok((wanted.hash, found.into_iter().next().flatten())),
        None => Err(Failed::Bug(format!("{name} has no hash"))),
    }
}

fn wanted(config: &LookupConfig, name: &ImageName, identified: &Identified) -> LookupRequest {
    let (hash, context) = (identified.name_in_index(), identified.context);
    LookupRequest { image: name.clone(), hash, context, needed_until: config.now }
}

/// What the images are called in the index.
async fn identify(config: &LookupConfig, names: &[ImageName]) -> Result<BTreeMap<ImageName, Identified>, Failed> {
    let (place, names, scheme) = (config.place.clone(), names.to_vec(), config.scheme);
    let work = move || {
        let tree = Tree::open(&place)?;
        let identified = tree.identify(&names, scheme)?;
        for name in identified.keys().filter(|name| tree.image(name).is_ok_and(|image| tree.lacks_packages(image))) {
            warn!(
                "{name} has packages of other tasks, which only the task graph knows: its hash, and those of images that are built from it, are not the decision task's"
            );
        }
        Ok::<_, TreeError>(identified)
    };
    match spawn_blocking(work).await {
        Ok(identified) => Ok(identified?),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
