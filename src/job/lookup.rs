//! Looks up images of a checkout in the index, by their hashes there. `decision` decides whether an entry counts.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;

use futures_util::future::{Either, select};
use futures_util::stream::{self, Stream, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use tokio::sync::mpsc::unbounded_channel;
use tracing::{debug, info, warn};

use super::CommandError;
use super::shutdown::Shutdown;
use crate::config::{DecideConfig, ImagesDir, LookupConfig};
use crate::context::{HashScheme, ImageName};
use crate::decision::Definition;
use crate::decision::image_needs::needed_until;
use crate::decision::image_tasks::Expiring;
pub(crate) use crate::decision::lookup::LookedUp;
use crate::decision::lookup::{AT_ONCE, FoundEntry, Lookup, LookupRequest};
use crate::net::blocking::blocking;
use crate::net::transfer::Storage;
use crate::repository::lineage::{Identified, Lineage};
use crate::repository::{Tree, TreeError};
use crate::taskcluster::Services;

/// The images of a tree that can be looked up.
pub(crate) struct TreeImages {
    pub(crate) names: Vec<ImageName>,
    /// Those with a VERSION: perhaps only a registry has them, and no task.
    pub(crate) versioned: BTreeSet<ImageName>,
}

impl TreeImages {
    /// Reads the tree. It leaves out what only the task graph can look up: images with packages, and what is built from them.
    pub(crate) fn read(place: &ImagesDir) -> Result<Self, CommandError> {
        let tree = Tree::open(place)?;
        let (mut names, mut versioned) = (Vec::new(), BTreeSet::new());
        for name in tree.names() {
            if let Err(TreeError::NotInKind { .. } | TreeError::Elsewhere { .. }) = tree.task_image(name) {
                continue;
            }
            let ancestors = tree.ancestors(std::slice::from_ref(name))?;
            if ancestors.iter().any(|it| tree.image(it).is_ok_and(|image| tree.lacks_packages(image))) {
                warn!("{name} needs packages of other tasks, which only the task graph knows: it is not looked up");
                continue;
            }
            names.push(name.clone());
            if !matches!(tree.registry(name), Ok(None)) {
                versioned.insert(name.clone());
            }
        }
        Ok(Self { names, versioned })
    }
}

/// Looks images up, in their order.
pub(crate) async fn find_all(
    config: LookupConfig,
    names: &[ImageName],
    stop: &Shutdown,
) -> Result<Vec<LookedUp>, CommandError> {
    Ok(look_up(config, names, stop).await?.1)
}

/// Looks images up; those that will still be found at `time` are left out.
pub(crate) async fn find_expiring(
    config: LookupConfig,
    names: &[ImageName],
    time: Timestamp,
    stop: &Shutdown,
) -> Result<Vec<LookedUp>, CommandError> {
    let (lookup, mut images) = look_up(config, names, stop).await?;
    let found = images.iter().filter_map(|image| Some((&image.wanted, image.found.as_ref()?)));
    let expiring = stop.run_stage("looking for what lasts longer", lookup.expiring(found, time)).await?;
    images.retain(|image| image.found.is_none() || expiring.contains(&image.wanted.image));
    Ok(images)
}

async fn look_up(
    config: LookupConfig,
    names: &[ImageName],
    stop: &Shutdown,
) -> Result<(Lookup, Vec<LookedUp>), CommandError> {
    if config.project.is_none() {
        debug!("PROJECT is not set: looking in {} only", config.central);
    }
    let (services, storage) = (Services::new(&config.deployment)?, Storage::new(config.deployment.retry)?);
    let identified = stop.run_stage("hashing the contexts", identify(&config, names)).await?;
    let wanted: Vec<_> = names.iter().filter_map(|name| Some(wanted(&config, name, identified.get(name)?))).collect();
    let LookupConfig { index, artifact, central, project, now, .. } = config;
    let lookup = Lookup { services, storage, index, artifact, central, project, now };
    let found = stop.run_stage("looking the images up", lookup.find(&wanted)).await?;
    let images = wanted.into_iter().zip(found).map(|(wanted, found)| LookedUp { wanted, found }).collect();
    Ok((lookup, images))
}

/// The images of a graph.
pub(crate) struct GraphLineage<'a> {
    /// The tree that they are from.
    pub(crate) tree: &'a Arc<Tree>,
    /// Those that its tasks use, and all that they are built from.
    pub(crate) lineage: &'a Lineage,
    /// Those that its tasks use.
    pub(crate) named: &'a [ImageName],
    /// The tasks that wait for each.
    pub(crate) waiting: &'a BTreeMap<ImageName, Vec<&'a Definition>>,
}

