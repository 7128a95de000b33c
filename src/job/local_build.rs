//! `build NAME…`: builds images on this machine, from the contexts that tasks would use. The tree knows what an image needs and
//! its name; labels record what it was made from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use tempfile::TempDir;
use tracing::{info, warn};

use super::build_order::in_order;
use super::build_script::{self, ScriptError};
use super::built_image::Built;
use super::fetch::Fetched;
use super::image_source::Indexed;
use super::loading::Loader;
use super::parent::{Role, TaskImages};
use super::push::{CONTEXT_LABEL, Target, push_image};
use super::shutdown::Shutdown;
use super::{CommandError, context_archive, dry_run_tags, indexed_parent, secret_values};
use crate::config::{BuildConfig, LookupConfig, Tags};
use crate::context::ImageName;
use crate::context::collect::dockerfile;
use crate::decision::lookup::FoundEntry;
use crate::dockerfile::PARENT_ARG;
use crate::engine::build_log::BuildLog;
use crate::engine::{BuildPlan, Engine, EngineError, Fault, LocalBuild, TargetArch};
use crate::net::ImageId;
use crate::net::blocking::blocking;
use crate::net::transfer::Storage;
use crate::report::{Report, command_line};
use crate::repository::Tree;
use crate::repository::local::LocalImage;
use crate::taskcluster::Services;

const HASH_LABEL: &str = "image-worker.index-hash";
const BUILT_FROM_LABEL: &str = "image-worker.built-from";

/// Builds the images, and with `with_parents` what they need before them. The answers are in the order of the builds.
pub async fn build(
    config: BuildConfig,
    names: &[ImageName],
    stop: &Shutdown,
    report: &Report,
) -> Result<Vec<Built>, CommandError> {
    let BuildTargets { images, targets } =
        stop.run_stage("hashing the contexts", build_targets(&config, names)).await?;
    for image in images.iter().filter(|it| config.with_parents || names.contains(&it.image.name)) {
        let args = config.build.args.iter().chain(&image.image.args);
        let args = args.map(|(name, value)| (name.clone(), value.clone())).collect();
        secret_values::look_at_args(&args, config.deny_secret_args)?;
    }
    let engine = stop.run_stage("looking for an engine", Engine::connect(&config.engine)).await?;
    let mut builder = Builder {
        config: &config,
        engine: &engine,
        images: &images,
        parents: BTreeMap::new(),
        are_several: false,
        report,
    };
    let mut built = builder.build_all(names, stop).await?;
    if let Some(pushing) = &config.push {
        for target in &targets {
            let pushed = stop.run_stage("pushing", push_image(&engine, target, pushing, report)).await?;
            built.iter_mut().filter(|it| it.name == pushed.name).for_each(|it| it.digest = Some(pushed.digest.clone()));
        }
    }
    for name in names.iter().filter(|_| names.len() <= MOST_HINTS).collect::<BTreeSet<_>>() {
        for image in images.iter().filter(|image| image.image.name == *name) {
            stop.run_stage("looking at the image", builder.what_next(image)).await?;
        }
    }
    Ok(built)
}

/// Builds an image that another one is built from, and what it needs before it, without logging what to do with it.
pub(super) async fn parent(
    config: &BuildConfig,
    name: &ImageName,
    stop: &Shutdown,
    report: &Report,
) -> Result<Built, CommandError> {
    let names = std::slice::from_ref(name);
    let BuildTargets { mut images, .. } = stop.run_stage("hashing the contexts", build_targets(config, names)).await?;
    dry_run_tags::rename(&mut images, config.build.target_arch);
    let engine = stop.run_stage("looking for an engine", Engine::connect(&config.engine)).await?;
    let mut builder =
        Builder { config, engine: &engine, images: &images, parents: BTreeMap::new(), are_several: false, report };
    let built = builder.build_all(names, stop).await?;
    let built = built.into_iter().find(|image| image.name == *name);
    built.ok_or_else(|| CommandError::Bug(format!("{name} was not built")))
}

/// The images and all that they need, parents first, and which of them to push.
struct BuildTargets {
    images: Vec<LocalImage>,
    targets: Vec<Target>,
}

async fn build_targets(config: &BuildConfig, names: &[ImageName]) -> Result<BuildTargets, CommandError> {
    let (place, names, scheme) = (config.place.clone(), names.to_vec(), config.scheme);
    let pushed: BTreeSet<_> = names.iter().filter(|_| config.push.is_some()).cloned().collect();
    blocking(move || {
        let tree = Tree::open(&place)?;
        // Problems of a push are reported before the build.
        let targets = pushed.iter().map(|name| Target::of(&tree, name)).collect::<Result<_, _>>()?;
        Ok(BuildTargets { images: tree.local(&names, scheme)?, targets })
    })
    .await
}

