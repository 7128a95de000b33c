//! The definition of an existing image task, as its job.

use super::CommandError;
use crate::config::replay::Job;
use crate::taskcluster::{Deployment, Services, TaskId};

/// The job of a task from the queue.
pub(crate) async fn job(services: &Services, deployment: &Deployment, task: &TaskId) -> Result<Job, CommandError> {
    match services.queue.definition(task).await? {
        Some(definition) => Ok(Job::read(task, &definition)?),
        None => Err(CommandError::NoTask { task: task.clone(), deployment: deployment.root_url.clone() }),
    }
}
