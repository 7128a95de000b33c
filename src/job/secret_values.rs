//! The values of a build's secrets, read just before the build: from files, or from Taskcluster. `engine` passes them to the
//! build; nothing here prints them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use tracing::{info, warn};

use super::CommandError;
use crate::config::{ConfigError, settings};
use crate::engine::{BuildSecrets, SecretSource, SecretSources};
use crate::report::{Bytes, secrets};
use crate::taskcluster::Services;

/// BuildKit takes no larger ones.
const LARGEST: usize = 500 * 1024;

/// Why a secret has no value.
#[derive(Debug, thiserror::Error)]
pub enum SecretProblem {
    /// Its file cannot be read.
    #[error("the secret {id}: cannot read {}; it must be there and readable", path.display())]
    Unreadable {
        /// Its id.
        id: String,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is no secret but something else.
    #[error("the secret {id}, {from}, has more than {}, which is all that BuildKit takes; name the right file", Bytes(LARGEST as u64))]
    TooLarge {
        /// Its id.
        id: String,
        /// Its source.
        from: String,
    },
}

/// Gets the values.
pub(super) async fn values(sources: &SecretSources, services: Option<&Services>) -> Result<BuildSecrets, CommandError> {
    let mut values = BTreeMap::new();
    for (id, source) in &sources.0 {
        let value = match source {
            SecretSource::File { file } => read(id, file)?,
            SecretSource::Taskcluster { taskcluster, key } => {
                let why = "a secret of the build is Taskcluster's";
                let services = services.ok_or(ConfigError::Missing { setting: &settings::ROOT_URL, why })?;
                services.secrets.get(taskcluster, key).await?.into_bytes()
            }
        };
        if value.len() > LARGEST {
            return Err(SecretProblem::TooLarge { id: id.clone(), from: source.to_string() }.into());
        }
        info!("the Dockerfile may ask for the secret {id}: {source}");
        values.insert(id.clone(), value);
    }
    let values = BuildSecrets::new(values);
    secrets::add_build_secrets(values.values());
    Ok(values)
}

/// Hides the build arguments that look secret, and warns about them, or refuses them: builders write them into the image.
pub(super) fn look_at_args(args: &BTreeMap<String, String>, deny: bool) -> Result<(), ConfigError> {
    secrets::add_args(args);
    for name in secrets::secret_args(args) {
        let what = format!(
            "the build argument {name} looks like a secret, and everybody could read it in the image's history: pass it with --secret"
        );
        if deny {
            return Err(ConfigError::Combination(format!("{what} (refused because of --deny-secret-args)")));
        }
        warn!("{what}");
    }
    Ok(())
}

fn read(id: &str, path: &Path) -> Result<Vec<u8>, SecretProblem> {
    let limit = LARGEST as u64 + 1;
    let mut value = Vec::new();
    let read =
        std::fs::File::open(path).and_then(|file| io::Read::read_to_end(&mut io::Read::take(file, limit), &mut value));
    read.map_err(|source| SecretProblem::Unreadable { id: id.to_owned(), path: path.to_owned(), source })?;
    Ok(value)
}
