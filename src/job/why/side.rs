//! One of the two that are compared: a build, by its task's definition, or the image in the checkout; and its context.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tempfile::NamedTempFile;
use tracing::warn;

use crate::config::plan::{ContextPlan, ContextSource};
use crate::config::replay::Job;
use crate::config::{self, ConfigError, NamedImage, SettingLayers, WhyConfig, settings};
use crate::context::checkout::Checkout;
use crate::context::collect::Context;
use crate::context::listing::ContextListing;
use crate::context::{ContextHash, ContextScheme, HashScheme, ImageName};
use crate::job::artifact_status::ArtifactStatus;
use crate::job::fetch::{FetchError, Fetched, Fetcher};
use crate::job::named_image::{self, TreeImage};
use crate::job::task_definition::job;
use crate::job::{CommandError, context_archive};
use crate::net::HttpUrl;
use crate::net::blocking::blocking;
use crate::report::secrets;
use crate::repository::lineage::Identified;
use crate::taskcluster::{Namespace, Project, Services, TaskId};

/// Build arguments that are no part of the hash: what every build gets, and the packages' tasks, whose digests are in the hash.
const NOT_HASHED: [&str; 2] = ["TASKCLUSTER_ROOT_URL", "DOCKER_IMAGE_PACKAGES"];

/// The inputs of an image's hash.
#[derive(Debug)]
pub(super) struct Side {
    /// What it is, for people.
    pub(super) label: String,
    /// Its task, if it is a build.
    pub(super) task: Option<TaskId>,
    pub(super) image: ImageName,
    /// The hash in the `.hash.` route; none if only the task graph knows it.
    pub(super) hash: Option<ContextHash>,
    pub(super) context_hash: ContextHash,
    pub(super) scheme: ContextScheme,
    /// The arguments that are part of the hash.
    pub(super) args: BTreeMap<String, String>,
    /// All arguments.
    given: BTreeMap<String, String>,
    pub(super) arch: Option<String>,
    pub(super) parent: Option<Parent>,
    source: SideSource,
}

/// The image that an image is built from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Parent {
    /// Its name, where it is known.
    pub image: Option<ImageName>,
    /// The hash in its own `.hash.` route, where it is known.
    pub hash: Option<ContextHash>,
    /// The task that has it; the checkout names none.
    pub task_id: Option<TaskId>,
}

/// Where the context of a side comes from.
#[derive(Debug)]
enum SideSource {
    Build { plan: ContextPlan, tree: Option<HttpUrl> },
    Checkout { checkout: Checkout, directory: PathBuf },
}

/// The context of a side.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) listing: ContextListing,
    /// The scheme by which it was verified.
    pub(super) scheme: ContextScheme,
    /// Where files come from that are not in the image directory, by their names in the context.
    pub(super) included: BTreeMap<String, String>,
    /// It is removed with this value.
    _file: NamedTempFile,
}

impl Side {
    /// Whether the contexts are certainly the same.
    pub(super) fn has_the_context_of(&self, other: &Self) -> bool {
        (self.context_hash, self.scheme) == (other.context_hash, other.scheme)
    }

    /// With the scheme by which the context was verified: a definition of an old taskgraph does not say it.
    pub(super) fn with(self, contents: &Contents) -> Self {
        Self { scheme: contents.scheme, ..self }
    }
}

/// The hash in the `.hash.` route of a task's image. taskgraph's tasks have no `INDEX_HASH`: of an image with arguments or a parent,
/// only taskgraph knows its hash in the index.
fn hash_in_index(job: &Job) -> Option<ContextHash> {
    let text = |setting| job.get(setting).map(|given| given.text);
    if let Some(hash) = text(&settings::INDEX_HASH) {
        return hash.parse().ok();
    }
    let args = text(&settings::DOCKER_BUILD_ARGS).map(|args| serde_json::from_str(&args));
    let args: BTreeMap<String, String> = args.transpose().ok()?.unwrap_or_default();
    let says_all = hashed(&args).is_empty() && text(&settings::PARENT_TASK_ID).is_none();
    text(&settings::HASH).filter(|_| says_all && text(&settings::TARGET_ARCH).is_none())?.parse().ok()
}

