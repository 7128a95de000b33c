//! `decide GRAPH`, the decision step: reads a graph that names images, and writes it with their tasks filled in. All errors are
//! found before the first file is written.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _};
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::Value;
use tracing::{info, warn};

use super::arguments::key_value;
use super::command_context::to_json;
use super::{Answer, CommandContext};
use crate::config::settings::{
    ACCESS, CONTEXTS, DECISION_TASK, INDEX, INDEXED, LIMITS, OFFLINE, OUT, PLACE, PUSHDATE, REBUILD, RENEW_WITHIN,
    RETRIES, SettingGroup, TASK_TEMPLATE, VALUES, ZSTD_LEVEL,
};
use crate::config::{ConfigError, DecideConfig, ImagesDir, outside, settings};
use crate::context::pinned::Pinned;
use crate::context::{ContextHash, HashScheme, ImageName};
use crate::decision::graph::{Form, Graph, ImageTask, Resolution, Resolved, Use, UseKind, task_label};
use crate::decision::image_needs::waiting;
use crate::decision::image_tasks::{GraphImages, ImageTasks};
use crate::decision::task::Template;
use crate::decision::{self, DecisionContext};
use crate::job::CommandError;
use crate::job::context_archive;
use crate::job::lookup::{GraphLineage, identify_and_find};
use crate::job::named_image::image_names;
use crate::job::shutdown::Shutdown;
use crate::job::work_dir::{AtomicFile, remove_stale};
use crate::net::blocking::blocking;
use crate::repository::lineage::{Identified, Lineage};
use crate::repository::{Tree, TreeError, document};
use crate::taskcluster::Namespace;

const HELP: &str = "\
The decision step. Reads a task graph, JSON or YAML, whose tasks name images, anywhere in their definitions:
    '{{#task_id_for_image}}NAME{{/task_id_for_image}}'  the task that has the task image NAME
    '{{#docker_image}}NAME{{/docker_image}}'            the registry image NAME: REGISTRY/NAME:VERSION
Each task image is looked up by its hash. Where it is missing, the graph gets one task that builds it, its context is
written to --contexts, and the tasks that need it wait for that task. The kind.yml lists the images, where
there is one. --renew-within adds tasks for images that expire soon, --rebuild for named ones. With --offline nothing
is looked up, and dummies replace what only a decision task knows: the graph can be read, but not run. Two forms of graphs are understood: that of 2015,
{\"tasks\": [{\"taskId\", \"task\", \"requires\"}]}, and taskgraph's task-graph.json, of labels or of task ids.";

pub(super) const SETTINGS: &[SettingGroup] = &[
    PLACE,
    LIMITS,
    &[&PUSHDATE, &DECISION_TASK, &CONTEXTS, &TASK_TEMPLATE, &VALUES, &OFFLINE, &RENEW_WITHIN, &REBUILD, &OUT],
    INDEXED,
    &[&INDEX, &ZSTD_LEVEL],
    ACCESS,
    RETRIES,
];

/// Fill in a task graph's images: look them up, add tasks for the missing ones
#[derive(Debug, PartialEq, Eq, clap::Args)]
#[command(long_about = HELP)]
pub struct Args {
    /// The task graph's file, or - for stdin
    #[arg(value_name = "GRAPH")]
    graph: PathBuf,
    /// Value of one of the template's placeholders, or with ARCH:NAME=VALUE for images of one architecture; can be repeated, wins
    /// over --values
    #[arg(id = "value", long = "value", value_name = "NAME=VALUE", value_parser = key_value, help_heading = "The decision")]
    values: Vec<(String, String)>,
}

impl Args {
    pub(super) fn run(self, context: &CommandContext) -> Result<Answer, CommandError> {
        // A graph that is not there is named before the settings that it would need.
        let document = NamedText::read(&self.graph)?;
        let config = DecideConfig::read(context.settings, &self.values, &context.environment)?;
        let directory = &context.environment.directory;
        let decided = context.until_stopped(async |stop| decide(config, document, directory, stop).await)?;
        let lines = decided.images.iter().map(|image| format!("{} {}\n", image.name, image.task));
        Ok(Answer::of(match decided.graph {
            _ if context.json => to_json(&decided)? + "\n",
            Some(JsonText(graph)) => graph + "\n",
            None => lines.collect(),
        }))
    }
}

/// A task graph as it was read.
struct NamedText {
    /// Its name in errors.
    name: String,
    text: String,
}

impl NamedText {
    /// Reads a file; `-` is stdin.
    fn read(path: &Path) -> Result<Self, CommandError> {
        let is_stdin = path.as_os_str() == "-";
        let text = if is_stdin { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
        let text = text.map_err(|source| CommandError::Read { path: path.to_owned(), source })?;
        Ok(Self { name: if is_stdin { "stdin".to_owned() } else { path.display().to_string() }, text })
    }
}

/// How many contexts are packed at once, each on its own thread, because compression is CPU-bound.
const PACKED_AT_ONCE: usize = 8;

/// The result of `decide`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Decided {
    /// The task images, in the order of their names.
    images: Vec<Image>,
    /// The registry images, by name.
    references: BTreeMap<ImageName, String>,
    /// The graph with everything filled in; none if it was written to a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    graph: Option<JsonText>,
}

/// A JSON text, which becomes a part of another document as what it says.
#[derive(Debug)]
struct JsonText(String);

impl Serialize for JsonText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<Value>(&self.0).map_err(S::Error::custom)?.serialize(serializer)
    }
}

