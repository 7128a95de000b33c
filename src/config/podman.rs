//! The Podman that the program can start by itself: where it is, and what of this environment it may see. Whether it works,
//! and what it is started for, is the engine's affair.

use super::ProcessEnvironment;
use crate::engine::Podman;
/// What a service may know of our environment: how to reach registries, and as whom. Not a task's credentials.
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

/// The Podman of whoever runs the program.
pub(super) fn look(around: &ProcessEnvironment) -> Podman {
    let environment =
        PASSED_ON.iter().filter_map(|name| Some((*name, (around.environment)(name)?))).collect::<Vec<_>>();
    let path = (around.environment)("PATH").unwrap_or_default();
    let mut podman = Podman { program: None, environment, path };
    podman.program = podman.beside("podman");
    podman
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn programs_are_found_and_secrets_stay() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("podman"), "").unwrap();
        let path = format!("relative:/nonexistent:{}", folder.path().display());
        let environment = |name: &str| match name {
            "PATH" => Some(OsString::from(&path)),
            "https_proxy" | "TASKCLUSTER_ACCESS_TOKEN" => Some("value".into()),
            _ => None,
        };
        let around = ProcessEnvironment {
            environment: &environment,
            now: jiff::Timestamp::UNIX_EPOCH,
            directory: PathBuf::new(),
            temporary: PathBuf::new(),
        };
        let podman = look(&around);
        assert_eq!(podman.program, Some(folder.path().join("podman")));
        assert_eq!(podman.beside("newuidmap"), None);
        let names: Vec<_> = podman.environment.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["PATH", "https_proxy"]);
    }
}
