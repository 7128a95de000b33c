//! `decide GRAPH`, the decision step: reads a graph that names images, and writes it with their tasks filled in. All errors are
//! found before the first file is written.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use futures_util::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;
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
use crate::decision::image_needs::{waiting, wanted};
use crate::decision::image_tasks::{GraphImages, ImageTasks};
use crate::decision::lookup::FoundEntry;
use crate::decision::task::Template;
use crate::decision::{self, DecisionContext};
use crate::job::CommandError;
use crate::job::context_archive;
use crate::job::lookup::find_for_graph;
use crate::job::named_image::image_names;
use crate::job::shutdown::Shutdown;
use crate::job::work_dir::AtomicFile;
use crate::net::blocking::blocking;
use crate::repository::lineage::Identified;
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
        Ok(Answer::of(match &decided.graph {
            _ if context.json => to_json(&decided)? + "\n",
            Some(graph) => format!("{graph:#}\n"),
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
    graph: Option<Value>,
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

/// What a graph and its images contain, before any service is queried.
struct Read {
    graph: Graph,
    uses: Vec<Use>,
    tree: Tree,
    named: Vec<ImageName>,
    references: BTreeMap<ImageName, String>,
    identified: BTreeMap<ImageName, Identified>,
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
    let reading = blocking(move || read(&place, &graph));
    let it = stop.run_stage("reading the graph and hashing its images", reading).await?;
    let contexts = it.tree.context_trees(&it.named, HashScheme::Tar);
    outside(&config.contexts, &settings::CONTEXTS, &contexts)?;
    config.out.iter().try_for_each(|out| outside(out, &settings::OUT, &contexts))?;
    let waiting = waiting(&it.graph, &it.uses, &it.identified);

    let rebuilt = rebuilt(&config, &it, directory)?;
    let wanted = wanted(&it.identified, &waiting, config.now);
    let (found, expiring) = stop.run_stage("looking for images", find_for_graph(&config, &it.named, &wanted)).await?;
    let template = template(config.template.as_deref())?;
    decision::check_given(&config.given, &template)?;
    let (common, dummies) = (DecisionContext::of(&config), config.deployment.is_none());
    let images = GraphImages {
        tree: &it.tree,
        identified: &it.identified,
        named: &it.named,
        waiting: &waiting,
        found,
        rebuilt: &rebuilt,
        expiring,
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
    let resolution = Resolution { images: resolved, besides, references: it.references.clone(), dummies };
    let resolved = it.graph.resolve(&resolution)?;

    let added: Vec<_> = resolution.needed(&it.uses)?.into_iter().map(|task| task.name.clone()).collect();
    let packing = write_contexts(&it, &added, &config.contexts);
    let contexts = stop.run_stage("writing contexts", packing).await?;
    if !contexts.is_empty() {
        info!("the contexts are in {}", config.contexts.display());
    }
    let images = story(&resolution, &it, &images.found, contexts);
    let graph = if let Some(out) = &config.out {
        write(out, &resolved).map_err(|source| CommandError::Write { path: out.clone(), source })?;
        info!("the graph of {} tasks is in {}", it.graph.tasks() + added.len(), out.display());
        None
    } else {
        Some(resolved)
    };
    Ok(Decided { images, references: resolution.references, graph })
}

fn read(place: &ImagesDir, document: &NamedText) -> Result<Read, CommandError> {
    let graph = Graph::parse(document::parse(&document.name, &document.text)?)?;
    let uses = graph.uses()?;
    let mut tree = Tree::open(place)?;
    tree.set_packages(graph.package_digests());
    let references = references(&tree, &uses)?;
    let named = named(&tree, &uses)?;
    let identified = tree.identify(&named, HashScheme::Tar)?;
    let pinned = Pinned::read(tree.root()).filter(|_| !named.is_empty());
    if let Some(other) = pinned.and_then(|pinned| pinned.other_hashes()) {
        warn!("{other}");
    }
    Ok(Read { graph, uses, tree, named, references, identified })
}

/// The task images that the graph's tasks name, each once. A problem is reported with the first task that names the image.
fn named(tree: &Tree, uses: &[Use]) -> Result<Vec<ImageName>, CommandError> {
    let mut named = BTreeSet::new();
    for it in uses.iter().filter(|it| it.kind == UseKind::TaskId) {
        if named.insert(it.image.clone()) {
            tree.ancestors(std::slice::from_ref(&it.image)).map_err(|error| at(it, error))?;
        }
    }
    Ok(named.into_iter().collect())
}

fn at(it: &Use, error: TreeError) -> CommandError {
    CommandError::Image { task: it.task.clone(), place: it.place.clone(), error }
}

/// The registry images that the graph's tasks name, as registries know them.
fn references(tree: &Tree, uses: &[Use]) -> Result<BTreeMap<ImageName, String>, CommandError> {
    let mut references = BTreeMap::new();
    for it in uses.iter().filter(|it| it.kind == UseKind::Reference) {
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
        if !it.identified.contains_key(name) {
            it.tree.task_image(name)?;
            let why = format!("--rebuild {name}: no task of the graph uses this image, nor one that is built from it");
            return Err(ConfigError::Combination(why).into());
        }
    }
    Ok(names.into_iter().collect())
}

/// Writes the graph atomically.
fn write(out: &Path, graph: &Value) -> std::io::Result<()> {
    let draft = AtomicFile::of(out)?;
    let mut file = BufWriter::new(draft.file());
    serde_json::to_writer_pretty(&mut file, graph)?;
    writeln!(file)?;
    file.flush()?;
    drop(file);
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
    it: &Read,
    missing: &[ImageName],
    directory: &Path,
) -> Result<BTreeMap<ImageName, PathBuf>, CommandError> {
    if missing.is_empty() {
        return Ok(BTreeMap::new());
    }
    std::fs::create_dir_all(directory).map_err(|source| CommandError::Write { path: directory.to_owned(), source })?;
    let packing = missing.iter().map(|name| {
        let (image, hashes) = (it.tree.task_image(name), &it.identified[name]);
        let (out, tree) = (directory.join(format!("{name}.tar.gz")), &it.tree);
        async move {
            let (image, expected) = (image?.clone(), hashes.context);
            let context = tree.context(&image, HashScheme::Tar)?;
            let pack = move || {
                let hash = context_archive::write(&context, &out)?;
                Ok::<_, CommandError>((hash, image.directory, out))
            };
            let (hash, directory, out) = blocking(pack).await?;
            // The file changed meanwhile: the graph has the other hash.
            if hash != expected {
                return Err(CommandError::Changing(directory));
            }
            Ok((name.clone(), out))
        }
    });
    futures_util::stream::iter(packing).buffered(PACKED_AT_ONCE).try_collect().await
}

/// The decision about each image, and a log line about it.
fn story(
    resolution: &Resolution,
    it: &Read,
    found: &BTreeMap<ImageName, FoundEntry>,
    mut contexts: BTreeMap<ImageName, PathBuf>,
) -> Vec<Image> {
    let mut images = Vec::new();
    let task_of = |task: &ImageTask| match it.graph.form() {
        Form::Labels => task_label(&task.name),
        Form::Requires | Form::TaskIds => task.task_id.to_string(),
    };
    for (name, resolved) in &resolution.images {
        let (hashes, entry) = (&it.identified[name], found.get(name));
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
