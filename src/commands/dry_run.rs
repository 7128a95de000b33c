//! `run --dry-run` of an image directory: the job that CI would do for it. Its name, arguments, parent and hash in the
//! index come from its tree, as `decide` would write them into a task; the job itself is `run`'s.

use tracing::info;

use super::run::{self, Outcome};
use super::stop::Stop;
use super::{Failed, aside, build, indexed_parent, named_image};
use crate::config::{
    BuildConfig, Config, Destination, DryRun, DryRunImage, DryRunParent, LookupConfig, ParentFrom, Sources,
    Surroundings,
};
use crate::names::{ContextHash, ImageName};
use crate::publish::Folder;
use crate::report::Report;
use crate::tree::TreeError;

/// An image directory, and the parent that its tree says.
struct Identified {
    image: DryRunImage,
    parent: Option<ImageName>,
}

/// Does the job for an image directory, and publishes nothing.
pub async fn dry_run(
    dry_run: DryRun,
    sources: &Sources<'_>,
    around: &Surroundings<'_>,
    stop: &Stop,
    report: &Report,
) -> Result<Outcome, Failed> {
    let named = dry_run.clone();
    let identifying = aside(move || identify(&named));
    let Identified { mut image, parent } = stop.during("hashing the contexts", identifying).await?;
    if let Some(parent) = parent {
        // What is wrong with the rest is told before the parent is made; its name only stands in for it.
        image.parent = Some(DryRunParent::Local(parent.to_string()));
        let config = Config::read_dry_run(sources, around, &image)?;
        if let Destination::DryRun(output) = &config.destination {
            // An earlier image is gone, also where the parent fails.
            drop(Folder::for_dry_run(output.clone(), &config.plan.artifact.name)?);
        }
        image.parent = Some(match dry_run.parent_from {
            ParentFrom::Index => indexed(&dry_run, &parent, sources, around, stop).await?,
            ParentFrom::Build => built(&dry_run, &config, &parent, stop, report).await?,
        });
    }
    run::run(Config::read_dry_run(sources, around, &image)?, stop, report).await
}

/// What the image's tree says of it.
fn identify(dry_run: &DryRun) -> Result<Identified, Failed> {
    let found = named_image::find(&dry_run.image, dry_run.name.as_ref())?;
    let (checkout, directory, args) = (found.checkout, found.directory, found.args);
    let given = dry_run.given_parent.clone().map(DryRunParent::Local);
    let Some(in_tree) = found.in_tree else {
        let name = directory.canonicalize().ok().and_then(|real| real.file_name()?.to_str()?.parse().ok());
        return Ok(Identified {
            image: DryRunImage { name, checkout, directory, args, index_hash: None, arch: None, parent: given },
            parent: None,
        });
    };
    let name = in_tree.name;
    let is_given = given.is_some() || dry_run.has_parent_task;
    let family = match in_tree.tree.local(std::slice::from_ref(&name), dry_run.image.scheme) {
        // The tree need not know what is given.
        Err(TreeError::Parent { .. }) if is_given => Vec::new(),
        family => family?,
    };
    let it = family.into_iter().find(|it| it.image.name == name);
    let arch = it.as_ref().and_then(|it| it.image.arch);
    let index_hash: Option<ContextHash> = it.as_ref().filter(|it| it.hash != it.context).map(|it| it.hash);
    let parent = it.and_then(|it| it.parent).filter(|_| !is_given);
    Ok(Identified {
        image: DryRunImage { name: Some(name), checkout, directory, args, index_hash, arch, parent: given },
        parent,
    })
}

/// The parent as CI has it.
async fn indexed(
    dry_run: &DryRun,
    parent: &ImageName,
    sources: &Sources<'_>,
    around: &Surroundings<'_>,
    stop: &Stop,
) -> Result<DryRunParent, Failed> {
    let place = dry_run.image.place.clone().ok_or_else(|| Failed::Bug(format!("{parent} is in no tree")))?;
    let config = LookupConfig::of(sources, around, place, dry_run.image.scheme)?;
    config.patience.hold();
    let found = indexed_parent::find(&config, parent, stop).await?;
    info!("the parent {parent} is CI's image of {}, indexed for {}", found.at, found.project);
    Ok(DryRunParent::Task(found.at.task_id))
}

/// The parent built here.
async fn built(
    dry_run: &DryRun,
    config: &Config,
    parent: &ImageName,
    stop: &Stop,
    report: &Report,
) -> Result<DryRunParent, Failed> {
    let place = dry_run.image.place.clone().ok_or_else(|| Failed::Bug(format!("{parent} is in no tree")))?;
    let config = BuildConfig::of_parents(config, place, dry_run.image.scheme, dry_run.image.directory.clone());
    let built = build::parent(&config, parent, stop, report).await?;
    info!("the parent {parent} is {}, {}", built.tag, built.image_id);
    Ok(DryRunParent::Local(built.tag))
}
