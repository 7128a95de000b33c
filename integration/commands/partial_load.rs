//! `load` into an engine that has the lowest layers of the image: what is downloaded, what the engine has afterwards, and what
//! happens where the list of layers, the server, the bytes or the engine are not as expected.

use image_worker::image::{ImageSummary, UnpackedImage};
use image_worker::job::metrics::Layers;
use image_worker::net::Digest;
use serde_json::{Value, json};
use stand_in::{Fault, Options, StandIn};

use super::load::{assert_loaded, data, indexed, load};
use crate::harness::archive::{Archive, gzip};
use crate::harness::{
    Finished, Job, PROJECT, Repository, assert_engine_is_clean, container_output, docker, docker_output, engine, is_on,
    program,
};

const IMAGE: &str = "public/image.tar";
const LAYERS: &str = "public/image-build/layers.json";

/// The content of the layer that the engine does not have: so large that the middle of what is downloaded is in it.
fn added() -> Vec<u8> {
    (0..300_000_u32).map(|number| number.to_le_bytes()[number as usize % 3]).collect()
}

fn load_into_engine(archive: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), archive).unwrap();
    docker_output(&["load", "--input", file.path().to_str().unwrap()]);
}

/// An image of a task, and one with all of its layers but the highest.
struct Fixture {
    name: &'static str,
    taskcluster: StandIn,
    namespace: String,
    task: String,
    image: Archive,
    below: Archive,
    size: u64,
    layers: Layers,
}

impl Fixture {
    fn new(name: &'static str) -> Self {
        let (below, mut image) = (Archive::new(name), Archive::new(name));
        image.add_layer("added", &added());
        let tag = format!("{name}:1");
        let unpacked = UnpackedImage::import(&image.sound(&tag)[..], tempfile::tempfile().unwrap()).unwrap();
        let mut bytes = Vec::new();
        unpacked.arrange(&tag).unwrap().copy_to(&mut bytes).unwrap();
        let summary = ImageSummary::from(&unpacked);
        let layers = Layers::of(&summary, 0).with_offsets(&summary);
        let taskcluster = StandIn::start(Options::default());
        let namespace = format!("docker.images.v1.{PROJECT}.{name}.latest");
        let task = indexed(&taskcluster, &namespace, &bytes, &data(&bytes, &image));
        let fixture = Self { name, taskcluster, namespace, task, image, below, size: bytes.len() as u64, layers };
        fixture.put_layers(&fixture.layers);
        fixture
    }

    fn put_layers(&self, layers: &Layers) {
        let text = serde_json::to_vec(layers).unwrap();
        self.taskcluster.put_artifact(&self.task, 0, LAYERS, "application/json", None, &text);
    }

    /// Gives the engine the image with the lowest layers.
    fn load_below(&self) {
        self.load_archive(&self.below);
    }

    fn load_archive(&self, archive: &Archive) {
        load_into_engine(&archive.sound(&format!("{}:below", self.name)));
    }

    fn remove_below(&self) {
        docker_output(&["rmi", &format!("{}:below", self.name)]);
    }

    fn load(&self) -> Finished {
        let tag = format!("{}:1", self.name);
        load(&self.taskcluster, &["--index", &self.namespace, "--tag", &tag, "--json"])
    }

    /// Loads it, and does something after the rest was asked for and before any of it comes.
    fn load_while(&self, meanwhile: impl FnOnce()) -> Finished {
        let (held, gate) = Fault::held("s3 GET");
        self.taskcluster.fault(held.path(IMAGE));
        let requested = |_: &str| self.taskcluster.calls().iter().any(|call| call.fault.is_some());
        let environment = [("TASKCLUSTER_ROOT_URL".to_owned(), self.taskcluster.root_url())];
        let tag = format!("{}:1", self.name);
        let arguments = ["load", "--index", &self.namespace, "--tag", &tag, "--json"];
        let loaded = program(arguments, environment).finish_when(requested, |_| {
            meanwhile();
            gate.open();
        });
        assert!(loaded.stderr.contains("the engine has 2 of 3 layers"), "{}", loaded.stderr);
        self.taskcluster.clear_faults();
        self.taskcluster.clear_calls();
        loaded
    }

