//! `decide GRAPH`, the decision step: a graph in which images are named goes in, and comes out with their tasks in it.
//! Everything that can be wrong is found before the first file is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use futures_util::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::Failed;
use super::stop::Stop;
use crate::config::DecideConfig;
use crate::decision::{self, Common, Order};
use crate::document::{self, DocumentError};
use crate::graph::{Graph, GraphError, ImageTask, Resolution, Resolved, Use, UseKind};
use crate::lookup::{Found, Lookup, Wanted};
use crate::names::{ContextHash, HashScheme, ImageName, Namespace, TaskId};
use crate::task::Template;
use crate::taskcluster::Services;
use crate::transfer::Storage;
use crate::tree::{Identified, Tree};

/// The image task's definition as this version comes with it.
const TEMPLATE: &str = include_str!("../../worker-config/task.yml");

/// What `decide` has decided.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decided {
    /// The task images, in the order of their names.
    pub images: Vec<Image>,
    /// The registry images, by name.
    pub references: BTreeMap<ImageName, String>,
    /// The graph, with nothing left to fill in; none where it was written to a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph: Option<Value>,
}

/// What is decided about one task image.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// Its name.
    pub name: ImageName,
    /// What stands in its `.hash.` route.
    pub hash: ContextHash,
    /// The hash of its context.
    pub context_hash: ContextHash,
    /// The task that has it, or will have it.
    pub task_id: TaskId,
    /// Where it was found; none for an image that gets a task in this graph.
    pub route: Option<Namespace>,
    /// The context that was written for it.
    pub context: Option<PathBuf>,
}

/// Decides. `text` is the graph, `name` what errors call it.
pub async fn decide(config: DecideConfig, name: &str, text: &str, stop: &Stop) -> Result<Decided, Failed> {
    config.patience.hold();
    config.assumed.iter().for_each(|assumption| info!("{assumption}"));
    let graph = Graph::parse(document::parse(name, text)?)?;
    let uses = graph.uses()?;
    let tree = config.images.tree()?;
    let references = references(&tree, &uses)?;
    let users = users(&tree, &uses)?;
    let names: Vec<_> = users.keys().cloned().collect();
    let identified = tree.identify(&names, HashScheme::Tar)?;
    let waiting: BTreeMap<_, Vec<&Value>> = users
        .iter()
        .map(|(image, users)| (image, users.iter().filter_map(|task| graph.definition(task)).collect()))
        .collect();

    let wanted = wanted(&identified, &waiting, &config);
    let found = stop.during("looking for images", find(&config, wanted)).await?;
    let used = uses.iter().filter(|used| used.kind == UseKind::TaskId).map(|used| used.image.clone());
    let parent_of = |image: &ImageName| tree.image(image).ok().and_then(|image| image.parent.clone());
    let missing = decision::missing(used, |image| found.contains_key(image), parent_of);

    let template = template(config.template.as_deref())?;
    decision::check_given(&config.given, &template)?;
    let common = common(&config);
    let mut images: BTreeMap<_, _> = found
        .iter()
        .map(|(image, found)| (image.clone(), Resolved::Found { task_id: found.at.task_id.clone() }))
        .collect();
    for name in &missing {
        let (image, hashes) = (tree.image(name)?, &identified[name]);
        let order = Order {
            image: name.clone(),
            context: hashes.context,
            index_hash: hashes.index_hash,
            args: image.args.clone(),
            parent: image.parent.as_ref().and_then(|parent| images.get(parent)).map(|parent| parent.task_id().clone()),
            symbol: image.symbol.clone(),
        };
        // Whoever decides a second time in one decision task decides the same.
        let hash = hashes.name_in_index().to_string();
        let task_id = TaskId::derived(&[config.decision_task.as_str(), name.as_str(), &hash]);
        let waiting = waiting.get(name).map(Vec::as_slice).unwrap_or_default();
        let definition = decision::definition(&order, waiting, &template, &common)?;
        let task = ImageTask { name: name.clone(), task_id, definition, parent: image.parent.clone() };
        images.insert(name.clone(), Resolved::Made(task));
    }
    let resolution = Resolution { images, references };
    let resolved = graph.resolve(&resolution)?;

    let contexts = stop.during("writing contexts", write_contexts(&tree, &missing, &identified, &config.contexts)).await?;
    let decided = tell(&resolution, &found, &identified, &contexts);
    let Resolution { references, .. } = resolution;
    match &config.out {
        Some(out) => {
            write_graph(out, &resolved)?;
            Ok(Decided { images: decided, references, graph: None })
        }
        None => Ok(Decided { images: decided, references, graph: Some(resolved) }),
    }
}
