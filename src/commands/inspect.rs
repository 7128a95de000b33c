//! `inspect`: what is in an image. How it is listed is in `image::inventory`, how it is found and unpacked in `job::unpack`.

use std::path::{Path, PathBuf};

use clap::builder::NonEmptyStringValueParser;

use super::arguments::namespace;
use super::{Answer, CommandContext};
use crate::config::settings::{ACCESS, HTML, INDEXED, LIMITS, MACHINE, PLACE, RETRIES, SCHEME, SettingGroup};
use crate::config::{ImageSource, WantedImage};
use crate::engine::{Engine, EngineConfig};
use crate::image::inventory::{Inventory, Survey};
use crate::image::{ImageSummary, UnpackedImage};
use crate::job::metrics::Layers;
use crate::job::named_image::unknown_first;
use crate::job::report_page::{Fact, PageError, ReportPage};
use crate::job::{CommandError, unpack};
use crate::taskcluster::{Namespace, TaskRef};

const HELP: &str = "\
Shows what is in an image: its configuration; each layer with the step that made it, its size and its files; the largest files
and directories; how many packages there are; and wasted bytes, which later layers overwrite or delete, and which every worker
downloads all the same. Values of environment variables are not shown.

An argument that is a file is an image archive; any other names an image of this checkout, which is found by its hash. An image
of a task is downloaded into a temporary file, and verified as `load` does it.

--html writes one page that needs no network and no other file.";

// Here --index is a route; the route prefix has only its variable and its key.
pub(super) const SETTINGS: &[SettingGroup] = &[PLACE, LIMITS, &[&SCHEME, &HTML], INDEXED, ACCESS, RETRIES, MACHINE];

const HEADING: &str = "Which image, one of";

/// Show what is in an image: layers and steps, large files, wasted space
#[derive(Debug, PartialEq, Eq, clap::Args)]
#[command(long_about = HELP)]
#[group(skip)]
pub struct Args {
    #[command(flatten)]
    source: Source,
}

/// Which image: one of these.
#[derive(Debug, PartialEq, Eq, clap::Args)]
#[group(required = true, multiple = false)]
struct Source {
    /// An image archive, of any form and compression; or an image of this checkout, by its name or the path of its directory
    #[arg(value_name = "FILE|NAME|PATH", help_heading = HEADING)]
    file: Option<PathBuf>,
    /// The image of this task, given by its id or its URL; of one run, where the URL names a run
    #[arg(id = "of-task", long = "task-id", value_name = "ID|URL", help_heading = HEADING)]
    task: Option<TaskRef>,
    /// The image that the index has under this route, like index.docker.images.v1.PROJECT.NAME.latest
    #[arg(id = "route", long = "index", value_name = "ROUTE", value_parser = namespace, help_heading = HEADING)]
    route: Option<Namespace>,
    /// An image of the engine on this machine, by its name or its id
    #[arg(id = "local", long = "local", value_name = "IMAGE", value_parser = NonEmptyStringValueParser::new(), help_heading = HEADING)]
    image: Option<String>,
}

impl Args {
    pub(super) fn run(self, context: &CommandContext) -> Result<Answer, CommandError> {
        let html = context.settings.parse::<PathBuf>(&HTML)?;
        let image = self.source.unpacked(context)?;
        let layers = Layers::of(&ImageSummary::from(&image), 0).layers;
        let steps: Vec<_> = layers.into_iter().map(|layer| layer.step).collect();
        let survey = Survey::of(&image, &steps)?;
        let survey = Survey { packages: Ok(survey.packages?), ..survey };
        let answer = context.answer(&survey.inventory, &survey.inventory.to_string())?;
        if let Some(html) = html {
            let mut page = ReportPage::of(self.source.title(&survey.inventory), survey);
            page.provenance = self.source.origin();
            page.write(&context.environment.directory.join(&html)).map_err(|error| match error {
                PageError::Write(source) => CommandError::Write { path: html, source },
                error @ PageError::TooLarge(_) => CommandError::Diagnostics { what: error.to_string(), hint: "" },
            })?;
        }
        Ok(answer)
    }
}

impl Source {
    /// Exactly one source is given.
    fn unpacked(&self, context: &CommandContext) -> Result<UnpackedImage, CommandError> {
        if let Some(task) = &self.task {
            return wanted(context, &ImageSource::Task(task.clone()));
        }
        if let Some(route) = &self.route {
            return wanted(context, &ImageSource::Route(route.clone()));
        }
        if let Some(image) = &self.image {
            return local(context, image, &context.environment.temporary);
        }
        let typed = self.file.as_ref().ok_or_else(|| CommandError::Bug("no image is named".to_owned()))?;
        let path = context.environment.directory.join(typed);
        if path.exists() && !path.is_dir() {
            return unpack::archive(typed, &context.environment.temporary);
        }
        let typed = typed.to_string_lossy().into_owned();
        wanted(context, &ImageSource::Named(typed.clone())).map_err(|error| match error {
            error @ (CommandError::Config(_) | CommandError::Name(_) | CommandError::Tree(_)) => {
                CommandError::NoSuchFile { typed, error: Box::new(error) }
            }
            error => error,
        })
    }

    /// The heading of its page.
    fn title(&self, inventory: &Inventory) -> String {
        let file = self.file.as_ref().and_then(|file| file.file_name());
        let typed = file.map(|name| name.to_string_lossy().into_owned()).or_else(|| self.image.clone());
        inventory.names.first().cloned().or(typed).unwrap_or_else(|| "an image without a name".to_owned())
    }

    /// Where it comes from.
    fn origin(&self) -> Vec<Fact> {
        // Not its directory: a page may be shown to others.
        let file = self.file.as_ref().and_then(|file| file.file_name()).map(Path::new);
        let file = file.map(|name| Fact::new("Inspected", &name.display()));
        let task = self.task.as_ref().map(|task| Fact::new("Image of task", task));
        let route = self.route.as_ref().map(|route| Fact::new("Image of route", &route.route()));
        let local = self.image.as_ref().map(|image| Fact::new("Image of an engine", image));
        file.into_iter().chain(task).chain(route).chain(local).collect()
    }
}

fn wanted(context: &CommandContext, source: &ImageSource) -> Result<UnpackedImage, CommandError> {
    let image = WantedImage::read(context.settings, &context.environment, source);
    let typed = if let ImageSource::Named(typed) = source { std::slice::from_ref(typed) } else { &[] };
    let image = unknown_first(image, typed, context.settings, &context.environment.directory)?;
    let directory = &context.environment.temporary;
    context.until_stopped(async |stop| unpack::wanted(image, directory, stop, context.report).await)
}

fn local(context: &CommandContext, image: &str, directory: &Path) -> Result<UnpackedImage, CommandError> {
    let config = EngineConfig::read_lasting(context.settings, &context.environment)?;
    context.until_stopped(async |stop| {
        let engine = stop.run_stage("looking for an engine", Engine::connect(&config)).await?;
        stop.run_stage("unpacking the image", unpack::local(&engine, image, directory, context.report)).await
    })
}
