//! Archives as all consumers' tools make them, small, for the tests of this room. What is made of them is each test's own.

mod shapes;

use std::io::Write;

use tar::{Builder, EntryType, Header};

use crate::names::Digest;
pub(super) use shapes::{Layout, all_of};

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn xz(bytes: &[u8]) -> Vec<u8> {
    let options = lzma_rust2::XzOptions::with_preset(1);
    let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// As pzstd writes it: several frames, and before each one to be skipped.
pub(super) fn pzstd(bytes: &[u8]) -> Vec<u8> {
    let frame = |piece: &[u8]| {
        let skipped = [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
        [&skipped[..], &zstd::encode_all(piece, 3).unwrap()].concat()
    };
    let (first, second) = bytes.split_at(bytes.len() / 2);
    [frame(first), frame(second)].concat()
}

/// An OCI layout without a manifest.json, as `skopeo copy … oci-archive:` and `podman save --format oci-archive` write it.
pub(super) fn oci_layout() -> Vec<u8> {
    let layout = Layout::new(&layers(), |layer| gzip(layer));
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [layout.top] }).to_string();
    layout.blobs(Tar::new()).file("index.json", index.as_bytes()).file("oci-layout", b"{}").done()
}

/// Jib's: the configuration is named by nothing.
pub(super) fn jib() -> Vec<u8> {
    let [one, two] = layers();
    let packed = [&one, &two].map(|layer| gzip(layer));
    let [first, second] = [&packed[0], &packed[1]].map(|layer| format!("{}.tar.gz", Digest::of(layer)));
    Tar::new()
        .file("config.json", &config(&[one, two]))
        .file(&first, &packed[0])
        .file(&second, &packed[1])
        .manifest("config.json", Some(&["base:1"]), &[&first, &second])
        .done()
}

/// What is in two layers, the first of which nothing can compress.
pub(super) fn contents() -> [Vec<u8>; 2] {
    let noise = (0..1000).flat_map(|number: u32| Digest::of(&number.to_le_bytes()).to_string().into_bytes());
    [noise.collect(), b"the second layer".to_vec()]
}

/// Two layers.
pub(super) fn layers() -> [Vec<u8>; 2] {
    contents().map(|content| Tar::new().file("content", &content).done())
}

/// The configuration of an image of these layers.
pub(super) fn config(layers: &[Vec<u8>]) -> Vec<u8> {
    let ids: Vec<_> = layers.iter().map(|layer| format!("sha256:{}", Digest::of(layer))).collect();
    serde_json::json!({ "architecture": "amd64", "rootfs": { "type": "layers", "diff_ids": ids } }).to_string().into()
}

/// A tar in the making.
pub(super) struct Tar(Builder<Vec<u8>>);

impl Tar {
    pub(super) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    pub(super) fn file(mut self, name: &str, data: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        self.0.append_data(&mut header, name, data).unwrap();
        self
    }

    pub(super) fn link(mut self, name: &str, target: &str) -> Self {
        let mut header = Header::new_ustar();
        header.set_size(0);
        header.set_entry_type(EntryType::Symlink);
        self.0.append_link(&mut header, name, target).unwrap();
        self
    }

    pub(super) fn manifest(self, config: &str, tags: Option<&[&str]>, layers: &[&str]) -> Self {
        let manifest = serde_json::json!([{ "Config": config, "RepoTags": tags, "Layers": layers }]);
        self.file("manifest.json", manifest.to_string().as_bytes())
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// `docker save` of 20.10 with one layer twice: the second is a link.
pub(super) fn docker_20() -> Vec<u8> {
    docker_20_of(layers())
}

/// The same, of these layers.
pub(super) fn docker_20_of([one, two]: [Vec<u8>; 2]) -> Vec<u8> {
    let config = config(&[one.clone(), two.clone(), one.clone()]);
    let name = format!("{}.json", Digest::of(&config));
    Tar::new()
        .file(&name, &config)
        .file("a/VERSION", b"1.0")
        .file("a/json", br#"{"id":"a"}"#)
        .file("a/layer.tar", &one)
        .file("b/layer.tar", &two)
        .link("c/layer.tar", "../a/layer.tar")
        .manifest(&name, Some(&["base:1", "base:2"]), &["a/layer.tar", "b/layer.tar", "c/layer.tar"])
        .file("repositories", br#"{"base":{"1":"c","2":"c"}}"#)
        .done()
}

/// `podman save` of 4.3: files by their digest, the old format's as links.
pub(super) fn podman() -> Vec<u8> {
    let [one, two] = layers();
    let config = config(&[one.clone(), two.clone()]);
    let name = format!("{}.json", Digest::of(&config));
    let [first, second] = [&one, &two].map(|layer| format!("{}.tar", Digest::of(layer)));
    Tar::new()
        .file(&first, &one)
        .file(&second, &two)
        .file(&name, &config)
        .link("a/layer.tar", &format!("../{first}"))
        .file("a/VERSION", b"1.0")
        .manifest(&name, Some(&["localhost/base:1"]), &[&first, &second])
        .file("repositories", br#"{"localhost/base":{"1":"a"}}"#)
        .done()
}

/// `skopeo copy … docker-archive:`: no `repositories` where no name is given.
pub(super) fn skopeo() -> Vec<u8> {
    let [one, two] = layers();
    let config = config(&[one.clone(), two.clone()]);
    let name = format!("{}.json", Digest::of(&config));
    let [first, second] = [&one, &two].map(|layer| format!("{}.tar", Digest::of(layer)));
    Tar::new()
        .file(&first, &one)
        .file(&second, &two)
        .file(&name, &config)
        .manifest(&name, None, &[&first, &second])
        .done()
}

/// `docker save` since 25: an OCI layout with a manifest beside it.
pub(super) fn docker_25() -> Vec<u8> {
    let [one, two] = layers();
    let config = config(&[one.clone(), two.clone()]);
    let packed = gzip(&one);
    let [name, first, second] = [&config, &packed, &two].map(|blob| format!("blobs/sha256/{}", Digest::of(blob)));
    Tar::new()
        .file(&name, &config)
        .file(&first, &packed)
        .file(&second, &two)
        .file("index.json", b"{}")
        .manifest(&name, Some(&["base:1"]), &[&first, &second])
        .file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
        .done()
}

/// Kaniko's, which `image_builder` publishes.
pub(super) fn kaniko() -> Vec<u8> {
    let [one, two] = layers();
    let config = config(&[one.clone(), two.clone()]);
    let name = format!("sha256:{}", Digest::of(&config));
    let packed = [&one, &two].map(|layer| gzip(layer));
    let [first, second] = [&packed[0], &packed[1]].map(|layer| format!("{}.tar.gz", Digest::of(layer)));
    Tar::new()
        .file(&name, &config)
        .file(&first, &packed[0])
        .file(&second, &packed[1])
        .manifest(&name, Some(&["base:1"]), &[&first, &second])
        .done()
}