/// The arguments that are part of the hash. Those that look secret are hidden from now on.
fn hashed(args: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    secrets::add_args(args);
    let args = args.iter().filter(|(name, _)| !NOT_HASHED.contains(&name.as_str()));
    args.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Reads builds.
pub(super) struct Tasks<'a> {
    pub(super) services: &'a Services,
    pub(super) config: &'a WhyConfig,
    pub(super) settings: &'a SettingLayers<'a>,
}

impl Tasks<'_> {
    /// The newest build of an image: of the own project, or else of the central one.
    pub(super) async fn newest(&self, image: &ImageName) -> Result<Side, CommandError> {
        let WhyConfig { project, central, index, .. } = self.config;
        let own = project.as_ref().filter(|project| *project != central);
        let projects: Vec<&Project> = own.into_iter().chain([central]).collect();
        for project in &projects {
            let namespace = Namespace::of_latest(index, project, image)?;
            if let Some(entry) = self.services.index.find_task(&namespace).await? {
                return self.build(&entry.task_id, Some(&format!("the newest of {project}"))).await;
            }
        }
        let projects = projects.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
        Err(CommandError::NoImage {
            what: format!("the index has no build of {image} for {projects}"),
            hint: "name another project with --project, or a task with --task-id",
        })
    }

    /// The build of a task.
    pub(super) async fn build(&self, task: &TaskId, which: Option<&str>) -> Result<Side, CommandError> {
        let job = job(self.services, &self.config.deployment, task).await?;
        let settings = self.settings.of(&job);
        job.is_of_an_image(&settings)?;
        let plan = config::task_context(self.settings, &job)?;
        let why = "its image is not known";
        let image: ImageName = settings.require(&settings::IMAGE_NAME, why)?;
        let context_hash = settings.require(&settings::HASH, why)?;
        let parent = match settings.parse(&settings::PARENT_TASK_ID)? {
            Some(parent) => Some(self.parent(parent).await?),
            None => None,
        };
        let given = config::dockerfile_args(&settings)?;
        let which = which.map(|which| format!(", {which}")).unwrap_or_default();
        Ok(Side {
            label: format!("task {task}{which}"),
            task: Some(task.clone()),
            image,
            hash: hash_in_index(&job),
            context_hash,
            scheme: plan.scheme,
            args: hashed(&given),
            given,
            arch: settings.parse(&settings::TARGET_ARCH)?,
            parent,
            source: SideSource::Build { plan, tree: job.source },
        })
    }

    /// The parent that a task names. A task that is forgotten says nothing.
    async fn parent(&self, task: TaskId) -> Result<Parent, CommandError> {
        let definition = self.services.queue.definition(&task).await?;
        let job = definition.and_then(|definition| Job::read(&task, &definition).ok());
        let image = job.as_ref().and_then(|job| job.get(&settings::IMAGE_NAME)?.text.parse().ok());
        Ok(Parent { image, hash: job.as_ref().and_then(hash_in_index), task_id: Some(task) })
    }

    /// The context of a side, verified.
    pub(super) async fn contents(&self, side: &Side, from: &Fetcher<'_>) -> Result<Contents, CommandError> {
        let (fetched, included) = match &side.source {
            SideSource::Build { plan, tree } => {
                let fetched = match (from.context(plan).await, &plan.source) {
                    (Err(gone @ FetchError::Gone { .. }), ContextSource::Artifact { task_id, name }) => {
                        let whereabouts = ArtifactStatus::of(self.services, task_id, name, self.config.now).await?;
                        if matches!(whereabouts, ArtifactStatus::There { .. }) {
                            // The queue has it, and the storage does not: nothing to add.
                            return Err(gone.into());
                        }
                        let (build, context) = (side.label.clone(), format!("{name} of task {task_id}"));
                        return Err(CommandError::NoContext {
                            build,
                            context,
                            whereabouts,
                            tree: tree.clone(),
                            source: gone,
                        });
                    }
                    (fetched, _) => fetched?,
                };
                (fetched, BTreeMap::new())
            }
            SideSource::Checkout { checkout, directory } => {
                let packing = Packing {
                    checkout: checkout.clone(),
                    directory: directory.clone(),
                    args: side.given.clone(),
                    scheme: side.scheme.of_directory().unwrap_or_default(),
                };
                let file = context_archive::file_in(from.work_dir)?;
                blocking(move || packing.pack(file)).await?
            }
        };
        let path = fetched.file.path().to_owned();
        let Fetched { file, scheme, .. } = fetched;
        let listing = blocking(move || ContextListing::read(&path)).await;
        let listing = listing.map_err(|source| CommandError::Read { path: file.path().to_owned(), source })?;
        Ok(Contents { listing, scheme, included, _file: file })
    }
}

