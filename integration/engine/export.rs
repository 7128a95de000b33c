//! Exporting the image: the engine's own export and its storage give the same bytes, one layer has the same files. How each
//! is when the program is killed, or the engine dies, is in `faults`.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use image_worker::image::UnpackedImage;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{
    Builder, Finished, Job, PROJECT, Repository, assert_engine_is_clean, container_output, docker, docker_output,
    engine, engine_place, is_on, path, program,
};

/// Of all kinds that a layer can have, and one layer twice.
const STEPS: &str = "COPY Dockerfile /twice\nCOPY Dockerfile /twice\n\
    RUN mkdir -p /d/e && echo one > /d/one && ln /d/one /d/hard && ln -s one /d/soft && mkfifo /d/pipe && : > /d/empty\n\
    RUN echo ü > /d/ü-$(printf %0150d 0) && rm /twice /d/one && chmod 4755 /d/hard && truncate -s 3000000 /d/e/holes\n\
    RUN rm -r /d/e && mkdir /d/e && echo two > /d/e/two\n\
    CMD [\"/bin/busybox\", \"cat\", \"/d/hard\"]\n";

/// What a dry run has made.
struct Image {
    directory: TempDir,
    id: String,
    tag: String,
    finished: Finished,
}

impl Image {
    fn archive(&self) -> PathBuf {
        self.directory.path().join("image.tar")
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.archive()).unwrap()
    }
}

fn start(repository: &Repository, directory: &Path, export: &str, more: &[&str]) -> Finished {
    let context = repository.directory();
    let arguments = ["run", "--dry-run", "--context", path(&context), "--output", path(directory), "--export", export];
    let environment = [("IMAGE_NAME", repository.name.as_str()), ("PROJECT", PROJECT)];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    program(arguments.into_iter().chain(more.iter().copied()), environment).finish()
}

fn image(repository: &Repository, export: &str, more: &[&str]) -> Image {
    let directory = TempDir::new().unwrap();
    let finished = start(repository, directory.path(), export, more);
    finished.assert_succeeds();
    let publish = std::fs::read(directory.path().join("publish.json")).unwrap();
    let publish: Value = serde_json::from_slice(&publish).unwrap();
    let id = publish["insertTask"][0]["payload"]["data"]["imageId"].as_str().unwrap().to_owned();
    let checked = program(["check", path(&directory.path().join("image.tar"))], []).finish();
    checked.assert_succeeds();
    assert_engine_is_clean(&repository.name);
    Image { tag: finished.stdout.trim().to_owned(), directory, id, finished }
}

#[test]
fn storage_and_export_give_the_same_bytes() {
    if !engine() {
        return;
    }
    let repository = Repository::new("export-same", STEPS);
    let from_storage = image(&repository, "storage", &[]);
    assert!(from_storage.finished.stderr.contains("exporting the image from the engine's storage"));
    // The very same image by the engine's own export.
    docker_output(&["load", "--input", path(&from_storage.archive())]);
    let saved = from_storage.directory.path().join("saved.tar");
    docker_output(&["save", "--output", path(&saved), &from_storage.tag]);
    docker_output(&["rmi", "--force", &from_storage.tag]);
    let unpacked = UnpackedImage::import(File::open(&saved).unwrap(), tempfile::tempfile().unwrap()).unwrap();
    let mut canonical = Vec::new();
    unpacked.arrange(&from_storage.tag).unwrap().copy_to(&mut canonical).unwrap();
    assert!(canonical == from_storage.bytes(), "the export of the same image is another archive");

    let [auto, storage, by_engine] =
        ["auto", "storage", "engine"].map(|export| image(&repository, export, &["--reproducible"]).bytes());
    assert!(auto == storage && storage == by_engine, "reproducible images are the same by every way");
}

#[test]
fn a_storage_that_cannot_be_read_is_for_the_engine_to_export() {
    if !engine() {
        return;
    }
    let repository = Repository::new("export-remote", "COPY Dockerfile /\n");
    // Over the network, as far as the program can see.
    let relay = Relay::start();
    let host = format!("tcp://{}", relay.address);
    let auto = image(&repository, "auto", &["--docker-host", &host]);
    let log = &auto.finished.stderr;
    assert!(log.contains("exporting the image, about "), "{log}");
    assert_eq!(log.contains("the engine prepares all of it"), !is_on("docker-28-containerd"), "{log}");
    let directory = TempDir::new().unwrap();
    let refused = start(&repository, directory.path(), "storage", &["--docker-host", &host]);
    refused.assert_fails(2, &["EXPORT=storage: ", "on another machine", "leave EXPORT at auto"]);
    assert_engine_is_clean(&repository.name);
    let wrong = start(&repository, directory.path(), "tar", &[]);
    wrong.assert_fails(2, &["--export", "\"tar\" is not a way out of the engine", "auto, engine, storage or squash"]);
}

