//! Credentials for the registries that a build pulls images from, and proxies for its RUN steps. Both come from docker's
//! configuration. Neither becomes a part of the image.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use tracing::{debug, warn};

use super::bases::registry;
use crate::dockerfile::base_images::DockerfileImages;
use crate::engine::Engine;
use crate::engine::build::builder::Builder;
use crate::engine::{BuildPlan, EngineConfig};
use crate::net::blocking::blocking;
use crate::net::registry::{Credentials, RegistryLogins, is_loopback, registry_config};
use crate::net::retry::RetryConfig;
use crate::report::{ErrorChain, secrets};

/// `BuildKit`'s name for Docker Hub.
const DOCKER_HUB_OF_BUILDKIT: &str = "registry-1.docker.io";

/// The options of a builder for pulling images.
pub(in crate::engine) struct Pulling {
    /// The credentials that it may need, as a header.
    pub(in crate::engine) credentials: Option<(&'static str, String)>,
    /// Whether no registry needs TLS, because all are on this machine. Podman needs an option for this; Docker does it by
    /// default.
    pub(in crate::engine) without_tls: bool,
}

/// Credentials, proxies and retry settings for builds.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct Access {
    logins: Arc<RegistryLogins>,
    /// Proxies, by the names of their variables. They can contain passwords.
    proxies: BTreeMap<String, String>,
    /// How often a build is tried while a registry fails, and how long a registry may send nothing.
    pub(in crate::engine) retry: RetryConfig,
}

impl Access {
    /// The settings for builds in the engine at `url`.
    pub(in crate::engine) fn new(config: &EngineConfig, url: &str) -> Self {
        Self { logins: Arc::new(config.logins.clone()), proxies: config.proxies.of(url), retry: config.retry }
    }

    /// The credentials for a registry. If they cannot be read, logs a warning and returns `None`: most images are public, and a
    /// registry that requires credentials reports that.
    pub(in crate::engine) async fn credentials(&self, registry: &str) -> Option<Credentials> {
        let registry = if registry == DOCKER_HUB_OF_BUILDKIT { "docker.io" } else { registry }.to_owned();
        let (logins, wanted) = (Arc::clone(&self.logins), registry.clone());
        // A credential helper is a program, which can be slow.
        match blocking(move || Credentials::find(&wanted, &logins)).await {
            Ok(found) => {
                if let Some(Credentials { source, .. }) = &found {
                    debug!("the credentials for {registry} are from {source}");
                }
                found
            }
            Err(error) => {
                warn!("going on without credentials for {registry}: {}", ErrorChain(&error));
                None
            }
        }
    }
}

/// The registries that a build pulls from, as far as they are known before it starts.
#[derive(Debug, PartialEq, Eq)]
struct Registries {
    names: BTreeSet<String>,
    /// Whether there are no other registries.
    is_complete: bool,
}

fn registries(dockerfile: &str, args: &BTreeMap<String, String>) -> Registries {
    let dockerfile = DockerfileImages::read(dockerfile, args);
    let images = dockerfile.references.iter().map(|reference| reference.image.as_deref());
    let is_complete = images.clone().all(|image| image.is_some());
    Registries { names: images.flatten().filter_map(registry).collect(), is_complete }
}

impl Engine {
    /// The builder's options for pulling. BuildKit requests credentials during the build instead.
    pub(in crate::engine) async fn pulling(&self, builder: &Builder, dockerfile: &str, plan: &BuildPlan) -> Pulling {
        let Registries { names, is_complete } = registries(dockerfile, &plan.args);
        let mut found = Vec::new();
        for registry in names.iter().filter(|_| builder.session.is_none()) {
            found.extend(self.access.credentials(registry).await);
        }
        let header = || ("x-registry-config", URL_SAFE.encode(registry_config(&found).to_string()));
        let are_local = !names.is_empty() && names.iter().all(|registry| is_loopback(registry));
        Pulling {
            credentials: (!found.is_empty()).then(header),
            without_tls: self.driver.must_be_told_of_http() && is_complete && are_local,
        }
    }

    /// The build arguments, and the proxies of docker's configuration. A build argument replaces a proxy of the same name, in
    /// upper or lower case: `BuildKit` treats both spellings as one name. Builders accept these arguments without an `ARG`
    /// line, and do not store them in the image.
    pub(super) fn args_with_proxies(&self, plan: &BuildPlan) -> BTreeMap<String, String> {
        // Some proxies are written without `http://`.
        self.access.proxies.values().for_each(|proxy| secrets::add_urls_in(&format!("{proxy} http://{proxy}")));
        let is_build_arg = |name: &str| plan.args.keys().any(|arg| arg.eq_ignore_ascii_case(name));
        let proxies = self.access.proxies.iter().filter(|(name, _)| !is_build_arg(name));
        proxies.chain(&plan.args).map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_those_of_the_images_that_are_named() {
        let of = |dockerfile: &str| registries(dockerfile, &[("BASE".to_owned(), "quay.io/a/b:1".to_owned())].into());
        let known = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            Registries { names, is_complete: true }
        };
        assert_eq!(of("FROM scratch\nCOPY a b\n"), known(&[]));
        let all =
            "ARG BASE\nFROM $BASE AS one\nFROM one\nCOPY --from=127.0.0.1:5000/x /a /\nCOPY --from=debian:12 /b /\n";
        assert_eq!(of(all), known(&["127.0.0.1:5000", "docker.io", "quay.io"]));
        assert!(!of("FROM $TARGETARCH-base\n").is_complete, "only the engine knows");
    }
}
