//! `lookup NAME…`: finds the tasks that have these images already. The tree computes the hashes; `lookup` decides whether an
//! index entry counts.

use std::collections::BTreeSet;
use std::fmt;

use clap::builder::NonEmptyStringValueParser;
use jiff::Timestamp;
use serde::Serialize;
use tracing::info;

use super::{Answer, CommandContext};
use crate::config::settings::{ACCESS, EXPIRES_WITHIN, INDEX, INDEXED, LIMITS, PLACE, RETRIES, SCHEME, SettingGroup};
use crate::config::{ConfigError, LookupConfig};
use crate::context::{ContextHash, ImageName};
use crate::decision::lookup::{FoundEntry, LookupRequest};
use crate::job::CommandError;
use crate::job::lookup::{LookedUp, TreeImages, find_all, find_expiring};
use crate::job::named_image::{image_names, unknown_first};
use crate::job::shutdown::Shutdown;
use crate::report::counted;
use crate::taskcluster::{ArtifactName, Project, TaskId, TimeSpan, to_milliseconds};

const HELP: &str = "\
Says which tasks have these images already: in the central project or, with --project, in that one.
An entry of the index counts only if its artifact is there, whole and unexpired.
Prints `NAME TASK_ID`, or `NAME -`, a line each.

With --expires-within it prints `NAME TASK_ID EXPIRES` of images that will not be found any more after that time, and
`NAME - -` of those that are not found now: perhaps they have expired. The exit code is 10 if it prints any, as a cron job
needs it.";

pub(super) const SETTINGS: &[SettingGroup] =
    &[&[&EXPIRES_WITHIN], PLACE, LIMITS, &[&SCHEME], INDEXED, &[&INDEX], ACCESS, RETRIES];

/// Say which tasks have these images already, in the central project or in the own one
#[derive(Debug, PartialEq, Eq, clap::Args)]
#[command(long_about = HELP)]
pub struct Args {
    /// The image, or the path of its directory; with --expires-within all images of the tree if none is named
    #[arg(id = "names", value_name = "NAME|PATH", value_parser = NonEmptyStringValueParser::new(), num_args = 0..)]
    typed: Vec<String>,
}

impl Args {
    pub(super) fn run(self, context: &CommandContext) -> Result<Answer, CommandError> {
        let within = context.settings.parse(&EXPIRES_WITHIN)?;
        if self.typed.is_empty() && within.is_none() {
            let hint = "name one, <NAME|PATH>, or list what expires, with --expires-within 14d";
            return Err(ConfigError::Argument { what: "no image is named".to_owned(), hint }.into());
        }
        let config = LookupConfig::read(context.settings, &context.environment);
        let config = unknown_first(config, &self.typed, context.settings, &context.environment.directory)?;
        let images = if self.typed.is_empty() {
            TreeImages::read(&config.place)?
        } else {
            let names = image_names(&self.typed, &config.place, &context.environment.directory)?;
            TreeImages { names, versioned: BTreeSet::new() }
        };
        match within {
            None => {
                let images = context.until_stopped(async |stop| lookup(config, &images.names, stop).await)?;
                let lines: Vec<_> = images.iter().map(ToString::to_string).collect();
                context.answer(&images, &lines.join("\n"))
            }
            Some(within) => expiring(config, &images, within, context),
        }
    }
}

/// Lists what expires; an error if there is something.
fn expiring(
    config: LookupConfig,
    images: &TreeImages,
    within: TimeSpan,
    context: &CommandContext,
) -> Result<Answer, CommandError> {
    let time = within.after(config.now);
    let mut found = context.until_stopped(async |stop| find_expiring(config, &images.names, time, stop).await)?;
    found.retain(|image| image.found.is_some() || !images.versioned.contains(&image.wanted.image));
    let summary = summary(&found, within);
    let found: Vec<_> = found.into_iter().map(|LookedUp { wanted, found }| IndexedImage::new(wanted, found)).collect();
    let Some(summary) = summary else {
        info!("{} looked up: each lasts longer than {within}", counted(images.names.len(), "image"));
        return if context.json { context.answer(&found, "") } else { Ok(Answer::of(String::new())) };
    };
    let lines: Vec<_> = found.iter().map(IndexedImage::with_expiry).collect();
    (context.print)(&context.answer(&found, &lines.join("\n"))?.text)?;
    Err(CommandError::Diagnostics { what: summary, hint: "" })
}

