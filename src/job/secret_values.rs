//! The values of a build's secrets, read just before the build: from files, or from Taskcluster. `engine` passes them to the
//! build; nothing here prints them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use tracing::{info, warn};

use super::CommandError;
use crate::config::{ConfigError, settings};
use crate::dockerfile::secret_mounts::SecretMount;
use crate::engine::{BuildSecrets, SecretSource, SecretSources};
use crate::report::{Bytes, Hint, secrets};
use crate::taskcluster::Services;

/// BuildKit takes no larger ones.
const LARGEST: usize = 500 * 1024;

/// Why a secret has no value.
#[derive(Debug, thiserror::Error)]
pub enum SecretProblem {
    /// Its file cannot be read.
    #[error("the secret {id}: cannot read {}{}", path.display(), Hint("it must be there and readable"))]
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
    #[error(
        "the secret {id}, {from}, has more than {}, which is all that BuildKit takes{}",
        Bytes(LARGEST as u64),
        Hint("name the right file")
    )]
    TooLarge {
        /// Its id.
        id: String,
        /// Its source.
        from: String,
    },
    /// A step needs it, and it is not given.
    #[error(
        "line {line} of the Dockerfile requires the secret {id}, which is not given{}",
        Hint(format_args!(
            "give it with --secret id={id},src=FILE, or in DOCKER_BUILD_SECRETS (docs/engines.md, Secrets of a build)"
        ))
    )]
    NotGiven {
        /// Its id.
        id: String,
        /// The line of the step's instruction in the context's Dockerfile.
        line: usize,
    },
}

/// Compares what the Dockerfile asks for with what is given. A step runs without a secret that it does not require.
pub(super) fn compare(mounts: &[SecretMount], given: &SecretSources) -> Result<(), SecretProblem> {
    for SecretMount { id, is_required, line } in mounts.iter().filter(|mount| !given.0.contains_key(&mount.id)) {
        if *is_required {
            return Err(SecretProblem::NotGiven { id: id.clone(), line: *line });
        }
        warn!("line {line} of the Dockerfile asks for the secret {id}, which is not given: its step runs without it");
    }
    Ok(())
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
        let (what, hint) = (
            format!(
                "the build argument {name} looks like a secret, and everybody could read it in the image's history"
            ),
            "pass it with --secret",
        );
        if deny {
            return Err(ConfigError::Argument {
                what: format!("{what} (refused because of --deny-secret-args)"),
                hint,
            });
        }
        warn!("{what}: {hint}");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_a_step_requires_must_be_given() {
        let mount = |id: &str, is_required| SecretMount { id: id.to_owned(), is_required, line: 7 };
        let given: SecretSources = "id=npm,src=/x".parse().unwrap();
        assert!(compare(&[mount("npm", true), mount("gh", false)], &given).is_ok());
        let missing = compare(&[mount("npm", true), mount("gh", true)], &given).unwrap_err().to_string();
        assert!(
            missing.starts_with("line 7 of the Dockerfile requires the secret gh, which is not given; "),
            "{missing}"
        );
        assert!(missing.contains("--secret id=gh,src=FILE, or in DOCKER_BUILD_SECRETS"), "{missing}");
    }
}