/// What is known about the images of a graph.
pub(crate) struct KnownImages {
    pub(crate) identified: BTreeMap<ImageName, Identified>,
    /// Those that the index has.
    pub(crate) found: BTreeMap<ImageName, FoundEntry>,
    /// Those that the graph's tasks use, and that expire too soon.
    pub(crate) expiring: Expiring,
}

/// Hashes the images of a graph, and looks for each while the next ones are hashed.
pub(crate) async fn identify_and_find(
    config: &DecideConfig,
    images: &GraphLineage<'_>,
) -> Result<KnownImages, CommandError> {
    let (sender, mut receiver) = unbounded_channel();
    let (tree, lineage) = (Arc::clone(images.tree), images.lineage.clone());
    let hashing = pin!(blocking(move || {
        tree.identify_each(&lineage, HashScheme::Tar, |name, hashes| {
            // There is no receiver where nothing is looked up, and after a look-up that has failed.
            let _ = sender.send((name.clone(), hashes.clone()));
        })
    }));
    let hashed = stream::poll_fn(move |context| receiver.poll_recv(context));
    let wanted = hashed.map(|(image, hashes)| {
        let waiting = images.waiting.get(&image).map(Vec::as_slice).unwrap_or_default();
        let needed_until = needed_until(waiting, config.now);
        LookupRequest { image, hash: hashes.name_in_index(), context: hashes.context, needed_until }
    });
    let finding = pin!(find_for_graph(config, images, wanted));
    // What is wrong with a context is said first, whatever the index says.
    let (identified, found) = match select(hashing, finding).await {
        Either::Left((identified, finding)) => (identified?, finding.await?),
        Either::Right((found, hashing)) => (hashing.await?, found?),
    };
    let (found, expiring) = found;
    Ok(KnownImages { identified, found, expiring })
}

/// The images that the index has, and which of those that the graph's tasks use expire too soon.
async fn find_for_graph(
    config: &DecideConfig,
    images: &GraphLineage<'_>,
    wanted: impl Stream<Item = LookupRequest>,
) -> Result<(BTreeMap<ImageName, FoundEntry>, Expiring), CommandError> {
    let until = config.renew_within.map_or(config.now, |within| within.after(config.now));
    let mut expiring = Expiring { images: BTreeSet::new(), until };
    let Some(deployment) = &config.deployment else {
        match images.lineage.names.len() {
            0 => info!("offline: the graph names no image that a task builds"),
            1 => info!("offline: nothing is looked up, 1 image gets a task"),
            images => info!("offline: nothing is looked up, {images} images get a task each"),
        }
        return Ok((BTreeMap::new(), expiring));
    };
    let lookup = Lookup {
        services: Services::new(deployment)?,
        storage: Storage::new(deployment.retry)?,
        index: config.index.clone(),
        artifact: config.artifact.name.clone(),
        central: config.central.clone(),
        project: Some(config.project.clone()),
        now: config.now,
    };
    let looked_up: Vec<LookedUp> = lookup.find_each(wanted.chunks(AT_ONCE)).try_collect().await?;
    if config.renew_within.is_some() {
        let found = looked_up.iter().filter_map(|it| Some((&it.wanted, it.found.as_ref()?)));
        let named = found.filter(|(wanted, _)| images.named.contains(&wanted.image));
        expiring.images = lookup.expiring(named, until).await?;
    }
    let found = looked_up.into_iter().filter_map(|it| Some((it.wanted.image, it.found?))).collect();
    Ok((found, expiring))
}

/// Looks one image up.
pub(crate) async fn find(config: LookupConfig, name: &ImageName, stop: &Shutdown) -> Result<LookedUp, CommandError> {
    let found = find_all(config, std::slice::from_ref(name), stop).await?.pop();
    found.ok_or_else(|| CommandError::Bug(format!("{name} has no hash")))
}

fn wanted(config: &LookupConfig, name: &ImageName, identified: &Identified) -> LookupRequest {
    let (hash, context) = (identified.name_in_index(), identified.context);
    LookupRequest { image: name.clone(), hash, context, needed_until: config.now }
}

/// The names of the images in the index.
async fn identify(config: &LookupConfig, names: &[ImageName]) -> Result<BTreeMap<ImageName, Identified>, CommandError> {
    let (place, names, scheme) = (config.place.clone(), names.to_vec(), config.scheme);
    blocking(move || {
        let tree = Tree::open(&place)?;
        let identified = tree.identify(&names, scheme)?;
        for name in identified.keys().filter(|name| tree.image(name).is_ok_and(|image| tree.lacks_packages(image))) {
            warn!(
                "{name} has packages of other tasks, which only the task graph knows: its hash, and those of images that are built from it, are not the decision task's"
            );
        }
        Ok(identified)
    })
    .await
}
