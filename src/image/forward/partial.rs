//! Loads an image into an engine that has its lowest layers: from the rest of its canonical archive, from the first layer on that
//! the engine lacks, comes an archive that only refers to the layers below. Engines take the layers that they have from themselves:
//! Docker by the chain of layers, the containerd image store and Podman by digest. The caller finds what the engine has.
//!
//! Only an OCI layout beside a `manifest.json` works everywhere: Podman and containerd refuse a docker-archive that lacks a layer, and
//! Docker before 25 reads nothing but `manifest.json`.

use std::cell::Cell;
use std::io::{self, Read, Write};

use serde_json::{Value, json};
use tar::Header;

use super::super::SMALL_MEMBER;
use super::super::manifest::Image;
use super::super::member_digests::Compression;
use super::super::members::copy;
use super::super::parts::{HEADER, document, header, layer_name, offsets};
use super::super::rootfs::diff_ids;
use super::super::summary::LayerSummary;
use super::{ForwardError, ForwardSummary};
use crate::context::tar_format::{END, padding};
use crate::net::counted::{Counted, Position};
use crate::net::digest_reader::DigestReader;
use crate::net::registry::parse_reference;
use crate::net::{Digest, ImageId, SizedDigest};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A layer of an image, and where it is in the image's canonical archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerPlace {
    /// sha256 of the plain layer.
    pub diff_id: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Its first byte, counted from the beginning of the archive.
    pub offset: u64,
}

/// A layer as an engine has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PresentLayer {
    /// By its diff id.
    Plain,
    /// As a blob, which may be compressed.
    Blob {
        /// The blob's sha256.
        digest: Digest,
        /// The blob's size in bytes.
        size: u64,
        /// The blob's type, in the words of OCI or Docker.
        media_type: String,
    },
}

/// An image of whose canonical archive an engine needs only the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartialImage {
    image_id: ImageId,
    layers: Vec<LayerPlace>,
    /// The lowest layers, as the engine has them.
    present: Vec<PresentLayer>,
    /// sha256 of the whole archive, as the index has it.
    sha256: Digest,
    /// Where the rest begins: at the header of a layer, in bytes.
    start: u64,
}

impl PartialImage {
    /// The image with these layers, the lowest first, for an engine that has the lowest ones as `present`. `None` if it needs the
    /// whole archive, or if a canonical archive has these layers elsewhere.
    #[must_use]
    pub fn new(image_id: ImageId, sha256: Digest, layers: Vec<LayerPlace>, present: Vec<PresentLayer>) -> Option<Self> {
        let summaries: Vec<_> =
            layers.iter().map(|&LayerPlace { diff_id, size, .. }| LayerSummary { diff_id, size }).collect();
        if !offsets(&summaries)?.into_iter().eq(layers.iter().map(|layer| layer.offset)) {
            return None;
        }
        // An image can have a layer twice, and its archive has it once: a layer that the engine lacks above may lie below.
        let first = layers.iter().skip(present.len()).map(|layer| layer.offset).min();
        let end = |layer: &LayerPlace| layer.offset + layer.size + padding(layer.size).len() as u64;
        let start = match first {
            Some(offset) => offset - HEADER,
            None => layers.iter().map(end).max()?,
        };
        (start > 0).then_some(Self { image_id, layers, present, sha256, start })
    }

    /// Where the rest of the archive begins, in bytes.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Reads the rest of the canonical archive, and writes an archive with `tag` as the image's only name.
    ///
    /// It verifies each layer that it reads, and that the configuration is the image's and names these layers. Only after that it
    /// writes what makes an engine load anything. After an error the output is useless.
    pub fn forward<R: Read, W: Write>(
        &self,
        source: R,
        tag: &str,
        mut out: W,
    ) -> Result<(ForwardSummary, W), ForwardError> {
        let position = Cell::new(Position::default());
        let mut source = Counted::new(source, &position);
        let mut rest: Vec<_> = self.layers.iter().filter(|layer| layer.offset > self.start).collect();
        rest.sort_by_key(|layer| layer.offset);
        rest.dedup_by_key(|layer| layer.offset);
        for layer in rest {
            copy_layer(&mut source, layer, &mut out)?;
        }
        let config = read_document(&mut source, &format!("{}.json", self.image_id.hex()))?;
        let own: Vec<_> = self.layers.iter().map(|layer| layer.diff_id).collect();
        if ImageId::of(&config) != self.image_id || diff_ids(&config).is_none_or(|named| named != own) {
            return Err(wrong(format!("its configuration is not that of {} with these layers", self.image_id)));
        }
        let manifest = read_document(&mut source, "manifest.json")?;
        io::copy(&mut source, &mut io::sink()).map_err(ForwardError::Read)?;
        let images: Vec<Image> = serde_json::from_slice(&manifest).map_err(|error| wrong(error.to_string()))?;
        let summary = ForwardSummary {
            image_id: self.image_id,
            layers: vec![Compression::Plain; own.len()],
            tags: images.into_iter().flat_map(|image| image.repo_tags).collect(),
            repositories: true,
            packing: Compression::Plain,
            sha256: self.sha256,
            size: self.start + position.get().bytes,
            skipped: self.start,
            config,
        };
        let end = self.documents(&summary.config, tag).map_err(|error| ForwardError::Write(error.into()))?;
        out.write_all(&end).map_err(ForwardError::Write)?;
        Ok((summary, out))
    }

