//! Finds an image for those who take one by its name, its task or its route: which artifact of which task it is. `parent` takes it
//! from there.

use std::path::PathBuf;

use tracing::info;

use super::CommandError;
use super::image_source::Indexed;
use super::lookup::{self, LookedUp};
use super::named_image::image_names;
use super::shutdown::Shutdown;
use crate::config::{LoadFrom, LookupConfig, WantedImage};
use crate::context::ImageName;
use crate::decision::lookup::LookupRequest;
use crate::taskcluster::{ArtifactName, Deployment, Namespace, Services, TaskId, TaskRef, TaskRun};

/// Where an image is.
pub enum ImageLocation {
    /// An artifact that the index has.
    Indexed(Services, Indexed),
    /// A task that has it.
    Task(Services, TaskId),
    /// An archive on this machine.
    File(PathBuf),
}

/// An image that was found.
pub struct Located {
    /// Where it is.
    pub location: ImageLocation,
    /// Its name in its checkout, if it was named by that.
    pub name: Option<ImageName>,
}

/// Finds an image.
pub async fn locate(image: WantedImage, stop: &Shutdown) -> Result<Located, CommandError> {
    let location = match image.from {
        LoadFrom::File(path) => ImageLocation::File(path),
        LoadFrom::Task(task, deployment) => {
            stop.run_stage("looking at the task", of_task(task, &image.artifact, &deployment)).await?
        }
        LoadFrom::Route(namespace, deployment) => {
            stop.run_stage("looking into the index", in_index(&namespace, &deployment)).await?
        }
        LoadFrom::Named(typed, config) => {
            let names = image_names(std::slice::from_ref(&typed), &config.place, &image.directory)?;
            let name = names.into_iter().next().ok_or_else(|| CommandError::Bug(format!("{typed} is no image")))?;
            let location = by_name(name.clone(), *config, stop).await?;
            return Ok(Located { location, name: Some(name) });
        }
    };
    Ok(Located { location, name: None })
}

/// The image of a task, or of one of its runs. Of the last run the index may know more.
async fn of_task(
    task: TaskRef,
    artifact: &ArtifactName,
    deployment: &Deployment,
) -> Result<ImageLocation, CommandError> {
    let services = Services::new(deployment)?;
    let TaskRef { task_id, run, .. } = task;
    let status = match run {
        Some(_) => services.queue.known_status(&task_id).await?,
        None => None,
    };
    let last = status.and_then(|status| status.runs.last().map(|run| run.run_id));
    Ok(match run.filter(|run| last.is_some_and(|last| *run < last)) {
        Some(run_id) => {
            let at = TaskRun { task_id, run_id };
            ImageLocation::Indexed(services, Indexed::new(at, artifact.clone(), None))
        }
        None => ImageLocation::Task(services, task_id),
    })
}

/// The index entry of a namespace.
async fn in_index(namespace: &Namespace, deployment: &Deployment) -> Result<ImageLocation, CommandError> {
    let services = Services::new(deployment)?;
    let Some(entry) = services.index.find_task(namespace).await? else {
        let route = namespace.route();
        let what = format!("the index has nothing at {route}");
        return Err(CommandError::NoImage { what, hint: "name another route, or a task" });
    };
    info!("{} leads to task {}", namespace.route(), entry.task_id);
    Ok(match entry.image() {
        Some(data) => {
            let at = TaskRun { task_id: entry.task_id, run_id: data.run_id };
            ImageLocation::Indexed(services, Indexed::new(at, data.artifact.clone(), Some(&data)))
        }
        None => ImageLocation::Task(services, entry.task_id),
    })
}

/// The task that has an image of the checkout in its current state.
async fn by_name(name: ImageName, config: LookupConfig, stop: &Shutdown) -> Result<ImageLocation, CommandError> {
    let services = Services::new(&config.deployment)?;
    let projects = match &config.project {
        Some(project) if *project != config.central => format!("neither {} nor {project} has it", config.central),
        _ => format!("{} does not have it", config.central),
    };
    match lookup::find(config, &name, stop).await? {
        LookedUp { found: Some(found), .. } => {
            info!("{} leads to {}", found.namespace.route(), found.at);
            let indexed = Indexed::new(found.at, found.artifact, found.data.as_ref());
            Ok(ImageLocation::Indexed(services, indexed))
        }
        LookedUp { wanted: LookupRequest { hash, .. }, found: None } => Err(CommandError::NoImage {
            what: format!("no task has the image {name} of hash {hash}: {projects}"),
            hint: "push, and a task makes it, or build it here",
        }),
    }
}
