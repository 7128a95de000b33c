//! With `--publish payload`: asking the own task's definition where the worker looks for the image. A task that cannot be
//! asked goes on as if it had said nothing.

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
        Ok(Place { name, folder, file }) => {
            info!("task {} declares {name} as {}", by.task, folder.join(&file).display());
            (output.folder, output.file) = (folder, Some(file));
            let artifact = &mut config.plan.artifact;
            artifact.zstd_level = artifact.zstd_level.filter(|_| name.is_zstd());
            artifact.name = name;
        }
        Err(why) => warn!("{why}; the image goes to {}: --output says another place", output.folder.display()),
    }
}

/// Where a task declares its image.
struct Place {
    name: ArtifactName,
    folder: PathBuf,
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
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some(Place { name, folder: folder.to_owned(), file })
    });
    place.ok_or_else(|| match artifact {
        Some(name) => format!("task {task} declares no file as its artifact {name}"),
        None => format!("task {task} declares no image among its artifacts"),
    })
}
