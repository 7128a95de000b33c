//! `why`: what changed an image's hash, between two builds or between a build and the checkout. What the hash is made of comes
//! from the tasks' definitions and the tree. Files are compared by the contexts themselves, which are fetched and verified as
//! `run` does it, and only if their hashes differ.
//!
//! - `side`: one of the two that are compared. `compare`: what differs. `text_diff`: a bounded diff of two texts. `display`: the
//!   answer for a terminal.

mod compare;
mod display;
mod side;
#[cfg(test)]
mod tests;
mod text_diff;

use crate::config::{ConfigError, NamedImage, SettingLayers, WhyConfig};
use crate::job::CommandError;
use crate::job::fetch::Fetcher;
use crate::job::shutdown::Shutdown;
use crate::job::work_dir::WorkDir;
use crate::net::blocking::blocking;
use crate::net::transfer::Storage;
use crate::report::Report;
use crate::taskcluster::{Services, TaskId, TaskRef};
pub use compare::Explanation;
use side::{Side, Tasks};

/// What is compared.
#[derive(Clone, Debug)]
pub enum Compared {
    /// An image of the checkout, with a build of it: of this task, or the newest in the index.
    Checkout(Box<NamedImage>, Option<TaskRef>),
    /// Two builds, the earlier one first.
    Builds(TaskRef, TaskRef),
}

/// Explains the difference between two hashes of an image.
pub async fn why(
    config: &WhyConfig,
    compared: Compared,
    settings: &SettingLayers<'_>,
    report: &Report,
    stop: &Shutdown,
) -> Result<Explanation, CommandError> {
    let services = Services::new(&config.deployment)?;
    let tasks = Tasks { services: &services, config, settings };
    let [before, after] = match compared {
        Compared::Checkout(named, task) => {
            let task = task.map(|task| task.task_id);
            stop.run_stage("looking for the build", with_checkout(&tasks, *named, task)).await?
        }
        Compared::Builds(one, other) => {
            let both = async { tokio::try_join!(tasks.build(&one.task_id, None), tasks.build(&other.task_id, None)) };
            let (before, after) = stop.run_stage("fetching the tasks' definitions", both).await?;
            [before, after]
        }
    };
    if before.image != after.image {
        let (one, other) = (&before.image, &after.image);
        let what = format!("these are builds of two images, {one} and {other}");
        return Err(ConfigError::Argument { what, hint: "name two builds of one image" }.into());
    }
    if before.has_the_context_of(&after) {
        return Ok(compare::explain(&before, &after, Vec::new()));
    }
    let work_dir = WorkDir::after_removing_stale(&config.temporary)
        .map_err(|source| CommandError::Write { path: config.temporary.clone(), source })?;
    let storage = Storage::new(config.deployment.retry)?;
    let image = &before.image;
    let fetcher = Fetcher { services: Some(&services), storage: &storage, report, work_dir: work_dir.path(), image };
    let both = async { tokio::try_join!(tasks.contents(&before, &fetcher), tasks.contents(&after, &fetcher)) };
    let (old, new) = stop.run_stage("fetching the contexts", both).await?;
    let (before, after) = (before.with(&old), after.with(&new));
    let files = blocking(move || compare::changed_files(&old, &new)).await;
    let files = files.map_err(|source| CommandError::Read { path: work_dir.path().to_owned(), source })?;
    Ok(compare::explain(&before, &after, files))
}

/// A build, and the image in the checkout, hashed in the same scheme.
async fn with_checkout(tasks: &Tasks<'_>, named: NamedImage, task: Option<TaskId>) -> Result<[Side; 2], CommandError> {
    let build = match task {
        Some(task) => tasks.build(&task, None).await?,
        None => tasks.newest(&side::name(&named).await?).await?,
    };
    // Only the same taskgraph makes the same packed file again.
    let scheme = build.scheme.of_directory().unwrap_or_default();
    let checkout = side::checkout(NamedImage { scheme, ..named }, build.image.clone()).await?;
    Ok([build, checkout])
}
