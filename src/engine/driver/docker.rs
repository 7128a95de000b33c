//! The driver of Docker Engine, for its two builders and its two image stores.

use std::path::Path;

use tracing::info;

use super::interface::{AbandonedBuild, BuilderRequest, EngineDriver, Histories};
use crate::context::BuiltBy;
use crate::engine::cleanup::descent::Candidate;
use crate::engine::connection::address::Address;
use crate::engine::storage::StorageKind;
use crate::engine::{BuilderChoice, DOCKER_SOCKET, EngineChoice, EngineError, EngineInfo, NamedBy};

/// Docker Engine.
#[derive(Debug)]
pub(in crate::engine) struct DockerEngine;

impl EngineDriver for DockerEngine {
    fn name(&self) -> &'static str {
        "Docker"
    }

    fn choice(&self) -> EngineChoice {
        EngineChoice::Docker
    }

    fn is_component(&self, name: &str) -> bool {
        name == "Engine"
    }

    fn sockets(&self, runtime_dir: Option<&Path>) -> Vec<String> {
        let rootless = runtime_dir.map(|dir| format!("unix://{}", dir.join("docker.sock").display()));
        [Some(DOCKER_SOCKET.to_owned()), rootless].into_iter().flatten().collect()
    }

    fn client_command<'a>(&self, place: &'a Address) -> Vec<&'a str> {
        match place.named_by() {
            // The client reads the certificates from the context, too.
            NamedBy::Context { name, .. } => vec!["docker", "--context", name],
            _ if place.url() == DOCKER_SOCKET => vec!["docker"],
            _ => vec!["docker", "--host", place.url()],
        }
    }

    fn keeps_idle_connections(&self) -> bool {
        true
    }

    fn may_have_buildkit(&self) -> bool {
        true
    }

    fn builder(
        &self,
        &BuilderRequest { choice, buildkit, needs, has_secrets }: &BuilderRequest,
    ) -> Result<BuiltBy, EngineError> {
        let refused = |why: String| Err(EngineError::Refused(why));
        let reason = needs.first().map(ToString::to_string).or(has_secrets.then(|| "a secret".to_owned()));
        match (choice, reason, buildkit.missing) {
            (BuilderChoice::Classic, ..) if has_secrets => {
                refused("secrets need BuildKit: leave --builder classic away, or the secrets".to_owned())
            }
            (BuilderChoice::Classic, ..) => Ok(BuiltBy::Classic),
            (BuilderChoice::BuildKit, _, Some(missing)) => refused(format!("BuildKit is to build, and {missing}")),
            (BuilderChoice::BuildKit, _, None) => Ok(BuiltBy::BuildKit),
            (BuilderChoice::Auto, Some(reason), Some(missing)) => {
                refused(format!("{reason} needs BuildKit, and {missing}"))
            }
            (BuilderChoice::Auto, Some(reason), None) => {
                info!("BuildKit builds it, because of {reason}");
                Ok(BuiltBy::BuildKit)
            }
            (BuilderChoice::Auto, None, Some(missing)) if buildkit.is_default => {
                info!("the classic builder builds it: {missing}");
                Ok(BuiltBy::Classic)
            }
            (BuilderChoice::Auto, None, None) if buildkit.is_default => Ok(BuiltBy::BuildKit),
            (BuilderChoice::Auto, None, _) => Ok(BuiltBy::Classic),
        }
    }

    /// For another platform, the classic builder makes the images of some steps for its own platform, `FROM scratch` and then
    /// `ENV` for example, and refuses them in the next step.
    fn builder_for_other_platforms(&self) -> BuilderChoice {
        BuilderChoice::BuildKit
    }

    /// Only BuildKit supports them.
    fn knows_here_documents(&self, about: &EngineInfo) -> bool {
        about.is_docker_23()
    }

    fn takes_excludes(&self) -> bool {
        false
    }

    fn takes_cache_names(&self) -> bool {
        true
    }

    fn needs_step_images(&self) -> bool {
        false
    }

    fn must_be_told_of_http(&self) -> bool {
        false
    }

    fn mixes_architectures(&self) -> bool {
        false
    }

    fn hides_why_a_pull_failed(&self, _message: &str) -> bool {
        false
    }

    fn reports_each_stage(&self) -> bool {
        true
    }

    fn abandoned_build(&self) -> AbandonedBuild {
        AbandonedBuild::EndsItsStep
    }

    fn lists_parents(&self) -> bool {
        true
    }

    fn parent_in_comment<'a>(&self, _comment: &'a str) -> Option<&'a str> {
        None
    }

    fn find_parents(&self, _candidates: &mut [Candidate], _histories: &Histories) {}

    fn local_name(&self, _name: &str) -> Option<String> {
        None
    }

    fn storage(&self, driver: String, is_containerd: bool) -> StorageKind {
        if is_containerd { StorageKind::Containerd } else { StorageKind::Docker { driver } }
    }

    fn makes_files_in_new_containers(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::builder_features::needs;
    use crate::engine::EngineAddress;
    use crate::engine::build::buildkit_support::BuildKitSupport;
    use crate::engine::connection::client::Ping;

    #[test]
    fn the_client_is_told_where_the_engine_is_unless_it_knows() {
        let at = |url: &str| Address::new(&EngineAddress::usual(url)).unwrap();
        assert_eq!(DockerEngine.client_command(&at(DOCKER_SOCKET)), ["docker"]);
        let tcp = "tcp://127.0.0.1:2375";
        assert_eq!(DockerEngine.client_command(&at(tcp)), ["docker", "--host", "tcp://127.0.0.1:2375"]);
        let named_by = NamedBy::Context { name: "far".to_owned(), by: "DOCKER_CONTEXT".to_owned() };
        let of_a_context = Address::new(&EngineAddress { named_by, ..EngineAddress::usual(tcp) }).unwrap();
        assert_eq!(DockerEngine.client_command(&of_a_context), ["docker", "--context", "far"]);
    }

    fn docker(choice: BuilderChoice, ping: &Ping, dockerfile: &str, secrets: bool) -> Result<bool, String> {
        on_store(choice, ping, dockerfile, secrets, false)
    }

    fn on_store(
        choice: BuilderChoice,
        ping: &Ping,
        dockerfile: &str,
        secrets: bool,
        is_containerd: bool,
    ) -> Result<bool, String> {
        let (buildkit, needs) = (BuildKitSupport::new(ping, is_containerd), needs(dockerfile));
        let request = BuilderRequest { choice, buildkit: &buildkit, needs: &needs, has_secrets: secrets };
        DockerEngine.builder(&request).map(|by| by == BuiltBy::BuildKit).map_err(|error| error.to_string())
    }

    #[test]
    fn the_engines_own_builder_builds_what_every_builder_knows() {
        let (old, new) = (
            Ping { api: Some((1, 41)), builds_with_buildkit: false },
            Ping { api: Some((1, 43)), builds_with_buildkit: true },
        );
        for (choice, on_old, on_new) in [
            (BuilderChoice::Auto, false, true),
            (BuilderChoice::Classic, false, false),
            (BuilderChoice::BuildKit, true, true),
        ] {
            assert_eq!(docker(choice, &old, "FROM a", false), Ok(on_old), "{choice}");
            assert_eq!(docker(choice, &new, "FROM a", false), Ok(on_new), "{choice}");
        }
        assert_eq!(docker(BuilderChoice::Auto, &old, "FROM a\nRUN --mount=type=cache x", false), Ok(true));
        assert_eq!(docker(BuilderChoice::Auto, &old, "FROM a", true), Ok(true));
    }

    #[test]
    fn what_nobody_could_build_is_refused() {
        let ancient = Ping { api: Some((1, 38)), builds_with_buildkit: false };
        assert_eq!(docker(BuilderChoice::Auto, &ancient, "FROM a", false), Ok(false));
        for (choice, dockerfile, secrets) in [
            (BuilderChoice::BuildKit, "FROM a", false),
            (BuilderChoice::Auto, "FROM a\nRUN --mount=type=cache x", false),
            (BuilderChoice::Auto, "FROM a", true),
        ] {
            assert!(docker(choice, &ancient, dockerfile, secrets).unwrap_err().contains("18.09"));
        }
        assert!(
            docker(BuilderChoice::Classic, &Ping::default(), "FROM a", true).unwrap_err().contains("--builder classic")
        );
    }

    #[test]
    fn buildkit_that_gets_no_context_is_not_asked() {
        let (docker_26, docker_28) = (
            Ping { api: Some((1, 45)), builds_with_buildkit: true },
            Ping { api: Some((1, 48)), builds_with_buildkit: true },
        );
        let mount = "FROM a\nRUN --mount=type=cache x";
        assert_eq!(on_store(BuilderChoice::Auto, &docker_26, "FROM a", false, true), Ok(false));
        assert_eq!(on_store(BuilderChoice::Auto, &docker_26, mount, false, false), Ok(true));
        for (choice, dockerfile, secrets) in [
            (BuilderChoice::BuildKit, "FROM a", false),
            (BuilderChoice::Auto, mount, false),
            (BuilderChoice::Auto, "FROM a", true),
        ] {
            let refused = on_store(choice, &docker_26, dockerfile, secrets, true).unwrap_err();
            assert!(refused.contains("moby#47717") && refused.contains("containerd-snapshotter"), "{refused}");
            assert_eq!(on_store(choice, &docker_28, dockerfile, secrets, true), Ok(true), "{choice}");
        }
    }
}
