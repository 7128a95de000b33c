//! The canonical archive with real tools: what an image becomes on its way through engines and back, and what other
//! tools' exports become.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use image_worker::image::{UnpackedImage, check};
use image_worker::net::Digest;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Repository, docker_output, engine, installed, path, program};

/// Two layers that are the same, one of nothing but a deletion, and a step without a layer.
const STEPS: &str = "COPY Dockerfile /twice\nCOPY Dockerfile /twice\nRUN [\"/bin/busybox\", \"rm\", \"/twice\"]\n\
                     CMD [\"/bin/busybox\", \"echo\", \"hello\"]\n";

/// An image that a dry run made.
struct Image {
    directory: TempDir,
    archive: PathBuf,
    id: String,
    tag: String,
}

impl Image {
    fn build(name: &str) -> Self {
        let repository = Repository::new(name, STEPS);
        let directory = TempDir::new().unwrap();
        let context = repository.directory();
        let arguments = ["run", "--dry-run", "--context", path(&context), "--output", path(directory.path())];
        let environment = [("IMAGE_NAME", name), ("PROJECT", "try")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let finished = program(arguments, environment).finish();
        finished.assert_succeeds();
        let publish = std::fs::read(directory.path().join("publish.json")).unwrap();
        let publish: Value = serde_json::from_slice(&publish).unwrap();
        let id = publish["insertTask"][0]["payload"]["data"]["imageId"].as_str().unwrap().to_owned();
        let archive = directory.path().join("image.tar");
        Self { archive, id, tag: finished.stdout.trim().to_owned(), directory }
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.archive).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// The canonical archive of an export, which must be of the image with this id where one is given.
fn canonical(export: &Path, id: Option<&str>, tag: &str) -> Vec<u8> {
    let unpacked = UnpackedImage::import(File::open(export).unwrap(), tempfile::tempfile().unwrap()).unwrap();
    if let Some(id) = id {
        unpacked.expect(id.parse().unwrap()).unwrap();
    }
    let mut bytes = Vec::new();
    unpacked.arrange(tag).unwrap().write_into(None, &mut bytes, |_| {}).unwrap();
    assert_eq!(check(bytes.as_slice()).unwrap().problems, [], "{}", export.display());
    bytes
}

fn tool_output(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(name).args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {name} {arguments:?}: {error}; run scripts/test"));
    assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn an_image_comes_back_from_every_engine_as_the_same_archive() {
    if !engine() || !installed("podman") {
        return;
    }
    let image = Image::build("canonical-back");
    let archive = image.bytes();
    assert!(canonical(&image.archive, Some(&image.id), &image.tag) == archive, "it is canonical already");
    let unpacked = UnpackedImage::import(archive.as_slice(), tempfile::tempfile().unwrap()).unwrap();
    let ids: Vec<_> = unpacked.layers().iter().map(|layer| layer.diff_id).collect();
    let again = |at: usize| ids[..at].contains(&ids[at]);
    assert!((0..ids.len()).any(again), "this image has one layer twice: {ids:?}");

    docker_output(&["load", "--input", path(&image.archive)]);
    let printed = docker_output(&["run", "--rm", "--network", "none", &image.tag]);
    let saved = image.file("docker.tar");
    docker_output(&["save", "--output", path(&saved), &image.tag]);
    docker_output(&["rmi", "--force", &image.tag]);
    assert_eq!(printed, "hello");
    assert!(canonical(&saved, Some(&image.id), &image.tag) == archive, "from docker save");

    let place = TempDir::with_prefix("podman-").unwrap();
    let [root, run] = ["root", "run"].map(|name| place.path().join(name));
    let podman = |arguments: &[&str]| {
        let place = ["--root", path(&root), "--runroot", path(&run), "--storage-driver", "vfs"];
        tool_output("podman", &[&place, arguments].concat())
    };
    for file in [&image.archive, &saved] {
        podman(&["load", "--quiet", "--input", path(file)]);
        let exported = image.file("podman.tar");
        podman(&["save", "--quiet", "--output", path(&exported), &image.id]);
        podman(&["rmi", "--force", &image.id]);
        assert!(canonical(&exported, Some(&image.id), &image.tag) == archive, "from podman save");
        std::fs::remove_file(exported).unwrap();
    }
}

#[test]
fn what_other_tools_export_becomes_an_archive_that_docker_loads() {
    if !engine() || !installed("skopeo") {
        return;
    }
    let image = Image::build("canonical-tools");
    let source = format!("docker-archive:{}", path(&image.archive));
    let wanted = UnpackedImage::import(File::open(&image.archive).unwrap(), tempfile::tempfile().unwrap()).unwrap();
    for (kind, file, options) in [
        ("docker-archive", "copied.tar", &[][..]),
        ("oci-archive", "gzip.tar", &[]),
        ("oci-archive", "zstd.tar", &["--dest-compress-format", "zstd"]),
    ] {
        let copy = image.file(file);
        let destination = format!("{kind}:{}", path(&copy));
        tool_output("skopeo", &[&["copy", "--quiet"], options, &[&source, &destination]].concat());
        let unpacked = UnpackedImage::import(File::open(&copy).unwrap(), tempfile::tempfile().unwrap()).unwrap();
        let ids =
            |unpacked: &UnpackedImage| unpacked.layers().iter().map(|layer| layer.diff_id).collect::<Vec<Digest>>();
        assert_eq!(ids(&unpacked), ids(&wanted), "{file}: the layers are the same, however they were compressed");
        assert_eq!(unpacked.packed() > 0, kind == "oci-archive", "{file}");
        // skopeo writes the configuration again for an OCI layout.
        let id = (kind == "docker-archive").then_some(image.id.as_str());
        let ours = image.file("ours.tar");
        std::fs::write(&ours, canonical(&copy, id, &image.tag)).unwrap();
        docker_output(&["load", "--input", path(&ours)]);
        let printed = docker_output(&["run", "--rm", "--network", "none", &image.tag]);
        docker_output(&["rmi", "--force", &image.tag]);
        assert_eq!(printed, "hello", "{file}");
    }
}
