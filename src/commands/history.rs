//! `history NAME`: an image over its pushes. `job::history` reads and compares, and draws the table and the page.

use std::io::Write as _;

use clap::builder::NonEmptyStringValueParser;
use tracing::{info, warn};

use super::{Answer, CommandContext};
use crate::config::settings::{
    ACCESS, CENTRAL, HTML, INDEX, LIMIT, LIMITS, PLACE, PROJECT, RETRIES, SINCE, SettingGroup,
};
use crate::config::{HistoryConfig, ImagesDir, is_path};
use crate::context::ImageName;
use crate::job::CommandError;
use crate::job::history;
use crate::job::named_image::image_names;
use crate::job::work_dir::AtomicFile;

const HELP: &str = "\
Lists the pushes of an image that the index has, the newest first: when, the revision, the image's
size, its layers and packages, how long its build took, and what the push has changed: the context,
the parent or an argument, or nothing. The numbers come from the documents beside each image; what a
build does not have is shown as `?`.
    image-worker history builder --project mozilla-central --limit 50 --html builder.html";

pub(super) const SETTINGS: &[SettingGroup] =
    &[PLACE, LIMITS, &[&PROJECT, &CENTRAL, &INDEX], &[&LIMIT, &SINCE, &HTML], ACCESS, RETRIES];

/// Show an image over its pushes: sizes, layers, packages, and what each push changed
#[derive(Debug, PartialEq, Eq, clap::Args)]
#[command(long_about = HELP)]
pub struct Args {
    /// The image: its name, or the path of its directory
    #[arg(value_name = "NAME|PATH", value_parser = NonEmptyStringValueParser::new())]
    image: String,
}

impl Args {
    pub(super) fn run(self, context: &CommandContext) -> Result<Answer, CommandError> {
        let config = HistoryConfig::read(context.settings)?;
        let image = self.name(context)?;
        let history = context.until_stopped(async |stop| history::history(&config, &image, stop).await)?;
        for note in history.notes() {
            warn!("{note}");
        }
        if let Some(lacking) = history.lacking() {
            info!("{lacking}");
        }
        if let Some(path) = &config.html {
            let unwritable = |source| CommandError::Write { path: path.clone(), source };
            let page = AtomicFile::of(path).map_err(unwritable)?;
            page.file().write_all(history.page().as_bytes()).map_err(unwritable)?;
            page.finish().map_err(unwritable)?;
            info!("wrote {}", path.display());
        }
        context.answer(&history, &history.text(context.columns))
    }

    /// A name needs no checkout.
    fn name(&self, context: &CommandContext) -> Result<ImageName, CommandError> {
        if !is_path(&self.image) {
            return Ok(self.image.parse()?);
        }
        let directory = &context.environment.directory;
        let place = ImagesDir::read(context.settings, directory)?;
        let names = image_names(std::slice::from_ref(&self.image), &place, directory)?;
        names.into_iter().next().ok_or_else(|| CommandError::Bug(format!("{} has no name", self.image)))
    }
}
