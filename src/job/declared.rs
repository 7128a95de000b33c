//! With `--publish payload`: reads the own task's definition for the path where the worker expects the image. If it cannot be
//! read, the job goes on as if it declared no image.

use std::path::{Path, PathBuf};

use tracing::{info, warn};

use crate::config::{Config, DeclaredBy, DeclaredImage, Destination};
use crate::report::ErrorChain;
use crate::taskcluster::{ArtifactName, Services};

/// Lets the image go where the task declares it.
pub(super) async fn settle(config: &mut Config, services: Option<&Services>) {
    let (Some(by), Some(services)) = (config.declared_by.take(), services) else { return };
    let Destination::Payload(output) = &mut config.destination else { return };
    match place(&by, services).await {
        Ok(Place { name, directory, file }) => {
            info!("task {} declares {name} as {}", by.task, directory.join(&file).display());
            (output.directory, output.file) = (directory, Some(file));
            let artifact = &mut config.plan.artifact;
            artifact.zstd_level = artifact.zstd_level.filter(|_| name.is_zstd());
            artifact.name = name;
        }
        Err(why) => warn!("{why}; the image goes to {}: --output says another place", output.directory.display()),
    }
}

/// Where a task declares its image.
struct Place {
    name: ArtifactName,
    directory: PathBuf,
    file: String,
}

async fn place(DeclaredBy { task, artifact }: &DeclaredBy, services: &Services) -> Result<Place, String> {
    let definition = match services.queue.definition(task).await {
        Ok(Some(definition)) => definition,
        Ok(None) => return Err(format!("the queue knows no task {task}")),
        Err(error) => return Err(format!("cannot read the definition of task {task}: {}", ErrorChain(&error))),
    };
    let image = DeclaredImage::find(&definition["payload"]["artifacts"], artifact.as_ref());
    let place = image.and_then(|DeclaredImage { name, path }| {
        let path = path?;
        let file = path.file_name()?.to_str()?.to_owned();
        let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some(Place { name, directory: directory.to_owned(), file })
    });
    place.ok_or_else(|| match artifact {
        Some(name) => format!("task {task} declares no file as its artifact {name}"),
        None => format!("task {task} declares no image among its artifacts"),
    })
}
