//! Builds that fail for the fault of a registry or of the engine: real engines, a registry that misbehaves, a daemon without
//! a network or a disk. Whose fault it is, the number of attempts, and the message for people.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use regex::Regex;

use super::disk::Small;
use super::dockerd::Dockerd;
use super::registry::Registry;
use super::{document, each, wanted};
use crate::harness::engine_proxy::EngineProxy;
use crate::harness::{Finished, PROJECT, Repository, docker, docker_output, engine, path, place_of, program};

const HEADING: &str = "| what fails | asked by | builder | exit | attempts | the error line |\n\
                       | --- | --- | --- | --- | --- | --- |";

#[derive(Clone, Copy, Debug)]
struct Case {
    /// The repository in the registry; `refused` for a port where nothing listens, `unknown` for a host that no resolver knows.
    way: &'static str,
    requested_by: &'static str,
    builder: &'static str,
}

const WAYS: [&str; 14] = [
    "429", "again", "later", "500", "503", "504", "reset", "refused", "silent", "unknown", "401", "403", "404", "once",
];

/// A name that no resolver looks up: a part of a name has 63 letters at most.
const UNKNOWN: &str = "a-part-of-a-name-may-have-sixty-three-letters-and-this-has-more-than.invalid";

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for way in WAYS {
        for (requested_by, builder) in [
            ("FROM", "classic"),
            ("COPY --from", "classic"),
            ("FROM", "buildkit"),
            ("COPY --from", "buildkit"),
            ("# syntax", "buildkit"),
            ("FROM", "podman"),
            ("COPY --from", "podman"),
        ] {
            let is_tested = match (way, requested_by, builder) {
                // What the registry has is no frontend.
                ("once" | "again", "# syntax", _) => false,
                // Podman waits by itself, for minutes.
                ("429" | "later", _, "podman") => false,
                // It could be at work, copying.
                ("silent", "COPY --from", _) => false,
                _ => true,
            };
            if is_tested {
                cases.push(Case { way, requested_by, builder });
            }
        }
    }
    cases
}

impl Case {
    fn name(self) -> String {
        format!("{} | {} | {}", self.title(), self.requested_by, self.builder)
    }

    fn title(self) -> String {
        match self.way {
            "once" => "503, once".to_owned(),
            "again" => "429, Retry-After 2, once".to_owned(),
            "later" => "429, Retry-After 3600".to_owned(),
            "silent" => "no answer".to_owned(),
            "unknown" => "no DNS".to_owned(),
            way @ ("reset" | "refused") => format!("connection {way}"),
            way => way.to_owned(),
        }
    }

    /// The exit code, and how many builds start.
    fn end(self) -> (i32, usize) {
        match self.way {
            // Podman tries again by itself.
            "again" if self.builder == "podman" => (0, 1),
            "once" | "again" => (0, 2),
            "later" => (30, 1),
            "401" | "403" | "404" => (20, 1),
            _ => (30, 2),
        }
    }

    fn play(self) -> String {
        // Each has a registry of its own, so that what is pulled is no other's.
        // After a 503 to HEAD the classic builder sends a GET, and BuildKit does not.
        let registry = Registry::start(if self.builder == "classic" { 2 } else { 1 });
        let address = match self.way {
            "refused" => "127.0.0.1:9",
            "unknown" => UNKNOWN,
            _ => &registry.address,
        };
        let image = format!("{address}/{}/img:1", self.way);
        let name = format!("whose-{}-{}", std::process::id(), registry.address.rsplit(':').next().unwrap());
        let dockerfile = match self.requested_by {
            "FROM" => format!("FROM {image}\nCOPY Dockerfile /{name}\n"),
            "COPY --from" => format!("FROM scratch\nLABEL test={name}\nCOPY --from={image} /file /\n"),
            _ => format!("# syntax={image}\nFROM scratch\nCOPY Dockerfile /{name}\n"),
        };
        let repository = Repository::bare(&name, &dockerfile);
        let place = if self.builder == "podman" { place_of("podman") } else { String::new() };
        let finished = dry_run(&repository, &place, self.builder, if self.way == "silent" { "5" } else { "60" });
        docker(&["rmi", &image]);
        let (exit, attempts) = self.end();
        let builds = 1 + finished.stderr.matches("building the image failed, trying again").count();
        assert_eq!((finished.code, builds), (exit, attempts), "{}: {}", self.name(), finished.stderr);
        let line = if exit == 0 { String::new() } else { redacted(&finished, &name) };
        assert!(exit == 0 || line.contains("REGISTRY"), "no registry is named: {line}");
        // As long as the registry has asked for, and up to half as long again; the usual first pause is shorter.
        let waits = Regex::new(r"trying again in (2\.\d|3\.0) s").unwrap().is_match(&finished.stderr);
        assert_eq!(waits, (self.way, attempts) == ("again", 2), "{}", finished.stderr);
        assert_eq!(docker_output(&["images", "--quiet", &name]), "", "the tag is left");
        format!("| {} | {exit} | {builds} | {line} |", self.name())
    }
}

