//! Finding the engine as docker's own client does: docker contexts that the client wrote, addresses without a scheme, and
//! TLS, by a server in front of the real engine that wants to see a certificate.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::harness::{Finished, PROJECT, Program, Repository, engine, engine_place, installed, path, program};

/// An authority, a certificate for 127.0.0.1, and one of a client: `ca.pem`, `server.pem`, `cert.pem`, and the keys.
fn certificates(directory: &Path) {
    let openssl = |arguments: &[&str]| {
        let output =
            Command::new("openssl").args(arguments).current_dir(directory).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    std::fs::create_dir_all(directory).unwrap();
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let ca = ["req", "-x509", "-days", "2", "-subj", "/CN=authority", "-keyout", "ca-key.pem", "-out", "ca.pem"];
    openssl(&[&ca[..], &new_key].concat());
    for (name, key, use_of_it) in
        [("server.pem", "server-key.pem", "serverAuth"), ("cert.pem", "key.pem", "clientAuth")]
    {
        let request = ["req", "-subj", "/CN=test", "-keyout", key, "-out", "request.pem"];
        openssl(&[&request[..], &new_key].concat());
        std::fs::write(
            directory.join("extensions"),
            format!("subjectAltName=IP:127.0.0.1\nextendedKeyUsage={use_of_it}\n"),
        )
        .unwrap();
        let sign = ["x509", "-req", "-days", "2", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca-key.pem"];
        openssl(&[&sign[..], &["-CAcreateserial", "-extfile", "extensions", "-out", name]].concat());
    }
}

/// How a server speaks.
#[derive(Clone, Copy)]
enum Speaks {
    /// TLS with those who have a certificate.
    Tls,
    /// As they do, with the engine behind it.
    Plain,
    /// It listens, and answers as a web server to a request that it does not understand.
    Nonsense,
}

/// A server on loopback, with the real engine behind it. It runs until the test's process ends.
struct Server {
    address: SocketAddr,
    /// How many connections the engine got.
    passed: Arc<AtomicUsize>,
    /// The bytes that a server of [`Speaks::Nonsense`] received.
    received: Arc<Mutex<Vec<u8>>>,
}

impl Server {
    fn start(speaks: Speaks, certificates: &Path) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let server = Self { address: listener.local_addr().unwrap(), passed: Arc::default(), received: Arc::default() };
        let (passed, received) = (Arc::clone(&server.passed), Arc::clone(&server.received));
        let acceptor = matches!(speaks, Speaks::Tls).then(|| acceptor(certificates));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((mut client, _)) = listener.accept().await {
                    let (acceptor, passed, received) = (acceptor.clone(), Arc::clone(&passed), Arc::clone(&received));
                    // Clients that are refused, or close the connection, are a part of the tests.
                    tokio::spawn(async move {
                        match (acceptor, speaks) {
                            (Some(acceptor), _) => to_the_engine(acceptor.accept(client).await?, &passed).await,
                            (None, Speaks::Nonsense) => {
                                let mut piece = vec![0; 64 << 10];
                                let length = client.read(&mut piece).await?;
                                received.lock().unwrap().extend_from_slice(&piece[..length]);
                                client.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await
                            }
                            (None, _) => to_the_engine(client, &passed).await,
                        }
                    });
                }
            });
        });
        server
    }

    fn passed(&self) -> usize {
        self.passed.load(Ordering::Relaxed)
    }
}

async fn to_the_engine(mut client: impl AsyncRead + AsyncWrite + Unpin, passed: &AtomicUsize) -> io::Result<()> {
    passed.fetch_add(1, Ordering::Relaxed);
    let place = engine_place().unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned());
    let mut engine = UnixStream::connect(place.trim_start_matches("unix://")).await?;
    tokio::io::copy_bidirectional(&mut client, &mut engine).await.map(drop)
}

fn acceptor(directory: &Path) -> TlsAcceptor {
    let read = |name: &str| {
        CertificateDer::pem_file_iter(directory.join(name)).unwrap().map(Result::unwrap).collect::<Vec<_>>()
    };
    let mut authorities = RootCertStore::empty();
    authorities.add_parsable_certificates(read("ca.pem"));
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(authorities.into(), Arc::clone(&provider)).build().unwrap();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::from_pem_file(directory.join("server-key.pem")).unwrap();
    let config = config.with_client_cert_verifier(verifier).with_single_cert(read("server.pem"), key).unwrap();
    Arc::new(config).into()
}

/// An image directory, and a home with certificates.
struct Fixture {
    repository: Repository,
    home: TempDir,
}

impl Fixture {
    /// None, with a notice, where a program is missing.
    fn new(name: &str) -> Option<Self> {
        if !(engine() && installed("openssl")) {
            return None;
        }
        let (repository, home) =
            (Repository::new(name, "RUN echo by-any-way\n"), TempDir::with_prefix("home-").unwrap());
        certificates(&home.path().join("certificates"));
        Some(Self { repository, home })
    }

    fn certificates(&self) -> String {
        path(&self.home.path().join("certificates")).to_owned()
    }

    /// The whole job as a dry run, with these variables, and with no `DOCKER_HOST` but theirs.
    fn program(&self, variables: &[(&str, &str)]) -> Program {
        let (output, directory) = (self.home.path().join("out"), self.repository.directory());
        let usual = [
            ("IMAGE_NAME", self.repository.name.as_str()),
            ("PROJECT", PROJECT),
            ("IMAGE_WORKER_TRIES", "1"),
            ("HOME", path(self.home.path())),
        ];
        let all = usual.iter().chain(variables).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let arguments = ["run", "--dry-run", "--context", path(&directory), "--output", path(&output)];
        let mut program = program(arguments, all);
        if variables.iter().all(|(name, _)| *name != "DOCKER_HOST") {
            program.command.env_remove("DOCKER_HOST");
        }
        program
    }

