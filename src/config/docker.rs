//! docker's own configuration, in the directory that `DOCKER_CONFIG` names: the engine that docker's client uses, and the proxies
//! that it passes to builds. `registry` reads the credentials in the same file.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{ConfigError, ProcessEnvironment, SettingLayers, settings};
use crate::engine::{BuildProxies, DOCKER_SOCKET, EngineAddress, NamedBy, TlsFiles, engine_url};
use crate::net::Digest;

/// The name that means "no context".
const NO_CONTEXT: &str = "default";

/// docker's own configuration, as far as it concerns engines.
#[derive(Clone, Debug, Default)]
pub(super) struct DockerConfig {
    /// The directory; none without a home.
    pub(super) directory: Option<PathBuf>,
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
    /// Reads the configuration of the current user.
    pub(super) fn read(settings: &SettingLayers, environment: &ProcessEnvironment) -> Result<Self, ConfigError> {
        let Some(directory) = directory(settings, environment)? else { return Ok(Self::default()) };
        let File { current_context, proxies } = json(&directory.join("config.json"))?.unwrap_or_default();
        let current_context = current_context.filter(|name| !name.is_empty());
        Ok(Self {
            directory: Some(directory),
            current_context,
            proxies: BuildProxies::new(proxies.unwrap_or_default()),
        })
    }

    /// The engine of the context that is current for docker's client.
    pub(super) fn current(&self) -> Result<Option<EngineAddress>, ConfigError> {
        let (Some(directory), Some(name)) = (&self.directory, &self.current_context) else { return Ok(None) };
        let file = directory.join("config.json");
        let by = format!("currentContext in {}", file.display());
        let wrong = |why| ConfigError::File { path: file.clone(), why: format!("currentContext: {why}") };
        self.context(name, by).map_err(|problem| problem.into_config_error(wrong))
    }

    /// The engine of a context; none for the name that means "no context". `by` is the source of the name.
    pub(super) fn context(&self, name: &str, by: String) -> Result<Option<EngineAddress>, ContextProblem> {
        if name == NO_CONTEXT {
            return Ok(None);
        }
        let Some(directory) = &self.directory else {
            let why = "without HOME and DOCKER_CONFIG there is no docker context: set one of them";
            return Err(ContextProblem::Name(why.to_owned()));
        };
        // docker's client names the directories of contexts like this.
        let id = Digest::of(name.as_bytes()).to_string();
        let file = directory.join("contexts/meta").join(&id).join("meta.json");
        let Some(Meta { endpoints }) = json(&file)? else {
            return Err(ContextProblem::Name(format!(
                "there is no docker context {name:?} in {}: `docker context ls` tells those that there are, and DOCKER_CONTEXT=default takes none",
                directory.join("contexts").display()
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
        let certificates = directory.join("contexts/tls").join(&id).join("docker");
        let is_asked_for = certificates.is_dir() || endpoint.skip_tls_verify;
        let tls = (EngineAddress::is_remote(&url) && is_asked_for).then(|| TlsFiles {
            directory: certificates,
            asked_by: format!("the docker context {name}"),
            needs_ca: false,
        });
        Ok(Some(EngineAddress { url, named_by: NamedBy::Context { name: name.to_owned(), by }, tls }))
    }
}

/// Why a context gives no engine.
pub(super) enum ContextProblem {
    /// It cannot be read.
    Config(ConfigError),
    /// Another must be named.
    Name(String),
}

impl ContextProblem {
    /// Converts to a configuration error; `wrong` makes the error for a wrong name.
    pub(super) fn into_config_error(self, wrong: impl FnOnce(String) -> ConfigError) -> ConfigError {
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

/// The directory of docker's own configuration.
pub(super) fn directory(
    settings: &SettingLayers,
    environment: &ProcessEnvironment,
) -> Result<Option<PathBuf>, ConfigError> {
    let home = || (environment.variable)("HOME").map(|home| PathBuf::from(home).join(".docker"));
    Ok(settings.parse(&settings::DOCKER_CONFIG)?.or_else(home))
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
                "cannot be read ({error}); make it readable, or set DOCKER_CONFIG to another directory"
            )));
        }
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        // The position only: the error's own text can contain values, and some of them are credentials.
        wrong(format!(
            "is not as docker's client writes it; look at line {}, column {}, or set DOCKER_CONFIG to another directory",
            error.line(),
            error.column()
        ))
    })
}
