//! Which engine is wanted, and where it could be. Looking there, and starting one, is for the engine's own room.

use std::path::PathBuf;

use super::{ConfigError, Podman, Sources, Surroundings, settings};

/// Where to look for an engine.
#[derive(Clone, Debug, Default)]
pub struct EngineConfig {
    /// Which kind of engine is wanted.
    pub choice: EngineChoice,
    /// `DOCKER_HOST`
    pub docker_host: Option<String>,
    /// `XDG_RUNTIME_DIR`, below which a user's Podman listens.
    pub runtime_dir: Option<PathBuf>,
    /// What can be started where no engine answers.
    pub podman: Podman,
}

/// Which kind of engine is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineChoice {
    /// The first that answers.
    #[default]
    Auto,
    /// Docker Engine.
    Docker,
    /// Podman's service.
    Podman,
    /// A Podman service that the program starts for one job.
    Managed,
}

impl std::str::FromStr for EngineChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "docker" => Ok(Self::Docker),
            "podman" => Ok(Self::Podman),
            "managed" => Ok(Self::Managed),
            _ => Err(format!("{text:?} is not an engine: expected auto, docker, podman or managed")),
        }
    }
}

impl EngineConfig {
    /// Reads where to look for an engine.
    pub(crate) fn read(sources: &Sources, around: &Surroundings) -> Result<Self, ConfigError> {
        Ok(Self {
            choice: sources.parse_or_default(&settings::ENGINE)?,
            docker_host: docker_host(sources)?,
            runtime_dir: (around.environment)("XDG_RUNTIME_DIR").map(PathBuf::from),
            podman: Podman::look(around),
        })
    }

    /// The same for a verb whose images are to stay in the engine.
    pub(crate) fn read_lasting(sources: &Sources, around: &Surroundings) -> Result<Self, ConfigError> {
        let config = Self::read(sources, around)?;
        match sources.get(&settings::ENGINE)? {
            Some(given) if config.is_managed() => Err(given.wrong(
                "is for run and replay: a managed engine is gone with its job, and with it the image that this verb makes or needs; name another engine",
            )),
            _ => Ok(config),
        }
    }

    /// Whether the engine is one of our own for sure.
    #[must_use]
    pub fn is_managed(&self) -> bool {
        self.choice == EngineChoice::Managed
    }

    /// Whether it can become one of our own.
    #[must_use]
    pub fn may_be_managed(&self) -> bool {
        self.is_managed()
            || (self.choice == EngineChoice::Auto && self.docker_host.is_none() && self.podman.program.is_some())
    }
}

fn docker_host(sources: &Sources) -> Result<Option<String>, ConfigError> {
    let Some(given) = sources.get(&settings::DOCKER_HOST)? else { return Ok(None) };
    if ["unix://", "tcp://", "http://"].iter().any(|scheme| given.text.starts_with(scheme)) {
        return Ok(Some(given.text));
    }
    Err(given.wrong("is no address of an engine: expected unix://PATH or tcp://HOST:PORT"))
}