    fn run(&self, variables: &[(&str, &str)]) -> Finished {
        self.program(variables).finish()
    }

    /// Lets docker's own client write a context.
    fn context(&self, name: &str, endpoint: &str) {
        let config = self.home.path().join(".docker");
        let endpoint = format!("host={endpoint}");
        let arguments = ["--config", path(&config), "context", "create", name, "--docker", &endpoint];
        let output = Command::new("docker").args(arguments).env_remove("DOCKER_HOST").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn an_image_is_built_by_tls_and_by_tcp_without_a_scheme() {
    let Some(fixture) = Fixture::new("find-tls") else { return };
    let directory = fixture.certificates();
    let (secure, plain) =
        (Server::start(Speaks::Tls, directory.as_ref()), Server::start(Speaks::Plain, directory.as_ref()));
    let host = secure.address.to_string();
    let by_tls = fixture.run(&[("DOCKER_HOST", &host), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", &directory)]);
    by_tls.assert_succeeds();
    assert!(by_tls.stderr.contains(&format!("at tcp://{host} (TLS), from DOCKER_HOST")), "{}", by_tls.stderr);
    assert!(by_tls.stderr.contains("by-any-way") && secure.passed() > 5, "{} connections", secure.passed());

    let by_tcp = fixture.run(&[("DOCKER_HOST", &plain.address.to_string())]);
    by_tcp.assert_succeeds();
    assert!(plain.passed() > 5, "{} connections", plain.passed());
}

#[test]
fn contexts_are_those_of_dockers_client() {
    let Some(fixture) = Fixture::new("find-context") else { return };
    let directory = fixture.certificates();
    let secure = Server::start(Speaks::Tls, directory.as_ref());
    let (tcp, files) = (format!("tcp://{}", secure.address), |name: &str| format!("{name}={directory}/{name}.pem"));
    fixture.context("secure", &[tcp.clone(), files("ca"), files("cert"), files("key")].join(","));
    fixture.context("far", "ssh://me@engine.example.com");
    let config = fixture.home.path().join(".docker/config.json");
    std::fs::write(&config, r#"{"currentContext": "secure"}"#).unwrap();

    let current = fixture.run(&[]);
    current.assert_succeeds();
    let named = format!("at {tcp} (TLS), from the docker context secure (currentContext in {})", config.display());
    assert!(current.stderr.contains(&named) && secure.passed() > 5, "{}", current.stderr);

    for (name, words) in [
        (
            "gone",
            ["DOCKER_CONTEXT: there is no docker context \"gone\"", "docker context ls", "DOCKER_CONTEXT=default"],
        ),
        ("far", ["DOCKER_CONTEXT: the docker context \"far\"", "ssh -nNT -L", "DOCKER_HOST=unix://PATH"]),
    ] {
        fixture.run(&[("DOCKER_CONTEXT", name)]).assert_fails(2, &words);
    }
    std::fs::write(&config, r#"{"currentContext": "gone"}"#).unwrap();
    fixture.run(&[]).assert_fails(2, &["config.json: currentContext: there is no docker context \"gone\""]);
    fixture
        .run(&[("DOCKER_HOST", "ssh://me@engine.example.com")])
        .assert_fails(2, &["DOCKER_HOST: ssh://", "ssh -nNT -L"]);
}

#[test]
fn with_tls_required_nothing_goes_out_without_it() {
    let Some(fixture) = Fixture::new("find-no-tls") else { return };
    let directory = fixture.certificates();
    let other = fixture.home.path().join("other");
    certificates(&other);
    let secure = Server::start(Speaks::Tls, directory.as_ref());
    let refused = |server: &Server, directory: &Path, words: &[&str]| {
        let host = format!("tcp://{}", server.address);
        let variables =
            [("DOCKER_HOST", host.as_str()), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", path(directory))];
        let finished = fixture.run(&variables);
        let begins = format!("refused: no TLS with the engine at {host}, from DOCKER_HOST, and no context was sent: ");
        finished.assert_fails(31, &[&[&begins[..]], words].concat());
    };
    // The server's certificate is not by this authority, whose name is the same.
    refused(&secure, &other, &["invalid peer certificate", "ca.pem", path(&other)]);
    // The client's is not by the server's authority, and then there is none.
    std::fs::copy(Path::new(&directory).join("ca.pem"), other.join("ca.pem")).unwrap();
    refused(&secure, &other, &["cert.pem"]);
    std::fs::remove_file(other.join("cert.pem")).unwrap();
    refused(&secure, &other, &["CertificateRequired"]);
    assert_eq!(secure.passed(), 0);

    // A server without TLS receives nothing but TLS: a handshake's record.
    let nonsense = Server::start(Speaks::Nonsense, directory.as_ref());
    refused(&nonsense, directory.as_ref(), &["InvalidContentType"]);
    let received = nonsense.received.lock().unwrap().clone();
    assert!(received.starts_with(&[22, 3]), "{received:?}");
    assert!(!String::from_utf8_lossy(&received).contains("HTTP"), "{received:?}");

    // Without an authority nothing is even connected to.
    let host = nonsense.address.to_string();
    let nobody = fixture.run(&[("DOCKER_HOST", &host), ("DOCKER_TLS_VERIFY", "1")]);
    nobody.assert_fails(2, &["cannot read ", ".docker/ca.pem", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"]);
    assert_eq!(nonsense.received.lock().unwrap().len(), received.len());
}
