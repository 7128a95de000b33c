//! The address of an engine, and how to connect to it: with a socket of this machine, TCP, or TLS. Every connection to an
//! engine is opened here, so that nothing is sent in clear if TLS is requested.

use std::fmt;
use std::io;
use std::net::Shutdown;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, Error as TlsError, RootCertStore};

use crate::engine::{EngineAddress, NamedBy, TlsFiles};
use crate::report::Hint;

/// Why the requested TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file with certificates, or with a key, cannot be read.
    #[error(
        "cannot read {}, for the TLS that {asked_by} asks for: it must be a readable file in PEM form{}",
        path.display(),
        Hint("see DOCKER_CERT_PATH")
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The setting that requests TLS.
        asked_by: String,
        /// The cause.
        #[source]
        source: PemError,
    },
    /// The files do not belong together, or TLS cannot use them.
    #[error(
        "the certificates in {} are of no use for the TLS that {asked_by} asks for{}",
        directory.display(),
        Hint("see DOCKER_CERT_PATH")
    )]
    Unusable {
        /// The directory.
        directory: PathBuf,
        /// The setting that requests TLS.
        asked_by: String,
        /// The cause.
        #[source]
        source: TlsError,
    },
    /// No certificate can be for this host.
    #[error("no certificate can be for the engine's host {}{}", .0, Hint("write its name or its IP address"))]
    Host(String),
}

/// The address of an engine.
#[derive(Clone)]
pub(in crate::engine) struct Address {
    url: String,
    named_by: NamedBy,
    transport: Transport,
}

/// How to connect to an engine.
#[derive(Clone)]
enum Transport {
    Socket(PathBuf),
    Tcp(String),
    Tls { host_and_port: String, host: ServerName<'static>, config: Arc<ClientConfig> },
}

/// A connection of any kind.
pub(in crate::engine) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// An open connection.
pub(super) struct OpenConnection {
    pub(super) stream: Box<dyn Connection>,
    pub(super) close: Close,
}

/// Closes the sending half of a connection, even if the connection has several descriptors.
pub(super) type Close = Box<dyn FnOnce() -> io::Result<()> + Send>;

impl Address {
    /// Builds the address and reads its certificates.
    pub(in crate::engine) fn new(address: &EngineAddress) -> Result<Self, CertificateError> {
        let (url, named_by) = (address.url.clone(), address.named_by.clone());
        let transport = match (url.strip_prefix("unix://"), &address.tls) {
            (Some(path), _) => Transport::Socket(path.into()),
            (None, tls) => {
                let host_and_port = url.trim_start_matches("tcp://").to_owned();
                match tls {
                    None => Transport::Tcp(host_and_port),
                    Some(files) => {
                        let (host, config) = (host(&host_and_port)?, client_config(files)?.into());
                        Transport::Tls { host_and_port, host, config }
                    }
                }
            }
        };
        Ok(Self { url, named_by, transport })
    }

    /// The address of a socket of this machine.
    pub(in crate::engine) fn of_socket(path: &Path) -> Self {
        let url = format!("unix://{}", path.display());
        Self { url, named_by: NamedBy::Usual, transport: Transport::Socket(path.to_owned()) }
    }

    /// Its socket, if it is a socket of this machine.
    pub(in crate::engine) fn socket(&self) -> Option<&Path> {
        match &self.transport {
            Transport::Socket(path) => Some(path),
            Transport::Tcp(_) | Transport::Tls { .. } => None,
        }
    }

    /// Whether the engine runs on this machine's kernel. Other systems than Linux have it in a virtual machine, and only its
    /// socket here.
    pub(in crate::engine) fn is_on_this_kernel(&self) -> bool {
        cfg!(target_os = "linux") && self.socket().is_some()
    }

    /// `unix://PATH` or `tcp://HOST:PORT`.
    pub(in crate::engine) fn url(&self) -> &str {
        &self.url
    }

    /// Where the address comes from.
    pub(in crate::engine) fn named_by(&self) -> &NamedBy {
        &self.named_by
    }

    /// Connects. With TLS nothing is sent before the certificate of the other end is verified.
    pub(super) async fn connect(&self) -> io::Result<OpenConnection> {
        let host_and_port = match &self.transport {
            Transport::Socket(path) => {
                let socket = UnixStream::connect(path).await?.into_std()?;
                let other = socket.try_clone()?;
                let close = Box::new(move || other.shutdown(Shutdown::Write));
                return Ok(OpenConnection { stream: Box::new(UnixStream::from_std(socket)?), close });
            }
            Transport::Tcp(host_and_port) | Transport::Tls { host_and_port, .. } => host_and_port,
        };
        let socket = TcpStream::connect(host_and_port).await?.into_std()?;
        let other = socket.try_clone()?;
        let close = Box::new(move || other.shutdown(Shutdown::Write));
        let socket = TcpStream::from_std(socket)?;
        let stream: Box<dyn Connection> = match &self.transport {
            Transport::Tls { host, config, .. } => {
                Box::new(TlsConnector::from(Arc::clone(config)).connect(host.clone(), socket).await?)
            }
            Transport::Socket(_) | Transport::Tcp(_) => Box::new(socket),
        };
        Ok(OpenConnection { stream, close })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)?;
        if matches!(self.transport, Transport::Tls { .. }) { f.write_str(" (TLS)") } else { Ok(()) }
    }
}