/// The engine's socket, on a port.
struct Relay {
    address: std::net::SocketAddr,
}

impl Relay {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let place = engine_place().unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned());
        let socket = place.strip_prefix("unix://").expect("the engine's socket").to_owned();
        // It ends with the tests.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let engine = std::os::unix::net::UnixStream::connect(&socket).unwrap();
                let (mut from, mut to) = (client.try_clone().unwrap(), engine.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    to.shutdown(std::net::Shutdown::Write)
                });
                let (mut from, mut to) = (engine, client);
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    to.shutdown(std::net::Shutdown::Both)
                });
            }
        });
        Self { address }
    }
}

/// The files of an image's layers, by their names: each header's kind, mode, owner, link and size.
fn files(archive: &Path) -> Vec<BTreeMap<String, String>> {
    let unpacked = UnpackedImage::import(File::open(archive).unwrap(), tempfile::tempfile().unwrap()).unwrap();
    let layer = |number| {
        let mut archive = tar::Archive::new(unpacked.reader(number));
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let header = entry.header().clone();
            let attributes: Vec<_> =
                entry.pax_extensions().unwrap().into_iter().flatten().map(Result::unwrap).collect();
            let attributes: Vec<_> = attributes
                .iter()
                .filter(|it| it.key().unwrap().starts_with("SCHILY.xattr."))
                .map(|it| format!("{}={:?}", it.key().unwrap(), it.value_bytes()))
                .collect();
            let link = entry.link_name().unwrap().map(|link| link.display().to_string()).unwrap_or_default();
            let device = (header.device_major().unwrap(), header.device_minor().unwrap());
            let facts =
                (header.entry_type(), header.mode().unwrap() & 0o7777, header.uid().unwrap(), link, device, attributes);
            let name = entry.path().unwrap().display().to_string();
            (name.trim_start_matches("./").trim_end_matches('/').to_owned(), format!("{facts:?} {}", entry.size()))
        });
        entries.collect()
    };
    (0..unpacked.layers().len()).map(layer).collect()
}

