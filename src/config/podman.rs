//! The Podman that the program can start itself: its path, and the part of this environment that it may see. `engine` decides
//! whether it works and starts it.

use super::ProcessEnvironment;
use crate::engine::Podman;
/// The part of our environment that a service may see: how to reach registries, and their credentials. Not a task's credentials.
const PASSED_ON: &[&str] = &[
    "PATH",
    "LANG",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "REGISTRY_AUTH_FILE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
];

/// The current user's Podman. On other systems than Linux there is none: `podman` is only the client of a virtual machine there.
pub(super) fn look(environment: &ProcessEnvironment) -> Podman {
    let passed_on =
        PASSED_ON.iter().filter_map(|name| Some((*name, (environment.variable)(name)?))).collect::<Vec<_>>();
    let path = (environment.variable)("PATH").unwrap_or_default();
    let mut podman = Podman { program: None, environment: passed_on, path };
    podman.program = podman.beside("podman").filter(|_| cfg!(target_os = "linux"));
    podman
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn programs_are_found_and_secrets_stay() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("podman"), "").unwrap();
        let path = format!("relative:/nonexistent:{}", temp.path().display());
        let environment = |name: &str| match name {
            "PATH" => Some(OsString::from(&path)),
            "https_proxy" | "TASKCLUSTER_ACCESS_TOKEN" => Some("value".into()),
            _ => None,
        };
        let environment = ProcessEnvironment {
            variable: &environment,
            now: jiff::Timestamp::UNIX_EPOCH,
            directory: PathBuf::new(),
            temporary: PathBuf::new(),
        };
        let podman = look(&environment);
        assert_eq!(podman.program, Some(temp.path().join("podman")));
        assert_eq!(podman.beside("newuidmap"), None);
        let names: Vec<_> = podman.environment.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["PATH", "https_proxy"]);
    }
}
