//! Exports the files of containers as engines do, and checks the resulting images. `integration/engine/export.rs` tests real
//! ones.

use std::io::Read as _;

use super::*;
use crate::image::check;

const SINCE: i64 = 1_700_000_000;

/// A container's files as Docker exports them: name, kind, time, content.
fn export(entries: &[(&str, EntryType, i64, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, kind, time, content) in entries {
        let mut header = Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_mtime(u64::try_from(*time).unwrap());
        header.set_uid(0);
        header.set_gid(0);
        if *kind == EntryType::Symlink {
            header.set_link_name("/proc/mounts").unwrap();
        }
        let attribute = ("SCHILY.xattr.security.capability", &b"\x01\x00\x00\x02"[..]);
        if *name == "bin/ping" {
            tar.append_pax_extensions([attribute]).unwrap();
        }
        tar.append_data(&mut header, name, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

fn squash(export: &[u8], noise_since: Option<i64>) -> Result<UnpackedImage, ArchiveError> {
    let config = json!({
        "architecture": "amd64", "os": "linux", "created": "2015-12-09T12:34:56.5Z", "container": "abc", "variant": "",
        "config": { "Env": ["A=b"], "Hostname": "abc", "Cmd": null, "Volumes": { "/v": {} }, "Image": "sha256:00" },
        "history": [{ "created_by": "RUN one" }], "rootfs": { "type": "layers", "diff_ids": [] },
    });
    let config = config.to_string();
    let image = SquashedImage { config: config.as_bytes(), noise_since, tag: "image:1" };
    UnpackedImage::squash(export, &image, tempfile::tempfile().unwrap())
}

/// The entries of the single layer: names and times.
fn entries(unpacked: &UnpackedImage) -> Vec<(String, u64)> {
    let mut archive = tar::Archive::new(unpacked.reader(0));
    let entry = |entry: io::Result<tar::Entry<'_, _>>| {
        let entry = entry.unwrap();
        (entry.path().unwrap().to_string_lossy().into_owned(), entry.header().mtime().unwrap())
    };
    archive.entries().unwrap().map(entry).collect()
}

const DIRECTORY: EntryType = EntryType::Directory;
const FILE: EntryType = EntryType::Regular;

#[test]
fn what_the_engine_has_put_there_is_left_out() {
    let old = SINCE - 1;
    let long = format!("usr/{}/ü", "long/".repeat(50));
    let files: &[(&str, EntryType, i64, &[u8])] = &[
        (".dockerenv", FILE, SINCE, b""),
        ("bin/ping", FILE, old, b"ping"),
        ("dev/", DIRECTORY, SINCE + 1, b""),
        ("dev/console", FILE, SINCE, b""),
        ("dev/mine", FILE, SINCE, b""),
        ("dev/pts/", DIRECTORY, SINCE, b""),
        ("dev/shm/", DIRECTORY, old, b""),
        ("etc/", DIRECTORY, SINCE, b""),
        ("etc/hosts", FILE, SINCE, b""),
        ("etc/hostname", FILE, SINCE, b"mine"),
        ("etc/mtab", EntryType::Symlink, SINCE, b""),
        ("etc/resolv.conf", FILE, old, b""),
        ("proc/", DIRECTORY, SINCE, b""),
        ("sys/", DIRECTORY, old, b""),
        (&long, FILE, SINCE, b"far"),
        ("v/", DIRECTORY, SINCE, b""),
    ];
    let made = 1_449_664_496;
    let (now, before) = (SINCE.unsigned_abs(), old.unsigned_abs());
    let exported = export(files);
    let unpacked = squash(&exported, Some(SINCE)).unwrap();
    let kept = [
        ("bin/ping", before),
        ("dev/", made),
        ("dev/mine", now),
        ("dev/shm/", before),
        ("etc/", made),
        ("etc/hostname", now),
        ("etc/resolv.conf", before),
        ("sys/", before),
        (&*long, now),
        ("v/", now),
    ];
    assert_eq!(entries(&unpacked), kept.map(|(name, time)| (name.to_owned(), time)));
    let mut archive = tar::Archive::new(unpacked.reader(0));
    let mut ping = archive.entries().unwrap().next().unwrap().unwrap();
    let extensions: Vec<_> =
        ping.pax_extensions().unwrap().unwrap().map(|it| it.unwrap().value_bytes().to_vec()).collect();
    assert_eq!(extensions, [b"\x01\x00\x00\x02"]);
    // With an engine that adds nothing, everything stays as it is.
    let mut whole = Vec::new();
    squash(&exported, None).unwrap().reader(0).read_to_end(&mut whole).unwrap();
    assert!(whole == exported);
}

#[test]
fn attributes_are_any_bytes() {
    let mut tar = tar::Builder::new(Vec::new());
    let capability = b"\x01\0\0\x02\n\0\0\0\n".as_slice();
    tar.append_pax_extensions([("SCHILY.xattr.security.capability", capability)]).unwrap();
    let mut header = Header::new_ustar();
    header.set_size(0);
    tar.append_data(&mut header, "bin/ping", io::empty()).unwrap();
    let exported = tar.into_inner().unwrap();
    let mut layer = Vec::new();
    squash(&exported, Some(SINCE)).unwrap().reader(0).read_to_end(&mut layer).unwrap();
    assert!(layer == exported);
}

#[test]
fn the_archive_is_whole_and_says_what_it_is() {
    let unpacked = squash(&export(&[("bin/ping", FILE, 7, b"ping")]), None).unwrap();
    let archive = unpacked.arrange("image:1").unwrap();
    let known = archive.sum().unwrap();
    let mut bytes = Vec::new();
    archive.copy_to(&mut bytes).unwrap();
    assert_eq!((known.sha256, known.size), (Digest::of(&bytes), bytes.len() as u64));
    assert_eq!(check(bytes.as_slice()).unwrap().problems, []);
    let again = UnpackedImage::import(bytes.as_slice(), tempfile::tempfile().unwrap()).unwrap();
    assert_eq!((again.image_id(), again.tags()), (unpacked.image_id(), &["image:1".to_owned()][..]));
    let config: Value = serde_json::from_slice(unpacked.config()).unwrap();
    assert_eq!(
        config,
        json!({
            "architecture": "amd64", "os": "linux", "created": "2015-12-09T12:34:56.5Z",
            "config": { "Env": ["A=b"], "Volumes": { "/v": {} } },
            "history": [{
                "created": "2015-12-09T12:34:56.5Z",
                "created_by": "image-worker EXPORT=squash",
                "comment": "all layers of the image that was built, in one",
            }],
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", unpacked.layers()[0].diff_id)] },
        })
    );
}

#[test]
fn what_breaks_off_or_is_damaged_is_an_error() {
    let whole = export(&[("bin/ping", FILE, 7, &[7; 2000]), ("etc/", DIRECTORY, 7, b"")]);
    for end in (0..whole.len() - 1024).step_by(256) {
        let error = squash(&whole[..end], None).unwrap_err();
        assert!(matches!(error, ArchiveError::Read(_)), "{end}: {error:?}");
    }
    let mut damaged = whole;
    damaged[1] ^= 1;
    let error = squash(&damaged, None).unwrap_err();
    assert!(matches!(error, ArchiveError::Read(_)), "{error:?}");
}
