//! `push NAME`: pushes an image of the checkout to its registry; see `job`.

use clap::builder::NonEmptyStringValueParser;

use super::{Answer, CommandContext};
use crate::config::PushConfig;
use crate::config::settings::{MACHINE, PLACE, PUSHING, RETRIES, SettingGroup};
use crate::job::named_image::image_names;
use crate::job::{CommandError, push};

const HELP: &str = "\
Pushes what the engine has as REGISTRY/NAME:VERSION, and prints the digest that it has in the registry.
A tag that stands for other content there is not taken from it, unless you say --force.
Credentials are docker's own, from `docker login`, its helpers included.";

pub(super) const SETTINGS: &[SettingGroup] = &[PLACE, PUSHING, MACHINE, RETRIES];

/// Push an image to its registry
#[derive(Debug, PartialEq, Eq, clap::Args)]
#[command(long_about = HELP)]
pub struct Args {
    /// The image, or the path of its directory
    #[arg(value_name = "NAME|PATH", value_parser = NonEmptyStringValueParser::new())]
    name: String,
}

impl Args {
    pub(super) fn run(self, context: &CommandContext) -> Result<Answer, CommandError> {
        let config = PushConfig::read(context.settings, &context.environment)?;
        let names = image_names(&[self.name], &config.place, &context.environment.directory)?;
        let [name] = names.as_slice() else { return Err(CommandError::Bug(format!("{names:?} is not one image"))) };
        let pushed = context.until_stopped(async |stop| push::push(config, name, stop, context.report).await)?;
        Ok(context.answer(&pushed, &pushed.digest)?.of_something_published())
    }
}
