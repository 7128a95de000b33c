//! `inspect`: what is in an image. How it is listed is in `image::inventory`, how it is unpacked in `job::unpack`.

use std::path::{Path, PathBuf};

use clap::builder::NonEmptyStringValueParser;

use super::{Answer, CommandContext};
use crate::config::settings::{MACHINE, RETRIES, SettingGroup};
use crate::engine::{Engine, EngineConfig};
use crate::image::inventory::Inventory;
use crate::image::{ImageSummary, UnpackedImage};
use crate::job::metrics::Layers;
use crate::job::{CommandError, unpack};

const HELP: &str = "\
Shows what is in an image: its configuration; each layer with the step that made it, its size and its files; the largest files
and directories; how many packages there are; and wasted bytes, which later layers overwrite or delete, and which every worker
downloads all the same. Values of environment variables are not shown.";

pub(super) const SETTINGS: &[SettingGroup] = &[RETRIES, MACHINE];

/// Show what is in an image: layers and steps, large files, wasted space
#[derive(Debug, PartialEq, Eq, clap::Args)]
#[command(long_about = HELP)]
#[group(id = "source", required = true, multiple = false)]
pub struct Args {
    /// An image archive, of any form and compression
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// An image of the engine on this machine, by its name or its id
    #[arg(id = "local", long = "local", value_name = "IMAGE", value_parser = NonEmptyStringValueParser::new())]
    image: Option<String>,
}

impl Args {
    pub(super) fn run(self, context: &CommandContext) -> Result<Answer, CommandError> {
        let directory = &context.surroundings.temporary;
        let image = match (&self.file, &self.image) {
            (Some(file), _) => unpack::archive(file, directory)?,
            (None, Some(image)) => local(context, image, directory)?,
            (None, None) => return Err(CommandError::Bug("no image is named".to_owned())),
        };
        let layers = Layers::of(&ImageSummary::from(&image), 0).layers;
        let steps: Vec<_> = layers.into_iter().map(|layer| layer.step).collect();
        let inventory = Inventory::of(&image, &steps)?;
        context.answer(&inventory, &inventory.to_string())
    }
}

fn local(context: &CommandContext, image: &str, directory: &Path) -> Result<UnpackedImage, CommandError> {
    let config = EngineConfig::read_lasting(context.settings, &context.surroundings)?;
    context.until_stopped(async |stop| {
        let engine = stop.run_stage("looking for an engine", Engine::connect(&config)).await?;
        stop.run_stage("unpacking the image", unpack::local(&engine, image, directory, context.report)).await
    })
}