    /// The end of the archive for the engine: the configuration, and what describes the image.
    fn documents(&self, config: &[u8], tag: &str) -> serde_json::Result<Vec<u8>> {
        let mut end = Vec::new();
        let mut blob = |text: &[u8]| {
            let name = blob_name(Digest::of(text));
            document(&mut end, &name, text);
            name
        };
        let layers: Vec<_> = self.layers.iter().map(|layer| blob_name(layer.diff_id)).collect();
        let images = [Image { config: blob(config), repo_tags: vec![tag.to_owned()], layers }];
        let of_layers = self.layers.iter().enumerate().map(|(number, layer)| match self.present.get(number) {
            Some(PresentLayer::Blob { digest, size, media_type }) => descriptor(media_type, *digest, *size),
            Some(PresentLayer::Plain) | None => descriptor(LAYER, layer.diff_id, layer.size),
        });
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, Digest::of(config), config.len() as u64),
            "layers": of_layers.collect::<Vec<_>>(),
        }))?;
        blob(&manifest);
        let mut named = descriptor(MANIFEST, Digest::of(&manifest), manifest.len() as u64);
        let full = parse_reference(tag).map_or_else(|| tag.to_owned(), |reference| reference.whole());
        // As Podman names what it loads from a docker-archive.
        let local = if tag.contains('/') { tag.to_owned() } else { format!("localhost/{tag}") };
        named["annotations"] = json!({ "io.containerd.image.name": full, "org.opencontainers.image.ref.name": local });
        let index = serde_json::to_vec(&json!({ "schemaVersion": 2, "manifests": [named] }))?;
        document(&mut end, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        document(&mut end, "index.json", &index);
        document(&mut end, "manifest.json", &serde_json::to_vec(&images)?);
        end.extend_from_slice(&END);
        Ok(end)
    }
}

fn descriptor(media_type: &str, digest: Digest, size: u64) -> Value {
    json!({ "mediaType": media_type, "digest": digest.prefixed(), "size": size })
}

fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{digest}")
}

fn wrong(problem: String) -> ForwardError {
    ForwardError::Content(vec![problem])
}

/// Copies a layer of the canonical archive, which must come next, under the name of a blob.
fn copy_layer<R: Read, W: Write>(source: &mut R, layer: &LayerPlace, out: &mut W) -> Result<(), ForwardError> {
    let LayerPlace { diff_id, size, offset } = *layer;
    let (mut expected, mut renamed) = (Vec::new(), Vec::new());
    header(&mut expected, &layer_name(diff_id), size);
    header(&mut renamed, &blob_name(diff_id), size);
    if read_exactly(source, HEADER)? != expected {
        return Err(wrong(format!("layer {diff_id} is not at byte {offset}")));
    }
    out.write_all(&renamed).map_err(ForwardError::Write)?;
    let mut content = DigestReader::new(source.by_ref());
    copy(&mut content, out, size, |_| {})?;
    let (_, SizedDigest { sha256, .. }) = content.finish();
    if sha256 != diff_id {
        return Err(wrong(format!("layer {diff_id} has sha256 {sha256}")));
    }
    read_exactly(source, padding(size).len() as u64)?;
    out.write_all(padding(size)).map_err(ForwardError::Write)
}

/// The document `name` of the canonical archive, which must come next.
fn read_document<R: Read>(source: &mut R, name: &str) -> Result<Vec<u8>, ForwardError> {
    let found = read_exactly(source, HEADER)?;
    let size = Header::from_byte_slice(&found).entry_size().unwrap_or(u64::MAX);
    let mut expected = Vec::new();
    header(&mut expected, name, size.min(SMALL_MEMBER));
    if found != expected {
        return Err(wrong(format!("{name} is not behind its last layer")));
    }
    let text = read_exactly(source, size)?;
    read_exactly(source, padding(size).len() as u64)?;
    Ok(text)
}

