//! The configuration of `build`: which tree, which engine, and which images to build again. The command line selects the images.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::{
    Config, ConfigError, ImagesDir, LookupConfig, NamedImage, ParentFrom, ProcessEnvironment, Pushing, SettingLayers,
    settings,
};
use crate::context::HashScheme;
use crate::engine::{BuildPlan, EngineConfig, SecretSources, TargetArch};

/// One invocation of `build`.
#[derive(Debug)]
pub struct BuildConfig {
    /// Where the images are.
    pub place: ImagesDir,
    /// How contexts are made and hashed.
    pub scheme: HashScheme,
    /// What every build gets: the root URL, and a network.
    pub build: BuildPlan,
    /// Refuse build arguments that look secret.
    pub deny_secret_args: bool,
    /// Which names the images get.
    pub tags: Tags,
    /// Build what the images need, too.
    pub with_parents: bool,
    /// The index that parents are taken from; absent, they are built, or there already.
    pub index: Option<LookupConfig>,
    /// Build everything again, without a cache.
    pub no_cache: bool,
    /// How many images are built at once.
    pub jobs: NonZeroUsize,
    /// Push the named images, and how.
    pub push: Option<Pushing>,
    /// Where to look for an engine.
    pub engine: EngineConfig,
    /// The directory for temporary contexts.
    pub work_dir: PathBuf,
    /// The current directory, to which shown paths are relative.
    pub directory: PathBuf,
}

/// Which names images get in the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tags {
    /// Those of the tree, even if other images have these names.
    Tree,
    /// Names of a dry run's own: no image of the user's loses its name.
    Own,
}

impl BuildConfig {
    /// Reads the configuration of `build`.
    pub fn read(settings: &SettingLayers, environment: &ProcessEnvironment) -> Result<Self, ConfigError> {
        let mut build = super::builder::read(settings, environment, BTreeMap::new())?;
        if let Some(root_url) = settings.get(&settings::ROOT_URL)? {
            build.args.insert(settings::ROOT_URL.variable.to_owned(), root_url.text);
        }
        if let (Some(given), Some(id)) = (settings.get(&settings::SECRET)?, build.secrets.of_taskcluster()) {
            return Err(given.wrong(format!(
                "{id} is Taskcluster's, and `build` has no deployment: give it in a file, id={id},src=FILE"
            )));
        }
        let place = ImagesDir::read(settings, &environment.directory)?;
        let scheme = settings.parse_or_default(&settings::SCHEME)?;
        let index = match settings.parse(&settings::PARENT)? {
            Some(ParentFrom::Index) => Some(LookupConfig::of(settings, environment, place.clone(), scheme)?),
            Some(ParentFrom::Build) | None => None,
        };
        Ok(Self {
            place,
            scheme,
            build,
            deny_secret_args: settings.switch(&settings::DENY_SECRET_ARGS)?,
            tags: Tags::Tree,
            index,
            with_parents: settings.switch(&settings::WITH_PARENTS)?,
            no_cache: settings.switch(&settings::NO_CACHE)?,
            jobs: settings.parse_or_default(&settings::JOBS)?,
            push: settings.switch(&settings::PUSH)?.then(|| Pushing::read(settings, environment)).transpose()?,
            engine: EngineConfig::read_lasting(settings, environment)?,
            work_dir: settings.parse(&settings::WORK_DIR)?.unwrap_or_else(|| environment.temporary.clone()),
            directory: environment.directory.clone(),
        })
    }

    /// The configuration that builds the parent of a dry run's image, and that parent's own ancestors, like `build
    /// --with-parents`. `target_arch` is the architecture given for all of them.
    #[must_use]
    pub fn of_parents(dry_run: &Config, place: ImagesDir, image: &NamedImage, target_arch: Option<TargetArch>) -> Self {
        let secrets = SecretSources::default();
        let mut build = BuildPlan { secrets, cache_from: None, target_arch, ..dry_run.plan.build.clone() };
        build.args.retain(|name, _| name == settings::ROOT_URL.variable);
        Self {
            place,
            scheme: image.scheme,
            build,
            deny_secret_args: dry_run.deny_secret_args,
            tags: Tags::Own,
            with_parents: true,
            index: None,
            no_cache: false,
            jobs: NonZeroUsize::MIN,
            push: None,
            engine: dry_run.engine.clone(),
            work_dir: dry_run.work_dir.clone(),
            directory: image.directory.clone(),
        }
    }
}
