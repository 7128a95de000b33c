//! Where an engine listens, and how it is spoken to: by a socket of this machine, by TCP, or by TLS. Every connection to an
//! engine is opened here, so that nothing goes out in clear where TLS is asked for.

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

/// Why TLS that is asked for cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file with certificates, or with a key.
    #[error("cannot read {}, for the TLS that {asked_by} asks for: it must be a readable file in PEM form; see DOCKER_CERT_PATH", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Who asks for TLS.
        asked_by: String,
        /// Why not.
        #[source]
        source: PemError,
    },
    /// Files that do not belong together, or that TLS cannot use.
    #[error("the certificates in {} are of no use for the TLS that {asked_by} asks for; see DOCKER_CERT_PATH", folder.display())]
    Unusable {
        /// The folder.
        folder: PathBuf,
        /// Who asks for TLS.
        asked_by: String,
        /// Why not.
        #[source]
        source: TlsError,
    },
    /// A host that no certificate can be for.
    #[error("no certificate can be for the engine's host {0}: write its name or its IP address")]
    Host(String),
}

/// Where an engine listens.
#[derive(Clone)]
pub(in crate::engine) struct Address {
    url: String,
    named_by: NamedBy,
    way: Way,
}

/// How an engine is spoken to.
#[derive(Clone)]
enum Way {
    Socket(PathBuf),
    Tcp(String),
    Tls { host_and_port: String, host: ServerName<'static>, config: Arc<ClientConfig> },
}

/// A connection of any kind.
pub(in crate::engine) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Closes the sending half of a connection, however many descriptors it has.
pub(super) type Close = Box<dyn FnOnce() -> io::Result<()> + Send>;

impl Address {
    /// The address, with its certificates read.
    pub(in crate::engine) fn new(address: &EngineAddress) -> Result<Self, CertificateError> {
        let (url, named_by) = (address.url.clone(), address.named_by.clone());
        let way = match (url.strip_prefix("unix://"), &address.tls) {
            (Some(path), _) => Way::Socket(path.into()),
            (None, tls) => {
                let host_and_port = url.trim_start_matches("tcp://").to_owned();
                match tls {
                    None => Way::Tcp(host_and_port),
                    Some(files) => {
                        Way::Tls { host: host(&host_and_port)?, host_and_port, config: client_config(files)?.into() }
                    }
                }
            }
        };
        Ok(Self { url, named_by, way })
    }

    /// A socket of this machine.
    pub(in crate::engine) fn of_socket(path: &Path) -> Self {
        let url = format!("unix://{}", path.display());
        Self { url, named_by: NamedBy::Usual, way: Way::Socket(path.to_owned()) }
    }

    /// Its socket, where it is one of this machine.
    pub(in crate::engine) fn socket(&self) -> Option<&Path> {
        match &self.way {
            Way::Socket(path) => Some(path),
            Way::Tcp(_) | Way::Tls { .. } => None,
        }
    }

    /// `unix://PATH` or `tcp://HOST:PORT`.
    pub(in crate::engine) fn url(&self) -> &str {
        &self.url
    }

    /// Who says that an engine is there.
    pub(in crate::engine) fn named_by(&self) -> &NamedBy {
        &self.named_by
    }

    /// Connects. By TLS nothing is sent before the other end has shown that it is who it should be.
    pub(in crate::engine) async fn connect(&self) -> io::Result<(Box<dyn Connection>, Close)> {
        let host_and_port = match &self.way {
            Way::Socket(path) => {
                let socket = UnixStream::connect(path).await?.into_std()?;
                let other = socket.try_clone()?;
                let close = Box::new(move || other.shutdown(Shutdown::Write));
                return Ok((Box::new(UnixStream::from_std(socket)?), close));
            }
            Way::Tcp(host_and_port) | Way::Tls { host_and_port, .. } => host_and_port,
        };
        let socket = TcpStream::connect(host_and_port).await?.into_std()?;
        let other = socket.try_clone()?;
        let close = Box::new(move || other.shutdown(Shutdown::Write));
        let socket = TcpStream::from_std(socket)?;
        let Way::Tls { host, config, .. } = &self.way else { return Ok((Box::new(socket), close)) };
        Ok((Box::new(TlsConnector::from(Arc::clone(config)).connect(host.clone(), socket).await?), close))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)?;
        if matches!(self.way, Way::Tls { .. }) { f.write_str(" (TLS)") } else { Ok(()) }
    }
}

/// What TLS had against the other end, or the other end against us, if that is why there is no connection.
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

/// TLS with these certificates. The server's is always verified, also for a docker context that says not to.
fn client_config(files: &TlsFiles) -> Result<ClientConfig, CertificateError> {
    let TlsFiles { folder, asked_by, needs_ca } = files;
    let unreadable = |file: &str, source| {
        let (path, asked_by) = (folder.join(file), asked_by.clone());
        CertificateError::Unreadable { path, asked_by, source }
    };
    let unusable = |source| CertificateError::Unusable { folder: folder.clone(), asked_by: asked_by.clone(), source };
    let certificates = |file: &str| {
        let read = CertificateDer::pem_file_iter(folder.join(file)).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let read = read.and_then(|found| if found.is_empty() { Err(PemError::NoItemsFound) } else { Ok(found) });
        read.map_err(|source| unreadable(file, source))
    };
    let has = |file: &str| folder.join(file).exists();
    let mut authorities = RootCertStore::empty();
    if *needs_ca || has("ca.pem") {
        for authority in certificates("ca.pem")? {
            authorities.add(authority).map_err(unusable)?;
        }
    } else {
        // What of the system's cannot be read vouches for nobody.
        authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    // The same as for all other connections of the program.
    let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into());
    let config = config.with_safe_default_protocol_versions().map_err(unusable)?.with_root_certificates(authorities);
    // As docker's client does it: only with both files there is one of our own.
    if !(has("cert.pem") && has("key.pem")) {
        return Ok(config.with_no_client_auth());
    }
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).map_err(|source| unreadable("key.pem", source))?;
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
        let folder = tempfile::tempdir().unwrap();
        let files = |needs_ca| {
            Some(TlsFiles { folder: folder.path().into(), asked_by: "DOCKER_TLS_VERIFY".to_owned(), needs_ca })
        };
        let error = |needs_ca| open("tcp://192.0.2.1:2376", files(needs_ca)).err().unwrap();
        let ca = folder.path().join("ca.pem");
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
