//! What a build is given besides what it is made of: credentials for the registries of the images that it pulls, and proxies
//! for its RUN steps, both out of docker's configuration. Neither becomes a part of the image.

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

/// How `BuildKit` calls docker's own registry.
const DOCKER_HUB_OF_BUILDKIT: &str = "registry-1.docker.io";

/// What a builder is told about the images that it pulls.
pub(in crate::engine) struct Pulling {
    /// The credentials that it may need, as a header.
    pub(in crate::engine) credentials: Option<(&'static str, String)>,
    /// Whether no registry needs TLS: those on this machine, of which Podman must be told what Docker has by itself.
    pub(in crate::engine) without_tls: bool,
}

/// What builds are given.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct Access {
    logins: Arc<RegistryLogins>,
    /// By the names of the variables; passwords can be in them.
    proxies: BTreeMap<String, String>,
    /// How often builds are tried while a registry is in trouble, and how long one may say nothing.
    pub(in crate::engine) retry: RetryConfig,
}

impl Access {
    /// What builds in the engine at `url` are given.
    pub(in crate::engine) fn new(config: &EngineConfig, url: &str) -> Self {
        Self { logins: Arc::new(config.logins.clone()), proxies: config.proxies.of(url), retry: config.retry }
    }

    /// The credentials for a registry. Where reading them fails, a warning says so and there are none: most images are
    /// public, and a registry that wants some says so.
    pub(in crate::engine) async fn credentials(&self, registry: &str) -> Option<Credentials> {
        let registry = if registry == DOCKER_HUB_OF_BUILDKIT { "docker.io" } else { registry }.to_owned();
        let (logins, wanted) = (Arc::clone(&self.logins), registry.clone());
        // A helper is a program, which can take its time.
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

/// The registries that a build pulls from, as far as that is known before it begins.
#[derive(Debug, PartialEq, Eq)]
struct Registries {
    names: BTreeSet<String>,
    /// Whether there are no others.
    are_all: bool,
}

fn registries(dockerfile: &str, args: &BTreeMap<String, String>) -> Registries {
    let recipe = DockerfileImages::read(dockerfile, args);
    let images = recipe.references.iter().map(|reference| reference.image.as_deref());
    let are_all = images.clone().all(|image| image.is_some());
    Registries { names: images.flatten().filter_map(registry).collect(), are_all }
}

impl Engine {
    /// What a builder is told about pulling. BuildKit asks for credentials while it builds.
    pub(in crate::engine) async fn pulling(&self, builder: &Builder, dockerfile: &str, plan: &BuildPlan) -> Pulling {
        let Registries { names, are_all } = registries(dockerfile, &plan.args);
        let mut found = Vec::new();
        for registry in names.iter().filter(|_| builder.session.is_none()) {
            found.extend(self.access.credentials(registry).await);
        }
        let header = || ("x-registry-config", URL_SAFE.encode(registry_config(&found).to_string()));
        let are_here = !names.is_empty() && names.iter().all(|registry| is_loopback(registry));
        Pulling {
            credentials: (!found.is_empty()).then(header),
            without_tls: self.driver.must_be_told_of_http() && are_all && are_here,
        }
    }

    /// The build's arguments, and the proxies that docker's configuration gives to every build, where they are none of these in
    /// either spelling: to `BuildKit` both are one. Builders know such arguments without an `ARG` line, and leave them out of the image.
    pub(super) fn args_with_proxies(&self, plan: &BuildPlan) -> BTreeMap<String, String> {
        // Some are written without `http://`.
        self.access.proxies.values().for_each(|proxy| secrets::add_urls_in(&format!("{proxy} http://{proxy}")));
        let is_given = |name: &str| plan.args.keys().any(|given| given.eq_ignore_ascii_case(name));
        let proxies = self.access.proxies.iter().filter(|(name, _)| !is_given(name));
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
            Registries { names, are_all: true }
        };
        assert_eq!(of("FROM scratch\nCOPY a b\n"), known(&[]));
        let all =
            "ARG BASE\nFROM $BASE AS one\nFROM one\nCOPY --from=127.0.0.1:5000/x /a /\nCOPY --from=debian:12 /b /\n";
        assert_eq!(of(all), known(&["127.0.0.1:5000", "docker.io", "quay.io"]));
        assert!(!of("FROM $TARGETARCH-base\n").are_all, "only the engine knows");
    }
}