/// The decision about one task image.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Image {
    /// Its name.
    name: ImageName,
    /// The hash in its `.hash.` route.
    hash: ContextHash,
    /// The hash of its context.
    context_hash: ContextHash,
    /// The task that has it or will have it: its id, or its label in a graph of labels.
    task: String,
    /// The route by which it was found; none for an image that gets a task in this graph for the graph's tasks.
    route: Option<String>,
    /// The task of this graph that rebuilds it for later pushes: its id, or its label.
    renewed_by: Option<String>,
    /// The context that was written for it.
    context: Option<PathBuf>,
}

/// What a graph and its images contain, before any file of theirs is hashed.
struct Read {
    graph: Graph,
    tree: Arc<Tree>,
    named: Vec<ImageName>,
    lineage: Lineage,
    references: BTreeMap<ImageName, String>,
}

/// Decides about a graph.
async fn decide(
    config: DecideConfig,
    graph: NamedText,
    directory: &Path,
    stop: &Shutdown,
) -> Result<Decided, CommandError> {
    config.assumed.iter().for_each(|assumption| info!("{assumption}"));
    let place = config.place.clone();
    let it = stop.run_stage("reading the graph", blocking(move || read(&place, graph))).await?;
    let contexts = it.tree.context_trees(&it.named, HashScheme::Tar);
    outside(&config.contexts, &settings::CONTEXTS, &contexts)?;
    config.out.iter().try_for_each(|out| outside(out, &settings::OUT, &contexts))?;
    let waiting = waiting(&it.graph, &it.lineage);

    let rebuilt = rebuilt(&config, &it, directory)?;
    let images = GraphLineage { tree: &it.tree, lineage: &it.lineage, named: &it.named, waiting: &waiting };
    let known = stop.run_stage("hashing images and looking for them", identify_and_find(&config, &images)).await?;
    let template = template(config.template.as_deref())?;
    decision::check_given(&config.given, &template)?;
    let (common, dummies) = (DecisionContext::of(&config), config.deployment.is_none());
    let images = GraphImages {
        tree: &it.tree,
        identified: &known.identified,
        named: &it.named,
        waiting: &waiting,
        found: known.found,
        rebuilt: &rebuilt,
        expiring: known.expiring,
        template: &template,
        common: &common,
    };
    let ImageTasks { images: resolved, besides, unknown } = images.tasks()?;
    if !unknown.is_empty() {
        let names = unknown.into_iter().collect::<Vec<_>>().join(", ");
        info!(
            "dummies stand for what only a decision task knows: {names}; the graph is for looking at, not for a queue"
        );
    }
    let resolution = Resolution { images: resolved, besides, references: it.references, dummies };
    let resolved = it.graph.resolve(&resolution)?;

    let added: Vec<_> = resolution.needed(it.graph.uses())?.into_iter().map(|task| task.name.clone()).collect();
    let packing = write_contexts(&it.tree, &known.identified, &added, &config.contexts);
    let contexts = stop.run_stage("writing contexts", packing).await?;
    if !contexts.is_empty() {
        info!("the contexts are in {}", config.contexts.display());
    }
    let images = story(&resolution, it.graph.form(), &images, contexts);
    let graph = if let Some(out) = &config.out {
        write(out, &resolved).map_err(|source| CommandError::Write { path: out.clone(), source })?;
        info!("the graph of {} tasks is in {}", it.graph.tasks() + added.len(), out.display());
        None
    } else {
        Some(JsonText(resolved))
    };
    Ok(Decided { images, references: resolution.references, graph })
}

fn read(place: &ImagesDir, document: NamedText) -> Result<Read, CommandError> {
    let graph = Graph::parse(document::json(&document.name, document.text)?)?;
    let mut tree = Tree::open(place)?;
    tree.set_packages(graph.package_digests());
    let references = references(&tree, &graph)?;
    let lineage = lineage(&tree, &graph)?;
    let named: BTreeSet<_> = graph.uses().filter(|it| it.kind == UseKind::TaskId).map(|it| it.image.clone()).collect();
    let pinned = Pinned::read(tree.root()).filter(|_| !named.is_empty());
    if let Some(other) = pinned.and_then(|pinned| pinned.other_hashes()) {
        warn!("{other}");
    }
    Ok(Read { graph, tree: Arc::new(tree), named: named.into_iter().collect(), lineage, references })
}

/// The task images that the graph's tasks name, and all that they are built from. A problem is reported with the first task that names
/// the image.
fn lineage(tree: &Tree, graph: &Graph) -> Result<Lineage, CommandError> {
    let mut lineage = Lineage::default();
    for it in graph.uses().filter(|it| it.kind == UseKind::TaskId) {
        if !lineage.has(&it.image) {
            tree.add_to_lineage(&it.image, &mut lineage).map_err(|error| at(it, error))?;
        }
    }
    Ok(lineage)
}

