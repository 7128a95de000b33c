//! Images built on private ones: a registry with a password on loopback, the credentials in each place where they can be,
//! and the registries that get none of them. And docker's proxies, which RUN steps have and images do not.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::registry::{PASSWORD, Registry, USER};
use crate::harness::{Finished, PROJECT, Repository, docker, docker_output, engine, path, program};

/// A registry with a password that has one image, `ADDRESS/m/NAME-base:1.0`, and a home.
struct Fixture {
    registry: Registry,
    home: TempDir,
    name: &'static str,
}

impl Fixture {
    fn new(name: &'static str) -> Option<Self> {
        let registry = engine().then(|| Registry::start(true)).flatten()?;
        let fixture = Self { registry, home: TempDir::with_prefix("home-").unwrap(), name };
        let base = format!("{name}-base");
        let tree = Repository::bare(&base, &format!("FROM scratch\nLABEL image-worker-test={name}\nCOPY content /\n"));
        std::fs::write(tree.directory().join("content"), format!("{name} of a private base")).unwrap();
        std::fs::write(tree.directory().join("VERSION"), "1.0\n").unwrap();
        std::fs::write(tree.directory().join("REGISTRY"), format!("{}/m\n", fixture.registry.address)).unwrap();
        let environment = [("DOCKER_AUTH_CONFIG".to_owned(), fixture.logins(PASSWORD).to_string())];
        let mut build = program(["build", "--push", &base], environment);
        build.command.current_dir(tree.root.path());
        build.finish().assert_succeeds();
        fixture.remove_base();
        Some(fixture)
    }

    fn base(&self) -> String {
        format!("{}/m/{}-base:1.0", self.registry.address, self.name)
    }

    /// So that the next build pulls it.
    fn remove_base(&self) {
        docker_output(&["rmi", "--force", &self.base()]);
    }

    /// What `docker login` would write.
    fn logins(&self, password: &str) -> Value {
        let auth = base64::prelude::BASE64_STANDARD.encode(format!("{USER}:{password}"));
        json!({ "auths": { &self.registry.address: { "auth": auth } } })
    }

    fn write(&self, file: &str, content: &str) -> PathBuf {
        let file = self.home.path().join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, content).unwrap();
        file
    }

    /// A dry run of an image of this Dockerfile. What it wrote is in `home/out`.
    fn run(&self, dockerfile: &str, variables: &[(&str, &str)]) -> Finished {
        let repository = Repository::bare(self.name, dockerfile);
        let (output, directory) = (self.home.path().join("out"), repository.directory());
        let usual = [
            ("IMAGE_NAME", self.name),
            ("PROJECT", PROJECT),
            ("IMAGE_WORKER_TRIES", "1"),
            ("HOME", path(self.home.path())),
            ("PATH", &format!("{}:/usr/bin:/bin", path(&self.home.path().join("bin")))),
        ];
        let all = usual.iter().chain(variables).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let arguments = ["run", "--dry-run", "--context", path(&directory), "--output", path(&output)];
        let finished = program(arguments, all).finish();
        let encoded = base64::prelude::BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"));
        for secret in [PASSWORD, &encoded] {
            assert!(!finished.stderr.contains(secret) && !finished.stdout.contains(secret), "{}", finished.stderr);
        }
        finished
    }

    fn from(&self) -> String {
        format!("FROM {}\nLABEL image-worker-test={}\nCOPY Dockerfile /\n", self.base(), self.name)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        docker(&["rmi", "--force", &self.base()]);
    }
}

/// Whether any file below a directory has this text.
fn has(directory: &Path, text: &str) -> bool {
    let mut files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.any(|file| {
        let is_in = |bytes: Vec<u8>| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        if file.is_dir() { has(&file, text) } else { is_in(std::fs::read(file).unwrap()) }
    })
}

