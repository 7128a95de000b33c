//! Arranges archives of all shapes: checks that they have the same bytes and the right content, and tests failing disks.

use std::io::{self, Read as _};
use std::iter;
use std::os::unix::fs::MetadataExt as _;

use proptest::prelude::*;
use tar::Archive;

use super::*;
use crate::image::fixture::{self, all_of, config, layers};
use crate::image::{ImageSummary, Layer, UnpackedImage, check};
use crate::net::Digest;

fn import(archive: &[u8]) -> UnpackedImage {
    UnpackedImage::import(archive, tempfile::tempfile().unwrap()).unwrap()
}

fn arrange(archive: &[u8], tag: &str) -> Vec<u8> {
    let layout = import(archive).arrange(tag).unwrap();
    let mut bytes = Vec::new();
    layout.copy_to(&mut bytes).unwrap();
    assert_eq!(layout.sum().unwrap(), SizedDigest { sha256: Digest::of(&bytes), size: layout.size() });
    bytes
}

/// Name, mode, owner, time and content of each member.
fn members(archive: &[u8]) -> Vec<(String, [u64; 4], Vec<u8>)> {
    let read = |entry: io::Result<tar::Entry<&[u8]>>| {
        let mut entry = entry.unwrap();
        let mut data = Vec::new();
        entry.read_to_end(&mut data).unwrap();
        let header = entry.header();
        let numbers = [u64::from(header.mode().unwrap()), header.uid().unwrap(), header.gid().unwrap()];
        let [mode, uid, gid] = numbers;
        let name = entry.path().unwrap().display().to_string();
        (name, [mode, uid, gid, header.mtime().unwrap()], data)
    };
    Archive::new(archive).entries().unwrap().map(read).collect()
}

#[test]
fn whoever_exports_an_image_it_is_the_same_archive() {
    let [one, two] = layers();
    let layers = vec![one, two];
    let canonical = arrange(&fixture::skopeo(), "builder:1234");
    for (shape, export) in all_of(&layers) {
        assert!(arrange(&export, "builder:1234") == canonical, "{shape}");
    }
    assert!(arrange(&canonical, "builder:1234") == canonical, "of a canonical archive it is that archive");
    assert_eq!(check(canonical.as_slice()).unwrap().problems, []);
}

proptest! {
    #[test]
    fn whatever_layers_an_image_has(
        some in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..2000), 1..4),
        order in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
    ) {
        let layers: Vec<_> = order.iter().map(|index| index.get(&some).clone()).collect();
        let mut first = None;
        for (shape, export) in all_of(&layers) {
            let archive = arrange(&export, "builder:1234");
            let offsets = ImageSummary::from(&import(&export)).offsets();
            for (layer, offset) in layers.iter().zip(offsets) {
                let at = usize::try_from(offset).unwrap();
                prop_assert_eq!(&archive[at..at + layer.len()], layer.as_slice());
            }
            let first = first.get_or_insert_with(|| archive.clone());
            prop_assert!(archive == *first, "{shape}");
            let checked = check(archive.as_slice()).unwrap();
            // Most of the random layers are no tars.
            let others: Vec<_> = checked.problems.iter().filter(|it| !it.problem.ends_with(" is no tar")).collect();
            prop_assert_eq!((others, checked.layers), (Vec::new(), layers.len()));
        }
    }
}

#[test]
fn what_an_archive_has_and_in_which_order() {
    let [one, two] = layers();
    let archive = arrange(&fixture::docker_20(), "builder:1234");
    let [first, second] = [&one, &two].map(|layer| format!("{}.tar", Digest::of(layer)));
    let config = config(&[one.clone(), two.clone(), one.clone()]);
    let name = format!("{}.json", Digest::of(&config));
    let manifest =
        format!(r#"[{{"Config":"{name}","RepoTags":["builder:1234"],"Layers":["{first}","{second}","{first}"]}}]"#);
    let repositories = format!(r#"{{"builder":{{"1234":"{}"}}}}"#, Digest::of(&one));
    let expected = [
        (first, one),
        (second, two),
        (name, config),
        ("manifest.json".to_owned(), manifest.into_bytes()),
        ("repositories".to_owned(), repositories.into_bytes()),
    ];
    let expected = expected.map(|(name, content)| (name, [0o644, 0, 0, 0], content));
    assert_eq!(members(&archive), expected);
    let blocks: usize = expected.iter().map(|(.., content)| 1 + content.len().div_ceil(512)).sum();
    assert_eq!(archive.len(), (blocks + 2) * 512, "two blocks are its end, and no more");
    assert!(archive.ends_with(&[0; 1024]));
    assert_eq!(check(archive.as_slice()).unwrap().problems, []);
}

#[test]
fn the_bytes_are_the_same_tomorrow() {
    // Computed with Python's tarfile from the same members, in USTAR_FORMAT. A change affects every image's artifact.
    let archive = arrange(&fixture::docker_20_of(fixture::contents()), "builder:1234");
    assert_eq!(Digest::of(&archive).to_string(), "f4b08d10a32861958f9be97a6f21da5e09c2630ca1cdee2043f58e5f0340e938");
}

#[test]
fn what_is_poured_is_the_same_and_is_given_back() {
    let export = fixture::podman();
    let plain = arrange(&export, "a:b");
    for level in [None, Some(3)] {
        let unpacked = import(&export);
        let file = unpacked.file.try_clone().unwrap();
        let archive = unpacked.arrange("a:b").unwrap();
        let mut out = Vec::new();
        let written = archive.write_into(level, &mut out, |_| {}).unwrap();
        assert_eq!(written, SizedDigest { sha256: Digest::of(&out), size: out.len() as u64 });
        if level.is_some() {
            // taskgraph reads only the first frame.
            let mut frame = zstd::Decoder::new(out.as_slice()).unwrap().single_frame();
            let mut unpacked = Vec::new();
            frame.read_to_end(&mut unpacked).unwrap();
            out = unpacked;
        }
        assert!(out == plain);
        if punch_hole(&tempfile::tempfile().unwrap(), 0..1) {
            let blocks = file.metadata().unwrap().blocks();
            assert!(blocks <= 16, "{blocks} blocks are left: more than the edges of pieces");
        }
    }
}

#[test]
fn a_full_disk_is_told_from_a_spool_that_is_gone() {
    let mut small = [0; 1000];
    let error =
        import(&fixture::podman()).arrange("a:b").unwrap().write_into(None, &mut small[..], |_| {}).unwrap_err();
    assert!(matches!(error, ArchiveError::Write(_)), "{error}");
    let archive = import(&fixture::podman()).arrange("a:b").unwrap();
    archive.file.set_len(100).unwrap();
    let error = archive.sum().unwrap_err();
    assert!(matches!(error, ArchiveError::ReadBack(_)), "{error}");
}

#[test]
fn a_layer_of_more_than_a_tar_can_say_in_digits() {
    let size = 9 << 30;
    let mut unpacked = import(&fixture::podman());
    let config = unpacked.config().to_vec();
    let layer = Layer { diff_id: Digest::of(b"huge"), size, pieces: iter::once(0..size).collect() };
    unpacked.replace(config, vec![layer]);
    unpacked.file.set_len(size).unwrap();
    let archive = unpacked.arrange("a:b").unwrap();
    let mut members = Archive::new(archive.bytes());
    let sizes: Vec<_> = members.entries_with_seek().unwrap().map(|entry| entry.unwrap().size()).collect();
    assert_eq!((sizes[0], sizes.len()), (size, 4));
}