fn dry_run(repository: &Repository, place: &str, builder: &str, silence: &str) -> Finished {
    let (output, directory) = (repository.root.path().join("out"), repository.directory());
    let arguments = ["run", "--dry-run", "--context", path(&directory), "--output", path(&output)];
    let builder = if builder == "podman" { "auto" } else { builder };
    let environment = [
        ("IMAGE_NAME", repository.name.as_str()),
        ("PROJECT", PROJECT),
        ("IMAGE_WORKER_BUILDER", builder),
        ("IMAGE_WORKER_TRIES", "2"),
        ("IMAGE_WORKER_SILENCE", silence),
        ("DOCKER_HOST", place),
    ];
    program(arguments, environment.map(|(name, value)| (name.to_owned(), value.to_owned()))).finish()
}

/// The error line without what differs from run to run.
fn redacted(finished: &Finished, name: &str) -> String {
    let line = finished.error_line().trim_start_matches("[taskcluster-image-build:error] ").replace(name, "NAME");
    let address = Regex::new(&format!(r"127\.0\.0\.1:\d+|{UNKNOWN}")).unwrap();
    let line = address.replace_all(&line, "REGISTRY").into_owned();
    // The container's name, and what `dd` has done.
    let chance = Regex::new(r"endpoint [^…;]*…[^\s;:]*|\d+\+\d+ records").unwrap();
    let line = chance.replace_all(&line, "CHANCE").into_owned();
    // The daemon's directory, and what the line cuts of it or of an address.
    let cut = Regex::new(r"[^\s;]*…[^\s;]*").unwrap();
    let line = cut.replace_all(&line, "…").into_owned();
    let numbers = Regex::new(r"\d{9,}").unwrap();
    numbers.replace_all(&line, "NUMBER").replace('|', "\\|")
}

#[test]
fn registries_that_misbehave_are_not_the_dockerfiles_fault() {
    if !engine() {
        return;
    }
    let cases: Vec<_> = cases().into_iter().filter(|case| wanted(&case.name())).collect();
    let mut lines = vec![HEADING.to_owned()];
    lines.extend(each(&cases, |case| case.name(), |case| case.play()));
    document::section("registries", cases.len(), &lines);
}

/// What the engine has too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    /// For the second of two files.
    Copy,
    /// For what a command writes.
    Run,
    /// For what a command has written, when it is made a layer. BuildKit's layers are made where commands write.
    Commit,
    /// Its daemon has none.
    Network,
    /// It was removed.
    Bridge,
}

impl Lack {
    fn words(self) -> &'static str {
        match self {
            Self::Copy => "no room in a COPY",
            Self::Run => "no room in a RUN",
            Self::Commit => "no room in a commit",
            Self::Network => "no bridge network",
            Self::Bridge => "the bridge is gone",
        }
    }

    fn steps(self) -> &'static str {
        match self {
            Self::Copy => "COPY data /one\nCOPY data /two\nCOPY data /three\n",
            Self::Run => "COPY busybox /dd\nRUN [\"/dd\", \"if=/dev/zero\", \"of=/x\", \"bs=1M\", \"count=64\"]\n",
            Self::Commit => "COPY busybox /dd\nRUN [\"/dd\", \"if=/dev/zero\", \"of=/x\", \"bs=1M\", \"count=8\"]\n",
            Self::Network | Self::Bridge => "COPY busybox /true\nRUN [\"/true\"]\n",
        }
    }

    /// Plays a case on an engine; gives the row of the table.
    fn play(self, builder: &str) -> String {
        // The context, and one of the two layers, fit.
        let small = Small::mount(20 << 20).expect("this runs as root, as Dockerd does");
        let dockerd = match self {
            Self::Copy | Self::Run | Self::Commit => Dockerd::start_in(small.path()),
            Self::Network => Dockerd::start(),
            Self::Bridge => Dockerd::start_with_a_bridge(),
        };
        let dockerd = dockerd.unwrap();
        if self == Self::Bridge {
            dockerd.remove_bridge();
        }
        let steps = self.steps();
        let repository = Repository::bare("whose-lack", &format!("FROM scratch\n{steps}"));
        if self == Self::Copy {
            std::fs::write(repository.directory().join("data"), super::play::incompressible("whose", 5 << 20)).unwrap();
        }
        std::fs::copy("/bin/busybox", repository.directory().join("busybox"))
            .expect("busybox-static; run scripts/test");
        let finished = dry_run(&repository, &dockerd.host(), builder, "60");
        let exit = if self == Self::Run { 20 } else { 30 };
        assert_eq!(finished.code, exit, "{}", finished.stderr);
        dockerd.end();
        format!("| {} | {builder} | {exit} | 1 | {} |", self.words(), redacted(&finished, "whose-lack"))
    }
}