#[test]
fn one_layer_has_the_files_of_all() {
    if !engine() {
        return;
    }
    // Podman's containers may not make devices.
    let device = if Builder::is_podman() { "touch /dev-null" } else { "mknod /dev-null c 1 3" };
    let steps = "FROM debian:12\nENV TEST=export-squash\nCOPY Dockerfile /usr/local/ping\n\
        RUN chmod 755 /usr/local/ping && DEVICE && rm /etc/issue && \
        mkdir -p /v/w && echo volume > /v/w/file && ln /etc/debian_version /etc/hard && truncate -s 5000000 /holes && \
        echo ü > /ü-$(printf %0150d 0) && chown 12:34 /holes && mkfifo /pipe\n\
        VOLUME /v\nENV A=b\nUSER 12:34\nWORKDIR /usr\nEXPOSE 80\nHEALTHCHECK CMD true\nSHELL [\"/bin/bash\", \"-c\"]\n\
        ONBUILD RUN true\nSTOPSIGNAL SIGINT\nLABEL l=m\n\
        CMD cat /v/w/file /etc/hard && stat -c %s-%t-%T /holes /dev-null && pwd && id -u\n";
    let repository = Repository::bare("export-squash", &steps.replace("DEVICE", device));
    let squashed = image(&repository, "squash", &[]);
    assert!(squashed.finished.stderr.contains("the image has one layer, and another id: "));
    let whole = image(&repository, "engine", &[]);
    assert_ne!(squashed.id, whole.id);

    let layers = files(&whole.archive());
    let [flat] = &files(&squashed.archive())[..] else { panic!("one layer") };
    let mut expected = BTreeMap::new();
    // Between layers, the containerd image store makes two files of one with two names.
    let linked = |files: &BTreeMap<String, String>| {
        ["etc/hard", "etc/debian_version"]
            .iter()
            .filter_map(|name| files.get(*name))
            .any(|facts| facts.starts_with("(Link"))
    };
    let is_linked = layers.iter().any(linked);
    assert!(is_linked || is_on("docker-28-containerd"));
    for (name, facts) in layers.into_iter().flatten() {
        let (directory, file) =
            name.rsplit_once('/').map_or(("", name.as_str()), |(directory, file)| (directory, file));
        if let Some(gone) = file.strip_prefix(".wh.") {
            let gone = if directory.is_empty() { gone.to_owned() } else { format!("{directory}/{gone}") };
            expected.retain(|name: &String, _| *name != gone && !name.starts_with(&format!("{gone}/")));
        } else {
            expected.insert(name, facts);
        }
    }
    // Docker's containers have files of their own in the places of these, and so has every container.
    let places = ["etc/hosts", "etc/hostname", "etc/resolv.conf"];
    let hard = |name: &str| ["etc/hard", "etc/debian_version"].contains(&name);
    let mut found = flat.clone();
    for files in [&mut expected, &mut found] {
        files.retain(|name, _| !places.contains(&name.as_str()) && !hard(name) && !name.is_empty());
    }
    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&expected));
    for (name, facts) in &expected {
        // One of a file's names has its content, in the order of the layers or of their names.
        let is_link = |facts: &str| facts.starts_with("(Link");
        assert!(found[name] == *facts || is_link(&found[name]) || is_link(facts), "{name}: {} {facts}", found[name]);
    }
    assert_eq!(linked(flat), is_linked, "{} {}", flat["etc/hard"], flat["etc/debian_version"]);

    // The settings for containers are the same, and both run the same.
    let runs_of: Vec<_> = [&squashed, &whole].map(runs).into();
    assert_eq!(runs_of[0], runs_of[1]);
    let again = |export| image(&repository, export, &["--reproducible"]).bytes();
    assert!(again("squash") == again("squash"), "one layer is reproducible too");
}

/// What a container of an image prints, and its configuration by the engine.
fn runs(image: &Image) -> (String, String) {
    docker_output(&["load", "--input", path(&image.archive())]);
    let inspect = "{{json .Config.Env}} {{.Config.User}} {{.Config.WorkingDir}} {{json .Config.Volumes}} {{json .Config.Cmd}} \
                   {{json .Config.ExposedPorts}} {{index .Config.Labels \"l\"}}";
    let inspected = docker_output(&["image", "inspect", "--format", inspect, &image.tag]);
    let printed = container_output(&[&image.tag]);
    docker_output(&["rmi", "--force", &image.tag]);
    (printed, inspected)
}

#[test]
fn a_capability_survives_in_one_layer() {
    if !engine() {
        return;
    }
    // busybox cannot set one.
    let archive = capable();
    docker_output(&["load", "--input", path(archive.path())]);
    let repository = Repository::bare("export-capable", "FROM export-capable-base:1\nCOPY Dockerfile /\n");
    let squashed = image(&repository, "squash", &[]);
    docker(&["rmi", "--force", "export-capable-base:1"]);
    let [flat] = &files(&squashed.archive())[..] else { panic!("one layer") };
    assert!(flat["ping"].contains("SCHILY.xattr.security.capability=[1, 0, 0, 2, 0, 32"), "{}", flat["ping"]);
}

/// An archive of an image with one file, which has the capability `cap_net_raw+ep`.
fn capable() -> tempfile::NamedTempFile {
    let mut layer = tar::Builder::new(Vec::new());
    let mut capability = [0; 20];
    capability[..6].copy_from_slice(&[1, 0, 0, 2, 0, 0x20]);
    layer.append_pax_extensions([("SCHILY.xattr.security.capability", &capability[..])]).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(4);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    layer.append_data(&mut header, "ping", &b"ping"[..]).unwrap();
    let layer = layer.into_inner().unwrap();
    let digest = |bytes: &[u8]| image_worker::net::Digest::of(bytes).to_string();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {}, "created": "2020-01-01T00:00:00Z",
        "history": [{ "created": "2020-01-01T00:00:00Z" }],
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))] },
    });
    let config = config.to_string();
    let name = format!("{}.json", digest(config.as_bytes()));
    let manifest =
        serde_json::json!([{ "Config": name, "RepoTags": ["export-capable-base:1"], "Layers": ["layer.tar"] }]);
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut archive = tar::Builder::new(file.reopen().unwrap());
    let members = [
        (name.as_str(), config.into_bytes()),
        ("layer.tar", layer),
        ("manifest.json", manifest.to_string().into_bytes()),
    ];
    for (name, content) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, &content[..]).unwrap();
    }
    archive.into_inner().unwrap();
    file
}

