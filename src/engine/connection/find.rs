//! Finds an engine. `places` chooses the addresses to try from the configuration alone, so that the choice can be tested
//! without an engine. `Engine::connect` tries them.

use std::time::Duration;

use bollard::Docker;
use tracing::info;

use super::address::{Address, tls_problem};
use super::client::client;
use crate::engine::build::pulling::Access;
use crate::engine::cleanup::tracker::ResourceTracker;
use crate::engine::driver::{self, DockerEngine, EngineDriver};
use crate::engine::{Engine, EngineError, EngineInfo};
use crate::engine::{EngineAddress, EngineChoice, EngineConfig, NamedBy};
use crate::report::ErrorChain;

/// bollard's timeout runs until the headers of a reply come. A build sends none before the whole context is uploaded, an export
/// none before the whole image is prepared. So the timeout is a day; the task's own limit applies, too.
const ANSWER_TIMEOUT: Duration = Duration::from_hours(24);

/// How long a ping may take. A running engine answers at once, but a busy one was observed to take 10 s. A socket that accepts
/// connections but does not answer is not an engine.
pub(in crate::engine) const PING_TIMEOUT: Duration = Duration::from_secs(30);

/// The addresses where an engine may listen, in the order in which they are tried.
pub(in crate::engine) fn places(config: &EngineConfig) -> Vec<EngineAddress> {
    if let Some(address) = &config.address {
        return vec![address.clone()];
    }
    // A managed engine is started, not searched for. But killed runs may have left something in all of these engines.
    let is_meant = |driver: &dyn EngineDriver| match config.choice {
        EngineChoice::Auto | EngineChoice::Managed => true,
        choice => choice == driver.choice(),
    };
    let drivers = driver::ALL.into_iter().filter(|driver| is_meant(*driver));
    let urls = drivers.flat_map(|driver| driver.sockets(config.runtime_dir.as_deref()));
    urls.map(EngineAddress::usual).collect()
}

impl Engine {
    /// Connects to the first engine that answers and is of the requested kind.
    pub async fn connect(config: &EngineConfig) -> Result<Self, EngineError> {
        Self::connect_and_list(config, &mut Vec::new()).await
    }

    /// The same. `attempts` gets each address that was tried in vain, with its answer.
    pub async fn connect_and_list(
        config: &EngineConfig,
        attempts: &mut Vec<(String, String)>,
    ) -> Result<Self, EngineError> {
        let mut forbidden_socket = None;
        for address in places(config) {
            let place = Address::new(&address)?;
            if is_forbidden(&place).await {
                forbidden_socket.get_or_insert_with(|| place.url().trim_start_matches("unix://").to_owned());
            }
            match Self::at(place.clone(), config).await {
                Ok(engine) => {
                    info!("engine: {} at {place}{}", engine.about, place.named_by());
                    return Ok(engine);
                }
                Err(ProbeError { why, by_tls: true }) => {
                    let directory = address.tls.map(|files| files.directory).unwrap_or_default();
                    let (place, named_by) = (address.url, address.named_by);
                    return Err(EngineError::Untrusted { place, named_by, why, directory });
                }
                Err(ProbeError { why, .. }) => attempts.push((place.to_string(), why)),
            }
        }
        if let Some(socket) = forbidden_socket {
            return Err(EngineError::Forbidden { group: group_of(&socket), socket });
        }
        let named_by = config.address.as_ref().map_or(NamedBy::Usual, |address| address.named_by.clone());
        Err(EngineError::NoneAnswers { places: attempts.clone(), named_by })
    }

    /// Connects to the engine at `place`, if it answers and is of the requested kind.
    pub(in crate::engine) async fn at(place: Address, config: &EngineConfig) -> Result<Self, ProbeError> {
        let Probed { client, driver, about } = probe(&place, config.choice).await?;
        let (access, tracker) = (Access::new(config, place.url()), ResourceTracker::default());
        Ok(Self { client, access, tracker, place, driver, about, managed: None })
    }
}

