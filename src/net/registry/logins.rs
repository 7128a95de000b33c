//! Where credentials for registries are, and in which order they count.

use std::fmt;
use std::path::PathBuf;

/// Where credentials for registries are: in docker's format, each of which can name credential helpers.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RegistryLogins {
    /// `DOCKER_AUTH_CONFIG`, which wins over all files; a secret.
    pub text: Option<String>,
    /// `REGISTRY_AUTH_FILE`, then docker's own `config.json`. Missing files are skipped.
    pub files: Vec<PathBuf>,
}

impl fmt::Debug for RegistryLogins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text.as_ref().map(|_| "DOCKER_AUTH_CONFIG");
        write!(f, "RegistryLogins({text:?}, {:?})", self.files)
    }
}
