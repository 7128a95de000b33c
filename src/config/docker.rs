//! docker's own configuration, the folder that `DOCKER_CONFIG` names: which engine docker's client speaks to, and the proxies
//! that it gives to builds. Credentials, which are in the same file, are for `registry`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{ConfigError, ProcessEnvironment, SettingLayers, settings};
use crate::engine::{BuildProxies, DOCKER_SOCKET, EngineAddress, NamedBy, TlsFiles, engine_url};
use crate::net::Digest;

/// The name that stands for no context.
const NO_CONTEXT: &str = "default";

/// docker's own configuration, as far as it is about engines.
#[derive(Clone, Debug, Default)]
pub(super) struct DockerConfig {
    /// The folder; none without a home.
    pub(super) folder: Option<PathBuf>,
    current_context: Option<String>,
    pub(super) proxies: BuildProxies,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    current_context: Option<String>,
    proxies: Option<BTreeMap<String, BTreeMap<String, Option<String>>>>,
}

/// What docker's client keeps of a context.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Meta {
    endpoints: BTreeMap<String, Endpoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Endpoint {
    host: Option<String>,
    #[serde(default, rename = "SkipTLSVerify")]
    skip_tls_verify: bool,
}

impl DockerConfig {
    /// Reads the configuration of whoever runs the program.
    pub(super) fn read(sources: &SettingLayers, around: &ProcessEnvironment) -> Result<Self, ConfigError> {
        let Some(folder) = folder(sources, around)? else { return Ok(Self::default()) };
        let File { current_context, proxies } = json(&folder.join("config.json"))?.unwrap_or_default();
        let current_context = current_context.filter(|name| !name.is_empty());
        Ok(Self { folder: Some(folder), current_context, proxies: BuildProxies::new(proxies.unwrap_or_default()) })
    }

    /// The engine of the context that is current for docker's client.
    pub(super) fn current(&self) -> Result<Option<EngineAddress>, ConfigError> {
        let (Some(folder), Some(name)) = (&self.folder, &self.current_context) else { return Ok(None) };
        let file = folder.join("config.json");
        let by = format!("currentContext in {}", file.display());
        let wrong = |why| ConfigError::File { path: file.clone(), why: format!("currentContext: {why}") };
        self.context(name, by).map_err(|problem| problem.told(wrong))
    }

    /// The engine of a context; none for the name that stands for no context. `by` says who names it.
    pub(super) fn context(&self, name: &str, by: String) -> Result<Option<EngineAddress>, ContextProblem> {
        if name == NO_CONTEXT {
            return Ok(None);
        }
        let Some(folder) = &self.folder else {
            let why = "without HOME and DOCKER_CONFIG there is no docker context: set one of them";
            return Err(ContextProblem::Name(why.to_owned()));
        };
        // As docker's client names the folders of contexts.
        let id = Digest::of(name.as_bytes()).to_string();
        let file = folder.join("contexts/meta").join(&id).join("meta.json");
        let Some(Meta { endpoints }) = json(&file)? else {
            return Err(ContextProblem::Name(format!(
                "there is no docker context {name:?} in {}: `docker context ls` tells those that there are, and DOCKER_CONTEXT=default takes none",
                folder.join("contexts").display()
            )));
        };
        let Some(endpoint) = endpoints.get("docker") else {
            return Err(ContextProblem::Name(format!(
                "the docker context {name:?} is not about an engine of docker's; take another"
            )));
        };
        let host = endpoint.host.as_deref().unwrap_or(DOCKER_SOCKET);
        let url =
            engine_url(host).map_err(|why| ContextProblem::Name(format!("the docker context {name:?}: {why}")))?;
        let certificates = folder.join("contexts/tls").join(&id).join("docker");
        let is_asked_for = certificates.is_dir() || endpoint.skip_tls_verify;
        let tls = (EngineAddress::is_remote(&url) && is_asked_for).then(|| TlsFiles {
            folder: certificates,
            asked_by: format!("the docker context {name}"),
            needs_ca: false,
        });
        Ok(Some(EngineAddress { url, named_by: NamedBy::Context { name: name.to_owned(), by }, tls }))
    }
}

/// Why a context leads to no engine.
pub(super) enum ContextProblem {
    /// It cannot be read.
    Config(ConfigError),
    /// Another must be named.
    Name(String),
}

impl ContextProblem {
    /// The error; `wrong` is for what is wrong with the name.
    pub(super) fn told(self, wrong: impl FnOnce(String) -> ConfigError) -> ConfigError {
        match self {
            Self::Config(error) => error,
            Self::Name(why) => wrong(why),
        }
    }
}

impl From<ConfigError> for ContextProblem {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// The folder of docker's own configuration.
pub(super) fn folder(sources: &SettingLayers, around: &ProcessEnvironment) -> Result<Option<PathBuf>, ConfigError> {
    let home = || (around.environment)("HOME").map(|home| PathBuf::from(home).join(".docker"));
    Ok(sources.parse(&settings::DOCKER_CONFIG)?.or_else(home))
}

/// A file of docker's; none if it is not there.
fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ConfigError> {
    let wrong = |why| ConfigError::File { path: path.to_owned(), why };
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => {
            return Err(wrong(format!(
                "cannot be read ({error}); make it readable, or set DOCKER_CONFIG to another folder"
            )));
        }
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        // The place only: in the error's own words can be values, and some of them are credentials.
        wrong(format!(
            "is not as docker's client writes it; look at line {}, column {}, or set DOCKER_CONFIG to another folder",
            error.line(),
            error.column()
        ))
    })
}