#[test]
fn an_engine_that_lacks_something_is_named() {
    match Dockerd::start() {
        Ok(dockerd) => dockerd.end(),
        Err(reason) => {
            assert!(std::env::var_os("IMAGE_WORKER_NO_SKIP").is_none(), "{reason}; run this as root");
            eprintln!("SKIPPED: {reason}");
            return;
        }
    }
    let lacks = [
        (Lack::Copy, "classic"),
        (Lack::Copy, "buildkit"),
        (Lack::Commit, "classic"),
        (Lack::Run, "classic"),
        (Lack::Network, "buildkit"),
        (Lack::Bridge, "classic"),
        (Lack::Bridge, "buildkit"),
    ];
    let name = |(lack, builder): &(Lack, &str)| format!("{} | {builder}", lack.words());
    let lacks: Vec<_> = lacks.into_iter().filter(|lack| wanted(&name(lack))).collect();
    let mut lines = vec![
        "| what is lacking | builder | exit | attempts | the error line |\n| --- | --- | --- | --- | --- |".to_owned(),
    ];
    lines.extend(each(&lacks, name, |(lack, builder)| lack.play(builder)));
    document::section("lacks", lacks.len(), &lines);
}

/// The classic builder looks at all images for a step in its cache, and another client removes one of them meanwhile.
#[test]
fn what_the_engine_has_no_more_is_built_again() {
    if !engine() {
        return;
    }
    let proxy = EngineProxy::start("/build", |client| {
        let message = "unable to find image \"sha256:0123\"";
        let answer = serde_json::json!({ "errorDetail": { "message": message }, "error": message }).to_string();
        write!(client, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len())
    });
    let repository = Repository::bare("whose-gone", "FROM scratch\nCOPY Dockerfile /\n");
    let finished = dry_run(&repository, &proxy.place(), "classic", "60");
    finished.assert_fails(30, &["unable to find image", "the engine failed, not the Dockerfile"]);
    assert_eq!(proxy.answered(), 2, "{}", finished.stderr);
}

/// Docker 28 with the containerd image store answers so while another client removes an image.
#[test]
fn a_list_of_images_that_fails_for_a_moment_is_requested_again() {
    if !engine() {
        return;
    }
    let proxy = EngineProxy::start_with_first("/images/json", 2, |client| {
        let answer = serde_json::json!({ "message": "NotFound: content digest sha256:0123: not found" }).to_string();
        write!(client, "HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\n\r\n{answer}", answer.len())
    });
    let repository = Repository::bare("whose-list", "FROM scratch\nCOPY Dockerfile /\nLABEL of=whose-list\n");
    let finished = dry_run(&repository, &proxy.place(), "classic", "60");
    finished.assert_succeeds();
    assert_eq!(proxy.answered(), 2, "{}", finished.stderr);
    assert!(!finished.stderr.contains("not found"), "{}", finished.stderr);
    assert_eq!(docker_output(&["images", "--all", "--quiet", "--filter", "label=of=whose-list"]), "");
}

#[test]
fn a_socket_that_we_may_not_use_is_refused_with_its_group() {
    let work = tempfile::tempdir().unwrap();
    let socket = work.path().join("docker.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o000)).unwrap();
    let repository = Repository::bare("forbidden", "FROM scratch\nCOPY Dockerfile /\n");
    let directory = repository.directory();
    let place = format!("unix://{}", path(&socket));
    let environment = [("IMAGE_NAME", "forbidden"), ("PROJECT", PROJECT), ("DOCKER_HOST", &place)];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut program = program(["run", "--dry-run", "--context", path(&directory)], environment);
    program.command.current_dir(work.path());
    // Root may use every socket, unless it lacks this right.
    if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.arg("--bounding-set=-dac_override,-dac_read_search").arg(program.command.get_program());
        command.args(program.command.get_args()).env_clear().current_dir(work.path());
        command.envs(program.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        program.command = command;
    }
    let finished = program.finish();
    finished.assert_fails(
        31,
        &[
            &format!("refused: no permission for {}; join the group ", path(&socket)),
            "osGroups: [",
            "scope generic-worker:os-group:<provisionerId>/<workerType>/",
        ],
    );
}