/// The name of an image of the checkout.
pub(super) async fn name(named: &NamedImage) -> Result<ImageName, CommandError> {
    let named = named.clone();
    let typed = named.typed.clone();
    let found = blocking(move || named_image::find(&named, None)).await?;
    let what = format!("{typed} is in no tree of images, so that no build of it can be looked for");
    let of_none = ConfigError::Argument { what, hint: "name one with --task-id" };
    found.in_tree.map(|it| it.name).ok_or_else(|| of_none.into())
}

/// The image in the checkout. `preferred` is its name where its directory has several.
pub(super) async fn checkout(named: NamedImage, preferred: ImageName) -> Result<Side, CommandError> {
    blocking(move || {
        let found = named_image::find(&named, Some(&preferred))?;
        let (checkout, directory) = (found.checkout.clone(), found.directory.clone());
        let (scheme, source) = (named.scheme, SideSource::Checkout { checkout, directory });
        let (label, task, args, given) = ("the checkout".to_owned(), None, hashed(&found.args), found.args.clone());
        let Some(TreeImage { tree, name }) = &found.in_tree else {
            // An image directory outside of any tree: its own context is all that is known.
            let (context_hash, scheme) = (found.context()?.hash()?, scheme.into());
            let (hash, arch, parent) = (None, None, None);
            return Ok(Side { label, task, image: preferred, hash, context_hash, scheme, args, given, arch, parent, source });
        };
        let identified = tree.identify(std::slice::from_ref(name), scheme)?;
        let own = identified.get(name).ok_or_else(|| CommandError::Bug(format!("{name} has no hash")))?;
        let image = tree.image(name)?;
        let lacks = identified.keys().any(|name| tree.image(name).is_ok_and(|image| tree.lacks_packages(image)));
        if lacks {
            warn!("{name}, or an image that it is built from, has packages of other tasks, which only the task graph knows: they are not compared");
        }
        let parent = own.parent.as_ref().map(|parent| Parent {
            image: Some(parent.clone()),
            hash: identified.get(parent).map(Identified::name_in_index).filter(|_| !lacks),
            task_id: None,
        });
        Ok(Side {
            label,
            task,
            image: name.clone(),
            hash: Some(own.name_in_index()).filter(|_| !lacks),
            context_hash: own.context,
            scheme: scheme.into(),
            args,
            given,
            arch: image.arch.map(|arch| arch.to_string()),
            parent,
            source,
        })
    })
    .await
}

/// What a context of the checkout is packed from.
struct Packing {
    checkout: Checkout,
    directory: PathBuf,
    args: BTreeMap<String, String>,
    scheme: HashScheme,
}

impl Packing {
    /// Packs the context as a task would get it. Returns it with the sources of the files that are included.
    fn pack(&self, file: NamedTempFile) -> Result<(Fetched, BTreeMap<String, String>), CommandError> {
        let Self { checkout, directory, args, scheme } = self;
        let context = Context::collect(checkout, directory, args, *scheme)?;
        let root = checkout.root.as_deref().unwrap_or(Path::new("/"));
        let mut included = BTreeMap::new();
        for file in context.files().filter(|file| !file.source.starts_with(context.image_directory())) {
            let source = file.source.strip_prefix(root).unwrap_or(&file.source);
            included.insert(file.name.to_string_lossy().into_owned(), source.display().to_string());
        }
        Ok((context_archive::spool(checkout, directory, args, *scheme, file)?, included))
    }
}
