//! The settings of the engine as values: which engine to use, where to look for it, and what its builds get. `config` reads
//! them from the environment and the command line.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use super::EngineAddress;
use crate::net::registry::RegistryLogins;
use crate::net::retry::RetryConfig;
use crate::report::keywords;

/// Where to look for an engine.
#[derive(Clone, Debug, Default)]
pub struct EngineConfig {
    /// The kind of engine to use.
    pub choice: EngineChoice,
    /// The only address to try, if `DOCKER_HOST` or a docker context names one.
    pub address: Option<EngineAddress>,
    /// The credentials for registries.
    pub logins: RegistryLogins,
    /// The proxies that docker's configuration sets for builds.
    pub proxies: BuildProxies,
    /// `XDG_RUNTIME_DIR`, the parent of the sockets of a user's own Docker and Podman.
    pub runtime_dir: Option<PathBuf>,
    /// The Podman to start if no engine answers.
    pub podman: Podman,
    /// How often a build is tried when a registry has a temporary problem, and how long a registry may send nothing.
    pub retry: RetryConfig,
}

keywords! {
    /// The kind of engine to use.
    #[derive(Default)]
    pub enum EngineChoice, "an engine" {
        /// The first that answers.
        #[default]
        Auto = "auto",
        /// Docker Engine.
        Docker = "docker",
        /// Podman's service.
        Podman = "podman",
        /// A Podman service that the program starts for one job.
        Managed = "managed",
    }
}

impl EngineConfig {
    /// Whether the engine is certainly a managed one.
    #[must_use]
    pub fn is_managed(&self) -> bool {
        self.choice == EngineChoice::Managed
    }

    /// Whether the engine can be a managed one.
    #[must_use]
    pub fn may_be_managed(&self) -> bool {
        self.is_managed()
            || (self.choice == EngineChoice::Auto && self.address.is_none() && self.podman.program.is_some())
    }
}

/// The proxies that docker's client passes to builds, by the engine's address. They can contain passwords.
#[derive(Clone, Default)]
pub struct BuildProxies(BTreeMap<String, BTreeMap<String, Option<String>>>);

/// The key for all engines that have no proxies of their own.
const ANY_ENGINE: &str = "default";

/// The name of a proxy in docker's configuration, and the variable for it.
const PROXIES: [(&str, &str); 5] = [
    ("httpProxy", "HTTP_PROXY"),
    ("httpsProxy", "HTTPS_PROXY"),
    ("noProxy", "NO_PROXY"),
    ("ftpProxy", "FTP_PROXY"),
    ("allProxy", "ALL_PROXY"),
];

impl BuildProxies {
    /// From docker's configuration.
    #[must_use]
    pub fn new(proxies: BTreeMap<String, BTreeMap<String, Option<String>>>) -> Self {
        Self(proxies)
    }

    /// The variables for builds in the engine at `url`, in upper case and in lower case.
    #[must_use]
    pub fn of(&self, url: &str) -> BTreeMap<String, String> {
        let Some(proxies) = self.0.get(url).or_else(|| self.0.get(ANY_ENGINE)) else { return BTreeMap::new() };
        let set = |key| proxies.get(key)?.clone().filter(|value: &String| !value.is_empty());
        let set = PROXIES.iter().filter_map(|(key, variable)| Some((*variable, set(*key)?)));
        set.flat_map(|(name, value)| [(name.to_owned(), value.clone()), (name.to_lowercase(), value)]).collect()
    }
}

impl fmt::Debug for BuildProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BuildProxies").field(&self.0.keys()).finish()
    }
}

/// A Podman to start.
#[derive(Clone, Debug, Default)]
pub struct Podman {
    /// The program, if there is one on PATH.
    pub program: Option<PathBuf>,
    /// The variables of our environment that it gets.
    pub environment: Vec<(&'static str, OsString)>,
    /// Its PATH.
    pub path: OsString,
}

impl Podman {
    /// The path of a program that Podman would find.
    #[must_use]
    pub fn beside(&self, program: &str) -> Option<PathBuf> {
        let directories = self.path.to_str()?.split(':').filter(|directory| directory.starts_with('/'));
        directories.map(|directory| PathBuf::from(directory).join(program)).find(|path| path.is_file())
    }
}
