//! `lookup NAME…`: finds the tasks that have these images already. The tree computes the hashes; `lookup` decides whether an
//! index entry counts.

use std::fmt;

use serde::Serialize;
use tracing::info;

use super::arguments::ImageNames;
use super::{Answer, CommandContext};
use crate::config::settings::{ACCESS, INDEX, INDEXED, LIMITS, RETRIES, PLACE, SCHEME, SettingGroup};
use crate::config::LookupConfig;
use crate::context::{ContextHash, ImageName};
use crate::decision::lookup::{FoundEntry, LookupRequest};
use crate::job::CommandError;
use crate::job::lookup::{LookedUp, find_all};
use crate::job::shutdown::Shutdown;
use crate::taskcluster::{ArtifactName, Project, TaskId, to_milliseconds};

const HELP: &str = "\
Says which tasks have these images already: in the central project or, with --project, in that one.
An entry of the index counts only if its artifact is there, whole and unexpired.
Prints `NAME TASK_ID`, or `NAME -`, a line each.";

pub(super) const SETTINGS: &[SettingGroup] = &[PLACE, LIMITS, &[&SCHEME], INDEXED, &[&INDEX], ACCESS, RETRIES];

/// Say which tasks have these images already, in the central project or in the own one
#[derive(Debug, PartialEq, Eq, clap::Args)]
#[command(long_about = HELP)]
pub struct Args {
    #[command(flatten)]
    images: ImageNames,
}

impl Args {
    pub(super) fn run(self, context: &CommandContext) -> Result<Answer, CommandError> {
        let config = LookupConfig::read(context.settings, &context.surroundings)?;
        let names = &self.images.names(&config.place, context)?;
        let images = context.until_stopped(async |stop| lookup(config, names, stop).await)?;
        let lines: Vec<_> = images.iter().map(ToString::to_string).collect();
        context.answer(&images, &lines.join("\n"))
    }
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
    /// When it expires.
    expires: Option<String>,
}

impl fmt::Display for IndexedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.task_id.as_ref().map_or("-", TaskId::as_str))
    }
}

impl IndexedImage {
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
        };
        let Some(found) = found else { return nothing };
        Self {
            route: Some(found.namespace.route()),
            task_id: Some(found.at.task_id),
            run_id: Some(found.at.run_id),
            project: Some(found.project),
            artifact: Some(found.artifact),
            expires: Some(to_milliseconds(found.expires)),
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