struct Builder<'a> {
    config: &'a BuildConfig,
    engine: &'a Engine,
    images: &'a [LocalImage],
    /// The names in the engine of parents that are taken from the index.
    parents: BTreeMap<ImageName, String>,
    /// Whether several images are built, so that their output needs names.
    are_several: bool,
    report: &'a Report,
}

/// With more images than this, a hint for each would bury the answer.
const MOST_HINTS: usize = 3;

/// Which images are built, and which are taken from the index.
struct Selection<'a> {
    built: BTreeSet<&'a ImageName>,
    indexed: BTreeSet<&'a ImageName>,
}

impl<'a> Builder<'a> {
    /// Builds the requested images, and their dependencies as far as requested: each after what it needs, others at its side.
    async fn build_all(&mut self, names: &'a [ImageName], stop: &Shutdown) -> Result<Vec<Built>, CommandError> {
        let unwritable = |source| CommandError::Write { path: self.config.work_dir.clone(), source };
        let work = TempDir::with_prefix_in(".image-worker-", &self.config.work_dir).map_err(unwritable)?;
        let selection = self.selection(names);
        self.check_steps(&selection, stop).await?;
        let is_selected = |name: &ImageName| selection.built.contains(name) || selection.indexed.contains(name);
        let images: Vec<_> = self.images.iter().filter(|it| is_selected(&it.image.name)).collect();
        let indexed = images.iter().filter(|it| !selection.built.contains(&it.image.name));
        self.parents = indexed.map(|it| (it.image.name.clone(), format!("{}:{}", it.image.name, it.hash))).collect();
        self.are_several = images.len() > 1;
        let number_of = |need: &ImageName| images.iter().position(|it| it.image.name == *need);
        let needs: Vec<Vec<_>> = images.iter().map(|it| it.needs.iter().filter_map(number_of).collect()).collect();
        let this = &*self;
        let ordered = in_order(&needs, self.config.jobs, async |number: usize| {
            let image = images[number];
            match (this.parents.get(&image.image.name), &this.config.index) {
                (Some(tag), Some(index)) => {
                    let found = indexed_parent::find(index, &image.image.name, stop).await?;
                    let loading = this.load(index, found, tag);
                    stop.run_stage("loading the parent image", loading).await.map(|()| None)
                }
                _ => stop.run_stage("building", this.image(image, work.path())).await.map(Some),
            }
        });
        let built = ordered.await.into_result(&images.iter().map(|it| &it.image.name).collect::<Vec<_>>())?;
        Ok(built.into_iter().flatten().collect())
    }

    /// Refuses images whose steps cannot run here, before the first one is built.
    async fn check_steps(&self, selection: &Selection<'_>, stop: &Shutdown) -> Result<(), CommandError> {
        for it in self.images.iter().filter(|it| selection.built.contains(&it.image.name)) {
            if let (Some(target), false) = (self.target(it), build_script::makes(&it.image.directory)) {
                let dockerfile = dockerfile(&it.image.directory, &it.image.args)?;
                let checking =
                    async { Ok::<_, CommandError>(self.engine.check_steps(target, &dockerfile.text).await?) };
                stop.run_stage("asking for the engine's architecture", checking).await?;
            }
        }
        Ok(())
    }

    /// The architecture of an image, if one is given.
    fn target(&self, of: &LocalImage) -> Option<TargetArch> {
        self.config.build.target_arch.or(of.image.arch)
    }

