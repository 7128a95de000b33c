//! Where one engine is, as people write it, and who says so. Reading certificates and connecting is for `address`.

use std::fmt;
use std::path::PathBuf;

use reqwest::Url;

/// Docker's own socket.
pub const DOCKER_SOCKET: &str = "unix:///var/run/docker.sock";

/// The port of a `tcp://` address that has none, as docker's client has it.
const PORT: u16 = 2375;

/// Where an engine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineAddress {
    /// `unix://PATH` or `tcp://HOST:PORT`.
    pub url: String,
    /// Who says that an engine is there.
    pub named_by: NamedBy,
    /// TLS, where it is asked for; then nothing is sent without it.
    pub tls: Option<TlsFiles>,
}

/// Who says where an engine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// Nobody: engines usually are there.
    Usual,
    /// `DOCKER_HOST`, or what means one.
    Host(String),
    /// A docker context.
    Context {
        /// Its name.
        name: String,
        /// Who names the context: a flag, a variable, or docker's configuration.
        by: String,
    },
}

/// The certificates for TLS, in a folder: `ca.pem`, which the server's certificate must be signed by, and `cert.pem` with
/// `key.pem`, which are the client's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The folder.
    pub folder: PathBuf,
    /// Who asks for TLS.
    pub asked_by: String,
    /// Whether `ca.pem` must be there; else the system's own authorities count.
    pub needs_ca: bool,
}

impl EngineAddress {
    /// An address where engines usually are.
    #[must_use]
    pub fn usual(url: impl Into<String>) -> Self {
        Self { url: url.into(), named_by: NamedBy::Usual, tls: None }
    }

    /// Whether it is reached over a network, and not by a socket of this machine.
    #[must_use]
    pub fn is_remote(url: &str) -> bool {
        !url.starts_with("unix://")
    }
}

impl NamedBy {
    /// What to do where no engine answers.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Usual => "start one, or set DOCKER_HOST to its socket".to_owned(),
            Self::Host(origin) => format!("start it, or set {origin} to another engine's socket"),
            Self::Context { .. } => "start it, or take another context; DOCKER_CONTEXT=default takes none".to_owned(),
        }
    }
}

impl fmt::Display for NamedBy {
    /// As what follows an address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usual => Ok(()),
            Self::Host(origin) => write!(f, ", from {origin}"),
            Self::Context { name, by } => write!(f, ", from the docker context {name} ({by})"),
        }
    }
}

/// An address as docker's client takes it: `unix://PATH`, `tcp://HOST:PORT`, or `HOST:PORT`. The error says what is wrong,
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

/// `tcp://HOST:PORT`; the host is this machine where it is left out.
fn tcp(rest: &str) -> Option<String> {
    let host_and_port =
        if rest.is_empty() || rest.starts_with(':') { format!("localhost{rest}") } else { rest.to_owned() };
    let url = Url::parse(&format!("tcp://{host_and_port}")).ok()?;
    let is_bare = url.username().is_empty() && url.password().is_none() && ["", "/"].contains(&url.path());
    let is_whole = is_bare && url.query().is_none() && url.fragment().is_none();
    let host = url.host_str().filter(|_| is_whole)?;
    Some(format!("tcp://{host}:{}", url.port().unwrap_or(PORT)))
}

/// The other end of an `ssh://` address as ssh takes it.
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
