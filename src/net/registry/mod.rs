//! Docker registries: the content of a tag, and docker's own credentials. The engine pushes images, since it has them.

mod credentials;
mod logins;
mod reference;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use docker_credential::CredentialRetrievalError;
use oci_client::Reference;
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciEnvelope, OciErrorCode};
use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE,
};
use oci_client::secrets::RegistryAuth;
use serde_json::Value;

use crate::net::retry::{Failure, Policy, RetryConfig, Retryability, retry};
use crate::report::Hint;
pub use credentials::{Credentials, Login, registry_config};
pub use logins::RegistryLogins;
pub use reference::{ImageReference, is_repository, is_tag, parse_reference};

/// A reachable registry accepts a connection at once.
const CONNECTING_MAY_TAKE: Duration = Duration::from_secs(15);

/// Everything that a tag can refer to.
const MANIFESTS: [&str; 4] =
    [OCI_IMAGE_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE, IMAGE_MANIFEST_LIST_MEDIA_TYPE];

/// Why a registry query failed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No name of an image.
    #[error("{name} is no name that a registry could have{}", Hint("write REGISTRY/NAME:TAG"))]
    Name {
        /// The name.
        name: String,
    },
    /// docker's configuration.
    #[error(
        "cannot read docker's credentials in {}{}",
        path.display(),
        Hint("it must be readable, or DOCKER_CONFIG another directory")
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Credentials that cannot be read, from a helper for example.
    #[error(
        "docker's credentials for {host}, in {place}, are of no use{}",
        Hint(format_args!("run `docker login {host}`"))
    )]
    Credentials {
        /// The registry.
        host: String,
        /// The file with the credentials, or with the name of a helper.
        place: String,
        /// The problem.
        #[source]
        source: CredentialRetrievalError,
    },
    /// Credentials of a kind that we do not understand.
    #[error(
        "docker's credentials for {host} are an identity token, which cannot be used here{}",
        Hint("log in with a password or an access token")
    )]
    IdentityToken {
        /// The registry.
        host: String,
    },
    /// The registry does not let us in.
    #[error(
        "{host} does not let us look at {name}{}{}",
        if *.known { ", with docker's credentials for it" } else { "" },
        Hint(format_args!("run `docker login {host}`"))
    )]
    Unauthorized {
        /// The registry.
        host: String,
        /// The image.
        name: String,
        /// Whether there were credentials.
        known: bool,
        /// The registry's message.
        #[source]
        source: OciDistributionError,
    },
    /// It did not answer, or with something else.
    #[error("the registry did not say what {name} is")]
    Answer {
        /// The image.
        name: String,
        /// The registry's message.
        #[source]
        source: OciDistributionError,
    },
}

impl RegistryError {
    /// Whether the registry answered with a refusal.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Unauthorized { .. } => true,
            Self::Answer { source, .. } => self.retryability() == Retryability::Permanent && status(source).is_some(),
            Self::Name { .. } | Self::Unreadable { .. } | Self::Credentials { .. } | Self::IdentityToken { .. } => {
                false
            }
        }
    }
}

/// The status of an error answer; 400 for those that have only the registry's own code.
fn status(error: &OciDistributionError) -> Option<u16> {
    match error {
        OciDistributionError::ServerError { code, .. } => Some(*code),
        OciDistributionError::RegistryError { envelope, .. } if says(envelope, &OciErrorCode::Toomanyrequests) => {
            Some(429)
        }
        OciDistributionError::RegistryError { .. } => Some(400),
        _ => None,
    }
}

fn says(envelope: &OciEnvelope, code: &OciErrorCode) -> bool {
    envelope.errors.iter().any(|error| error.code == *code)
}

impl Failure for RegistryError {
    fn retryability(&self) -> Retryability {
        match self {
            Self::Answer { source: OciDistributionError::RequestError(_), .. } => Retryability::Transient,
            Self::Answer { source, .. } if status(source).is_some_and(|it| it >= 500 || it == 429) => {
                Retryability::Transient
            }
            Self::Answer { .. } | Self::Unauthorized { .. } | Self::Name { .. } => Retryability::Permanent,
            Self::Unreadable { .. } | Self::Credentials { .. } | Self::IdentityToken { .. } => Retryability::Permanent,
        }
    }
}

/// The content of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The digest of its manifest, `sha256:…`.
    pub digest: String,
    /// The digest of its image's configuration, which classic engines call the image's id.
    pub config: Option<String>,
}

/// The registry of one image, and how we get in.
#[derive(Debug)]
pub struct RegistryImage {
    reference: Reference,
    /// docker's credentials for it.
    pub credentials: Option<Credentials>,
    retry: RetryConfig,
}

impl RegistryImage {
    /// The registry of `REGISTRY/NAME:VERSION`. This may run a credential helper, which can take some time.
    pub fn find(name: &str, logins: &RegistryLogins, retry: RetryConfig) -> Result<Self, RegistryError> {
        let reference = parse_reference(name).ok_or_else(|| RegistryError::Name { name: name.to_owned() })?;
        let credentials = Credentials::find(reference.registry(), logins)?;
        if credentials.as_ref().is_some_and(|found| matches!(found.login, Login::IdentityToken(_))) {
            return Err(RegistryError::IdentityToken { host: reference.registry().to_owned() });
        }
        Ok(Self { reference, credentials, retry })
    }

