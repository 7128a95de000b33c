//! Finding an engine: which places to try is a choice made from the configuration alone; trying them is apart
//! from it, so that the choice can be tested without an engine.

use std::path::Path;
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};
use tracing::info;

use super::traces::Traces;
use super::{About, Engine, EngineError, Kind};
use crate::config::{EngineChoice, EngineConfig};

/// bollard's timeout runs until an answer's headers come. A build sends none before the whole context is
/// uploaded, an export none before the whole image is prepared: a day, and the task's own limit, must do.
const ANSWER_TIMEOUT_SECONDS: u64 = 24 * 3600;

/// A living engine answers a ping at once, but a busy one has been seen to take 10 s; a socket that somebody listens on
/// without answering is none.
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(30);

/// The places where an engine could listen, in the order in which they are tried.
pub(super) fn places(config: &EngineConfig) -> Vec<String> {
    if let Some(host) = &config.docker_host {
        return vec![host.clone()];
    }
    let docker = "unix:///var/run/docker.sock".to_owned();
    let mut podman = Vec::new();
    if let Some(runtime) = &config.runtime_dir {
        podman.push(format!("unix://{}/podman/podman.sock", runtime.display()));
    }
    podman.push("unix:///run/podman/podman.sock".to_owned());
    match config.choice {
        // One of our own is started, not looked for; but killed runs may have left something in these.
        EngineChoice::Auto | EngineChoice::Managed => std::iter::once(docker).chain(podman).collect(),
        EngineChoice::Docker => vec![docker],
        EngineChoice::Podman => podman,
    }
}

impl Engine {
    /// The first engine that answers and is of the wanted kind.
    pub async fn connect(config: &EngineConfig) -> Result<Self, EngineError> {
        let mut tried = Vec::new();
        let mut forbidden = None;
        for place in places(config) {
            if let Some(socket) = place.strip_prefix("unix://")
                && is_forbidden(socket).await
            {
                forbidden.get_or_insert_with(|| socket.to_owned());
            }
            match probe(&place, config.choice).await {
                Ok((client, kind, about)) => {
                    info!("engine: {about} at {place}");
                    return Ok(Self { client, traces: Traces::default(), place, kind, about, managed: None });
                }
                Err(said) => tried.push((place, said)),
            }
        }
        Err(match forbidden {
            Some(socket) => EngineError::Forbidden { group: group_of(&socket), socket },
            None => EngineError::NoneAnswers { places: tried },
        })
    }
}

/// Whether there is a socket that we may not use.
async fn is_forbidden(socket: &str) -> bool {
    let connected = tokio::net::UnixStream::connect(socket).await;
    connected.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

/// The group that may use a socket: `docker`, unless somebody has chosen another.
fn group_of(socket: &str) -> String {
    let id = std::fs::metadata(socket).map(|socket| std::os::unix::fs::MetadataExt::gid(&socket).to_string());
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let mut groups = groups.lines().map(|group| group.split(':').collect::<Vec<_>>());
    let group = groups.find(|group| id.as_ref().is_ok_and(|id| id != "0" && group.get(2) == Some(&id.as_str())));
    group.map_or("docker", |group| group[0]).to_owned()
}

pub(super) async fn probe(place: &str, choice: EngineChoice) -> Result<(Docker, Kind, About), String> {
    let client = if let Some(socket) = place.strip_prefix("unix://") {
        if !Path::new(socket).exists() {
            return Err("no such socket".to_owned());
        }
        Docker::connect_with_unix(socket, ANSWER_TIMEOUT_SECONDS, API_DEFAULT_VERSION)
    } else if place.starts_with("tcp://") || place.starts_with("http://") {
        Docker::connect_with_http(place, ANSWER_TIMEOUT_SECONDS, API_DEFAULT_VERSION)
    } else {
        return Err("not an address: DOCKER_HOST takes unix://PATH or tcp://HOST:PORT".to_owned());
    }
    .map_err(|error| in_words(&error))?;
    let version = in_time(client.version()).await?;
    let names: Vec<_> = version.components.iter().flatten().map(|component| component.name.as_str()).collect();
    let kind = if names.iter().any(|name| name.contains("Podman")) { Kind::Podman } else { Kind::Docker };
    let name = if kind == Kind::Podman { "Podman" } else { "Docker" };
    if matches!((choice, kind), (EngineChoice::Docker, Kind::Podman) | (EngineChoice::Podman, Kind::Docker)) {
        return Err(format!("is {name}, which --engine excludes"));
    }
    // Agree on an API version where a client version would be sent at all (bollard 0.21.1 sends none).
    let client = in_time(client.negotiate_version()).await?;
    let about = About { name, version: version.version, api_version: version.api_version };
    Ok((client, kind, about))
}

/// An engine's answer to a question that it should answer at once.
async fn in_time<T>(answer: impl Future<Output = Result<T, bollard::errors::Error>>) -> Result<T, String> {
    let answer = tokio::time::timeout(PING_TIMEOUT, answer).await;
    answer.map_err(|_| format!("no answer within {} s", PING_TIMEOUT.as_secs()))?.map_err(|error| in_words(&error))
}

/// The innermost cause: it stands in a line of its own words, and what is around it are the layers of an HTTP client.
pub(super) fn in_words(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(choice: EngineChoice, docker_host: Option<&str>, runtime_dir: Option<&str>) -> Vec<String> {
        places(&EngineConfig {
            choice,
            docker_host: docker_host.map(str::to_owned),
            runtime_dir: runtime_dir.map(Into::into),
            ..EngineConfig::default()
        })
    }

    #[test]
    fn docker_host_is_the_only_place_where_it_is_set() {
        assert_eq!(of(EngineChoice::Auto, Some("tcp://127.0.0.1:2375"), Some("/run/user/1")), ["tcp://127.0.0.1:2375"]);
    }

    #[test]
    fn docker_comes_before_podman_and_the_users_podman_before_the_systems() {
        let all = of(EngineChoice::Auto, None, Some("/run/user/1"));
        let sockets = ["/var/run/docker.sock", "/run/user/1/podman/podman.sock", "/run/podman/podman.sock"];
        assert_eq!(all, sockets.map(|socket| format!("unix://{socket}")));
        assert_eq!(of(EngineChoice::Docker, None, None), all[..1]);
        assert_eq!(of(EngineChoice::Podman, None, Some("/run/user/1")), all[1..]);
    }

    #[tokio::test]
    async fn each_place_tried_is_named_with_what_it_said() {
        let config = EngineConfig { docker_host: Some("unix:///nonexistent.sock".to_owned()), ..Default::default() };
        let error = Engine::connect(&config).await.err().expect("nobody listens there").to_string();
        assert!(error.starts_with("no engine answers; tried unix:///nonexistent.sock (no such socket); "), "{error}");
        let config = EngineConfig { docker_host: Some("npipe:x".to_owned()), ..Default::default() };
        let error = Engine::connect(&config).await.err().expect("not an address").to_string();
        assert!(error.contains("npipe:x (not an address"), "{error}");
    }
}