    /// Asserts that the image is in the engine, whole, and that so many bytes of its archive were downloaded for it; removes it.
    fn assert_loaded(&self, loaded: &Finished, fetched: u64) {
        loaded.assert_succeeds();
        let answer: Value = serde_json::from_str(&loaded.stdout).unwrap();
        let actual = (&answer["imageId"], &answer["size"], &answer["fetched"], &answer["verified"]);
        let expected = (&json!(self.image.id()), &json!(self.size), &json!(fetched), &json!("index"));
        assert_eq!(actual, expected, "{}", loaded.stderr);
        let tag = format!("{}:1", self.name);
        let sum = container_output(&[&tag, "/bin/busybox", "sha256sum", "/inherited", "/added"]);
        let inherited = Digest::of(format!("{}-inherited\n", self.name).as_bytes());
        assert_eq!(sum, format!("{inherited}  /inherited\n{}  /added", Digest::of(&added())));
        let saved = docker(&["save", &tag]);
        assert!(saved.status.success(), "an image that is not whole cannot be exported");
        UnpackedImage::import(&saved.stdout[..], tempfile::tempfile().unwrap()).unwrap();
        assert_loaded(&self.image.id_in_engine(), &tag);
    }

    /// Where the third layer's header is.
    fn third(&self) -> u64 {
        self.layers.layers[2].offset.unwrap() - 512
    }
}

#[test]
fn only_the_layers_that_the_engine_lacks_are_downloaded() {
    if !engine() {
        return;
    }
    let fixture = Fixture::new("partial-load-rest");
    let whole = fixture.load();
    assert!(!whole.stderr.contains("the engine has"), "{}", whole.stderr);
    fixture.assert_loaded(&whole, fixture.size);

    fixture.load_below();
    fixture.taskcluster.clear_calls();
    let rest = fixture.load();
    assert!(rest.stderr.contains("the engine has 2 of 3 layers"), "{}", rest.stderr);
    assert!(rest.stderr.contains("its id is the one that the index has"), "{}", rest.stderr);
    fixture.assert_loaded(&rest, fixture.size - fixture.third());
    let calls = fixture.taskcluster.calls();
    let images: Vec<_> = calls.iter().filter(|call| call.name == "s3 GET" && call.path.contains(IMAGE)).collect();
    assert_eq!(images.len(), 1, "{images:?}");
    assert_eq!(images[0].request["range"], json!(format!("bytes={}-", fixture.third())));

    // A broken connection is no reason to download more.
    fixture.taskcluster.fault(Fault::cut_body("s3 GET", 100_000).path(IMAGE));
    let broken = fixture.load();
    assert!(broken.stderr.contains("going on from there"), "{}", broken.stderr);
    fixture.assert_loaded(&broken, fixture.size - fixture.third());

    // The engine has the whole image, under another name.
    fixture.remove_below();
    fixture.load_archive(&fixture.image);
    let nothing = fixture.load();
    assert!(nothing.stderr.contains("the engine has 3 of 3 layers"), "{}", nothing.stderr);
    let answer: Value = serde_json::from_str(&nothing.stdout).unwrap();
    assert!(answer["fetched"].as_u64().unwrap() < 10_000, "{answer}");
    docker_output(&["rmi", &format!("{}:1", fixture.name), &format!("{}:below", fixture.name)]);
    assert_engine_is_clean(fixture.name);
}