fn at(it: &Use, error: TreeError) -> CommandError {
    CommandError::Image { task: it.task.clone(), place: it.place.clone(), error }
}

/// The registry images that the graph's tasks name, as registries know them.
fn references(tree: &Tree, graph: &Graph) -> Result<BTreeMap<ImageName, String>, CommandError> {
    let mut references = BTreeMap::new();
    for it in graph.uses().filter(|it| it.kind == UseKind::Reference) {
        if !references.contains_key(&it.image) {
            let reference = tree.reference(&it.image).map_err(|error| at(it, error))?;
            references.insert(it.image.clone(), reference);
        }
    }
    Ok(references)
}

/// The images to rebuild: only those that the graph needs.
fn rebuilt(config: &DecideConfig, it: &Read, directory: &Path) -> Result<BTreeSet<ImageName>, CommandError> {
    let names = image_names(&config.rebuild, &config.place, directory)?;
    for name in &names {
        if !it.lineage.has(name) {
            it.tree.task_image(name)?;
            let why = format!("--rebuild {name}: no task of the graph uses this image, nor one that is built from it");
            return Err(ConfigError::Combination(why).into());
        }
    }
    Ok(names.into_iter().collect())
}

/// Writes the graph atomically.
fn write(out: &Path, graph: &str) -> std::io::Result<()> {
    let draft = AtomicFile::of(out)?;
    let mut file = draft.file();
    file.write_all(graph.as_bytes())?;
    file.write_all(b"\n")?;
    draft.finish()
}

fn template(path: Option<&Path>) -> Result<Template, CommandError> {
    let NamedText { name, text } = match path {
        Some(path) => NamedText::read(path)?,
        None => NamedText { name: "the built-in template".to_owned(), text: Template::BUILT_IN.to_owned() },
    };
    Ok(Template::new(document::parse(&name, &text)?))
}

/// Packs the contexts of the missing images, each as `NAME.tar.gz`.
async fn write_contexts(
    tree: &Arc<Tree>,
    identified: &BTreeMap<ImageName, Identified>,
    missing: &[ImageName],
    directory: &Path,
) -> Result<BTreeMap<ImageName, PathBuf>, CommandError> {
    if missing.is_empty() {
        return Ok(BTreeMap::new());
    }
    std::fs::create_dir_all(directory).map_err(|source| CommandError::Write { path: directory.to_owned(), source })?;
    drop(remove_stale(directory));
    let packing = missing.iter().map(|name| {
        let (tree, name, expected) = (Arc::clone(tree), name.clone(), identified[name].context);
        let out = directory.join(format!("{name}.tar.gz"));
        blocking(move || {
            let image = tree.task_image(&name)?;
            let context = tree.context(image, HashScheme::Tar)?;
            let hash = context_archive::write_to(&context, &out, AtomicFile::one_of_several(&out))?;
            // The file changed meanwhile: the graph has the other hash.
            if hash != expected {
                return Err(CommandError::Changing(image.directory.clone()));
            }
            Ok((name, out))
        })
    });
    futures_util::stream::iter(packing).buffered(PACKED_AT_ONCE).try_collect().await
}

/// The decision about each image, and a log line about it.
fn story(
    resolution: &Resolution,
    form: Form,
    known: &GraphImages<'_>,
    mut contexts: BTreeMap<ImageName, PathBuf>,
) -> Vec<Image> {
    let mut images = Vec::new();
    let task_of = |task: &ImageTask| match form {
        Form::Labels => task_label(&task.name),
        Form::Requires | Form::TaskIds => task.task_id.to_string(),
    };
    for (name, resolved) in &resolution.images {
        let (hashes, entry) = (&known.identified[name], known.found.get(name));
        let (task, route, renewed_by) = match resolved {
            Resolved::Existing { task_id } => {
                let renewed_by = resolution.besides.iter().find(|task| task.name == *name).map(task_of);
                (task_id.to_string(), entry.map(|found| found.namespace.clone()), renewed_by)
            }
            Resolved::NewTask(task) => (task_of(task), None, None),
        };
        let story = match (&route, entry) {
            (Some(route), _) => format!("found as {route}, has"),
            (None, Some(there)) => format!("found as {}, and rebuilt, gets", there.namespace),
            (None, None) if resolution.dummies => "not looked up, gets".to_owned(),
            (None, None) => "not found, gets".to_owned(),
        };
        info!("image {name}: {story} task {task}");
        if let (Some(renewed_by), Some(entry)) = (&renewed_by, entry) {
            let until = entry.lasts_until();
            info!("image {name}: expires at {until:.0}, task {renewed_by} rebuilds it for later pushes");
        }
        images.push(Image {
            name: name.clone(),
            hash: hashes.name_in_index(),
            context_hash: hashes.context,
            task,
            route: route.as_ref().map(Namespace::route),
            renewed_by,
            context: contexts.remove(name),
        });
    }
    for (name, reference) in &resolution.references {
        info!("image {name}: {reference}, of a registry");
    }
    images
}
