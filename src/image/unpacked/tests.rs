//! Unpacking the exports of all tools: complete ones, damaged ones, and those of another image.

use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom};

use crate::image::fixture::{Layout, Tar, all_of, config, docker_20, docker_25, kaniko, layers, podman, skopeo};
use crate::image::{ArchiveError, UnpackedImage};
use crate::net::{Digest, ImageId};

fn import(archive: &[u8]) -> UnpackedImage {
    UnpackedImage::import(archive, tempfile::tempfile().unwrap()).unwrap()
}

fn layer(unpacked: &UnpackedImage, number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    unpacked.reader(number).read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn the_layers_of_all_exporters_come_out_plain() {
    let [one, two] = layers();
    for archive in [podman(), skopeo(), docker_25(), kaniko()] {
        let unpacked = import(&archive);
        assert_eq!([layer(&unpacked, 0), layer(&unpacked, 1)], [one.clone(), two.clone()]);
        assert_eq!(unpacked.config(), config(&[one.clone(), two.clone()]));
        assert_eq!(unpacked.layers()[0].size, one.len() as u64);
        assert_eq!(unpacked.layers()[1].diff_id, Digest::of(&two));
        unpacked.expect(unpacked.image_id()).unwrap();
    }
    let twins = import(&docker_20());
    assert_eq!(twins.layers().len(), 3);
    assert_eq!(twins.layers()[0], twins.layers()[2], "the same layer shares its bytes");
    assert_eq!(twins.tags(), ["base:1", "base:2"]);
    let mut reader = twins.reader(0);
    reader.seek(SeekFrom::End(-5)).unwrap();
    let mut end = Vec::new();
    reader.read_to_end(&mut end).unwrap();
    assert_eq!(end, one[one.len() - 5..]);
}

fn refused(archive: &[u8]) -> String {
    UnpackedImage::import(archive, tempfile::tempfile().unwrap()).unwrap_err().to_string()
}

#[test]
fn the_id_of_the_containerd_store_leads_to_the_configuration() {
    let layers = layers().to_vec();
    let layout = Layout::new(&layers, Clone::clone);
    let manifest: ImageId = layout.top["digest"].as_str().unwrap().parse().unwrap();
    let unpacked = import(&layout.done(true));
    unpacked.expect(manifest).unwrap();
    assert_eq!(unpacked.image_id(), ImageId::of(&config(&layers)));
    let layout = Layout::new(&layers, Clone::clone).attested();
    let index: ImageId = layout.top["digest"].as_str().unwrap().parse().unwrap();
    let unpacked = import(&layout.done(false));
    assert_eq!(unpacked.tags(), ["docker.io/library/base:1"]);
    for id in [index, manifest, unpacked.image_id()] {
        unpacked.expect(id).unwrap();
    }
    let other = ImageId::of(b"other");
    let message = unpacked.expect(other).unwrap_err().to_string();
    assert_eq!(
        message,
        format!("the engine's export is not the image that was built: it has {}, not {other}", unpacked.image_id())
    );
}

#[test]
fn a_byte_that_is_wrong_is_noticed_in_every_shape() {
    let layers = layers().to_vec();
    let whole = import(&podman());
    for (shape, export) in all_of(&layers) {
        for at in (0..export.len()).step_by(311) {
            let mut damaged = export.clone();
            damaged[at] ^= 4;
            let Ok(unpacked) = UnpackedImage::import(damaged.as_slice(), tempfile::tempfile().unwrap()) else {
                continue;
            };
            // What does not matter, such as the time of a member or the tag, may differ; the image may not.
            if unpacked.image_id() == whole.image_id() {
                assert_eq!([layer(&unpacked, 0), layer(&unpacked, 1)], layers[..], "{shape}, {at}");
            } else {
                assert!(unpacked.expect(whole.image_id()).is_err(), "{shape}, {at}");
            }
        }
    }
}

#[test]
fn a_cut_export_is_an_error_wherever_it_is_cut() {
    for (shape, export) in all_of(&layers()) {
        // Most readers accept a tar that ends without its two blocks of zeros.
        for cut in (0..export.len() - 1024).step_by(1009) {
            let error = UnpackedImage::import(&export[..cut], tempfile::tempfile().unwrap());
            let error = error.map(|_| ()).expect_err(shape);
            assert!(matches!(error, ArchiveError::Read(_) | ArchiveError::Content(_)), "{shape}, {cut}: {error}");
        }
    }
}

#[test]
fn what_is_not_one_whole_image_is_refused_with_the_member() {
    let [one, two] = layers();
    let text = config(&[one.clone(), two.clone()]);
    let name = format!("{}.json", Digest::of(&text));
    let parts = || Tar::new().file("1/layer.tar", &one);
    let both = ["1/layer.tar", "2/layer.tar"];
    let missing = parts().file(&name, &text).manifest(&name, None, &both).done();
    assert!(refused(&missing).ends_with("its layer 2/layer.tar is missing"));
    let damaged = parts().file("2/layer.tar", b"other").file(&name, &text).manifest(&name, None, &both).done();
    assert!(refused(&damaged).contains("its layer 2/layer.tar has sha256 "));
    let other = format!("{}.json", Digest::of(b"other"));
    let misnamed = parts().file("2/layer.tar", &two).file(&other, &text).manifest(&other, None, &both).done();
    assert!(refused(&misnamed).contains(&format!("its configuration {other} has sha256 ")));
    let few = parts().file(&name, &text).manifest(&name, None, &both[..1]).done();
    assert!(refused(&few).contains("manifest.json has 1 layers, but the configuration names 2"));
    assert!(refused(&parts().done()).contains("no manifest.json"));

    let none = Tar::new().file("index.json", br#"{"manifests":[]}"#).done();
    assert!(refused(&none).ends_with("its index.json leads to no image that it has"));
    let broken = Tar::new().file("index.json", b"{}").done();
    assert!(refused(&broken).contains("index.json: missing field `manifests`"));
    let layout = |layers: &[Vec<u8>]| Layout::new(layers, Clone::clone);
    let (first, second) = (layout(std::slice::from_ref(&one)), layout(std::slice::from_ref(&two)));
    let index = serde_json::json!({ "manifests": [first.top, second.top] }).to_string();
    let many = [first, second].into_iter().fold(Tar::new(), |tar, layout| layout.blobs(tar));
    let many = many.file("index.json", index.as_bytes()).done();
    assert!(refused(&many).ends_with("its index.json leads to 2 images"));
}

#[test]
fn a_file_that_takes_nothing_is_told_from_a_broken_export() {
    let full = || OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
    for export in [podman(), kaniko()] {
        let error = UnpackedImage::import(export.as_slice(), full()).unwrap_err();
        assert!(
            matches!(&error, ArchiveError::Write(source) if source.kind() == io::ErrorKind::StorageFull),
            "{error:?}"
        );
    }
}