fn read_exactly<R: Read>(source: &mut R, size: u64) -> Result<Vec<u8>, ForwardError> {
    let mut bytes = Vec::new();
    copy(source, &mut bytes, size, |_| {})?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use tar::Archive;

    use super::*;
    use crate::image::fixture::all_of;
    use crate::image::{ImageSummary, UnpackedImage, verify_and_forward};

    const TAG: &str = "image-worker-load:unfinished-1";

    /// A canonical archive, and what `layers.json` has of it.
    struct Canonical {
        bytes: Vec<u8>,
        image_id: ImageId,
        layers: Vec<LayerPlace>,
    }

    impl Canonical {
        fn new() -> Self {
            // The second layer is also the highest.
            let layers = [1, 2, 3, 2].map(|byte| vec![byte; 700 * usize::from(byte)]);
            let (_, export) = all_of(&layers).into_iter().next().unwrap();
            let unpacked = UnpackedImage::import(&export[..], tempfile::tempfile().unwrap()).unwrap();
            let mut bytes = Vec::new();
            unpacked.arrange("builder:1").unwrap().copy_to(&mut bytes).unwrap();
            let summary = ImageSummary::from(&unpacked);
            let places = summary.layers.iter().zip(summary.offsets());
            let layers = places.map(|(it, offset)| LayerPlace { diff_id: it.diff_id, size: it.size, offset }).collect();
            Self { bytes, image_id: unpacked.image_id(), layers }
        }

        fn image(&self, present: usize) -> Option<PartialImage> {
            let present = vec![PresentLayer::Plain; present];
            PartialImage::new(self.image_id, Digest::of(&self.bytes), self.layers.clone(), present)
        }
    }

    fn forward(image: &PartialImage, rest: &[u8]) -> (Result<ForwardSummary, ForwardError>, Vec<u8>) {
        let mut out = Vec::new();
        let result = image.forward(rest, TAG, &mut out).map(|(summary, _)| summary);
        (result, out)
    }

    fn names(archive: &[u8]) -> Vec<String> {
        let name = |entry: io::Result<tar::Entry<&[u8]>>| Some(entry.ok()?.path().ok()?.display().to_string());
        Archive::new(archive).entries().unwrap().map_while(name).collect()
    }

    #[test]
    fn with_the_layers_that_the_engine_has_it_is_the_image() {
        let canonical = Canonical::new();
        assert_eq!(canonical.image(0), None, "the engine needs all");
        for present in 1..=canonical.layers.len() {
            let image = canonical.image(present).unwrap();
            let start = usize::try_from(image.start()).unwrap();
            let (summary, rest) = forward(&image, &canonical.bytes[start..]);
            let summary = summary.unwrap();
            assert_eq!((summary.image_id, summary.sha256), (canonical.image_id, Digest::of(&canonical.bytes)));
            assert_eq!((summary.size, summary.skipped), (canonical.bytes.len() as u64, image.start()));
            assert_eq!(summary.tags, ["builder:1"]);
            let mut below = Vec::new();
            for LayerPlace { diff_id, size, offset } in &canonical.layers {
                let name = blob_name(*diff_id);
                if !names(&rest).contains(&name) && !names(&below).contains(&name) {
                    let at = usize::try_from(*offset).unwrap();
                    document(&mut below, &name, &canonical.bytes[at..at + usize::try_from(*size).unwrap()]);
                }
            }
            assert!(!below.is_empty());
            let (whole, _) = verify_and_forward(&[below, rest].concat()[..], TAG, None, io::sink()).unwrap();
            assert_eq!((whole.image_id, whole.tags), (canonical.image_id, vec![TAG.to_owned()]));
        }
    }

    #[test]
    fn what_is_damaged_or_cut_makes_no_engine_load_anything() {
        let canonical = Canonical::new();
        let image = canonical.image(1).unwrap();
        let rest = &canonical.bytes[usize::try_from(image.start()).unwrap()..];
        // Behind these the archive has only the names for older consumers, and its end.
        let manifest = rest.windows(13).position(|window| window == b"manifest.json").unwrap();
        let check = |what: String, rest: &[u8]| {
            let (result, out) = forward(&image, rest);
            assert!(result.is_err(), "{what}");
            assert!(
                !names(&out).iter().any(|name| ["manifest.json", "index.json", "oci-layout"].contains(&name.as_str())),
                "{what}"
            );
        };
        for at in (0..manifest).step_by(61) {
            check(format!("cut at {at}"), &rest[..at]);
            let mut wrong = rest.to_vec();
            wrong[at] ^= 1;
            let is_padding = rest[at] == 0 && forward(&image, &wrong).0.is_ok();
            if !is_padding {
                check(format!("byte {at}"), &wrong);
            }
        }
    }

    #[test]
    fn places_that_no_canonical_archive_has_are_refused() {
        let canonical = Canonical::new();
        let with = |change: &dyn Fn(&mut LayerPlace)| {
            let mut layers = canonical.layers.clone();
            change(&mut layers[1]);
            PartialImage::new(canonical.image_id, Digest::of(b""), layers, vec![PresentLayer::Plain])
        };
        assert!(with(&|_| ()).is_some());
        for offset in [0, 511, canonical.layers[2].offset, u64::MAX] {
            assert_eq!(with(&|layer| layer.offset = offset), None, "{offset}");
        }
        for size in [0, canonical.layers[1].size + 512, u64::MAX] {
            assert_eq!(with(&|layer| layer.size = size), None, "{size}");
        }
    }
}