/// The TLS error of either side, if it is the reason that there is no connection.
pub(super) fn tls_problem<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e TlsError> {
    let mut chain = std::iter::successors(Some(error), |error| error.source());
    chain.find_map(|error| error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref())
}

/// The name that the server's certificate must be for.
fn host(host_and_port: &str) -> Result<ServerName<'static>, CertificateError> {
    let host = host_and_port.rsplit_once(':').map_or(host_and_port, |(host, _)| host);
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    ServerName::try_from(bare).map_err(|_| CertificateError::Host(host.to_owned()))
}

/// A TLS configuration with these certificates. The server's certificate is always verified, even if a docker context turns
/// that off.
fn client_config(files: &TlsFiles) -> Result<ClientConfig, CertificateError> {
    let TlsFiles { directory, asked_by, needs_ca } = files;
    let unreadable = |file: &str, source| {
        let (path, asked_by) = (directory.join(file), asked_by.clone());
        CertificateError::Unreadable { path, asked_by, source }
    };
    let unusable = |source| {
        let (directory, asked_by) = (directory.clone(), asked_by.clone());
        CertificateError::Unusable { directory, asked_by, source }
    };
    let certificates = |file: &str| {
        let read = CertificateDer::pem_file_iter(directory.join(file)).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let read = read.and_then(|found| if found.is_empty() { Err(PemError::NoItemsFound) } else { Ok(found) });
        read.map_err(|source| unreadable(file, source))
    };
    let has = |file: &str| directory.join(file).exists();
    let mut authorities = RootCertStore::empty();
    if *needs_ca || has("ca.pem") {
        for authority in certificates("ca.pem")? {
            authorities.add(authority).map_err(unusable)?;
        }
    } else {
        // Certificates of the system that cannot be read are ignored.
        authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    // The same provider as for all other connections of the program.
    let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into());
    let config = config.with_safe_default_protocol_versions().map_err(unusable)?.with_root_certificates(authorities);
    // As in docker's client: a client certificate is sent only if both files exist.
    if !(has("cert.pem") && has("key.pem")) {
        return Ok(config.with_no_client_auth());
    }
    let key =
        PrivateKeyDer::from_pem_file(directory.join("key.pem")).map_err(|source| unreadable("key.pem", source))?;
    config.with_client_auth_cert(certificates("cert.pem")?, key).map_err(unusable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(url: &str, tls: Option<TlsFiles>) -> Result<Address, String> {
        let address = Address::new(&EngineAddress { tls, ..EngineAddress::usual(url) });
        address.map_err(|error| error.to_string())
    }

    #[test]
    fn certificates_are_read_before_anything_is_sent() {
        let directory = tempfile::tempdir().unwrap();
        let files = |needs_ca| {
            Some(TlsFiles { directory: directory.path().into(), asked_by: "DOCKER_TLS_VERIFY".to_owned(), needs_ca })
        };
        let error = |needs_ca| open("tcp://192.0.2.1:2376", files(needs_ca)).err().unwrap();
        let ca = directory.path().join("ca.pem");
        assert!(
            error(true)
                .starts_with(&format!("cannot read {}, for the TLS that DOCKER_TLS_VERIFY asks for", ca.display()))
        );
        assert!(open("tcp://192.0.2.1:2376", files(false)).is_ok(), "the system's authorities");
        std::fs::write(&ca, "no PEM").unwrap();
        assert!(error(false).starts_with("cannot read "));
        std::fs::write(&ca, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(error(true).contains("are of no use for the TLS"), "{}", error(true));
        assert!(open("unix:///x.sock", files(true)).unwrap().socket().is_some(), "no certificate for a socket");
    }

    #[test]
    fn the_certificate_must_be_for_the_host() {
        assert_eq!(host("engine.example.com:2376").unwrap().to_str(), "engine.example.com");
        assert_eq!(host("[::1]:2376").unwrap().to_str(), "::1");
        assert_eq!(host("127.0.0.1:2376").unwrap().to_str(), "127.0.0.1");
        assert!(host("a b:2376").is_err());
    }
}