#[test]
fn a_killed_run_leaves_no_container() {
    if !engine() {
        return;
    }
    let steps = "RUN dd if=/dev/urandom of=/large bs=1048576 count=64\n";
    let job = Job::new(&Repository::new("export-killed", steps));
    let work = TempDir::new().unwrap();
    let run = || {
        let mut environment = job.environment();
        environment.insert("EXPORT".to_owned(), "squash".to_owned());
        environment.insert("TASK_WORKDIR".to_owned(), path(work.path()).to_owned());
        program(["run"], environment)
    };
    let ended = run().kill_when(|log| log.contains("exporting the image's files as one layer"));
    assert_eq!(ended, None, "it was over before it was killed");
    let volumes = docker_output(&["volume", "ls", "--quiet", "--filter", "label=image-worker.record"]);
    let record = ["volume", "inspect", "--format", "{{index .Labels \"image-worker.record\"}}"];
    let records: String = volumes
        .lines()
        .map(|volume| String::from_utf8(docker(&[&record[..], &[volume]].concat()).stdout).unwrap())
        .collect();
    assert!(records.contains("{\"container\":\"image-worker-squash-"), "{records}");
    let again = run().finish();
    again.assert_succeeds();
    job.assert_engine_is_clean();
    assert_eq!(std::fs::read_dir(work.path()).unwrap().count(), 0);
}

/// Changes a file of the image's last layer where the engine keeps it.
fn damage_word(image: &Image) {
    if !is_on("docker-28-containerd") {
        let directory = docker_output(&["image", "inspect", "--format", "{{.GraphDriver.Data.UpperDir}}", &image.tag]);
        return std::fs::write(Path::new(&directory).join("word"), "fals\n").unwrap();
    }
    let root = docker_output(&["info", "--format", "{{.DockerRootDir}}"]);
    let blobs = Path::new(&root).join("containerd/daemon/io.containerd.content.v1.content/blobs");
    let blob = |id: &str| blobs.join(id.replacen(':', "/", 1));
    let id = docker_output(&["image", "inspect", "--format", "{{.Id}}", &image.tag]);
    let manifest: Value = serde_json::from_slice(&std::fs::read(blob(&id)).unwrap()).unwrap();
    let layer = blob(manifest["layers"].as_array().unwrap().last().unwrap()["digest"].as_str().unwrap());
    let mut bytes = std::fs::read(&layer).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&layer, bytes).unwrap();
}

#[test]
fn a_storage_that_is_damaged_is_not_believed() {
    if !engine() || Builder::is_podman() {
        // Podman's storage is found by its own records, which the tests of `engine::storage` read; the digests are made alike.
        return;
    }
    let base = Repository::new("export-damaged-base", "RUN echo true > /word\n");
    let made = image(&base, "engine", &[]);
    docker_output(&["load", "--input", path(&made.archive())]);
    damage_word(&made);
    let repository = Repository::bare("export-damaged", &format!("FROM {}\nCOPY Dockerfile /\n", made.tag));
    let output = TempDir::new().unwrap();
    let refused = start(&repository, output.path(), "storage", &[]);
    let auto = start(&repository, output.path(), "auto", &[]);
    docker_output(&["rmi", "--force", &made.tag]);
    let packed = is_on("docker-28-containerd");
    let problem = if packed { "what is there is not the image that was built" } else { "came as " };
    refused.assert_fails(30, &["EXPORT=storage: ", problem, "leave EXPORT at auto"]);
    // Docker notices it too, by its own checksums; with the containerd image store we do.
    assert!(auto.stderr.contains("so it is exported: "), "{}", auto.stderr);
    auto.assert_fails(30, &["the engine"]);
    assert!(!output.path().join("image.tar").exists());
    assert_engine_is_clean("export-damaged");
    let left = Command::new("find").arg(output.path()).args(["-type", "f"]).output().unwrap();
    let log = format!("{}\n", path(&output.path().join("build.log")));
    assert_eq!(String::from_utf8_lossy(&left.stdout), log, "nothing but the log is left");
}