#[test]
fn the_whole_image_is_downloaded_where_a_part_is_not_enough() {
    if !engine() {
        return;
    }
    let fixture = Fixture::new("partial-load-whole");
    fixture.load_below();
    let expect = |what: &str, reason: &str| {
        let loaded = fixture.load();
        assert!(loaded.stderr.contains(reason), "{what}: {}", loaded.stderr);
        fixture.assert_loaded(&loaded, fixture.size);
        fixture.taskcluster.clear_faults();
        fixture.put_layers(&fixture.layers);
    };
    let range_is_ignored = Fault::gzipped("s3 GET").path(IMAGE);
    fixture.taskcluster.fault(range_is_ignored);
    expect("a server without ranges", "the server sends only whole files");

    fixture.taskcluster.fault(Fault::wrong_bytes("s3 GET").path(IMAGE));
    expect("a wrong byte", "all layers of the image are downloaded: the image archive is not a whole image: layer ");

    fixture.taskcluster.fault(Fault::status("s3 GET", 503).path(IMAGE));
    fixture.taskcluster.clear_calls();
    expect("a server that fails", "the server answered 503");
    let urls = fixture
        .taskcluster
        .calls()
        .iter()
        .filter(|call| call.path.contains("image.tar") && call.name == "getArtifact")
        .count();
    assert_eq!(urls, 2, "the next try has another URL");

    let changed = |change: &dyn Fn(&mut Layers)| {
        let mut layers = fixture.layers.clone();
        change(&mut layers);
        fixture.put_layers(&layers);
    };
    let shifted = |layers: &mut Layers, bytes: u64| {
        layers.layers[1].size += bytes;
        layers.layers[2].offset = layers.layers[2].offset.map(|offset| offset + bytes);
    };
    changed(&|layers| shifted(layers, 1024));
    expect("an offset that is shifted", "is not at byte");
    changed(&|layers| shifted(layers, 1 << 60));
    expect("an offset behind the end", "the server answered 416");
    changed(&|layers| layers.layers[2].size += 512);
    expect("another size", "is not at byte");
    changed(&|layers| layers.layers[2].offset = Some(fixture.third()));
    expect("an offset that does not follow from the sizes", "");
    changed(&|layers| layers.layers[0].size = u64::MAX);
    expect("a size that no archive has", "");
    changed(&|layers| layers.layers[2].diff_id = Digest::of(b"another").prefixed());
    expect("another layer", "is not at byte");
    changed(&|layers| drop(layers.layers.pop()));
    expect("a list without the layer", "is not behind its last layer");

    changed(&|layers| layers.image_id = Digest::of(b"another").prefixed());
    expect("the list of another image", "");
    changed(&|layers| layers.layers[1].offset = None);
    expect("a list without offsets, of an older program", "");
    fixture.taskcluster.put_artifact(&fixture.task, 0, LAYERS, "application/json", None, b"{}");
    expect("no list", "");
    fixture.taskcluster.fault(Fault::status("s3 GET", 404).path(LAYERS));
    expect("a list that is gone", "");

    fixture.remove_below();
    assert_engine_is_clean(fixture.name);
}

#[test]
fn a_layer_that_vanishes_meanwhile_is_downloaded() {
    if !engine() {
        return;
    }
    let fixture = Fixture::new("partial-load-vanished");
    fixture.load_below();
    let loaded = fixture.load_while(|| fixture.remove_below());
    assert!(loaded.stderr.contains("all layers of the image are downloaded: "), "{}", loaded.stderr);
    fixture.assert_loaded(&loaded, fixture.size);
    assert_engine_is_clean(fixture.name);
}

/// The containerd image store has a form of the layers for each image, plain and compressed here, and unpacks them once.
#[test]
fn a_form_of_a_layer_that_vanishes_is_not_missed() {
    if !engine() {
        return;
    }
    let fixture = Fixture::new("partial-load-forms");
    let packed: Vec<_> = fixture.below.layers.iter().map(|layer| gzip(layer)).collect();
    let names: Vec<_> = packed.iter().map(|layer| format!("{}.tar.gz", Digest::of(layer))).collect();
    let (plain, compressed) = (format!("{}:below", fixture.name), format!("{}:packed", fixture.name));
    let archive = fixture.below.write("config.json", &names, &packed, Some(&[&compressed]));
    let mut is_missed = false;
    // Which form a manifest leads to first is up to the engine.
    for vanishing in [&plain, &compressed].repeat(20) {
        fixture.load_below();
        load_into_engine(&archive);
        let loaded = fixture.load_while(|| drop(docker_output(&["rmi", vanishing])));
        is_missed |= loaded.stderr.contains("all layers of the image are downloaded: ");
        let answer: Value = serde_json::from_str(&loaded.stdout).unwrap();
        fixture.assert_loaded(&loaded, answer["fetched"].as_u64().unwrap());
        docker_output(&["rmi", if *vanishing == plain { &compressed } else { &plain }]);
        assert_engine_is_clean(fixture.name);
        if is_missed || !is_on("docker-28-containerd") {
            break;
        }
    }
    assert_eq!(is_missed, is_on("docker-28-containerd"));
}

/// What the archive says besides its image is verified only with all of it.
#[test]
fn a_name_that_only_the_archive_has_is_read_with_all_of_it() {
    if !engine() {
        return;
    }
    let fixture = Fixture::new("partial-load-name");
    fixture.load_below();
    let loaded = load(&fixture.taskcluster, &["--index", &fixture.namespace, "--json"]);
    assert!(!loaded.stderr.contains("the engine has"), "{}", loaded.stderr);
    fixture.assert_loaded(&loaded, fixture.size);
    fixture.remove_below();
    assert_engine_is_clean(fixture.name);
}

