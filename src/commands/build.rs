//! `build NAME…`: builds images on this machine, from the contexts that tasks would use; see `job`.

use super::arguments::ImageNames;
use super::{Answer, CommandContext};
use crate::config::BuildConfig;
use crate::config::settings::{
    ACCESS, BUILDER, DENY_SECRET_ARGS, DOCKER_BUILD_NETWORK, INDEX, INDEXED, LIMITS, MACHINE, NO_CACHE, PARENT, PLACE,
    PUSH, PUSHING, RETRIES, SCHEME, SECRET, SettingGroup, WITH_PARENTS, WORK_DIR,
};
use crate::job::{CommandError, local_build};

const HELP: &str = "\
Builds image directories on this machine, each from exactly the context that a task would build it from, and prints
their tags and context hashes. An image with a VERSION becomes REGISTRY/NAME:VERSION, any other NAME:latest.
Where a Dockerfile says `FROM $DOCKER_IMAGE_PARENT`, the parent's local tag is put in. An executable NAME/build.sh is
run instead, with `-t TAG`.";

pub(super) const SETTINGS: &[SettingGroup] = &[
    PLACE,
    LIMITS,
    &[&SCHEME, &WITH_PARENTS, &PARENT, &NO_CACHE, &PUSH],
    PUSHING,
    &[&DOCKER_BUILD_NETWORK, &BUILDER, &SECRET, &DENY_SECRET_ARGS, &WORK_DIR],
    INDEXED,
    &[&INDEX],
    ACCESS,
    MACHINE,
    RETRIES,
];

/// Build images on this machine
#[derive(Debug, PartialEq, Eq, clap::Args)]
#[command(long_about = HELP)]
pub struct Args {
    #[command(flatten)]
    images: ImageNames,
}

impl Args {
    pub(super) fn run(self, context: &CommandContext) -> Result<Answer, CommandError> {
        let config = BuildConfig::read(context.settings, &context.surroundings)?;
        let names = &self.images.names(&config.place, context)?;
        let images =
            context.until_stopped(async |stop| local_build::build(config, names, stop, context.report).await)?;
        let asked_for = names.iter().filter_map(|name| images.iter().find(|image| image.name == *name));
        let lines: Vec<_> = asked_for.map(ToString::to_string).collect();
        context.answer(&images, &lines.join("\n"))
    }
}