    /// The tag's current content; none if it is free.
    pub async fn published(&self) -> Result<Option<Published>, RegistryError> {
        let client = self.client();
        let auth = match self.credentials.as_ref().map(|found| &found.login) {
            Some(Login::Password { username, password }) => RegistryAuth::Basic(username.clone(), password.clone()),
            // Refused before.
            Some(Login::IdentityToken(_)) | None => RegistryAuth::Anonymous,
        };
        retry("asking the registry", self.retry.policy(Policy::CALL), || async {
            match client.pull_manifest_raw(&self.reference, &auth, &MANIFESTS).await {
                Ok((manifest, digest)) => {
                    // Of an index only the digest is known: no image that an engine has is one.
                    let manifest: Value = serde_json::from_slice(&manifest).unwrap_or_default();
                    let config = manifest["config"]["digest"].as_str().map(str::to_owned);
                    Ok(Some(Published { digest, config }))
                }
                Err(error) if is_free(&error) => Ok(None),
                Err(error) => Err(self.classify(error)),
            }
        })
        .await
    }

    fn client(&self) -> Client {
        let host = self.reference.resolve_registry();
        // As docker does: a local connection needs no TLS.
        let protocol = if is_loopback(host) { ClientProtocol::Http } else { ClientProtocol::Https };
        Client::new(ClientConfig {
            protocol,
            connect_timeout: Some(CONNECTING_MAY_TAKE),
            read_timeout: Some(self.retry.call_timeout),
            user_agent: concat!("image-worker/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        })
    }

    fn classify(&self, source: OciDistributionError) -> RegistryError {
        let (host, name) = (self.reference.registry().to_owned(), self.reference.to_string());
        let denied = match &source {
            OciDistributionError::UnauthorizedError { .. } | OciDistributionError::AuthenticationFailure(_) => true,
            OciDistributionError::ServerError { code, .. } => matches!(code, 401 | 403),
            OciDistributionError::RegistryError { envelope, .. } => {
                says(envelope, &OciErrorCode::Denied) || says(envelope, &OciErrorCode::Unauthorized)
            }
            _ => false,
        };
        if denied {
            RegistryError::Unauthorized { host, name, known: self.credentials.is_some(), source }
        } else {
            RegistryError::Answer { name, source }
        }
    }
}

/// Whether the registry has nothing of that name.
fn is_free(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::ImageManifestNotFoundError(_) | OciDistributionError::ServerError { code: 404, .. } => {
            true
        }
        OciDistributionError::RegistryError { envelope, .. } => {
            [OciErrorCode::ManifestUnknown, OciErrorCode::NameUnknown, OciErrorCode::NotFound]
                .iter()
                .any(|code| says(envelope, code))
        }
        _ => false,
    }
}

/// Whether a registry, with its port, is on this machine: engines and this program use plain HTTP with it.
#[must_use]
pub fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => registry.split(':').next().unwrap_or(registry),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str, config: &str) -> Result<RegistryImage, RegistryError> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config.json"), config).unwrap();
        let logins = RegistryLogins { text: None, files: vec![directory.path().join("config.json")] };
        RegistryImage::find(name, &logins, RetryConfig::default())
    }

    #[test]
    fn missing_credentials_are_an_error_before_the_push() {
        let config = r#"{"auths": {"azure.invalid": {"identitytoken": "x"}, "bad.invalid": {"auth": "!"}}}"#;
        let token = place("azure.invalid/i:1", config);
        assert!(matches!(token, Err(RegistryError::IdentityToken { host }) if host == "azure.invalid"));
        let bad = place("bad.invalid/i:1", config).unwrap_err().to_string();
        assert!(bad.ends_with("are of no use; run `docker login bad.invalid`"), "{bad}");
    }

    #[test]
    fn only_this_machine_is_spoken_to_in_the_clear() {
        for near in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.1.2.3", "[::1]:5000"] {
            assert!(is_loopback(near), "{near}");
        }
        for far in ["quay.io", "localhost.example.com", "10.0.0.1:5000", "registry:5000", "[::2]:5000"] {
            assert!(!is_loopback(far), "{far}");
        }
    }

    #[test]
    fn refusals_and_trouble_are_told_apart() {
        let place = place("quay.io/m/i:1", "{}").unwrap();
        let of = |code: u16| {
            let (url, message) = (String::new(), String::new());
            place.classify(OciDistributionError::ServerError { code, url, message })
        };
        for (code, refusal, another) in [
            (401, true, Retryability::Permanent),
            (403, true, Retryability::Permanent),
            (400, true, Retryability::Permanent),
            (429, false, Retryability::Transient),
            (503, false, Retryability::Transient),
        ] {
            assert_eq!((of(code).is_refusal(), of(code).retryability()), (refusal, another), "{code}");
        }
        assert!(
            of(401).to_string().ends_with("quay.io does not let us look at quay.io/m/i:1; run `docker login quay.io`")
        );
    }
}
