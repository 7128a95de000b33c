//! A real registry, Debian's docker-registry, on loopback, with or without a password.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

/// The user of a registry with a password: the htpasswd line is `htpasswd -nbB tester 'a-secret word'`.
pub(crate) const USER: &str = "tester";
pub(crate) const PASSWORD: &str = "a-secret word";
const HTPASSWD: &str = "tester:$2y$05$1//oGhFwP2cPu1/5E527aOBZPcRoO59fbW8PL6Xj23.9PbndshtPy\n";

/// A registry on a port of its own. Ends when it is dropped.
pub(crate) struct Registry {
    child: Child,
    pub(crate) address: String,
    directory: TempDir,
}

impl Registry {
    /// Without the program a test skips itself with a notice at home, and fails in CI.
    pub(crate) fn start(with_password: bool) -> Option<Self> {
        let directory = TempDir::with_prefix("registry-").unwrap();
        let at = |name: &str| directory.path().join(name);
        let mut config = json!({
            "version": "0.1",
            "storage": { "filesystem": { "rootdirectory": at("storage") } },
            // The system chooses a free port.
            "http": { "addr": "127.0.0.1:0" },
        });
        if with_password {
            std::fs::write(at("htpasswd"), HTPASSWD).unwrap();
            config["auth"] = json!({ "htpasswd": { "realm": "test", "path": at("htpasswd") } });
        }
        // JSON is YAML.
        std::fs::write(at("config.yml"), config.to_string()).unwrap();
        let log = std::fs::File::create(at("log")).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(at("config.yml")).stdin(Stdio::null());
        let started = command.stdout(log.try_clone().unwrap()).stderr(log).spawn();
        let Ok(child) = started else {
            assert!(std::env::var_os("IMAGE_WORKER_NO_SKIP").is_none(), "no docker-registry: run scripts/test");
            eprintln!("SKIPPED: no docker-registry; run scripts/test");
            return None;
        };
        let mut registry = Self { child, address: String::new(), directory };
        let log = registry.directory.path().join("log");
        let limit = Instant::now() + Duration::from_mins(1);
        while registry.address.is_empty() {
            let log_text = std::fs::read_to_string(&log).unwrap();
            let found = log_text.split("listening on ").nth(1).and_then(|rest| rest.split(['"', '\n', ' ']).next());
            found.unwrap_or_default().clone_into(&mut registry.address);
            assert!(registry.child.try_wait().unwrap().is_none() && Instant::now() < limit, "no registry: {log_text}");
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(registry)
    }

    /// Its log so far: its users, and the images that were requested.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    /// Ends it.
    pub(crate) fn end(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What a tag stands for, by a client of its own.
    pub(crate) fn digest(&self, repository: &str, tag: &str, user: Option<&str>) -> Option<String> {
        let url = format!("http://{}/v2/{repository}/manifests/{tag}", self.address);
        // The second is what Docker's classic builder makes with the containerd image store.
        let accept =
            "Accept: application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json";
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--head", "--header", accept, &url])
            .args(user.map(|user| ["--user", user]).iter().flatten());
        let output = command.output().expect("curl; run scripts/test");
        let headers = String::from_utf8_lossy(&output.stdout).to_ascii_lowercase();
        headers.lines().find_map(|line| Some(line.strip_prefix("docker-content-digest: ")?.trim().to_owned()))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
