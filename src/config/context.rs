//! The context of a run, read from flags, environment and file: its source, and what it must match.

use super::{
    Checkout, ConfigError, DryRunImage, ProcessEnvironment, SettingLayers, checkout, dockerfile_args, image, settings,
};
use crate::config::plan::{ContextPlan, ContextSource};
use crate::config::replay::Job;
use crate::context::{ContextLimits, ContextScheme, RepoPath};
use crate::net::HttpUrl;
use crate::taskcluster::ArtifactName;

/// Reads it. `image` is the image directory of a dry run, if there is one.
pub(super) fn read(
    settings: &SettingLayers,
    environment: &ProcessEnvironment,
    image: Option<&DryRunImage>,
) -> Result<ContextPlan, ConfigError> {
    let dry = settings.switch(&settings::DRY_RUN)?;
    let scheme: ContextScheme = settings.parse_or_default(&settings::HASH_SCHEME)?;
    let LocatedContext { source, directory } = match image {
        Some(DryRunImage { checkout, directory, args, .. }) => {
            let (checkout, directory, args) = (checkout.clone(), directory.clone(), args.clone());
            ContextSource::Directory { checkout, directory, args }.into()
        }
        None => context_source(settings, environment, dry)?,
    };
    if matches!(source, ContextSource::Directory { .. }) && scheme.of_directory().is_none() {
        return Err(ConfigError::Argument {
            what: format!(
                "HASH_SCHEME={scheme} is the hash of a packed file, which only taskgraph before version 12 can make from an image directory"
            ),
            hint: "give that file or its URL as --context, or compare nothing with --hash-scheme tar",
        });
    }
    if scheme == ContextScheme::Contents && directory.is_none() {
        match source {
            ContextSource::Artifact { .. } => {
                return Err(ConfigError::Argument {
                    what: "HASH_SCHEME=contents needs the image directory's path in the repository as CONTEXT_PATH, which with CONTEXT_TASK_ID is the artifact's name".to_owned(),
                    hint: "give the context as CONTEXT_URL",
                });
            }
            ContextSource::Url(_) | ContextSource::File(_) => {
                return Err(ConfigError::Missing {
                    setting: &settings::CONTEXT_PATH,
                    why: "HASH_SCHEME=contents hashes paths from the repository's root, like testing/docker/NAME",
                });
            }
            ContextSource::Directory { checkout: Checkout { root: None, .. }, .. } => {
                return Err(ConfigError::Missing {
                    setting: &settings::ROOT,
                    why: "HASH_SCHEME=contents hashes paths from the repository's root, and the image directory is in no checkout",
                });
            }
            // Its path is checked below.
            ContextSource::Directory { .. } => {}
        }
    }
    let hash = settings.parse(&settings::HASH)?;
    if hash.is_none() && !dry {
        return Err(ConfigError::Missing {
            setting: &settings::HASH,
            why: "a task needs the expected context hash, which `image-worker hash DIR` prints",
        });
    }
    let limits = image::limits(settings)?;
    Ok(ContextPlan { source, scheme, hash, directory, max_bytes: limits.max_bytes, max_entries: limits.max_entries })
}

/// A context's source.
struct LocatedContext {
    source: ContextSource,
    /// The image directory's path in the repository, where the source does not have it.
    directory: Option<RepoPath>,
}

impl From<ContextSource> for LocatedContext {
    fn from(source: ContextSource) -> Self {
        Self { source, directory: None }
    }
}

fn context_source(
    settings: &SettingLayers,
    environment: &ProcessEnvironment,
    dry: bool,
) -> Result<LocatedContext, ConfigError> {
    if let Some(given) = settings.get(&settings::CONTEXT)? {
        // A replay verifies it against the task's HASH.
        if !(dry || settings.is_replay()) {
            return Err(ConfigError::Combination(format!(
                "{} is for --dry-run: a task takes its context from CONTEXT_TASK_ID and CONTEXT_PATH, or from CONTEXT_URL",
                given.origin
            )));
        }
        if given.text.starts_with("http://") || given.text.starts_with("https://") {
            return with_path(settings, ContextSource::Url(given.parse()?));
        }
        let path = environment.directory.join(&given.text);
        if !path.exists() {
            return Err(given.wrong(format!("{} does not exist", path.display())));
        }
        if path.is_file() {
            return with_path(settings, ContextSource::File(path));
        }
        let (checkout, args) = (checkout(settings, &path)?, dockerfile_args(settings)?);
        return Ok(ContextSource::Directory { checkout, directory: path, args }.into());
    }
    task_source(settings)
}

/// The context that an existing task was given, from its definition alone.
pub fn of_task(settings: &SettingLayers, job: &Job) -> Result<ContextPlan, ConfigError> {
    let settings = &settings.of(job);
    let LocatedContext { source, directory } = task_source(settings)?;
    let ContextLimits { max_bytes, max_entries } = image::limits(settings)?;
    let scheme = settings.parse_or_default(&settings::HASH_SCHEME)?;
    Ok(ContextPlan { source, scheme, hash: settings.parse(&settings::HASH)?, directory, max_bytes, max_entries })
}

fn with_path(settings: &SettingLayers, source: ContextSource) -> Result<LocatedContext, ConfigError> {
    Ok(LocatedContext { source, directory: settings.parse(&settings::CONTEXT_PATH)? })
}

fn task_source(settings: &SettingLayers) -> Result<LocatedContext, ConfigError> {
    let url: Option<HttpUrl> = settings.parse(&settings::CONTEXT_URL)?;
    match (settings.parse(&settings::CONTEXT_TASK_ID)?, url) {
        (Some(task_id), None) => {
            let name = settings.require::<ArtifactName>(
                &settings::CONTEXT_PATH,
                "CONTEXT_TASK_ID needs the name of the artifact that has the context",
            )?;
            Ok(ContextSource::Artifact { task_id, name }.into())
        }
        (None, Some(url)) => with_path(settings, ContextSource::Url(url)),
        (Some(_), Some(_)) => Err(ConfigError::Combination(
            "CONTEXT_TASK_ID and CONTEXT_URL are both set: which of them has the context? Unset one".to_owned(),
        )),
        (None, None) => Err(ConfigError::Missing {
            setting: &settings::CONTEXT_TASK_ID,
            why: "there is no context: it is named by CONTEXT_TASK_ID and CONTEXT_PATH, or by CONTEXT_URL, or in a dry run by --context",
        }),
    }
}
