//! `build NAME…`: builds images on this machine, from the contexts that tasks would use; see `job`.

use clap::builder::NonEmptyStringValueParser;
use tempfile::TempDir;
use tracing::info;

use super::{Answer, CommandContext};
use crate::config::BuildConfig;
use crate::config::settings::{
    ACCESS, BUILDER, DENY_SECRET_ARGS, DOCKER_BUILD_NETWORK, INDEX, INDEXED, JOBS, LIMITS, MACHINE, NO_CACHE, PARENT,
    PLACE, PUSH, PUSHING, RETRIES, SCHEME, SECRET, SettingGroup, WITH_PARENTS, WORK_DIR,
};
use crate::context::ImageName;
use crate::job::named_image::image_names;
use crate::job::shutdown::Shutdown;
use crate::job::{CommandError, local_build};
use crate::net::blocking::blocking;
use crate::repository::Tree;
use crate::repository::changed::{Changed, changed};

const HELP: &str = "\
Builds image directories on this machine, each from exactly the context that a task would build it from, and prints
their tags and context hashes. An image with a VERSION becomes REGISTRY/NAME:VERSION, any other NAME:latest.
Where a Dockerfile says `FROM $DOCKER_IMAGE_PARENT`, the parent's local tag is put in. An executable NAME/build.sh is
run instead, with `-t TAG`.

--all and --changed imply --with-parents. Images that do not need each other are built at once, as many as --jobs says.";

pub(super) const SETTINGS: &[SettingGroup] = &[
    PLACE,
    LIMITS,
    &[&SCHEME, &WITH_PARENTS, &PARENT, &NO_CACHE, &JOBS, &PUSH],
    PUSHING,
    &[&DOCKER_BUILD_NETWORK, &BUILDER, &SECRET, &DENY_SECRET_ARGS, &WORK_DIR],
    INDEXED,
    &[&INDEX],
    ACCESS,
    MACHINE,
    RETRIES,
];

const HEADING: &str = "Which images, one of";

/// Build images on this machine
#[derive(Debug, PartialEq, Eq, clap::Args)]
#[command(long_about = HELP)]
#[group(skip)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// The revision for --changed, as git names it
    ///
    /// Without it, it is where the branch left the default branch of origin (the merge base of HEAD and origin/HEAD), or HEAD where the clone has none.
    #[arg(id = "since-revision", long = "since", value_name = "REV", value_parser = NonEmptyStringValueParser::new(), requires = "changed", conflicts_with_all = ["names", "all"], help_heading = HEADING)]
    since: Option<String>,
}

/// Which images: one of these.
#[derive(Debug, PartialEq, Eq, clap::Args)]
#[group(id = "which", required = true, multiple = false)]
struct Which {
    /// These images, by their names or the paths of their directories
    #[arg(id = "names", value_name = "NAME|PATH", value_parser = NonEmptyStringValueParser::new(), num_args = 1.., help_heading = HEADING)]
    names: Vec<String>,
    /// All images of the tree
    #[arg(long, help_heading = HEADING)]
    all: bool,
    /// Those that differ from another revision, see --since
    ///
    /// Their hash in the index is another one than there, or that of an image that they are built from.
    #[arg(long, help_heading = HEADING)]
    changed: bool,
}

impl Args {
    pub(super) fn run(self, context: &CommandContext) -> Result<Answer, CommandError> {
        let mut config = BuildConfig::read(context.settings, &context.environment)?;
        config.with_parents |= self.which.all || self.which.changed;
        let (names, images) = context.until_stopped(async |stop| {
            let names = self.images(&config, context, stop).await?;
            if names.is_empty() {
                return Ok((names, Vec::new()));
            }
            let images = local_build::build(config, &names, stop, context.report).await?;
            Ok((names, images))
        })?;
        let asked_for = names.iter().filter_map(|name| images.iter().find(|image| image.name == *name));
        let lines: Vec<_> = asked_for.map(ToString::to_string).collect();
        if lines.is_empty() && !context.json {
            return Ok(Answer::of(String::new()));
        }
        context.answer(&images, &lines.join("\n"))
    }

    /// The names of the images.
    async fn images(
        &self,
        config: &BuildConfig,
        context: &CommandContext<'_>,
        stop: &Shutdown,
    ) -> Result<Vec<ImageName>, CommandError> {
        if self.which.all {
            return Ok(Tree::open(&config.place)?.own_names());
        }
        if !self.which.changed {
            return image_names(&self.which.names, &config.place, &context.environment.directory);
        }
        let (place, scheme, since) = (config.place.clone(), config.scheme, self.since.clone());
        // Not in the thread, which a signal does not wait for.
        let unwritable = |source| CommandError::Write { path: config.work_dir.clone(), source };
        let work = TempDir::with_prefix_in(".image-worker-revision-", &config.work_dir).map_err(unwritable)?;
        let directory = work.path().to_owned();
        let comparing = blocking(move || changed(&place, scheme, since.as_deref(), &directory));
        let Changed { names, of, since, commit } =
            stop.run_stage("comparing the images with the revision", comparing).await?;
        let commit: String = commit.chars().take(12).collect();
        match names.iter().map(ImageName::as_str).collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => info!("none of {of} images differs from {since} ({commit}): nothing to build"),
            list => info!("{} of {of} images differ from {since} ({commit}): {list}", names.len()),
        }
        Ok(names)
    }
}
