//! `init NAME`: a new image directory; see `job::init`.

use tracing::info;

use super::{Answer, CommandContext};
use crate::config::InitConfig;
use crate::config::settings::{
    DOCKER_AUTH_CONFIG, DOCKER_CONFIG, LIMITS, PLACE, REGISTRY_AUTH_FILE, RETRIES, SettingGroup,
};
use crate::context::ImageName;
use crate::job::{CommandError, init};

const HELP: &str = "\
Makes an image directory that builds: a Dockerfile, with its base image by digest where the registry can be asked, a
.dockerignore, and the entry in kind.yml where there is one. It changes no image that is there. The answer is the three
commands that come next.";

pub(super) const SETTINGS: &[SettingGroup] =
    &[PLACE, LIMITS, &[&DOCKER_CONFIG, &REGISTRY_AUTH_FILE, &DOCKER_AUTH_CONFIG], RETRIES];

/// Make a new image directory that builds
#[derive(Debug, PartialEq, Eq, clap::Args)]
#[command(long_about = HELP)]
pub struct Args {
    /// The image's name, which becomes the name of its directory
    #[arg(value_name = "NAME")]
    name: ImageName,
    /// What it is built from: an image of a registry, or one of this tree
    #[arg(long, value_name = "IMAGE", default_value = "debian:12")]
    from: String,
}

impl Args {
    pub(super) fn run(self, context: &CommandContext) -> Result<Answer, CommandError> {
        let config = InitConfig::read(context.settings, &context.environment)?;
        let image = context.until_stopped(async |stop| init::init(&config, &self.name, &self.from, stop).await)?;
        for file in &image.files {
            info!("wrote {}", file.display());
        }
        info!("next:");
        context.answer(&image, &image.next.join("\n"))
    }
}
