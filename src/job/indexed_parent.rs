//! The parent of an image as built by CI: found in the index under its hash in this checkout. Callers load it.

use super::CommandError;
use super::image_definition::USUAL_NAMES;
use super::lookup::{self, LookedUp};
use super::shutdown::Shutdown;
use crate::config::LookupConfig;
use crate::context::ImageName;
use crate::decision::lookup::FoundEntry;
use crate::taskcluster::ArtifactName;

/// Finds the image of a parent, in the central project or in the own one, whatever the name of its artifact.
pub(super) async fn find(
    config: &LookupConfig,
    parent: &ImageName,
    stop: &Shutdown,
) -> Result<FoundEntry, CommandError> {
    let usual = USUAL_NAMES.iter().filter_map(|name| name.parse::<ArtifactName>().ok());
    let others = usual.filter(|name| *name != config.artifact);
    let mut hash = None;
    for artifact in std::iter::once(config.artifact.clone()).chain(others) {
        match lookup::find(LookupConfig { artifact, ..config.clone() }, parent, stop).await? {
            LookedUp { found: Some(found), .. } => return Ok(found),
            LookedUp { wanted, found: None } => hash = Some(wanted.hash),
        }
    }
    let projects = match &config.project {
        Some(project) if *project != config.central => format!("in {} and {project}", config.central),
        _ => format!("in {}", config.central),
    };
    match hash {
        Some(hash) => Err(CommandError::NotIndexed { parent: parent.clone(), hash, projects }),
        None => Err(CommandError::Bug(format!("{parent} was not looked up"))),
    }
}
