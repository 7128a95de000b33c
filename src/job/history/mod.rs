//! `history`: an image over its pushes, from the index and from the documents beside each build. Nothing that one build lacks, and
//! no document that is wrong, hides the others.
//!
//! - `pushes`: the index's entries. `build`: what is known about the build of an entry. `documents`: the parts of the documents
//!   that are read.
//! - `change`: what a push changed. `display`: a table for a terminal. `page`: a page for a browser; `plot`: its drawings, `markup` its texts.

mod build;
mod change;
mod display;
mod documents;
mod markup;
mod page;
mod plot;
mod pushes;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use futures_util::stream::{self, StreamExt as _};
use jiff::Timestamp;
use serde::Serialize;

use self::build::{Build, BuildFacts, Builds};
use self::change::{Change, Snapshot};
use self::pushes::{BuiltBy, IndexedPush};
use crate::config::HistoryConfig;
use crate::context::{ContextHash, ImageName};
use crate::job::CommandError;
use crate::job::shutdown::Shutdown;
use crate::net::transfer::Storage;
use crate::taskcluster::{Project, Services, TaskId};

/// The number of builds that are read at once. Each takes five requests side by side, so that at most 30 are under way.
const AT_ONCE: usize = 6;

/// An image over its pushes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// The image.
    pub image: ImageName,
    /// The project that it is indexed for.
    pub project: Project,
    /// The deployment, for links.
    #[serde(skip)]
    pub root_url: String,
    /// The pushes, the newest first.
    pub pushes: Vec<Push>,
    /// Whether the index has earlier pushes that are not listed.
    pub more: bool,
}

/// A push.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Push {
    /// When it was.
    pub date: Timestamp,
    /// Where the index has it.
    pub route: String,
    /// The task that has its image.
    pub task_id: TaskId,
    /// The run that has it, where the index says so.
    pub run_id: Option<u32>,
    /// Whether its task was made for this push; otherwise the push uses an earlier image.
    pub built: bool,
    /// The hash of the context that the image was made from.
    pub context_hash: Option<ContextHash>,
    /// The size of the archive in bytes.
    pub archive_size: Option<u64>,
    /// What is known about the image's build.
    #[serde(flatten)]
    pub build: BuildFacts,
    /// What has changed since the push before; none if there is none.
    pub change: Option<Change>,
}

/// The history of an image.
pub async fn history(config: &HistoryConfig, image: &ImageName, stop: &Shutdown) -> Result<History, CommandError> {
    let services = Services::new(&config.deployment)?;
    let storage = Storage::new(config.deployment.retry)?;
    let listed = stop.run_stage("listing the pushes", pushes::newest(&services.index, config, image)).await?;
    if listed.wanted == 0 {
        return Err(nothing(config, image));
    }
    let builds = Builds { services: &services, storage: &storage };
    let reading = async { Ok::<_, CommandError>(read_builds(&builds, &listed.pushes).await) };
    let read = stop.run_stage("reading the builds' documents", reading).await?;
    let mut pushes = described(&listed.pushes, &read);
    pushes.truncate(listed.wanted);
    let root_url = config.deployment.root_url.to_string().trim_end_matches('/').to_owned();
    Ok(History { image: image.clone(), project: config.project.clone(), root_url, pushes, more: listed.more })
}

fn nothing(config: &HistoryConfig, image: &ImageName) -> CommandError {
    let since = config.since.map(|since| format!(" since {since:.0}")).unwrap_or_default();
    let hint = match config.since {
        Some(_) => "name an earlier date with --since, or another project with --project",
        None => "name another project with --project",
    };
    CommandError::NoImage { what: format!("the index has no push of {image} for {}{since}", config.project), hint }
}

/// The build of each task that the pushes name, each read once.
async fn read_builds(builds: &Builds<'_>, pushes: &[IndexedPush]) -> HashMap<BuiltBy, Build> {
    let wanted: HashSet<BuiltBy> = pushes.iter().map(|push| push.by.clone()).collect();
    let read = async |by: BuiltBy| {
        let build = builds.read(&by).await;
        (by, build)
    };
    stream::iter(wanted).map(read).buffer_unordered(AT_ONCE).collect().await
}

/// The pushes with their builds, each compared with the one before it.
fn described(pushes: &[IndexedPush], builds: &HashMap<BuiltBy, Build>) -> Vec<Push> {
    let unknown = Build::default();
    let described = pushes.iter().enumerate().map(|(number, push)| {
        let now = Snapshot::of(push, builds.get(&push.by).unwrap_or(&unknown));
        let before = pushes.get(number + 1);
        let before = before.map(|push| Snapshot::of(push, builds.get(&push.by).unwrap_or(&unknown)));
        let is_oldest_of_task = || !pushes[number + 1..].iter().any(|earlier| earlier.by == push.by);
        Push {
            date: push.date,
            route: push.namespace.route(),
            task_id: push.by.task_id.clone(),
            run_id: push.by.run_id,
            built: now.build.made_for.map_or_else(is_oldest_of_task, |made_for| made_for == push.pushed),
            context_hash: now.context_hash,
            archive_size: push.archive_size,
            build: now.build.facts.clone(),
            change: before.map(|before| change::between(&before, &now)),
        }
    });
    described.collect()
}

impl History {
    /// The page for a browser.
    #[must_use]
    pub fn page(&self) -> String {
        page::page(self)
    }
}