#[test]
fn a_private_base_is_pulled_with_the_credentials_wherever_they_are() {
    let Some(fixture) = Fixture::new("private-base") else { return };
    let (logins, wrong) = (fixture.logins(PASSWORD).to_string(), fixture.logins("a-wrong word").to_string());
    let login = format!("docker login {}", fixture.registry.address);

    fixture.run(&fixture.from(), &[]).assert_fails(20, &["check the image's name", "docker login"]);
    fixture.run(&fixture.from(), &[("DOCKER_AUTH_CONFIG", &logins)]).assert_succeeds();
    fixture.remove_base();
    // Images that only lend files, and a file of Podman's; docker's own come after it.
    fixture.write(".docker/config.json", &wrong);
    let auth_file = fixture.write("auth.json", &logins);
    let copies =
        format!("FROM scratch\nLABEL image-worker-test={}\nCOPY --from={} /content /\n", fixture.name, fixture.base());
    fixture.run(&copies, &[("REGISTRY_AUTH_FILE", path(&auth_file))]).assert_succeeds();
    docker(&["rmi", "--force", &fixture.base()]);

    let refused = fixture.run(&fixture.from(), &[]);
    refused.assert_fails(20, &["check the image's name, and the credentials for ", ".docker/config.json", &login]);
    fixture.run(&copies, &[]).assert_fails(20, &["the credentials for ", ".docker/config.json", &login]);

    let answer = json!({ "ServerURL": fixture.registry.address, "Username": USER, "Secret": PASSWORD });
    let helper = |text: &str| {
        let helper = fixture.write("bin/docker-credential-test", &format!("#!/bin/sh\n{text}\n"));
        std::fs::set_permissions(helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    helper(&format!("[ \"$(cat)\" = {} ] || exit 9; echo '{answer}'", fixture.registry.address));
    fixture.write(".docker/config.json", &json!({ "credHelpers": { &fixture.registry.address: "test" } }).to_string());
    fixture.run(&fixture.from(), &[]).assert_succeeds();
    fixture.remove_base();
    // A helper that is of no use is reported, and a public image needs none.
    helper("echo 'the keychain is locked'; exit 1");
    let locked = fixture.run(&fixture.from(), &[]);
    locked.assert_fails(20, &["check the image's name", "docker login"]);
    assert!(
        locked.stderr.contains("going on without credentials for ") && locked.stderr.contains("keychain is locked"),
        "{}",
        locked.stderr
    );
}

#[test]
fn another_registry_gets_no_credentials() {
    let Some(fixture) = Fixture::new("private-other") else { return };
    let Some(other) = Registry::start(true) else { return };
    let logins = fixture.logins(PASSWORD).to_string();
    let dockerfile = format!("{}COPY --from={}/m/other:1 /file /\n", fixture.from(), other.address);
    let refused = fixture.run(&dockerfile, &[("DOCKER_AUTH_CONFIG", &logins)]);
    refused.assert_fails(20, &["check the image's name", &other.address]);
    assert!(!refused.error_line().contains("DOCKER_AUTH_CONFIG"), "{}", refused.stderr);
    // The registries log the users that they accept.
    assert!(fixture.registry.log().contains(USER), "{}", fixture.registry.log());
    let log = other.log();
    assert!(log.contains("/v2/"), "it got no request: {log}");
    // Podman can give a user without a name.
    let others = log.replace(r#"authenticating user \"\""#, "");
    assert!(!log.contains(USER) && !others.contains("authenticating user"), "{log}");
}

#[test]
fn proxies_of_dockers_configuration_are_for_steps_and_in_no_image() {
    if !engine() {
        return;
    }
    let home = TempDir::with_prefix("home-").unwrap();
    let (proxy, config) = ("http://me:proxy-secret-1@127.0.0.1:9", home.path().join(".docker"));
    std::fs::create_dir(&config).unwrap();
    let proxies = json!({ "proxies": { "default": { "httpProxy": proxy, "noProxy": "example.com", "allProxy": "" } } });
    std::fs::write(config.join("config.json"), proxies.to_string()).unwrap();
    let steps = "RUN test \"${HTTP_PROXY#*@}\" = 127.0.0.1:9 && test \"$http_proxy\" = \"$HTTP_PROXY\" && echo it-is \"$HTTP_PROXY\"\n\
                 RUN test \"$no_proxy\" != example.com && test \"$NO_PROXY\" = mine.example.com && test -z \"$HTTPS_PROXY\"\n";
    let repository = Repository::new("private-proxies", steps);
    let (output, directory) = (home.path().join("out"), repository.directory());
    let environment = [
        ("IMAGE_NAME", "private-proxies"),
        ("PROJECT", PROJECT),
        ("HOME", path(home.path())),
        ("DOCKER_BUILD_ARGS", r#"{"NO_PROXY": "mine.example.com"}"#),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let arguments = ["run", "--dry-run", "--context", path(&directory), "--output", path(&output)];
    let finished = program(arguments, environment).finish();
    finished.assert_succeeds();
    assert!(
        finished.stderr.contains("it-is") && finished.stderr.contains("[hidden]127.0.0.1:9"),
        "{}",
        finished.stderr
    );
    assert!(!finished.stderr.contains("proxy-secret-1"), "{}", finished.stderr);
    // The archive has the layers as they are, the configuration and the history; and there are the documents beside it.
    assert!(has(&output, "it-is"), "the archive's history has the steps");
    assert!(!has(&output, "proxy-secret-1") && !has(&output, "HTTP_PROXY="), "a proxy is in what is published");
}