/// What expires, in a line; none if nothing does.
fn summary(images: &[LookedUp], within: TimeSpan) -> Option<String> {
    let first =
        images.iter().filter_map(|image| Some((image.found.as_ref()?.lasts_until(), &image.wanted.image))).min();
    let expiring = images.iter().filter(|image| image.found.is_some()).count();
    let is_one = |count| if count == 1 { "is" } else { "are" };
    let missing = images.len() - expiring;
    let soon = first.map(|(time, image)| {
        format!(
            "{} of the index {} gone within {within}, {image} first, at {time:.0}",
            counted(expiring, "image"),
            is_one(expiring)
        )
    });
    let gone = (missing > 0).then(|| format!("{} {} not in the index", counted(missing, "image"), is_one(missing)));
    let all: Vec<_> = soon.into_iter().chain(gone).collect();
    // One that is not there needs no switch.
    let hint = if expiring > 0 {
        "rebuild what expires: `decide` with --renew-within, or with --rebuild NAME"
    } else {
        "`decide` adds a task for each that a task of its graph uses"
    };
    (!all.is_empty()).then(|| format!("{}; {hint}", all.join(", and ")))
}

/// What is known about one image.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct IndexedImage {
    /// Its name.
    name: ImageName,
    /// The hash in the `.hash.` route.
    hash: ContextHash,
    /// The hash of its context.
    context_hash: ContextHash,
    /// The route to it. This and all fields below are set only if the image exists.
    route: Option<String>,
    /// The task that has it.
    task_id: Option<TaskId>,
    /// The run that has it.
    run_id: Option<u32>,
    /// The project that it is indexed for.
    project: Option<Project>,
    /// The name of its artifact.
    artifact: Option<ArtifactName>,
    /// When its artifact expires.
    expires: Option<String>,
    /// When the index forgets it.
    index_expires: Option<String>,
    /// The earlier of the two.
    #[serde(skip)]
    lasts_until: Option<Timestamp>,
}

impl fmt::Display for IndexedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.task_id.as_ref().map_or("-", TaskId::as_str))
    }
}

impl IndexedImage {
    /// The same, and when it cannot be found any more.
    fn with_expiry(&self) -> String {
        format!("{self} {}", self.lasts_until.map_or("-".to_owned(), |time| format!("{time:.0}")))
    }

    fn new(wanted: LookupRequest, found: Option<FoundEntry>) -> Self {
        let LookupRequest { image: name, hash, context: context_hash, .. } = wanted;
        let nothing = Self {
            name,
            hash,
            context_hash,
            route: None,
            task_id: None,
            run_id: None,
            project: None,
            artifact: None,
            expires: None,
            index_expires: None,
            lasts_until: None,
        };
        let Some(found) = found else { return nothing };
        let lasts_until = Some(found.lasts_until());
        Self {
            route: Some(found.namespace.route()),
            task_id: Some(found.at.task_id),
            run_id: Some(found.at.run_id),
            project: Some(found.project),
            artifact: Some(found.artifact),
            expires: Some(to_milliseconds(found.expires)),
            index_expires: Some(to_milliseconds(found.indexed_until)),
            lasts_until,
            ..nothing
        }
    }
}

/// Looks the images up; the answers are in the order of the names.
async fn lookup(config: LookupConfig, names: &[ImageName], stop: &Shutdown) -> Result<Vec<IndexedImage>, CommandError> {
    let images = find_all(config, names, stop).await?;
    info!("{} of {} images are there", images.iter().filter(|image| image.found.is_some()).count(), images.len());
    Ok(images.into_iter().map(|LookedUp { wanted, found }| IndexedImage::new(wanted, found)).collect())
}
