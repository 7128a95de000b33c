//! `push` against a real registry, Debian's docker-registry, on loopback: with and without a password, over tags that are
//! taken, and with docker's own credentials.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::registry::{PASSWORD, Registry, USER};
use crate::harness::{Builder, Finished, docker, docker_output, engine, path, podman_output, program};

/// A repository with one image, whose registry is the given one, and a home with docker's configuration.
struct Fixture {
    registry: Registry,
    root: TempDir,
    name: &'static str,
}

impl Fixture {
    fn new(name: &'static str, with_password: bool) -> Option<Self> {
        let registry = engine().then(|| Registry::start(with_password)).flatten()?;
        let root = TempDir::with_prefix("repository-").unwrap();
        std::fs::create_dir(root.path().join(".hg")).unwrap();
        let fixture = Self { registry, root, name };
        fixture.write("testing/docker/REGISTRY", &format!("{}/m\n", fixture.registry.address));
        fixture.image("1.0", "first");
        Some(fixture)
    }

    fn write(&self, file: &str, content: &str) -> PathBuf {
        let file = self.root.path().join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, content).unwrap();
        file
    }

    fn file(&self, file: &str) -> PathBuf {
        self.root.path().join("testing/docker").join(self.name).join(file)
    }

    fn image(&self, version: &str, content: &str) {
        let directory = format!("testing/docker/{}", self.name);
        self.write(
            &format!("{directory}/Dockerfile"),
            &format!("FROM scratch\nLABEL image-worker-test={}\nCOPY content /\n", self.name),
        );
        self.write(&format!("{directory}/content"), &format!("{} {content}\n", self.name));
        self.write(&format!("{directory}/VERSION"), version);
    }

    fn docker_config(&self, auth: &Value) {
        self.write("home/.docker/config.json", &auth.to_string());
    }

    /// Docker's configuration after `docker login`.
    fn log_in(&self, password: &str) {
        use base64::Engine as _;
        let auth = base64::prelude::BASE64_STANDARD.encode(format!("{USER}:{password}"));
        self.docker_config(&json!({ "auths": { &self.registry.address: { "auth": auth } } }));
    }

    fn tag(&self, version: &str) -> String {
        format!("{}/m/{}:{version}", self.registry.address, self.name)
    }

    fn program(&self, arguments: &[&str], path_variable: &Path) -> Finished {
        let home = self.root.path().join("home");
        // A wrong registry would keep the tests waiting.
        let environment = [("HOME", path(&home)), ("PATH", path(path_variable)), ("IMAGE_WORKER_TRIES", "1")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut program = program(arguments.iter().copied(), environment);
        program.command.current_dir(self.root.path());
        let finished = program.finish();
        assert!(!finished.stderr.contains(PASSWORD) && !finished.stdout.contains(PASSWORD), "{}", finished.stderr);
        finished
    }

    /// An own build each time: what other tests remove meanwhile, the engine's cache would miss.
    fn build(&self) {
        self.program(&["build", "--no-cache", self.name], Path::new("")).assert_succeeds();
    }

    fn push(&self, more: &[&str]) -> Finished {
        self.program(&[&["push", self.name], more].concat(), Path::new(""))
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let names = docker_output(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
        let ours = names.lines().filter(|name| name.starts_with(&self.registry.address) && !name.ends_with("<none>"));
        docker(&[&["rmi"][..], &ours.collect::<Vec<_>>()].concat());
        // Images that lost their tag to a later build.
        docker(&["image", "prune", "--force", "--filter", &format!("label=image-worker-test={}", self.name)]);
    }
}

#[test]
fn an_image_is_pushed_once_and_its_tag_is_not_taken_from_it() {
    let Some(fixture) = Fixture::new("push-once", false) else { return };
    fixture.push(&[]).assert_fails(2, &["the engine has no", &fixture.tag("1.0"), "image-worker build push-once"]);
    fixture.build();
    let pushed = fixture.push(&["--json"]);
    pushed.assert_succeeds();
    let first = fixture.registry.digest("m/push-once", "1.0", None).unwrap();
    let expected = json!({
        "name": "push-once", "tag": fixture.tag("1.0"), "digest": first, "pushed": true, "pinned": false,
    });
    assert_eq!(serde_json::from_str::<Value>(&pushed.stdout).unwrap(), expected);

    let again = fixture.push(&[]);
    again.assert_succeeds();
    assert_eq!(again.stdout, format!("{first}\n"));
    assert!(again.stderr.contains("is in the registry already"), "{}", again.stderr);
    // What the engine got from the registry is what the registry has.
    docker_output(&["rmi", &fixture.tag("1.0")]);
    if Builder::is_podman() {
        podman_output(&["pull", "--quiet", "--tls-verify=false", &fixture.tag("1.0")]);
    } else {
        docker_output(&["pull", "--quiet", &fixture.tag("1.0")]);
    }
    assert!(fixture.push(&[]).stderr.contains("is in the registry already"));

    fixture.image("1.0", "second");
    assert!(fixture.push(&[]).stderr.contains("is in the registry already"), "it is not built yet");
    fixture.build();
    let taken = fixture.push(&[]);
    taken.assert_fails(31, &[&fixture.tag("1.0"), "with other content", &first, "--force"]);
    assert_eq!(fixture.registry.digest("m/push-once", "1.0", None).unwrap(), first, "nothing was pushed");
    let forced = fixture.push(&["--force"]);
    forced.assert_succeeds();
    assert!(forced.stderr.contains(&format!("had other content, {first}")), "{}", forced.stderr);
    let second = fixture.registry.digest("m/push-once", "1.0", None).unwrap();
    assert_eq!((forced.stdout, second == first), (format!("{second}\n"), false));
}

#[test]
fn the_digest_is_pinned_on_request() {
    let Some(fixture) = Fixture::new("push-pin", false) else { return };
    let built = fixture.program(&["build", "--no-cache", "--push", "--pin", "--json", "push-pin"], Path::new(""));
    built.assert_succeeds();
    let first = fixture.registry.digest("m/push-pin", "1.0", None).unwrap();
    let report: Value = serde_json::from_str(&built.stdout).unwrap();
    assert_eq!((&report[0]["digest"], report[0]["tag"].as_str()), (&json!(first), Some(fixture.tag("1.0").as_str())));
    assert!(!built.stderr.contains("to push it"), "{}", built.stderr);
    assert_eq!(std::fs::read_to_string(fixture.file("HASH")).unwrap(), format!("{first}\n"));
    assert_eq!(std::fs::metadata(fixture.file("HASH")).unwrap().permissions().mode() & 0o777, 0o644);

    fixture.image("1.1", "second");
    let unbuilt = fixture.push(&[]);
    unbuilt.assert_fails(2, &["the engine has no", &fixture.tag("1.1")]);
    fixture.build();
    fixture.image("1.1", "third");
    let old = fixture.push(&[]);
    old.assert_succeeds();
    assert!(old.stderr.contains("HASH still names ") && old.stderr.contains("see --pin"), "{}", old.stderr);
    assert!(old.stderr.contains("was built from another context than its directory has now"), "{}", old.stderr);
    assert_eq!(std::fs::read_to_string(fixture.file("HASH")).unwrap(), format!("{first}\n"));
    let pinned = fixture.push(&["--pin"]);
    pinned.assert_succeeds();
    assert_eq!(std::fs::read_to_string(fixture.file("HASH")).unwrap(), pinned.stdout);
    assert_ne!(pinned.stdout.trim(), first);
}

#[test]
fn credentials_are_dockers_own() {
    let Some(fixture) = Fixture::new("push-password", true) else { return };
    fixture.build();
    let user = format!("{USER}:{PASSWORD}");
    let there = |version: &str| fixture.registry.digest("m/push-password", version, Some(&user));
    let login = format!("run `docker login {}`", fixture.registry.address);
    fixture.push(&[]).assert_fails(31, &["does not let us look at", &login]);
    fixture.log_in("a-wrong word");
    fixture.push(&[]).assert_fails(31, &["with docker's credentials for it", &login]);
    assert_eq!(there("1.0"), None);
    fixture.log_in(PASSWORD);
    let pushed = fixture.push(&[]);
    pushed.assert_succeeds();
    assert_eq!(pushed.stdout.trim(), there("1.0").unwrap());

    // A helper, as docker calls it: the registry comes on its stdin.
    let answer = json!({ "ServerURL": fixture.registry.address, "Username": USER, "Secret": PASSWORD });
    let helper = |text: &str| {
        let helper = fixture.write("bin/docker-credential-test", &format!("#!/bin/sh\n{text}\n"));
        std::fs::set_permissions(helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let bin = PathBuf::from(format!("{}:/usr/bin:/bin", path(&fixture.root.path().join("bin"))));
    let push = || fixture.program(&["push", "push-password"], &bin);
    let check = format!("[ \"$(cat)\" = {} ] || exit 9;", fixture.registry.address);
    helper(&format!("{check} echo '{answer}'"));
    fixture.docker_config(&json!({ "credHelpers": { &fixture.registry.address: "test" } }));
    push().assert_succeeds();
    fixture.docker_config(&json!({ "credsStore": "test" }));
    push().assert_succeeds();
    helper(&format!("{check} echo 'credentials not found in native keychain'; exit 1"));
    push().assert_fails(31, &["does not let us look at", &login]);
    helper(&format!("{check} echo 'the keychain is locked'; exit 1"));
    let locked = push();
    locked.assert_fails(2, &["docker's credentials for", "are of no use", &login]);
    assert!(locked.stderr.contains("the keychain is locked"), "{}", locked.stderr);
}

#[test]
fn what_cannot_be_pushed_is_refused_at_once() {
    let Some(fixture) = Fixture::new("push-wrong", false) else { return };
    std::fs::remove_file(fixture.file("VERSION")).unwrap();
    fixture.push(&[]).assert_fails(2, &["push-wrong has no VERSION", "testing/docker/push-wrong/VERSION"]);
    let built = fixture.program(&["build", "--push", "push-wrong"], Path::new(""));
    built.assert_fails(2, &["push-wrong has no VERSION"]);
    assert!(!built.stderr.contains("building"), "{}", built.stderr);
    fixture.image("1.0", "first");
    fixture.build();
    let tag = fixture.tag("1.0");
    let mut fixture = fixture;
    fixture.registry.end();
    fixture.push(&[]).assert_fails(30, &["the registry did not say what", &tag]);
}