/// A rebuild can have the same layers and settings, and still be another image.
#[test]
fn a_rebuild_with_the_same_layers_gets_the_name() {
    if !engine() {
        return;
    }
    let fixture = Fixture::new("partial-load-rebuilt");
    let tag = format!("{}:1", fixture.name);
    let mut before = Archive::new(fixture.name);
    before.add_layer("added", &added());
    let config = String::from_utf8(before.config).unwrap();
    before.config = config.replace("2015-12-09", "2014-12-09").into();
    load_into_engine(&before.sound(&tag));
    let created = || docker_output(&["image", "inspect", "--format", "{{.Created}}", &tag]);
    assert!(created().starts_with("2014"), "{}", created());

    fixture.load().assert_succeeds();
    assert!(created().starts_with("2015"), "{}", created());
    // And the same again changes nothing, and says nothing of a removal.
    let again = fixture.load();
    again.assert_succeeds();
    assert!(!again.stderr.contains("removed"), "{}", again.stderr);
    assert!(created().starts_with("2015"), "{}", created());
    docker_output(&["rmi", "--force", &tag]);
    let label = format!("label=image-worker-test={}", fixture.name);
    for nameless in docker_output(&["images", "--all", "--quiet", "--filter", &label]).lines() {
        docker(&["rmi", "--force", nameless]);
    }
    assert_engine_is_clean(fixture.name);
}

#[test]
fn a_new_version_of_an_image_takes_only_its_new_layers() {
    if !engine() {
        return;
    }
    let (name, base) = ("partial-load-job", "partial-load-base");
    let below = Repository::new(base, "COPY file /large\n");
    std::fs::write(below.directory().join("file"), vec![7; 2_000_000]).unwrap();
    let mut parent = Job::new(&below);
    let env = json!({ "IMAGE_NAME": base, "PROJECT": PROJECT, "HASH": parent.hash, "INDEX": "", "INDEX_HASH": "" });
    parent.claim = parent.taskcluster.create_task(Job::spec(base).property("payload", json!({ "env": env })));
    parent.run().assert_succeeds();
    let (mut taskcluster, parent) = (parent.taskcluster, parent.claim.task_id);
    let repository =
        Repository::bare(name, &format!("FROM $DOCKER_IMAGE_PARENT\nENV TEST={name}\nCOPY version /version\n"));
    let (mut fetched, mut logs) = (Vec::new(), String::new());
    for version in ["one", "two"] {
        std::fs::write(repository.directory().join("version"), version).unwrap();
        let job = Job::on(taskcluster, &repository);
        let finished = job.run_with([("PARENT_TASK_ID", parent.as_str())]);
        finished.assert_succeeds();
        // The parent's layers are in the engine with the first version.
        let line = "the engine has 2 of 2 layers";
        assert_eq!(finished.stderr.contains(line), version == "two", "{}", finished.stderr);
        let bytes = |name: &str| job.taskcluster.artifact_bytes(&job.claim.task_id, 0, name).unwrap();
        let (image, layers): (_, Layers) = (bytes(IMAGE), serde_json::from_slice(&bytes(LAYERS)).unwrap());
        for place in layers.places().expect("an offset of each layer") {
            let at = usize::try_from(place.offset).unwrap();
            let layer = &image[at..at + usize::try_from(place.size).unwrap()];
            assert_eq!(Digest::of(layer), place.diff_id, "the bytes that layers.json names are the layer");
        }
        let tag = format!("{name}:{version}");
        let loaded = load(&job.taskcluster, &["--index", &job.routes()[2], "--tag", &tag, "--json"]);
        loaded.assert_succeeds();
        assert_eq!(container_output(&[&tag, "/bin/busybox", "cat", "/version"]), version);
        let answer: Value = serde_json::from_str(&loaded.stdout).unwrap();
        fetched.push(answer["fetched"].as_u64().unwrap());
        logs += &loaded.stderr;
        taskcluster = job.taskcluster;
    }
    assert!(fetched[0] > 2_000_000 && fetched[1] < 100_000, "{fetched:?} bytes: {logs}");
    docker_output(&["rmi", &format!("{name}:one"), &format!("{name}:two")]);
    assert_engine_is_clean(name);
    assert_engine_is_clean(base);
}