/// Whether there is a socket that we have no permission to use.
async fn is_forbidden(place: &Address) -> bool {
    let Some(socket) = place.socket() else { return false };
    let connected = tokio::net::UnixStream::connect(socket).await;
    connected.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

/// The group that may use a socket: `docker`, unless the socket has another group.
fn group_of(socket: &str) -> String {
    let id = std::fs::metadata(socket).map(|socket| std::os::unix::fs::MetadataExt::gid(&socket).to_string());
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let mut groups = groups.lines().map(|group| group.split(':').collect::<Vec<_>>());
    let group = groups.find(|group| id.as_ref().is_ok_and(|id| id != "0" && group.get(2) == Some(&id.as_str())));
    group.map_or("docker", |group| group[0]).to_owned()
}

/// Why an engine cannot be used.
pub(in crate::engine) struct ProbeError {
    pub(in crate::engine) why: String,
    /// Whether one end of a TLS connection does not trust the other.
    by_tls: bool,
}

impl From<String> for ProbeError {
    fn from(why: String) -> Self {
        Self { why, by_tls: false }
    }
}

impl From<bollard::errors::Error> for ProbeError {
    fn from(error: bollard::errors::Error) -> Self {
        match tls_problem(&error) {
            Some(problem) => Self { why: problem.to_string(), by_tls: true },
            None => ErrorChain(&error).innermost().to_string().into(),
        }
    }
}

/// An engine that answered.
pub(in crate::engine) struct Probed {
    pub(in crate::engine) client: Docker,
    pub(in crate::engine) driver: &'static dyn EngineDriver,
    pub(in crate::engine) about: EngineInfo,
}

pub(in crate::engine) async fn probe(place: &Address, choice: EngineChoice) -> Result<Probed, ProbeError> {
    if place.socket().is_some_and(|socket| !socket.exists()) {
        return Err("no such socket".to_owned().into());
    }
    let client = client(place, ANSWER_TIMEOUT)?;
    let version = within_timeout(client.version()).await?;
    let names: Vec<_> = version.components.iter().flatten().map(|component| component.name.as_str()).collect();
    let is_it = |driver: &&dyn EngineDriver| names.iter().any(|name| driver.is_component(name));
    let driver = driver::ALL.into_iter().find(is_it).unwrap_or(&DockerEngine);
    let name = driver.name();
    if !matches!(choice, EngineChoice::Auto | EngineChoice::Managed) && choice != driver.choice() {
        return Err(format!("is {name}, which --engine excludes").into());
    }
    // Negotiate the API version, if the client sends one at all (bollard 0.21.1 does not).
    let client = within_timeout(client.negotiate_version()).await?;
    let about = EngineInfo { name, version: version.version, api_version: version.api_version };
    Ok(Probed { client, driver, about })
}

/// Waits for an engine's reply to a request that it should answer at once.
async fn within_timeout<T>(answer: impl Future<Output = Result<T, bollard::errors::Error>>) -> Result<T, ProbeError> {
    let answer = tokio::time::timeout(PING_TIMEOUT, answer).await;
    Ok(answer.map_err(|_| format!("no answer within {} s", PING_TIMEOUT.as_secs()))??)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(choice: EngineChoice, host: Option<&str>, runtime_dir: Option<&str>) -> Vec<String> {
        let places = places(&EngineConfig {
            choice,
            address: host.map(EngineAddress::usual),
            runtime_dir: runtime_dir.map(Into::into),
            ..EngineConfig::default()
        });
        places.into_iter().map(|place| place.url).collect()
    }

    #[test]
    fn an_engine_that_is_named_is_the_only_one() {
        assert_eq!(of(EngineChoice::Auto, Some("tcp://127.0.0.1:2375"), Some("/run/user/1")), ["tcp://127.0.0.1:2375"]);
    }

    #[test]
    fn docker_comes_before_podman_and_the_users_podman_before_the_systems() {
        let all = of(EngineChoice::Auto, None, Some("/run/user/1"));
        let sockets = [
            "/var/run/docker.sock",
            "/run/user/1/docker.sock",
            "/run/user/1/podman/podman.sock",
            "/run/podman/podman.sock",
        ];
        assert_eq!(all, sockets.map(|socket| format!("unix://{socket}")));
        assert_eq!(of(EngineChoice::Docker, None, None), all[..1]);
        assert_eq!(of(EngineChoice::Docker, None, Some("/run/user/1")), all[..2]);
        assert_eq!(of(EngineChoice::Podman, None, Some("/run/user/1")), all[2..]);
    }

    #[tokio::test]
    async fn each_place_tried_is_named_with_what_it_said_and_who_names_it() {
        let named = |named_by| EngineAddress { named_by, ..EngineAddress::usual("unix:///nonexistent.sock") };
        let context = NamedBy::Context { name: "far".to_owned(), by: "DOCKER_CONTEXT".to_owned() };
        let host = NamedBy::Host("DOCKER_HOST".to_owned());
        for (named_by, hint) in [
            (
                NamedBy::Usual,
                "; start one, or set DOCKER_HOST to its socket; with podman and uidmap, `run` starts one of its own",
            ),
            (host, ", from DOCKER_HOST; start it, or set DOCKER_HOST to another engine's socket"),
            (
                context,
                ", from the docker context far (DOCKER_CONTEXT); start it, or take another context; DOCKER_CONTEXT=default takes none",
            ),
        ] {
            let config = EngineConfig { address: Some(named(named_by)), ..Default::default() };
            let error = Engine::connect(&config).await.err().expect("nobody listens there").to_string();
            assert_eq!(error, format!("no engine answers; tried unix:///nonexistent.sock (no such socket){hint}"));
        }
    }
}
