//! A dry run of an image directory: which image, the source of its parent, and the data from its tree that replaces a task's
//! environment.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;

use super::{ConfigError, NamedImage, ProcessEnvironment, SettingLayers, settings};
use crate::context::checkout::Checkout;
use crate::context::trees::ContextTrees;
use crate::context::{ContextHash, ImageName};
use crate::dockerfile::PARENT_ARG;
use crate::engine::TargetArch;
use crate::report::keywords;
use crate::taskcluster::TaskId;

/// A dry run of an image directory.
#[derive(Clone, Debug)]
pub struct DryRun {
    /// The image.
    pub image: NamedImage,
    /// `IMAGE_NAME`.
    pub name: Option<ImageName>,
    /// The source of its parent, if it has one in the tree.
    pub parent_from: ParentFrom,
    /// The parent given by the user instead of the tree's.
    pub given_parent: Option<String>,
    /// Whether the user names the parent's task instead of the tree's parent.
    pub has_parent_task: bool,
}

impl DryRun {
    /// Reads it; none where `run` is another job: in a task, or of a context that is made already. `image` and `args` are
    /// what the command line has.
    pub fn read(
        settings: &SettingLayers,
        environment: &ProcessEnvironment,
        image: Option<&str>,
        args: &[(String, String)],
    ) -> Result<Option<Self>, ConfigError> {
        let context = settings.get(&settings::CONTEXT)?;
        let is_dry = settings.switch(&settings::DRY_RUN)?;
        let typed = match (image, context) {
            (Some(image), Some(given)) => {
                return Err(
                    given.wrong(format!("the image {image} is named too: which of them? Leave one of them out"))
                );
            }
            (Some(image), None) if is_dry => image.to_owned(),
            (Some(image), None) => {
                return Err(ConfigError::Combination(format!(
                    "the image {image} is named, which is for --dry-run: a task takes its image from IMAGE_NAME and its context from CONTEXT_TASK_ID"
                )));
            }
            // Never an image's name.
            (None, Some(given)) if is_dry && environment.directory.join(&given.text).is_dir() => {
                environment.directory.join(given.text).to_string_lossy().into_owned()
            }
            (None, _) if args.is_empty() => return Ok(None),
            (None, _) => {
                return Err(ConfigError::Argument {
                    what: "--arg is for the dry run of an image directory".to_owned(),
                    hint: "name one, or give the arguments as DOCKER_BUILD_ARGS",
                });
            }
        };
        let scheme = settings.parse_or_default(&settings::HASH_SCHEME)?;
        let mut image = NamedImage::read(settings, environment, &typed, args, scheme)?;
        let given_parent = image.args.remove(PARENT_ARG);
        Ok(Some(Self {
            image,
            name: settings.parse(&settings::IMAGE_NAME)?,
            parent_from: ParentFrom::of_dry_run(settings)?,
            given_parent,
            has_parent_task: settings.get(&settings::PARENT_TASK_ID)?.is_some(),
        }))
    }
}

/// A part of names in the engine, unique to this start of the program, in whatever container it runs.
pub(super) fn unique(now: Timestamp) -> String {
    let unique = TaskId::derived(&[&now.as_nanosecond().to_string(), &std::process::id().to_string()]);
    format!("dry-run-{unique}")
}

keywords! {
    /// The source of the parent of an image of the tree.
    pub enum ParentFrom, "a source of parents" {
        /// CI's image of the same hash.
        Index = "index",
        /// It is built here.
        Build = "build",
    }
}

impl ParentFrom {
    /// The setting's value; by default CI's image if a deployment is configured.
    fn of_dry_run(settings: &SettingLayers) -> Result<Self, ConfigError> {
        let usual = if settings.get(&settings::ROOT_URL)?.is_some() { Self::Index } else { Self::Build };
        Ok(settings.parse(&settings::PARENT)?.unwrap_or(usual))
    }
}

/// The image directory of a dry run, with the data of its tree.
#[derive(Clone, Debug)]
pub struct DryRunImage {
    /// The image's name, unless `IMAGE_NAME` has one.
    pub name: Option<ImageName>,
    /// The repository that it is in.
    pub checkout: Checkout,
    /// The image directory.
    pub directory: PathBuf,
    /// Its build arguments.
    pub args: BTreeMap<String, String>,
    /// The hash in the `.hash.` route in CI, if that is not the context hash.
    pub index_hash: Option<ContextHash>,
    /// Whether it is known: only the task graph knows packages.
    pub is_hash_known: bool,
    /// The architecture in its `kind.yml`.
    pub arch: Option<TargetArch>,
    /// The image that it is built from.
    pub parent: Option<DryRunParent>,
    /// What its context is made from, and those of the images that it is built from.
    pub context_trees: Vec<ContextTrees>,
}

/// The parent of a dry run's image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DryRunParent {
    /// The image of a task.
    Task(TaskId),
    /// An image that the engine has under this name.
    Local(String),
}

impl DryRunImage {
    /// The parent's task, which the job gets the image from.
    pub(super) fn parent_task(&self) -> Option<TaskId> {
        match &self.parent {
            Some(DryRunParent::Task(task)) => Some(task.clone()),
            Some(DryRunParent::Local(_)) | None => None,
        }
    }

    /// The build's input: its arguments, and the parent that the engine has already.
    pub(super) fn build_args(&self) -> BTreeMap<String, String> {
        let mut args = self.args.clone();
        if let Some(DryRunParent::Local(tag)) = &self.parent {
            args.insert(PARENT_ARG.to_owned(), tag.clone());
        }
        args
    }
}
