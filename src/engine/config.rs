//! Which engine is wanted, where it could be, and what builds in it are given, as values. Reading them from settings is for
//! `config`.

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
    /// Which kind of engine is wanted.
    pub choice: EngineChoice,
    /// The one place to look at, where `DOCKER_HOST` or a docker context names one.
    pub address: Option<EngineAddress>,
    /// Where credentials for registries are.
    pub logins: RegistryLogins,
    /// What docker's configuration gives to builds.
    pub proxies: BuildProxies,
    /// `XDG_RUNTIME_DIR`, below which a user's own Docker and Podman listen.
    pub runtime_dir: Option<PathBuf>,
    /// What can be started where no engine answers.
    pub podman: Podman,
    /// How often builds are tried while a registry is in trouble, and how long one may say nothing.
    pub retry: RetryConfig,
}

keywords! {
    /// Which kind of engine is wanted.
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
    /// Whether the engine is one of our own for sure.
    #[must_use]
    pub fn is_managed(&self) -> bool {
        self.choice == EngineChoice::Managed
    }

    /// Whether it can become one of our own.
    #[must_use]
    pub fn may_be_managed(&self) -> bool {
        self.is_managed()
            || (self.choice == EngineChoice::Auto && self.address.is_none() && self.podman.program.is_some())
    }
}

/// The proxies that docker's client gives to builds, by the engine's address. Passwords can be in them.
#[derive(Clone, Default)]
pub struct BuildProxies(BTreeMap<String, BTreeMap<String, Option<String>>>);

/// What stands for all engines that have no proxies of their own.
const ANY_ENGINE: &str = "default";

/// How docker's configuration calls a proxy, and the variable that has it.
const PROXIES: [(&str, &str); 5] = [
    ("httpProxy", "HTTP_PROXY"),
    ("httpsProxy", "HTTPS_PROXY"),
    ("noProxy", "NO_PROXY"),
    ("ftpProxy", "FTP_PROXY"),
    ("allProxy", "ALL_PROXY"),
];

impl BuildProxies {
    /// As docker's configuration has them.
    #[must_use]
    pub fn new(proxies: BTreeMap<String, BTreeMap<String, Option<String>>>) -> Self {
        Self(proxies)
    }

    /// The variables for builds in the engine at `url`, in capital letters and in small ones.
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
    /// The program, where there is one on PATH.
    pub program: Option<PathBuf>,
    /// What it may see of our environment.
    pub environment: Vec<(&'static str, OsString)>,
    /// Its PATH.
    pub path: OsString,
}

impl Podman {
    /// A program that Podman would find.
    #[must_use]
    pub fn beside(&self, program: &str) -> Option<PathBuf> {
        let folders = self.path.to_str()?.split(':').filter(|folder| folder.starts_with('/'));
        folders.map(|folder| PathBuf::from(folder).join(program)).find(|path| path.is_file())
    }
}
