//! `run --dry-run` of an image directory: the job that CI would run for it. Its name, arguments, parent and hash in the index
//! come from its tree, as `decide` would write them into a task; `run` has the job itself.

use std::collections::BTreeMap;
use std::path::Path;

use tracing::info;

use super::image_task::{self, Outcome};
use super::shutdown::Shutdown;
use super::{CommandError, indexed_parent, local_build, named_image};
use crate::config::{
    BuildConfig, Config, DryRun, DryRunImage, DryRunParent, ImagesDir, LookupConfig, ParentFrom, ProcessEnvironment,
    SettingLayers, settings,
};
use crate::context::ImageName;
use crate::context::collect::dockerfile;
use crate::dockerfile::PARENT_ARG;
use crate::dockerfile::base_images::{DockerfileImages, Reference};
use crate::dockerfile::plain_name::PlainName;
use crate::net::blocking::blocking;
use crate::report::Report;
use crate::repository::TreeError;

/// An image directory, and its parent in the tree.
struct Identified {
    image: DryRunImage,
    parent: Option<ImageName>,
}

/// Does the job for an image directory, and publishes nothing.
pub async fn dry_run(
    dry_run: DryRun,
    settings: &SettingLayers<'_>,
    environment: &ProcessEnvironment<'_>,
    stop: &Shutdown,
    report: &Report,
) -> Result<Outcome, CommandError> {
    let named = dry_run.clone();
    let identifying = blocking(move || identify(&named));
    let Identified { mut image, parent } = stop.run_stage("hashing the contexts", identifying).await?;
    if let Some(parent) = &parent {
        // Errors in the other settings are reported before the parent is built; its name is only a placeholder here.
        image.parent = Some(DryRunParent::Local(parent.to_string()));
    }
    let mut config = Config::read_dry_run(settings, environment, &image)?;
    // From here on it is this run's, and an earlier image is gone, also where the parent fails.
    let reserved = image_task::reserve(&config)?;
    if let Some(parent) = parent {
        image.parent = Some(match dry_run.parent_from {
            ParentFrom::Index => indexed(&dry_run, &parent, settings, environment, stop).await?,
            ParentFrom::Build => {
                let place = place(&dry_run, &parent)?;
                let target_arch = settings.parse(&settings::TARGET_ARCH)?;
                built(&BuildConfig::of_parents(&config, place, &dry_run.image, target_arch), &parent, stop, report)
                    .await?
            }
        });
        config = Config::read_dry_run(settings, environment, &image)?;
    }
    image_task::run_into(reserved, config, stop, report).await
}

/// The image's data from its tree.
fn identify(dry_run: &DryRun) -> Result<Identified, CommandError> {
    let found = named_image::find(&dry_run.image, dry_run.name.as_ref())?;
    let context_trees = found.context_trees();
    let (checkout, directory, args) = (found.checkout, found.directory, found.args);
    let given = dry_run.given_parent.clone().map(DryRunParent::Local);
    let is_given = given.is_some() || dry_run.has_parent_task;
    let image = DryRunImage {
        name: None,
        checkout,
        directory,
        args,
        index_hash: None,
        is_hash_known: true,
        arch: None,
        parent: given,
        context_trees,
    };
    let Some(in_tree) = found.in_tree else {
        if !is_given {
            refuse_a_parent_from_elsewhere(&image.directory, &image.args)?;
        }
        let real = image.directory.canonicalize().ok();
        let name = real.and_then(|real| real.file_name()?.to_str()?.parse().ok());
        return Ok(Identified { image: DryRunImage { name, ..image }, parent: None });
    };
    let name = in_tree.name;
    let family = match in_tree.tree.local(std::slice::from_ref(&name), dry_run.image.scheme) {
        // The tree need not have values that are given.
        Err(TreeError::Parent { .. }) if is_given => Vec::new(),
        family => family?,
    };
    let Some(it) = family.into_iter().find(|it| it.image.name == name) else {
        return Ok(Identified { image: DryRunImage { name: Some(name), ..image }, parent: None });
    };
    it.image.warn_of_packages(&image.args);
    let image = DryRunImage {
        name: Some(name),
        index_hash: Some(it.hash).filter(|hash| *hash != it.context && it.is_hash_known),
        is_hash_known: it.is_hash_known,
        arch: it.image.arch,
        ..image
    };
    Ok(Identified { image, parent: it.parent.filter(|_| !is_given) })
}

/// Refuses an image directory outside a known tree if its parent is an image of its tree: an engine would use any image of that
/// name, or pull it from a registry.
fn refuse_a_parent_from_elsewhere(directory: &Path, args: &BTreeMap<String, String>) -> Result<(), CommandError> {
    // Errors in it are reported when its context is made.
    let Ok(dockerfile) = dockerfile(directory, args) else { return Ok(()) };
    let recipe = DockerfileImages::read(&dockerfile.text, args);
    let put_in = |it: &&Reference| it.variables.iter().any(|name| name == PARENT_ARG);
    for reference in recipe.references.iter().filter(put_in) {
        let parent = match reference.plain() {
            Some(plain) if plain.is_latest() && !plain.name.is_empty() => Some(plain.name.to_owned()),
            None if reference.image.is_none() => None,
            Some(PlainName { name: "", tag: None }) => None,
            _ => continue,
        };
        let (directory, instruction) = (directory.to_owned(), reference.shown());
        return Err(CommandError::ParentElsewhere { directory, instruction, parent });
    }
    Ok(())
}

fn place(dry_run: &DryRun, parent: &ImageName) -> Result<ImagesDir, CommandError> {
    dry_run.image.place.clone().ok_or_else(|| CommandError::Bug(format!("{parent} is in no tree")))
}

/// The parent as CI has it.
async fn indexed(
    dry_run: &DryRun,
    parent: &ImageName,
    settings: &SettingLayers<'_>,
    environment: &ProcessEnvironment<'_>,
    stop: &Shutdown,
) -> Result<DryRunParent, CommandError> {
    let config = LookupConfig::of(settings, environment, place(dry_run, parent)?, dry_run.image.scheme)?;
    let found = indexed_parent::find(&config, parent, stop).await?;
    info!("the parent {parent} is CI's image of {}, indexed for {}", found.at, found.project);
    Ok(DryRunParent::Task(found.at.task_id))
}

/// The parent built here, under a name that no image of the user's has.
async fn built(
    config: &BuildConfig,
    parent: &ImageName,
    stop: &Shutdown,
    report: &Report,
) -> Result<DryRunParent, CommandError> {
    let built = local_build::parent(config, parent, stop, report).await?;
    info!("the parent {parent} is {}, {}", built.tag, built.image_id);
    Ok(DryRunParent::Local(built.tag))
}
