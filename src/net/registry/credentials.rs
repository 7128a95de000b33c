//! Credentials for registries, from docker's configuration and similar files. This is the only place that reads them: for
//! pushing, and for the images that builds pull. Each is for one registry, and is registered as a secret as soon as it is read.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use docker_credential::{CredentialRetrievalError, DockerCredential};
use serde_json::Value;

use super::RegistryError;
use super::RegistryLogins;
use crate::report::secrets;

/// docker's key for the credentials of its own registry.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// The answer of helpers without credentials: a part of their protocol.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// Credentials for a registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The registry, as docker calls it.
    pub server: String,
    /// The kind of credentials.
    pub login: Login,
    /// Where they were found.
    pub source: String,
}

/// Credentials for a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// A name and a password.
    Password {
        /// The name.
        username: String,
        /// The password, or an access token instead; a secret.
        password: String,
    },
    /// A token that replaces both; a secret.
    IdentityToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials(for {} from {})", self.server, self.source)
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { username, .. } => write!(f, "Password({username})"),
            Self::IdentityToken(_) => f.write_str("IdentityToken"),
        }
    }
}

impl Credentials {
    /// The credentials for a registry, `HOST` or `HOST:PORT`; none if there are none. This may run a credential helper, which can
    /// take some time.
    pub fn find(registry: &str, logins: &RegistryLogins) -> Result<Option<Self>, RegistryError> {
        for config in configs(logins) {
            if let Some(found) = find_in(registry, &config?)? {
                found.hide();
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Keeps them out of the log, also as an authorization header encodes them.
    fn hide(&self) {
        match &self.login {
            Login::Password { username, password } => {
                secrets::add(password);
                secrets::add(&format!("{username}:{password}"));
            }
            Login::IdentityToken(token) => secrets::add(token),
        }
    }

    /// As engines take them.
    #[must_use]
    pub fn for_engine(&self) -> Value {
        match &self.login {
            Login::Password { username, password } => {
                serde_json::json!({ "username": username, "password": password, "serveraddress": self.server })
            }
            Login::IdentityToken(token) => serde_json::json!({ "identitytoken": token, "serveraddress": self.server }),
        }
    }
}

/// The header that gives a builder the credentials for the registries that it pulls from, and for no others.
#[must_use]
pub fn registry_config(all: &[Credentials]) -> Value {
    let by_server: BTreeMap<_, _> = all.iter().map(|one| (one.server.clone(), one.for_engine())).collect();
    serde_json::json!(by_server)
}

/// A configuration that may have credentials.
struct LoginConfig {
    /// The name of its variable or file.
    source: String,
    text: Vec<u8>,
}

/// The configurations, the one that counts most first.
fn configs(logins: &RegistryLogins) -> impl Iterator<Item = Result<LoginConfig, RegistryError>> {
    let config = |source: String, text| LoginConfig { source, text };
    let text =
        logins.text.iter().map(move |text| Ok(config("DOCKER_AUTH_CONFIG".to_owned(), text.clone().into_bytes())));
    let files = logins.files.iter().filter_map(move |path| match std::fs::read(path) {
        Ok(text) => Some(Ok(config(path.display().to_string(), text))),
        // A home without a `docker login`.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => None,
        Err(source) => Some(Err(RegistryError::Unreadable { path: path.clone(), source })),
    });
    text.chain(files)
}

/// The credentials for a registry in one configuration; none if it has none.
fn find_in(registry: &str, LoginConfig { source, text }: &LoginConfig) -> Result<Option<Credentials>, RegistryError> {
    let server = if registry == "docker.io" { DOCKER_HUB } else { registry };
    let login = match docker_credential::get_credential_from_reader(text.as_slice(), server) {
        Ok(DockerCredential::UsernamePassword(username, password)) => Login::Password { username, password },
        Ok(DockerCredential::IdentityToken(token)) => Login::IdentityToken(token),
        Err(CredentialRetrievalError::NoCredentialConfigured) => return Ok(None),
        Err(error @ CredentialRetrievalError::HelperFailure { .. }) if error.to_string().contains(NOT_FOUND) => {
            return Ok(None);
        }
        Err(error) => {
            let (host, place) = (registry.to_owned(), source.clone());
            return Err(RegistryError::Credentials { host, place, source: error });
        }
    };
    Ok(Some(Credentials { server: server.to_owned(), login, source: source.clone() }))
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    // me:secret-1 and hub:secret-2
    const CONFIG: &str = r#"{"auths": {"quay.io": {"auth": "bWU6c2VjcmV0LTE="}, "https://index.docker.io/v1/": {"auth": "aHViOnNlY3JldC0y"}, "azure.invalid": {"identitytoken": "t-0-k-e-n"}, "bad.invalid": {"auth": "!"}}}"#;

    fn logins(text: Option<&str>, files: &[&Path]) -> RegistryLogins {
        RegistryLogins { text: text.map(str::to_owned), files: files.iter().map(PathBuf::from).collect() }
    }

    fn password(username: &str, password: &str) -> Login {
        Login::Password { username: username.to_owned(), password: password.to_owned() }
    }

    #[test]
    fn each_registry_has_its_own() {
        let find = |registry: &str| Credentials::find(registry, &logins(Some(CONFIG), &[])).unwrap();
        assert_eq!(find("quay.io").unwrap().login, password("me", "secret-1"));
        let hub = find("docker.io").unwrap();
        assert_eq!((hub.server.as_str(), &hub.login), (DOCKER_HUB, &password("hub", "secret-2")));
        assert!(find("ghcr.io").is_none() && find("quay.io.example.com").is_none() && find("io").is_none());
        let token = find("azure.invalid").unwrap();
        assert_eq!(token.login, Login::IdentityToken("t-0-k-e-n".to_owned()));
        let printed = format!("{token:?} {hub:?} {:?}", logins(Some(CONFIG), &[]));
        assert!(
            !printed.contains("t-0-k-e-n") && !printed.contains("secret-2") && !printed.contains("bWU6"),
            "{printed}"
        );
        assert_eq!(secrets::hide("secret-1, t-0-k-e-n"), "[hidden], [hidden]");
        assert!(!secrets::hide("bWU6c2VjcmV0LTE=").contains("bWU6"), "what the configuration has");
        let header = registry_config(&[hub, token]);
        assert_eq!(header[DOCKER_HUB]["password"], "secret-2");
        assert_eq!(
            (header.as_object().unwrap().len(), &header["azure.invalid"]["identitytoken"]),
            (2, &"t-0-k-e-n".into())
        );
    }

    #[test]
    fn the_variable_comes_before_the_files_and_a_missing_file_has_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (directory.path().join("auth.json"), directory.path().join("config.json"));
        std::fs::write(&second, CONFIG).unwrap();
        let find = |text| Credentials::find("quay.io", &logins(text, &[&first, &second])).unwrap().unwrap();
        assert_eq!(find(None).source, second.display().to_string());
        assert_eq!(find(Some("{}")).source, second.display().to_string());
        // him:secret-3
        let other = r#"{"auths": {"quay.io": {"auth": "aGltOnNlY3JldC0z"}}}"#;
        std::fs::write(&first, other).unwrap();
        assert_eq!(find(None).login, password("him", "secret-3"));
        assert_eq!(find(Some(CONFIG)).source, "DOCKER_AUTH_CONFIG");
        let bad = Credentials::find("bad.invalid", &logins(None, &[&first, &second])).unwrap_err().to_string();
        assert!(
            bad.ends_with(&format!("in {}, are of no use; run `docker login bad.invalid`", second.display())),
            "{bad}"
        );
        let error = Credentials::find("quay.io", &logins(None, &[directory.path()])).unwrap_err().to_string();
        assert!(error.starts_with("cannot read docker's credentials in "), "{error}");
    }
}