    /// The dependencies of the images are built if requested, except for parents in the index.
    fn selection(&self, names: &'a [ImageName]) -> Selection<'a> {
        let mut selection = Selection { built: names.iter().collect(), indexed: BTreeSet::new() };
        // An image's dependencies precede it.
        for image in self.images.iter().rev().filter(|_| self.config.with_parents || self.config.index.is_some()) {
            if !selection.built.contains(&image.image.name) {
                continue;
            }
            for need in &image.needs {
                if self.config.index.is_some() && image.parent.as_ref() == Some(need) {
                    selection.indexed.insert(need);
                } else if self.config.with_parents {
                    selection.built.insert(need);
                }
            }
        }
        selection
    }

    /// Loads the image that CI has built into the engine, under a name with its hash.
    async fn load(&self, index: &LookupConfig, found: FoundEntry, tag: &str) -> Result<(), CommandError> {
        info!("{tag} is CI's image of {}, indexed for {}", found.at, found.project);
        let (services, storage) = (Services::new(&index.deployment)?, Storage::new(index.deployment.retry)?);
        let loader = Loader { engine: self.engine, storage: &storage, report: self.report, steps: None };
        let central = Some(&index.central);
        let images = TaskImages { role: Role::Parent, services: &services, storage: &storage, central };
        let indexed = Indexed::new(found.at, found.artifact, found.data.as_ref());
        images.take_indexed(&indexed, &loader.task_image(tag, &services, true)).await?;
        Ok(())
    }

    /// The name of an image in the engine.
    fn tag(&self, of: &LocalImage) -> String {
        self.parents.get(&of.image.name).unwrap_or(&of.tag).clone()
    }

    /// Builds one image, unless it only has to exist, and does.
    async fn image(&self, it: &LocalImage, work_dir: &Path) -> Result<Built, CommandError> {
        let labels = self.labels(it).await?;
        let target = self.target(it);
        let there = if self.config.with_parents { self.engine.present(&it.tag).await? } else { None };
        if let Some(there) = there {
            let is_for = match target {
                Some(target) => self.engine.is_for(&there.id.to_string(), target).await?,
                None => true,
            };
            let is_same = is_for && labels.iter().all(|label| there.labels.get(label.0) == Some(label.1));
            if is_same && !self.config.no_cache {
                info!("{} is there already, built from context {}", it.tag, it.context);
                return Ok(Built::of(it, there.id, false));
            }
            if self.config.tags == Tags::Own && !dry_run_tags::is_renamed(it) {
                warn!(
                    "{} is not what {} is now: a dry run takes no name away, so that it is used as it is",
                    it.tag, it.image.name
                );
                return Ok(Built::of(it, there.id, false));
            }
        }
        if !it.in_registry && !it.in_kind && self.config.tags == Tags::Tree {
            let (name, tag) = (&it.image.name, &it.tag);
            warn!("{name} has no VERSION: the build takes the local tag {tag}, which is for use on this machine only");
        }
        it.image.warn_of_packages(&self.config.build.args);
        info!("building {} from context {}", it.tag, it.context);
        let started = Instant::now();
        let image_id = match build_script::find(&it.image.directory) {
            Some(script) if script.is_executable => self.run(&script.path, it).await?,
            Some(script) => {
                warn!("{} is not executable: the Dockerfile is built instead", script.path.display());
                self.build(it, labels, work_dir).await?
            }
            None => self.build(it, labels, work_dir).await?,
        };
        if let Some(target) = target {
            self.engine.check_architecture(&image_id.to_string(), "the image", target).await?;
        }
        info!("built {}, {image_id}, in {:.1} s", it.tag, started.elapsed().as_secs_f64());
        Ok(Built::of(it, image_id, true))
    }

    /// The inputs of an image: its own content, and the exact images that it is built from.
    async fn labels(&self, it: &LocalImage) -> Result<BTreeMap<String, String>, CommandError> {
        let mut built_from = Vec::new();
        for need in self.images.iter().filter(|other| it.needs.contains(&other.image.name)) {
            let name = &need.image.name;
            let tag = self.tag(need);
            match self.engine.present(&tag).await? {
                Some(there) => {
                    let is_old = there.labels.get(HASH_LABEL).is_some_and(|hash| *hash != need.hash.to_string());
                    if is_old && !self.config.with_parents {
                        warn!("{tag} was built from another context than {name} has now; see --with-parents");
                    }
                    // A registry's images, CI's, and those of scripts have no labels.
                    let is_ours = need.in_registry
                        || self.parents.contains_key(name)
                        || build_script::makes(&need.image.directory);
                    let is_parent = it.parent.as_ref() == Some(name) && !self.config.with_parents;
                    if is_parent && !is_ours && !there.labels.contains_key(HASH_LABEL) {
                        warn!(
                            "{tag} was not built from {name} of this tree, and may be any image of that name; see --with-parents"
                        );
                    }
                    built_from.push(format!("{name}={}", there.id));
                }
                // A registry may have it.
                None if it.parent.as_ref() != Some(name) => {}
                None => {
                    let (image, parent) = (it.image.name.clone(), name.clone());
                    return Err(CommandError::NoParent { image, parent, tag });
                }
            }
        }
        let labels = [
            (CONTEXT_LABEL, it.context.to_string()),
            (HASH_LABEL, it.hash.to_string()),
            (BUILT_FROM_LABEL, built_from.join(" ")),
        ];
        Ok(labels.map(|(label, value)| (label.to_owned(), value)).into())
    }

    /// Builds an image from its context. Returns its id.
    async fn build(
        &self,
        it: &LocalImage,
        labels: BTreeMap<String, String>,
        work_dir: &Path,
    ) -> Result<ImageId, CommandError> {
        let BuildPlan { mut args, .. } = self.config.build.clone();
        args.extend(it.image.args.clone());
        let parent = it.parent.as_ref().and_then(|parent| self.images.iter().find(|it| it.image.name == *parent));
        args.extend(parent.map(|parent| (PARENT_ARG.to_owned(), self.tag(parent))));
        let target_arch = self.target(it);
        if let (Some(parent), Some(target)) = (args.get(PARENT_ARG), target_arch) {
            self.engine.check_architecture(parent, "the parent image", target).await?;
        }
        let context = self.context(it, work_dir).await?;
        if context.hash != it.context {
            return Err(CommandError::Changing(it.image.directory.clone()));
        }
        let secrets = secret_values::values(&self.config.build.secrets, None).await?;
        let plan = BuildPlan { args, target_arch, ..self.config.build.clone() };
        let no_cache = self.config.no_cache;
        let build = LocalBuild { tag: it.tag.clone(), plan, secrets, labels, no_cache };
        let sent = context.for_engine(&build.plan).await?;
        let outcome = self.engine.build_local(&sent, &build, &mut self.log(it)).await;
        outcome.map_err(|error| self.with_way_to_shell(it, error).into())
    }

    /// A failing step of `build` gets the way to look around before it; a dry run has it already.
    fn with_way_to_shell(&self, it: &LocalImage, mut error: EngineError) -> EngineError {
        if let EngineError::Build(failure) = &mut error
            && failure.fault == Fault::Dockerfile
            && failure.exit_code.is_some()
            && failure.hint.is_none()
            && self.config.tags == Tags::Tree
        {
            let name = &it.image.name;
            failure.hint = Some(format!(
                "fix the Dockerfile, or what it fetches; `image-worker run --dry-run {name} --shell` opens a shell before the step"
            ));
        }
        error
    }

    /// The log of an image's build. Where there are several, its name is before each line, and on the display.
    fn log(&self, it: &LocalImage) -> BuildLog {
        let name = self.are_several.then(|| it.image.name.to_string());
        let log = BuildLog::for_people(self.report.build_steps(name.as_deref()));
        match name {
            Some(name) => log.with_prefix(format!("{name}: ")),
            None => log,
        }
    }

    /// The context of an image in a file, as a task would get it.
    async fn context(&self, it: &LocalImage, work_dir: &Path) -> Result<Fetched, CommandError> {
        let (checkout, scheme) = (self.config.place.checkout.clone(), self.config.scheme);
        let (directory, args) = (it.image.directory.clone(), it.image.args.clone());
        let file = context_archive::file_in(work_dir)?;
        blocking(move || context_archive::spool(&checkout, &directory, &args, scheme, file)).await
    }

    /// Runs an image directory's own script to build the image. Returns its id.
    async fn run(&self, script: &Path, it: &LocalImage) -> Result<ImageId, CommandError> {
        info!("{} builds the image", script.display());
        build_script::run(script, &it.tag, self.config.no_cache, &mut self.log(it)).await?;
        let no_image = || ScriptError::NoImage { script: script.to_owned(), tag: it.tag.clone() };
        Ok(self.engine.present(&it.tag).await?.ok_or_else(no_image)?.id)
    }

    /// Logs what can be done with an image now.
    async fn what_next(&self, it: &LocalImage) -> Result<(), CommandError> {
        let directory = &it.image.directory;
        let directory = directory.strip_prefix(&self.config.directory).unwrap_or(directory);
        let shell = self.engine.shell_in(&it.tag, &env_files(directory, &it.image.directory)).await?;
        info!("a shell in {}: {}", it.tag, command_line(&shell));
        if it.in_registry && self.config.push.is_none() {
            info!("to push it: image-worker push {}", it.image.name);
        }
        Ok(())
    }
}

/// The files with variables of an image directory, relative to the current directory.
fn env_files(shown: &Path, directory: &Path) -> Vec<PathBuf> {
    // An unreadable directory is no reason to fail: the image is built.
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter(|entry| entry.path().is_file()).map(|entry| entry.file_name());
    let mut files: Vec<_> = names.filter(|name| name.to_string_lossy().ends_with(".env")).collect();
    files.sort();
    files.into_iter().map(|name| shown.join(name)).collect()
}
