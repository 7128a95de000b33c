//! Image archives made here, as other programs make them and as no program should: small, of images with busybox that no other
//! test has. What is done with them is the tests'.

use std::io::Write;

use image_worker::net::Digest;
use serde_json::json;

use crate::harness::{docker, docker_output};

/// An archive in the making, of an image with busybox and `/inherited`, in two layers.
pub(crate) struct Archive {
    mark: String,
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) config: Vec<u8>,
}

impl Archive {
    /// The mark makes the image unlike all others.
    pub(crate) fn new(mark: &str) -> Self {
        let mut image = Self::empty(mark);
        let busybox = std::fs::read("/bin/busybox").expect("busybox-static; run scripts/test");
        // A layer of its own: Podman fails to load one whose like another test removes in that moment.
        image.add_layer("bin/busybox", &[&busybox[..], mark.as_bytes()].concat());
        image.add_layer("inherited", format!("{mark}-inherited\n").as_bytes());
        image
    }

    /// An image without a layer, which no engine takes.
    pub(crate) fn empty(mark: &str) -> Self {
        Self { mark: mark.to_owned(), layers: Vec::new(), config: Vec::new() }
    }

    /// Adds a layer with one file.
    pub(crate) fn add_layer(&mut self, name: &str, data: &[u8]) {
        let layer = [member(name, data), vec![0; 1024]].concat();
        self.layers.push(layer);
        let ids: Vec<_> = self.layers.iter().map(|layer| format!("sha256:{}", Digest::of(layer))).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "created": "2015-12-09T12:34:56Z",
            "config": { "Env": [format!("TEST={}", self.mark)], "Labels": { "image-worker-test": self.mark } },
            "rootfs": { "type": "layers", "diff_ids": ids },
            // Podman builds on no image whose layers have none.
            "history": vec![json!({ "created_by": "a test" }); ids.len()],
        });
        self.config = config.to_string().into();
    }

    pub(crate) fn id(&self) -> String {
        format!("sha256:{}", Digest::of(&self.config))
    }

    /// The id that the tests' engine has it by, where it has it: with containerd's image store not that of the configuration.
    pub(crate) fn id_in_engine(&self) -> String {
        let label = format!("label=image-worker-test={}", self.mark);
        let all = docker_output(&["images", "--all", "--no-trunc", "--quiet", "--filter", &label]);
        let layers: Vec<_> = self.layers.iter().map(|layer| format!("sha256:{}", Digest::of(layer))).collect();
        let is_it = |id: &&str| {
            let output = docker(&["image", "inspect", "--format", "{{json .RootFS.Layers}}", id]).stdout;
            serde_json::from_slice::<Vec<String>>(&output).is_ok_and(|found| found == layers)
        };
        all.lines().find(is_it).map_or_else(|| self.id(), str::to_owned)
    }

    /// As `docker save` writes it.
    pub(crate) fn tar(&self, tags: Option<&[&str]>) -> Vec<u8> {
        let names = self.layers.iter().map(|layer| format!("{}/layer.tar", Digest::of(layer))).collect::<Vec<_>>();
        self.write(&format!("{}.json", Digest::of(&self.config)), &names, &self.layers, tags)
    }

    /// As every consumer can load it.
    pub(crate) fn sound(&self, tag: &str) -> Vec<u8> {
        let (name, version) = tag.rsplit_once(':').unwrap();
        let top = Digest::of(self.layers.last().unwrap());
        let repositories = json!({ name: { version: top.to_string() } }).to_string();
        with(&self.tar(Some(&[tag])), &member("repositories", repositories.as_bytes()))
    }

    /// As kaniko writes it, and with it `image_builder`.
    pub(crate) fn kaniko(&self) -> Vec<u8> {
        let packed: Vec<_> = self.layers.iter().map(|layer| gzip(layer)).collect();
        let names = packed.iter().map(|layer| format!("{}.tar.gz", Digest::of(layer))).collect::<Vec<_>>();
        self.write(&format!("sha256:{}", Digest::of(&self.config)), &names, &packed, Some(&["base:latest"]))
    }

    pub(crate) fn write(&self, config: &str, names: &[String], layers: &[Vec<u8>], tags: Option<&[&str]>) -> Vec<u8> {
        let manifest = json!([{ "Config": config, "RepoTags": tags, "Layers": names }]).to_string();
        let layers = names.iter().zip(layers).map(|(name, layer)| member(name, layer));
        let members: Vec<_> = std::iter::once(member(config, &self.config)).chain(layers).collect();
        let end = vec![0; 1024];
        [members.concat(), member("manifest.json", manifest.as_bytes()), end].concat()
    }
}

/// A file, as it stands in a tar, whatever its name is.
pub(crate) fn member(name: &str, data: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(data.len() as u64);
    header.set_mode(0o755);
    header.set_cksum();
    let mut bytes = [header.as_bytes(), data].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// A tar with one more member.
pub(crate) fn with(tar: &[u8], member: &[u8]) -> Vec<u8> {
    [&tar[..tar.len() - 1024], member, &[0; 1024]].concat()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
