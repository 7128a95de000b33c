//! The address of an engine as users write it, and where it comes from. `address` reads the certificates and connects.

use std::fmt;
use std::path::PathBuf;

use reqwest::Url;

/// Docker's default socket.
pub const DOCKER_SOCKET: &str = "unix:///var/run/docker.sock";

/// The default port of a `tcp://` address, as in docker's client.
const PORT: u16 = 2375;

/// The address of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineAddress {
    /// `unix://PATH` or `tcp://HOST:PORT`.
    pub url: String,
    /// Where the address comes from.
    pub named_by: NamedBy,
    /// The certificates, if TLS is requested. Then nothing is sent without TLS.
    pub tls: Option<TlsFiles>,
}

/// Where the address of an engine comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// A default address.
    Usual,
    /// `DOCKER_HOST`, or a setting with the same meaning.
    Host(String),
    /// A docker context.
    Context {
        /// Its name.
        name: String,
        /// What selects the context: a flag, a variable, or docker's configuration.
        by: String,
    },
}

/// The directory with the certificates for TLS: `ca.pem`, which must have signed the server's certificate, and `cert.pem` with
/// `key.pem`, the client's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The directory.
    pub directory: PathBuf,
    /// The setting that requests TLS.
    pub asked_by: String,
    /// Whether `ca.pem` must exist. If it need not and does not, the system's authorities count.
    pub needs_ca: bool,
}

impl EngineAddress {
    /// A default address of engines.
    #[must_use]
    pub fn usual(url: impl Into<String>) -> Self {
        Self { url: url.into(), named_by: NamedBy::Usual, tls: None }
    }

    /// Whether the engine is reached over a network, and not with a socket of this machine.
    #[must_use]
    pub fn is_remote(url: &str) -> bool {
        !url.starts_with("unix://")
    }
}

impl NamedBy {
    /// What to do if no engine answers.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Usual => {
                "start one, or set DOCKER_HOST to its socket; with podman and uidmap, `run` starts one of its own"
                    .to_owned()
            }
            Self::Host(origin) => format!("start it, or set {origin} to another engine's socket"),
            Self::Context { .. } => "start it, or take another context; DOCKER_CONTEXT=default takes none".to_owned(),
        }
    }
}

impl fmt::Display for NamedBy {
    /// The text that follows an address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usual => Ok(()),
            Self::Host(origin) => write!(f, ", from {origin}"),
            Self::Context { name, by } => write!(f, ", from the docker context {name} ({by})"),
        }
    }
}

/// Parses an address as docker's client does: `unix://PATH`, `tcp://HOST:PORT`, or `HOST:PORT`. The error says what is wrong,
/// and what to write instead.
pub(crate) fn engine_url(text: &str) -> Result<String, String> {
    const EXPECTED: &str = "expected unix://PATH or tcp://HOST:PORT";
    let text = text.trim();
    let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
    match scheme {
        "unix" if rest.is_empty() => Ok(DOCKER_SOCKET.to_owned()),
        "unix" => Ok(text.to_owned()),
        "tcp" if rest.starts_with('/') => Err(format!("{text:?} is no address of an engine: {EXPECTED}")),
        "tcp" | "http" => tcp(rest)
            .ok_or_else(|| format!("{rest:?} is no HOST:PORT of an engine, without a user and a path: {EXPECTED}")),
        "https" => Err(format!(
            "https:// is no address of an engine: write tcp://HOST:PORT and set DOCKER_TLS_VERIFY=1, with the certificates in DOCKER_CERT_PATH; {EXPECTED}"
        )),
        "ssh" => Err(format!(
            "ssh:// is not spoken here: `ssh -nNT -L PATH:/var/run/docker.sock {}` brings that engine's socket to PATH on this machine; then set DOCKER_HOST=unix://PATH",
            ssh_host(text)
        )),
        _ => Err(format!("{text:?} is no address of an engine: {EXPECTED}")),
    }
}

/// `tcp://HOST:PORT`. The default host is this machine.
fn tcp(rest: &str) -> Option<String> {
    let host_and_port =
        if rest.is_empty() || rest.starts_with(':') { format!("localhost{rest}") } else { rest.to_owned() };
    let url = Url::parse(&format!("tcp://{host_and_port}")).ok()?;
    let is_bare = url.username().is_empty() && url.password().is_none() && ["", "/"].contains(&url.path());
    let is_whole = is_bare && url.query().is_none() && url.fragment().is_none();
    let host = url.host_str().filter(|_| is_whole)?;
    Some(format!("tcp://{host}:{}", url.port().unwrap_or(PORT)))
}

/// The host of an `ssh://` address, as arguments for ssh.
fn ssh_host(text: &str) -> String {
    let Ok(url) = Url::parse(text) else { return "HOST".to_owned() };
    let port = url.port().map(|port| format!("-p {port} ")).unwrap_or_default();
    let user = if url.username().is_empty() { String::new() } else { format!("{}@", url.username()) };
    format!("{port}{user}{}", url.host_str().unwrap_or("HOST"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_dockers_client_takes_them() {
        for (text, taken) in [
            ("unix:///run/x.sock", "unix:///run/x.sock"),
            ("unix://", DOCKER_SOCKET),
            ("tcp://127.0.0.1:2376", "tcp://127.0.0.1:2376"),
            ("127.0.0.1:2375", "tcp://127.0.0.1:2375"),
            (" engine.example.com:1234 ", "tcp://engine.example.com:1234"),
            ("engine.example.com", "tcp://engine.example.com:2375"),
            ("tcp://:80/", "tcp://localhost:80"),
            ("http://[::1]:2375", "tcp://[::1]:2375"),
        ] {
            assert_eq!(engine_url(text).as_deref(), Ok(taken), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_spoken_to_is_refused_with_the_way_out() {
        for (text, words) in [
            ("ssh://me@engine.example.com:2222/x", "-L PATH:/var/run/docker.sock -p 2222 me@engine.example.com`"),
            ("https://engine.example.com:2376", "DOCKER_TLS_VERIFY=1"),
            ("npipe:////./pipe/docker_engine", "expected unix://PATH"),
            ("fd://", "expected unix://PATH"),
            ("/run/docker.sock", "expected unix://PATH"),
            ("tcp://u:hunter22@engine.example.com:2375", "without a user and a path"),
            ("tcp://engine.example.com:2375/proxied", "without a user and a path"),
            ("tcp://engine.example.com:99999", "is no HOST:PORT"),
        ] {
            let error = engine_url(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
